//! Closing buckets, and keeping what is closed or came late.
//!
//! Every step is a transaction that leaves truth: the watermark moves first, `stored_before` follows what is kept, and a
//! mark goes with its mending or after it, if it was there when the marks were looked at. With TimescaleDB the buckets are
//! in continuous aggregates, which refresh in transactions of their own; what is refreshed and not noted yet is refreshed
//! again.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Row as _};

use super::{
    error::{is_locked, unavailable},
    late::maybe_us,
    profile::Profile,
    reading::Reader,
    time,
    turn::Turn,
};
use crate::{
    model::{DAY_US, Micros},
    store::{Level, Refresh, Refreshed, StoreError},
};

/// Marks mended in one step on plain PostgreSQL, where each is a computation.
const MENDED_AT_ONCE: i32 = 5_000;

/// Marks mended in one step with TimescaleDB, where each day is a refresh.
const MARKS_AT_ONCE: i32 = 100_000;

/// Hours of series that are dirty.
pub(super) async fn dirty_hours(reader: &mut Reader) -> Result<u64, StoreError> {
    let rows = reader.all(sql!("count_dirty"), |query| query).await?;
    let count = rows.first().map(|row| row.try_get::<i64, _>(0)).transpose().map_err(unavailable)?;
    Ok(count.unwrap_or_default() as u64)
}

/// Closes, keeps and mends, unless another session is at it.
pub(super) async fn refresh(
    pool: &PgPool,
    profile: Profile,
    refresh: Refresh,
) -> Result<Refreshed, StoreError> {
    let Some(mut turn) = Turn::take(pool).await? else {
        return Ok(Refreshed { elsewhere: true, ..Refreshed::default() });
    };
    let work = async |connection: &mut PgConnection| {
        let mut done = Refreshed::default();
        close(connection, refresh.close_before_us).await?;
        while let Some(stretch) = next_stretch(connection).await? {
            done.buckets += stretch.keep(connection, profile).await?;
        }
        // What is marked from here on is left to the next refresh: under constant late data this one would not end.
        let marks: i64 = sqlx::query_scalar(sql!("count_marks")).fetch_one(&mut *connection).await?;
        let at_once = if profile == Profile::Postgres { MENDED_AT_ONCE } else { MARKS_AT_ONCE };
        for _ in 0..(marks as u64).div_ceil(at_once as u64) {
            let (hours, buckets) = match profile {
                Profile::Postgres => mend(connection, refresh.span_us).await?,
                Profile::Timescale => mend_days(connection, refresh.span_us).await?,
            };
            done.dirty_hours += hours;
            done.buckets += buckets;
            if hours == 0 {
                break;
            }
        }
        Ok(done)
    };
    let done = turn.run(work).await;
    turn.end().await;
    done.map_err(unavailable)
}

/// Moves the watermark and looks at the marks. Where a long transaction is in the way both stay as they are, and the
/// next refresh tries again.
async fn close(connection: &mut PgConnection, before_us: Micros) -> Result<(), sqlx::Error> {
    let closed = sqlx::query(sql!("close_before")).bind(time::at(before_us)).execute(connection).await;
    match closed {
        Err(error) if is_locked(&error) => {
            tracing::info!(
                "a long transaction that writes readings keeps buckets open and dirty: see pg_stat_activity"
            );
            Ok(())
        }
        closed => closed.map(drop),
    }
}

/// Closed time that is not kept yet, of one day at most.
struct Stretch {
    since: Micros,
    until: Micros,
}

async fn next_stretch(connection: &mut PgConnection) -> Result<Option<Stretch>, sqlx::Error> {
    let row = sqlx::query(sql!("next_stretch")).fetch_optional(connection).await?;
    let Some(row) = row else { return Ok(None) };
    let since = time::micros(row.try_get("since")?);
    let stored = maybe_us(&row, "stored_before")?.unwrap_or(since);
    Ok(Some(Stretch { since: since.max(stored), until: time::micros(row.try_get("until")?) }))
}

