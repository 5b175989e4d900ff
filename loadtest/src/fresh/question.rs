//! The kinds of answers that must hold a reading and a milking.

use std::{
    collections::BTreeMap,
    pin::{Pin, pin},
};

use anyhow::{Context as _, Result};
use futures::{Stream, TryStreamExt as _};
use herdstream_client::{Error, QueryClient, SeriesKey, v1};
use rand::{Rng as _, rngs::SmallRng};

use crate::answers::{
    Level, Values, date,
    weigh::{self, Weighed},
};

const HOUR_US: i64 = 3_600_000_000;

/// All that a device and its animal have sent, and was acknowledged.
#[derive(Clone, Debug)]
pub struct Known {
    pub(super) key: SeriesKey,
    pub(super) animal_id: i32,
    readings: Values,
    milkings: Vec<v1::Milking>,
    /// Time of what was added last.
    time_us: i64,
}

impl Known {
    /// Of a device and an animal that have sent nothing yet.
    pub fn new(key: SeriesKey, animal_id: i32) -> Self {
        Self { key, animal_id, readings: Values::new(), milkings: Vec::new(), time_us: 0 }
    }

    /// A time that was not used yet, at the given one or just after it; a value; kilograms of milk.
    pub fn draw(&self, mut time_us: i64, rng: &mut SmallRng) -> (i64, f64, f64) {
        while self.readings.contains_key(&time_us) {
            time_us += 1;
        }
        (time_us, f64::from(rng.random_range(0..4_000)) / 10.0, f64::from(rng.random_range(1..400)) / 10.0)
    }

    /// Notes what was acknowledged.
    pub fn add(&mut self, time_us: i64, value: f64, yield_kg: f64) {
        self.readings.entry(time_us).or_default().push(value);
        self.milkings.push(v1::Milking {
            time_us,
            animal_id: self.animal_id,
            farm_id: self.key.farm_id,
            yield_kg,
            ..v1::Milking::default()
        });
        self.time_us = time_us;
    }

    /// Time of what was added last, for people.
    pub(super) fn newest_us(&self) -> String {
        format!("of the reading of {}", self.time_us)
    }

    /// The hour that ends with what was added last.
    fn hour(&self) -> (i64, i64) {
        (self.time_us - HOUR_US, self.time_us + 1)
    }

    fn within(&self, start_us: i64, end_us: i64) -> Values {
        self.readings.range(start_us..end_us).map(|(at, values)| (*at, values.clone())).collect()
    }
}

/// A kind of answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Question {
    Latest,
    Watch,
    Hour,
    Stream,
    AnimalHour,
    Quarters,
    Hours,
    Days,
    ZoneDays,
    FarmHours,
    FarmSummary,
    Animal,
    Status,
    Devices,
    Series,
    Milkings,
    Milk,
}

