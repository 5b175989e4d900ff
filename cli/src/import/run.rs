//! One file, block by block.

use std::{
    collections::{HashMap, HashSet},
    io::{IsTerminal as _, Write as _},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use herdstream_client::v1;
use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::{
    Args,
    columns::{Columns, Kind},
    digest,
    places::Places,
    row::Row,
    server::{Earlier, Server},
    source::{Record, Source, Value},
};
use crate::times;

/// Rows of a block, at most.
pub(super) const BLOCK_ROWS: usize = 10_000;

/// Encoded bytes of a block, at most: a batch may have 4 MiB.
pub(super) const BLOCK_BYTES: usize = 3 << 20;

/// Reasons that are shown.
const SHOWN: u32 = 5;

/// Between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// What became of a file so far.
#[derive(Default)]
struct Tally {
    rows: u64,
    bad: u64,
    stored: u64,
    quarantined: u64,
    /// Rows of blocks that the server had before.
    before: u64,
    /// Those of them that it had refused.
    refused_before: u64,
    series: HashSet<v1::SeriesKey>,
    first_us: Option<i64>,
    last_us: Option<i64>,
    reasons: Vec<String>,
}

impl Tally {
    /// Notes why a row was skipped or refused, if there is room to show it.
    fn reason(&mut self, reason: String) {
        if self.reasons.len() < SHOWN as usize {
            self.reasons.push(reason);
        }
    }
}

/// Opens a file, and finds out what it holds.
///
/// # Errors
///
/// It cannot be opened, or does not have the columns.
pub(super) fn open(args: &Args, file: &Path) -> Result<(Source, Columns)> {
    let source = Source::open(file, args.delimiter)?;
    let columns = Columns::of(&source.header, &args.reading);
    let columns = columns.with_context(|| format!("cannot import {}", file.display()))?;
    Ok((source, columns))
}

/// Imports one file; answers how many rows were skipped or refused.
pub(super) async fn import_file(args: &Args, server: Option<&Server>, file: &Path) -> Result<u64> {
    let name = file.display();
    let (mut source, columns) = open(args, file)?;
    if !columns.unread.is_empty() {
        eprintln!("{name}: columns that are not read: {}", columns.unread.join(", "));
    }
    let (producer, earlier) = match server {
        Some(server) => {
            let producer = digest::producer(file, &args.reading, args.delimiter)?.to_string();
            let earlier = server.earlier(&producer, SHOWN).await?;
            (producer, earlier)
        }
        // Whose log it would be, nobody asks.
        None => (String::new(), Earlier::default()),
    };
    let committed = earlier.committed;
    if server.is_some() && committed == 0 && !args.reading.skip_bad_rows {
        check(file, &columns, args)?;
    }
    let mut import = Import {
        args,
        server,
        producer,
        offset: 0,
        block: Vec::new(),
        block_bytes: 0,
        place_name: source.place_name,
        tally: Tally { refused_before: earlier.refused, ..Tally::default() },
        earlier,
        rejected: Rejected { path: rejected_path(file), header: source.header.clone(), writer: None },
        progress: Progress::new(&source, file),
    };
    while let Some(record) = source.next() {
        let record = record.with_context(|| format!("cannot read {name}"))?;
        import.progress.at(source.position(), &import.tally);
        match Row::of(&record, &columns, &args.reading) {
            Ok(row) => import.add(record.place, row).await?,
            Err(why) if args.reading.skip_bad_rows => import.skip(&record, &why)?,
            Err(why) => {
                import.progress.end();
                // A file that is mended is another file: all its rows would be new.
                let mend = if committed == 0 { "mend the row, or " } else { "" };
                bail!("{name}:{}: {why}; {mend}leave such rows out with --skip-bad-rows", record.place);
            }
        }
    }
    import.send().await?;
    import.finish(file, columns.kind)
}

/// Reads a file to its end before anything of it is stored: whoever mends a bad row has another file then, whose good
/// rows would be stored twice.
fn check(file: &Path, columns: &Columns, args: &Args) -> Result<()> {
    let name = file.display();
    let mut bad = 0_u64;
    let mut first = None;
    for record in Source::open(file, args.delimiter)? {
        let record = record.with_context(|| format!("cannot read {name}"))?;
        if let Err(why) = Row::of(&record, columns, &args.reading) {
            bad += 1;
            first.get_or_insert((record.place, why));
        }
    }
    let Some((place, why)) = first else { return Ok(()) };
    let more = match bad {
        1 => String::new(),
        _ => format!(", and {} more rows cannot be read", HumanCount(bad - 1)),
    };
    bail!(
        "{name}:{place}: {why}{more}; nothing of the file was stored: mend it, or leave such rows out with \
         --skip-bad-rows"
    );
}

/// An import under way.
struct Import<'a> {
    args: &'a Args,
    server: Option<&'a Server>,
    producer: String,
    /// What the server had at the start.
    earlier: Earlier,
    /// Blocks so far.
    offset: u64,
    block: Vec<(u64, Row)>,
    block_bytes: usize,
    /// What a place in the file is called.
    place_name: &'static str,
    tally: Tally,
    rejected: Rejected,
    progress: Progress,
}

