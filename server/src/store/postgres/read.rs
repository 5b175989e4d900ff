//! Readings of series.

use sqlx::{Row as _, postgres::PgRow};

use super::{
    aggregate::animal_and_zone,
    error::unavailable,
    ledger::signed,
    reading::{Reader, Statement},
    time,
};
use crate::{
    model::{Quality, Reading, SeriesId},
    store::{SeriesRange, StoreError},
};

/// The newest reading of each series that has one.
pub(super) async fn latest(reader: &mut Reader, series: &[SeriesId]) -> Result<Vec<Reading>, StoreError> {
    let ids: Vec<i32> = series.iter().map(|id| id.0 as i32).collect();
    let rows = reader.all(sql!("latest_readings"), |query| query.bind(ids.clone())).await?;
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
