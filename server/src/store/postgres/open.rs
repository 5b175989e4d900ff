//! Sums of open quarters of an hour: a question about them reads what came since, not all of them.
//!
//! Two transactions, each of which leaves truth. The first seals time, so that whoever commits into it from then on marks
//! the quarter; the second adds what is sealed to the sums. They lie in the database: every server reads them, whoever
//! made them and whoever wrote the readings.

use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::PgPool;

use super::{error::unavailable, time};
use crate::{model::Micros, store::StoreError};

/// What this server has written into open quarters.
#[derive(Default)]
pub(super) struct Open {
    /// Readings since it last summed up.
    unsummed: AtomicU64,
}

impl Open {
    /// Notes readings that were committed.
    pub(super) fn add(&self, readings: usize) {
        self.unsummed.fetch_add(readings as u64, Ordering::Relaxed);
    }

    /// See [`crate::store::Store::sum_open`].
    pub(super) async fn sum(&self, pool: &PgPool, before_us: Micros, least: u64) -> Result<(), StoreError> {
        let unsummed = self.unsummed.load(Ordering::Relaxed);
        if unsummed < least {
            return Ok(());
        }
        let summed = async {
            let seal = sqlx::query_scalar(sql!("seal_before")).bind(time::at(before_us));
            if seal.fetch_one(pool).await? {
                sqlx::query(sql!("sum_open")).execute(pool).await?;
            }
            Ok(())
        };
        summed.await.map_err(unavailable)?;
        self.unsummed.fetch_sub(unsummed, Ordering::Relaxed);
        Ok(())
    }
}
