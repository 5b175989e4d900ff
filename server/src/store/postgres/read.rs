//! Readings of series.

use std::collections::{HashMap, HashSet};

use sqlx::{Row as _, postgres::PgRow};

use super::{
    aggregate::animal_and_zone,
    error::unavailable,
    ledger::signed,
    reading::{Reader, Statement},
    time,
};
use crate::{
    model::{DAY_US, Micros, Quality, Reading, SeriesId, now_us},
    store::{SeriesRange, StoreError},
};

/// The newest readings are looked for from so long ago on first: most series have one, and most chunks are older.
const RECENTLY_US: Micros = DAY_US;

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
        let texts = [&reading.session_id, &reading.metadata];
        text_bytes += texts.into_iter().flatten().map(|text| text.len()).sum::<usize>();
        readings.push(reading);
        Ok(text_bytes < range.text_bytes)
    };
    reader.each(sql!("range_readings"), bind, take).await?;
    Ok(readings)
}

fn reading(row: &PgRow) -> Result<Reading, sqlx::Error> {
    let text = |column| row.try_get::<Option<String>, _>(column).map(|text| text.map(String::into_boxed_str));
    Ok(Reading {
        series: SeriesId(row.try_get::<i32, _>("series_id")? as u32),
        time_us: time::micros(row.try_get("time")?),
        value: row.try_get("value")?,
        quality: Quality::Valid,
        is_interpolated: row.try_get("is_interpolated")?,
        animal_id: row.try_get("animal_id")?,
        zone_id: row.try_get("zone_id")?,
        battery_level: row.try_get("battery_level")?,
        signal_strength: row.try_get("signal_strength")?,
        session_id: text("session_id")?,
        metadata: text("metadata")?,
    })
}
