//! Keys of what closes, is kept as rollups, and goes.

use super::{
    super::codec::{Input, Undecodable},
    MINUTE_US, Table, activity, milking, milkings_from, numbered, numbered_long, ordered, ordered_farm,
    unordered, unordered_farm,
};
use crate::{
    model::{DAY_US, Micros, SeriesId},
    store::{Level, Tag},
};

/// Numbers from here on are of no commit: nobody relies on marks that carry them.
pub(in crate::store::embedded) const OF_NO_COMMIT: u64 = u64::MAX - 24;

/// What a commit made dirty of a series on a day, from 1970. Every commit has a row of its own: it need not know
/// what was noted before, and a refresh takes away what it saw and nothing that came later.
pub(in crate::store::embedded) fn dirty(series: SeriesId, day: i64, commit: u64) -> [u8; 17] {
    let mut key = [0; 17];
    key[..5].copy_from_slice(&numbered(Table::Dirty, series.0));
    // Microseconds of 64 bits reach over days of 28.
    key[5..9].copy_from_slice(&ordered_farm(day as i32));
    key[9..].copy_from_slice(&commit.to_be_bytes());
    key
}

/// Series, day and commit inside the key of [`dirty`].
pub(in crate::store::embedded) fn parse_dirty(key: &[u8]) -> Result<(SeriesId, i64, u64), Undecodable> {
    let mut input = Input(key);
    input.byte()?;
    let series = SeriesId(u32::from_be_bytes(input.array()?));
    let day = i64::from(unordered_farm(input.array()?));
    let commit = u64::from_be_bytes(input.array()?);
    input.finish()?;
    Ok((series, day, commit))
}

/// Series and hour, from 1970, inside a key of [`Table::DirtyHours`].
pub(in crate::store::embedded) fn parse_dirty_hour(key: &[u8]) -> Result<(SeriesId, i64), Undecodable> {
    let mut input = Input(key);
    input.byte()?;
    let series = SeriesId(u32::from_be_bytes(input.array()?));
    let hour = unordered(input.array()?);
    input.finish()?;
    Ok((series, hour))
}

/// What days are of. The numbers are the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub(in crate::store::embedded) enum Kind {
    Reading = 1,
    Milking = 2,
}

/// A day that was dropped, from 1970.
pub(in crate::store::embedded) fn dropped(kind: Kind, day: i64) -> [u8; 10] {
    of_day(Table::Dropped, kind, day)
}

/// What was written into a day.
pub(in crate::store::embedded) fn written(kind: Kind, day: i64) -> [u8; 10] {
    of_day(Table::Written, kind, day)
}

/// Days that were dropped.
pub(in crate::store::embedded) fn dropped_of(kind: Kind) -> [u8; 2] {
    [Table::Dropped as u8, kind as u8]
}

/// Days that were written into.
pub(in crate::store::embedded) fn written_of(kind: Kind) -> [u8; 2] {
    [Table::Written as u8, kind as u8]
}

fn of_day(table: Table, kind: Kind, day: i64) -> [u8; 10] {
    let mut key = [table as u8; 10];
    key[1] = kind as u8;
    key[2..].copy_from_slice(&ordered(day));
    key
}

/// Kind and day inside the key of [`dropped`] or [`written`].
pub(in crate::store::embedded) fn parse_of_day(key: &[u8]) -> Result<(Kind, i64), Undecodable> {
    let mut input = Input(key);
    input.byte()?;
    let kind = match input.byte()? {
        1 => Kind::Reading,
        2 => Kind::Milking,
        _ => return Err(Undecodable("an unknown kind of day")),
    };
    let day = unordered(input.array()?);
    input.finish()?;
    Ok((kind, day))
}

/// Milk of a farm from a day on.
pub(in crate::store::embedded) fn milk_days_from(farm_id: i32, day: i64) -> [u8; 13] {
    let mut key = [Table::MilkDays as u8; 13];
    key[1..5].copy_from_slice(&ordered_farm(farm_id));
    key[5..].copy_from_slice(&ordered(day));
    key
}

