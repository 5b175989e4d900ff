//! Asks a server that nobody writes to for its readings, and for everything that it computes from them.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
};

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use herdstream_client::{QueryClient, SeriesKey, v1};
use rand::{rngs::SmallRng, seq::IndexedRandom as _};
use serde::Serialize;

use super::{
    DAY_US, Level, Values, date,
    weigh::{self, FarmDayKey, Weighed},
};
use crate::history::{Dairy, Device};

/// Days that are looked at, the present one included: what retention drops lies further back.
const DAYS: i64 = 20;

/// Days of farms that are looked at: those have many readings.
const FARM_DAYS: i64 = 3;

/// Farms that are looked at.
const FARMS: usize = 3;

/// Answers that equal a plain computation, by kind, and those that do not.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Checked {
    /// Devices that were looked at.
    pub devices: usize,
    /// Their newest readings.
    pub latest: usize,
    /// Buckets of their series, by level.
    pub buckets: BTreeMap<&'static str, usize>,
    /// Rows of farms' days.
    pub farm_days: usize,
    /// Rows of milk by day and animal.
    pub milk_days: usize,
    /// What differs.
    pub differences: Vec<String>,
}

impl Checked {
    fn note(&mut self, what: &str, weighed: Weighed) -> usize {
        weighed.unwrap_or_else(|why| {
            self.differences.push(format!("{what}: {why}"));
            0
        })
    }

    /// In words: what agreed.
    pub fn told(&self) -> String {
        let buckets = self.buckets.iter().map(|(level, count)| format!("{count} {level}, "));
        format!(
            "{}{} latest of {} devices, {} rows of farms' days, {} of milk",
            buckets.collect::<String>(),
            self.latest,
            self.devices,
            self.farm_days,
            self.milk_days
        )
    }
}

/// Draws devices and farms, and looks at everything that is computed from their readings.
///
/// # Errors
///
/// A question fails. What differs is no error, but told.
pub async fn check(
    client: &QueryClient,
    dairy: &Dairy,
    devices: usize,
    now_us: i64,
    rng: &mut SmallRng,
) -> Result<Checked> {
    let mut checked = Checked::default();
    // With all of the present day, since the load has just written into it.
    let end_us = (now_us.div_euclid(DAY_US) + 2) * DAY_US;
    let mut farms = BTreeSet::new();
    for device in dairy.devices.choose_multiple(rng, devices) {
        checked.devices += 1;
        of_device(client, device, (end_us - DAYS * DAY_US, end_us), &mut checked)
            .await
            .with_context(|| format!("checking answers about {}", device.uid))?;
        if farms.len() < FARMS && farms.insert(device.farm_id) {
            of_farm(client, device.farm_id, end_us, &mut checked)
                .await
                .with_context(|| format!("checking answers about farm {}", device.farm_id))?;
        }
    }
    Ok(checked)
}

async fn of_device(
    client: &QueryClient,
    device: &Device,
    (start_us, end_us): (i64, i64),
    checked: &mut Checked,
) -> Result<()> {
    let request = v1::StreamRangeRequest {
        device_uid: device.uid.clone(),
        farm_id: device.farm_id,
        start_us,
        end_us,
        ..v1::StreamRangeRequest::default()
    };
    let known = stream(client, request).await?;
    let request = v1::GetLatestRequest {
        device_uid: device.uid.clone(),
        farm_id: device.farm_id,
        ..v1::GetLatestRequest::default()
    };
    let latest = client.get_latest(request).await?;
    for &metric in device.kind.metrics() {
        let series = format!("{} of {}", metric.name(), device.uid);
        let nothing = Values::new();
        let key = Dairy::key(device, metric);
        let known = known.iter().find(|(have, _)| is(have, &key)).map_or(&nothing, |(_, values)| values);
        let newest = latest.iter().find(|have| have.series.as_ref().is_some_and(|have| is(have, &key)));
        let newest = newest.and_then(|newest| newest.readings.first());
        // One from before the days that were looked at is as it should be where there is none in them.
        let newest = newest.filter(|newest| newest.time_us >= start_us || !known.is_empty());
        checked.latest += checked.note(&format!("latest {series}"), weigh::newest(known, newest));
        for level in Level::ALL {
            // Whole buckets, so that their first and last readings are known.
            let (start_us, end_us) = (level.start_us(start_us + DAY_US - 1), level.start_us(end_us));
            let request = v1::QueryRangeRequest {
                device_uid: device.uid.clone(),
                farm_id: device.farm_id,
                metric_name: metric.name().to_owned(),
                start_us,
                end_us,
                page_size: 50_000,
                resolution: level.resolution().into(),
                statistics: level.statistics().into_iter().map(Into::into).collect(),
                time_zone: level.time_zone().to_owned(),
                ..v1::QueryRangeRequest::default()
            };
            let mut found = Vec::new();
            let mut lines = pin!(client.query_buckets_all(request));
            while let Some(line) = lines.try_next().await? {
                found.extend(line.buckets);
            }
            let known = known.range(start_us..end_us).map(|(at, values)| (*at, values.clone())).collect();
            let weighed = weigh::buckets(level, &known, &found);
            let count = checked.note(&format!("{}, {series}", level.name()), weighed);
            *checked.buckets.entry(level.name()).or_default() += count;
        }
    }
    Ok(())
}

