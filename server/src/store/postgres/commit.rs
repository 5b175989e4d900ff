//! From a group to one transaction.

use std::{
    collections::{HashMap, HashSet},
    ptr,
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use sqlx::{Connection as _, PgConnection};

use super::{
    Shared,
    attempts::Attempts,
    connect::PostgresConfig,
    copy::Copying,
    error::{Kind, kind, unavailable},
    late::{self, Marked},
    ledger::{self, Standing},
    open::{self, Open},
    others,
    rows::{self, MilkingRow, Row},
    series::DeviceKey,
    tags::Tags,
    time,
    trace::{Writer, write_sound},
};
use crate::{
    model::{
        Content, ProducerId, ProducerRow, Quarantined, Rejection, RejectionCode, RejectionKind, SeriesId,
        now_us,
    },
    store::{
        CommitGroup, Outcome, ProducerCommit, StoreError, admission::Admission, heard::Heard, order::Minutes,
    },
};

/// Times that a commit is tried again at once because another transaction was in the way.
const CONFLICTS: usize = 5;

/// How readings are written, and under which numbers activity is counted.
pub(super) struct Committer {
    pub(super) copying: Copying,
    /// Longer than the database may take with all statements of a commit.
    patience: Duration,
    activity: Duration,
    /// What was tried, by group.
    attempts: Attempts,
    marked: Marked,
    /// Free numbers for rows of `iot.activity`: commits that run side by side use different ones.
    writers: Mutex<Vec<i64>>,
}

impl Committer {
    pub(super) fn new(config: &PostgresConfig) -> Self {
        let first =
            i64::from_be_bytes(*uuid::Uuid::new_v4().as_bytes().first_chunk().unwrap_or(&[1; 8])) >> 16;
        Self {
            copying: Copying::new(config.copy),
            patience: 2 * config.statement_timeout,
            activity: config.activity,
            attempts: Attempts::default(),
            marked: Marked::new(),
            writers: Mutex::new((0..i64::from(config.pool_max)).map(|n| first + n).collect()),
        }
    }
}

/// What a commit did, and what it told of devices.
type Done = (Vec<Outcome>, Heard<Arc<DeviceKey>>);

/// A group with what must be known of it before the transaction begins.
struct Work<'a> {
    group: &'a Arc<CommitGroup>,
    attempts: &'a Attempts,
    devices: &'a HashMap<SeriesId, Arc<DeviceKey>>,
    tags: &'a Tags,
    marked: &'a Marked,
    open: &'a Open,
    writer: i64,
    activity: Duration,
    copying: &'a Copying,
    /// Some data was refused: find out which.
    trace: bool,
}

impl Shared {
    /// Commits a group; see [`crate::store::Store::commit`].
    pub(super) async fn commit(&self, group: &Arc<CommitGroup>) -> Result<Vec<Outcome>, StoreError> {
        if let Some(outcomes) = self.committer.attempts.finished(group) {
            return Ok(outcomes);
        }
        let mut conflicts = 0;
        let mut refusals = 0;
        loop {
            let copies = self.committer.copying.is_on();
            let error = match self.attempt(group, refusals >= 2).await {
                Ok((outcomes, heard)) => {
                    if copies {
                        self.watch.copied(group, &outcomes);
                    }
                    self.devices.heard(heard);
                    return Ok(outcomes);
                }
                Err(error) => error,
            };
            match kind(&error) {
                // First of all a partition may be missing that is thought to exist.
                Kind::Data if refusals < 2 => {
                    refusals += 1;
                    self.chunks.forget();
                }
                Kind::Conflict if conflicts < CONFLICTS => conflicts += 1,
                // It was this attempt that found out that there is no COPY.
                _ if copies && !self.committer.copying.is_on() => {}
                _ => return Err(unavailable(error)),
            }
        }
    }

    async fn attempt(&self, group: &Arc<CommitGroup>, trace: bool) -> Result<Done, sqlx::Error> {
        let series = group.producers.iter().flat_map(|commit| &commit.batches);
        let series = series.flat_map(|batch| &batch.readings).map(|reading| reading.series);
        let mut series: Vec<SeriesId> = series.collect();
        series.sort_unstable();
        series.dedup();
        self.chunks.ensure(&self.pool, rows::days(&group.producers)).await?;
        let devices = self.catalogue.devices(&self.pool, series.into_iter()).await?;
        let mut connection = self.pool.acquire().await?;
        let writer = self.committer.writers.lock().pop().unwrap_or_default();
        let Committer { copying, attempts, marked, activity, .. } = &self.committer;
        let (tags, open, activity) = (&self.tags, &self.open, *activity);
        let devices = &devices;
        let work = Work { group, attempts, devices, tags, marked, open, writer, activity, copying, trace };
        let done = match tokio::time::timeout(self.committer.patience, work.run(&mut connection)).await {
            Ok(done) => done,
            Err(_) => Err(sqlx::Error::Io(std::io::ErrorKind::TimedOut.into())),
        };
        self.committer.writers.lock().push(writer);
        if let Err(error) = &done
            && !matches!(error, sqlx::Error::Database(_))
        {
            // Nobody knows what it still does: it must not carry the next commit.
            connection.close_on_drop();
        }
        done
    }
}

