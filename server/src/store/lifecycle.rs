//! The life of what is stored: closing and keeping buckets, retention, compression.
//!
//! Time before the *watermark* is closed. A commit that writes into closed time marks that hour of its series
//! *dirty*; live data marks nothing. A refresh moves the watermark, computes what was closed by it and what is
//! dirty, and clears the marks. Whatever it has done or not: closed, clean and kept buckets are answered from
//! rollups, all others from readings.

use super::aggregate::Level;
use crate::model::Micros;

/// How it stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lifecycle {
    /// Before it, buckets are closed; at the start of a quarter of an hour. None: nothing was closed yet.
    pub closed_before_us: Option<Micros>,
    /// Before it, buckets are kept as rollups unless they are dirty; at most `closed_before_us`.
    pub stored_before_us: Option<Micros>,
    /// End of the newest day whose readings were dropped. None: none was.
    pub raw_kept_from_us: Option<Micros>,
    /// End of the newest day whose milkings were dropped.
    pub milkings_kept_from_us: Option<Micros>,
    /// Likewise for the rollups of each level, in the order of [`Level::ALL`].
    pub rollups_kept_from_us: [Option<Micros>; 3],
}

impl Lifecycle {
    /// Before it, nothing is kept at this level.
    pub fn kept_from_us(&self, level: Level) -> Option<Micros> {
        self.rollups_kept_from_us[level as usize]
    }
}

/// Asks for a refresh.
#[derive(Clone, Copy, Debug)]
pub struct Refresh {
    /// Close everything before; rounded down to a quarter of an hour. Never moves a watermark back.
    pub close_before_us: Micros,
    /// Mend only dirty hours within (start, end); None: all.
    pub span_us: Option<(Micros, Micros)>,
}

/// What a refresh did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refreshed {
    /// Buckets computed, of all levels.
    pub buckets: u64,
    /// Dirty hours of series mended.
    pub dirty_hours: u64,
    /// Another server was at it: nothing was done here.
    pub elsewhere: bool,
}

/// What is old enough to go: everything that ends by these times. None: nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Retention {
    /// Days of readings.
    pub readings_us: Option<Micros>,
    /// Days of milkings.
    pub milkings_us: Option<Micros>,
    /// Rollups by level, in the order of [`Level::ALL`].
    pub rollups_us: [Option<Micros>; 3],
    /// Quarantine, by when it was received.
    pub quarantine_us: Option<Micros>,
    /// A day into which something was written since then stays: an import may not be over.
    pub quiet_since_us: Micros,
    /// Only tell.
    pub dry_run: bool,
}

/// Part of a table that went, or would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// `reading`, `milking`, `rollup_15min`, `rollup_hourly`, `rollup_daily` or `quarantine`.
    pub table: &'static str,
    /// Start, inclusive; None: from the beginning.
    pub start_us: Option<Micros>,
    /// End, exclusive.
    pub end_us: Micros,
    /// Rows, as far as they are counted.
    pub rows: u64,
    /// Bytes on disk, as far as they are known.
    pub bytes: u64,
    /// Why it stays although it is old enough; empty: it goes.
    pub kept_because: String,
}

/// The readings or milkings of a stretch of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// `reading` or `milking`.
    pub table: &'static str,
    /// Its name in the store.
    pub name: String,
    /// Start, inclusive.
    pub start_us: Micros,
    /// End, exclusive.
    pub end_us: Micros,
    /// Bytes on disk now.
    pub bytes: u64,
    /// Bytes before compression, if known.
    pub uncompressed_bytes: Option<u64>,
    /// Whether it is compressed.
    pub compressed: bool,
}
