//! `herdstream-loadtest query`: how long answers take over a long history, while readings arrive.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use clap::Args;
use herdstream_client::{
    AdminClient, Producer, ProducerConfig, QueryClient, QueryConfig, Reading, WriteClient, v1,
};
use herdstream_loadtest::{
    history::{Dairy, HistoryConfig, value},
    questions,
    server_process::{BINARY_VARIABLE, ServerProcess, find_binary},
};
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use crate::{cli::within, place::Place};

#[derive(Clone, Debug, Args)]
pub(crate) struct QueryArgs {
    /// Ask a server that runs already and holds the history of this command
    #[arg(long, value_name = "URL", conflicts_with_all = ["database", "data_dir"])]
    endpoint: Option<String>,
    /// Start a server on the database of this URL, and leave the history in it
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Put the server's data below this directory, and leave it there
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// The server's binary [default: beside this program]
    #[arg(long, value_name = "FILE", env = BINARY_VARIABLE)]
    server_bin: Option<PathBuf>,
    /// Readings of the history, about: each series has one at least; 0: the history is there
    #[arg(long, value_name = "N", default_value_t = 5_000_000, value_parser = within(0, 10_000_000_000_u64))]
    readings: u64,
    /// Devices of all farms, at least one each
    #[arg(long, value_name = "N", default_value_t = 1_000, value_parser = within(1, 30_000_usize))]
    devices: usize,
    /// Farms
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = within(1, 10_000))]
    farms: i32,
    /// Days
    #[arg(long, value_name = "N", default_value_t = 90, value_parser = within(1, 3_650_i64))]
    days: i64,
    /// Readings a second that arrive meanwhile; 0: none
    #[arg(long, value_name = "N", default_value_t = 20_000, value_parser = within(0, 10_000_000_u64))]
    rate: u64,
    /// Seconds of questions
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = within(1, 86_400_u64))]
    seconds: u64,
    /// Questions at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = within(1, 1_000_usize))]
    askers: usize,
    /// Devices whose answers are held against a plain computation; 0: none
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = within(0, 30_000_usize))]
    checked: usize,
}

pub(crate) async fn query(args: &QueryArgs) -> Result<bool> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let dairy = Dairy::new(HistoryConfig {
        readings: args.readings.max(1),
        farms: args.farms,
        devices: args.devices,
        days: args.days,
        end_us: i64::try_from(now.as_micros()).unwrap_or(i64::MAX),
    })?;
    let place = Place::choose(args.data_dir.as_deref())?;
    let server = match &args.endpoint {
        Some(_) => None,
        None => {
            let (binary, dir) = (find_binary(args.server_bin.as_deref())?, place.path().to_owned());
            Some(match &args.database {
                Some(url) => ServerProcess::start_on(binary, dir, url).await?,
                None => ServerProcess::start(binary, dir).await?,
            })
        }
    };
    let endpoint =
        args.endpoint.clone().or(server.as_ref().map(ServerProcess::endpoint)).context("a server")?;
    if args.readings > 0 {
        write_history(args, &endpoint, &dairy).await?;
    }
    if let Some(admin) = server.as_ref().map(ServerProcess::admin_endpoint) {
        refresh(&admin).await?;
    }
    let client = QueryClient::connect(QueryConfig::new(&endpoint).timeout(Duration::from_mins(2))).await?;
    if args.readings == 0 {
        questions::find_history(&client, &dairy).await?;
    }
    let stop = tokio_util::sync::CancellationToken::new();
    let arriving = tokio::spawn(arrive(endpoint.clone(), dairy.clone(), args.rate, stop.clone()));
    // A moment for the load to settle, and for caches to hold what they will hold.
    questions::ask(&client, &dairy, Duration::from_secs(3), args.askers).await?;
    let latencies = questions::ask(&client, &dairy, Duration::from_secs(args.seconds), args.askers).await?;
    stop.cancel();
    let arrived = arriving.await??;
    println!("  {:<30} {:>8} {:>10} {:>10} {:>10}", "question", "answers", "p50", "p99", "max");
    for figure in latencies.figures() {
        let ms = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1e3);
        let questions::Figure { kind, count, p50, p99, max } = figure;
        println!("  {:<30} {count:>8} {:>10} {:>10} {:>10}", kind.name(), ms(p50), ms(p99), ms(max));
    }
    println!("  meanwhile      {} readings a second arrived, {} askers", HumanCount(arrived), args.askers);
    let checked = questions::check(&client, &dairy, args.checked).await?;
    println!(
        "  oracle         {checked} days of {} series equal a plain computation from their readings",
        args.checked
    );
    drop(server);
    Ok(true)
}

