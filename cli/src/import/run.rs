//! One file, block by block.

use std::{
    collections::{HashMap, HashSet},
    io::Write as _,
    path::Path,
};

use anyhow::{Context as _, Result, bail};
use herdstream_client::v1;
use indicatif::HumanCount;

use super::{
    Args,
    columns::{Columns, Kind},
    digest::{self, Version},
    places::{Located, Places},
    progress::Progress,
    rejected::{Behind, Rejected},
    row::Row,
    server::{Earlier, Refusals, Server},
    source::{Record, Source},
    stop::{Stop, Under},
    survey::survey,
};
use crate::times;

/// Rows of a block, at most.
pub(super) const BLOCK_ROWS: usize = 10_000;

/// Encoded bytes of a block, at most: a batch may have 4 MiB.
pub(super) const BLOCK_BYTES: usize = 3 << 20;

/// Reasons that are shown.
const SHOWN: usize = 5;

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
        if self.reasons.len() < SHOWN {
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
pub(super) async fn import_file(
    args: &Args,
    (server, stop): (Option<&Server>, &Stop),
    file: &Path,
) -> Result<u64> {
    let name = file.display();
    // Before anything of it is read.
    let version = Version::of(file)?;
    let (mut source, columns) = open(args, file)?;
    if !columns.unread.is_empty() {
        tell!("{name}: columns that are not read: {}", columns.unread.join(", "));
    }
    let (producer, earlier) = match server {
        Some(server) => {
            let producer = digest::producer(file, &args.reading, args.delimiter)?.to_string();
            let earlier = server.earlier(&producer).await?;
            (producer, earlier)
        }
        // Whose log it would be, nobody asks.
        None => (String::new(), Earlier::default()),
    };
    let committed = earlier.committed;
    let rows = match server.filter(|_| committed == 0) {
        Some(server) => Some(survey(args, (server, &producer), file, &columns).await?),
        None => None,
    };
    let progress = Progress::new(&source, file);
    let (stored, bar) = (earlier.stored, progress.bar.clone());
    stop.begin(Under { name: name.to_string(), stored, rows, bar });
    let mut import = Import {
        args,
        server,
        stop,
        file,
        version,
        offset: 0,
        block: Vec::new(),
        block_bytes: 0,
        place_name: source.place_name,
        tally: Tally { refused_before: earlier.refused, ..Tally::default() },
        refusals: Refusals::of(&producer, 0, earlier.committed),
        earlier,
        producer,
        behind: Behind::new(file, args.delimiter),
        rejected: Rejected::new(args, file, &source.header, columns.field(columns.count() - 1).is_some()),
        progress,
    };
    while let Some(record) = source.next() {
        let record = import.of_version(record).with_context(|| format!("cannot read {name}"))?;
        import.progress.at(source.position(), import.tally.rows);
        match Row::of(&record, &columns, &args.reading) {
            Ok(row) => {
                let Record { place, number, .. } = record;
                import.add(Located { place, number, row }).await?;
            }
            Err(why) if args.reading.skip_bad_rows || args.dry_run => import.skip(&record, &why)?,
            Err(why) => {
                import.unchanged()?;
                import.progress.end();
                // A file that is mended is another file: all its rows would be new.
                let mend = if committed == 0 { "mend the row, or " } else { "" };
                bail!("{name}:{}: {why}; {mend}leave such rows out with --skip-bad-rows", record.place);
            }
        }
    }
    import.send().await?;
    import.unchanged()?;
    stop.end();
    import.finish(columns.kind)
}

/// An import under way.
struct Import<'a> {
    args: &'a Args,
    server: Option<&'a Server>,
    stop: &'a Stop,
    file: &'a Path,
    /// What it was when the import began.
    version: Version,
    producer: String,
    /// What the server had at the start.
    earlier: Earlier,
    /// What it had refused of that.
    refusals: Refusals,
    /// Blocks so far.
    offset: u64,
    block: Vec<Located>,
    block_bytes: usize,
    /// What a place in the file is called.
    place_name: &'static str,
    tally: Tally,
    /// Where refused rows are looked up.
    behind: Behind,
    rejected: Rejected,
    progress: Progress,
}

