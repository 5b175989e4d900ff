//! `herdstream-loadtest query`: how long answers take over a long history, while readings arrive, and whether they are
//! fresh and true.

mod load;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use clap::Args;
use herdstream_client::{QueryClient, QueryConfig};
use herdstream_loadtest::{
    answers::check,
    database_url,
    fresh::{Fresh, Probe},
    history::{Dairy, HistoryConfig},
    questions::{self, Answers, Kind, Pace},
    report::{Machine, QuestionReport, QuestionSettings},
    server_process::{BINARY_VARIABLE, ServerProcess, find_binary},
    workload::now_us,
};
use rand::{Rng as _, SeedableRng as _, rngs::SmallRng};
use tokio_util::sync::CancellationToken;

use crate::{
    cli::{positive, within},
    output,
    place::Place,
};

/// Questions at once before those that count, so that every connection for questions has answered some.
const WARM_UP_ASKERS: usize = 16;

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
    /// Seconds of questions before that, which do not count: for the load to settle, and for caches and sessions to hold
    /// what they will hold
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = within(0, 3_600_u64))]
    warm_up: u64,
    /// Ask questions of these kinds only [default: of all in turn]
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    only: Vec<Kind>,
    /// Questions at once
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = within(1, 1_000_usize), conflicts_with = "question_rate")]
    askers: usize,
    /// Open loop: questions a second, each at its moment, whatever became of the others [default: closed loop]
    #[arg(long, value_name = "N", value_parser = positive)]
    question_rate: Option<f64>,
    /// Readings a second that are looked for in every answer as soon as they are acknowledged; 0: none
    #[arg(long, value_name = "N", default_value_t = 2, value_parser = within(0, 100_u32))]
    fresh: u32,
    /// Devices whose answers are held against a plain computation; 0: none
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = within(0, 30_000_usize))]
    checked: usize,
    /// Repeats the questions of an earlier run [default: at random, and printed]
    #[arg(long)]
    seed: Option<u64>,

    /// Write the result here as JSON, "-" for standard output
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a page here
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Fail when the 99th percentile of any kind of question is above, or when questions left so late that it tells
    /// nothing
    #[arg(long, value_name = "MS", value_parser = positive)]
    max_p99_ms: Option<f64>,
}

/// Asks, and reports; true when it passed.
pub(crate) async fn query(args: &QueryArgs) -> Result<bool> {
    for file in args.json.iter().chain(&args.html) {
        output::can_write(file)?;
    }
    let machine = Machine::this();
    let dairy = Arc::new(Dairy::new(HistoryConfig {
        readings: args.readings.max(1),
        farms: args.farms,
        devices: args.devices,
        days: args.days,
        end_us: now_us(),
    })?);
    let config = settings(args);
    let place = Place::choose(args.data_dir.as_deref())?;
    let server = start_server(args, &place).await?;
    let endpoint =
        args.endpoint.clone().or(server.as_ref().map(ServerProcess::endpoint)).context("a server")?;
    let client = QueryClient::connect(QueryConfig::new(&endpoint).timeout(Duration::from_mins(2))).await?;
    let history = match args.readings {
        0 => questions::find_history(&client, &dairy).await.map(|()| None)?,
        readings => Some(load::write_history(&endpoint, &dairy, readings).await?),
    };
    let refreshed_buckets = match server.as_ref().map(ServerProcess::admin_endpoint) {
        Some(admin) => Some(load::refresh(&admin).await?),
        None => None,
    };

    let mut troubles = Vec::new();
    let Answered { answers, arrived, fresh } = ask(args, &endpoint, &client, &dairy, config.seed).await?;
    let arrived_per_second = arrived.unwrap_or_else(|error| {
        troubles.push(format!("load: {error:#}"));
        0
    });
    let fresh = fresh.unwrap_or_else(|error| {
        troubles.push(format!("fresh: {error:#}"));
        None
    });
    let oracle = if args.checked == 0 {
        None
    } else {
        let mut rng = SmallRng::seed_from_u64(config.seed);
        Some(check::check(&client, &dairy, args.checked, now_us(), &mut rng).await?)
    };
    if let Some(server) = server
        && let Err(error) = server.stop().await
    {
        troubles.push(format!("{error:#}"));
    }
    let mut report = QuestionReport {
        questions: answers.figures,
        late_ms: answers.late_ms,
        arrived_per_second,
        fresh,
        oracle,
        history,
        refreshed_buckets,
        troubles,
        bounds: Vec::new(),
        passed: false,
        config,
        machine,
    };
    if let Some(max_p99_ms) = args.max_p99_ms {
        report.bind(max_p99_ms);
    }
    report.judge();
    let page = || report.html();
    output::deliver(&report, &report.text(), page, args.json.as_deref(), args.html.as_deref())?;
    Ok(report.passed)
}

