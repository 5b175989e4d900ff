//! Keys of the two kinds of keyspace: `rows` (everything small) and one of blocks per UTC day.
//!
//! Numbers are big-endian, signed ones with the sign bit flipped, so that bytes sort as numbers do.

use super::codec::{Input, Undecodable};
use crate::model::{DAY_US, Micros, Offset, ProducerId, RejectionKind, SECOND_US, SeriesId, SeriesKey};

/// Microseconds in an hour: no block of readings crosses one.
pub(super) const HOUR_US: Micros = 3600 * SECOND_US;

/// Microseconds in a minute: the grain of the activity counters.
pub(super) const MINUTE_US: Micros = 60 * SECOND_US;

/// First byte of a key in `rows`. The numbers are the format.
#[derive(Clone, Copy)]
#[repr(u8)]
pub(super) enum Table {
    Meta = 1,
    /// Series by its tuple.
    Series = 2,
    /// Series by its number.
    SeriesById = 3,
    Devices = 4,
    /// Status by device number.
    Status = 5,
    /// What each commit changed in the statuses, until they are written.
    Touches = 6,
    Ledger = 7,
    Quarantine = 8,
    Milkings = 9,
    Activity = 10,
    /// Day chunks that are being dropped.
    Tombstones = 11,
    /// Hours of series that got readings after they were closed, each by itself: as format 2 noted them.
    DirtyHours = 12,
    /// Days of readings or milkings that retention dropped.
    Dropped = 13,
    /// What was written into days: of readings what was late, of milkings everything.
    Written = 14,
    /// Milk by animal of the days that were dropped.
    MilkDays = 15,
    /// Days from before readings were found by animal and zone.
    Untagged = 16,
    /// Farms that have a device of a name.
    Homes = 17,
    /// Hours of a day of a series that got readings after they were closed, by commit.
    Dirty = 18,
}

/// Number of the last commit.
pub(super) const LAST_COMMIT: [u8; 2] = [Table::Meta as u8, 1];

/// Up to where buckets are closed, and up to where they are kept.
pub(super) const WATERMARKS: [u8; 2] = [Table::Meta as u8, 2];

/// What was dropped of the rollups.
pub(super) const ROLLUP_FLOORS: [u8; 2] = [Table::Meta as u8, 3];

/// Says that nothing is missing that directories of before did not have.
pub(super) const COMPLETE: [u8; 2] = [Table::Meta as u8, 4];

/// Every key of a table.
pub(super) fn table(table: Table) -> [u8; 1] {
    [table as u8]
}

fn ordered(value: i64) -> [u8; 8] {
    ((value as u64) ^ (1 << 63)).to_be_bytes()
}

fn unordered(bytes: [u8; 8]) -> i64 {
    (u64::from_be_bytes(bytes) ^ (1 << 63)) as i64
}

fn ordered_farm(farm_id: i32) -> [u8; 4] {
    ((farm_id as u32) ^ (1 << 31)).to_be_bytes()
}

fn unordered_farm(bytes: [u8; 4]) -> i32 {
    (u32::from_be_bytes(bytes) ^ (1 << 31)) as i32
}

/// A text that sorts before its own extensions: 0 is escaped, and 0 0 ends it.
fn put_ordered_text(key: &mut Vec<u8>, text: &str) {
    for &byte in text.as_bytes() {
        key.push(byte);
        if byte == 0 {
            key.push(0xff);
        }
    }
    key.extend_from_slice(&[0, 0]);
}

