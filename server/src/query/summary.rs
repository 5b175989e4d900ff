//! A farm's days: each metric of each kind of device.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::NaiveDate;

use super::{
    PAGE_BYTES, aggregate, days, positive,
    scope::{Scope, check_metrics},
    series::bytes_of,
};
use crate::{
    error::Error,
    ingest::validate::quote,
    model::{Micros, SeriesId, SeriesKey},
    store::{Bucket, BucketRange, Look},
};

/// Days of one answer, at most.
const MAX_DAYS: i64 = 366;

/// Buckets that are asked of the store at a time.
const STRETCH: usize = 20_000;

/// Rows of one answer, at most; fewer where their names are long.
const MAX_ROWS: usize = 10_000;

/// Encoded bytes of a row, its names aside.
const ROW_BYTES: usize = 120;

/// Asks for a farm's days.
#[derive(Clone, Debug)]
pub struct SummaryQuery {
    /// The farm.
    pub farm_id: i32,
    /// As "2026-11-24".
    pub first_date: String,
    /// Inclusive.
    pub last_date: String,
    /// Empty: UTC.
    pub time_zone: String,
    /// Empty: all.
    pub metric_names: Vec<String>,
    /// Empty: all.
    pub device_type: String,
}

/// One metric of one kind of device on one day.
#[derive(Debug)]
pub struct FarmDay {
    /// The day.
    pub date: NaiveDate,
    /// Farm, kind, metric and unit; no device.
    pub key: SeriesKey,
    /// Devices that measured it.
    pub devices: u32,
    /// All their readings.
    pub bucket: Bucket,
}

/// A farm's days, by day, kind of device, metric and unit; and from when on they are kept.
///
/// # Errors
///
/// [`Error::NotFound`] for an unknown farm, [`Error::BadRequest`] for what is out of bounds.
pub async fn farm_summary(
    look: &dyn Look,
    query: SummaryQuery,
) -> Result<(Vec<FarmDay>, Option<Micros>), Error> {
    let SummaryQuery { farm_id, first_date, last_date, time_zone, metric_names, device_type } = query;
    check_metrics("metric_names", &metric_names)?;
    positive("farm_id", farm_id)?;
    let (first, last) = dates(&first_date, &last_date)?;
    let zone = days::time_zone(&time_zone)?;
    let cut = days::days(zone, first, last)?;
    let scope = Scope { farm_id, ..Scope::default() };
    let span = (cut.start_us(), cut.end_us());
    let mut subject = scope.find(look, ("metric_names", &metric_names), span).await?;
    if !device_type.is_empty() {
        subject.series.retain(|(_, key)| key.device_type == device_type);
        if subject.series.is_empty() {
            let message = format!("{} is no kind of device of farm {farm_id}", quote(&device_type));
            return Err(Error::BadRequest { field: "device_type", message });
        }
    }
    let kept_from_us = look.lifecycle().await?.kept_from_us(cut.level());
    days::check_kept(&cut, kept_from_us, "first_date", "quarters of an hour")?;
    let lines: Vec<_> = subject.series.iter().zip(0..).map(|((id, _), line)| (*id, line)).collect();
    let devices = devices(&subject.series);
    // The keys of the answer, in order, and the place of each series among them.
    let kind = |(_, key): &(SeriesId, SeriesKey)| SeriesKey { device_uid: String::new(), ..key.clone() };
    let kinds: BTreeSet<SeriesKey> = subject.series.iter().map(kind).collect();
    let kinds: Vec<SeriesKey> = kinds.into_iter().collect();
    let place = |series| kinds.partition_point(|known| *known < kind(series));
    let places: Vec<usize> = subject.series.iter().map(place).collect();
    let mut rows: BTreeMap<(Micros, usize), Row> = BTreeMap::new();
    let stretch = (STRETCH / lines.len().max(1)).max(1);
    let mut from_us = cut.start_us();
    while from_us < cut.end_us() {
        let part = aggregate::stretch_of(&cut, from_us, stretch);
        from_us = part.end_us();
        let range = BucketRange { series: lines.clone(), tag: None, cut: part, percentiles: false };
        for (line, bucket) in look.buckets(range).await? {
            let row = rows.entry((bucket.start_us, places[line as usize])).or_default();
            row.devices.insert(devices[line as usize]);
            match &mut row.bucket {
                Some(known) => known.merge(&bucket),
                none => *none = Some(bucket),
            }
        }
        let bytes: usize = rows.keys().map(|&(_, place)| ROW_BYTES + bytes_of(&kinds[place])).sum();
        if rows.len() > MAX_ROWS || bytes > PAGE_BYTES {
            let message = format!(
                "there are more than {MAX_ROWS} rows, or {PAGE_BYTES} bytes of them: ask for fewer days, or name metrics"
            );
            return Err(Error::BadRequest { field: "last_date", message });
        }
    }
    let told = rows.into_iter().filter_map(|((start_us, place), Row { devices, bucket })| {
        let (date, devices) = (days::date_of(zone, start_us)?, devices.len() as u32);
        let key = kinds[place].clone();
        Some(FarmDay { date, key, devices, bucket: bucket? })
    });
    Ok((told.collect(), kept_from_us))
}

/// One row while it is put together.
#[derive(Default)]
struct Row {
    devices: BTreeSet<usize>,
    bucket: Option<Bucket>,
}

/// A number for the device of each series.
fn devices(series: &[(SeriesId, SeriesKey)]) -> Vec<usize> {
    let mut numbers: HashMap<&str, usize> = HashMap::new();
    let mut devices = Vec::with_capacity(series.len());
    for (_, key) in series {
        let next = numbers.len();
        devices.push(*numbers.entry(&key.device_uid).or_insert(next));
    }
    devices
}

/// The first and the last of some days.
pub(super) fn dates(first: &str, last: &str) -> Result<(NaiveDate, NaiveDate), Error> {
    let (first, last) = (days::date("first_date", first)?, days::date("last_date", last)?);
    let count = (last - first).num_days() + 1;
    if !(1..=MAX_DAYS).contains(&count) {
        let message = format!("{last} is {count} days from {first} on: 1 to {MAX_DAYS} are expected");
        return Err(Error::BadRequest { field: "last_date", message });
    }
    Ok((first, last))
}
