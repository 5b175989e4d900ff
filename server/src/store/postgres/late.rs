//! What comes late: into closed time, which makes it dirty, or into a day that retention has dropped, which
//! takes nothing any more.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{
    rows::{MilkingRow, Row},
    time,
};
use crate::{
    model::{Micros, SeriesId},
    store::{Level, cache::Generations},
};

/// Marks kept in memory. What is forgotten is marked once more.
const CACHED: usize = 200_000;

/// A closed hour of a series, by its start.
pub(super) type Mark = (SeriesId, Micros);

/// Marks that were committed since a refresh looked last: nobody takes them away before he has looked again, so that
/// their hours need no other.
pub(super) struct Marked(Mutex<Known>);

struct Known {
    round: Round,
    marks: Generations<Mark, ()>,
}

/// The time since a refresh looked last: the last mark that was there then, and when the database started. One that took
/// over, or was restored, may have lost marks that were committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Round {
    looked_mark: i64,
    started: Option<DateTime<Utc>>,
}

impl Round {
    /// Whether marks that were learnt under the other count no more.
    fn follows(self, other: Self) -> bool {
        self.started != other.started || self.looked_mark > other.looked_mark
    }
}

impl Marked {
    pub(super) fn new() -> Self {
        let round = Round { looked_mark: 0, started: None };
        Self(Mutex::new(Known { round, marks: Generations::new(CACHED) }))
    }

    /// Those that are not known.
    fn unknown(&self, round: Round, mut marks: Vec<Mark>) -> Vec<Mark> {
        let mut known = self.0.lock();
        if known.round == round {
            marks.retain(|mark| known.marks.get(mark).is_none());
        }
        marks
    }

    /// Takes over what was committed.
    pub(super) fn learn(&self, (round, marks): (Round, Vec<Mark>)) {
        let mut known = self.0.lock();
        if round.follows(known.round) {
            *known = Known { round, marks: Generations::new(CACHED) };
        }
        if known.round == round {
            for mark in marks {
                known.marks.insert(mark, ());
            }
        }
    }
}

/// The field at fault of what belongs to a dropped day.
pub(super) const FIELD: &str = "time_us";

/// A commit under way. The watermark stands where it is until the transaction ends.
pub(super) struct Begun {
    pub(super) number: i64,
    closed_before_us: Option<Micros>,
    stored_before_us: Option<Micros>,
    summed_from_us: Option<Micros>,
    reading_kept_from_us: Option<Micros>,
    milking_kept_from_us: Option<Micros>,
    round: Round,
}

/// Rows that belong to dropped days, with the reason.
pub(super) type TooLate<R> = Vec<(R, String)>;

/// Takes a number, and the lock under which the watermark does not move.
pub(super) async fn begin(connection: &mut PgConnection) -> Result<Begun, sqlx::Error> {
    let row = sqlx::query(sql!("begin_commit")).fetch_one(connection).await?;
    Ok(Begun {
        number: row.try_get("commit_number")?,
        closed_before_us: maybe_us(&row, "closed_before")?,
        stored_before_us: maybe_us(&row, "stored_before")?,
        summed_from_us: maybe_us(&row, "summed_from")?,
        reading_kept_from_us: maybe_us(&row, "reading_kept_from")?,
        milking_kept_from_us: maybe_us(&row, "milking_kept_from")?,
        round: Round { looked_mark: row.try_get("looked_mark")?, started: row.try_get("started")? },
    })
}

/// A time of a row in microseconds.
pub(super) fn maybe_us(row: &PgRow, column: &str) -> Result<Option<Micros>, sqlx::Error> {
    Ok(row.try_get::<Option<DateTime<Utc>>, _>(column)?.map(time::micros))
}

