//! Computes what was closed and what is dirty, on a thread of its own beside the writer, which stores it.
//!
//! It may end anywhere: the watermark moves behind what is stored, and a mark goes together with what it stood for.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

use fjall::Keyspace;

use super::{
    block,
    changes::{Changes, Mark},
    engine::{entry, undecodable},
    keeping::Keeping,
    keys::{self, BlockKey, HOUR_US, Kind, Table},
    late::{Floors, Hours},
    roll::{MOST_HELD, Plan, Rolled},
    rollup::{self, Day},
    view::View,
};
use crate::{
    model::{DAY_US, Micros, SeriesId},
    store::{Level, Refreshed, StoreError, Tag},
};

/// Marks that are looked at in one view: 16 MB.
const MOST_MARKS: usize = 500_000;

/// Buckets that are computed at a time, at most: 12 MB with what is around them.
const MOST_BUCKETS: usize = 100_000;

/// Series whose numbers lie so near to each other are looked at together with those in between.
const NEAR: u32 = 4;

/// What of a day was looked at: a bucket that was not found there has no readings.
#[derive(Clone, Copy)]
enum Anew {
    Day,
    Hours(Hours),
}

impl Anew {
    fn holds(self, bucket_us: Micros) -> bool {
        match self {
            Self::Day => true,
            Self::Hours(hours) => !hours.and(Hours::one(keys::hour_of(bucket_us))).is_empty(),
        }
    }
}

/// One refresh, once the watermark has moved.
pub(super) struct Refresh<'a> {
    keeping: &'a Keeping,
    changes: Changes,
    done: Refreshed,
    /// Series that were computed at once the last time.
    at_once: usize,
}

impl<'a> Refresh<'a> {
    pub(super) fn new(keeping: &'a Keeping) -> Self {
        Self { keeping, changes: Changes::default(), done: Refreshed::default(), at_once: 256 }
    }

    /// Stores what is closed, then mends what is dirty within `span_us`.
    pub(super) fn run(mut self, span_us: Option<(Micros, Micros)>) -> Result<Refreshed, StoreError> {
        self.store_closed()?;
        self.mend(span_us.unwrap_or((Micros::MIN, Micros::MAX)))?;
        if span_us.is_none() {
            self.tag()?;
        }
        Ok(self.done)
    }

    /// Day by day, so that what is done stays done.
    fn store_closed(&mut self) -> Result<(), StoreError> {
        let view = self.keeping.view();
        let watermarks = view.watermarks()?;
        let Some(closed_us) = watermarks.closed_before_us else { return Ok(()) };
        let stored_us = watermarks.stored_before_us.unwrap_or(Micros::MIN);
        if stored_us >= closed_us {
            return Ok(());
        }
        // Days without readings have no buckets, and days that come now are marked.
        let days: Vec<_> = view.chunks(stored_us, closed_us).map(|(day, _)| day).collect();
        drop(view);
        for day in days {
            let (day_us, next_us) = (day.saturating_mul(DAY_US), (day + 1).saturating_mul(DAY_US));
            let end_us = next_us.min(closed_us);
            let whole_day = end_us == next_us;
            let first_hour = if whole_day { day * 24 } else { keys::hour_of(stored_us.max(day_us)) };
            self.store_day(day, first_hour, (end_us, whole_day))?;
            self.changes.stored_before_us = Some(end_us);
            self.flush()?;
        }
        self.changes.stored_before_us = Some(closed_us);
        self.flush()
    }

    /// Every series of a day, from an hour on.
    fn store_day(
        &mut self,
        day: i64,
        first_hour: i64,
        (end_us, whole_day): (Micros, bool),
    ) -> Result<(), StoreError> {
        let view = self.keeping.view();
        let Some(chunk) = view.chunk(day) else { return Ok(()) };
        let floors = view.rollup_floors()?;
        let hours = first_hour..=keys::hour_of(end_us - 1);
        let (mut next, end) = (1, self.keeping.engine.catalogue.next());
        while next < end {
            let count = self.at_once(hours.clone().count()).min((end - next) as usize);
            let series = next..=next + (count as u32 - 1);
            let hours = hours.clone().map(|hour| (hour, vec![series.clone()])).collect();
            let plan = Plan { chunk, hours, end_us, whole_day, is_least: count == 1 };
            if let Some(rolled) = self.rolled(&view, &plan, count)? {
                let anew = if whole_day { Anew::Day } else { Anew::Hours(Hours::default()) };
                for (&series, rolled) in &rolled {
                    self.put(day, &floors, anew, series, rolled)?;
                }
                next += count as u32;
            }
        }
        Ok(())
    }

