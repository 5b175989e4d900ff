//! The commands: puts the parts together.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use herdstream_client::{QueryClient, QueryConfig, Token};
use herdstream_loadtest::{
    copy_limit::{self, ScratchDatabase},
    database_url, limit as store_limit,
    oracle::{self, Balance},
    report::{self, Bound, LimitRun, Machine, Report, Settings},
    server_process::{BINARY_VARIABLE, ServerProcess, build_binary, find_binary},
    workload::{self, Load, Outcome, Pace},
};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::{process::Command, time::Instant};

use crate::{
    cli::{FarmArgs, LimitArgs, RunArgs},
    output,
    place::{Place, in_memory},
};

/// How long the last acks may take.
const FLUSH_TIMEOUT: Duration = Duration::from_mins(1);
/// Gateways whose rows are read back at a time.
const PARALLEL: usize = 2;
/// How long one page of rows may take.
const PAGE_TIMEOUT: Duration = Duration::from_mins(2);

/// Loads a server and reports; true when it passed.
pub(crate) async fn run(args: &RunArgs) -> Result<bool> {
    for file in args.json.iter().chain(&args.html) {
        output::can_write(file)?;
    }
    let machine = Machine::this();
    let place = Place::choose(args.data_dir.as_deref())?;
    let (server, endpoint) = match &args.endpoint {
        Some(endpoint) => (None, endpoint.clone()),
        None => {
            let server = start_server(args, place.path()).await?;
            let endpoint = server.endpoint();
            (Some(server), endpoint)
        }
    };
    let load = load(args, endpoint, place.path())?;
    // The SDK would wait for a server without end; a person who mistyped an address should not.
    query_client(&load).await?.get_ingestion_stats().await.context("asking the server how it is")?;
    let mut settings = settings(args, &load);

    let outcome = put_under_load(&load).await?;
    let rss = server.as_ref().and_then(ServerProcess::peak_rss_mib);
    let verified = if args.no_verify { None } else { Some(verify(&load, &outcome).await?) };
    let rss_with_read_back = server.as_ref().and_then(ServerProcess::peak_rss_mib);
    let mut troubles = outcome.troubles.clone();
    if let Some(server) = server
        && let Err(error) = server.stop().await
    {
        troubles.push(format!("{error:#}"));
    }
    if args.endpoint.is_none() && args.database.is_none() && in_memory(place.path()) {
        settings.target.push_str(" (on a file system in memory: its syncs cost nothing)");
    }
    let limit = match (&args.endpoint, args.limit_seconds) {
        (None, 1..) => limit_in_child(args, load.seed, place.path()).await?,
        _ => Vec::new(),
    };

    let report =
        report(args, (settings, machine), &outcome, verified, (rss, rss_with_read_back), troubles, limit);
    let (text, page) = (report::text(&report), || report::html(&report));
    output::deliver(&report, &text, page, args.json.as_deref(), args.html.as_deref())?;
    Ok(report.passed)
}

/// Measures the store alone.
pub(crate) async fn limit(args: &LimitArgs) -> Result<bool> {
    args.json.as_deref().map_or(Ok(()), output::can_write)?;
    let place = Place::choose(args.data_dir.as_deref())?;
    let load = Load {
        endpoint: String::new(),
        token: None,
        producers: args.farms.producers,
        series: args.farms.series,
        batch: args.farms.batch,
        pace: Pace::Closed { window: 1 },
        duration: Duration::ZERO,
        seed: args.farms.seed.unwrap_or_else(rand::random),
        run: "limit".into(),
        spool: None,
        bad_per_million: 0,
        flush_timeout: Duration::ZERO,
    };
    ensure!(args.groups.iter().all(|group| *group > 0), "a group of 0 readings: give at least 1");
    let each = Duration::from_secs(args.seconds);
    let runs = match &args.database {
        Some(url) => limit_of_database(args, url, &load, each).await?,
        None => store_limit::measure(&load, &args.groups, each, place.path()).await?,
    };
    let to_stdout = args.json.as_deref() == Some(Path::new("-"));
    if let Some(file) = &args.json {
        output::write(file, &serde_json::to_string_pretty(&runs)?)?;
    }
    if !to_stdout {
        println!("Below the server, {} producers × {} series:", load.producers, load.series);
        for run in &runs {
            println!(
                "  {:>9} readings a commit  {:>11.0} readings/s   commit p50 {:.1} ms, p99 {:.1} ms   {}",
                run.group,
                run.readings_per_second,
                run.commit_ms_p50,
                run.commit_ms_p99,
                report::limit_of(run)
            );
        }
    }
    Ok(true)
}

