//! `herdstream query`: questions to a server.

mod range;
mod span;
mod tables;

use anyhow::{Context as _, Result};
use futures::TryStreamExt as _;
use herdstream_client::{QueryClient, v1};

use crate::{
    connect::{ServerArgs, reach},
    output::{Cell, Format, OutputArgs, Rows, time},
    times::{self, Micros, Moment},
};

use self::span::Days;
pub(crate) use self::span::Span;

/// What to ask.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// The newest reading of each metric of a device
    Latest {
        /// The device
        device: String,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        with: With,
    },
    /// One metric over time, as a chart and a table: readings, or statistics by 15 minutes, hour or day
    #[command(after_long_help = range::HELP)]
    Range(range::Args),
    /// All readings of a range, however many
    Stream(range::StreamArgs),
    /// Newest values as they come, until Ctrl-C, which ends it with exit code 0
    Watch {
        #[command(flatten)]
        watched: Watched,
        /// Only these metrics
        #[arg(long = "metric", value_name = "METRIC")]
        metrics: Vec<String>,
        /// Between two looks
        #[arg(long, value_name = "DURATION", default_value = "1s", value_parser = humantime::parse_duration)]
        interval: std::time::Duration,
        #[command(flatten)]
        with: With,
    },
    /// Milkings, one by one
    Milkings {
        /// The farm
        farm: i32,
        /// Only this animal
        #[arg(long)]
        animal: Option<i32>,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        with: With,
    },
    /// Milk by animal and day
    Milk {
        /// The farm
        farm: i32,
        /// Only this animal
        #[arg(long)]
        animal: Option<i32>,
        #[command(flatten)]
        days: Days,
        #[command(flatten)]
        with: With,
    },
    /// A farm's days: each metric of each kind of device
    FarmSummary {
        /// The farm
        farm: i32,
        /// Only these metrics
        #[arg(long = "metric", value_name = "METRIC")]
        metrics: Vec<String>,
        /// Only this kind of device
        #[arg(long)]
        device_type: Option<String>,
        #[command(flatten)]
        days: Days,
        #[command(flatten)]
        with: With,
    },
    /// What was measured of an animal: each metric with its newest reading and its statistics
    Animal {
        /// The animal
        animal: i32,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        span: Span,
        #[command(flatten)]
        with: With,
    },
    /// Devices and whether they are heard
    Devices {
        /// Only this farm
        #[arg(long)]
        farm: Option<i32>,
        #[command(flatten)]
        with: With,
    },
    /// One device and whether it is heard
    Status {
        /// The device
        device: String,
        /// Only on this farm
        #[arg(long)]
        farm: Option<i32>,
        #[command(flatten)]
        with: With,
    },
    /// Series: which device measures what
    Series {
        /// Only this device
        #[arg(long)]
        device: Option<String>,
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        with: With,
    },
    /// How much arrived lately
    Stats {
        #[command(flatten)]
        with: With,
    },
    /// What answers: version, store and what it has
    Info {
        #[command(flatten)]
        with: With,
    },
}

/// The server, and the form of the answer.
#[derive(Debug, clap::Args)]
pub(crate) struct With {
    #[command(flatten)]
    pub(crate) server: ServerArgs,
    #[command(flatten)]
    pub(crate) output: OutputArgs,
}

/// Which of several.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// Only this farm
    #[arg(long)]
    farm: Option<i32>,
    /// Only these metrics
    #[arg(long = "metric", value_name = "METRIC")]
    metrics: Vec<String>,
}

/// What is watched.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Watched {
    /// One device
    #[arg(long)]
    device: Option<String>,
    /// All devices of a farm, or only one of it
    #[arg(long)]
    farm: Option<i32>,
}

impl With {
    pub(crate) async fn client(&self) -> Result<QueryClient> {
        reach(&self.server.endpoint, "--endpoint", QueryClient::connect(self.server.config()?).await)
    }
}