impl Begun {
    /// Takes the readings of dropped days out of `rows`.
    pub(super) async fn refuse_readings<'r>(
        &self,
        connection: &mut PgConnection,
        rows: &mut Vec<Row<'r>>,
    ) -> Result<TooLate<Row<'r>>, sqlx::Error> {
        let kept_from_us = self.reading_kept_from_us;
        refuse(connection, "reading", kept_from_us, rows, |row| row.reading.time_us).await
    }

    /// Likewise milkings.
    pub(super) async fn refuse_milkings<'r>(
        &self,
        connection: &mut PgConnection,
        rows: &mut Vec<MilkingRow<'r>>,
    ) -> Result<TooLate<MilkingRow<'r>>, sqlx::Error> {
        let kept_from_us = self.milking_kept_from_us;
        refuse(connection, "milking", kept_from_us, rows, |row| row.milking.time_us).await
    }

    /// Where open time begins: nothing is kept of it.
    fn open_from_us(&self) -> Micros {
        self.stored_before_us.unwrap_or(Micros::MIN)
    }

    /// How many lie in open time.
    pub(super) fn count_open(&self, rows: &[Row<'_>]) -> usize {
        let open_us = self.open_from_us();
        rows.iter().filter(|row| row.reading.time_us >= open_us).count()
    }

    /// From when on open quarters of an hour are summed up; None: nowhere.
    pub(super) fn summed_from_us(&self) -> Option<Micros> {
        self.summed_from_us.map(|summed_us| summed_us.max(self.open_from_us()))
    }

    /// Marks the closed hours that get readings, unless they are known to be marked; answers what is to be learnt once
    /// the transaction is committed. Live data marks nothing.
    pub(super) async fn mark(
        &self,
        connection: &mut PgConnection,
        rows: &[Row<'_>],
        marked: &Marked,
    ) -> Result<(Round, Vec<Mark>), sqlx::Error> {
        let closed_us = self.closed_before_us.unwrap_or(Micros::MIN);
        let mut marks: Vec<Mark> = (rows.iter())
            .filter(|row| row.reading.time_us < closed_us)
            .map(|row| (row.reading.series, Level::Hour.floor(row.reading.time_us)))
            .collect();
        marks.dedup();
        let marks = marked.unknown(self.round, marks);
        if !marks.is_empty() {
            let of = |&(series, hour_us): &Mark| (series.0 as i32, time::at(hour_us));
            let (series, hours): (Vec<i32>, Vec<DateTime<Utc>>) = marks.iter().map(of).unzip();
            sqlx::query(sql!("mark_dirty")).bind(series).bind(hours).execute(connection).await?;
        }
        Ok((self.round, marks))
    }
}

async fn refuse<R: Copy>(
    connection: &mut PgConnection,
    source: &str,
    kept_from_us: Option<Micros>,
    rows: &mut Vec<R>,
    time_us: impl Fn(&R) -> Micros,
) -> Result<TooLate<R>, sqlx::Error> {
    let Some(kept_from_us) = kept_from_us else { return Ok(Vec::new()) };
    let day = |row: &R| Some(time_us(row)).filter(|at| *at < kept_from_us).map(|at| Level::Day.floor(at));
    let days: BTreeSet<Micros> = rows.iter().filter_map(day).collect();
    if days.is_empty() {
        return Ok(Vec::new());
    }
    let days: Vec<DateTime<Utc>> = days.into_iter().map(time::at).collect();
    let dropped: Vec<DateTime<Utc>> =
        sqlx::query_scalar(sql!("dropped_days")).bind(source).bind(days).fetch_all(connection).await?;
    let dropped: BTreeSet<Micros> = dropped.into_iter().map(time::micros).collect();
    let mut refused = Vec::new();
    rows.retain(|row| {
        let Some(day_us) = day(row).filter(|day_us| dropped.contains(day_us)) else { return true };
        let day = time::at(day_us).format("%Y-%m-%d");
        refused.push((*row, format!("its day {day} was dropped by retention, and its aggregates stand")));
        false
    });
    Ok(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_count_until_a_refresh_looks_or_the_database_starts() {
        let marks = |hours: &[i64]| hours.iter().map(|hour| (SeriesId(1), *hour)).collect::<Vec<Mark>>();
        let started = |second| DateTime::from_timestamp(second, 0);
        let first = Round { looked_mark: 7, started: started(1) };
        let marked = Marked::new();
        marked.learn((first, marks(&[1, 2])));
        assert_eq!(marked.unknown(first, marks(&[1, 2, 3])), marks(&[3]));
        // A refresh looked: all count anew, and what began before it is not learnt.
        let second = Round { looked_mark: 8, ..first };
        assert_eq!(marked.unknown(second, marks(&[1])), marks(&[1]));
        marked.learn((second, marks(&[1])));
        marked.learn((first, marks(&[2])));
        assert_eq!(marked.unknown(second, marks(&[1, 2])), marks(&[2]));
        // Another database took over, which may know less.
        let third = Round { looked_mark: 8, started: started(0) };
        assert_eq!(marked.unknown(third, marks(&[1])), marks(&[1]));
        marked.learn((third, marks(&[4])));
        assert_eq!(marked.unknown(third, marks(&[1, 4])), marks(&[1]));
        assert_eq!(marked.unknown(second, marks(&[1, 4])), marks(&[1, 4]));
    }
}