async fn of_farm(client: &QueryClient, farm_id: i32, end_us: i64, checked: &mut Checked) -> Result<()> {
    let start_us = end_us - FARM_DAYS * DAY_US;
    let request = v1::StreamRangeRequest { farm_id, start_us, end_us, ..v1::StreamRangeRequest::default() };
    let mut known: BTreeMap<FarmDayKey, BTreeMap<String, Vec<f64>>> = BTreeMap::new();
    let mut parts = pin!(client.stream_range(request).await?);
    while let Some(part) = parts.try_next().await? {
        let series = part.series.context("a part of a stream names its series")?;
        for reading in part.readings {
            let key = (
                date(reading.time_us),
                series.device_type.clone(),
                series.metric_name.clone(),
                series.metric_unit.clone(),
            );
            let devices = known.entry(key).or_default();
            match devices.get_mut(&series.device_uid) {
                Some(values) => values.push(reading.value),
                None => drop(devices.insert(series.device_uid.clone(), vec![reading.value])),
            }
        }
    }
    let request = v1::GetFarmDailySummaryRequest {
        farm_id,
        first_date: date(start_us),
        last_date: date(end_us - 1),
        ..v1::GetFarmDailySummaryRequest::default()
    };
    let found = client.get_farm_daily_summary(request).await?.days;
    checked.farm_days +=
        checked.note(&format!("summary of farm {farm_id}"), weigh::farm_days(&known, &found));

    let start_us = end_us - DAYS * DAY_US;
    let request =
        v1::QueryMilkingsRequest { farm_id, start_us, end_us, page_size: 10_000, ..Default::default() };
    let known: Vec<v1::Milking> = client.query_milkings_all(request).try_collect().await?;
    let request = v1::GetMilkProductionDailyRequest {
        farm_id,
        first_date: date(start_us),
        last_date: date(end_us - 1),
        page_size: 10_000,
        ..v1::GetMilkProductionDailyRequest::default()
    };
    let found: Vec<v1::MilkDay> = client.get_milk_production_daily_all(request).try_collect().await?;
    checked.milk_days += checked.note(&format!("milk of farm {farm_id}"), weigh::milk_days(&known, &found));
    Ok(())
}

/// All readings of a range, series by series.
async fn stream(
    client: &QueryClient,
    request: v1::StreamRangeRequest,
) -> Result<Vec<(v1::SeriesKey, Values)>> {
    let mut all: Vec<(v1::SeriesKey, Values)> = Vec::new();
    let mut parts = pin!(client.stream_range(request).await?);
    while let Some(part) = parts.try_next().await? {
        let series = part.series.context("a part of a stream names its series")?;
        let at = all.iter().position(|(have, _)| *have == series).unwrap_or_else(|| {
            all.push((series, Values::new()));
            all.len() - 1
        });
        for reading in part.readings {
            all[at].1.entry(reading.time_us).or_default().push(reading.value);
        }
    }
    Ok(all)
}

fn is(have: &v1::SeriesKey, key: &SeriesKey) -> bool {
    have.farm_id == key.farm_id
        && have.device_uid == key.device_uid
        && have.device_type == key.device_type
        && have.metric_name == key.metric_name
        && have.metric_unit == key.metric_unit
}