impl Work<'_> {
    async fn run(&self, connection: &mut PgConnection) -> Result<Done, sqlx::Error> {
        let mut transaction = connection.begin().await?;
        let mut standing = ledger::lock(&mut transaction, self.group).await?;
        if let Some(outcomes) = self.attempts.resolve(self.group, &standing) {
            // The commit whose answer was lost is in the ledger, and with it all of the group.
            transaction.rollback().await?;
            return Ok((outcomes, Heard::default()));
        }
        let begun = late::begin(&mut transaction).await?;
        let number = begun.number;
        let mut parts: Vec<Part<'_>> = (self.group.producers.iter())
            .map(|commit| Part::new(commit, standing.remove(&commit.producer)))
            .collect();
        let admitted = || parts.iter().filter(|part| part.writes).map(|part| part.commit);
        let mut readings = rows::readings(admitted(), number);
        let mut milkings = rows::milkings(admitted(), number);
        let dropped = begun.refuse_readings(&mut transaction, &mut readings).await?;
        let dropped_milkings = begun.refuse_milkings(&mut transaction, &mut milkings).await?;
        let (refused, refused_milkings) = self.write_rows(&mut transaction, &readings, &milkings).await?;
        let marks = begun.mark(&mut transaction, &readings, self.marked).await?;
        let notes = self.tags.note(&mut transaction, &readings).await?;
        let mut records = Vec::new();
        for (field, refused) in [(late::FIELD, &dropped), ("readings", &refused)] {
            for (row, message) in refused {
                let kind = RejectionKind::Reading;
                let origin = rows::origin(self.group, kind, row.reading, |batch| &batch.readings);
                let content = Content::Reading(row.reading.clone());
                let refusal = |origin| refusal(&mut parts, origin, (kind, field), message, content);
                records.extend(origin.map(refusal));
            }
        }
        for (field, refused) in [(late::FIELD, &dropped_milkings), ("milkings", &refused_milkings)] {
            for (row, message) in refused {
                let kind = RejectionKind::Milking;
                let origin = rows::origin(self.group, kind, row.milking, |batch| &batch.milkings);
                let content = Content::Milking(Box::new(row.milking.clone()));
                let refusal = |origin| refusal(&mut parts, origin, (kind, field), message, content);
                records.extend(origin.map(refusal));
            }
        }
        write_quarantine(&mut transaction, &parts, &records).await?;
        let changed: Vec<(ProducerId, &ProducerRow)> = (parts.iter())
            .filter(|part| part.changed)
            .map(|part| (part.commit.producer, &part.row))
            .collect();
        ledger::update(&mut transaction, &changed, number).await?;
        let changed = changed.into_iter().map(|(producer, _)| producer).collect();
        let heard = self.count(&mut transaction, &readings).await?;
        let mut outcomes = Vec::with_capacity(parts.len());
        for part in parts {
            outcomes.push(part.outcome(&mut transaction).await?);
        }
        if let Some(summed_us) = begun.summed_from_us() {
            let refused: HashSet<usize> =
                refused.iter().map(|(row, _)| ptr::from_ref(row.reading).addr()).collect();
            let is_summed = |row: &&Row<'_>| {
                row.reading.time_us >= summed_us && !refused.contains(&ptr::from_ref(row.reading).addr())
            };
            let summed: Vec<&Row<'_>> = readings.iter().filter(is_summed).collect();
            open::add(&mut transaction, &summed).await?;
        }
        self.attempts.begin(self.group, number, changed, &outcomes);
        transaction.commit().await?;
        self.attempts.finish(self.group);
        self.tags.learn(notes);
        self.marked.learn(marks);
        self.open.note(begun.count_open(&readings));
        Ok((outcomes, heard))
    }

    /// Writes readings and milkings; answers what the database refuses.
    async fn write_rows<'r>(
        &self,
        connection: &mut PgConnection,
        readings: &[Row<'r>],
        milkings: &[MilkingRow<'r>],
    ) -> Result<(Vec<(Row<'r>, String)>, Vec<(MilkingRow<'r>, String)>), sqlx::Error> {
        let writer = RowWriter { copying: self.copying };
        if self.trace {
            let refused = write_sound(connection, readings, &writer).await?;
            return Ok((refused, write_sound(connection, milkings, &writer).await?));
        }
        if !readings.is_empty() {
            writer.write(connection, readings).await?;
        }
        if !milkings.is_empty() {
            writer.write(connection, milkings).await?;
        }
        Ok((Vec::new(), Vec::new()))
    }

    /// Adds to the activity of recent minutes; answers what was heard of devices.
    async fn count(
        &self,
        connection: &mut PgConnection,
        readings: &[Row<'_>],
    ) -> Result<Heard<Arc<DeviceKey>>, sqlx::Error> {
        let mut heard = Heard::default();
        let mut minutes = Minutes::default();
        for run in readings.chunk_by(|a, b| a.reading.series == b.reading.series) {
            let run: Vec<_> = run.iter().map(|row| row.reading).collect();
            minutes.add(&run);
            if let Some(device) = self.devices.get(&run[0].series) {
                heard.add(Arc::clone(device), &run);
            }
        }
        let oldest = Utc::now() - self.activity;
        let (times, counts): (Vec<DateTime<Utc>>, Vec<i64>) = (minutes.counts.into_iter())
            .map(|(minute, count)| (time::at(minute.saturating_mul(60_000_000)), count as i64))
            .filter(|(minute, _)| *minute >= oldest)
            .unzip();
        if !times.is_empty() {
            sqlx::query(sql!("add_activity"))
                .bind(times)
                .bind(self.writer)
                .bind(counts)
                .execute(connection)
                .await?;
        }
        Ok(heard)
    }
}

/// One producer's part of the transaction.
struct Part<'a> {
    commit: &'a ProducerCommit,
    row: ProducerRow,
    changed: bool,
    writes: bool,
    known: bool,
    refused: Vec<Rejection>,
}

