//! Statistics computed from blocks: of one series for a query, of many for a refresh.

use std::{collections::BTreeMap, ops::RangeInclusive};

use fjall::Keyspace;

use super::{
    block::{self, Part, Values},
    engine::{entry, undecodable},
    keys::{self, BlockKey, HOUR_US},
    view::{ROWS_AT_ONCE, View},
    watch::Looked,
};
use crate::{
    model::{Micros, SeriesId},
    store::{Bucket, Level, StoreError, Tag, tally::Tally},
};

/// Values that are held at a time for the percentiles of days, at most: 32 MiB. More of a single series are looked
/// at several times instead.
pub(super) const MOST_HELD: usize = if cfg!(test) { 100 } else { 4 << 20 };

/// Readings of some series in one hour.
pub(super) struct InHour<'a> {
    pub(super) chunk: &'a Keyspace,
    /// From 1970.
    pub(super) hour: i64,
    /// Numbers of the series.
    pub(super) series: RangeInclusive<u32>,
    /// Start and end, the latter exclusive.
    pub(super) span_us: (Micros, Micros),
    pub(super) tag: Option<Tag>,
}

/// What is to be computed of a day, of several series at once.
pub(super) struct Plan<'a> {
    pub(super) chunk: &'a Keyspace,
    /// Hours from 1970, and numbers of the series that are looked at in them, both in order.
    pub(super) hours: Vec<(i64, Vec<RangeInclusive<u32>>)>,
    /// Only buckets that end by then.
    pub(super) end_us: Micros,
    /// All of its hours are looked at, and its own bucket is wanted.
    pub(super) whole_day: bool,
    /// It is about a single series, whatever that holds.
    pub(super) is_least: bool,
}

/// Buckets of a series on one day: those of each level in order.
#[derive(Default)]
pub(super) struct Rolled([Vec<Bucket>; 3]);

impl Rolled {
    pub(super) fn of(&self, level: Level) -> &[Bucket] {
        &self.0[level as usize]
    }

    fn push(&mut self, level: Level, bucket: Option<Bucket>) {
        self.0[level as usize].extend(bucket);
    }
}

