//! The command line.

use std::{fmt::Display, num::NonZeroUsize, path::PathBuf, str::FromStr};

use crate::query::QueryArgs;
use clap::{Args, Parser, Subcommand};
use herdstream_loadtest::server_process::{BINARY_VARIABLE, TOKEN_VARIABLE};

/// Loads a Herdstream server with simulated farms, measures, and proves that nothing was lost or doubled.
#[derive(Debug, Parser)]
#[command(
    name = "herdstream-loadtest",
    version,
    long_about = "Loads a Herdstream server with simulated farms, measures, and proves that nothing was lost or \
                  doubled.\n\nEvery gateway is a producer of the client SDK with a farm of its own: collars, milk \
                  meters, climate sensors and feed dispensers that live through days and nights, milkings, gaps and \
                  late bursts. When the load is over, an oracle reads every row back and weighs it against its own \
                  log of what the SDK took.",
    after_long_help = HELP
)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Load a server and report
    #[command(after_long_help = HELP)]
    Run(Box<RunArgs>),
    /// Measure what lies below the server alone: the embedded store, or COPY into PostgreSQL
    Limit(LimitArgs),
    /// Measure how long answers take over a long history, while readings arrive
    #[command(allow_negative_numbers = true, after_long_help = HELP)]
    Query(Box<QueryArgs>),
}

const HELP: &str = "\
Examples:
  herdstream-loadtest run --embedded                 how fast, on a server and a store of its own
  herdstream-loadtest run --embedded --spool         the same, with disk spools at the gateways
  herdstream-loadtest run --rate 50000               how long an ack takes at 50 000 readings/s
  herdstream-loadtest run --endpoint http://10.0.0.5:7171 --producers 5 --seconds 60
  herdstream-loadtest run --json result.json --html report.html --max-p99-ms 100 --min-rate 500000
  herdstream-loadtest run --database postgres://me:secret@127.0.0.1/farm
  herdstream-loadtest limit                          the store alone
  herdstream-loadtest limit --database postgres://me:secret@127.0.0.1/farm --psql
  herdstream-loadtest query --readings 50000000      answers over 90 days of 1000 devices
  herdstream-loadtest query --question-rate 200 --max-p99-ms 50

Without --rate the loop is closed: every producer sends as soon as acks come in,
which shows how much the server takes. With --rate it is open: every reading has a
moment at which it ought to leave, and its latency counts from there, whatever holds
it up. So it is with questions, without and with --question-rate.

While questions are asked, a probe writes readings and milkings of now and of up to a
day ago, and looks for each in every kind of answer as soon as it is acknowledged. In
the end, buckets, summaries and newest values are computed again from the readings.

Exit codes:
  0  everything is accounted for and every bound was kept
  1  the oracle does not balance, an answer was stale or wrong, a bound was missed, or a
     producer had trouble
  2  could not be run";

#[derive(Clone, Debug, Args)]
pub(crate) struct RunArgs {
    /// Start a server on an embedded store, in a temporary directory (the default)
    #[arg(long, conflicts_with = "endpoint")]
    pub(crate) embedded: bool,
    /// Load a server that runs already
    #[arg(long, value_name = "URL")]
    pub(crate) endpoint: Option<String>,
    /// Bearer token for that server
    #[arg(long, env = TOKEN_VARIABLE, hide_env_values = true, requires = "endpoint")]
    pub(crate) token: Option<String>,
    /// Start a server on the PostgreSQL or TimescaleDB database of this URL, and leave the rows in it
    #[arg(long, value_name = "URL", conflicts_with_all = ["endpoint", "embedded"])]
    pub(crate) database: Option<String>,
    /// Put the server's data below this directory, and leave it there
    #[arg(long, value_name = "DIR", conflicts_with_all = ["endpoint", "database"])]
    pub(crate) data_dir: Option<PathBuf>,
    /// The server's binary [default: the one beside this program, built first under cargo]
    #[arg(long, value_name = "PATH", env = BINARY_VARIABLE)]
    pub(crate) server_bin: Option<PathBuf>,

