//! From a group to one batch of the engine.

use std::collections::BTreeMap;

use fjall::{Keyspace, OwnedWriteBatch};

use super::{
    block, devices,
    engine::{Engine, undecodable},
    keys::{self, BlockKey, HOUR_US, Kind},
    late::{Late, Marked, Marks, Written},
    open::Filled,
    rows,
    tags::Noted,
    view::View,
};
use crate::{
    model::{DAY_US, Milking, ProducerId, ProducerRow, Quarantined, Reading, SeriesId, now_us},
    store::{
        CommitGroup, Outcome, ProducerCommit, StoreError,
        admission::Admission,
        cache::Generations,
        heard::{Heard, Status},
        order::{Minutes, sort},
    },
};

mod refusals;

/// Ledger rows kept in memory, at most.
const CACHED_PRODUCERS: usize = 100_000;

/// Activity counters kept in memory, at most: two weeks of minutes.
const CACHED_MINUTES: usize = 20_160;

/// Days of milkings kept in memory, at most.
const CACHED_DAYS: usize = 1000;

/// Blocks of one series and first time in one commit: 16 bits of the stamp.
pub(super) const ORDINAL_BITS: u32 = 16;

/// Committed rows that every commit needs.
pub(super) struct Committed {
    pub(super) late: Late,
    marked: Marked,
    ledger: Generations<ProducerId, ProducerRow>,
    minutes: Generations<i64, u64>,
    /// What was written into days of milkings.
    milked: Generations<i64, Written>,
    noted: Noted,
}

/// A group turned into a batch, and what is true once that is written.
pub(super) struct Draft {
    batch: OwnedWriteBatch,
    /// Its number; None: nothing changes.
    number: Option<u64>,
    pub(super) outcomes: Vec<Outcome>,
    /// Statuses after the commit.
    pub(super) touched: Vec<(u32, Status)>,
    /// Days that get readings.
    pub(super) days: Vec<i64>,
    filled: Filled,
    series: Vec<SeriesId>,
    producers: Vec<(ProducerId, ProducerRow)>,
    minutes: Vec<(i64, u64)>,
    milked: Vec<(i64, Written)>,
}

impl Draft {
    /// The batch; empty if nothing changes.
    pub(super) fn take_batch(&mut self, engine: &Engine) -> OwnedWriteBatch {
        std::mem::replace(&mut self.batch, engine.batch(0))
    }
}

impl Committed {
    pub(super) fn new(late: Late) -> Self {
        let (ledger, minutes) = (Generations::new(CACHED_PRODUCERS), Generations::new(CACHED_MINUTES));
        Self {
            late,
            marked: Marked::default(),
            ledger,
            minutes,
            milked: Generations::new(CACHED_DAYS),
            noted: Noted::new(),
        }
    }

    /// Takes over what a written draft made true.
    pub(super) fn apply(&mut self, engine: &Engine, draft: Draft) -> Vec<Outcome> {
        for (producer, row) in draft.producers {
            self.ledger.insert(producer, row);
        }
        for (minute, count) in draft.minutes {
            self.minutes.insert(minute, count);
        }
        for (day, written) in draft.milked {
            self.milked.insert(day, written);
        }
        if let Some(number) = draft.number {
            engine.open.fill(number, draft.filled);
        }
        engine.devices.set(&draft.touched);
        engine.catalogue.end(draft.series.into_iter());
        draft.outcomes
    }

    /// A refresh is going to look at the marks, and to take away what it sees.
    pub(super) fn forget_marks(&mut self) {
        self.marked = Marked::default();
    }

    /// Forgets the activity counters.
    pub(super) fn forget_minutes(&mut self) {
        self.minutes = Generations::new(CACHED_MINUTES);
    }