/// What PostgreSQL itself takes; and psql, at the group size that it likes best.
async fn limit_of_database(
    args: &LimitArgs,
    url: &str,
    load: &Load,
    each: Duration,
) -> Result<Vec<LimitRun>> {
    let connections = args.connections.get();
    let scratch = ScratchDatabase::create(url, &server_binary(args.server_bin.as_deref()).await?).await?;
    let mut runs = copy_limit::measure(load, &args.groups, each, &scratch, connections).await?;
    let best = runs.iter().max_by(|a, b| a.readings_per_second.total_cmp(&b.readings_per_second));
    if let Some(group) = best.map(|run| run.group).filter(|_| args.psql) {
        runs.push(copy_limit::measure_psql(load, group, &scratch, connections).await?);
    }
    Ok(runs)
}

async fn start_server(args: &RunArgs, place: &Path) -> Result<ServerProcess> {
    let binary = server_binary(args.server_bin.as_deref()).await?;
    let dir = place.join("server");
    match &args.database {
        Some(url) => ServerProcess::start_on(binary, dir, url).await,
        None => ServerProcess::start(binary, dir).await,
    }
}

async fn server_binary(named: Option<&Path>) -> Result<PathBuf> {
    match (named, env::var_os("CARGO")) {
        // Under cargo, the server is the one of this work tree, and not what was built some day.
        (None, Some(cargo)) => tokio::task::spawn_blocking(move || build_binary(Path::new(&cargo)))
            .await
            .context("building the server")?,
        (named, _) => find_binary(named),
    }
}

fn load(args: &RunArgs, endpoint: String, place: &Path) -> Result<Load> {
    let spool = match &args.spool {
        None => None,
        Some(None) => Some(place.join("spool")),
        Some(Some(dir)) => {
            fs::create_dir_all(dir).with_context(|| format!("creating {}", dir.display()))?;
            Some(dir.clone())
        }
    };
    let FarmArgs { producers, series, batch, seed } = args.farms;
    Ok(Load {
        endpoint,
        token: args.token.clone().map(Token::from),
        producers,
        series,
        batch,
        pace: match args.rate {
            Some(rate) => Pace::Open { rate },
            None => Pace::Closed { window: args.window.get() },
        },
        duration: Duration::from_secs(args.seconds),
        seed: seed.unwrap_or_else(rand::random),
        run: format!("lt{:08x}", rand::random::<u32>()),
        spool,
        bad_per_million: args.bad_per_million,
        flush_timeout: FLUSH_TIMEOUT,
    })
}

async fn put_under_load(load: &Load) -> Result<Outcome> {
    let bar = ProgressBar::new(load.duration.as_secs());
    bar.set_style(
        ProgressStyle::with_template("{bar:32.green/dim} {pos:>3}/{len} s  {msg}")
            .expect("a template that is sound"),
    );
    bar.set_message("connecting");
    let outcome = workload::run(load, |second| {
        bar.set_position(second.at.round() as u64);
        bar.set_message(format!(
            "{:>10.0} readings/s  p99 {:>7.1} ms  {:>8} pending",
            second.rate, second.p99_ms, second.pending
        ));
    })
    .await;
    bar.finish_and_clear();
    outcome
}

/// What verification showed: the balance, and rows read back a second.
type Verified = (Balance, f64);

async fn verify(load: &Load, outcome: &Outcome) -> Result<Verified> {
    let expected: u64 = outcome.logs.iter().map(oracle::Log::taken_total).sum();
    let bar = ProgressBar::new(expected);
    bar.set_style(
        ProgressStyle::with_template("{bar:32.cyan/dim} {percent:>3} %  reading back, {per_sec}")
            .expect("a template that is sound"),
    );
    let rows = AtomicU64::new(0);
    let start = Instant::now();
    let (rows_ref, bar_ref) = (&rows, &bar);
    let balances: Vec<Balance> = stream::iter(&outcome.logs)
        .map(|log| async move {
            // A connection each: one carries no more than one core decodes.
            let client = query_client(load).await?;
            let found = oracle::read_back(&client, log, outcome.span_us, |count| {
                rows_ref.fetch_add(count, Ordering::Relaxed);
                bar_ref.inc(count);
            });
            anyhow::Ok(oracle::weigh(log, &found.await?))
        })
        .buffer_unordered(PARALLEL)
        .try_collect()
        .await?;
    bar.finish_and_clear();
    let mut balance = Balance::empty();
    for one in balances {
        balance.add(one);
    }
    Ok((balance, rows.into_inner() as f64 / start.elapsed().as_secs_f64()))
}

async fn query_client(load: &Load) -> Result<QueryClient> {
    let mut config = QueryConfig::new(&load.endpoint).timeout(PAGE_TIMEOUT);
    config.token.clone_from(&load.token);
    Ok(QueryClient::connect(config).await?)
}