impl View<'_> {
    /// Shows readings block by block, each in the order of their times, until `see` answers false.
    pub(super) fn readings(
        &self,
        asked: &InHour<'_>,
        mut see: impl FnMut(BlockKey, Part<'_>) -> Result<bool, StoreError>,
    ) -> Result<(), StoreError> {
        self.check()?;
        Looked::add(&self.looked.hours, 1);
        let (start_us, end_us) = asked.span_us;
        let first = keys::blocks_of_hour(asked.hour, SeriesId(*asked.series.start()));
        let last = keys::last_block_of_hour(asked.hour, SeriesId(*asked.series.end()));
        let mut values = Values::default();
        for (n, guard) in self.blocks_between(asked.chunk, &first, &last).enumerate() {
            if n % ROWS_AT_ONCE == ROWS_AT_ONCE - 1 {
                self.check()?;
            }
            let (key, bytes) = entry(guard)?;
            let key = BlockKey::decode(asked.hour.div_euclid(24), &key).map_err(undecodable)?;
            let (count, last_us) = block::peek(key.first_us, &bytes).map_err(undecodable)?;
            if key.first_us >= end_us || last_us < start_us {
                continue;
            }
            Looked::add(&self.looked.blocks, 1);
            Looked::add(&self.looked.readings, count as u64);
            values.unpack(key.first_us, &bytes, asked.tag).map_err(undecodable)?;
            if !see(key, values.all().between(start_us, end_us))? {
                break;
            }
        }
        Ok(())
    }

    /// Shows the buckets of a series in a span, computed from readings. The span begins and ends with a bucket.
    pub(super) fn computed(
        &self,
        level: Level,
        series: SeriesId,
        tag: Option<Tag>,
        span_us: (Micros, Micros),
        percentiles: bool,
        mut see: impl FnMut(Bucket),
    ) -> Result<(), StoreError> {
        for (day, chunk) in self.chunks(span_us.0, span_us.1) {
            let hours = hours_of(day, span_us);
            let mut open = Vec::new();
            for hour in hours.clone() {
                if open.is_empty() {
                    open = tallies(level, hour, percentiles);
                }
                let asked = InHour { chunk, hour, series: series.0..=series.0, span_us, tag };
                self.readings(&asked, |_, part| {
                    for tally in &mut open {
                        add(tally, level, part);
                    }
                    Ok(true)
                })?;
                if level == Level::Day && hour != *hours.end() {
                    continue;
                }
                for tally in open.drain(..) {
                    self.finished(tally, level, series, tag)?.map(&mut see);
                }
            }
        }
        Ok(())
    }

    /// What a plan asks for, by series; a series without readings is not told. None: it is about more values than
    /// are held at a time, and fewer series are to be asked for.
    pub(super) fn rolled(&self, plan: &Plan<'_>) -> Result<Option<BTreeMap<SeriesId, Rolled>>, StoreError> {
        let mut rolled: BTreeMap<SeriesId, Rolled> = BTreeMap::new();
        let mut days: BTreeMap<SeriesId, Tally> = BTreeMap::new();
        let mut held = 0;
        for (hour, ranges) in &plan.hours {
            let hour_us = hour.saturating_mul(HOUR_US);
            let levels = if hour_us.saturating_add(HOUR_US) <= plan.end_us {
                &[Level::QuarterHour, Level::Hour][..]
            } else {
                &[Level::QuarterHour]
            };
            let opened = |series| {
                let of_level =
                    |&level: &Level| tallies(level, *hour, true).into_iter().map(move |tally| (level, tally));
                (series, levels.iter().flat_map(of_level).collect::<Vec<_>>())
            };
            let mut close = |(series, open): (SeriesId, Vec<(Level, Tally)>)| -> Result<(), StoreError> {
                let of_series = rolled.entry(series).or_default();
                for (level, tally) in open {
                    of_series.push(level, self.finished(tally, level, series, None)?);
                }
                Ok(())
            };
            for series in ranges.iter().cloned() {
                let mut open: Option<(SeriesId, Vec<(Level, Tally)>)> = None;
                let span_us = (hour_us, plan.end_us);
                self.readings(
                    &InHour { chunk: plan.chunk, hour: *hour, series, span_us, tag: None },
                    |block, part| {
                        let series = block.series;
                        if let Some(done) = open.take_if(|(of, _)| *of != series) {
                            close(done)?;
                        }
                        let (_, tallies) = open.get_or_insert_with(|| opened(series));
                        for (level, tally) in tallies {
                            add(tally, *level, part);
                        }
                        if plan.whole_day {
                            let day = days
                                .entry(series)
                                .or_insert_with(|| Tally::new(Level::Day, Level::Day.floor(hour_us), true));
                            held -= day.held();
                            add(day, Level::Day, part);
                            held += day.held();
                        }
                        Ok(plan.is_least || held <= MOST_HELD)
                    },
                )?;
                if held > MOST_HELD && !plan.is_least {
                    return Ok(None);
                }
                open.map_or(Ok(()), &mut close)?;
            }
        }
        for (series, day) in days {
            let day = self.finished(day, Level::Day, series, None)?;
            rolled.entry(series).or_default().push(Level::Day, day);
        }
        Ok(Some(rolled))
    }

    /// The bucket of a tally, which shows its readings again if they were more than it holds.
    fn finished(
        &self,
        tally: Tally,
        level: Level,
        series: SeriesId,
        tag: Option<Tag>,
    ) -> Result<Option<Bucket>, StoreError> {
        let start_us = tally.start_us();
        let span_us = (start_us, start_us.saturating_add(level.width_us()));
        tally.finish(|see| {
            for (day, chunk) in self.chunks(span_us.0, span_us.1) {
                for hour in hours_of(day, span_us) {
                    let asked = InHour { chunk, hour, series: series.0..=series.0, span_us, tag };
                    self.readings(&asked, |_, part| {
                        see(part.values);
                        Ok(true)
                    })?;
                }
            }
            Ok(())
        })
    }
}

/// Hours of a day that reach into a span, from 1970.
pub(super) fn hours_of(day: i64, (start_us, end_us): (Micros, Micros)) -> RangeInclusive<i64> {
    (day * 24).max(keys::hour_of(start_us))..=(day * 24 + 23).min(keys::hour_of(end_us - 1))
}

/// Empty buckets of a level: those within an hour, or the one that holds it.
fn tallies(level: Level, hour: i64, percentiles: bool) -> Vec<Tally> {
    let start_us = level.floor(hour.saturating_mul(HOUR_US));
    let count = (HOUR_US / level.width_us()).max(1);
    (0..count)
        .map(|n| Tally::new(level, start_us.saturating_add(n * level.width_us()), percentiles))
        .collect()
}

fn add(tally: &mut Tally, level: Level, part: Part<'_>) {
    let part = part.between(tally.start_us(), tally.start_us().saturating_add(level.width_us()));
    tally.extend(part.values, part.qualities);
}
