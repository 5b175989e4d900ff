//! Kept buckets that somebody doubts: marked, so that they are mended though nothing came late.

use std::{collections::BTreeSet, ops::RangeInclusive};

use super::{Refresh, View};
use crate::{
    model::{Micros, SeriesId},
    store::{
        Level, StoreError,
        embedded::{
            engine::{entry, undecodable},
            keys::{self, BlockKey, Kind},
            late::Hours,
        },
    },
};

impl Refresh<'_> {
    /// Marks the hours from `start_us` to before `end_us` of every series that has readings or kept buckets on their
    /// days. Not of days that were dropped: their rollups are all there is.
    pub(in crate::store::embedded) fn doubt(
        mut self,
        (start_us, end_us): (Micros, Micros),
    ) -> Result<(), StoreError> {
        let view = self.keeping.view();
        let stored_us = view.watermarks()?.stored_before_us.unwrap_or(Micros::MIN);
        let end_us = end_us.min(stored_us);
        if start_us >= end_us {
            return Ok(());
        }
        let hours = keys::hour_of(start_us)..=keys::hour_of(end_us - 1);
        let mut days: BTreeSet<i64> = view.chunks(start_us, end_us).map(|(day, _)| day).collect();
        days.extend(kept_days(&view, &hours)?);
        view.dropped(|kind, day| {
            if kind == Kind::Reading {
                days.remove(&day);
            }
        })?;
        drop(view);
        for day in days {
            let view = self.keeping.view();
            let asked = Hours::within(day, &hours);
            for series in series_of(&view, day, asked)? {
                // Of no commit: none will rely on it. There may be one that an end of the process left.
                let key = keys::dirty(series, day, keys::OF_NO_COMMIT);
                let before = view.get(key)?.map(|row| Hours::decode(&row)).transpose();
                let marked = asked.or(before.map_err(undecodable)?.unwrap_or_default());
                self.changes.put_row(key.to_vec(), marked.encode().to_vec());
                self.flush_if_full()?;
            }
        }
        self.flush()
    }
}

/// Days that have rollups.
fn kept_days(view: &View<'_>, hours: &RangeInclusive<i64>) -> Result<BTreeSet<i64>, StoreError> {
    let (first, last) = (hours.start().div_euclid(24), hours.end().div_euclid(24));
    let mut days = BTreeSet::new();
    for series in (1..view.engine.catalogue.next()).map(SeriesId) {
        view.check()?;
        for level in Level::ALL {
            let (first, last) = (keys::rollups(level, series, first), keys::rollups(level, series, last));
            view.scan_rollups(&first, &last, |key, _| {
                days.insert(keys::parse_rollups(key)?);
                Ok(())
            })?;
        }
    }
    Ok(days)
}

/// Series that have readings in some hours of a day, or rollups of that day.
fn series_of(view: &View<'_>, day: i64, hours: Hours) -> Result<BTreeSet<SeriesId>, StoreError> {
    let mut found = BTreeSet::new();
    for hour in hours.of(day) {
        let Some(chunk) = view.chunk(day) else { break };
        view.check()?;
        let (first, last) = (SeriesId(0), SeriesId(u32::MAX));
        let (first, last) = (keys::blocks_of_hour(hour, first), keys::last_block_of_hour(hour, last));
        for guard in view.blocks_between(chunk, &first, &last) {
            let (key, _) = entry(guard)?;
            found.insert(BlockKey::decode(day, &key).map_err(undecodable)?.series);
        }
    }
    for series in (1..view.engine.catalogue.next()).map(SeriesId) {
        view.check()?;
        for level in Level::ALL {
            if !found.contains(&series) && view.engine.rollup(&keys::rollups(level, series, day))?.is_some() {
                found.insert(series);
            }
        }
    }
    Ok(found)
}