async fn write_history(args: &QueryArgs, endpoint: &str, dairy: &Dairy) -> Result<()> {
    let writer = WriteClient::connect(QueryConfig::new(endpoint).timeout(Duration::from_mins(2))).await?;
    let bar = ProgressBar::new(args.readings);
    if let Ok(style) =
        ProgressStyle::with_template("  history {bar:30} {human_pos} of {human_len}, {per_sec}, {eta}")
    {
        bar.set_style(style);
    }
    let began = Instant::now();
    let written = dairy.write(&writer, |count| bar.inc(count)).await?;
    bar.finish_and_clear();
    let took = began.elapsed();
    let rate = HumanCount((written as f64 / took.as_secs_f64()) as u64);
    println!(
        "  history        {} readings and milkings of {} devices on {} farms, {} days, in {took:.1?} ({rate}/s)",
        HumanCount(written),
        dairy.devices.len(),
        args.farms,
        args.days
    );
    Ok(())
}

async fn refresh(admin: &str) -> Result<()> {
    let client = AdminClient::connect(QueryConfig::new(admin).timeout(Duration::from_hours(1))).await?;
    let began = Instant::now();
    let mut all = (0, 0);
    // The server's own refresh may be under way.
    loop {
        match client.refresh_rollups(v1::RefreshRollupsRequest::default()).await {
            Ok(done) => {
                all = (all.0 + done.buckets, all.1 + done.dirty_hours);
                break;
            }
            Err(error) if began.elapsed() < Duration::from_mins(30) => {
                eprintln!("  refresh        again, since {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    let (buckets, dirty) = (HumanCount(all.0), HumanCount(all.1));
    println!("  refresh        {buckets} buckets and {dirty} dirty hours in {:.1?}", began.elapsed());
    Ok(())
}

/// Readings of now, of all devices, at a rate; answers how many a second were taken.
async fn arrive(
    endpoint: String,
    dairy: Dairy,
    rate: u64,
    stop: tokio_util::sync::CancellationToken,
) -> Result<u64> {
    const TICK: Duration = Duration::from_millis(20);
    if rate == 0 {
        stop.cancelled().await;
        return Ok(0);
    }
    let producer = Producer::open(ProducerConfig::new(&endpoint, "live")).await?;
    let mut series = Vec::new();
    for device in &dairy.devices {
        for &metric in device.kind.metrics() {
            series.push((producer.series(Dairy::key(device, metric))?, metric, device.animal_id));
        }
    }
    let mut ticks = tokio::time::interval(TICK);
    let (began, mut sent, mut next) = (Instant::now(), 0_u64, 0);
    while !stop.is_cancelled() {
        ticks.tick().await;
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let time_us = i64::try_from(now.as_micros()).unwrap_or(i64::MAX);
        let readings: Vec<Reading> = (sent..due)
            .map(|_| {
                let (reference, metric, animal) = series[next];
                next = (next + 1) % series.len();
                let reading = Reading::new(reference, value(metric, 1, time_us)).at(time_us);
                match animal {
                    Some(animal) => reading.animal(animal),
                    None => reading,
                }
            })
            .collect();
        sent = due;
        producer.send_slice(&readings, Duration::from_secs(30)).await?;
    }
    let rate = sent as f64 / began.elapsed().as_secs_f64();
    producer.close(Duration::from_secs(30)).await?;
    Ok(rate as u64)
}
