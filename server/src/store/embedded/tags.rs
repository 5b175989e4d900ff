//! Which series carry an animal or a zone, day by day.
//!
//! A commit notes it in the day's keyspace, once for each series, tag and day as far as memory tells; a note that is
//! written twice is the same note. Days from before that are listed, and there every series may be meant until a
//! refresh has noted them.

use std::collections::BTreeSet;

use fjall::{Keyspace, OwnedWriteBatch};

use super::{
    engine::{self, undecodable},
    keys::{self, Table},
    view::View,
};
use crate::{
    model::{Micros, Reading, SeriesId, SeriesKey},
    store::{SeriesFilter, StoreError, Tag, cache::Generations},
};

/// Notes kept in memory, at most.
const CACHED_NOTES: usize = 200_000;

/// What was noted already.
pub(super) struct Noted {
    /// By number of the series, what its last reading carried: nearly always what its next one does.
    last: Vec<Carried>,
    /// For series that change between a few, as those of a milking stall do.
    notes: Generations<(i64, Tag, SeriesId), ()>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Carried {
    day: i64,
    animal_id: Option<i32>,
    zone_id: Option<i32>,
}

impl Noted {
    pub(super) fn new() -> Self {
        Self { last: Vec::new(), notes: Generations::new(CACHED_NOTES) }
    }

    /// Notes what the readings of a block carry.
    pub(super) fn note(&mut self, batch: &mut OwnedWriteBatch, chunk: &Keyspace, day: i64, run: &[&Reading]) {
        for reading in run {
            if reading.animal_id.is_none() && reading.zone_id.is_none() {
                continue;
            }
            let index = reading.series.0 as usize;
            if self.last.len() <= index {
                self.last.resize(index + 1, Carried::default());
            }
            let carried = Carried { day, animal_id: reading.animal_id, zone_id: reading.zone_id };
            if self.last[index] != carried {
                self.last[index] = carried;
                for tag in Tag::all_of(reading) {
                    let note = (day, tag, reading.series);
                    if self.notes.get(&note).is_none() {
                        self.notes.insert(note, ());
                        batch.insert(chunk, keys::tagged_series(tag, reading.series), []);
                    }
                }
            }
        }
    }
}

impl View<'_> {
    /// The series that carry a tag on one of the days of a span, by number.
    pub(super) fn tagged_series(
        &self,
        tag: Tag,
        (start_us, end_us): (Micros, Micros),
    ) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        let mut found = BTreeSet::new();
        let untagged = self.untagged_days()?;
        for (day, chunk) in self.chunks(start_us, end_us) {
            self.check()?;
            if untagged.contains(&day) {
                return self.find_series(&SeriesFilter::default());
            }
            for guard in self.blocks(chunk, &keys::tagged(tag)) {
                let (key, _) = engine::entry(guard)?;
                found.insert(keys::parse_tagged_series(&key).map_err(undecodable)?);
            }
        }
        let mut series = Vec::with_capacity(found.len());
        for id in found {
            let key = self.series(id)?;
            let key = key.ok_or_else(|| StoreError::Damaged(format!("series {} has no row", id.0)))?;
            series.push((id, key));
        }
        Ok(series)
    }

    /// Days from before tags were noted.
    pub(super) fn untagged_days(&self) -> Result<BTreeSet<i64>, StoreError> {
        let mut days = BTreeSet::new();
        self.scan(&keys::table(Table::Untagged), |key, _| {
            days.insert(keys::parse_tombstone(key)?);
            Ok(true)
        })?;
        Ok(days)
    }
}
