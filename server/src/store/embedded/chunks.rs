//! Dropping the readings of a whole day.

use super::{
    engine::{self, Engine},
    keys::{self, Table},
};
use crate::{model::DAY_US, store::StoreError};

impl Engine {
    /// Finishes what a crash interrupted.
    pub(super) fn finish_dropping(&self) -> Result<(), StoreError> {
        let mut days = Vec::new();
        self.view().scan(&keys::table(Table::Tombstones), |key, _| {
            days.push(keys::parse_tombstone(key)?);
            Ok(true)
        })?;
        days.into_iter().try_for_each(|day| self.finish_drop(day))
    }

    /// Drops the readings and the activity counters of a UTC day, counted from 1970, once its tombstone is on disk.
    ///
    /// A write into a deleted keyspace would vanish without an error: only the writer writes, and it asks
    /// for a chunk anew in every commit.
    pub(super) fn finish_drop(&self, day: i64) -> Result<(), StoreError> {
        self.delete_chunk(day)?;
        let first = day * (DAY_US / keys::MINUTE_US);
        let last = first + DAY_US / keys::MINUTE_US - 1;
        let mut batch = self.batch(0);
        self.view().scan_range(&keys::activity(first), &keys::activity(last), |key, _| {
            batch.remove(self.rows(), key);
            Ok(true)
        })?;
        batch.remove(self.rows(), keys::untagged(day));
        batch.remove(self.rows(), keys::tombstone(day));
        engine::write(batch, true)
    }
}
