//! Day partitions of plain PostgreSQL, made before the first commit into a day. With TimescaleDB the
//! extension makes chunks by itself.

use std::collections::BTreeSet;

use chrono::NaiveDate;
use parking_lot::Mutex;
use sqlx::PgPool;

use super::{profile::Profile, time};
use crate::model::{DAY_US, Micros};

/// From the year 1 to 9999: other days have no partition, and the database refuses their readings.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

/// The partitions that are known to exist.
pub(super) struct Chunks {
    /// Days since 1970; None: nothing to do.
    known: Option<Mutex<BTreeSet<i64>>>,
}

impl Chunks {
    pub(super) fn new(profile: Profile) -> Self {
        Self { known: (profile == Profile::Postgres).then(Mutex::default) }
    }

    /// Makes the partitions of days that get readings for the first time.
    pub(super) async fn ensure(&self, pool: &PgPool, days: BTreeSet<i64>) -> Result<(), sqlx::Error> {
        let Some(known) = &self.known else { return Ok(()) };
        let missing: Vec<i64> =
            days.difference(&known.lock()).copied().filter(|day| DAYS.contains(day)).collect();
        for day in missing {
            let date: NaiveDate = time::at(day * DAY_US).date_naive();
            sqlx::query(sql!("ensure_partition")).bind(date).execute(pool).await?;
            known.lock().insert(day);
        }
        Ok(())
    }

    /// Forgets what is known: a partition may have been dropped.
    pub(super) fn forget(&self) {
        if let Some(known) = &self.known {
            known.lock().clear();
        }
    }
}

/// The day of a time, since 1970.
pub(super) fn day(time_us: Micros) -> i64 {
    time_us.div_euclid(DAY_US)
}