impl Question {
    /// All of them.
    pub const ALL: [Self; 17] = [
        Self::Latest,
        Self::Watch,
        Self::Hour,
        Self::Stream,
        Self::AnimalHour,
        Self::Quarters,
        Self::Hours,
        Self::Days,
        Self::ZoneDays,
        Self::FarmHours,
        Self::FarmSummary,
        Self::Animal,
        Self::Status,
        Self::Devices,
        Self::Series,
        Self::Milkings,
        Self::Milk,
    ];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest of a device",
            Self::Watch => "first live value",
            Self::Hour => "an hour of a series, raw",
            Self::Stream => "an hour of a series, streamed",
            Self::AnimalHour => "an hour of an animal, raw",
            Self::Quarters => "15 minutes of a series",
            Self::Hours => "hour of a series",
            Self::Days => "day of a series",
            Self::ZoneDays => "day of a time zone",
            Self::FarmHours => "hour of a farm",
            Self::FarmSummary => "farm summary",
            Self::Animal => "metrics of an animal",
            Self::Status => "status of a device",
            Self::Devices => "devices of a farm",
            Self::Series => "series of a farm",
            Self::Milkings => "milkings of an animal",
            Self::Milk => "milk of an animal",
        }
    }

    /// Asks, and holds the answer against what is known.
    ///
    /// # Errors
    ///
    /// The question fails. What is wrong with its answer is inside.
    pub async fn ask(self, client: &QueryClient, known: &Known) -> Result<Weighed> {
        let SeriesKey { farm_id, device_uid, metric_name, .. } = known.key.clone();
        let (animal_id, (start_us, end_us)) = (known.animal_id, known.hour());
        let metric_names = vec![metric_name.clone()];
        let range = v1::QueryRangeRequest {
            farm_id,
            metric_name,
            start_us,
            end_us,
            page_size: 10_000,
            ..Default::default()
        };
        let of_device = v1::QueryRangeRequest { device_uid: device_uid.clone(), ..range.clone() };
        Ok(match self {
            Self::Latest => {
                let request = v1::GetLatestRequest { device_uid, farm_id, metric_names };
                newest(known, &client.get_latest(request).await?)
            }
            Self::Watch => {
                let request =
                    v1::WatchReadingsRequest { device_uid, farm_id, metric_names, ..Default::default() };
                let mut parts = pin!(client.watch_readings(request).await?);
                newest(known, &parts.try_next().await?.context("live values end at once")?)
            }
            Self::Hour => readings(known, pin!(client.query_range_all(of_device))).await?,
            Self::Stream => {
                let request = v1::StreamRangeRequest {
                    device_uid,
                    farm_id,
                    metric_names,
                    start_us,
                    end_us,
                    ..Default::default()
                };
                readings(known, pin!(client.stream_range(request).await?)).await?
            }
            Self::AnimalHour => {
                let request = v1::QueryRangeRequest { animal_id, ..range };
                readings(known, pin!(client.query_range_all(request))).await?
            }
            Self::Quarters => bucket(client, known, Level::Quarter, of_device).await?,
            Self::Hours => bucket(client, known, Level::Hour, of_device).await?,
            Self::Days => bucket(client, known, Level::Day, of_device).await?,
            Self::ZoneDays => bucket(client, known, Level::ZoneDay, of_device).await?,
            Self::FarmHours => farm_hours(client, known, range).await?,
            Self::FarmSummary => farm_summary(client, known).await?,
            Self::Animal => {
                let request =
                    v1::GetAnimalMetricsRequest { animal_id, farm_id, start_us, end_us, metric_names };
                let metrics = client.get_animal_metrics(request).await?.metrics;
                weigh::animal(&known.within(start_us, end_us), metrics.first())
            }
            Self::Status => {
                let request = v1::GetDeviceStatusRequest { device_uid, farm_id };
                weigh::last_seen(&known.readings, client.get_device_status(request).await?.first())
            }
            Self::Devices => {
                let request = v1::ListDevicesRequest { farm_id, page_size: 10_000, ..Default::default() };
                let devices: Vec<_> = client.list_devices_all(request).try_collect().await?;
                weigh::last_seen(
                    &known.readings,
                    devices.iter().find(|device| device.device_uid == device_uid),
                )
            }
            Self::Series => {
                let request = v1::ListSeriesRequest { farm_id, device_uid, ..Default::default() };
                let series: Vec<_> = client.list_series_all(request).try_collect().await?;
                if series.len() == 1 { Ok(1) } else { Err(format!("{series:?} instead of one")) }
            }
            Self::Milkings => milkings(client, known).await?,
            Self::Milk => milk(client, known).await?,
        })
    }
}

fn newest(known: &Known, found: &[v1::SeriesReadings]) -> Weighed {
    weigh::newest(&known.readings, found.first().and_then(|series| series.readings.first()))
}

/// The readings of the last hour, however they come.
async fn readings(
    known: &Known,
    mut parts: Pin<&mut impl Stream<Item = Result<v1::SeriesReadings, Error>>>,
) -> Result<Weighed> {
    let mut found = Vec::new();
    while let Some(part) = parts.try_next().await? {
        found.extend(part.readings);
    }
    let (start_us, end_us) = known.hour();
    Ok(weigh::readings(&known.within(start_us, end_us), &found))
}

