//! Which series have readings of an animal or a zone, by day: noted with the first such reading.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use sqlx::PgConnection;

use super::{rows::Row, time};
use crate::{
    model::{Micros, SeriesId},
    store::{Level, Tag, cache::Generations},
};

/// Notes kept in memory. What is forgotten costs a look into an index.
const CACHED: usize = 200_000;

/// A note: on the day that begins there, a reading of the series carries it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Note {
    tag: Tag,
    day_us: Micros,
    series: SeriesId,
}

/// What is known to be noted.
pub(super) struct Tags(Mutex<Generations<Note, ()>>);

impl Tags {
    pub(super) fn new() -> Self {
        Self(Mutex::new(Generations::new(CACHED)))
    }

    /// Notes what these readings carry, unless it is known to be; answers what is to be learnt once the
    /// transaction is committed.
    pub(super) async fn note(
        &self,
        connection: &mut PgConnection,
        rows: &[Row<'_>],
    ) -> Result<Vec<Note>, sqlx::Error> {
        let notes = self.new_ones(rows);
        if notes.is_empty() {
            return Ok(notes);
        }
        sqlx::query(sql!("add_tags"))
            .bind(notes.iter().map(|note| number(note.tag).0).collect::<Vec<i16>>())
            .bind(notes.iter().map(|note| number(note.tag).1).collect::<Vec<i32>>())
            .bind(notes.iter().map(|note| time::at(note.day_us)).collect::<Vec<DateTime<Utc>>>())
            .bind(notes.iter().map(|note| note.series.0 as i32).collect::<Vec<i32>>())
            .execute(connection)
            .await?;
        Ok(notes)
    }

    /// Takes over what was committed.
    pub(super) fn learn(&self, notes: Vec<Note>) {
        let mut known = self.0.lock();
        for note in notes {
            known.insert(note, ());
        }
    }

    fn new_ones(&self, rows: &[Row<'_>]) -> Vec<Note> {
        let mut known = self.0.lock();
        let mut notes = BTreeSet::new();
        let mut last = [None; 2];
        for Row { reading, .. } in rows {
            let tags = [reading.animal_id.map(Tag::Animal), reading.zone_id.map(Tag::Zone)];
            for (tag, last) in tags.into_iter().zip(&mut last) {
                let Some(tag) = tag else { continue };
                let note = Note { tag, day_us: Level::Day.floor(reading.time_us), series: reading.series };
                // Rows come by series and time, so that most are as the one before.
                if *last != Some(note) {
                    *last = Some(note);
                    if known.get(&note).is_none() {
                        notes.insert(note);
                    }
                }
            }
        }
        notes.into_iter().collect()
    }
}

/// A tag as the database has it.
pub(super) fn number(tag: Tag) -> (i16, i32) {
    match tag {
        Tag::Animal(id) => (1, id),
        Tag::Zone(id) => (2, id),
    }
}
