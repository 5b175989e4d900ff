//! `herdstream import`: history from files, with its original times, exactly once.
//!
//! A file's digest is its producer, its rows in order are cut into blocks, and a block's number is its offset. So the
//! same file is the same log whenever it is read: what the server has of it is skipped, what it lacks is sent.

mod columns;
mod digest;
mod instant;
mod parquet;
mod places;
mod progress;
mod rejected;
mod row;
mod run;
mod server;
mod source;
mod stop;
mod survey;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};

use crate::connect::ServerArgs;

use self::{server::Server, stop::Stop};

/// Exit code when rows were left out or refused.
const SOME_REFUSED: u8 = 3;

const HELP: &str = "\
Files are CSV with a header, not compressed, or Parquet, with the columns of the seed's tables: time, device_uid, device_type, farm_id,
metric_name, metric_value, and if there are any metric_unit, is_interpolated, animal_id, zone_id, session_id,
battery_level, signal_strength, metadata. Files with yield_kg hold milkings: time, milk_meter_id, animal_id, farm_id,
session_id, yield_kg and the others of milk_production_realtime.

A row has at most 1 MiB, and a page of Parquet 256 MiB; lists and structures are not read. What has no end or cannot be
read twice, as pipes and devices, is no file. Nobody may write to one while it is imported: the import ends then, and
what is stored is of the file as it was.

An import can be stopped and started again at any moment: what is stored is not stored twice, and a file that was
imported is done at once. A file is the same as long as neither a byte of it nor an option that says how to read it is
changed. Of another one, rows are looked for on the server first, here and there: if some are found, it is refused before
anything of it is stored, unless --store-again says that they are meant to be there twice. So is told what the server's
retention has dropped or drops soon. Every row is read for that first, and a file with one that cannot be read is
refused before anything of it is stored, too, unless --skip-bad-rows leaves it out.

Of a clock on the wall (--time-zone), the hour that comes twice when it is set back is taken as the first of the two:
give such times with their offset.

Rows that were left out, and rows that the server refused, go to FILE.rejected.csv with the reasons as a last column.
Mend them there and import that file with the same options. It is written when the import of FILE is over and holds
all such rows, also those of an import that was stopped before. Nothing is overwritten: if there is a file of that
name that holds something else, such as rows that you have mended, they go to FILE.rejected-2.csv, and so on; if it
holds just these, as after importing FILE again, it stays as it is.

Examples:
  herdstream import history.csv
  herdstream import --dry-run archive/*.parquet
  herdstream import spreadsheet.csv --delimiter ';'
  herdstream import old.csv --map sensor=device_uid --map ts=time --farm-id 1 --device-type collar --time-zone Europe/Berlin

Exit codes:
  0    everything is stored
  1    failed or refused: the message says what to do; after a failure, start it again to go on
  2    bad command line
  3    stored, but rows were skipped or refused, now or when the file was imported before; with --dry-run: there are
       rows that cannot be read
  130  stopped with Ctrl-C: start it again to go on";

#[derive(Debug, clap::Args)]
#[command(after_long_help = HELP)]
pub(crate) struct Args {
    /// CSV or Parquet files
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
    /// Name of the gateway whose token is used
    #[arg(long, value_name = "NAME", default_value = "import")]
    gateway: String,
    #[command(flatten)]
    reading: Reading,
    /// What stands between the fields of CSV: a character such as ";", or "tab"
    #[arg(long, value_name = "CHARACTER", default_value = ",", value_parser = source::parse_delimiter)]
    delimiter: u8,
    /// Store a file although rows of it are on the server already: these are there twice then
    #[arg(long)]
    store_again: bool,
    /// Directory for FILE.rejected.csv [default: that of FILE]
    #[arg(long, value_name = "DIRECTORY")]
    rejected_to: Option<PathBuf>,
    /// Read every row and check its form, tell which cannot be read, and store nothing. Not checked is what only a
    /// server judges: names and units, values out of range, times in the future or before what is kept, and a gateway's
    /// farms
    #[arg(long)]
    dry_run: bool,
    /// How long to go on trying while the server cannot be reached, from the first connection on
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    patience: Duration,
}

/// How files are read. What changes the rows is part of their identity.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct Reading {
    /// A column by another name: THEIRS=OURS
    #[arg(long = "map", value_name = "THEIRS=OURS", value_parser = columns::parse_map)]
    maps: Vec<(String, String)>,
    /// Farm of rows that name none
    #[arg(long, value_name = "ID")]
    farm_id: Option<i32>,
    /// Kind of device of rows that name none
    #[arg(long, value_name = "TYPE")]
    device_type: Option<String>,
    /// Metric of rows that name none
    #[arg(long, value_name = "METRIC")]
    metric_name: Option<String>,
    /// Unit of rows that name none
    #[arg(long, value_name = "UNIT")]
    metric_unit: Option<String>,
    /// Zone of times that name none, as Europe/Berlin
    #[arg(long, value_name = "ZONE")]
    time_zone: Option<chrono_tz::Tz>,
    /// Unit of times that are numbers [default: by their size]
    #[arg(long, value_enum, value_name = "UNIT")]
    time_unit: Option<instant::Unit>,
    /// Leave out rows that cannot be read; they go to FILE.rejected.csv with those that the server refuses
    #[arg(long)]
    skip_bad_rows: bool,
}

/// Imports file after file; Ctrl-C is heard on a thread of its own, since reading a file takes this one for long.
#[tokio::main(worker_threads = 1)]
pub(crate) async fn import(args: &Args) -> Result<ExitCode> {
    let stop = Stop::default();
    stop.on_ctrl_c(!args.dry_run).context("cannot hear Ctrl-C")?;
    // A name that is mistyped is no reason to stop halfway.
    for file in &args.files {
        run::open(args, file)?;
    }
    let server = if args.dry_run { None } else { Some(Server::connect(args).await?) };
    let mut refused = 0;
    for file in &args.files {
        refused += run::import_file(args, (server.as_ref(), &stop), file).await?;
    }
    Ok(if refused == 0 { ExitCode::SUCCESS } else { ExitCode::from(SOME_REFUSED) })
}
