//! Buckets: closed and clean ones from rollups, all others from readings; milk by day.

use super::{keys, rollup, rows, view::View, watch::Looked};
use crate::{
    model::{DAY_US, Micros, SeriesId},
    store::{
        Bucket, BucketRange, Cut, Level, MilkBucket, MilkRange, StoreError, lines::Lines, milk::MilkTally,
    },
};

impl View<'_> {
    /// Statistics of readings by line, then time.
    pub(super) fn buckets(&self, range: &BucketRange) -> Result<Vec<(u32, Bucket)>, StoreError> {
        let mut lines = Lines::new(range.cut.clone());
        let level = range.cut.level();
        let (start_us, end_us) = (range.cut.start_us(), range.cut.end_us());
        let percentiles = range.percentiles && matches!(range.cut, Cut::Level { .. });
        let kept = self.kept(level, (start_us, end_us), range.tag.is_none())?;
        let is_dirty = kept.is_some() && self.is_dirty()?;
        for &(series, line) in &range.series {
            self.check()?;
            let mut spans = vec![(start_us, end_us)];
            if let Some(kept) = kept {
                let dirty = if is_dirty { self.dirty_buckets(series, level, kept)? } else { Vec::new() };
                self.rollups(level, series, kept, |bucket| {
                    if dirty.binary_search(&bucket.start_us).is_err() {
                        lines.add(line, bucket);
                    }
                })?;
                spans = dirty.iter().map(|&dirty_us| (dirty_us, dirty_us + level.width_us())).collect();
                spans.extend([(start_us, kept.0), (kept.1, end_us)]);
            }
            for span in spans {
                self.computed(level, series, range.tag, span, percentiles, |bucket| lines.add(line, bucket))?;
            }
        }
        Ok(lines.finish())
    }

    /// The part of a span of which rollups of a level are kept.
    fn kept(
        &self,
        level: Level,
        (start_us, end_us): (Micros, Micros),
        is_of_all: bool,
    ) -> Result<Option<(Micros, Micros)>, StoreError> {
        let until_us = self.watermarks()?.stored_before_us(level).min(end_us);
        let from_us =
            self.rollup_floors()?[level as usize].map_or(start_us, |floor_us| floor_us.max(start_us));
        Ok((is_of_all && from_us < until_us).then_some((from_us, until_us)))
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
