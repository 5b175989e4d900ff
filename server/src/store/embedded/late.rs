//! What is closed, dirty or dropped: kept in rows, and as much of it in memory as every commit needs.

use std::collections::{BTreeMap, BTreeSet};

use fjall::OwnedWriteBatch;

use super::{
    codec::{Input, Undecodable, put_optional, put_signed, put_varint},
    engine::{Engine, undecodable},
    keys::{self, Kind, Table},
    rows,
    view::View,
};
use crate::{
    model::{DAY_US, Micros, SeriesId},
    store::{Level, Lifecycle, StoreError},
};

/// Up to where buckets are closed, and up to where they are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Watermarks {
    pub(super) closed_before_us: Option<Micros>,
    pub(super) stored_before_us: Option<Micros>,
}

impl Watermarks {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(20);
        put_optional(&mut out, self.closed_before_us, put_signed);
        put_optional(&mut out, self.stored_before_us, put_signed);
        out
    }

    fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let mut input = Input(bytes);
        let closed_before_us = input.optional(Input::signed)?;
        let watermarks = Self { closed_before_us, stored_before_us: input.optional(Input::signed)? };
        input.finish()?;
        Ok(watermarks)
    }

    /// Before it, the buckets of a level are kept unless they are dirty.
    pub(super) fn stored_before_us(self, level: Level) -> Micros {
        self.stored_before_us.map_or(Micros::MIN, |stored| level.floor(stored))
    }
}

/// End of what was dropped of the rollups, by level.
pub(super) type Floors = [Option<Micros>; 3];

pub(super) fn encode_floors(floors: Floors) -> Vec<u8> {
    let mut out = Vec::with_capacity(30);
    for floor in floors {
        put_optional(&mut out, floor, put_signed);
    }
    out
}

fn decode_floors(bytes: &[u8]) -> Result<Floors, Undecodable> {
    let mut input = Input(bytes);
    let floors =
        [input.optional(Input::signed)?, input.optional(Input::signed)?, input.optional(Input::signed)?];
    input.finish()?;
    Ok(floors)
}

/// What was written into a day: of readings only what was late, of milkings everything.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Number of the last commit that did. A day is dropped only if no other has come since it was looked at.
    pub(super) commit: u64,
    /// When that was.
    pub(super) at_us: Micros,
    /// Milkings, and bytes of their rows.
    pub(super) rows: u64,
    pub(super) bytes: u64,
}

impl Written {
    pub(super) fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(30);
        put_varint(&mut out, self.commit);
        put_signed(&mut out, self.at_us);
        put_varint(&mut out, self.rows);
        put_varint(&mut out, self.bytes);
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let mut input = Input(bytes);
        let (commit, at_us) = (input.varint()?, input.signed()?);
        let written = Self { commit, at_us, rows: input.varint()?, bytes: input.varint()? };
        input.finish()?;
        Ok(written)
    }
}

/// What a commit has to know of closed time.
#[derive(Default)]
pub(super) struct Late {
    pub(super) watermarks: Watermarks,
    dropped: BTreeSet<(Kind, i64)>,
    /// Behind the newest day that was dropped: nothing at or after it needs a look.
    dropped_before_us: Option<Micros>,
}

impl Late {
    pub(super) fn read(view: &View<'_>) -> Result<Self, StoreError> {
        let mut late = Self { watermarks: view.watermarks()?, ..Self::default() };
        view.dropped(|kind, day| late.add_dropped(kind, day))?;
        Ok(late)
    }

    /// Whether a reading or milking at this time is late.
    pub(super) fn is_closed(&self, time_us: Micros) -> bool {
        self.watermarks.closed_before_us.is_some_and(|closed| time_us < closed)
    }

    /// Whether one of these times is so old that its day may have been dropped.
    pub(super) fn may_be_dropped(&self, mut times_us: impl Iterator<Item = Micros>) -> bool {
        self.dropped_before_us.is_some_and(|before| times_us.any(|time_us| time_us < before))
    }

    /// Whether retention has dropped that day.
    pub(super) fn is_dropped(&self, kind: Kind, time_us: Micros) -> bool {
        self.dropped.contains(&(kind, time_us.div_euclid(DAY_US)))
    }

    pub(super) fn add_dropped(&mut self, kind: Kind, day: i64) {
        self.dropped.insert((kind, day));
        self.dropped_before_us = self.dropped_before_us.max(Some((day + 1).saturating_mul(DAY_US)));
    }
}

/// Notes what a commit writes late, in its batch.
pub(super) struct Marks<'a> {
    engine: &'a Engine,
    number: u64,
    now_us: Micros,
    last: Option<(SeriesId, i64)>,
    days: BTreeSet<i64>,
}

impl<'a> Marks<'a> {
    pub(super) fn new(engine: &'a Engine, number: u64, now_us: Micros) -> Self {
        Self { engine, number, now_us, last: None, days: BTreeSet::new() }
    }

    /// Late readings of an hour of a series: marks it as dirty, and their day as written into.
    pub(super) fn mark(&mut self, batch: &mut OwnedWriteBatch, series: SeriesId, time_us: Micros) {
        let hour = keys::hour_of(time_us);
        if self.last == Some((series, hour)) {
            return;
        }
        self.last = Some((series, hour));
        batch.insert(self.engine.rows(), keys::dirty(series, hour), rows::encode_number(self.number));
        let day = time_us.div_euclid(DAY_US);
        if self.days.insert(day) {
            self.note(batch, Kind::Reading, day, Written::default());
        }
    }