fn ordered_text(input: &mut Input<'_>) -> Result<String, Undecodable> {
    let mut bytes = Vec::new();
    loop {
        match input.byte()? {
            0 if input.byte()? == 0 => break,
            byte => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).map_err(|_| Undecodable("a text is not UTF-8"))
}

/// Series of a farm, or all.
pub(super) fn series_of_farm(farm_id: Option<i32>) -> Vec<u8> {
    let mut key = vec![Table::Series as u8];
    key.extend(farm_id.into_iter().flat_map(ordered_farm));
    key
}

/// Series of a device.
pub(super) fn series_of_device(farm_id: i32, device_uid: &str) -> Vec<u8> {
    let mut key = series_of_farm(Some(farm_id));
    put_ordered_text(&mut key, device_uid);
    key
}

pub(super) fn series(series: &SeriesKey) -> Vec<u8> {
    let mut key = series_of_device(series.farm_id, &series.device_uid);
    for text in [&series.device_type, &series.metric_name, &series.metric_unit] {
        put_ordered_text(&mut key, text);
    }
    key
}

/// The tuple inside the key of [`series`].
pub(super) fn parse_series(key: &[u8]) -> Result<SeriesKey, Undecodable> {
    let mut input = Input(key);
    input.byte()?;
    let key = SeriesKey {
        farm_id: unordered_farm(input.array()?),
        device_uid: ordered_text(&mut input)?,
        device_type: ordered_text(&mut input)?,
        metric_name: ordered_text(&mut input)?,
        metric_unit: ordered_text(&mut input)?,
    };
    input.finish()?;
    Ok(key)
}

pub(super) fn series_by_id(id: SeriesId) -> [u8; 5] {
    numbered(Table::SeriesById, id.0)
}

pub(super) fn status(device: u32) -> [u8; 5] {
    numbered(Table::Status, device)
}

fn numbered(table: Table, number: u32) -> [u8; 5] {
    let [a, b, c, d] = number.to_be_bytes();
    [table as u8, a, b, c, d]
}

/// The number inside a key of [`series_by_id`] or [`status`].
pub(super) fn parse_numbered(key: &[u8]) -> Result<u32, Undecodable> {
    let mut input = Input(key);
    input.byte()?;
    let number = u32::from_be_bytes(input.array()?);
    input.finish()?;
    Ok(number)
}

pub(super) fn devices_of_farm(farm_id: Option<i32>) -> Vec<u8> {
    let mut key = vec![Table::Devices as u8];
    key.extend(farm_id.into_iter().flat_map(ordered_farm));
    key
}

pub(super) fn device(farm_id: i32, device_uid: &str) -> Vec<u8> {
    let mut key = devices_of_farm(Some(farm_id));
    put_ordered_text(&mut key, device_uid);
    key
}

/// Farms that have a device of this name.
pub(super) fn homes(device_uid: &str) -> Vec<u8> {
    let mut key = vec![Table::Homes as u8];
    put_ordered_text(&mut key, device_uid);
    key
}

/// One of [`homes`].
pub(super) fn home(device_uid: &str, farm_id: i32) -> Vec<u8> {
    let mut key = homes(device_uid);
    key.extend(ordered_farm(farm_id));
    key
}

/// The farm inside the key of [`home`].
pub(super) fn parse_home(key: &[u8]) -> Result<i32, Undecodable> {
    let farm = key.last_chunk().ok_or(Undecodable("a home has no farm"))?;
    Ok(unordered_farm(*farm))
}

/// Farm and identifier inside the key of [`device`].
pub(super) fn parse_device(key: &[u8]) -> Result<(i32, String), Undecodable> {
    let mut input = Input(key);
    input.byte()?;
    let device = (unordered_farm(input.array()?), ordered_text(&mut input)?);
    input.finish()?;
    Ok(device)
}

pub(super) fn touches(commit: u64) -> [u8; 9] {
    numbered_long(Table::Touches, commit.to_be_bytes())
}

/// The commit inside the key of [`touches`].
pub(super) fn parse_touches(key: &[u8]) -> Result<u64, Undecodable> {
    let mut input = Input(key);
    input.byte()?;
    Ok(u64::from_be_bytes(input.array()?))
}

pub(super) fn activity(minute: i64) -> [u8; 9] {
    numbered_long(Table::Activity, ordered(minute))
}

pub(super) fn tombstone(day: i64) -> [u8; 9] {
    numbered_long(Table::Tombstones, ordered(day))
}

/// The day inside the key of [`tombstone`].
pub(super) fn parse_tombstone(key: &[u8]) -> Result<i64, Undecodable> {
    let mut input = Input(key);
    input.byte()?;
    Ok(unordered(input.array()?))
}

fn numbered_long(table: Table, number: [u8; 8]) -> [u8; 9] {
    let mut key = [table as u8; 9];
    key[1..].copy_from_slice(&number);
    key
}

pub(super) fn ledger(producer: ProducerId) -> [u8; 17] {
    let mut key = [Table::Ledger as u8; 17];
    key[1..].copy_from_slice(producer.as_bytes());
    key
}

pub(super) fn quarantine(producer: ProducerId, offset: Offset, kind: u8, index: u32) -> [u8; 30] {
    let mut key = [Table::Quarantine as u8; 30];
    key[1..17].copy_from_slice(producer.as_bytes());
    key[17..25].copy_from_slice(&offset.to_be_bytes());
    key[25] = kind;
    key[26..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Offset, kind and index inside the key of [`quarantine`].
pub(super) fn parse_quarantine(key: &[u8]) -> Result<(Offset, RejectionKind, u32), Undecodable> {
    let mut input = Input(key);
    input.take(17)?;
    let offset = Offset::from_be_bytes(input.array()?);
    let kind = match input.byte()? {
        1 => RejectionKind::Reading,
        2 => RejectionKind::Milking,
        3 => RejectionKind::Series,
        _ => return Err(Undecodable("an unknown kind of rejection")),
    };
    Ok((offset, kind, u32::from_be_bytes(input.array()?)))
}

/// Milkings of a farm from a time on.
pub(super) fn milkings_from(farm_id: i32, time_us: Micros) -> [u8; 13] {
    let mut key = [Table::Milkings as u8; 13];
    key[1..5].copy_from_slice(&ordered_farm(farm_id));
    key[5..].copy_from_slice(&ordered(time_us));
    key
}

/// The commit and the position in it keep equal times apart, and in order.
pub(super) fn milking(farm_id: i32, time_us: Micros, commit: u64, index: u32) -> [u8; 25] {
    let mut key = [0; 25];
    key[..13].copy_from_slice(&milkings_from(farm_id, time_us));
    key[13..21].copy_from_slice(&commit.to_be_bytes());
    key[21..].copy_from_slice(&index.to_be_bytes());
    key
}

/// Name of a day's keyspace; days count from 1970-01-01.
pub(super) fn chunk(day: i64) -> String {
    format!("day{day}")
}

/// The day in the name of a [`chunk`].
pub(super) fn parse_chunk(name: &str) -> Option<i64> {
    name.strip_prefix("day")?.parse().ok()
}

/// The hour of a time, from 1970.
pub(super) fn hour_of(time_us: Micros) -> i64 {
    time_us.div_euclid(HOUR_US)
}

/// Where a block lies in its day's keyspace.
///
/// The hour stands before the series: live readings then touch only the newest keys, so that compaction
/// leaves the earlier hours of the day alone, and a series of one hour still lies together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BlockKey {
    pub(super) series: SeriesId,
    pub(super) first_us: Micros,
    /// Commit number, and which of its blocks with this series and time: `commit << 16 | ordinal`.
    pub(super) stamp: u64,
}

/// Bytes of an encoded [`BlockKey`]: below 20, the most that fjall keeps without an allocation.
pub(super) const BLOCK_KEY_BYTES: usize = 17;

impl BlockKey {
    pub(super) fn day(&self) -> i64 {
        self.first_us.div_euclid(DAY_US)
    }

    pub(super) fn encode(&self) -> [u8; BLOCK_KEY_BYTES] {
        let mut key = [0; BLOCK_KEY_BYTES];
        key[..5].copy_from_slice(&blocks_of_hour(hour_of(self.first_us), self.series));
        // An hour has 3.6e9 µs: below 2^32.
        key[5..9].copy_from_slice(&(self.first_us.rem_euclid(HOUR_US) as u32).to_be_bytes());
        key[9..].copy_from_slice(&self.stamp.to_be_bytes());
        key
    }

    pub(super) fn decode(day: i64, key: &[u8]) -> Result<Self, Undecodable> {
        let mut input = Input(key);
        let hour = i64::from(input.byte()?);
        let series = SeriesId(u32::from_be_bytes(input.array()?));
        let within = i64::from(u32::from_be_bytes(input.array()?));
        let stamp = u64::from_be_bytes(input.array()?);
        input.finish()?;
        if hour >= 24 || within >= HOUR_US {
            return Err(Undecodable("a time is beyond its day"));
        }
        // The start of the first day that 64 bits reach lies before what they reach.
        let first_us = i128::from(day) * i128::from(DAY_US) + i128::from(hour * HOUR_US + within);
        let first_us = Micros::try_from(first_us).map_err(|_| Undecodable("a time is out of range"))?;
        Ok(Self { series, first_us, stamp })
    }
}

/// Blocks of a series in an hour (counted from 1970) of a day's keyspace.
pub(super) fn blocks_of_hour(hour: i64, series: SeriesId) -> [u8; 5] {
    let [a, b, c, d] = series.0.to_be_bytes();
    [hour.rem_euclid(24) as u8, a, b, c, d]
}

/// Not before any block of a series in an hour, nor behind any of the next series.
pub(super) fn last_block_of_hour(hour: i64, series: SeriesId) -> [u8; BLOCK_KEY_BYTES] {
    let mut key = [0xff; BLOCK_KEY_BYTES];
    key[..5].copy_from_slice(&blocks_of_hour(hour, series));
    key
}

mod lifecycle;

pub(super) use lifecycle::*;

#[cfg(test)]
mod tests;