pub(in crate::store::embedded) fn milk_day(farm_id: i32, day: i64, animal_id: i32) -> [u8; 17] {
    let mut key = [0; 17];
    key[..13].copy_from_slice(&milk_days_from(farm_id, day));
    key[13..].copy_from_slice(&ordered_farm(animal_id));
    key
}

/// Farm, day and animal inside the key of [`milk_day`].
pub(in crate::store::embedded) fn parse_milk_day(key: &[u8]) -> Result<(i32, i64, i32), Undecodable> {
    let mut input = Input(key);
    input.byte()?;
    let farm_id = unordered_farm(input.array()?);
    let day = unordered(input.array()?);
    let animal_id = unordered_farm(input.array()?);
    input.finish()?;
    Ok((farm_id, day, animal_id))
}

/// Keys between which the activity counters of a day lie.
pub(in crate::store::embedded) fn activity_of_day(day: i64) -> ([u8; 9], [u8; 9]) {
    let first = day * (DAY_US / MINUTE_US);
    (activity(first), activity(first + DAY_US / MINUTE_US - 1))
}

/// Keys between which the milkings of a farm on a day lie.
pub(in crate::store::embedded) fn milkings_of_day(farm_id: i32, day: i64) -> ([u8; 13], [u8; 25]) {
    let (start_us, end_us) = (day.saturating_mul(DAY_US), (day + 1).saturating_mul(DAY_US));
    (milkings_from(farm_id, start_us), milking(farm_id, end_us - 1, u64::MAX, u32::MAX))
}

/// A day whose readings are not found by tag.
pub(in crate::store::embedded) fn untagged(day: i64) -> [u8; 9] {
    numbered_long(Table::Untagged, ordered(day))
}

/// Farm and time inside the key of [`milking`].
pub(in crate::store::embedded) fn parse_milking(key: &[u8]) -> Result<(i32, Micros), Undecodable> {
    let mut input = Input(key);
    input.byte()?;
    Ok((unordered_farm(input.array()?), unordered(input.array()?)))
}

/// Rollups of a level of a series from a day on, in their own keyspace.
pub(in crate::store::embedded) fn rollups(level: Level, series: SeriesId, day: i64) -> [u8; 13] {
    let mut key = [level as u8; 13];
    key[1..5].copy_from_slice(&series.0.to_be_bytes());
    key[5..].copy_from_slice(&ordered(day));
    key
}

/// The day inside the key of [`rollups`].
pub(in crate::store::embedded) fn parse_rollups(key: &[u8]) -> Result<i64, Undecodable> {
    let mut input = Input(key);
    input.take(5)?;
    let day = unordered(input.array()?);
    input.finish()?;
    Ok(day)
}

/// Series of a day that carry a tag, in the day's keyspace: behind the hours, which end at 23, so that they go
/// with the day.
pub(in crate::store::embedded) fn tagged(tag: Tag) -> [u8; 5] {
    let (kind, id) = match tag {
        Tag::Animal(id) => (24, id),
        Tag::Zone(id) => (25, id),
    };
    let [a, b, c, d] = ordered_farm(id);
    [kind, a, b, c, d]
}

pub(in crate::store::embedded) fn tagged_series(tag: Tag, series: SeriesId) -> [u8; 9] {
    let mut key = [0; 9];
    key[..5].copy_from_slice(&tagged(tag));
    key[5..].copy_from_slice(&series.0.to_be_bytes());
    key
}

/// The series inside the key of [`tagged_series`].
pub(in crate::store::embedded) fn parse_tagged_series(key: &[u8]) -> Result<SeriesId, Undecodable> {
    let mut input = Input(key);
    input.take(5)?;
    let series = SeriesId(u32::from_be_bytes(input.array()?));
    input.finish()?;
    Ok(series)
}
