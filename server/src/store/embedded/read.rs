//! Reads, each over one view of whole commits.

use std::{cmp::Ordering, collections::BinaryHeap};

use fjall::{Keyspace, UserValue};

use super::{
    block,
    engine::{entry, undecodable},
    keys::{self, BlockKey, HOUR_US, MINUTE_US},
    open::Newest,
    rows,
    view::View,
    watch::Looked,
};
use crate::{
    model::{DAY_US, Micros, Milking, ProducerId, ProducerRow, Quarantined, Reading, SECOND_US, SeriesId},
    store::{Activity, Device, Latest, MilkingRange, QuarantineSpan, SeriesFilter, SeriesRange, StoreError},
};

/// A device is active if it was seen so lately.
const ACTIVE_US: Micros = 300 * SECOND_US;

impl View<'_> {
    /// The newest reading of each series that has one, in their order.
    pub(super) fn latest_of(&self, series: &[SeriesId]) -> Result<Vec<Reading>, StoreError> {
        // Asked for after the view was taken: what is known of a series reaches at least as far as what is seen of it.
        let catalogue = &self.engine.catalogue;
        let known: Vec<_> = series.iter().map(|&id| (id, catalogue.newest(id))).collect();
        // And no further, if nothing was committed in between.
        let is_newest = self.seen.commit == Some(self.engine.open.held().commit);
        let mut found = Vec::with_capacity(known.len());
        for (id, known) in known {
            self.check()?;
            let Some(known) = known else { continue };
            let Some(newest_hour) = known.hour() else { continue };
            let newest = match self.newest_open(id)? {
                None => self.latest(id, newest_hour)?,
                newest => newest,
            };
            if is_newest {
                catalogue.learn(id, known, newest.as_ref().map(|reading| keys::hour_of(reading.time_us)));
            }
            found.extend(newest);
        }
        Ok(found)
    }

    /// The series that match, each with its newest reading.
    pub(super) fn find_latest(&self, filter: &SeriesFilter) -> Result<Vec<Latest>, StoreError> {
        let series = self.series_of_device(filter)?;
        let ids: Vec<_> = series.iter().map(|(id, _)| *id).collect();
        let mut newest = self.latest_of(&ids)?.into_iter().peekable();
        let with_newest = |(id, key)| (id, key, newest.next_if(|reading| reading.series == id));
        Ok(series.into_iter().map(with_newest).collect())
    }

    pub(super) fn producer(&self, id: ProducerId) -> Result<Option<ProducerRow>, StoreError> {
        let row = self.get(keys::ledger(id))?;
        row.map(|value| rows::decode_producer(&value).map_err(undecodable)).transpose()
    }

    pub(super) fn quarantine(
        &self,
        producer: ProducerId,
        span: QuarantineSpan,
        limit: usize,
    ) -> Result<Vec<Quarantined>, StoreError> {
        let (offset, kind, index) = span.first;
        let mut found = Vec::new();
        if limit == 0 || offset > span.last {
            return Ok(found);
        }
        let first = keys::quarantine(producer, offset, kind, index);
        let last = keys::quarantine(producer, span.last, u8::MAX, u32::MAX);
        self.scan_range(&first, &last, |key, value| {
            found.push(rows::decode_quarantined(keys::parse_quarantine(key)?, value)?);
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }

    pub(super) fn device(&self, farm_id: i32, device_uid: &str) -> Result<Option<Device>, StoreError> {
        let Some(row) = self.get(keys::device(farm_id, device_uid))? else { return Ok(None) };
        let (number, device_type) = rows::decode_device(&row).map_err(undecodable)?;
        Ok(Some(self.with_status(farm_id, device_uid.to_owned(), number, device_type)))
    }

    /// A device with what was last heard of it.
    fn with_status(&self, farm_id: i32, device_uid: String, number: u32, device_type: String) -> Device {
        let status = self.engine.devices.get(number);
        Device {
            farm_id,
            device_uid,
            device_type,
            last_seen_us: status.map(|status| status.last_seen_us),
            battery_level: status.and_then(|status| Some(status.battery_level?.1)),
            signal_strength: status.and_then(|status| Some(status.signal_strength?.1)),
        }
    }

    pub(super) fn milkings(&self, range: &MilkingRange) -> Result<Vec<Milking>, StoreError> {
        let mut found = Vec::new();
        let mut skip = range.skip;
        if range.limit == 0 || range.start_us >= range.end_us {
            return Ok(found);
        }
        let first = keys::milkings_from(range.farm_id, range.start_us);
        let last = keys::milking(range.farm_id, range.end_us - 1, u64::MAX, u32::MAX);
        let dropped = self.dropped_milkings(range.start_us, range.end_us)?;
        self.scan_range(&first, &last, |_, value| {
            let milking = rows::decode_milking(value)?;
            if !dropped.is_empty() && dropped.contains(&milking.time_us.div_euclid(DAY_US)) {
                return Ok(true);
            }
            if range.animal_id.is_none_or(|animal| animal == milking.animal_id) {
                match skip {
                    0 => found.push(milking),
                    _ => skip -= 1,
                }
            }
            Ok(found.len() < range.limit)
        })?;
        Ok(found)
    }

    pub(super) fn devices(
        &self,
        farm_id: Option<i32>,
        after: Option<&(i32, String)>,
        limit: usize,
    ) -> Result<Vec<Device>, StoreError> {
        let mut found = Vec::new();
        if limit == 0 {
            return Ok(found);
        }
        let prefix = keys::devices_of_farm(farm_id);
        let mut last = prefix.clone();
        last.extend([0xff; 5]);
        let mut first = prefix;
        if let Some((farm, uid)) = after {
            first = first.max(keys::device(*farm, uid));
        }
        self.scan_range(&first, &last, |key, value| {
            let (farm_id, device_uid) = keys::parse_device(key)?;
            if after.is_some_and(|(farm, uid)| (*farm, uid) == (farm_id, &device_uid)) {
                return Ok(true);
            }
            let (number, device_type) = rows::decode_device(value)?;
            found.push(self.with_status(farm_id, device_uid, number, device_type));
            Ok(found.len() < limit)
        })?;
        Ok(found)
    }

    pub(super) fn activity(&self, now_us: Micros) -> Result<Activity, StoreError> {
        let now = now_us.div_euclid(MINUTE_US);
        let mut activity = Activity {
            active_devices: self.engine.devices.count_since(now_us.saturating_sub(ACTIVE_US)),
            ..Activity::default()
        };
        let day_ago = now - DAY_US / MINUTE_US + 1;
        let hour_ago = keys::activity(now - HOUR_US / MINUTE_US + 1);
        self.scan_range(&keys::activity(day_ago), &keys::activity(now), |minute, count| {
            let count = rows::decode_number(count)?;
            activity.readings_last_24h += count;
            if minute >= &hour_ago[..] {
                activity.readings_last_hour += count;
            }
            Ok(true)
        })?;
        Ok(activity)
    }

    pub(super) fn range(&self, range: &SeriesRange) -> Result<Vec<Reading>, StoreError> {
        let mut found = Found {
            skip: range.skip,
            limit: range.limit,
            text_bytes: range.text_bytes,
            readings: Vec::new(),
        };
        if range.limit == 0 || range.start_us >= range.end_us {
            return Ok(found.readings);
        }
        let first_hour = keys::hour_of(range.start_us);
        let last_hour = keys::hour_of(range.end_us - 1);
        for (day, chunk) in self.chunks(range.start_us, range.end_us) {
            for hour in (day * 24).max(first_hour)..=(day * 24 + 23).min(last_hour) {
                self.check()?;
                self.range_in_hour(chunk, hour, range, &mut found)?;
                if found.is_full() {
                    return Ok(found.readings);
                }
            }
        }
        Ok(found.readings)
    }

    /// Merges the blocks of an hour: they are in the order of their first times, but overlap.
    fn range_in_hour(
        &self,
        chunk: &Keyspace,
        hour: i64,
        range: &SeriesRange,
        found: &mut Found,
    ) -> Result<(), StoreError> {
        Looked::add(&self.looked.hours, 1);
        let mut waiting = BinaryHeap::new();
        let mut unpacked = Vec::new();
        for guard in self.blocks(chunk, &keys::blocks_of_hour(hour, range.series)) {
            let (key, value) = entry(guard)?;
            let key = BlockKey::decode(hour.div_euclid(24), &key).map_err(undecodable)?;
            if key.first_us >= range.end_us {
                break;
            }
            if block::peek(key.first_us, &value).map_err(undecodable)?.1 < range.start_us {
                continue;
            }
            // An equal time may stand in this block with a lower commit.
            while waiting.peek().is_some_and(|next: &Waiting| next.reading.time_us < key.first_us) {
                found.extend(waiting.pop().map(|next| next.reading));
            }
            if found.is_full() {
                return Ok(());
            }
            Looked::add(&self.looked.blocks, 1);
            block::unpack(key.series, key.first_us, &value, &mut unpacked).map_err(undecodable)?;
            Looked::add(&self.looked.readings, unpacked.len() as u64);
            for (place, reading) in unpacked.drain(..).enumerate() {
                let asked_for = range.tag.is_none_or(|tag| tag.is_on(&reading));
                if asked_for && (range.start_us..range.end_us).contains(&reading.time_us) {
                    waiting.push(Waiting { stamp: key.stamp, place, reading });
                }
            }
        }
        while let Some(next) = waiting.pop() {
            found.extend(Some(next.reading));
        }
        Ok(())
    }

    /// The newest reading of a series, if it lies in an open bucket.
    fn newest_open(&self, series: SeriesId) -> Result<Option<Reading>, StoreError> {
        let Some(Newest { block, reading, .. }) = self.seen.open.newest(series) else { return Ok(None) };
        if reading.is_some() {
            return Ok(reading.clone());
        }
        // Its day may have been dropped.
        let Some(chunk) = self.chunk(block.day()) else { return Ok(None) };
        Looked::add(&self.looked.blocks, 1);
        self.block(chunk, block)?.map_or(Ok(None), |value| last_in_block(block, &value))
    }

    /// The newest reading of a series, looked for back from the hour after which there is none.
    fn latest(&self, series: SeriesId, newest_hour: i64) -> Result<Option<Reading>, StoreError> {
        for (day, chunk) in self.days().rev().filter(|(day, _)| day * 24 <= newest_hour) {
            self.check()?;
            for hour in (day * 24..=newest_hour.min(day * 24 + 23)).rev() {
                if let Some(reading) = self.latest_in_hour(chunk, hour, series)? {
                    return Ok(Some(reading));
                }
            }
        }
        Ok(None)
    }

    fn latest_in_hour(
        &self,
        chunk: &Keyspace,
        hour: i64,
        series: SeriesId,
    ) -> Result<Option<Reading>, StoreError> {
        Looked::add(&self.looked.hours, 1);
        let mut newest: Option<(Newest, UserValue)> = None;
        for guard in self.blocks(chunk, &keys::blocks_of_hour(hour, series)).rev() {
            let (key, value) = entry(guard)?;
            let key = BlockKey::decode(hour.div_euclid(24), &key).map_err(undecodable)?;
            Looked::add(&self.looked.blocks, 1);
            let reaches_us = key.first_us.saturating_add(block::MAX_SPAN_US);
            if newest.as_ref().is_some_and(|(newest, _)| reaches_us < newest.last_us) {
                break;
            }
            let (_, last_us) = block::peek(key.first_us, &value).map_err(undecodable)?;
            let found = Newest::new(key, last_us);
            if newest.as_ref().is_none_or(|(newest, _)| found.is_after(newest)) {
                newest = Some((found, value));
            }
        }
        newest.map_or(Ok(None), |(newest, value)| last_in_block(&newest.block, &value))
    }
}

/// The reading that a block ends with.
fn last_in_block(key: &BlockKey, value: &[u8]) -> Result<Option<Reading>, StoreError> {
    let mut readings = Vec::new();
    block::unpack(key.series, key.first_us, value, &mut readings).map_err(undecodable)?;
    Ok(readings.pop())
}

/// Readings found, past those to be left out.
struct Found {
    skip: usize,
    limit: usize,
    text_bytes: usize,
    readings: Vec<Reading>,
}

impl Found {
    fn extend(&mut self, reading: Option<Reading>) {
        match (self.skip, reading) {
            (0, Some(reading)) if !self.is_full() => {
                self.text_bytes = self.text_bytes.saturating_sub(reading.text_bytes());
                self.readings.push(reading);
            }
            (0, _) | (_, None) => {}
            _ => self.skip -= 1,
        }
    }

    fn is_full(&self) -> bool {
        self.readings.len() == self.limit || self.text_bytes == 0
    }
}

/// A reading that waits for those that may come before it: by time, then commit, then place.
struct Waiting {
    stamp: u64,
    place: usize,
    reading: Reading,
}

impl Ord for Waiting {
    /// Turned around: the heap gives the greatest first.
    fn cmp(&self, other: &Self) -> Ordering {
        (other.reading.time_us, other.stamp, other.place).cmp(&(self.reading.time_us, self.stamp, self.place))
    }
}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Waiting {}
