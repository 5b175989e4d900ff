//! What was measured of an animal.

use super::{PAGE_BYTES, check_time, positive, readings, scope::Scope, series};
use crate::{
    error::Error,
    model::{DAY_US, Micros, Reading, SeriesId, SeriesKey},
    store::{Bucket, BucketRange, Cut, Level, Look},
};

/// Days one question may span.
const MAX_DAYS: i64 = 92;

/// Asks what was measured of an animal.
#[derive(Clone, Debug)]
pub struct AnimalQuery {
    /// The animal.
    pub animal_id: i32,
    /// Only this farm; 0: any.
    pub farm_id: i32,
    /// Inclusive.
    pub start_us: Micros,
    /// Exclusive.
    pub end_us: Micros,
    /// Empty: all.
    pub metric_names: Vec<String>,
}

/// One metric of an animal.
#[derive(Debug)]
pub struct AnimalMetric {
    /// Farm, kind of device, metric and unit.
    pub key: SeriesKey,
    /// The newest reading of the range, and its device.
    pub latest: Reading,
    /// That sent it.
    pub latest_device_uid: String,
    /// All of the range.
    pub statistics: Bucket,
}

/// Each metric of an animal, and from when on its readings are kept.
///
/// # Errors
///
/// [`Error::NotFound`] for an unknown farm, [`Error::BadRequest`] for what is out of bounds.
pub async fn animal_metrics(
    look: &dyn Look,
    query: AnimalQuery,
) -> Result<(Vec<AnimalMetric>, Option<Micros>), Error> {
    let AnimalQuery { animal_id, farm_id, start_us, end_us, metric_names } = query;
    positive("animal_id", animal_id)?;
    check_time(start_us, end_us)?;
    if end_us.saturating_sub(start_us) > MAX_DAYS * DAY_US {
        let message = format!("{end_us} is more than {MAX_DAYS} days after start_us {start_us}");
        return Err(Error::BadRequest { field: "end_us", message });
    }
    let scope = Scope { animal_id, farm_id, ..Scope::default() };
    let subject = scope.find(look, ("metric_names", &metric_names), (start_us, end_us)).await?;
    let (keys, lines) = subject.lines();
    let mut metrics: Vec<Option<AnimalMetric>> = keys.iter().map(|_| None).collect();
    for &(series, line) in &lines {
        let Some((statistics, latest)) = of_series(look, (series, &subject), (start_us, end_us)).await?
        else {
            continue;
        };
        let device = subject.series.iter().find(|(id, _)| *id == series);
        let latest_device_uid = device.map_or(String::new(), |(_, key)| key.device_uid.clone());
        match &mut metrics[line as usize] {
            Some(known) => {
                known.statistics.merge(&statistics);
                if (known.latest.time_us, known.latest.series) < (latest.time_us, latest.series) {
                    (known.latest, known.latest_device_uid) = (latest, latest_device_uid);
                }
            }
            none => {
                let key = keys[line as usize].clone();
                *none = Some(AnimalMetric { key, latest, latest_device_uid, statistics });
            }
        }
    }
    let mut metrics: Vec<AnimalMetric> = metrics.into_iter().flatten().collect();
    metrics.sort_by(|a, b| {
        let place = |metric: &AnimalMetric| {
            let SeriesKey { farm_id, metric_name, metric_unit, device_type, .. } = metric.key.clone();
            (farm_id, metric_name, metric_unit, device_type)
        };
        place(a).cmp(&place(b))
    });
    let bytes: usize = metrics.iter().map(bytes_of).sum();
    if bytes > PAGE_BYTES {
        let message =
            format!("{} metrics have more than {PAGE_BYTES} bytes: name some of them", metrics.len());
        return Err(Error::BadRequest { field: "metric_names", message });
    }
    Ok((metrics, look.lifecycle().await?.raw_kept_from_us))
}

/// Encoded bytes of a metric, at most.
fn bytes_of(metric: &AnimalMetric) -> usize {
    const STATISTICS: usize = 120;
    let key = series::bytes_of(&metric.key) + metric.latest_device_uid.len();
    key + readings::bytes_of(&metric.latest) + STATISTICS
}

/// Statistics and the newest reading of what one series tells of the animal.
async fn of_series(
    look: &dyn Look,
    (series, subject): (SeriesId, &super::scope::Subject),
    (start_us, end_us): (Micros, Micros),
) -> Result<Option<(Bucket, Reading)>, Error> {
    let of = (series, subject.tag);
    let mut statistics: Option<Bucket> = None;
    let mut add = |bucket: Bucket| match &mut statistics {
        Some(known) => known.merge(&bucket),
        none => *none = Some(Bucket { start_us, median: None, p95: None, ..bucket }),
    };
    // The first and the last quarter of an hour may belong to the range in part only: those from readings.
    let level = Level::QuarterHour;
    let inner = (level.floor(start_us.saturating_add(level.width_us() - 1)), level.floor(end_us));
    let newest = if inner.0 < inner.1 {
        let cut = Cut::Level { level, start_us: inner.0, end_us: inner.1 };
        let asked = BucketRange { series: vec![(series, 0)], tag: subject.tag, cut, percentiles: false };
        let mut last_us = None;
        for (_, bucket) in look.buckets(asked).await? {
            last_us = Some(bucket.start_us);
            add(bucket);
        }
        let mut see = |reading: &Reading| {
            add(Bucket::of_one(reading));
            true
        };
        let first = readings::each(look, of, (start_us, inner.0), &mut see).await?;
        let last = readings::each(look, of, (inner.1, end_us), &mut see).await?;
        match (last, last_us) {
            (Some(last), _) => Some(last),
            (None, Some(last_us)) => {
                readings::each(look, of, (last_us, last_us + level.width_us()), |_| true).await?
            }
            (None, None) => first,
        }
    } else {
        readings::each(look, of, (start_us, end_us), |reading| {
            add(Bucket::of_one(reading));
            true
        })
        .await?
    };
    Ok(statistics.zip(newest))
}
