//! Answers as messages.

use herdstream_proto::v1;

use super::super::convert;
use crate::{
    model::{Micros, Reading, SeriesKey},
    query::{AnimalMetric, FarmDay, MilkDay, Statistic},
    store::Bucket,
};

pub(in crate::wire) fn to_series_readings(key: SeriesKey, readings: Vec<Reading>) -> v1::SeriesReadings {
    v1::SeriesReadings {
        series: Some(convert::to_series_key(key)),
        readings: readings.into_iter().map(convert::to_stored_reading).collect(),
    }
}

pub(super) fn to_series_buckets(
    key: SeriesKey,
    buckets: &[(Bucket, Micros)],
    statistics: &[Statistic],
) -> v1::SeriesBuckets {
    v1::SeriesBuckets {
        series: Some(convert::to_series_key(key)),
        buckets: buckets.iter().map(|(bucket, end_us)| to_bucket(bucket, *end_us, statistics)).collect(),
    }
}

/// What was asked for of a bucket.
fn to_bucket(bucket: &Bucket, end_us: Micros, statistics: &[Statistic]) -> v1::Bucket {
    let asked = |statistic| statistics.contains(&statistic);
    v1::Bucket {
        start_us: bucket.start_us,
        end_us,
        count: bucket.count,
        sum: asked(Statistic::Sum).then_some(bucket.sum),
        avg: asked(Statistic::Avg).then(|| bucket.avg()),
        min: asked(Statistic::Min).then_some(bucket.min),
        max: asked(Statistic::Max).then_some(bucket.max),
        stddev: bucket.stddev().filter(|_| asked(Statistic::Stddev)),
        median: bucket.median.filter(|_| asked(Statistic::Median)),
        p95: bucket.p95.filter(|_| asked(Statistic::P95)),
        valid_count: asked(Statistic::ValidCount).then_some(bucket.valid_count),
        error_count: asked(Statistic::ErrorCount).then_some(bucket.error_count),
    }
}

pub(super) fn to_farm_day(day: FarmDay) -> v1::FarmDay {
    let FarmDay { date, key, devices, bucket } = day;
    v1::FarmDay {
        date: date.to_string(),
        device_type: key.device_type,
        metric_name: key.metric_name,
        metric_unit: key.metric_unit,
        devices,
        count: bucket.count,
        avg: bucket.avg(),
        min: bucket.min,
        max: bucket.max,
        stddev: bucket.stddev(),
    }
}

pub(super) fn to_milk_day(farm_id: i32, day: &MilkDay) -> v1::MilkDay {
    let MilkDay { date, milk } = day;
    v1::MilkDay {
        date: date.to_string(),
        animal_id: milk.animal_id,
        farm_id,
        total_yield_kg: milk.total_yield_kg,
        avg_yield_per_session: milk.total_yield_kg / milk.milkings as f64,
        milking_count: u32::try_from(milk.milkings).unwrap_or(u32::MAX),
        avg_conductivity: milk.avg_conductivity,
        avg_scc: milk.avg_scc,
        max_mastitis_risk: milk.max_mastitis_risk,
        avg_fat: milk.avg_fat,
        avg_protein: milk.avg_protein,
    }
}

pub(super) fn to_animal_metric(metric: AnimalMetric, end_us: Micros) -> v1::AnimalMetric {
    const TOLD: [Statistic; 5] =
        [Statistic::Count, Statistic::Avg, Statistic::Min, Statistic::Max, Statistic::Stddev];
    let AnimalMetric { key, latest, latest_device_uid, statistics } = metric;
    v1::AnimalMetric {
        series: Some(convert::to_series_key(key)),
        latest: Some(convert::to_stored_reading(latest)),
        latest_device_uid,
        statistics: Some(to_bucket(&statistics, end_us, &TOLD)),
    }
}
