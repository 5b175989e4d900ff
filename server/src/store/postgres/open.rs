//! Sums of open quarters of an hour: each commit adds what it writes to them, so that a question need not read it.

use std::sync::atomic::{AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool};

use super::{
    error::{is_locked, unavailable},
    rows::Row,
    time,
};
use crate::{
    model::Micros,
    store::{Bucket, Level, StoreError},
};

/// What this server has written into open buckets.
#[derive(Default)]
pub(super) struct Open {
    /// Readings since sums were last asked for.
    readings: AtomicU64,
}

impl Open {
    /// Notes readings that were committed.
    pub(super) fn note(&self, readings: usize) {
        self.readings.fetch_add(readings as u64, Ordering::Relaxed);
    }

    /// See [`crate::store::Store::sum_from`].
    pub(super) async fn sum_from(
        &self,
        pool: &PgPool,
        from_us: Micros,
        least: u64,
    ) -> Result<(), StoreError> {
        if self.readings.swap(0, Ordering::Relaxed) < least {
            return Ok(());
        }
        match sqlx::query(sql!("sum_from")).bind(time::at(from_us)).execute(pool).await {
            Err(error) if is_locked(&error) => {
                tracing::info!(
                    "a long transaction that writes readings keeps open buckets from being summed up: see \
                     pg_stat_activity"
                );
                Ok(())
            }
            done => done.map(drop).map_err(unavailable),
        }
    }
}

/// Adds readings, by series and time, to the sums of their quarters. The last statement of a transaction: whoever writes
/// the same series waits for its end.
pub(super) async fn add(connection: &mut PgConnection, rows: &[&Row<'_>]) -> Result<(), sqlx::Error> {
    let quarter = |row: &Row<'_>| (row.reading.series, Level::QuarterHour.floor(row.reading.time_us));
    let mut sums = Sums::default();
    for run in rows.chunk_by(|a, b| quarter(a) == quarter(b)) {
        let (series, start_us) = quarter(run[0]);
        let values: Vec<f64> = run.iter().map(|row| row.reading.value).collect();
        let qualities: Vec<_> = run.iter().map(|row| row.reading.quality).collect();
        sums.push(series.0 as i32, &Bucket::of_values(start_us, &values, &qualities));
    }
    if sums.series.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(sql!("add_open")).bind(sums.series).bind(sums.starts).bind(sums.counts);
    let query = query.bind(sums.totals).bind(sums.minima).bind(sums.maxima).bind(sums.squares);
    query.bind(sums.valid).bind(sums.errors).execute(connection).await.map(drop)
}

/// Buckets by column.
#[derive(Default)]
struct Sums {
    series: Vec<i32>,
    starts: Vec<DateTime<Utc>>,
    counts: Vec<i64>,
    totals: Vec<f64>,
    minima: Vec<f64>,
    maxima: Vec<f64>,
    squares: Vec<f64>,
    valid: Vec<i64>,
    errors: Vec<i64>,
}

impl Sums {
    fn push(&mut self, series: i32, bucket: &Bucket) {
        self.series.push(series);
        self.starts.push(time::at(bucket.start_us));
        self.counts.push(bucket.count as i64);
        self.totals.push(bucket.sum);
        self.minima.push(bucket.min);
        self.maxima.push(bucket.max);
        self.squares.push(bucket.squares);
        self.valid.push(bucket.valid_count as i64);
        self.errors.push(bucket.error_count as i64);
    }
}
