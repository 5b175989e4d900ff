//! What refreshes and retention have the writer change, beside commits.

use super::{
    keys::Kind,
    late::{Floors, Hours},
    rollup::{self, Day},
};
use crate::{
    model::{Micros, SeriesId},
    store::Level,
};

/// Bytes that are handed to the writer at a time: it commits nothing meanwhile.
const MOST_BYTES: usize = 256 << 10;

/// Changes of which all take effect, or none.
#[derive(Default)]
pub(super) struct Changes {
    /// Rows of the keyspace of rollups.
    pub(super) rollups: Vec<([u8; 13], Vec<u8>)>,
    pub(super) gone_rollups: Vec<[u8; 13]>,
    pub(super) rows: Vec<(Vec<u8>, Vec<u8>)>,
    pub(super) gone_rows: Vec<Vec<u8>>,
    /// Which series carry which tags, in the keyspaces of days.
    pub(super) tagged: Vec<(i64, [u8; 9])>,
    pub(super) stored_before_us: Option<Micros>,
    pub(super) floors: Option<Floors>,
    /// It makes room, so that it is done on a full disk, too.
    pub(super) frees: bool,
    bytes: usize,
}

impl Changes {
    /// No changes yet, of which the end will be more room.
    pub(super) fn freeing() -> Self {
        Self { frees: true, ..Self::default() }
    }

    /// The buckets of a level of a series on one day.
    pub(super) fn put_rollups(&mut self, key: [u8; 13], level: Level, buckets: &Day) {
        let row = rollup::encode(level, buckets);
        self.bytes += key.len() + row.len();
        self.rollups.push((key, row));
    }

    pub(super) fn drop_rollups(&mut self, key: [u8; 13]) {
        self.bytes += key.len();
        self.gone_rollups.push(key);
    }

    pub(super) fn put_row(&mut self, key: Vec<u8>, row: Vec<u8>) {
        self.bytes += key.len() + row.len();
        self.rows.push((key, row));
    }

    pub(super) fn drop_row(&mut self, key: Vec<u8>) {
        self.bytes += key.len();
        self.gone_rows.push(key);
    }

    pub(super) fn tag(&mut self, day: i64, key: [u8; 9]) {
        self.bytes += key.len();
        self.tagged.push((day, key));
    }

    /// Takes them once they have become many, and begins anew.
    pub(super) fn take_full(&mut self) -> Option<Self> {
        let next = Self { frees: self.frees, ..Self::default() };
        (self.bytes >= MOST_BYTES).then(|| std::mem::replace(self, next))
    }
}

/// A day that may go, as it was looked at; the writer makes sure that nothing has come since.
#[derive(Clone, Copy)]
pub(super) struct OldDay {
    pub(super) kind: Kind,
    pub(super) day: i64,
    /// The last commit that had written into it, of readings as far as that was late.
    pub(super) commit: u64,
}

/// Hours that a commit made dirty.
#[derive(Clone, Copy)]
pub(super) struct Mark {
    pub(super) series: SeriesId,
    /// From 1970.
    pub(super) day: i64,
    pub(super) commit: u64,
    /// Those that are to be mended now, and the others.
    pub(super) hours: Hours,
    pub(super) others: Hours,
}