impl Stretch {
    /// Keeps its buckets; answers how many.
    async fn keep(&self, connection: &mut PgConnection, profile: Profile) -> Result<u64, sqlx::Error> {
        let until = time::at(self.until);
        if profile == Profile::Postgres {
            let kept = sqlx::query_scalar(sql!("postgres/store_rollups")).bind(until);
            return kept.fetch_one(connection).await.map(|kept: i64| kept as u64);
        }
        let mut buckets = 0;
        for level in Level::ALL {
            let (since, until) = (level.floor(self.since), level.floor(self.until));
            let refresh = sql!("timescale/refresh_rollup");
            buckets += refresh_rollup(connection, refresh, level, (since, until)).await?;
        }
        sqlx::query(sql!("note_stored")).bind(until).execute(connection).await?;
        Ok(buckets)
    }
}

/// Refreshes a continuous aggregate by a query, between two starts of its buckets; answers how many are there.
async fn refresh_rollup(
    connection: &mut PgConnection,
    refresh: &'static str,
    level: Level,
    (since, until): (Micros, Micros),
) -> Result<u64, sqlx::Error> {
    if since >= until {
        return Ok(0);
    }
    let (since, until) = (time::at(since), time::at(until));
    sqlx::query(refresh)
        .bind(format!("iot.rollup_{}", level.as_str()))
        .bind(since)
        .bind(until)
        .execute(&mut *connection)
        .await?;
    let count =
        sqlx::query_scalar(sql!("timescale/count_rollups")).bind(level as i32).bind(since).bind(until);
    count.fetch_one(connection).await.map(|count: i64| count as u64)
}

/// Refreshes what is stored of a day, on every level, by a query; answers how many buckets are there.
pub(super) async fn refresh_day(
    connection: &mut PgConnection,
    refresh: &'static str,
    day: Micros,
    stored: Micros,
) -> Result<u64, sqlx::Error> {
    let mut buckets = 0;
    for level in Level::ALL {
        let span = (day, level.floor(stored).min(day + DAY_US));
        buckets += refresh_rollup(connection, refresh, level, span).await?;
    }
    Ok(buckets)
}

type Span = Option<(Micros, Micros)>;

fn bounds(span_us: Span) -> (Option<DateTime<Utc>>, Option<DateTime<Utc>>) {
    span_us.map(|(start_us, end_us)| (time::at(start_us), time::at(end_us))).unzip()
}

/// Mends the oldest dirty hours; answers hours and buckets.
async fn mend(connection: &mut PgConnection, span_us: Span) -> Result<(u64, u64), sqlx::Error> {
    let (since, until) = bounds(span_us);
    let query = sqlx::query(sql!("postgres/mend_rollups")).bind(MENDED_AT_ONCE).bind(since).bind(until);
    let row = query.fetch_one(connection).await?;
    Ok((row.try_get::<i64, _>("hours")? as u64, row.try_get::<i64, _>("buckets")? as u64))
}

/// Mends the days of the oldest marks. A day that was dropped has none: it is never refreshed again.
async fn mend_days(connection: &mut PgConnection, span_us: Span) -> Result<(u64, u64), sqlx::Error> {
    let (since, until) = bounds(span_us);
    let query = sqlx::query(sql!("timescale/dirty_days")).bind(MARKS_AT_ONCE).bind(since).bind(until);
    let days = query.fetch_all(&mut *connection).await?;
    let (mut hours, mut buckets) = (0, 0);
    for row in days {
        let day = time::micros(row.try_get("day")?);
        if let Some(stored) = maybe_us(&row, "stored_before")? {
            refresh_day(connection, sql!("timescale/refresh_rollup"), day, stored).await?;
        }
        let marks: Vec<i64> = row.try_get("ids")?;
        let mended =
            sqlx::query(sql!("timescale/clear_marks")).bind(marks).fetch_one(&mut *connection).await?;
        hours += mended.try_get::<i64, _>("hours")? as u64;
        buckets += mended.try_get::<i64, _>("buckets")? as u64;
    }
    Ok((hours, buckets))
}
