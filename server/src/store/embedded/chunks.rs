//! Days that go, and what directories of before lack.

use std::collections::BTreeMap;

use super::{
    engine::{self, Engine, undecodable},
    keys::{self, Kind, Table},
    late::{Hours, Written},
    view::View,
};
use crate::{model::DAY_US, store::StoreError};

/// Value of [`keys::COMPLETE`] in directories of format 3.
const COMPLETE: [u8; 1] = [3];

impl Engine {
    /// Finishes what a crash interrupted.
    pub(super) fn finish_dropping(&self) -> Result<(), StoreError> {
        let mut days = Vec::new();
        let view = self.view();
        view.scan(&keys::table(Table::Tombstones), |key, _| {
            days.push(keys::parse_tombstone(key)?);
            Ok(true)
        })?;
        days.into_iter().try_for_each(|day| self.finish_drop(day))?;
        for (day, _) in view.milking_days()? {
            if view.get(keys::dropped(Kind::Milking, day))?.is_some() {
                view.each_milking_page(day, |page| {
                    let mut batch = self.batch(page.len());
                    for (key, _) in page {
                        batch.remove(self.rows(), key.clone());
                    }
                    engine::write(batch, false)
                })?;
                let mut batch = self.batch(1);
                batch.remove(self.rows(), keys::written(Kind::Milking, day));
                engine::write(batch, false)?;
            }
        }
        Ok(())
    }

    /// Drops the readings and the activity counters of a UTC day, counted from 1970, once its tombstone is on disk.
    ///
    /// A write into a deleted keyspace would vanish without an error: only the writer writes, and it asks
    /// for a chunk anew in every commit.
    pub(super) fn finish_drop(&self, day: i64) -> Result<(), StoreError> {
        self.delete_chunk(day)?;
        let (first, last) = keys::activity_of_day(day);
        let mut batch = self.batch(0);
        self.view().scan_range(&first, &last, |key, _| {
            batch.remove(self.rows(), key);
            Ok(true)
        })?;
        batch.remove(self.rows(), keys::untagged(day));
        batch.remove(self.rows(), keys::tombstone(day));
        engine::write(batch, true)
    }

    /// Adds what directories of before lack, or have in another form; once.
    pub(super) fn complete(&self) -> Result<(), StoreError> {
        let view = self.view();
        let known = view.get(keys::COMPLETE)?;
        if known.as_deref() == Some(&COMPLETE) {
            return Ok(());
        }
        if known.is_none() {
            self.complete_days(&view)?;
        }
        self.gather_marks()?;
        let mut batch = self.batch(1);
        view.scan(&keys::devices_of_farm(None), |key, _| {
            let (farm_id, device_uid) = keys::parse_device(key)?;
            batch.insert(self.rows(), keys::home(&device_uid, farm_id), []);
            Ok(true)
        })?;
        batch.insert(self.rows(), keys::COMPLETE, COMPLETE);
        engine::write(batch, false)
    }

    /// Counts milkings by day, and has readings be found by animal and zone.
    fn complete_days(&self, view: &View<'_>) -> Result<(), StoreError> {
        let mut milked: BTreeMap<i64, Written> = BTreeMap::new();
        view.scan(&keys::table(Table::Milkings), |key, value| {
            let written = milked.entry(keys::parse_milking(key)?.1.div_euclid(DAY_US)).or_default();
            written.rows += 1;
            written.bytes += (key.len() + value.len()) as u64;
            Ok(true)
        })?;
        let mut batch = self.batch(milked.len() + 1);
        for (day, written) in milked {
            batch.insert(self.rows(), keys::written(Kind::Milking, day), written.encode());
        }
        for (day, _) in view.days() {
            batch.insert(self.rows(), keys::untagged(day), []);
        }
        engine::write(batch, false)
    }

    /// Turns marks of single hours into marks of days.
    fn gather_marks(&self) -> Result<(), StoreError> {
        let mut last = [0xff; 14];
        last[0] = Table::DirtyHours as u8;
        self.view().pages(&keys::table(Table::DirtyHours), &last, |page| {
            let mut batch = self.batch(2 * page.len());
            for (key, _) in page {
                let (series, hour) = keys::parse_dirty_hour(key).map_err(undecodable)?;
                // Apart from each other, and from every commit.
                let commit = keys::OF_NO_COMMIT + 1 + hour.rem_euclid(24) as u64;
                let mark = keys::dirty(series, hour.div_euclid(24), commit);
                batch.insert(self.rows(), mark, Hours::one(hour).encode());
                batch.remove(self.rows(), key.clone());
            }
            engine::write(batch, false)
        })
    }
}
