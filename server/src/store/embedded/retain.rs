//! What is old enough to go.

use std::collections::BTreeSet;

use super::{
    changes::{Changes, OldDay},
    engine::undecodable,
    keeping::Keeping,
    keys::{self, Kind, Table},
    late::Written,
    rows,
    view::View,
};
use crate::{
    model::{DAY_US, Micros, SeriesId},
    store::{Chunk, Cut, Dropped, Level, Retention, StoreError, milk::MilkTally},
};

/// Names of the levels' tables, in the order of [`Level::ALL`].
const ROLLUP_TABLES: [&str; 3] = ["rollup_15min", "rollup_hourly", "rollup_daily"];

/// One run of retention.
pub(super) struct Run<'a> {
    pub(super) keeping: &'a Keeping,
    pub(super) retention: Retention,
}

impl Run<'_> {
    /// Drops what is old enough, or only tells.
    pub(super) fn run(self) -> Result<Vec<Dropped>, StoreError> {
        let mut dropped = Vec::new();
        self.readings(&mut dropped)?;
        self.milkings(&mut dropped)?;
        for (level, table) in Level::ALL.into_iter().zip(ROLLUP_TABLES) {
            dropped.extend(self.rollups(level, table)?);
        }
        dropped.extend(self.quarantine()?);
        Ok(dropped)
    }

    fn readings(&self, dropped: &mut Vec<Dropped>) -> Result<(), StoreError> {
        let Some(cutoff_us) = self.retention.readings_us else { return Ok(()) };
        let view = self.keeping.view();
        let stored_us = view.watermarks()?.stored_before_us.unwrap_or(Micros::MIN);
        let days: Vec<_> = view.days().map(|(day, _)| day).filter(|day| end_of(*day) <= cutoff_us).collect();
        if days.is_empty() {
            return Ok(());
        }
        let dirty = view.dirty_days()?;
        for day in days {
            view.check()?;
            let written = view.written(Kind::Reading, day)?;
            let kept_because = if end_of(day) > stored_us {
                "its aggregates are not kept yet"
            } else if dirty.contains(&day) {
                "late readings wait for a refresh"
            } else {
                self.written_lately(written)
            };
            let bytes = view.chunk(day).map_or(0, fjall::Keyspace::disk_space);
            let mut part = of_day("reading", day, (view.count_of_day(day)?, bytes), kept_because);
            if self.goes(&part) {
                self.drop_day(OldDay { kind: Kind::Reading, day, commit: written.commit }, &mut part)?;
            }
            dropped.push(part);
        }
        Ok(())
    }

    /// The milk of a day is kept before its milkings go.
    fn milkings(&self, dropped: &mut Vec<Dropped>) -> Result<(), StoreError> {
        let Some(cutoff_us) = self.retention.milkings_us else { return Ok(()) };
        for (day, _) in self.keeping.view().milking_days()? {
            if end_of(day) > cutoff_us {
                break;
            }
            let view = self.keeping.view();
            if view.get(keys::dropped(Kind::Milking, day))?.is_some() {
                // Somebody was interrupted here.
                if !self.retention.dry_run {
                    self.drop_milkings(&view, day)?;
                }
                continue;
            }
            let written = view.written(Kind::Milking, day)?;
            let counted = (written.rows, written.bytes);
            let mut part = of_day("milking", day, counted, self.written_lately(written));
            if self.goes(&part) {
                // Not told to anyone before the day is dropped.
                self.keep_milk(&view, day)?;
                self.drop_day(OldDay { kind: Kind::Milking, day, commit: written.commit }, &mut part)?;
                if part.kept_because.is_empty() {
                    self.drop_milkings(&view, day)?;
                }
            }
            dropped.push(part);
        }
        Ok(())
    }

    /// Milkings of a day that is dropped already. The next run, or the next start, finishes what is interrupted.
    fn drop_milkings(&self, view: &View<'_>, day: i64) -> Result<(), StoreError> {
        view.each_milking_page(day, |page| {
            let mut changes = Changes::freeing();
            for (key, _) in page {
                changes.drop_row(key.to_vec());
            }
            self.keeping.apply(changes)
        })?;
        let mut changes = Changes::freeing();
        changes.drop_row(keys::written(Kind::Milking, day).to_vec());
        self.keeping.apply(changes)
    }

    fn keep_milk(&self, view: &View<'_>, day: i64) -> Result<(), StoreError> {
        let cut = Cut::Level { level: Level::Day, start_us: end_of(day - 1), end_us: end_of(day) };
        let mut changes = Changes::freeing();
        for farm_id in view.farms_milked(day)? {
            let mut tally = MilkTally::new(cut.clone());
            let (first, last) = keys::milkings_of_day(farm_id, day);
            view.scan_range(&first, &last, |_, value| {
                tally.add(&rows::decode_milking(value)?);
                Ok(true)
            })?;
            for milk in tally.finish() {
                let key = keys::milk_day(farm_id, day, milk.animal_id);
                changes.put_row(key.to_vec(), rows::encode_milk_day(&milk));
                self.keeping.apply_if_full(&mut changes)?;
            }
        }
        self.keeping.apply(changes)
    }

    fn goes(&self, part: &Dropped) -> bool {
        part.kept_because.is_empty() && !self.retention.dry_run
    }

    fn drop_day(&self, day: OldDay, part: &mut Dropped) -> Result<(), StoreError> {
        if !self.keeping.drop_day(day)? {
            "something was written into it just now".clone_into(&mut part.kept_because);
        }
        Ok(())
    }

    fn written_lately(&self, written: Written) -> &'static str {
        let lately = written.commit > 0 && written.at_us >= self.retention.quiet_since_us;
        if lately { "something was written into it lately" } else { "" }
    }

    /// Rollups of a level, by days.
    fn rollups(&self, level: Level, table: &'static str) -> Result<Option<Dropped>, StoreError> {
        let Some(cutoff_us) = self.retention.rollups_us[level as usize] else { return Ok(None) };
        let end_us = Level::Day.floor(cutoff_us);
        let view = self.keeping.view();
        let mut counted = (0, 0);
        view.old_rollups(level, end_us, |_, bytes| {
            counted = (counted.0 + 1, counted.1 + bytes);
            Ok(())
        })?;
        if counted.0 > 0 && !self.retention.dry_run {
            // From here on nothing is looked for there.
            let mut floors = view.rollup_floors()?;
            floors[level as usize] = floors[level as usize].max(Some(end_us));
            let mut changes = Changes::freeing();
            changes.floors = Some(floors);
            view.old_rollups(level, end_us, |key, _| {
                changes.drop_rollups(key);
                self.keeping.apply_if_full(&mut changes)
            })?;
            self.keeping.apply(changes)?;
        }
        Ok(part(table, end_us, counted))
    }

    /// Quarantine that was received before.
    fn quarantine(&self) -> Result<Option<Dropped>, StoreError> {
        let Some(cutoff_us) = self.retention.quarantine_us else { return Ok(None) };
        let mut counted = (0, 0);
        let first = keys::table(Table::Quarantine);
        self.keeping.view().pages(
            &first,
            &keys::quarantine(uuid::Uuid::max(), u64::MAX, u8::MAX, u32::MAX),
            |page| {
                let mut changes = Changes::freeing();
                for (key, value) in page {
                    let place = keys::parse_quarantine(key).map_err(undecodable)?;
                    if rows::decode_quarantined(place, value).map_err(undecodable)?.received_us < cutoff_us {
                        counted = (counted.0 + 1, counted.1 + (key.len() + value.len()) as u64);
                        changes.drop_row(key.to_vec());
                    }
                }
                if self.retention.dry_run || changes.gone_rows.is_empty() {
                    Ok(())
                } else {
                    self.keeping.apply(changes)
                }
            },
        )?;
        Ok(part("quarantine", cutoff_us, counted))
    }
}