    /// Milkings, by day: how many, and the bytes of their rows. Answers what is known of those days then.
    pub(super) fn add_milkings(
        &self,
        batch: &mut OwnedWriteBatch,
        added: BTreeMap<i64, (u64, u64)>,
        mut known: impl FnMut(i64) -> Result<Written, StoreError>,
    ) -> Result<Vec<(i64, Written)>, StoreError> {
        let add = |(day, (rows, bytes))| {
            let before = known(day)?;
            let written = Written { rows: before.rows + rows, bytes: before.bytes + bytes, ..before };
            Ok((day, self.note(batch, Kind::Milking, day, written)))
        };
        added.into_iter().map(add).collect()
    }

    fn note(&self, batch: &mut OwnedWriteBatch, kind: Kind, day: i64, written: Written) -> Written {
        let written = Written { commit: self.number, at_us: self.now_us, ..written };
        batch.insert(self.engine.rows(), keys::written(kind, day), written.encode());
        written
    }
}

impl View<'_> {
    pub(super) fn watermarks(&self) -> Result<Watermarks, StoreError> {
        self.decoded(keys::WATERMARKS, Watermarks::decode)
    }

    pub(super) fn rollup_floors(&self) -> Result<Floors, StoreError> {
        self.decoded(keys::ROLLUP_FLOORS, decode_floors)
    }

    pub(super) fn lifecycle(&self) -> Result<Lifecycle, StoreError> {
        let Watermarks { closed_before_us, stored_before_us } = self.watermarks()?;
        Ok(Lifecycle {
            closed_before_us,
            stored_before_us,
            raw_kept_from_us: self.kept_from_us(Kind::Reading)?,
            milkings_kept_from_us: self.kept_from_us(Kind::Milking)?,
            rollups_kept_from_us: self.rollup_floors()?,
        })
    }

    /// Hours of series that are dirty.
    pub(super) fn dirty_hours(&self) -> Result<u64, StoreError> {
        let mut hours = 0;
        self.scan(&keys::table(Table::Dirty), |_, _| {
            hours += 1;
            Ok(true)
        })?;
        Ok(hours)
    }

    /// End of the newest day that was dropped.
    fn kept_from_us(&self, kind: Kind) -> Result<Option<Micros>, StoreError> {
        let Some((key, _)) = self.last(&keys::dropped_of(kind))? else { return Ok(None) };
        let (_, day) = keys::parse_of_day(&key).map_err(undecodable)?;
        Ok(Some((day + 1).saturating_mul(DAY_US)))
    }

    /// What was written into a day.
    pub(super) fn written(&self, kind: Kind, day: i64) -> Result<Written, StoreError> {
        let row = self.get(keys::written(kind, day))?;
        row.map_or(Ok(Written::default()), |row| Written::decode(&row).map_err(undecodable))
    }

    /// Days of milkings with what was written into them, in order.
    pub(super) fn milking_days(&self) -> Result<Vec<(i64, Written)>, StoreError> {
        let mut days = Vec::new();
        self.scan(&keys::written_of(Kind::Milking), |key, value| {
            days.push((keys::parse_of_day(key)?.1, Written::decode(value)?));
            Ok(true)
        })?;
        Ok(days)
    }

    /// Days of milkings from `start_us` to before `end_us` that were dropped.
    pub(super) fn dropped_milkings(
        &self,
        start_us: Micros,
        end_us: Micros,
    ) -> Result<BTreeSet<i64>, StoreError> {
        let mut days = BTreeSet::new();
        let first = keys::dropped(Kind::Milking, start_us.div_euclid(DAY_US));
        let last = keys::dropped(Kind::Milking, (end_us - 1).div_euclid(DAY_US));
        self.scan_range(&first, &last, |key, _| {
            days.insert(keys::parse_of_day(key)?.1);
            Ok(true)
        })?;
        Ok(days)
    }

    fn decoded<T: Default>(
        &self,
        key: [u8; 2],
        decode: impl FnOnce(&[u8]) -> Result<T, Undecodable>,
    ) -> Result<T, StoreError> {
        let value = self.get(key)?;
        value.map_or(Ok(T::default()), |value| decode(&value).map_err(undecodable))
    }

    /// Shows the days that were dropped.
    pub(super) fn dropped(&self, mut see: impl FnMut(Kind, i64)) -> Result<(), StoreError> {
        self.scan(&keys::table(Table::Dropped), |key, _| {
            let (kind, day) = keys::parse_of_day(key)?;
            see(kind, day);
            Ok(true)
        })
    }

    /// Starts of the buckets of a level from `start_us` to `end_us` of a series that hold a dirty hour, in order.
    pub(super) fn dirty_buckets(
        &self,
        series: SeriesId,
        level: Level,
        (start_us, end_us): (Micros, Micros),
    ) -> Result<Vec<Micros>, StoreError> {
        let mut dirty = Vec::new();
        let first = keys::dirty(series, keys::hour_of(start_us));
        let last = keys::dirty(series, keys::hour_of(end_us - 1));
        self.scan_range(&first, &last, |key, _| {
            let (_, hour) = keys::parse_dirty(key)?;
            let hour_us = hour * keys::HOUR_US;
            let mut bucket_us = level.floor(hour_us);
            while bucket_us < hour_us + keys::HOUR_US {
                if dirty.last() != Some(&bucket_us) && (start_us..end_us).contains(&bucket_us) {
                    dirty.push(bucket_us);
                }
                bucket_us += level.width_us();
            }
            Ok(true)
        })?;
        Ok(dirty)
    }
}