    /// Computes the hours that are marked again, and the days that hold them.
    fn mend(&mut self, (start_us, end_us): (Micros, Micros)) -> Result<(), StoreError> {
        let hours = keys::hour_of(start_us)..=keys::hour_of(end_us.saturating_sub(1));
        let mut first = keys::table(Table::Dirty).to_vec();
        loop {
            let looked = self.keeping.look()?;
            let view = self.keeping.view();
            let Some(last) = self.mend_from(&first, &view, looked, &hours)? else { return Ok(()) };
            first = last;
            first.push(0);
        }
    }

    /// Marks from a key on, as far as they are those of commits up to `looked`; answers the key of the last.
    fn mend_from(
        &mut self,
        first: &[u8],
        view: &View<'_>,
        looked: u64,
        hours: &RangeInclusive<i64>,
    ) -> Result<Option<Vec<u8>>, StoreError> {
        let end = keys::dirty(SeriesId(u32::MAX), i64::from(i32::MAX), u64::MAX);
        let mut marks = Vec::new();
        let mut last = None;
        view.scan_range(first, &end, |key, value| {
            let (series, day, commit) = keys::parse_dirty(key)?;
            last = Some(key.to_vec());
            if commit > looked && commit < keys::OF_NO_COMMIT {
                return Ok(true);
            }
            let (dirty, asked) = (Hours::decode(value)?, Hours::within(day, hours));
            if !dirty.and(asked).is_empty() {
                let (hours, others) = (dirty.and(asked), dirty.without(asked));
                marks.push(Mark { series, day, commit, hours, others });
            }
            Ok(marks.len() < MOST_MARKS)
        })?;
        marks.sort_unstable_by_key(|mark| (mark.day, mark.series, mark.commit));
        for of_day in marks.chunk_by(|a, b| a.day == b.day) {
            self.mend_day(view, of_day)?;
        }
        self.flush()?;
        Ok(last)
    }

    /// Marks of one day, by series.
    fn mend_day(&mut self, view: &View<'_>, marks: &[Mark]) -> Result<(), StoreError> {
        let day = marks[0].day;
        let next_us = (day + 1).saturating_mul(DAY_US);
        let stored_us = view.watermarks()?.stored_before_us.unwrap_or(Micros::MIN);
        let end_us = next_us.min(stored_us);
        let whole_day = end_us == next_us;
        let floors = view.rollup_floors()?;
        // Its rollups are all there is.
        let is_dropped = view.get(keys::dropped(Kind::Reading, day))?.is_some();
        let by_series: Vec<_> = marks.chunk_by(|a, b| a.series == b.series).collect();
        let mut rest = &by_series[..];
        while !rest.is_empty() {
            let count = self.at_once(24).min(rest.len());
            let group = &rest[..count];
            let mut rolled = BTreeMap::new();
            if let Some(chunk) = view.chunk(day) {
                let hours = if whole_day {
                    let series = near(group.iter().map(|marks| marks[0].series.0));
                    (day * 24..(day + 1) * 24).map(|hour| (hour, series.clone())).collect()
                } else {
                    hours_of(group, end_us)
                };
                let plan = Plan { chunk, hours, end_us, whole_day, is_least: count == 1 };
                let Some(computed) = self.rolled(view, &plan, count)? else { continue };
                rolled = computed;
            }
            for marks in group.iter().filter(|_| !is_dropped) {
                let series = marks[0].series;
                let anew = if whole_day { Anew::Day } else { Anew::Hours(hours_of_all(marks)) };
                self.put(day, &floors, anew, series, &rolled.remove(&series).unwrap_or_default())?;
            }
            for marks in group {
                for mark in *marks {
                    let key = keys::dirty(mark.series, day, mark.commit).to_vec();
                    if mark.others.is_empty() {
                        self.changes.drop_row(key);
                    } else {
                        self.changes.put_row(key, mark.others.encode().to_vec());
                    }
                }
                self.done.dirty_hours += hours_of_all(marks).count();
            }
            self.flush_if_full()?;
            rest = &rest[count..];
        }
        Ok(())
    }

    /// How many series to compute at once over so many hours.
    fn at_once(&self, hours: usize) -> usize {
        // Four quarters and the hour.
        self.at_once.min(MOST_BUCKETS / (5 * hours.max(1))).max(1)
    }

    /// What a plan for `count` series gives, unless that was too much; learns from it for the next.
    fn rolled(
        &mut self,
        view: &View<'_>,
        plan: &Plan<'_>,
        count: usize,
    ) -> Result<Option<BTreeMap<SeriesId, Rolled>>, StoreError> {
        let rolled = view.rolled(plan)?;
        match &rolled {
            None => self.at_once = (count / 2).max(1),
            Some(rolled) => {
                let days = rolled.values().flat_map(|rolled| rolled.of(Level::Day));
                let held: u64 = days.map(|day| day.count).sum();
                if held < MOST_HELD as u64 / 4 {
                    self.at_once = self.at_once.max((count * 2).min(MOST_BUCKETS));
                }
            }
        }
        Ok(rolled)
    }