/// Asks, and shows the answer.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn query(command: Command) -> Result<()> {
    match command {
        Command::Latest { device, which, with } => {
            let request = v1::GetLatestRequest {
                device_uid: device,
                farm_id: which.farm.unwrap_or_default(),
                metric_names: which.metrics,
            };
            let latest = with.client().await?.get_latest(request).await?;
            tables::readings(&latest).print(with.output.format())
        }
        Command::Range(args) => range::range(args).await,
        Command::Stream(args) => range::stream(args).await,
        Command::Watch { watched, metrics, interval, with } => {
            let request = v1::WatchReadingsRequest {
                device_uid: watched.device.unwrap_or_default(),
                farm_id: watched.farm.unwrap_or_default(),
                metric_names: metrics,
                interval_ms: u32::try_from(interval.as_millis()).unwrap_or(u32::MAX),
            };
            watch(request, &with).await
        }
        Command::Milkings { farm, animal, span, with } => milkings(farm, animal, span, &with).await,
        Command::Milk { farm, animal, days, with } => {
            let (first, last) = days.dates()?;
            let request = v1::GetMilkProductionDailyRequest {
                farm_id: farm,
                animal_id: animal.unwrap_or_default(),
                first_date: first.to_string(),
                last_date: last.to_string(),
                time_zone: times::zone_name(days.time_zone),
                ..v1::GetMilkProductionDailyRequest::default()
            };
            let client = with.client().await?;
            let milk: Vec<_> = client.get_milk_production_daily_all(request).try_collect().await?;
            let rows = tables::milk(&milk);
            rows.print_or(with.output.format(), days.nothing((first, last)).as_deref())
        }
        Command::FarmSummary { farm, metrics, device_type, days, with } => {
            let (first, last) = days.dates()?;
            let request = v1::GetFarmDailySummaryRequest {
                farm_id: farm,
                first_date: first.to_string(),
                last_date: last.to_string(),
                time_zone: times::zone_name(days.time_zone),
                metric_names: metrics,
                device_type: device_type.unwrap_or_default(),
            };
            let from = Moment::Day(first).micros(days.time_zone);
            let answer = with.client().await?.get_farm_daily_summary(request).await?;
            tell_kept_from(answer.kept_from_us, from, AT_THIS);
            let rows = tables::farm_days(&answer.days);
            rows.print_or(with.output.format(), days.nothing((first, last)).as_deref())
        }
        Command::Animal { animal, which, span, with } => {
            let (start_us, end_us) = span.micros()?;
            let request = v1::GetAnimalMetricsRequest {
                animal_id: animal,
                farm_id: which.farm.unwrap_or_default(),
                start_us,
                end_us,
                metric_names: which.metrics,
            };
            let answer = with.client().await?.get_animal_metrics(request).await?;
            tell_kept_from(answer.kept_from_us, start_us, AT_THIS);
            let nothing = span.nothing((start_us, end_us));
            let rows = tables::animal(&answer.metrics);
            rows.print_or(with.output.format(), nothing.as_deref())
        }
        Command::Devices { farm, with } => {
            let farm_id = farm.unwrap_or_default();
            let request = v1::ListDevicesRequest { farm_id, ..v1::ListDevicesRequest::default() };
            let devices: Vec<_> = with.client().await?.list_devices_all(request).try_collect().await?;
            tables::devices(&devices).print(with.output.format())
        }
        Command::Status { device, farm, with } => {
            let farm_id = farm.unwrap_or_default();
            let request = v1::GetDeviceStatusRequest { device_uid: device, farm_id };
            let devices = with.client().await?.get_device_status(request).await?;
            tables::devices(&devices).print(with.output.format())
        }
        Command::Series { device, which, with } => series(device, which, &with).await,
        Command::Stats { with } => stats(&with).await,
        Command::Info { with } => info(&with).await,
    }
}

/// Shows values until Ctrl-C, or until the server ends.
async fn watch(request: v1::WatchReadingsRequest, with: &With) -> Result<()> {
    let mut parts = Box::pin(with.client().await?.watch_readings(request).await?);
    let mut interrupted = Box::pin(tokio::signal::ctrl_c());
    let (format, mut first) = (with.output.format(), true);
    loop {
        let part = tokio::select! {
            // Heard from before the first value is shown.
            biased;
            heard = &mut interrupted => return heard.context("cannot hear Ctrl-C"),
            part = parts.try_next() => part?,
        };
        let Some(changed) = part else { return Ok(()) };
        let rows = tables::readings(&changed);
        match format {
            Format::Table => rows.print(format)?,
            // Programs read one header, and an object a line.
            _ => rows.print_part(format, std::mem::take(&mut first))?,
        }
    }
}