/// In a process of its own, so that its memory and its caches are its own.
async fn limit_in_child(args: &RunArgs, seed: u64, place: &Path) -> Result<Vec<LimitRun>> {
    let bar = ProgressBar::new_spinner().with_message("measuring the store alone");
    bar.enable_steady_tick(Duration::from_millis(100));
    let FarmArgs { producers, series, batch, .. } = args.farms;
    let dir = place.join("limit");
    fs::create_dir_all(&dir).with_context(|| format!("creating {}", dir.display()))?;
    let mut limit = Command::new(env::current_exe().context("looking for the own binary")?);
    match &args.database {
        Some(url) => limit
            .args(["limit", "--json", "-", "--database", url])
            .args(["--connections", &args.limit_connections.to_string()])
            .env(BINARY_VARIABLE, server_binary(args.server_bin.as_deref()).await?),
        None => limit.args(["limit", "--json", "-", "--data-dir", "."]),
    };
    let output = limit
        .args(["--producers", &producers.to_string(), "--series", &series.to_string()])
        .args(["--batch", &batch.to_string(), "--seed", &seed.to_string()])
        .args(["--seconds", &args.limit_seconds.to_string()])
        // No herdstream.toml of the caller's directory, as for the server.
        .current_dir(&dir)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("measuring the store alone")?;
    bar.finish_and_clear();
    ensure!(
        output.status.success(),
        "the store alone cannot be measured ({}): {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    serde_json::from_slice(&output.stdout).context("reading what was measured of the store alone")
}

fn settings(args: &RunArgs, load: &Load) -> Settings {
    Settings {
        command: output::command_line(),
        started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        target: match (&args.endpoint, &args.database) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(url)) => format!("{}, a server of its own", database_url::named(url)),
            (None, None) => "embedded store, a server of its own".into(),
        },
        seed: load.seed,
        run: load.run.clone(),
        producers: load.producers,
        series: load.series,
        batch: load.batch,
        rate: args.rate,
        window: args.rate.is_none().then_some(args.window.get()),
        spool: load.spool.is_some(),
        bad_per_million: load.bad_per_million,
    }
}

fn report(
    args: &RunArgs,
    (config, machine): (Settings, Machine),
    outcome: &Outcome,
    verified: Option<Verified>,
    (server_peak_rss_mib, server_peak_rss_with_read_back_mib): (Option<f64>, Option<f64>),
    troubles: Vec<String>,
    limit: Vec<LimitRun>,
) -> Report {
    let seconds = outcome.elapsed.as_secs_f64();
    let items: u64 = outcome.logs.iter().map(oracle::Log::taken_total).sum();
    let milkings: u64 = outcome.logs.iter().filter_map(|log| log.taken.last()).map(|tally| tally.count).sum();
    let readings_part = 1.0 - milkings as f64 / items.max(1) as f64;
    let readings_per_second = outcome.resolved as f64 * readings_part / seconds;
    let best = limit.iter().map(|run| run.readings_per_second).max_by(f64::total_cmp);
    let ratio = best.map(|best| readings_per_second / best);
    let ack_ms = outcome.latencies.percentiles();
    let lone_ack_ms = outcome.lone.percentiles();
    let lone_p99 = (lone_ack_ms.samples > 0).then_some(lone_ack_ms.p99);
    let p99 = (ack_ms.samples > 0).then_some(ack_ms.p99);
    let bounds = [
        args.max_p99_ms.map(|bound| Bound::at_most("--max-p99-ms", bound, p99)),
        args.max_lone_p99_ms.map(|bound| Bound::at_most("--max-lone-p99-ms", bound, lone_p99)),
        args.min_rate.map(|bound| Bound::at_least("--min-rate", bound, Some(readings_per_second))),
        args.min_ratio.map(|bound| Bound::at_least("--min-ratio", bound, ratio)),
        args.max_rss_mib.map(|bound| Bound::at_most("--max-rss-mib", bound, server_peak_rss_mib)),
    ];
    let (oracle, read_back_rows_per_second) = verified.unzip();
    let mut report = Report {
        readings_per_second,
        limit_readings_per_second: best,
        ratio,
        ack_ms,
        lone_ack_ms,
        oracle,
        server_peak_rss_mib,
        server_peak_rss_with_read_back_mib,
        read_back_rows_per_second,
        seconds,
        bytes_per_item: outcome.bytes_sent as f64 / items.max(1) as f64,
        items_per_batch: items as f64 / outcome.batches_sent.max(1) as f64,
        disconnects: outcome.disconnects,
        troubles,
        bounds: bounds.into_iter().flatten().collect(),
        passed: false,
        config,
        machine,
        limit,
        timeline: outcome.timeline.clone(),
    };
    report.judge();
    report
}
