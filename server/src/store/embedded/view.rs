//! A look at the store, at one moment: whole commits, and the days that were there.

use std::sync::Arc;

use fjall::{Keyspace, KvPair, Readable, Snapshot, UserValue};

use super::{
    codec::Undecodable,
    engine::{Chunks, Engine, decode_series, entry, failed, undecodable},
    keys::{self, BlockKey},
    open::Open,
    rows,
    watch::{Looked, Watch},
};
use crate::{
    model::{DAY_US, Micros, SeriesId, SeriesKey},
    store::StoreError,
};

/// Rows or blocks between two looks at whether anybody still waits.
pub(super) const ROWS_AT_ONCE: usize = 1024;

/// A consistent view of whole commits.
pub(super) struct View<'a> {
    pub(super) engine: &'a Engine,
    /// What was looked at so far.
    pub(super) looked: Looked,
    /// What it sees.
    pub(super) seen: Seen,
    watch: Watch,
}

/// What there is to be seen at one moment. Cheap to clone.
#[derive(Clone)]
pub(super) struct Seen {
    /// The last commit that is in; None: not known.
    pub(super) commit: Option<u64>,
    /// Open buckets as of that commit.
    pub(super) open: Open,
    pub(super) snapshot: Snapshot,
    pub(super) chunks: Arc<Chunks>,
}

impl<'a> View<'a> {
    pub(super) fn new(engine: &'a Engine, seen: Seen, watch: Watch) -> Self {
        Self { engine, looked: Looked::default(), seen, watch }
    }

    /// Fails once nobody waits any more, or the engine is to be let go.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        if self.engine.is_given_up() {
            let what = "the embedded store is being closed or reopened".to_owned();
            return Err(StoreError::Unavailable(what, None));
        }
        self.watch.check()
    }

    /// Days of readings, with their keyspaces, that hold times from `start_us` to before `end_us`.
    pub(super) fn chunks(&self, start_us: Micros, end_us: Micros) -> impl Iterator<Item = (i64, &Keyspace)> {
        let days = start_us.div_euclid(DAY_US)..=end_us.saturating_sub(1).div_euclid(DAY_US);
        let days = (start_us < end_us).then(|| self.seen.chunks.range(days));
        days.into_iter().flatten().map(|(day, chunk)| (*day, chunk))
    }

    /// Every day of readings, in order.
    pub(super) fn days(&self) -> impl DoubleEndedIterator<Item = (i64, &Keyspace)> {
        self.seen.chunks.iter().map(|(day, chunk)| (*day, chunk))
    }

    pub(super) fn chunk(&self, day: i64) -> Option<&Keyspace> {
        self.seen.chunks.get(&day)
    }

    pub(super) fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<UserValue>, StoreError> {
        self.seen.snapshot.get(self.engine.rows(), key).map_err(|error| failed("read", error))
    }

    /// A number in the rows; absent: 0.
    pub(super) fn number(&self, key: impl AsRef<[u8]>) -> Result<u64, StoreError> {
        self.get(key)?.map_or(Ok(0), |value| rows::decode_number(&value).map_err(undecodable))
    }

    /// The tuple of a series.
    pub(super) fn series(&self, id: SeriesId) -> Result<Option<SeriesKey>, StoreError> {
        let row = self.get(keys::series_by_id(id))?;
        row.map(|row| Ok(decode_series(&row).map_err(undecodable)?.1)).transpose()
    }

    /// Shows the rows with a prefix, in order, until `see` answers false.
    pub(super) fn scan(
        &self,
        prefix: &[u8],
        see: impl FnMut(&[u8], &[u8]) -> Result<bool, Undecodable>,
    ) -> Result<(), StoreError> {
        self.show(self.seen.snapshot.prefix(self.engine.rows(), prefix), see)
    }

    /// Shows the rows from `first` to `last`, both included, in order, until `see` answers false.
    pub(super) fn scan_range(
        &self,
        first: &[u8],
        last: &[u8],
        see: impl FnMut(&[u8], &[u8]) -> Result<bool, Undecodable>,
    ) -> Result<(), StoreError> {
        self.show(self.seen.snapshot.range(self.engine.rows(), first..=last), see)
    }

    /// Likewise the rows of rollups.
    pub(super) fn scan_rollups(
        &self,
        first: &[u8],
        last: &[u8],
        mut see: impl FnMut(&[u8], &[u8]) -> Result<(), Undecodable>,
    ) -> Result<(), StoreError> {
        self.show(self.seen.snapshot.range(self.engine.rollups(), first..=last), |key, value| {
            see(key, value).map(|()| true)
        })
    }

    /// The last row with a prefix.
    pub(super) fn last(&self, prefix: &[u8]) -> Result<Option<KvPair>, StoreError> {
        self.seen.snapshot.prefix(self.engine.rows(), prefix).next_back().map(entry).transpose()
    }

    /// Hands out rows from `first` to `last`, both included, in order and some at a time.
    pub(super) fn pages(
        &self,
        first: &[u8],
        last: &[u8],
        mut see: impl FnMut(&[KvPair]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let mut page = Vec::new();
        for row in self.seen.snapshot.range(self.engine.rows(), first..=last) {
            page.push(entry(row)?);
            if page.len() == ROWS_AT_ONCE {
                self.check()?;
                see(&page)?;
                page.clear();
            }
        }
        if page.is_empty() { Ok(()) } else { see(&page) }
    }

    /// A block of a chunk.
    pub(super) fn block(&self, chunk: &Keyspace, key: &BlockKey) -> Result<Option<UserValue>, StoreError> {
        self.seen.snapshot.get(chunk, key.encode()).map_err(|error| failed("read", error))
    }

    /// Blocks with a prefix in a chunk, in order.
    pub(super) fn blocks(&self, chunk: &Keyspace, prefix: &[u8]) -> fjall::Iter {
        self.seen.snapshot.prefix(chunk, prefix)
    }

    /// Blocks from `first` to `last` in a chunk, in order.
    pub(super) fn blocks_between(&self, chunk: &Keyspace, first: &[u8], last: &[u8]) -> fjall::Iter {
        self.seen.snapshot.range(chunk, first..=last)
    }

    fn show(
        &self,
        rows: fjall::Iter,
        mut see: impl FnMut(&[u8], &[u8]) -> Result<bool, Undecodable>,
    ) -> Result<(), StoreError> {
        for (count, row) in rows.enumerate() {
            if count % ROWS_AT_ONCE == ROWS_AT_ONCE - 1 {
                self.check()?;
            }
            let (key, value) = entry(row)?;
            Looked::add(&self.looked.rows, 1);
            if !see(&key, &value).map_err(undecodable)? {
                break;
            }
        }
        Ok(())
    }
}
