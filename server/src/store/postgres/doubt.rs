//! Kept buckets that somebody doubts.
//!
//! Plain PostgreSQL marks their hours, so that the next refresh mends them. A continuous aggregate knows by itself what
//! was written, and would do nothing: it is told to compute the days, at once.

use sqlx::{PgConnection, PgPool, Row as _};

use super::{
    error::unavailable,
    late::maybe_us,
    lifecycle::refresh_day,
    profile::{Facts, Profile, number},
    time,
    turn::Turn,
};
use crate::{model::Micros, store::StoreError};

/// Older ones compute only what was written into.
const OLDEST_EXTENSION: (u32, u32) = (2, 18);

/// See [`crate::store::Store::doubt`].
pub(super) async fn doubt(
    pool: &PgPool,
    facts: &Facts,
    (start_us, end_us): (Micros, Micros),
) -> Result<u64, StoreError> {
    let version = facts.extension_version.as_deref();
    let timescale = facts.profile == Profile::Timescale;
    if timescale && version.is_none_or(|version| number(version) < OLDEST_EXTENSION) {
        return Err(StoreError::Refused(
            "to compute aggregates again takes TimescaleDB 2.18 or later".into(),
        ));
    }
    // Nothing is dropped meanwhile.
    let mut turn = Turn::wait(pool).await?;
    let done = turn
        .run(async |connection: &mut PgConnection| {
            if timescale {
                return rebuild(connection, (start_us, end_us)).await;
            }
            let mark = sqlx::query(sql!("postgres/doubt_rollups"));
            mark.bind(time::at(start_us)).bind(time::at(end_us)).execute(connection).await.map(|_| 0)
        })
        .await;
    turn.end().await;
    done.map_err(unavailable)
}

/// Computes days anew; answers how many buckets.
async fn rebuild(
    connection: &mut PgConnection,
    (start_us, end_us): (Micros, Micros),
) -> Result<u64, sqlx::Error> {
    let days = sqlx::query(sql!("timescale/doubted_days")).bind(time::at(start_us)).bind(time::at(end_us));
    let mut buckets = 0;
    for row in days.fetch_all(&mut *connection).await? {
        let day_us = time::micros(row.try_get("day")?);
        let Some(stored_us) = maybe_us(&row, "stored_before")? else { continue };
        buckets += refresh_day(connection, sql!("timescale/rebuild_rollup"), day_us, stored_us).await?;
    }
    Ok(buckets)
}
