//! What is closed, dirty or dropped: kept in rows, and as much of it in memory as every commit needs.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    ops::RangeInclusive,
};

use fjall::OwnedWriteBatch;

use super::{
    codec::{Input, Undecodable, put_optional, put_signed, put_varint},
    engine::{Engine, undecodable},
    keys::{self, Kind, Table},
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

/// What was written into a day: of readings only what was late or of a day long over, of milkings everything.
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

/// Hours of a day: a set, a bit for each.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Hours(u32);

impl Hours {
    const ALL: u32 = (1 << 24) - 1;

    /// That of an hour from 1970.
    pub(super) fn one(hour: i64) -> Self {
        Self(1 << hour.rem_euclid(24))
    }

    /// Those of a day within a span of hours, all from 1970.
    pub(super) fn within(day: i64, hours: &RangeInclusive<i64>) -> Self {
        let (first, last) = (hours.start() - day * 24, hours.end() - day * 24);
        if first > 23 || last < 0 || first > last {
            return Self(0);
        }
        let (from, until) = (first.max(0), last.min(23));
        Self((Self::ALL << from) & (Self::ALL >> (23 - until)))
    }

    pub(super) fn is_empty(self) -> bool {
        self.0 == 0
    }

    pub(super) fn count(self) -> u64 {
        self.0.count_ones().into()
    }

    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    pub(super) fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    pub(super) fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// From 1970, in order.
    pub(super) fn of(self, day: i64) -> impl Iterator<Item = i64> {
        (0..24).filter(move |hour| self.0 & (1 << hour) != 0).map(move |hour| day * 24 + hour)
    }

    pub(super) fn encode(self) -> [u8; 3] {
        let [_, hours @ ..] = self.0.to_be_bytes();
        hours
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Undecodable> {
        let mut input = Input(bytes);
        let [a, b, c] = input.array()?;
        input.finish()?;
        Ok(Self(u32::from_be_bytes([0, a, b, c])))
    }
}

/// Marked since a refresh looked last: hours that need no other mark, since whoever takes it away looks first.
#[derive(Default)]
pub(super) struct Marked(HashMap<(SeriesId, i64), Hours>);

impl Marked {
    /// Series and days that are remembered, at most: 8 MB.
    const MOST: usize = 200_000;

    /// Adds hours of a day of a series; answers those that were not there.
    fn add(&mut self, series: SeriesId, day: i64, hours: Hours) -> Hours {
        if self.0.len() >= Self::MOST {
            self.0.clear();
        }
        let known = self.0.entry((series, day)).or_default();
        let new = hours.without(*known);
        *known = known.or(hours);
        new
    }
}

/// Notes what a commit writes late, in its batch.
pub(super) struct Marks<'a> {
    engine: &'a Engine,
    number: u64,
    now_us: Micros,
    /// Of a day of a series, which is not in the batch yet.
    open: Option<(SeriesId, i64, Hours)>,
    days: BTreeSet<i64>,
    marked: Marked,
}

impl<'a> Marks<'a> {
    pub(super) fn new(engine: &'a Engine, number: u64, now_us: Micros, marked: Marked) -> Self {
        Self { engine, number, now_us, open: None, days: BTreeSet::new(), marked }
    }

    /// Late readings of an hour of a series, by series and time: marks it as dirty, and their day as written into.
    pub(super) fn mark(&mut self, batch: &mut OwnedWriteBatch, series: SeriesId, time_us: Micros) {
        let (day, hour) = (time_us.div_euclid(DAY_US), Hours::one(keys::hour_of(time_us)));
        match &mut self.open {
            Some((of, on, hours)) if (*of, *on) == (series, day) => *hours = hours.or(hour),
            _ => {
                self.finish(batch);
                self.open = Some((series, day, hour));
            }
        }
        self.wrote(batch, day);
    }

    /// Readings of a day that is over: an import may be under way, of which no part is late as long as nothing is
    /// closed.
    pub(super) fn backfill(&mut self, batch: &mut OwnedWriteBatch, day: i64) {
        if day + 1 < self.now_us.div_euclid(DAY_US) {
            self.wrote(batch, day);
        }
    }

    fn wrote(&mut self, batch: &mut OwnedWriteBatch, day: i64) {
        if self.days.insert(day) {
            self.note(batch, Kind::Reading, day, Written::default());
        }
    }

    /// Puts what was marked last into the batch.
    pub(super) fn finish(&mut self, batch: &mut OwnedWriteBatch) {
        if let Some((series, day, hours)) = self.open.take() {
            let hours = self.marked.add(series, day, hours);
            if !hours.is_empty() {
                batch.insert(self.engine.rows(), keys::dirty(series, day, self.number), hours.encode());
            }
        }
    }

    /// What is marked once the batch is written.
    pub(super) fn into_marked(self) -> Marked {
        self.marked
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
        let mut count = 0;
        let (mut last, mut dirty) = (None, Hours::default());
        self.scan(&keys::table(Table::Dirty), |key, value| {
            let (series, day, _) = keys::parse_dirty(key)?;
            if last != Some((series, day)) {
                count += std::mem::take(&mut dirty).count();
                last = Some((series, day));
            }
            dirty = dirty.or(Hours::decode(value)?);
            Ok(true)
        })?;
        Ok(count + dirty.count())
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
        let days = start_us.div_euclid(DAY_US)..=(end_us - 1).div_euclid(DAY_US);
        let mut hours: BTreeMap<i64, Hours> = BTreeMap::new();
        let (first, last) =
            (keys::dirty(series, *days.start(), 0), keys::dirty(series, *days.end(), u64::MAX));
        self.scan_range(&first, &last, |key, value| {
            let (_, day, _) = keys::parse_dirty(key)?;
            let of_day = hours.entry(day).or_default();
            *of_day = of_day.or(Hours::decode(value)?);
            Ok(true)
        })?;
        let mut dirty = Vec::new();
        for hour in hours.into_iter().flat_map(|(day, hours)| hours.of(day)) {
            let hour_us = hour * keys::HOUR_US;
            let mut bucket_us = level.floor(hour_us);
            while bucket_us < hour_us + keys::HOUR_US {
                if dirty.last() != Some(&bucket_us) && (start_us..end_us).contains(&bucket_us) {
                    dirty.push(bucket_us);
                }
                bucket_us += level.width_us();
            }
        }
        Ok(dirty)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_of_a_day_are_those_within_a_span() {
        let of = |day, first, last| Hours::within(day, &(first..=last)).of(day).collect::<Vec<_>>();
        assert_eq!(of(0, i64::MIN / 2, i64::MAX / 2), (0..24).collect::<Vec<_>>());
        assert_eq!(of(2, 47, 48), [48]);
        assert_eq!(of(2, 71, 72), [71]);
        assert_eq!(of(-1, -3, -2), [-3, -2]);
        assert!(of(1, 30, 29).is_empty());
        assert_eq!((of(1, 0, 23), of(1, 48, 99)), (vec![], vec![]));
    }

    #[test]
    fn hours_read_back() {
        for hour in [0, 7, 8, 15, 16, 23] {
            let hours = Hours::one(hour).or(Hours::one(-1));
            assert_eq!(Hours::decode(&hours.encode()).unwrap(), hours);
            assert_eq!(hours.count(), if hour == 23 { 1 } else { 2 });
        }
        assert!(Hours::decode(&[0; 4]).is_err() && Hours::decode(&[0; 2]).is_err());
    }
}
