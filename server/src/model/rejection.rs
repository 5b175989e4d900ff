use std::{
    collections::BTreeSet,
    sync::{Mutex, PoisonError},
};

use serde::{Deserialize, Serialize};

use super::{Micros, Milking, Offset, Reading, SeriesKey};

/// Why one reading, milking or series was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Offset of its batch.
    pub offset: Offset,
    /// What was refused.
    pub kind: RejectionKind,
    /// Position in the batch's list of that kind, from 0.
    pub index: u32,
    /// Why.
    pub code: RejectionCode,
    /// Field at fault, by its name in the protocol.
    pub field: &'static str,
    /// What was wrong, with which value, what would be right. At most 256 characters.
    pub message: String,
}

/// What was refused. The numbers are those of the protocol and of the embedded store's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum RejectionKind {
    /// A reading.
    Reading = 1,
    /// A milking.
    Milking = 2,
    /// A series.
    Series = 3,
}

/// Why. The numbers are those of the protocol and of the embedded store's format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum RejectionCode {
    /// A required field is empty or zero.
    Required = 1,
    /// NaN or infinite.
    NotFinite = 2,
    /// Outside the range of its field or metric.
    OutOfRange = 3,
    /// More than five minutes ahead.
    TimeInFuture = 4,
    /// Older than the accepted lateness.
    TooLate = 5,
    /// Longer than its field allows.
    TextTooLong = 6,
    /// Holds U+0000.
    TextInvalid = 7,
    /// No JSON object, or one that JSONB refuses.
    MetadataInvalid = 8,
    /// Its series was refused.
    SeriesRejected = 9,
    /// The producer has too many series.
    TooManySeries = 10,
    /// The store refused the data itself.
    StoreRefused = 11,
}

/// A refused reading or milking as quarantine keeps it, under (producer, offset, kind, index).
#[derive(Clone, Debug, PartialEq)]
pub struct Quarantined {
    /// Why.
    pub rejection: Rejection,
    /// When the server received it.
    pub received_us: Micros,
    /// The reading's series, if it was defined.
    pub series: Option<SeriesKey>,
    /// What arrived, texts cut to 256 characters.
    pub content: Option<Content>,
}

/// Content of a quarantine record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// A refused reading; its series number means nothing.
    Reading(Reading),
    /// A refused milking.
    Milking(Box<Milking>),
}

impl RejectionKind {
    /// The kind with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        [Self::Reading, Self::Milking, Self::Series].into_iter().find(|kind| *kind as u8 == number)
    }
}

impl RejectionCode {
    /// The code with this number.
    pub fn from_number(number: u8) -> Option<Self> {
        const ALL: [RejectionCode; 11] = [
            RejectionCode::Required,
            RejectionCode::NotFinite,
            RejectionCode::OutOfRange,
            RejectionCode::TimeInFuture,
            RejectionCode::TooLate,
            RejectionCode::TextTooLong,
            RejectionCode::TextInvalid,
            RejectionCode::MetadataInvalid,
            RejectionCode::SeriesRejected,
            RejectionCode::TooManySeries,
            RejectionCode::StoreRefused,
        ];
        ALL.into_iter().find(|code| *code as u8 == number)
    }
}

/// A field's name for the life of the process. The names are those of the protocol, some dozens; the
/// bound keeps damaged rows from growing the heap: beyond it, None.
pub fn field_name(name: &str) -> Option<&'static str> {
    const MOST: usize = 512;
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return Some(known);
    }
    if names.len() == MOST {
        return None;
    }
    let name: &'static str = name.to_owned().leak();
    names.insert(name);
    Some(name)
}