    /// Turns a group into the batch of commit `number`.
    ///
    /// # Errors
    ///
    /// When the ledger cannot be read, a chunk cannot be created, or a series has no such number.
    pub(super) fn draft(
        &mut self,
        engine: &Engine,
        group: &CommitGroup,
        number: u64,
    ) -> Result<Draft, StoreError> {
        let view = engine.view();
        let readings: usize =
            group.producers.iter().flat_map(|commit| &commit.batches).map(|batch| batch.readings.len()).sum();
        let mut draft = Draft {
            // More would only be right for blocks of a single reading.
            batch: engine.batch(readings / 4),
            number: None,
            outcomes: Vec::with_capacity(group.producers.len()),
            touched: Vec::new(),
            days: Vec::new(),
            filled: engine.open.filling(),
            series: Vec::new(),
            producers: Vec::new(),
            minutes: Vec::new(),
            milked: Vec::new(),
        };
        let mut readings = Vec::new();
        let mut milkings = Vec::new();
        // A draft that is not written takes the engine with it, and this.
        let mut marks = Marks::new(engine, number, now_us(), std::mem::take(&mut self.marked));
        for commit in &group.producers {
            if self.admit(&view, commit, &mut draft)? {
                let refused = refusals::sort_out(&view, commit, &self.late, &mut readings, &mut milkings)?;
                refusals::note(&mut draft, commit, &refused);
                let refused = refused.iter().chain(&commit.quarantined);
                put_quarantine(&mut draft.batch, engine.rows(), commit.producer, refused);
            }
        }
        if !milkings.is_empty() {
            self.put_milkings(&view, &mut draft, &milkings, &marks, number)?;
        }
        if !readings.is_empty() {
            self.put_readings(&view, &mut draft, &readings, &mut marks, number)?;
        }
        self.marked = marks.into_marked();
        for (producer, row) in &draft.producers {
            draft.batch.insert(engine.rows(), keys::ledger(*producer), rows::encode_producer(row));
        }
        if !draft.batch.is_empty() {
            draft.batch.insert(engine.rows(), keys::LAST_COMMIT, rows::encode_number(number));
            draft.number = Some(number);
        }
        Ok(draft)
    }

    /// Holds a producer's guard against the ledger and notes the outcome; true if its rows are to be written.
    fn admit(
        &mut self,
        view: &View<'_>,
        commit: &ProducerCommit,
        draft: &mut Draft,
    ) -> Result<bool, StoreError> {
        if !commit.has_ledger() {
            draft.outcomes.push(Outcome::Committed(ProducerRow::default(), Vec::new()));
            return Ok(true);
        }
        let before = self.producer(view, commit.producer)?;
        let Admission { row, writes, known } = Admission::of(commit, before.clone());
        if row != before {
            draft.producers.push((commit.producer, row.clone()));
        }
        draft.outcomes.push(match known {
            // What an earlier attempt refused is in quarantine.
            true if !writes => Outcome::Committed(row, refusals::of_before(view, commit)?),
            true => Outcome::Committed(row, Vec::new()),
            false => Outcome::Fenced(row),
        });
        Ok(writes)
    }

    /// A producer's row; the default if there is none.
    fn producer(&mut self, view: &View<'_>, producer: ProducerId) -> Result<ProducerRow, StoreError> {
        if let Some(row) = self.ledger.get(&producer) {
            return Ok(row);
        }
        let row = match view.get(keys::ledger(producer))? {
            Some(value) => rows::decode_producer(&value).map_err(undecodable)?,
            None => ProducerRow::default(),
        };
        self.ledger.insert(producer, row.clone());
        Ok(row)
    }

    fn put_milkings(
        &mut self,
        view: &View<'_>,
        draft: &mut Draft,
        milkings: &[&Milking],
        marks: &Marks<'_>,
        number: u64,
    ) -> Result<(), StoreError> {
        let mut added: BTreeMap<i64, (u64, u64)> = BTreeMap::new();
        for (index, milking) in (0..).zip(milkings) {
            let key = keys::milking(milking.farm_id, milking.time_us, number, index);
            let row = rows::encode_milking(milking);
            let (rows, bytes) = added.entry(milking.time_us.div_euclid(DAY_US)).or_default();
            *rows += 1;
            *bytes += (key.len() + row.len()) as u64;
            draft.batch.insert(view.engine.rows(), key, row);
        }
        draft.milked = marks.add_milkings(&mut draft.batch, added, |day| match self.milked.get(&day) {
            Some(written) => Ok(written),
            None => view.written(Kind::Milking, day),
        })?;
        Ok(())
    }