impl View<'_> {
    /// Days that hold a dirty hour.
    fn dirty_days(&self) -> Result<BTreeSet<i64>, StoreError> {
        let mut days = BTreeSet::new();
        self.scan(&keys::table(Table::Dirty), |key, _| {
            days.insert(keys::parse_dirty(key)?.1);
            Ok(true)
        })?;
        Ok(days)
    }

    /// Readings of a day.
    fn count_of_day(&self, day: i64) -> Result<u64, StoreError> {
        let mut count = 0;
        let (first, last) = keys::activity_of_day(day);
        self.scan_range(&first, &last, |_, value| {
            count += rows::decode_number(value)?;
            Ok(true)
        })?;
        Ok(count)
    }

    /// Farms that have milkings of a day, in order.
    fn farms_milked(&self, day: i64) -> Result<Vec<i32>, StoreError> {
        let mut farms = Vec::new();
        let mut next = Some(i32::MIN);
        while let Some(farm_id) = next.take() {
            let (first, _) = keys::milkings_of_day(farm_id, day);
            let last = keys::milking(i32::MAX, Micros::MAX, u64::MAX, u32::MAX);
            self.scan_range(&first, &last, |key, _| {
                let (found, time_us) = keys::parse_milking(key)?;
                if time_us.div_euclid(DAY_US) == day {
                    farms.push(found);
                }
                // The next farm may begin with older ones.
                next = if time_us.div_euclid(DAY_US) < day { Some(found) } else { found.checked_add(1) };
                Ok(false)
            })?;
        }
        Ok(farms)
    }

    /// Hands out the milkings of a day, some at a time.
    pub(super) fn each_milking_page(
        &self,
        day: i64,
        mut see: impl FnMut(&[fjall::KvPair]) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        for farm_id in self.farms_milked(day)? {
            let (first, last) = keys::milkings_of_day(farm_id, day);
            self.pages(&first, &last, &mut see)?;
        }
        Ok(())
    }

    /// Shows keys and bytes of the rollups of a level that end by the cutoff.
    fn old_rollups(
        &self,
        level: Level,
        cutoff_us: Micros,
        mut see: impl FnMut([u8; 13], u64) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let last_day = cutoff_us.div_euclid(DAY_US) - 1;
        for number in 1..self.engine.catalogue.next() {
            self.check()?;
            let series = SeriesId(number);
            let (first, last) =
                (keys::rollups(level, series, i64::MIN), keys::rollups(level, series, last_day));
            let mut old = Vec::new();
            self.scan_rollups(&first, &last, |key, value| {
                let bytes = (key.len() + value.len()) as u64;
                old.push((keys::rollups(level, series, keys::parse_rollups(key)?), bytes));
                Ok(())
            })?;
            old.into_iter().try_for_each(|(key, bytes)| see(key, bytes))?;
        }
        Ok(())
    }

    /// Days of readings and of milkings.
    pub(super) fn list_chunks(&self) -> Result<Vec<Chunk>, StoreError> {
        let chunk = |table, name: String, day: i64, bytes| Chunk {
            table,
            name,
            start_us: end_of(day - 1),
            end_us: end_of(day),
            bytes,
            uncompressed_bytes: None,
            compressed: false,
        };
        let readings = self.days().map(|(day, of)| chunk("reading", keys::chunk(day), day, of.disk_space()));
        let mut chunks: Vec<_> = readings.collect();
        let milkings = self.milking_days()?;
        chunks.extend(
            milkings.iter().map(|(day, of)| chunk("milking", format!("milkings{day}"), *day, of.bytes)),
        );
        chunks.sort_by_key(|chunk| chunk.start_us);
        Ok(chunks)
    }
}

fn end_of(day: i64) -> Micros {
    (day + 1).saturating_mul(DAY_US)
}

/// Rows that went, if any did.
fn part(table: &'static str, end_us: Micros, (rows, bytes): (u64, u64)) -> Option<Dropped> {
    let kept_because = String::new();
    (rows > 0).then_some(Dropped { table, start_us: None, end_us, rows, bytes, kept_because })
}

fn of_day(table: &'static str, day: i64, (rows, bytes): (u64, u64), kept_because: &str) -> Dropped {
    Dropped {
        table,
        start_us: Some(end_of(day - 1)),
        end_us: end_of(day),
        rows,
        bytes,
        kept_because: kept_because.to_owned(),
    }
}

#[cfg(test)]
mod tests;
