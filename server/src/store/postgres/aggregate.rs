//! Statistics of readings and milk by bucket.
//!
//! The statements answer each series by itself: kept and clean buckets from rollups, open ones from their sums, the
//! others from readings. Series are merged into lines, quarters of an hour into
//! spans, and parts of buckets that are not kept yet into buckets, here.

use std::collections::BTreeMap;

use sqlx::{Row as _, postgres::PgRow};

use super::{
    columns::{Columns, Time},
    error::unavailable,
    reading::{Reader, Statement},
    time,
    watermark::Watermark,
};
use crate::{
    model::Micros,
    store::{Bucket, BucketRange, Cut, Level, MilkBucket, MilkRange, StoreError, Tag, lines::Lines},
};

/// Buckets by line, then time.
pub(super) async fn buckets(
    reader: &mut Reader,
    range: &BucketRange,
) -> Result<Vec<(u32, Bucket)>, StoreError> {
    let lines: BTreeMap<i32, u32> = range.series.iter().map(|(id, line)| (id.0 as i32, *line)).collect();
    let series: Vec<i32> = lines.keys().copied().collect();
    let (start_us, end_us) = (range.cut.start_us(), range.cut.end_us());
    let level = range.cut.level();
    let percentiles = range.percentiles && matches!(range.cut, Cut::Level { .. });
    let mut merged = Lines::new(range.cut.clone());
    let mut take = |row: PgRow| {
        let (series, bucket) = bucket(&row)?;
        if let Some(line) = lines.get(&series) {
            merged.add(*line, bucket);
        }
        Ok(true)
    };
    // What carries a tag is in no rollup; what is older than rollups are kept comes from readings, if these are.
    let kept_from_us = match range.tag {
        Some(_) => end_us,
        None => reader.watermark().kept_from_us(level).clamp(start_us, end_us.max(start_us)),
    };
    if start_us < kept_from_us {
        let (animal, zone) = animal_and_zone(range.tag);
        let bind = |query: Statement| {
            query
                .bind(series.clone())
                .bind(time::at(start_us))
                .bind(time::at(kept_from_us))
                .bind(percentiles && level != Level::QuarterHour)
                .bind(level.width_us())
                .bind(animal)
                .bind(zone)
                .bind(percentiles && level == Level::Hour)
        };
        reader.each(sql!("buckets_of_readings"), bind, &mut take).await?;
    }
    if kept_from_us < end_us {
        let (statement, times) = untagged(&reader.watermark(), level, percentiles);
        let bind = |query: Statement| {
            let query = query.bind(series.clone()).bind(time::at(kept_from_us)).bind(time::at(end_us));
            times.iter().fold(query, |query, &time_us| query.bind(time::at(time_us)))
        };
        reader.each(statement, bind, &mut take).await?;
    }
    Ok(merged.finish())
}

/// The statement for buckets of a level, with the times at which its parts change.
fn untagged(mark: &Watermark, level: Level, percentiles: bool) -> (&'static str, Vec<Micros>) {
    use Level::{Day, Hour, QuarterHour};
    let [quarters, hours, days] = Level::ALL.map(|level| mark.kept_until_us(level));
    let summed = mark.summed_from_us.unwrap_or(Micros::MAX);
    match (level, percentiles) {
        (QuarterHour, _) => (sql!("buckets_15min"), vec![quarters, summed]),
        (Hour, true) => (sql!("buckets_hourly"), vec![hours]),
        (Day, true) => (sql!("buckets_daily"), vec![days]),
        (Hour, false) => {
            // An hour that is not kept comes from quarters, unless they may have been dropped by their age.
            let by_quarter = if hours >= mark.kept_from_us(QuarterHour) { quarters } else { hours };
            (sql!("buckets_hourly_merged"), vec![hours, by_quarter, quarters, summed])
        }
        (Day, false) => {
            let finer = mark.kept_from_us(QuarterHour).max(mark.kept_from_us(Hour));
            let (by_hour, by_quarter) = if days >= finer { (hours, quarters) } else { (days, days) };
            (sql!("buckets_daily_merged"), vec![days, by_hour, by_quarter, quarters, summed, finer])
        }
    }
}

/// Milk by span, then animal.
pub(super) async fn milk(reader: &mut Reader, range: &MilkRange) -> Result<Vec<MilkBucket>, StoreError> {
    let bind = |query: Statement| {
        let query = query.bind(range.farm_id).bind(range.animal_id);
        match &range.cut {
            Cut::Level { level: Level::Day, start_us, end_us } => {
                query.bind(time::at(*start_us)).bind(time::at(*end_us))
            }
            cut => query.bind(spans(cut).into_iter().map(time::at).collect::<Vec<_>>()),
        }
    };
    let rows = match &range.cut {
        Cut::Level { level: Level::Day, .. } => reader.all(sql!("milk_daily"), bind).await?,
        _ => reader.all(sql!("milk_of_spans"), bind).await?,
    };
    rows.iter().map(milk_bucket).collect::<Result<_, _>>().map_err(unavailable)
}

/// Columns by which readings are told apart: animal, zone.
pub(super) fn animal_and_zone(tag: Option<Tag>) -> (Option<i32>, Option<i32>) {
    match tag {
        Some(Tag::Animal(id)) => (Some(id), None),
        Some(Tag::Zone(id)) => (None, Some(id)),
        None => (None, None),
    }
}

/// The times between which a cut cuts.
fn spans(cut: &Cut) -> Vec<Micros> {
    match cut {
        Cut::Spans(times) => times.to_vec(),
        Cut::Level { level, start_us, end_us } => {
            let step = usize::try_from(level.width_us()).unwrap_or(usize::MAX);
            (*start_us..=*end_us).step_by(step).collect()
        }
    }
}

/// A series and its bucket, from the columns of the statements about buckets.
fn bucket(row: &PgRow) -> Result<(i32, Bucket), sqlx::Error> {
    let mut columns = Columns::from(row, 0);
    let (series, Time(start_us)) = (columns.take()?, columns.take()?);
    let count = columns.take::<i64>()? as u64;
    let (sum, min, max) = (columns.take()?, columns.take()?, columns.take()?);
    // Of one reading there is none; merged with others, what is not finite has none either.
    let deviation = columns.maybe()?.unwrap_or(if f64::is_finite(sum) { 0.0 } else { f64::NAN });
    let bucket = Bucket {
        start_us,
        count,
        sum,
        min,
        max,
        squares: deviation * deviation * count.saturating_sub(1) as f64,
        median: columns.maybe()?,
        p95: columns.maybe()?,
        valid_count: columns.take::<i64>()? as u64,
        error_count: columns.take::<i64>()? as u64,
    };
    Ok((series, bucket))
}

fn milk_bucket(row: &PgRow) -> Result<MilkBucket, sqlx::Error> {
    Ok(MilkBucket {
        start_us: time::micros(row.try_get("bucket")?),
        animal_id: row.try_get("animal_id")?,
        milkings: row.try_get::<i64, _>("milking_count")? as u64,
        total_yield_kg: row.try_get("total_yield_kg")?,
        avg_conductivity: row.try_get("avg_conductivity")?,
        avg_scc: row.try_get("avg_scc")?,
        max_mastitis_risk: row.try_get("max_mastitis_risk")?,
        avg_fat: row.try_get("avg_fat")?,
        avg_protein: row.try_get("avg_protein")?,
    })
}
