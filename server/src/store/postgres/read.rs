//! Readings of series.

use std::collections::{HashMap, HashSet};

use sqlx::postgres::PgRow;

use super::{
    Shared,
    aggregate::animal_and_zone,
    columns::{Columns, Time},
    error::unavailable,
    ledger::signed,
    reading::{Reader, Statement},
    series, time,
};
use crate::{
    model::{DAY_US, Micros, Quality, Reading, SeriesId, now_us},
    store::{Latest, SeriesFilter, SeriesRange, StoreError},
};

/// The newest readings are looked for from so long ago on first: most series have one, and most chunks are older.
const RECENTLY_US: Micros = DAY_US;

/// Place of the column at which a series' newest reading begins.
const NEWEST: usize = 6;

/// The newest reading of each series that has one.
pub(super) async fn latest(reader: &mut Reader, series: &[SeriesId]) -> Result<Vec<Reading>, StoreError> {
    let recently_us = now_us() - RECENTLY_US;
    let mut found = newest(reader, series, (recently_us, Micros::MAX)).await?;
    let known: HashSet<SeriesId> = found.iter().map(|reading| reading.series).collect();
    let quiet: Vec<SeriesId> = series.iter().filter(|id| !known.contains(id)).copied().collect();
    if !quiet.is_empty() {
        found.extend(newest(reader, &quiet, (Micros::MIN, recently_us)).await?);
        let place: HashMap<SeriesId, usize> = series.iter().copied().zip(0..).collect();
        found.sort_by_key(|reading| place.get(&reading.series));
    }
    Ok(found)
}

/// The series that match, each with its newest reading: one statement, if all have a recent one.
pub(super) async fn find_latest(shared: &Shared, filter: &SeriesFilter) -> Result<Vec<Latest>, StoreError> {
    let recently_us = now_us() - RECENTLY_US;
    let bind = |query| series::matching(query, filter).bind(time::at(recently_us));
    let found = found(&Reader::once(&shared.read_pool, sql!("find_latest"), bind).await?)?;
    if found.iter().all(|(.., newest)| newest.is_some()) {
        return Ok(found);
    }
    // Older ones take a second statement, and both must see the same commits.
    let reader = &mut shared.reader().await?;
    let mut found = self::found(&reader.all(sql!("find_latest"), bind).await?)?;
    let quiet: Vec<SeriesId> =
        found.iter().filter(|(.., newest)| newest.is_none()).map(|(id, ..)| *id).collect();
    let mut older = newest(reader, &quiet, (Micros::MIN, recently_us)).await?.into_iter().peekable();
    for (id, _, newest) in found.iter_mut().filter(|(.., newest)| newest.is_none()) {
        *newest = older.next_if(|reading| reading.series == *id);
    }
    Ok(found)
}

/// What `find_latest.sql` answers.
fn found(rows: &[PgRow]) -> Result<Vec<Latest>, StoreError> {
    let found = |row: &PgRow| -> Result<Latest, sqlx::Error> {
        let (id, key) = series::series(row)?;
        let mut columns = Columns::from(row, NEWEST);
        let newest = columns.maybe()?.map(|series| reading_of(series, columns)).transpose()?;
        Ok((id, key, newest))
    };
    rows.iter().map(found).collect::<Result<_, _>>().map_err(unavailable)
}

/// The newest readings from `start_us` to before `end_us`, in the order of `series`.
async fn newest(
    reader: &mut Reader,
    series: &[SeriesId],
    (start_us, end_us): (Micros, Micros),
) -> Result<Vec<Reading>, StoreError> {
    let ids: Vec<i32> = series.iter().map(|id| id.0 as i32).collect();
    let bind = |query: Statement| query.bind(ids.clone()).bind(time::at(start_us)).bind(time::at(end_us));
    let rows = reader.all(sql!("latest_readings"), bind).await?;
    rows.iter().map(reading).collect::<Result<_, _>>().map_err(unavailable)
}

/// Readings of one series, by time; equal times in the order of their commits.
pub(super) async fn range(reader: &mut Reader, range: &SeriesRange) -> Result<Vec<Reading>, StoreError> {
    let (animal, zone) = animal_and_zone(range.tag);
    let bind = |query: Statement| {
        query
            .bind(range.series.0 as i32)
            .bind(time::at(range.start_us))
            .bind(time::at(range.end_us))
            .bind(signed(range.skip as u64))
            .bind(signed(range.limit as u64))
            .bind(animal)
            .bind(zone)
    };
    let mut readings: Vec<Reading> = Vec::new();
    let mut text_bytes = 0;
    let take = |row: PgRow| {
        let reading = reading(&row)?;
        text_bytes += reading.text_bytes();
        readings.push(reading);
        Ok(text_bytes < range.text_bytes)
    };
    reader.each(sql!("range_readings"), bind, take).await?;
    Ok(readings)
}

/// A reading, from the columns of the statements about readings.
fn reading(row: &PgRow) -> Result<Reading, sqlx::Error> {
    let mut columns = Columns::from(row, 0);
    let series = columns.take()?;
    reading_of(series, columns)
}

/// A reading of a series, from the columns that follow its number.
fn reading_of(series: i32, mut columns: Columns<'_>) -> Result<Reading, sqlx::Error> {
    let (Time(time_us), value, _) = (columns.take()?, columns.take()?, columns.take::<i16>()?);
    Ok(Reading {
        series: SeriesId(series as u32),
        time_us,
        value,
        quality: Quality::Valid,
        is_interpolated: columns.take()?,
        animal_id: columns.maybe()?,
        zone_id: columns.maybe()?,
        battery_level: columns.maybe()?,
        signal_strength: columns.maybe()?,
        session_id: columns.maybe()?,
        metadata: columns.maybe()?,
    })
}