impl Import<'_> {
    async fn add(&mut self, located: Located) -> Result<()> {
        let row = &located.row;
        let tally = &mut self.tally;
        tally.rows += 1;
        let time_us = row.time_us();
        tally.first_us = Some(tally.first_us.map_or(time_us, |first| first.min(time_us)));
        tally.last_us = tally.last_us.max(Some(time_us));
        if let Row::Reading(key, _) = row
            && !tally.series.contains(key)
        {
            tally.series.insert(key.clone());
        }
        let bytes = row.bytes();
        if self.block.len() == BLOCK_ROWS || self.block_bytes + bytes > BLOCK_BYTES {
            self.send().await?;
        }
        self.block_bytes += bytes;
        self.block.push(located);
        Ok(())
    }

    /// Leaves a row out, and keeps it; a dry run only tells it, unless rows are to be skipped.
    fn skip(&mut self, record: &Record, why: &str) -> Result<()> {
        self.tally.bad += 1;
        self.tally.reason(format!("{} {}: {why}", self.place_name, record.place));
        if self.args.reading.skip_bad_rows { self.rejected.write(record, why) } else { Ok(()) }
    }

    /// Stores the block, unless the server has it.
    async fn send(&mut self) -> Result<()> {
        if self.block.is_empty() {
            return Ok(());
        }
        self.unchanged()?;
        self.offset += 1;
        self.block_bytes = 0;
        let block = std::mem::take(&mut self.block);
        let (places, rows) = (Places::of(&block), block.len() as u64);
        let Some(server) = self.server else { return Ok(()) };
        if self.offset <= self.earlier.committed {
            self.tally.before += rows;
            if self.earlier.refused == 0 {
                return Ok(());
            }
            let refused = server.refused(&mut self.refusals, self.offset).await?;
            return self.refuse(&places, &refused);
        }
        let block = block.into_iter().map(|located| located.row);
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
        self.stop.stored(answer.stored.into());
        self.tally.quarantined += u64::from(answer.quarantined);
        // An answer tells the first of many.
        let refused = if answer.rejections_omitted > 0 {
            let mut refusals = Refusals::of(&self.producer, self.offset, self.offset);
            server.refused(&mut refusals, self.offset).await?
        } else {
            answer.rejections
        };
        self.refuse(&places, &refused)
    }

    /// Fails if the file is not what it was: its blocks would be none of its log, which is that of its content then.
    fn unchanged(&self) -> Result<()> {
        if Version::of(self.file)? == self.version {
            return Ok(());
        }
        self.progress.end();
        let name = self.file.display();
        if self.offset == 0 && self.earlier.committed == 0 {
            bail!(
                "{name} was changed while it was imported; nothing of it was stored: import it when it is complete"
            );
        }
        bail!(
            "{name} was changed while it was imported. What is stored is of the file as it was, each row once: put that \
             back and import it, and the import goes on. As it is now it is another file, with rows that are there \
             already: import what is new alone"
        )
    }

    /// What was read, which is nobody's fault but the change's if the file was changed.
    fn of_version<T>(&self, read: Result<T>) -> Result<T> {
        if read.is_err() {
            self.unchanged()?;
        }
        read
    }

    /// Keeps what the server refused of a block.
    fn refuse(&mut self, places: &Places, rejections: &[v1::Rejection]) -> Result<()> {
        for reason in places.tell(rejections, self.place_name) {
            self.tally.reason(reason);
        }
        for (number, why) in places.refused(rejections) {
            let record = self.behind.row(number);
            let record = self.of_version(record)?;
            self.rejected.write(&record, &why)?;
        }
        Ok(())
    }

    /// Says what came of it.
    fn finish(self, kind: Kind) -> Result<u64> {
        let Self { args, file, tally, rejected, progress, .. } = self;
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
        let kept = rejected.rows;
        if let Some(path) = rejected.finish()? {
            say(format_args!(
                "  {} not stored, with the reasons: {}; mend and import that with the same options",
                count(kept, "row"),
                path.display()
            ));
        }
        if args.dry_run && refused > kept {
            say(format_args!("  mend them, or leave such rows out with --skip-bad-rows"));
        } else if refused > kept {
            let lost = count(refused - kept, "refused row");
            say(format_args!("  {lost} cannot be told: the server no longer knows which, or why"));
        }
        Ok(refused)
    }
}

/// Says something; that nobody reads it is no reason to stop an import.
fn say(text: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// So many of something.
fn count(many: u64, what: &str) -> String {
    format!("{} {what}{}", HumanCount(many), if many == 1 { "" } else { "s" })
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