    fn put_readings(
        &mut self,
        view: &View<'_>,
        draft: &mut Draft,
        readings: &[&Reading],
        marks: &mut Marks<'_>,
        number: u64,
    ) -> Result<(), StoreError> {
        let engine = view.engine;
        let sorted = sort(readings);
        let mut heard = Heard::default();
        let mut minutes = Minutes::default();
        let mut chunk: Option<(i64, Keyspace)> = None;
        let mut packed = Vec::with_capacity(1024);
        let mut previous: Option<BlockKey> = None;
        let mut rest = &sorted[..];
        while let Some(first) = rest.first() {
            let (run, tail) = rest.split_at(block_len(rest));
            rest = tail;
            let mut key =
                BlockKey { series: first.series, first_us: first.time_us, stamp: number << ORDINAL_BITS };
            if let Some(previous) = previous
                && (previous.series, previous.first_us) == (key.series, key.first_us)
            {
                key.stamp = previous.stamp + 1;
            }
            if previous.is_none_or(|previous| previous.series != key.series) {
                draft.series.push(key.series);
            }
            previous = Some(key);

            let device = engine.catalogue.begin(key.series, keys::hour_of(key.first_us));
            let device = device.ok_or_else(|| {
                StoreError::Damaged(format!("a reading names series {}, which does not exist", key.series.0))
            })?;
            heard.add(device, run);
            minutes.add(run);
            draft.filled.add(key, run);

            let day = key.day();
            let chunk = match &mut chunk {
                Some((of, chunk)) if *of == day => chunk,
                other => {
                    draft.days.push(day);
                    marks.backfill(&mut draft.batch, day);
                    &mut other.insert((day, engine.chunk_or_create(day)?)).1
                }
            };
            if self.late.is_closed(key.first_us) {
                marks.mark(&mut draft.batch, key.series, key.first_us);
            }
            self.noted.note(&mut draft.batch, chunk, day, run);
            packed.clear();
            block::pack(&mut packed, run);
            draft.batch.insert(chunk, key.encode(), &packed[..]);
        }
        marks.finish(&mut draft.batch);
        draft.touched = devices::changes(heard, &engine.devices);
        if !draft.touched.is_empty() {
            draft.batch.insert(engine.rows(), keys::touches(number), rows::encode_touches(&draft.touched));
        }
        for (minute, added) in minutes.counts {
            let count = match self.minutes.get(&minute) {
                Some(count) => count,
                None => view.number(keys::activity(minute))?,
            } + added;
            draft.batch.insert(engine.rows(), keys::activity(minute), rows::encode_number(count));
            draft.minutes.push((minute, count));
        }
        Ok(())
    }
}

/// What was refused of a producer.
fn put_quarantine<'a>(
    batch: &mut OwnedWriteBatch,
    rows: &Keyspace,
    producer: ProducerId,
    refused: impl Iterator<Item = &'a Quarantined>,
) {
    for quarantined in refused {
        let rejection = &quarantined.rejection;
        let key = keys::quarantine(producer, rejection.offset, rejection.kind as u8, rejection.index);
        batch.insert(rows, key, rows::encode_quarantined(quarantined));
    }
}

/// How many of the first readings make one block.
fn block_len(sorted: &[&Reading]) -> usize {
    let first = sorted[0];
    let hour_end = (keys::hour_of(first.time_us) + 1).saturating_mul(HOUR_US);
    let span_end = first.time_us.saturating_add(block::MAX_SPAN_US);
    let mut text_bytes = 0;
    let fits = |reading: &&&Reading| {
        text_bytes += reading.text_bytes();
        reading.series == first.series
            && reading.time_us < hour_end
            && reading.time_us <= span_end
            && text_bytes <= block::MAX_TEXT_BYTES
    };
    sorted.iter().take(block::MAX_READINGS).take_while(fits).count().max(1)
}
