//! The row that says how far all buckets are.

use sqlx::postgres::PgRow;

use super::late::maybe_us;
use crate::{
    model::Micros,
    store::{Level, Lifecycle},
};

/// How far closing, keeping and summing are.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watermark {
    pub(super) lifecycle: Lifecycle,
    /// From when on open quarters are summed up; None: nowhere.
    pub(super) summed_from_us: Option<Micros>,
}

impl Watermark {
    /// Reads what `watermark.sql` answers.
    pub(super) fn of(row: &PgRow) -> Result<Self, sqlx::Error> {
        Ok(Self {
            lifecycle: Lifecycle {
                closed_before_us: maybe_us(row, "closed_before")?,
                stored_before_us: maybe_us(row, "stored_before")?,
                raw_kept_from_us: maybe_us(row, "reading_kept_from")?,
                milkings_kept_from_us: maybe_us(row, "milking_kept_from")?,
                rollups_kept_from_us: [
                    maybe_us(row, "rollup_15min_kept_from")?,
                    maybe_us(row, "rollup_hourly_kept_from")?,
                    maybe_us(row, "rollup_daily_kept_from")?,
                ],
            },
            summed_from_us: maybe_us(row, "summed_from")?,
        })
    }

    /// Where open time begins: what begins before it is kept by the quarter of an hour, what ends by it by `level`.
    pub(super) fn kept_until_us(&self, level: Level) -> Micros {
        self.lifecycle.stored_before_us.map_or(Micros::MIN, |stored_us| level.floor(stored_us))
    }

    /// Before it, nothing is kept of a level, by its age.
    pub(super) fn kept_from_us(&self, level: Level) -> Micros {
        self.lifecycle.kept_from_us(level).unwrap_or(Micros::MIN)
    }
}
