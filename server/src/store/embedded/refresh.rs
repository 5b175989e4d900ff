//! Computes what was closed and what is dirty, on a thread of its own beside the writer, which stores it.
//!
//! It may end anywhere: the watermark moves behind what is stored, and a mark goes together with what it stood for.

use std::collections::BTreeMap;

use super::{
    engine::{Engine, View, undecodable},
    keys::{self, HOUR_US, Table},
    late::Floors,
    rollup::{self, Day},
    rows,
    watch::Watch,
};
use crate::{
    model::{DAY_US, Micros, SeriesId},
    store::{Bucket, Level, Refreshed, StoreError},
};

/// Bytes of rows that are handed to the writer at a time: it commits nothing meanwhile.
const CHANGE_BYTES: usize = 256 << 10;

/// Marks that are looked at in one view.
const MARKS: usize = 10_000;

/// What the writer is to change beside commits. All of it takes effect, or nothing.
#[derive(Default)]
pub(super) struct Changes {
    pub(super) rollups: Vec<([u8; 13], Vec<u8>)>,
    /// Marks that are mended, unless a later commit has set them again.
    pub(super) mended: Vec<([u8; 13], u64)>,
    pub(super) stored_before_us: Option<Micros>,
    pub(super) gone_rollups: Vec<[u8; 13]>,
    pub(super) gone_rows: Vec<Vec<u8>>,
    pub(super) floors: Option<Floors>,
    pub(super) bytes: usize,
}

impl Changes {
    fn put(&mut self, key: [u8; 13], row: Vec<u8>) {
        self.bytes += key.len() + row.len();
        self.rollups.push((key, row));
    }

    fn is_full(&self) -> bool {
        self.bytes >= CHANGE_BYTES
    }
}

/// One refresh, once the watermark has moved.
pub(super) struct Refresh<'a> {
    engine: &'a Engine,
    watch: Watch,
    /// Hands changes to the writer, and waits until they are stored.
    apply: &'a dyn Fn(Changes) -> Result<(), StoreError>,
    changes: Changes,
    done: Refreshed,
}

impl<'a> Refresh<'a> {
    pub(super) fn new(
        engine: &'a Engine,
        watch: Watch,
        apply: &'a dyn Fn(Changes) -> Result<(), StoreError>,
    ) -> Self {
        Self { engine, watch, apply, changes: Changes::default(), done: Refreshed::default() }
    }

    /// Stores what is closed, then mends what is dirty within `span_us`.
    pub(super) fn run(mut self, span_us: Option<(Micros, Micros)>) -> Result<Refreshed, StoreError> {
        self.store_closed()?;
        self.mend(span_us.unwrap_or((Micros::MIN, Micros::MAX)))?;
        Ok(self.done)
    }

    /// Day by day, so that what is done stays done.
    fn store_closed(&mut self) -> Result<(), StoreError> {
        let view = self.engine.watched(self.watch.clone());
        let watermarks = view.watermarks()?;
        let Some(closed_us) = watermarks.closed_before_us else { return Ok(()) };
        let stored_us = watermarks.stored_before_us.unwrap_or(Micros::MIN);
        // Days without readings have no buckets.
        for day in self.engine.days() {
            let (day_us, next_us) = (day.saturating_mul(DAY_US), (day + 1).saturating_mul(DAY_US));
            let until_us = next_us.min(closed_us);
            if until_us <= stored_us || day_us >= closed_us {
                continue;
            }
            for number in 1..self.engine.catalogue.next() {
                let series = SeriesId(number);
                for level in Level::ALL {
                    let span = (level.floor(stored_us).max(day_us), level.floor(until_us));
                    self.roll_up(&view, series, level, day, &[span])?;
                }
                self.flush_if_full()?;
            }
            self.changes.stored_before_us = Some(until_us);
            self.flush()?;
        }
        if stored_us < closed_us {
            self.changes.stored_before_us = Some(closed_us);
            self.flush()?;
        }
        Ok(())
    }

    /// Computes the hours that are marked again, and the days that hold them.
    fn mend(&mut self, (start_us, end_us): (Micros, Micros)) -> Result<(), StoreError> {
        let hours = keys::hour_of(start_us)..=keys::hour_of(end_us.saturating_sub(1));
        let mut after: Option<[u8; 13]> = None;
        loop {
            let view = self.engine.watched(self.watch.clone());
            let mut marks = Vec::new();
            let first = after.map_or_else(|| keys::table(Table::Dirty).to_vec(), |key| key.to_vec());
            view.scan_range(&first, &keys::dirty(SeriesId(u32::MAX), i64::MAX), |key, value| {
                let (series, hour) = keys::parse_dirty(key)?;
                if after != Some(keys::dirty(series, hour)) {
                    marks.push((series, hour, rows::decode_number(value)?));
                }
                Ok(marks.len() < MARKS)
            })?;
            let Some(&(series, hour, _)) = marks.last() else { return Ok(()) };
            after = Some(keys::dirty(series, hour));
            marks.retain(|(_, hour, _)| hours.contains(hour));
            let stored_us = view.watermarks()?.stored_before_us.unwrap_or(Micros::MIN);
            for of_day in marks.chunk_by(|a, b| (a.0, a.1.div_euclid(24)) == (b.0, b.1.div_euclid(24))) {
                self.mend_day(&view, stored_us, of_day)?;
                self.flush_if_full()?;
            }
            self.flush()?;
        }
    }

    /// The marks of one series on one day.
    fn mend_day(
        &mut self,
        view: &View<'_>,
        stored_us: Micros,
        marks: &[(SeriesId, i64, u64)],
    ) -> Result<(), StoreError> {
        let (series, day) = (marks[0].0, marks[0].1.div_euclid(24));
        for level in Level::ALL {
            let stored_us = level.floor(stored_us);
            let spans: Vec<_> = match level {
                Level::Day => vec![(day * DAY_US, (day + 1) * DAY_US)],
                _ => marks.iter().map(|(_, hour, _)| (hour * HOUR_US, (hour + 1) * HOUR_US)).collect(),
            };
            let spans: Vec<_> = spans.into_iter().map(|(start, end)| (start, end.min(stored_us))).collect();
            self.roll_up(view, series, level, day, &spans)?;
        }
        self.changes.mended.extend(marks.iter().map(|&(_, hour, seen)| (keys::dirty(series, hour), seen)));
        self.done.dirty_hours += marks.len() as u64;
        Ok(())
    }

    /// Computes the buckets of a level of a series that lie in spans of a day, and puts them into the day's row.
    fn roll_up(
        &mut self,
        view: &View<'_>,
        series: SeriesId,
        level: Level,
        day: i64,
        spans: &[(Micros, Micros)],
    ) -> Result<(), StoreError> {
        let mut computed: BTreeMap<Micros, Bucket> = Day::new();
        for &span in spans {
            view.computed(level, series, None, span, true, |bucket| {
                computed.insert(bucket.start_us, bucket);
            })?;
        }
        if computed.is_empty() {
            return Ok(());
        }
        self.done.buckets += computed.len() as u64;
        let key = keys::rollups(level, series, day);
        let row = self.engine.rollup(&key)?;
        if let Some(row) = row {
            rollup::decode(level, day, &row, |bucket| {
                computed.entry(bucket.start_us).or_insert(bucket);
            })
            .map_err(undecodable)?;
        }
        self.changes.put(key, rollup::encode(level, &computed));
        Ok(())
    }

    fn flush_if_full(&mut self) -> Result<(), StoreError> {
        if self.changes.is_full() { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.watch.check()?;
        (self.apply)(std::mem::take(&mut self.changes))
    }
}