    /// How long to load it
    #[arg(long, default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    #[command(flatten)]
    pub(crate) farms: FarmArgs,
    /// Open loop: readings a second, all producers together [default: closed loop]
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) rate: Option<f64>,
    /// Closed loop: batches each producer may have unacknowledged
    #[arg(long, default_value = "4", conflicts_with = "rate")]
    pub(crate) window: NonZeroUsize,
    /// Give every producer a disk spool, in this directory or a temporary one
    #[arg(long, value_name = "DIR")]
    #[allow(clippy::option_option, reason = "not given, given without a directory, given with one")]
    pub(crate) spool: Option<Option<PathBuf>>,
    /// Readings in a million that are nonsense and belong into quarantine
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(..=1_000_000))]
    pub(crate) bad_per_million: u32,

    /// Write the result here as JSON, "-" for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write a page with plots here
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Do not read everything back: nothing is proved then
    #[arg(long)]
    pub(crate) no_verify: bool,
    /// Seconds for each group size of the store alone, 0 to leave that out
    #[arg(long, value_name = "N", default_value_t = 3)]
    pub(crate) limit_seconds: u64,
    /// Connections of the limit of a database: as many as the server has lanes
    #[arg(long, value_name = "N", default_value = "2", requires = "database")]
    pub(crate) limit_connections: NonZeroUsize,

    /// Fail when the 99th percentile of the ack latency is above
    #[arg(long, value_name = "MS", value_parser = positive)]
    pub(crate) max_p99_ms: Option<f64>,
    /// Fail when a reading sent alone waits longer for its ack, at the 99th percentile
    #[arg(long, value_name = "MS", value_parser = positive)]
    pub(crate) max_lone_p99_ms: Option<f64>,
    /// Fail when fewer readings a second become durable
    #[arg(long, value_name = "N", value_parser = positive)]
    pub(crate) min_rate: Option<f64>,
    /// Fail when the ratio to the store's own limit is below
    #[arg(long, value_name = "RATIO", value_parser = positive, conflicts_with = "endpoint")]
    pub(crate) min_ratio: Option<f64>,
    /// Fail when the server ever has more memory resident under load
    #[arg(long, value_name = "MIB", value_parser = positive, conflicts_with = "endpoint")]
    pub(crate) max_rss_mib: Option<f64>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct LimitArgs {
    #[command(flatten)]
    pub(crate) farms: FarmArgs,
    /// Seconds for each group size
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub(crate) seconds: u64,
    /// Readings in a commit, each tried in turn
    #[arg(long, value_delimiter = ',', default_values_t = [5_000, 20_000, 50_000, 100_000])]
    pub(crate) groups: Vec<usize>,
    /// Measure sorted COPY BINARY on this server, in a database made beside that of the URL, and dropped
    #[arg(long, value_name = "URL", conflicts_with = "data_dir")]
    pub(crate) database: Option<String>,
    /// Connections that write at a time
    #[arg(long, value_name = "N", default_value = "2", requires = "database")]
    pub(crate) connections: NonZeroUsize,
    /// Have psql write the same rows, too
    #[arg(long, requires = "database")]
    pub(crate) psql: bool,
    /// The server's binary, which knows the schema [default: the one beside this program]
    #[arg(long, value_name = "PATH", env = BINARY_VARIABLE, requires = "database")]
    pub(crate) server_bin: Option<PathBuf>,
    /// Put the store below this directory [default: a temporary one]
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Write the result here as JSON, "-" for standard output
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(crate) struct FarmArgs {
    /// Gateways, each with one producer and one farm
    #[arg(long, default_value_t = 20, value_parser = within(1_usize, 10_000))]
    pub(crate) producers: usize,
    /// Series of each
    #[arg(long, default_value_t = 150, value_parser = within(1_usize, 100_000))]
    pub(crate) series: usize,
    /// Readings that fill a batch
    #[arg(long, default_value_t = 1_000, value_parser = within(1_usize, 10_000))]
    pub(crate) batch: usize,
    /// Repeats the farms of an earlier run [default: at random, and printed]
    #[arg(long)]
    pub(crate) seed: Option<u64>,
}

/// A whole number from `least` to `most`; what is wrong with another is said.
pub(crate) fn within<T>(least: T, most: T) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync
where
    T: FromStr + PartialOrd + Display + Copy + Send + Sync,
{
    move |text| {
        let number: T =
            text.parse().map_err(|_| format!("{text:?} is no whole number from {least} to {most}"))?;
        if (least..=most).contains(&number) {
            Ok(number)
        } else {
            Err(format!("{number} is out of range: use {least} to {most}"))
        }
    }
}

pub(crate) fn positive(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(number) if number > 0.0 && f64::is_finite(number) => Ok(number),
        _ => Err(format!("{text:?} is no number above zero")),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        for args in [
            ["run", "--producers", "0"],
            ["run", "--batch", "10001"],
            ["run", "--rate", "0"],
            ["run", "--rate", "NaN"],
            ["run", "--seconds", "0"],
            ["run", "--window", "0"],
            ["limit", "--series", "many"],
            ["query", "--readings", "-1"],
            ["query", "--readings", "18446744073709551615"],
            ["query", "--devices", "0"],
            ["query", "--devices", "1000000000000"],
            ["query", "--farms", "0"],
            ["query", "--farms", "2147483648"],
            ["query", "--days", "0"],
            ["query", "--days", "9223372036854775807"],
            ["query", "--rate", "1000000000000"],
            ["query", "--seconds", "0"],
            ["query", "--askers", "0"],
        ] {
            let parsed = Cli::try_parse_from([&["herdstream-loadtest"], &args[..]].concat());
            assert!(parsed.is_err(), "{args:?} was taken");
        }
    }

    #[test]
    fn a_spool_needs_no_directory() {
        let parsed = Cli::try_parse_from(["herdstream-loadtest", "run", "--spool", "--seconds", "5"]);
        let Ok(Cli { command: Command::Run(args) }) = parsed else { panic!("not taken: {parsed:?}") };
        assert_eq!((args.spool, args.seconds), (Some(None), 5));
    }
}