/// What questions, load and probe brought.
struct Answered {
    answers: Answers,
    arrived: Result<u64>,
    fresh: Result<Option<Fresh>>,
}

/// Asks while readings arrive, and while a probe looks for what it has written.
async fn ask(
    args: &QueryArgs,
    endpoint: &str,
    client: &QueryClient,
    dairy: &Arc<Dairy>,
    seed: u64,
) -> Result<Answered> {
    let stop = CancellationToken::new();
    // However this ends, they do.
    let _stopped = stop.clone().drop_guard();
    let arriving =
        tokio::spawn(load::arrive(endpoint.to_owned(), Arc::clone(dairy), args.rate, stop.clone()));
    let probing = tokio::spawn(probe(args.clone(), endpoint.to_owned(), client.clone(), seed, stop.clone()));
    let pace = match args.question_rate {
        Some(rate) => Pace::Open { rate },
        None => Pace::Closed { askers: args.askers },
    };
    let kinds = Kind::of(dairy, &args.only);
    let (warm_up, time) = (Duration::from_secs(args.warm_up), Duration::from_secs(args.seconds));
    let crowd = Pace::Closed { askers: WARM_UP_ASKERS };
    questions::ask(client, dairy, &kinds, (warm_up, crowd), seed.wrapping_add(1 << 32)).await?;
    let answers = questions::ask(client, dairy, &kinds, (time, pace), seed).await?;
    stop.cancel();
    let (arrived, fresh) = (arriving.await.context("the load")?, probing.await.context("the probe")?);
    Ok(Answered { answers, arrived, fresh })
}

async fn probe(
    args: QueryArgs,
    endpoint: String,
    client: QueryClient,
    seed: u64,
    stop: CancellationToken,
) -> Result<Option<Fresh>> {
    if args.fresh == 0 {
        return Ok(None);
    }
    let mut rng = SmallRng::seed_from_u64(seed);
    let farm_id = rng.random_range(1..=args.farms);
    let probe = Probe::open(&endpoint, client, farm_id, rng).await?;
    probe.run(f64::from(args.fresh), stop).await.map(Some)
}

async fn start_server(args: &QueryArgs, place: &Place) -> Result<Option<ServerProcess>> {
    if args.endpoint.is_some() {
        return Ok(None);
    }
    let (binary, dir) = (find_binary(args.server_bin.as_deref())?, place.path().to_owned());
    Ok(Some(match &args.database {
        Some(url) => ServerProcess::start_on(binary, dir, url).await?,
        None => ServerProcess::start(binary, dir).await?,
    }))
}

fn settings(args: &QueryArgs) -> QuestionSettings {
    QuestionSettings {
        command: output::command_line(),
        started: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        target: match (&args.endpoint, &args.database) {
            (Some(endpoint), _) => endpoint.clone(),
            (None, Some(url)) => format!("{}, a server of its own", database_url::named(url)),
            (None, None) => "embedded store, a server of its own".into(),
        },
        seed: args.seed.unwrap_or_else(rand::random),
        devices: args.devices,
        farms: args.farms,
        days: args.days,
        rate: args.rate,
        question_rate: args.question_rate,
        askers: args.question_rate.is_none().then_some(args.askers),
        seconds: args.seconds,
    }
}
