//! What is old enough to go.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    engine::{Engine, View, undecodable},
    keys::{self, Kind, Table},
    refresh::Changes,
    rows,
    watch::Watch,
};
use crate::{
    model::{DAY_US, Micros, SeriesId},
    store::{Chunk, Cut, Dropped, Level, Retention, StoreError, milk::MilkTally},
};

/// Names of the levels' tables, in the order of [`Level::ALL`].
const ROLLUP_TABLES: [&str; 3] = ["rollup_15min", "rollup_hourly", "rollup_daily"];

/// Rows that go at a time.
const ROWS: usize = 2_000;

/// A day that may go, as it was looked at; the writer makes sure that nothing has come since.
pub(super) struct OldDay {
    pub(super) kind: Kind,
    pub(super) day: i64,
    /// When it was last written into, as far as that was late.
    pub(super) written_us: Option<u64>,
    /// Rows that take the place of those that go: milk by animal.
    pub(super) kept: Vec<(Vec<u8>, Vec<u8>)>,
    /// Rows that go, readings aside: those go with their keyspace.
    pub(super) gone: Vec<Vec<u8>>,
    pub(super) dropped: Dropped,
}

/// One run of retention.
pub(super) struct Run<'a> {
    pub(super) engine: &'a Engine,
    pub(super) watch: Watch,
    pub(super) retention: Retention,
    /// Hands changes to the writer, and waits until they are stored.
    pub(super) apply: &'a dyn Fn(Changes) -> Result<(), StoreError>,
    /// Has the writer drop a day; false: something has come for it since it was looked at.
    pub(super) drop_day: &'a dyn Fn(OldDay) -> Result<bool, StoreError>,
}

impl Run<'_> {
    /// Drops what is old enough, or only tells.
    pub(super) fn run(self) -> Result<Vec<Dropped>, StoreError> {
        let mut dropped = Vec::new();
        for day in self.view().old_readings(&self.retention)? {
            self.watch.check()?;
            dropped.push(self.drop_unless_kept(day)?);
        }
        let mut after = None;
        while let Some(day) = self.view().old_milkings(&self.retention, after)? {
            self.watch.check()?;
            after = Some(day.day);
            dropped.push(self.drop_unless_kept(day)?);
        }
        for (level, table) in Level::ALL.into_iter().zip(ROLLUP_TABLES) {
            let Some(cutoff_us) = self.retention.rollups_us[level as usize] else { continue };
            let end_us = Level::Day.floor(cutoff_us);
            self.move_floor(level, end_us)?;
            let counted = self.view().old_rollups(level, end_us, |changes| self.apply(changes))?;
            dropped.extend(part(table, end_us, counted));
        }
        if let Some(cutoff_us) = self.retention.quarantine_us {
            let counted = self.view().old_quarantine(cutoff_us, |changes| self.apply(changes))?;
            dropped.extend(part("quarantine", cutoff_us, counted));
        }
        Ok(dropped)
    }

    fn view(&self) -> View<'_> {
        self.engine.watched(self.watch.clone())
    }

    fn drop_unless_kept(&self, day: OldDay) -> Result<Dropped, StoreError> {
        let mut dropped = day.dropped.clone();
        if dropped.kept_because.is_empty() && !self.retention.dry_run && !(self.drop_day)(day)? {
            "something was written into it lately".clone_into(&mut dropped.kept_because);
        }
        Ok(dropped)
    }

    /// Notes that rollups before are gone, before they are, if there are any.
    fn move_floor(&self, level: Level, end_us: Micros) -> Result<(), StoreError> {
        let view = self.view();
        let mut floors = view.rollup_floors()?;
        let mut any = false;
        view.old_rollups(level, end_us, |_| {
            any = true;
            Ok(())
        })?;
        if any && !self.retention.dry_run {
            let floor = &mut floors[level as usize];
            *floor = (*floor).max(Some(end_us));
            (self.apply)(Changes { floors: Some(floors), ..Changes::default() })?;
        }
        Ok(())
    }

    fn apply(&self, changes: Changes) -> Result<(), StoreError> {
        if self.retention.dry_run { Ok(()) } else { (self.apply)(changes) }
    }
}

/// Rows that went, if any did.
fn part(table: &'static str, end_us: Micros, (rows, bytes): (u64, u64)) -> Option<Dropped> {
    let kept_because = String::new();
    (rows > 0).then_some(Dropped { table, start_us: None, end_us, rows, bytes, kept_because })
}

