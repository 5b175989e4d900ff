use std::fmt;

use crate::model::{Micros, Milking, Offset, ProducerId, SeriesKey};

/// What opens a session, its texts checked.
#[derive(Clone, Debug)]
pub struct Open {
    /// The producer.
    pub producer: ProducerId,
    /// The client process.
    pub instance_id: String,
    /// The gateway, 1 to 64 characters.
    pub gateway_id: String,
    /// Lowest offset that the client holds.
    pub first_retained_offset: Offset,
    /// One past the highest offset ever assigned.
    pub next_offset: Offset,
}

/// A batch as it arrived, nothing checked but its encoding and number of elements.
#[derive(Debug, Default)]
pub struct IncomingBatch {
    /// Position in the producer's log.
    pub offset: Offset,
    /// Definitions of series.
    pub series: Vec<IncomingSeries>,
    /// Readings.
    pub readings: Vec<IncomingReading>,
    /// Milkings; a time of 0 is none.
    pub milkings: Vec<Milking>,
}

impl IncomingBatch {
    /// Readings and milkings.
    pub fn len(&self) -> usize {
        self.readings.len() + self.milkings.len()
    }

    /// Whether it holds neither readings nor milkings.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A series definition as it arrived.
#[derive(Debug)]
pub struct IncomingSeries {
    /// Number that readings use.
    pub reference: u32,
    /// What it stands for.
    pub key: SeriesKey,
}

/// A reading as it arrived.
#[derive(Debug, Default)]
pub struct IncomingReading {
    /// Number of its series.
    pub series_ref: u32,
    /// When it was measured; 0: not given.
    pub time_us: Micros,
    /// The value.
    pub value: f64,
    /// Computed by the gateway.
    pub is_interpolated: bool,
    /// Animal.
    pub animal_id: Option<i32>,
    /// Zone.
    pub zone_id: Option<i32>,
    /// Percent.
    pub battery_level: Option<i32>,
    /// dBm.
    pub signal_strength: Option<i32>,
    /// Milking session.
    pub session_id: Option<String>,
    /// A JSON object.
    pub metadata: Option<String>,
}

/// Offsets that the client gives up.
#[derive(Clone, Copy, Debug)]
pub struct Skip {
    /// First.
    pub first: Offset,
    /// Last, inclusive.
    pub last: Offset,
    /// Readings and milkings in them, as far as the client knows.
    pub readings: u64,
    /// Why.
    pub reason: SkipReason,
}

/// Why offsets are given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    /// The client had seen their ack.
    Acked,
    /// Made room in a full spool.
    Evicted,
    /// Too old.
    Expired,
    /// Refused three times.
    Poisoned,
    /// Unreadable.
    Lost,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Acked => "acked",
            Self::Evicted => "evicted",
            Self::Expired => "expired",
            Self::Poisoned => "poisoned",
            Self::Lost => "lost",
        })
    }
}