impl Import<'_> {
    async fn add(&mut self, place: u64, row: Row) -> Result<()> {
        let tally = &mut self.tally;
        tally.rows += 1;
        let time_us = row.time_us();
        tally.first_us = Some(tally.first_us.map_or(time_us, |first| first.min(time_us)));
        tally.last_us = tally.last_us.max(Some(time_us));
        if let Row::Reading(key, _) = &row
            && !tally.series.contains(key)
        {
            tally.series.insert(key.clone());
        }
        let bytes = row.bytes();
        if self.block.len() == BLOCK_ROWS || self.block_bytes + bytes > BLOCK_BYTES {
            self.send().await?;
        }
        self.block_bytes += bytes;
        self.block.push((place, row));
        Ok(())
    }

    /// Leaves a row out.
    fn skip(&mut self, record: &Record, why: &str) -> Result<()> {
        self.tally.bad += 1;
        self.tally.reason(format!("{} {}: {why}", self.place_name, record.place));
        self.rejected.write(record, why)
    }

    /// Stores the block, unless the server has it.
    async fn send(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.offset += 1;
        self.block_bytes = 0;
        let block = std::mem::take(&mut self.block);
        let (places, rows) = (Places::of(&block), block.len() as u64);
        let Some(server) = self.server else { return Ok(()) };
        if self.offset <= self.earlier.committed {
            self.tally.before += rows;
            let earlier = self.earlier.rejections.iter().filter(|one| one.offset == self.offset);
            for reason in places.tell(earlier, self.place_name) {
                self.tally.reason(reason);
            }
            return Ok(());
        }
        let block = block.into_iter().map(|(_, row)| row);
        let request = v1::WriteRequest {
            producer_id: self.producer.clone(),
            instance_id: String::new(),
            gateway_id: self.args.gateway.clone(),
            batch: Some(batch(self.offset, block)),
            backfill: true,
        };
        let progress = &self.progress;
        let told =
            |error: &herdstream_client::Error| progress.say(&format!("waiting for the server: {error}"));
        let answer = match server.write(&request, told).await {
            Ok(answer) => answer,
            Err(error) => {
                let way_out =
                    if error.is_retryable() { "; start the import again to go on from there" } else { "" };
                let what = format!("block {} was not stored{way_out}", self.offset);
                return Err(anyhow::Error::new(error).context(what));
            }
        };
        self.tally.stored += u64::from(answer.stored);
        self.tally.quarantined += u64::from(answer.quarantined);
        for reason in places.tell(&answer.rejections, self.place_name) {
            self.tally.reason(reason);
        }
        Ok(())
    }

    /// Says what came of it.
    fn finish(self, file: &Path, kind: Kind) -> Result<u64> {
        let Self { args, tally, rejected, progress, .. } = self;
        let took = progress.end();
        let what = if kind == Kind::Readings { "readings" } else { "milkings" };
        let span = match (tally.first_us, tally.last_us) {
            (Some(first), Some(last)) => format!(", from {} to {}", times::show(first), times::show(last)),
            _ => String::new(),
        };
        let series =
            if kind == Kind::Readings { format!(" of {} series", tally.series.len()) } else { String::new() };
        let name = file.display();
        let rows = HumanCount(tally.rows);
        if tally.rows == 0 && tally.bad == 0 {
            say(format_args!("{name}: it has no rows, only a header: nothing is to be stored"));
        } else if args.dry_run {
            say(format_args!(
                "{name}: {rows} {what}{series}{span}; {bad} cannot be read; nothing was stored, as --dry-run asks, and \
                 the server may still refuse names, values and times",
                bad = HumanCount(tally.bad)
            ));
        } else if tally.before == tally.rows && tally.bad == 0 && tally.refused_before == 0 {
            say(format_args!("{name}: {rows} {what}{series}{span}; all of them were stored before"));
        } else {
            let rate = tally.stored as f64 / took.as_secs_f64().max(1e-3);
            say(format_args!(
                "{name}: {rows} {what}{series}{span}; {} stored now ({} a second), {} before, {} refused, {} skipped",
                HumanCount(tally.stored),
                HumanCount(rate as u64),
                HumanCount(tally.before.saturating_sub(tally.refused_before)),
                HumanCount(tally.quarantined + tally.refused_before),
                HumanCount(tally.bad)
            ));
        }
        for reason in &tally.reasons {
            say(format_args!("  {reason}"));
        }
        let refused = tally.bad + tally.quarantined + tally.refused_before;
        if refused > tally.reasons.len() as u64 {
            say(format_args!("  and {} more", HumanCount(refused - tally.reasons.len() as u64)));
        }
        if tally.bad > 0 {
            say(format_args!("  skipped rows are in {}", rejected.path.display()));
        }
        rejected.finish()?;
        Ok(refused)
    }
}

