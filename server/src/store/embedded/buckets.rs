//! Buckets: closed and clean ones from rollups, all others from readings; milk by day.

use std::collections::BTreeMap;

use super::{
    block,
    engine::{View, entry, undecodable},
    keys::{self, BlockKey},
    rollup, rows,
    watch::Looked,
};
use crate::{
    model::{DAY_US, Micros, Reading, SeriesId},
    store::{
        Bucket, BucketRange, Cut, Level, MilkBucket, MilkRange, StoreError, Tag, lines::Lines,
        milk::MilkTally, tally::Tally,
    },
};

impl View<'_> {
    /// Statistics of readings by line, then time.
    pub(super) fn buckets(&self, range: &BucketRange) -> Result<Vec<(u32, Bucket)>, StoreError> {
        let mut lines = Lines::new(range.cut.clone());
        let level = range.cut.level();
        let (start_us, end_us) = (range.cut.start_us(), range.cut.end_us());
        let percentiles = range.percentiles && matches!(range.cut, Cut::Level { .. });
        let stored_us = match range.tag {
            Some(_) => Micros::MIN,
            None => self.watermarks()?.stored_before_us(level).min(end_us),
        };
        for &(series, line) in &range.series {
            self.watch.check()?;
            let dirty = self.dirty_buckets(series, level, (start_us, stored_us))?;
            self.rollups(level, series, (start_us, stored_us), |bucket| {
                if dirty.binary_search(&bucket.start_us).is_err() {
                    lines.add(line, bucket);
                }
            })?;
            let spans = dirty.iter().map(|&dirty_us| (dirty_us, dirty_us + level.width_us()));
            for span in spans.chain([(start_us.max(stored_us), end_us)]) {
                self.computed(level, series, range.tag, span, percentiles, |bucket| lines.add(line, bucket))?;
            }
        }
        Ok(lines.finish())
    }

    /// Shows the kept buckets of a series with a start in a span.
    fn rollups(
        &self,
        level: Level,
        series: SeriesId,
        (start_us, end_us): (Micros, Micros),
        mut see: impl FnMut(Bucket),
    ) -> Result<(), StoreError> {
        if start_us >= end_us {
            return Ok(());
        }
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

    /// Shows the buckets of a series in a span, computed from readings. The span begins and ends with a bucket.
    pub(super) fn computed(
        &self,
        level: Level,
        series: SeriesId,
        tag: Option<Tag>,
        (start_us, end_us): (Micros, Micros),
        percentiles: bool,
        mut see: impl FnMut(Bucket),
    ) -> Result<(), StoreError> {
        let mut tally: Option<Tally> = None;
        let mut done = |tally: Tally| -> Result<(), StoreError> {
            let span = (tally.start_us(), tally.start_us().saturating_add(level.width_us()));
            let bucket = tally.finish(|value| {
                self.each_reading(series, span, |reading| {
                    if tag.is_none_or(|tag| tag.is_on(reading)) {
                        value(reading.value);
                    }
                    Ok(())
                })
            })?;
            bucket.map(&mut see);
            Ok(())
        };
        // Hours come in order, and no bucket of an hour or less crosses one; within an hour nothing is in order.
        let mut quarters: BTreeMap<Micros, Tally> = BTreeMap::new();
        let mut hour = None;
        self.each_reading(series, (start_us, end_us), |reading| {
            if tag.is_some_and(|tag| !tag.is_on(reading)) {
                return Ok(());
            }
            let bucket_us = level.floor(reading.time_us);
            if level == Level::QuarterHour {
                if hour != Some(keys::hour_of(reading.time_us)) {
                    hour = Some(keys::hour_of(reading.time_us));
                    std::mem::take(&mut quarters).into_values().try_for_each(&mut done)?;
                }
                let quarter =
                    quarters.entry(bucket_us).or_insert_with(|| Tally::new(level, bucket_us, false));
                quarter.add(reading.value, reading.quality);
                return Ok(());
            }
            if tally.as_ref().is_none_or(|tally| tally.start_us() != bucket_us)
                && let Some(full) = tally.replace(Tally::new(level, bucket_us, percentiles))
            {
                done(full)?;
            }
            if let Some(tally) = &mut tally {
                tally.add(reading.value, reading.quality);
            }
            Ok(())
        })?;
        quarters.into_values().chain(tally).try_for_each(done)
    }

    /// Shows the readings of a series in a span: hour by hour, in no order within an hour.
    pub(super) fn each_reading(
        &self,
        series: SeriesId,
        (start_us, end_us): (Micros, Micros),
        mut see: impl FnMut(&Reading) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        if start_us >= end_us {
            return Ok(());
        }
        let (first_hour, last_hour) = (keys::hour_of(start_us), keys::hour_of(end_us - 1));
        let mut unpacked = Vec::new();
        for day in self.engine.days() {
            let hours = (day * 24).max(first_hour)..=(day * 24 + 23).min(last_hour);
            let Some(chunk) = self.engine.chunk(day).filter(|_| !hours.is_empty()) else { continue };
            for hour in hours {
                self.watch.check()?;
                Looked::add(&self.looked.hours, 1);
                for guard in self.blocks(&chunk, &keys::blocks_of_hour(hour, series)) {
                    let (key, value) = entry(guard)?;
                    let key = BlockKey::decode(day, &key).map_err(undecodable)?;
                    if key.first_us >= end_us {
                        break;
                    }
                    if block::peek(key.first_us, &value).map_err(undecodable)?.1 < start_us {
                        continue;
                    }
                    Looked::add(&self.looked.blocks, 1);
                    block::unpack(series, key.first_us, &value, &mut unpacked).map_err(undecodable)?;
                    Looked::add(&self.looked.readings, unpacked.len() as u64);
                    for reading in unpacked.drain(..) {
                        if (start_us..end_us).contains(&reading.time_us) {
                            see(&reading)?;
                        }
                    }
                }
            }
        }
        Ok(())
    }

    /// Milk by span, then animal. Days of which milkings were dropped are kept as they were then.
    pub(super) fn milk(&self, range: &MilkRange) -> Result<Vec<MilkBucket>, StoreError> {
        let (start_us, end_us) = (range.cut.start_us(), range.cut.end_us());
        let is_asked_for = |animal_id| range.animal_id.is_none_or(|asked| asked == animal_id);
        let mut found = Vec::new();
        if start_us >= end_us {
            return Ok(found);
        }
        if matches!(range.cut, Cut::Level { .. }) {
            let first = keys::milk_days_from(range.farm_id, start_us.div_euclid(DAY_US));
            let last = keys::milk_day(range.farm_id, (end_us - 1).div_euclid(DAY_US), i32::MAX);
            self.scan_range(&first, &last, |key, value| {
                let (_, day, animal_id) = keys::parse_milk_day(key)?;
                if is_asked_for(animal_id) {
                    found.push(rows::decode_milk_day(day * DAY_US, animal_id, value)?);
                }
                Ok(true)
            })?;
        }
        let mut tally = MilkTally::new(range.cut.clone());
        let first = keys::milkings_from(range.farm_id, start_us);
        let last = keys::milking(range.farm_id, end_us - 1, u64::MAX, u32::MAX);
        self.scan_range(&first, &last, |_, value| {
            let milking = rows::decode_milking(value)?;
            if is_asked_for(milking.animal_id) {
                tally.add(&milking);
            }
            Ok(true)
        })?;
        found.extend(tally.finish());
        found.sort_unstable_by_key(|bucket| (bucket.start_us, bucket.animal_id));
        Ok(found)
    }
}
