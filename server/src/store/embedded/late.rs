//! What is closed, dirty or dropped: kept in rows, and as much of it in memory as every commit needs.

use std::collections::BTreeSet;

use fjall::OwnedWriteBatch;

use super::{
    codec::{Input, Undecodable, put_optional, put_signed},
    engine::{Engine, View},
    keys::{self, Kind, Table},
    rows,
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

    /// Whether it is so old that its day may have been dropped.
    pub(super) fn may_be_dropped(&self, time_us: Micros) -> bool {
        self.dropped_before_us.is_some_and(|before| time_us < before)
    }

    pub(super) fn is_dropped(&self, kind: Kind, time_us: Micros) -> bool {
        self.may_be_dropped(time_us) && self.dropped.contains(&(kind, time_us.div_euclid(DAY_US)))
    }

    pub(super) fn add_dropped(&mut self, kind: Kind, day: i64) {
        self.dropped.insert((kind, day));
        self.dropped_before_us = self.dropped_before_us.max(Some((day + 1).saturating_mul(DAY_US)));
    }
}

/// Marks hours of series as dirty and days as written into, in the batch of commit `number`.
pub(super) struct Marks<'a> {
    engine: &'a Engine,
    number: u64,
    now_us: Micros,
    last: Option<(SeriesId, i64)>,
    days: BTreeSet<(Kind, i64)>,
}

impl<'a> Marks<'a> {
    pub(super) fn new(engine: &'a Engine, number: u64, now_us: Micros) -> Self {
        Self { engine, number, now_us, last: None, days: BTreeSet::new() }
    }

    /// A late reading.
    pub(super) fn mark(&mut self, batch: &mut OwnedWriteBatch, series: SeriesId, time_us: Micros) {
        let hour = keys::hour_of(time_us);
        if self.last != Some((series, hour)) {
            self.last = Some((series, hour));
            batch.insert(self.engine.rows(), keys::dirty(series, hour), rows::encode_number(self.number));
            self.written(batch, Kind::Reading, time_us);
        }
    }

    /// Something late was written into a day.
    pub(super) fn written(&mut self, batch: &mut OwnedWriteBatch, kind: Kind, time_us: Micros) {
        let day = time_us.div_euclid(DAY_US);
        if self.days.insert((kind, day)) {
            let now = rows::encode_number(self.now_us.max(0) as u64);
            batch.insert(self.engine.rows(), keys::written(kind, day), now);
        }
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
        let mut lifecycle = Lifecycle {
            closed_before_us,
            stored_before_us,
            rollups_kept_from_us: self.rollup_floors()?,
            ..Lifecycle::default()
        };
        self.dropped(|kind, day| {
            let kept_from_us = match kind {
                Kind::Reading => &mut lifecycle.raw_kept_from_us,
                Kind::Milking => &mut lifecycle.milkings_kept_from_us,
            };
            *kept_from_us = (*kept_from_us).max(Some((day + 1).saturating_mul(DAY_US)));
        })?;
        Ok(lifecycle)
    }

    pub(super) fn dirty_hours(&self) -> Result<u64, StoreError> {
        let mut hours = 0;
        self.scan(&keys::table(Table::Dirty), |_, _| {
            hours += 1;
            Ok(true)
        })?;
        Ok(hours)
    }

    fn decoded<T: Default>(
        &self,
        key: [u8; 2],
        decode: impl FnOnce(&[u8]) -> Result<T, Undecodable>,
    ) -> Result<T, StoreError> {
        let value = self.get(key)?;
        value.map_or(Ok(T::default()), |value| decode(&value).map_err(super::engine::undecodable))
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
        if start_us >= end_us {
            return Ok(dirty);
        }
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