impl<'a> Part<'a> {
    fn new(commit: &'a ProducerCommit, standing: Option<Standing>) -> Self {
        let refused = Vec::new();
        if !commit.has_ledger() {
            let row = ProducerRow::default();
            return Self { commit, row, changed: false, writes: true, known: true, refused };
        }
        let standing = standing.unwrap_or_default().row;
        let Admission { row, writes, known } = Admission::of(commit, standing.clone());
        Self { commit, changed: row != standing, row, writes, known, refused }
    }

    async fn outcome(self, connection: &mut PgConnection) -> Result<Outcome, sqlx::Error> {
        let Self { commit, row, writes, known, mut refused, .. } = self;
        if !known {
            return Ok(Outcome::Fenced(row));
        }
        if let Some(guard) = commit.guard
            && !writes
        {
            // An earlier attempt wrote it; what it refused is in quarantine.
            let (from, to) = (guard.committed_offset, commit.committed_offset);
            refused = others::refused(connection, commit.producer, from, to).await?;
        }
        refused.sort_by_key(|rejection| (rejection.offset, rejection.kind, rejection.index));
        Ok(Outcome::Committed(row, refused))
    }
}

/// Notes that the store refused a row, which validation had let pass.
fn refusal(
    parts: &mut [Part<'_>],
    origin: rows::Origin,
    (kind, field): (RejectionKind, &'static str),
    message: &str,
    content: Content,
) -> (ProducerId, Quarantined) {
    let rejection = Rejection {
        offset: origin.offset,
        kind,
        index: origin.index,
        code: RejectionCode::StoreRefused,
        field,
        message: message.to_owned(),
    };
    let part = &mut parts[origin.producer];
    if part.commit.has_ledger() {
        part.row.totals.stored = part.row.totals.stored.saturating_sub(1);
        part.row.totals.quarantined += 1;
    }
    part.refused.push(rejection.clone());
    (origin.id, Quarantined { rejection, received_us: now_us(), series: None, content: Some(content) })
}

async fn write_quarantine(
    connection: &mut PgConnection,
    parts: &[Part<'_>],
    refused: &[(ProducerId, Quarantined)],
) -> Result<(), sqlx::Error> {
    let validated = parts
        .iter()
        .filter(|part| part.writes)
        .flat_map(|part| part.commit.quarantined.iter().map(|record| (part.commit.producer, record)));
    let records: Vec<_> =
        validated.chain(refused.iter().map(|(producer, record)| (*producer, record))).collect();
    if records.is_empty() {
        return Ok(());
    }
    others::insert_quarantine(connection, &records).await
}

struct RowWriter<'a> {
    copying: &'a Copying,
}

impl Writer<Row<'_>> for RowWriter<'_> {
    async fn write(&self, connection: &mut PgConnection, rows: &[Row<'_>]) -> Result<(), sqlx::Error> {
        self.copying.write(connection, rows).await
    }
}

impl Writer<MilkingRow<'_>> for RowWriter<'_> {
    async fn write(&self, connection: &mut PgConnection, rows: &[MilkingRow<'_>]) -> Result<(), sqlx::Error> {
        others::insert_milkings(connection, rows).await
    }
}
