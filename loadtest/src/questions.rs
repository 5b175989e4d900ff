//! Questions to a server, again and again, with the time that each kind takes.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use futures::TryStreamExt as _;
use hdrhistogram::Histogram;
use herdstream_client::{QueryClient, v1};
use parking_lot::Mutex;
use rand::seq::{IndexedRandom as _, IteratorRandom as _};

use crate::history::{Dairy, Device};

const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;

/// Longest latency that is told apart, microseconds.
const LONGEST_US: u64 = 60_000_000;

/// A kind of question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "their names say it")]
pub enum Kind {
    Latest,
    LastHour,
    HourlyWeek,
    Daily90,
    FarmSummary30,
    FarmHourlyDay,
    AnimalDaily30,
    MilkDaily30,
    Devices,
}

impl Kind {
    /// All of them, asked in turn.
    pub const ALL: [Self; 9] = [
        Self::Latest,
        Self::LastHour,
        Self::HourlyWeek,
        Self::Daily90,
        Self::FarmSummary30,
        Self::FarmHourlyDay,
        Self::AnimalDaily30,
        Self::MilkDaily30,
        Self::Devices,
    ];

    /// Those that have an answer: of animals and their milk only where there are animals.
    pub fn of(dairy: &Dairy) -> Vec<Self> {
        let of_animals = [Self::AnimalDaily30, Self::MilkDaily30];
        let asked = |kind: &Self| dairy.animals().next().is_some() || !of_animals.contains(kind);
        Self::ALL.into_iter().filter(asked).collect()
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Latest => "latest of a device",
            Self::LastHour => "last hour of a series, raw",
            Self::HourlyWeek => "7 days of a series, by hour",
            Self::Daily90 => "90 days of a series, by day",
            Self::FarmSummary30 => "farm summary of 30 days",
            Self::FarmHourlyDay => "a farm's day, by hour",
            Self::AnimalDaily30 => "30 days of an animal, by day",
            Self::MilkDaily30 => "milk of a farm, 30 days",
            Self::Devices => "devices of a farm",
        }
    }
}

/// How long each kind took.
#[derive(Debug)]
pub struct Latencies([Mutex<Histogram<u64>>; Kind::ALL.len()]);

/// Latency of one kind.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    /// The kind.
    pub kind: Kind,
    /// Answers.
    pub count: u64,
    /// Median.
    pub p50: Duration,
    /// 99th percentile.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Latencies {
    fn new() -> Result<Self> {
        let histogram = || Histogram::new_with_bounds(1, LONGEST_US, 3).map(Mutex::new);
        let mut all = Vec::new();
        for _ in Kind::ALL {
            all.push(histogram().context("making a histogram")?);
        }
        Ok(Self(all.try_into().map_err(|_| anyhow::anyhow!("a histogram a kind"))?))
    }

    /// Of every kind that was asked.
    pub fn figures(&self) -> Vec<Figure> {
        let figure = |(kind, histogram): (Kind, &Mutex<Histogram<u64>>)| {
            let histogram = histogram.lock();
            let micros = |quantile| Duration::from_micros(histogram.value_at_quantile(quantile));
            let (p50, p99, max) = (micros(0.5), micros(0.99), micros(1.0));
            Figure { kind, count: histogram.len(), p50, p99, max }
        };
        Kind::ALL.into_iter().zip(&self.0).map(figure).filter(|figure| figure.count > 0).collect()
    }
}

/// Looks whether the history is there: its last device, which is written last.
///
/// # Errors
///
/// It is not there, or the server cannot be asked.
pub async fn find_history(client: &QueryClient, dairy: &Dairy) -> Result<()> {
    let device = dairy.devices.last().context("a dairy has devices")?;
    let request = v1::GetLatestRequest {
        device_uid: device.uid.clone(),
        farm_id: device.farm_id,
        ..v1::GetLatestRequest::default()
    };
    client.get_latest(request).await.with_context(|| {
        format!(
            "the history is not there, since {} is not known: write it first, with --readings above 0 and the same \
             --devices and --farms",
            device.uid
        )
    })?;
    Ok(())
}

/// Asks for `time`, `askers` at once; answers how long it took.
///
/// # Errors
///
/// A question fails.
pub async fn ask(client: &QueryClient, dairy: &Dairy, time: Duration, askers: usize) -> Result<Latencies> {
    let (latencies, until, turn) = (Latencies::new()?, Instant::now() + time, AtomicU64::new(0));
    let kinds = Kind::of(dairy);
    let asker = async || -> Result<()> {
        while Instant::now() < until {
            let turn = turn.fetch_add(1, Ordering::Relaxed) as usize;
            let kind = kinds[turn % kinds.len()];
            let began = Instant::now();
            ask_one(client, dairy, kind).await.with_context(|| kind.name())?;
            let took = u64::try_from(began.elapsed().as_micros()).unwrap_or(LONGEST_US).clamp(1, LONGEST_US);
            latencies.0[kind as usize].lock().saturating_record(took);
        }
        Ok(())
    };
    futures::future::try_join_all((0..askers).map(|_| asker())).await?;
    Ok(latencies)
}

fn now_us() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

/// A day of UTC, as the API writes it.
fn date(days_ago: i64) -> String {
    (chrono::Utc::now().date_naive() - chrono::TimeDelta::days(days_ago)).to_string()
}