async fn milkings(farm_id: i32, animal: Option<i32>, span: Span, with: &With) -> Result<()> {
    let (start_us, end_us) = span.micros()?;
    let mut request = v1::QueryMilkingsRequest {
        farm_id,
        animal_id: animal.unwrap_or_default(),
        start_us,
        end_us,
        ..v1::QueryMilkingsRequest::default()
    };
    let (client, mut milkings, mut kept_from_us) = (with.client().await?, Vec::new(), 0);
    loop {
        let page = client.query_milkings(request.clone()).await?;
        kept_from_us = page.kept_from_us.max(kept_from_us);
        milkings.extend(page.milkings);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    tell_kept_from(kept_from_us, start_us, "");
    let rows = tables::milkings(&milkings);
    rows.print_or(with.output.format(), span.nothing((start_us, end_us)).as_deref())
}

async fn series(device: Option<String>, which: Which, with: &With) -> Result<()> {
    let request = v1::ListSeriesRequest {
        farm_id: which.farm.unwrap_or_default(),
        device_uid: device.unwrap_or_default(),
        ..v1::ListSeriesRequest::default()
    };
    let found: Vec<_> = with.client().await?.list_series_all(request).try_collect().await?;
    let mut rows = Rows::new(&["farm", "device", "type", "metric", "unit"]);
    for key in
        found.into_iter().filter(|key| which.metrics.is_empty() || which.metrics.contains(&key.metric_name))
    {
        rows.push(vec![
            key.farm_id.into(),
            key.device_uid.into(),
            key.device_type.into(),
            key.metric_name.into(),
            key.metric_unit.into(),
        ]);
    }
    rows.print(with.output.format())
}

async fn stats(with: &With) -> Result<()> {
    let stats = with.client().await?.get_ingestion_stats().await?;
    let mut rows = Rows::new(&["last_hour", "last_24h", "active_devices", "waiting"]);
    let counts = [stats.readings_last_hour, stats.readings_last_24h, stats.active_devices, stats.buffer_size];
    rows.push(counts.map(Cell::from).into());
    rows.print(with.output.format())
}

async fn info(with: &With) -> Result<()> {
    let info = with.client().await?.get_server_info().await?;
    let mut rows = Rows::new(&["what", "value", "note"]);
    let mut add =
        |what: &str, value: Cell, note: String| rows.push(vec![what.to_owned().into(), value, note.into()]);
    add("version", info.version.into(), String::new());
    add("profile", info.profile.into(), info.reason);
    add("database", info.database_version.into(), String::new());
    add("extension", info.extension_version.into(), info.licence);
    for (what, age_us, from_us) in [
        ("readings_kept_for", info.readings_kept_us, info.readings_kept_from_us),
        ("milkings_kept_for", info.milkings_kept_us, info.milkings_kept_from_us),
    ] {
        let age = match age_us {
            0 => "ever".to_owned(),
            age_us => times::show_age(Micros::try_from(age_us).unwrap_or(Micros::MAX)),
        };
        let dropped = match from_us {
            None => "the store does not answer".to_owned(),
            Some(0) => String::new(),
            Some(from_us) => format!("days before {} were dropped", times::show_date(from_us, None)),
        };
        add(what, age.into(), dropped);
    }
    for feature in info.features {
        add(&feature.name, Cell::Flag(feature.enabled), feature.note);
    }
    rows.print(with.output.format())
}

/// A series in a few words.
fn name(key: Option<&v1::SeriesKey>) -> String {
    let Some(key) = key else { return String::new() };
    let subject = if key.device_uid.is_empty() {
        format!("{}s of farm {}", key.device_type, key.farm_id)
    } else {
        key.device_uid.clone()
    };
    let unit = if key.metric_unit.is_empty() { String::new() } else { format!(" ({})", key.metric_unit) };
    format!("{} of {subject}{unit}", key.metric_name)
}

/// Readings that are gone may be told by aggregates yet.
const AT_THIS: &str = " at this resolution";

/// The last time that is no longer kept, for people; `how` is what is no longer kept of it.
fn tell_kept_from(kept_from_us: Micros, from: Micros, how: &str) {
    if kept_from_us > from
        && let Cell::Time(time_us) = time(kept_from_us)
    {
        tell!("herdstream: what lies before {} is no longer kept{how}", times::show(time_us));
    }
}