impl View<'_> {
    /// Days of readings that end by the cutoff.
    pub(super) fn old_readings(&self, retention: &Retention) -> Result<Vec<OldDay>, StoreError> {
        let Some(cutoff_us) = retention.readings_us else { return Ok(Vec::new()) };
        let days = self.engine.days().into_iter().filter(|day| (day + 1).saturating_mul(DAY_US) <= cutoff_us);
        let days: Vec<i64> = days.collect();
        if days.is_empty() {
            return Ok(Vec::new());
        }
        let stored_us = self.watermarks()?.stored_before_us.unwrap_or(Micros::MIN);
        let mut dirty = BTreeSet::new();
        self.scan(&keys::table(Table::Dirty), |key, _| {
            dirty.insert(keys::parse_dirty(key)?.1.div_euclid(24));
            Ok(true)
        })?;
        let mut old = Vec::with_capacity(days.len());
        for day in days {
            let written_us = self.written(Kind::Reading, day)?;
            let kept_because = if (day + 1) * DAY_US > stored_us {
                "its aggregates are not kept yet"
            } else if dirty.contains(&day) {
                "late readings wait for a refresh"
            } else {
                written_lately(written_us, retention)
            };
            let bytes = self.engine.chunk(day).map_or(0, |chunk| chunk.disk_space());
            let dropped = of_day("reading", day, (0, bytes), kept_because);
            let (kept, gone) = (Vec::new(), Vec::new());
            old.push(OldDay { kind: Kind::Reading, day, written_us, kept, gone, dropped });
        }
        Ok(old)
    }

    /// The oldest day of milkings after `after` that ends by the cutoff.
    pub(super) fn old_milkings(
        &self,
        retention: &Retention,
        after: Option<i64>,
    ) -> Result<Option<OldDay>, StoreError> {
        let Some(cutoff_us) = retention.milkings_us else { return Ok(None) };
        let from_us = after.map_or(Micros::MIN, |day| (day + 1) * DAY_US);
        let farms = self.farms_with_milkings(from_us)?;
        let Some(day) = farms.values().map(|oldest_us| oldest_us.div_euclid(DAY_US)).min() else {
            return Ok(None);
        };
        let (start_us, end_us) = (day * DAY_US, (day + 1).saturating_mul(DAY_US));
        if end_us > cutoff_us {
            return Ok(None);
        }
        let (mut kept, mut gone, mut bytes) = (Vec::new(), Vec::new(), 0);
        for &farm_id in farms.keys() {
            let mut tally = MilkTally::new(Cut::Level { level: Level::Day, start_us, end_us });
            let first = keys::milkings_from(farm_id, start_us);
            let last = keys::milking(farm_id, end_us - 1, u64::MAX, u32::MAX);
            self.scan_range(&first, &last, |key, value| {
                tally.add(&rows::decode_milking(value)?);
                bytes += (key.len() + value.len()) as u64;
                gone.push(key.to_vec());
                Ok(true)
            })?;
            kept.extend(tally.finish().into_iter().map(|milk| {
                (keys::milk_day(farm_id, day, milk.animal_id).to_vec(), rows::encode_milk_day(&milk))
            }));
        }
        let written_us = self.written(Kind::Milking, day)?;
        let kept_because = written_lately(written_us, retention);
        let dropped = of_day("milking", day, (gone.len() as u64, bytes), kept_because);
        Ok(Some(OldDay { kind: Kind::Milking, day, written_us, kept, gone, dropped }))
    }

    /// Farms that have milkings from a time on, and the time of their oldest.
    fn farms_with_milkings(&self, from_us: Micros) -> Result<BTreeMap<i32, Micros>, StoreError> {
        let mut farms = BTreeMap::new();
        let mut next = Some(1);
        while let Some(farm_id) = next.take() {
            let last = keys::milking(i32::MAX, Micros::MAX, u64::MAX, u32::MAX);
            self.scan_range(&keys::milkings_from(farm_id, from_us), &last, |key, _| {
                let (found, time_us) = keys::parse_milking(key)?;
                if time_us >= from_us {
                    farms.insert(found, time_us);
                    next = found.checked_add(1);
                } else {
                    // The next farm begins with older ones.
                    next = Some(found);
                }
                Ok(false)
            })?;
        }
        Ok(farms)
    }

    pub(super) fn written(&self, kind: Kind, day: i64) -> Result<Option<u64>, StoreError> {
        let row = self.get(keys::written(kind, day))?;
        row.map(|row| rows::decode_number(&row).map_err(undecodable)).transpose()
    }

    /// Rollups of a level that end by the cutoff: hands out their keys, and answers how many and their bytes.
    pub(super) fn old_rollups(
        &self,
        level: Level,
        cutoff_us: Micros,
        mut go: impl FnMut(Changes) -> Result<(), StoreError>,
    ) -> Result<(u64, u64), StoreError> {
        let (mut rows, mut bytes) = (0, 0);
        let last_day = cutoff_us.div_euclid(DAY_US) - 1;
        for number in 1..self.engine.catalogue.next() {
            self.watch.check()?;
            let series = SeriesId(number);
            let mut changes = Changes::default();
            let (first, last) =
                (keys::rollups(level, series, i64::MIN), keys::rollups(level, series, last_day));
            self.scan_rollups(&first, &last, |key, value| {
                bytes += (key.len() + value.len()) as u64;
                changes.gone_rollups.push(keys::rollups(level, series, keys::parse_rollups(key)?));
                Ok(())
            })?;
            rows += changes.gone_rollups.len() as u64;
            if !changes.gone_rollups.is_empty() {
                go(changes)?;
            }
        }
        Ok((rows, bytes))
    }

    /// Likewise quarantine that was received before.
    pub(super) fn old_quarantine(
        &self,
        cutoff_us: Micros,
        mut go: impl FnMut(Changes) -> Result<(), StoreError>,
    ) -> Result<(u64, u64), StoreError> {
        let (mut rows, mut bytes) = (0, 0);
        let mut parts = vec![Changes::default()];
        self.scan(&keys::table(Table::Quarantine), |key, value| {
            let record = rows::decode_quarantined(keys::parse_quarantine(key)?, value)?;
            if record.received_us < cutoff_us {
                rows += 1;
                bytes += (key.len() + value.len()) as u64;
                if parts.last().is_none_or(|part| part.gone_rows.len() == ROWS) {
                    parts.push(Changes::default());
                }
                if let Some(part) = parts.last_mut() {
                    part.gone_rows.push(key.to_vec());
                }
            }
            Ok(true)
        })?;
        parts.into_iter().filter(|part| !part.gone_rows.is_empty()).try_for_each(&mut go)?;
        Ok((rows, bytes))
    }
}

