//! Which series carry an animal or a zone, day by day.
//!
//! A commit notes it in the day's keyspace, once for each series, tag and day as far as memory tells; a note that is
//! written twice is the same note. Days from before that are listed, and there every series may be meant.

use fjall::{Keyspace, OwnedWriteBatch};

use super::{
    engine::{self, Engine, View},
    keys::{self, Table},
};
use crate::{
    model::{DAY_US, Micros, Reading, SeriesId, SeriesKey},
    store::{SeriesFilter, StoreError, Tag},
};

/// What was noted last of each series, by its number.
#[derive(Default)]
pub(super) struct Noted(Vec<Note>);

#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Note {
    day: i64,
    animal_id: Option<i32>,
    zone_id: Option<i32>,
}

impl Noted {
    /// Notes what the readings of a block carry.
    pub(super) fn note(&mut self, batch: &mut OwnedWriteBatch, chunk: &Keyspace, day: i64, run: &[&Reading]) {
        for reading in run {
            if reading.animal_id.is_none() && reading.zone_id.is_none() {
                continue;
            }
            let index = reading.series.0 as usize;
            if self.0.len() <= index {
                self.0.resize(index + 1, Note::default());
            }
            let note = Note { day, animal_id: reading.animal_id, zone_id: reading.zone_id };
            if self.0[index] != note {
                self.0[index] = note;
                let tags = [note.animal_id.map(Tag::Animal), note.zone_id.map(Tag::Zone)];
                for tag in tags.into_iter().flatten() {
                    batch.insert(chunk, keys::tagged_series(tag, reading.series), []);
                }
            }
        }
    }
}

impl Engine {
    /// Lists the days from before tags were noted, once.
    pub(super) fn list_untagged(&self) -> Result<(), StoreError> {
        if self.view().get(keys::TAGS)?.is_some() {
            return Ok(());
        }
        let mut batch = self.batch(0);
        for day in self.days() {
            batch.insert(self.rows(), keys::untagged(day), []);
        }
        batch.insert(self.rows(), keys::TAGS, []);
        engine::write(batch, false)
    }
}

impl View<'_> {
    /// The series that carry a tag on one of the days of a span, by number.
    pub(super) fn tagged_series(
        &self,
        tag: Tag,
        (start_us, end_us): (Micros, Micros),
    ) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        let mut found = std::collections::BTreeSet::new();
        if start_us >= end_us {
            return Ok(Vec::new());
        }
        let days = start_us.div_euclid(DAY_US)..=(end_us - 1).div_euclid(DAY_US);
        let mut untagged = std::collections::BTreeSet::new();
        self.scan(&keys::table(Table::Untagged), |key, _| {
            untagged.insert(keys::parse_tombstone(key)?);
            Ok(true)
        })?;
        for day in self.engine.days().into_iter().filter(|day| days.contains(day)) {
            self.watch.check()?;
            if untagged.contains(&day) {
                return self.find_series(&SeriesFilter::default());
            }
            let Some(chunk) = self.engine.chunk(day) else { continue };
            for guard in self.blocks(&chunk, &keys::tagged(tag)) {
                let (key, _) = engine::entry(guard)?;
                found.insert(keys::parse_tagged_series(&key).map_err(engine::undecodable)?);
            }
        }
        let mut series = Vec::with_capacity(found.len());
        for id in found {
            let row = self.get(keys::series_by_id(id))?;
            let row = row.ok_or_else(|| StoreError::Damaged(format!("series {} has no row", id.0)))?;
            series.push((id, engine::decode_series(&row).map_err(engine::undecodable)?.1));
        }
        Ok(series)
    }
}