async fn ask_one(client: &QueryClient, dairy: &Dairy, kind: Kind) -> Result<()> {
    let device: &Device = dairy.devices.choose(&mut rand::rng()).context("a dairy has devices")?;
    let metric = device.kind.metrics()[0].name().to_owned();
    let now = now_us();
    let range = |back_us: i64, resolution: v1::Resolution| v1::QueryRangeRequest {
        metric_name: metric.clone(),
        start_us: now - back_us,
        end_us: now,
        page_size: 10_000,
        resolution: resolution.into(),
        ..v1::QueryRangeRequest::default()
    };
    let of_device =
        |request: v1::QueryRangeRequest| v1::QueryRangeRequest { device_uid: device.uid.clone(), ..request };
    let farm_id = device.farm_id;
    match kind {
        Kind::Latest => {
            let request =
                v1::GetLatestRequest { device_uid: device.uid.clone(), ..v1::GetLatestRequest::default() };
            ensure!(!client.get_latest(request).await?.is_empty(), "{} has no latest reading", device.uid);
        }
        Kind::LastHour => drop(client.query_range(of_device(range(HOUR_US, v1::Resolution::Raw))).await?),
        Kind::HourlyWeek => {
            drop(client.query_range(of_device(range(7 * DAY_US, v1::Resolution::Hour))).await?);
        }
        Kind::Daily90 => drop(client.query_range(of_device(range(90 * DAY_US, v1::Resolution::Day))).await?),
        Kind::FarmHourlyDay => {
            let request = v1::QueryRangeRequest { farm_id, ..range(DAY_US, v1::Resolution::Hour) };
            drop(client.query_range(request).await?);
        }
        Kind::FarmSummary30 => {
            let (first_date, last_date) = (date(29), date(0));
            let request =
                v1::GetFarmDailySummaryRequest { farm_id, first_date, last_date, ..Default::default() };
            ensure!(
                !client.get_farm_daily_summary(request).await?.days.is_empty(),
                "farm {farm_id} has no days"
            );
        }
        Kind::AnimalDaily30 => {
            let animal_id =
                dairy.animals().choose(&mut rand::rng()).context("a dairy whose animals are asked for")?;
            let request = v1::QueryRangeRequest {
                animal_id,
                metric_name: "rumination".to_owned(),
                ..range(30 * DAY_US, v1::Resolution::Day)
            };
            drop(client.query_range(request).await?);
        }
        Kind::MilkDaily30 => {
            let (first_date, last_date) = (date(29), date(0));
            let request = v1::GetMilkProductionDailyRequest {
                farm_id,
                first_date,
                last_date,
                page_size: 10_000,
                ..Default::default()
            };
            drop(client.get_milk_production_daily(request).await?);
        }
        Kind::Devices => {
            let request = v1::ListDevicesRequest { farm_id, ..v1::ListDevicesRequest::default() };
            ensure!(!client.list_devices(request).await?.devices.is_empty(), "farm {farm_id} has no devices");
        }
    }
    Ok(())
}

/// Holds the days of some series against a plain computation from their readings; answers how many buckets agreed.
///
/// # Errors
///
/// A bucket does not agree, or a question fails.
pub async fn check(client: &QueryClient, dairy: &Dairy, series: usize) -> Result<usize> {
    let mut checked = 0;
    // Days that nobody writes into any more.
    let today = now_us().div_euclid(DAY_US) * DAY_US;
    let span = (today - 20 * DAY_US, today - DAY_US);
    for device in dairy.devices.choose_multiple(&mut rand::rng(), series) {
        let metric = device.kind.metrics()[0].name().to_owned();
        let request = v1::StreamRangeRequest {
            device_uid: device.uid.clone(),
            metric_names: vec![metric.clone()],
            start_us: span.0,
            end_us: span.1,
            ..v1::StreamRangeRequest::default()
        };
        let mut days: std::collections::BTreeMap<i64, Vec<f64>> = std::collections::BTreeMap::new();
        let mut parts = Box::pin(client.stream_range(request).await?);
        while let Some(part) = parts.try_next().await? {
            for reading in part.readings {
                days.entry(reading.time_us.div_euclid(DAY_US) * DAY_US).or_default().push(reading.value);
            }
        }
        let request = v1::QueryRangeRequest {
            device_uid: device.uid.clone(),
            metric_name: metric,
            start_us: span.0,
            end_us: span.1,
            resolution: v1::Resolution::Day.into(),
            ..v1::QueryRangeRequest::default()
        };
        let answer = client.query_range(request).await?;
        let buckets: Vec<v1::Bucket> = answer.aggregates.into_iter().flat_map(|line| line.buckets).collect();
        ensure!(
            buckets.len() == days.len(),
            "{}: {} days instead of {}",
            device.uid,
            buckets.len(),
            days.len()
        );
        for (bucket, (start_us, values)) in buckets.iter().zip(&days) {
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let near = (bucket.avg.unwrap_or_default() - mean).abs() <= 1e-9 * mean.abs().max(1.0);
            ensure!(
                bucket.start_us == *start_us
                    && bucket.count == values.len() as u64
                    && bucket.min == Some(least)
                    && near,
                "{}: {bucket:?} instead of {} readings with mean {mean}",
                device.uid,
                values.len()
            );
            checked += 1;
        }
    }
    Ok(checked)
}
