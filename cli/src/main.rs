//! `herdstream`: the command line.

/// Tells people something, beside what programs read; that nobody reads it is no reason to stop.
macro_rules! tell {
    ($($text:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($text)*);
    }};
}

mod admin;
mod chart;
mod connect;
mod import;
mod migrate;
mod output;
mod query;
mod refusal;
mod serve;
mod settings;
mod times;

use std::process::ExitCode;

use clap::{FromArgMatches as _, Parser, Subcommand};
use herdstream_server::config::Config;

use self::{
    refusal::{Asked, Misused},
    settings::Settings,
};

/// Exit code for a configuration or command line that cannot be used.
const BAD_CONFIGURATION: u8 = 2;

/// Takes sensor readings from dairy-farm gateways over gRPC, stores each exactly once, and answers queries.
#[derive(Debug, Parser)]
#[command(
    name = "herdstream",
    version,
    long_about = "Takes sensor readings from dairy-farm gateways over gRPC, stores each exactly once, and \
                  answers queries.\n\nWithout arguments it serves on 127.0.0.1:7171 and keeps its data in ./data; \
                  nothing else has to be installed. What it says once it runs tells how to send the first \
                  reading and how to find it again.",
    after_long_help = HELP
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C (what happens without a command, too)
    Serve(Settings),
    /// Bring the schema of the database up to date and exit; serve does so, too
    Migrate(Settings),
    /// Store history from CSV or Parquet files with its original times, exactly once
    Import(import::Args),
    /// Ask a server what it holds: as a table, a chart, JSON or CSV
    #[command(subcommand)]
    Query(query::Command),
    /// Look after what a server on this machine stores: aggregates, retention, chunks, slow queries
    #[command(subcommand)]
    Admin(admin::Command),
}

const HELP: &str = "\
Configuration:
  Defaults, then a TOML file, then the environment, then flags; the later one wins.
  [ingest] buffer = \"64MiB\" in the file is HERDSTREAM_INGEST__BUFFER=64MiB in the environment.
  --check-config prints every key with the value it has; absent, and unlimited then, are only
  ingest.max_opens_per_second and ingest.max_writes_per_second. docs/herdstream.toml explains each.

Examples:
  herdstream                                   serve on this machine, data in ./data
  herdstream --check-config > herdstream.toml  start a configuration file
  herdstream --data-dir /var/lib/herdstream --log-format json
  HERDSTREAM_LISTEN=10.0.0.5:7171 herdstream --config /etc/herdstream.toml
  herdstream import history.csv                bring what was measured before
  herdstream query range --device collar-17 --metric activity --from -7d
  herdstream admin lifecycle                   how fresh the aggregates are

Exit codes:
  0  stopped after a drain: everything received was committed and acknowledged
  1  failed, or was asked twice to stop
  2  bad configuration or command line";

fn main() -> ExitCode {
    let mut line = settings::command();
    let matches = line.get_matches_mut();
    let Cli { command, settings } = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let mut refuse = || settings::refuse(&mut line, &matches).unwrap_or_else(|error| error.exit());
    let done = match command {
        None => server(&settings, serve::serve),
        Some(Command::Serve(after)) => server(&settings::merged(settings, after, &matches), serve::serve),
        Some(Command::Migrate(after)) => {
            server(&settings::merged(settings, after, &matches), |config| migrate::migrate(&config))
        }
        // These talk to a server, and have no configuration of one.
        Some(Command::Import(args)) => {
            refuse();
            import::import(&args)
        }
        Some(Command::Query(command)) => {
            refuse();
            query::query(command).map(|()| ExitCode::SUCCESS)
        }
        Some(Command::Admin(command)) => {
            refuse();
            admin::admin(command).map(|()| ExitCode::SUCCESS)
        }
    };
    let asked = Asked::of(&line, &matches);
    done.unwrap_or_else(|error| {
        if output::is_unread(&error) {
            return ExitCode::SUCCESS;
        }
        tell!("herdstream: {}", sentence(&error, &asked));
        if error.is::<Misused>() { ExitCode::from(BAD_CONFIGURATION) } else { ExitCode::FAILURE }
    })
}

/// Does what takes the configuration of a server, or shows that.
fn server(settings: &Settings, act: impl FnOnce(Config) -> anyhow::Result<()>) -> anyhow::Result<ExitCode> {
    let config = match Config::load(&settings.flags) {
        Ok(config) => config,
        Err(error) => {
            tell!("herdstream: bad configuration\n{error}");
            return Ok(ExitCode::from(BAD_CONFIGURATION));
        }
    };
    if settings.check_config {
        print!("{}", config.to_toml());
        return Ok(ExitCode::SUCCESS);
    }
    act(config).map(|()| ExitCode::SUCCESS)
}

/// An error and its causes in one line, each said once: some messages hold their cause already.
fn sentence(error: &anyhow::Error, asked: &Asked) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let of_client = cause.downcast_ref::<herdstream_client::Error>();
        let text = of_client.map_or_else(|| cause.to_string(), |error| asked.tell(error));
        if line.is_empty() {
            line = text;
        } else if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        // Its cause is the same once more in the words of the transport.
        if matches!(of_client, Some(herdstream_client::Error::Refused { .. })) {
            break;
        }
    }
    line
}