/// The bucket that holds what was added last.
async fn bucket(
    client: &QueryClient,
    known: &Known,
    level: Level,
    range: v1::QueryRangeRequest,
) -> Result<Weighed> {
    let start_us = level.start_us(known.time_us);
    let request = v1::QueryRangeRequest {
        start_us: known.time_us,
        resolution: level.resolution().into(),
        statistics: level.statistics().into_iter().map(Into::into).collect(),
        time_zone: level.time_zone().to_owned(),
        ..range
    };
    let lines: Vec<_> = client.query_buckets_all(request).try_collect().await?;
    let found: Vec<_> = lines.into_iter().flat_map(|line| line.buckets).collect();
    Ok(weigh::buckets(level, &known.within(start_us, start_us + level.width_us()), &found))
}

/// The hour that holds what was added last, of all devices of the farm of one kind together.
async fn farm_hours(client: &QueryClient, known: &Known, range: v1::QueryRangeRequest) -> Result<Weighed> {
    let resolution = v1::Resolution::Hour.into();
    let request = v1::QueryRangeRequest { start_us: known.time_us, resolution, ..range };
    let lines: Vec<_> = client.query_buckets_all(request).try_collect().await?;
    let is_ours = |key: &v1::SeriesKey| key.device_type == known.key.device_type;
    let ours = lines.into_iter().filter(|line| line.series.as_ref().is_some_and(is_ours));
    let found: Vec<_> = ours.flat_map(|line| line.buckets).collect();
    let hour_us = Level::Hour.start_us(known.time_us);
    let wanted = known.within(hour_us, hour_us + HOUR_US).len() as u64;
    Ok(match &found[..] {
        [hour] if hour.start_us == hour_us && hour.count == wanted => Ok(1),
        _ => Err(format!("{found:?} instead of {wanted} readings in the hour of {hour_us}")),
    })
}

/// The day that holds what was added last.
async fn farm_summary(client: &QueryClient, known: &Known) -> Result<Weighed> {
    let SeriesKey { farm_id, device_uid, device_type, metric_name, metric_unit } = known.key.clone();
    let day = date(known.time_us);
    let (first_date, last_date) = (day.clone(), day.clone());
    let request = v1::GetFarmDailySummaryRequest { farm_id, first_date, last_date, ..Default::default() };
    let mut found = client.get_farm_daily_summary(request).await?.days;
    found.retain(|day| day.device_type == device_type);
    let start_us = Level::Day.start_us(known.time_us);
    let values = known.within(start_us, start_us + 24 * HOUR_US).into_values().flatten().collect();
    let devices = BTreeMap::from([(device_uid, values)]);
    Ok(weigh::farm_days(&BTreeMap::from([((day, device_type, metric_name, metric_unit), devices)]), &found))
}

async fn milkings(client: &QueryClient, known: &Known) -> Result<Weighed> {
    let (farm_id, animal_id, (start_us, end_us)) = (known.key.farm_id, known.animal_id, known.hour());
    let request = v1::QueryMilkingsRequest { farm_id, animal_id, start_us, end_us, ..Default::default() };
    let found: Vec<v1::Milking> = client.query_milkings_all(request).try_collect().await?;
    let time_and_yield = |milking: &v1::Milking| (milking.time_us, milking.yield_kg);
    let mut wanted: Vec<(i64, f64)> = known.milkings.iter().map(time_and_yield).collect();
    wanted.retain(|(time_us, _)| (start_us..end_us).contains(time_us));
    wanted.sort_by_key(|(time_us, _)| *time_us);
    let found: Vec<(i64, f64)> = found.iter().map(time_and_yield).collect();
    Ok(if found == wanted { Ok(1) } else { Err(format!("{found:?} instead of {wanted:?}")) })
}

/// The milk of the day that holds what was added last.
async fn milk(client: &QueryClient, known: &Known) -> Result<Weighed> {
    let (farm_id, animal_id, day) = (known.key.farm_id, known.animal_id, date(known.time_us));
    let (first_date, last_date) = (day.clone(), day.clone());
    let request =
        v1::GetMilkProductionDailyRequest { farm_id, animal_id, first_date, last_date, ..Default::default() };
    let found: Vec<_> = client.get_milk_production_daily_all(request).try_collect().await?;
    let mut wanted = known.milkings.clone();
    wanted.retain(|milking| date(milking.time_us) == day);
    Ok(weigh::milk_days(&wanted, &found))
}