/// Says something; that nobody reads it is no reason to stop an import.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A batch that carries its series.
fn batch(offset: u64, rows: impl IntoIterator<Item = Row>) -> v1::Batch {
    let mut batch = v1::Batch { offset, ..v1::Batch::default() };
    let mut refs: HashMap<v1::SeriesKey, u32> = HashMap::new();
    for row in rows {
        match row {
            Row::Reading(key, reading) => {
                let next = refs.len() as u32 + 1;
                let reference = *refs.entry(key.clone()).or_insert(next);
                if reference == next {
                    let v1::SeriesKey { farm_id, device_uid, device_type, metric_name, metric_unit } = key;
                    let r#ref = reference;
                    batch.series.push(v1::Series {
                        r#ref,
                        farm_id,
                        device_uid,
                        device_type,
                        metric_name,
                        metric_unit,
                    });
                }
                batch.readings.push(v1::Reading { series_ref: reference, ..reading });
            }
            Row::Milking(milking) => batch.milkings.push(*milking),
        }
    }
    batch
}

fn rejected_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".rejected.csv");
    name.into()
}

/// Rows that were left out, with their reasons; a file only if there are any.
struct Rejected {
    path: PathBuf,
    header: Vec<String>,
    writer: Option<csv::Writer<std::fs::File>>,
}

impl Rejected {
    fn write(&mut self, record: &Record, why: &str) -> Result<()> {
        if self.writer.is_none() {
            let writer = csv::WriterBuilder::new().flexible(true).from_path(&self.path);
            let mut writer = writer.with_context(|| format!("cannot write {}", self.path.display()))?;
            writer.write_record(self.header.iter().map(String::as_str).chain(["reason"]))?;
            self.writer = Some(writer);
        }
        if let Some(writer) = &mut self.writer {
            let text = |value: &Value| match value {
                Value::Null => Vec::new(),
                Value::Text(text) => text.clone().into_bytes(),
                Value::Bytes(bytes) => bytes.clone(),
                // So that the file can be imported once it is mended.
                Value::Time(time_us) => times::show(*time_us).into_bytes(),
                Value::LocalTime(time_us) => times::show(*time_us).trim_end_matches('Z').into(),
                other => other.to_string().into_bytes(),
            };
            let mut values: Vec<Vec<u8>> = record.values.iter().map(text).collect();
            // The reason stands in its column also where the row is short.
            values.resize(values.len().max(self.header.len()), Vec::new());
            values.push(why.as_bytes().to_owned());
            writer.write_record(values)?;
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        self.writer.map_or(Ok(()), |mut writer| Ok(writer.flush()?))
    }
}

/// How far it is: a bar on a terminal, a line now and then elsewhere.
struct Progress {
    bar: Option<ProgressBar>,
    began: Instant,
    told: Instant,
    name: String,
    size: u64,
}

impl Progress {
    fn new(source: &Source, file: &Path) -> Self {
        let name = file.display().to_string();
        let bar = std::io::stderr().is_terminal().then(|| {
            let unit =
                if source.is_csv { "{bytes} of {total_bytes}" } else { "{human_pos} of {human_len} rows" };
            let template = format!("{{msg}} {{bar:30}} {unit}, {{eta}} left");
            let style =
                ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(source.size).with_style(style).with_message(name.clone())
        });
        Self { bar, began: Instant::now(), told: Instant::now(), name, size: source.size }
    }

    fn at(&mut self, position: u64, tally: &Tally) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        } else if self.told.elapsed() >= LINE {
            self.told = Instant::now();
            let percent = 100 * position / self.size.max(1);
            eprintln!("{}: {percent} %, {} rows", self.name, HumanCount(tally.rows));
        }
    }

    fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{}: {text}", self.name),
        }
    }

    fn end(&self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.began.elapsed()
    }
}
