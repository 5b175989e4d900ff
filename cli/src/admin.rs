//! `herdstream admin`: what a server on this machine stores, and for how long.

use std::io::{self, Write as _};

use anyhow::Result;
use herdstream_client::{AdminClient, QueryConfig, v1};

use crate::{
    connect::{AdminArgs, reach},
    output::{Cell, Format, OutputArgs, Rows, time},
    times::{self, Moment},
};

/// What to do.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// How fresh the aggregates are, and what was dropped
    Lifecycle {
        #[command(flatten)]
        with: With,
    },
    /// Bring aggregates up to date now; answers are true without it
    Refresh {
        /// Mend late readings only from here
        #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = times::parse)]
        from: Option<Moment>,
        /// Until here
        #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true, value_parser = times::parse, requires = "from")]
        to: Moment,
        /// Compute everything between them again from readings, as far as these are kept: after a backup was restored,
        /// or when an aggregate is doubted
        #[arg(long, requires = "from")]
        rebuild: bool,
        #[command(flatten)]
        with: With,
    },
    /// Drop what is older than the configuration keeps
    Retention {
        /// Only tell what would be dropped
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        with: With,
    },
    /// Compress chunks now (TimescaleDB)
    Compress {
        /// Those that end before
        #[arg(long, value_name = "TIME", default_value = "-7d", allow_hyphen_values = true, value_parser = times::parse)]
        before: Moment,
        /// Only tell which
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        with: With,
    },
    /// Chunks of readings and milkings with their sizes
    Chunks {
        /// Only of "reading" or of "milking"
        #[arg(long, default_value = "", hide_default_value = true)]
        table: String,
        #[command(flatten)]
        with: With,
    },
    /// What the store does to answer a range, and how long each step takes
    Explain {
        /// The device
        #[arg(long)]
        device: String,
        /// The metric
        #[arg(long)]
        metric: String,
        #[command(flatten)]
        span: crate::query::Span,
        /// Cut into hours instead of readings
        #[arg(long)]
        hours: bool,
        #[command(flatten)]
        with: With,
    },
}

/// The server, and the form of the answer.
#[derive(Debug, clap::Args)]
pub(crate) struct With {
    #[command(flatten)]
    server: AdminArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl With {
    async fn client(&self) -> Result<AdminClient> {
        let config = QueryConfig::new(&self.server.admin_endpoint).timeout(self.server.timeout);
        reach(&self.server.admin_endpoint, "--admin-endpoint", AdminClient::connect(config).await)
    }

    fn print(&self, rows: &Rows) -> Result<()> {
        rows.print(self.output.format())
    }
}

/// Does it, and shows what came of it.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn admin(command: Command) -> Result<()> {
    match command {
        Command::Lifecycle { with } => with.print(&lifecycle(&with.client().await?.get_lifecycle().await?)),
        Command::Refresh { from, to, rebuild, with } => {
            // Without a time: all of it.
            let (mut start_us, mut end_us) = (0, 0);
            if let Some(from) = from {
                (start_us, end_us) = (from.micros(None), to.micros(None));
                times::check(start_us, end_us)?;
            }
            let request = v1::RefreshRollupsRequest { start_us, end_us, rebuild };
            let done = with.client().await?.refresh_rollups(request).await?;
            tell!("{} buckets computed, {} dirty hours mended", done.buckets, done.dirty_hours);
            with.print(&lifecycle(&done.lifecycle.unwrap_or_default()))
        }
        Command::Retention { dry_run, with } => {
            let dropped = with.client().await?.run_retention(dry_run).await?;
            let mut rows = Rows::new(&["table", "from", "to", "rows", "bytes", "what"]);
            for part in dropped {
                let what = match (part.kept_because.is_empty(), dry_run) {
                    (true, true) => "would be dropped".to_owned(),
                    (true, false) => "dropped".to_owned(),
                    (false, _) => format!("stays: {}", part.kept_because),
                };
                let count = |count: u64| if count == 0 { Cell::None } else { count.into() };
                rows.push(vec![
                    part.table.into(),
                    time(part.start_us),
                    Cell::Time(part.end_us),
                    count(part.rows),
                    count(part.bytes),
                    what.into(),
                ]);
            }
            with.print(&rows)
        }
        Command::Compress { before, dry_run, with } => {
            let request = v1::CompressChunksRequest { before_us: before.micros(None), dry_run };
            with.print(&chunks(with.client().await?.compress_chunks(request).await?))
        }
        Command::Chunks { table, with } => {
            with.print(&chunks(with.client().await?.list_chunks(table).await?))
        }
        Command::Explain { device, metric, span, hours, with } => {
            let resolution = if hours { v1::Resolution::Hour } else { v1::Resolution::Raw };
            let (start_us, end_us) = span.micros()?;
            let query = v1::explain_query_request::Query::QueryRange(v1::QueryRangeRequest {
                device_uid: device,
                metric_name: metric,
                start_us,
                end_us,
                page_size: 10_000,
                resolution: resolution.into(),
                ..v1::QueryRangeRequest::default()
            });
            explain(&with, with.client().await?.explain_query(query).await?)
        }
    }
}

fn lifecycle(state: &v1::GetLifecycleResponse) -> Rows {
    let mut rows = Rows::new(&["level", "closed_before", "stored_before", "kept_from", "dirty_hours"]);
    for level in &state.levels {
        let name = match level.resolution() {
            v1::Resolution::Resolution15min => "15min",
            v1::Resolution::Hour => "hour",
            v1::Resolution::Day => "day",
            _ => "other",
        };
        rows.push(vec![
            name.to_owned().into(),
            time(level.closed_before_us),
            time(level.stored_before_us),
            time(level.kept_from_us),
            state.dirty_hours.into(),
        ]);
    }
    rows.push(vec![
        "raw".to_owned().into(),
        Cell::None,
        Cell::None,
        time(state.raw_kept_from_us),
        Cell::None,
    ]);
    rows
}

fn chunks(chunks: Vec<v1::Chunk>) -> Rows {
    let mut rows =
        Rows::new(&["table", "name", "from", "to", "bytes", "uncompressed", "ratio", "compressed"]);
    for chunk in chunks {
        let ratio = (chunk.uncompressed_bytes > 0 && chunk.bytes > 0)
            .then(|| chunk.uncompressed_bytes as f64 / chunk.bytes as f64);
        let before = (chunk.uncompressed_bytes > 0).then_some(chunk.uncompressed_bytes);
        rows.push(vec![
            chunk.table.into(),
            chunk.name.into(),
            Cell::Time(chunk.start_us),
            Cell::Time(chunk.end_us),
            chunk.bytes.into(),
            before.into(),
            ratio.into(),
            Cell::Flag(chunk.compressed),
        ]);
    }
    rows
}

fn explain(with: &With, answer: v1::ExplainQueryResponse) -> Result<()> {
    let format = with.output.format();
    if format == Format::Table {
        let mut out = io::stdout().lock();
        for step in &answer.steps {
            writeln!(out, "{} ms  {}\n{}\n", step.duration_us as f64 / 1e3, step.statement, step.plan)?;
        }
        writeln!(out, "{} ms in all", answer.duration_us as f64 / 1e3)?;
        return Ok(());
    }
    let mut rows = Rows::new(&["statement", "plan", "duration_us"]);
    for step in answer.steps {
        rows.push(vec![step.statement.into(), step.plan.into(), step.duration_us.into()]);
    }
    rows.print(format)
}