impl Engine {
    /// Days of readings, and all milkings as one.
    pub(super) fn list_chunks(&self) -> Result<Vec<Chunk>, StoreError> {
        let chunk = |table, name: String, days: (i64, i64), bytes| Chunk {
            table,
            name,
            start_us: days.0 * DAY_US,
            end_us: (days.1 + 1) * DAY_US,
            bytes,
            uncompressed_bytes: None,
            compressed: false,
        };
        let days = self.days().into_iter().filter_map(|day| Some((day, self.chunk(day)?)));
        let mut chunks: Vec<Chunk> =
            days.map(|(day, of)| chunk("reading", keys::chunk(day), (day, day), of.disk_space())).collect();
        let mut milkings: Option<(i64, i64, u64)> = None;
        self.view().scan(&keys::table(Table::Milkings), |key, value| {
            let day = keys::parse_milking(key)?.1.div_euclid(DAY_US);
            let (first, last, bytes) = milkings.unwrap_or((day, day, 0));
            milkings = Some((first.min(day), last.max(day), bytes + (key.len() + value.len()) as u64));
            Ok(true)
        })?;
        chunks.extend(
            milkings
                .map(|(first, last, bytes)| chunk("milking", "milkings".to_owned(), (first, last), bytes)),
        );
        chunks.sort_by_key(|chunk| chunk.start_us);
        Ok(chunks)
    }
}

fn written_lately(written_us: Option<u64>, retention: &Retention) -> &'static str {
    let lately = written_us.is_some_and(|written| written as Micros >= retention.quiet_since_us);
    if lately { "something was written into it lately" } else { "" }
}

fn of_day(table: &'static str, day: i64, (rows, bytes): (u64, u64), kept_because: &str) -> Dropped {
    Dropped {
        table,
        start_us: Some(day * DAY_US),
        end_us: (day + 1) * DAY_US,
        rows,
        bytes,
        kept_because: kept_because.to_owned(),
    }
}