    /// Puts the buckets of a series into the rows of their day. Others of what is known anew have no readings, and go.
    fn put(
        &mut self,
        day: i64,
        floors: &Floors,
        anew: Anew,
        series: SeriesId,
        rolled: &Rolled,
    ) -> Result<(), StoreError> {
        for level in Level::ALL {
            let key = keys::rollups(level, series, day);
            let is_kept =
                floors[level as usize].is_none_or(|floor_us| day.saturating_mul(DAY_US) >= floor_us);
            let found = rolled.of(level);
            if !is_kept || found.is_empty() && matches!(anew, Anew::Hours(hours) if hours.is_empty()) {
                continue;
            }
            let mut buckets = Day::new();
            let mut gone = false;
            if let (Anew::Hours(_), _) | (Anew::Day, true) = (anew, found.is_empty())
                && let Some(row) = self.keeping.engine.rollup(&key)?
            {
                let old = rollup::decode(level, day, &row, |bucket| {
                    if anew.holds(bucket.start_us) {
                        gone = true;
                    } else {
                        buckets.extend([(bucket.start_us, bucket)]);
                    }
                });
                old.map_err(undecodable)?;
            }
            buckets.extend(found.iter().map(|bucket| (bucket.start_us, *bucket)));
            self.done.buckets += found.len() as u64;
            if buckets.is_empty() && gone {
                self.changes.drop_rollups(key);
            } else if gone || !found.is_empty() {
                self.changes.put_rollups(key, level, &buckets);
            }
        }
        self.flush_if_full()
    }

    /// Notes what readings carry of days from before that was noted.
    fn tag(&mut self) -> Result<(), StoreError> {
        for day in self.keeping.view().untagged_days()? {
            let view = self.keeping.view();
            if let Some(chunk) = view.chunk(day) {
                for key in carried(&view, day, chunk)? {
                    self.changes.tag(day, key);
                    self.flush_if_full()?;
                }
            }
            self.changes.drop_row(keys::untagged(day).to_vec());
            self.flush()?;
        }
        Ok(())
    }

    fn flush_if_full(&mut self) -> Result<(), StoreError> {
        self.keeping.apply_if_full(&mut self.changes)
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.keeping.apply(std::mem::take(&mut self.changes))
    }
}

/// The keys that say which series of a day carry which tags.
fn carried(view: &View<'_>, day: i64, chunk: &Keyspace) -> Result<BTreeSet<[u8; 9]>, StoreError> {
    let mut keys = BTreeSet::new();
    let mut readings = Vec::new();
    for hour in day * 24..(day + 1) * 24 {
        view.check()?;
        let (first, last) = (keys::blocks_of_hour(hour, SeriesId(0)), SeriesId(u32::MAX));
        for guard in view.blocks_between(chunk, &first, &keys::last_block_of_hour(hour, last)) {
            let (key, value) = entry(guard)?;
            let key = BlockKey::decode(day, &key).map_err(undecodable)?;
            block::unpack(key.series, key.first_us, &value, &mut readings).map_err(undecodable)?;
            for reading in readings.drain(..) {
                keys.extend(Tag::all_of(&reading).map(|tag| keys::tagged_series(tag, reading.series)));
            }
        }
    }
    Ok(keys)
}

/// The hours before `end_us` of the marks of series, with the series that are marked in them.
fn hours_of(group: &[&[Mark]], end_us: Micros) -> Vec<(i64, Vec<RangeInclusive<u32>>)> {
    let mut hours: BTreeMap<i64, Vec<u32>> = BTreeMap::new();
    for marks in group {
        let (series, day) = (marks[0].series.0, marks[0].day);
        for hour in hours_of_all(marks).of(day).filter(|hour| hour.saturating_mul(HOUR_US) < end_us) {
            hours.entry(hour).or_default().push(series);
        }
    }
    hours.into_iter().map(|(hour, series)| (hour, near(series.into_iter()))).collect()
}

fn hours_of_all(marks: &[Mark]) -> Hours {
    marks.iter().fold(Hours::default(), |hours, mark| hours.or(mark.hours))
}

/// Numbers in order as ranges, with what lies between near ones.
fn near(numbers: impl Iterator<Item = u32>) -> Vec<RangeInclusive<u32>> {
    let mut ranges: Vec<RangeInclusive<u32>> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some(last) if number - last.end() <= NEAR => *last = *last.start()..=number,
            _ => ranges.push(number..=number),
        }
    }
    ranges
}

mod doubt;

#[cfg(test)]
mod tests;
