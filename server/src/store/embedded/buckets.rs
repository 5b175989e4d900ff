//! Buckets: closed and clean ones from rollups, all others from readings; milk by day.

use super::{
    keys,
    late::{Floors, Watermarks},
    open::Open,
    rollup, rows,
    view::View,
    watch::Looked,
};
use crate::{
    model::{DAY_US, Micros, SeriesId},
    store::{
        Bucket, BucketRange, Cut, Level, MilkBucket, MilkRange, StoreError, Tag, lines::Lines,
        milk::MilkTally,
    },
};

/// What is asked of each series.
#[derive(Clone, Copy)]
struct Asked {
    level: Level,
    span_us: (Micros, Micros),
    tag: Option<Tag>,
    percentiles: bool,
}

/// What is known without a look at readings.
struct Kept<'a> {
    watermarks: Watermarks,
    floors: Floors,
    open: &'a Open,
}

impl Kept<'_> {
    /// The part of a span of which rollups are kept.
    fn of(&self, asked: Asked) -> Option<(Micros, Micros)> {
        let (start_us, end_us) = asked.span_us;
        let until_us = self.watermarks.stored_before_us(asked.level).min(end_us);
        let from_us = self.floors[asked.level as usize].map_or(start_us, |floor_us| floor_us.max(start_us));
        (asked.tag.is_none() && from_us < until_us).then_some((from_us, until_us))
    }

    /// The part of a span of which buckets are open.
    fn open(&self, asked: Asked) -> Option<(Micros, Micros)> {
        let (start_us, end_us) = asked.span_us;
        let from_us = self.open.since_us.max(start_us);
        (asked.tag.is_none() && from_us < end_us).then_some((from_us, end_us))
    }
}

impl View<'_> {
    /// Statistics of readings by line, then time.
    pub(super) fn buckets(&self, range: &BucketRange) -> Result<Vec<(u32, Bucket)>, StoreError> {
        let mut lines = Lines::new(range.cut.clone());
        let asked = Asked {
            level: range.cut.level(),
            span_us: (range.cut.start_us(), range.cut.end_us()),
            tag: range.tag,
            percentiles: range.percentiles && matches!(range.cut, Cut::Level { .. }),
        };
        let kept =
            Kept { watermarks: self.watermarks()?, floors: self.rollup_floors()?, open: &self.seen.open };
        for &(series, line) in &range.series {
            self.check()?;
            self.of_series(series, asked, &kept, &mut |bucket| lines.add(line, bucket))?;
        }
        Ok(lines.finish())
    }

    /// Shows buckets of a series, those that are not kept also in parts.
    fn of_series(
        &self,
        series: SeriesId,
        asked: Asked,
        kept: &Kept<'_>,
        see: &mut dyn FnMut(Bucket),
    ) -> Result<(), StoreError> {
        let Asked { level, span_us, tag, percentiles } = asked;
        let Some(kept_us) = kept.of(asked) else {
            return self.fresh(series, asked, kept, see);
        };
        let dirty = self.dirty_buckets(series, level, kept_us)?;
        self.rollups(level, series, kept_us, |bucket| {
            if dirty.binary_search(&bucket.start_us).is_err() {
                see(bucket);
            }
        })?;
        self.computed(level, series, tag, (span_us.0, kept_us.0), percentiles, &mut *see)?;
        for dirty_us in dirty {
            let span_us = (dirty_us, dirty_us + level.width_us());
            match level {
                Level::Day => self.fresh(series, Asked { span_us, ..asked }, kept, see)?,
                // None of its quarters is clean.
                _ => self.computed(level, series, tag, span_us, percentiles, &mut *see)?,
            }
        }
        self.fresh(series, Asked { span_us: (kept_us.1, span_us.1), ..asked }, kept, see)
    }

    /// Shows buckets that are not kept. They are put together from finer ones, most of which are kept or open, unless
    /// it is asked for percentiles.
    fn fresh(
        &self,
        series: SeriesId,
        asked: Asked,
        kept: &Kept<'_>,
        see: &mut dyn FnMut(Bucket),
    ) -> Result<(), StoreError> {
        let Asked { level, span_us, tag, percentiles } = asked;
        if let Some(level) = level.finer().filter(|_| !percentiles) {
            let finer = Asked { level, ..asked };
            if kept.of(finer).is_some() || kept.open(finer).is_some() {
                let part = &mut |finer| see(Bucket { median: None, p95: None, ..finer });
                return self.of_series(series, finer, kept, part);
            }
        }
        let open_us = kept.open(asked).filter(|_| level == Level::QuarterHour);
        let read_us = (span_us.0, open_us.map_or(span_us.1, |(from_us, _)| from_us));
        self.computed(level, series, tag, read_us, percentiles, &mut *see)?;
        if let Some(open_us) = open_us {
            kept.open.of(series, open_us).for_each(|bucket| {
                Looked::add(&self.looked.open, 1);
                see(bucket);
            });
        }
        Ok(())
    }

    /// Shows the kept buckets of a series with a start in a span.
    fn rollups(
        &self,
        level: Level,
        series: SeriesId,
        (start_us, end_us): (Micros, Micros),
        mut see: impl FnMut(Bucket),
    ) -> Result<(), StoreError> {
        let first = keys::rollups(level, series, start_us.div_euclid(DAY_US));
        let last = keys::rollups(level, series, (end_us - 1).div_euclid(DAY_US));
        self.scan_rollups(&first, &last, |key, value| {
            Looked::add(&self.looked.rollups, 1);
            rollup::decode(level, keys::parse_rollups(key)?, value, |bucket| {
                if (start_us..end_us).contains(&bucket.start_us) {
                    see(bucket);
                }
            })
        })
    }

    /// Milk by span, then animal. Days of which milkings were dropped are kept as they were then.
    pub(super) fn milk(&self, range: &MilkRange) -> Result<Vec<MilkBucket>, StoreError> {
        let (start_us, end_us) = (range.cut.start_us(), range.cut.end_us());
        let is_asked_for = |animal_id| range.animal_id.is_none_or(|asked| asked == animal_id);
        let mut found = Vec::new();
        if start_us >= end_us {
            return Ok(found);
        }
        let dropped = self.dropped_milkings(start_us, end_us)?;
        if matches!(range.cut, Cut::Level { .. }) && !dropped.is_empty() {
            let first = keys::milk_days_from(range.farm_id, start_us.div_euclid(DAY_US));
            let last = keys::milk_day(range.farm_id, (end_us - 1).div_euclid(DAY_US), i32::MAX);
            self.scan_range(&first, &last, |key, value| {
                let (_, day, animal_id) = keys::parse_milk_day(key)?;
                if is_asked_for(animal_id) && dropped.contains(&day) {
                    found.push(rows::decode_milk_day(day.saturating_mul(DAY_US), animal_id, value)?);
                }
                Ok(true)
            })?;
        }
        let mut tally = MilkTally::new(range.cut.clone());
        let first = keys::milkings_from(range.farm_id, start_us);
        let last = keys::milking(range.farm_id, end_us - 1, u64::MAX, u32::MAX);
        self.scan_range(&first, &last, |_, value| {
            let milking = rows::decode_milking(value)?;
            let is_kept = dropped.is_empty() || !dropped.contains(&milking.time_us.div_euclid(DAY_US));
            if is_kept && is_asked_for(milking.animal_id) {
                tally.add(&milking);
            }
            Ok(true)
        })?;
        found.extend(tally.finish());
        found.sort_unstable_by_key(|bucket| (bucket.start_us, bucket.animal_id));
        Ok(found)
    }
}
