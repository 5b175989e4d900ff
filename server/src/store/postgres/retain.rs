//! Retention: what is old enough goes, a day at a time, once its rollups are kept.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};

use super::{
    error::{is_locked, is_not_ready, unavailable},
    late::maybe_us,
    reading::Reader,
    time,
    turn::Turn,
    watermark::Watermark,
};
use crate::{
    model::Micros,
    store::{Dropped, Level, Retention, StoreError},
};

/// Names of what goes, by level.
const ROLLUPS: [&str; 3] = ["rollup_15min", "rollup_hourly", "rollup_daily"];

/// What became of a part that was to go.
enum Went {
    /// It was gone already.
    Nothing,
    Uncounted,
    Rows(u64),
}

/// Tells what is old enough and whether it would go.
pub(super) async fn list(reader: &mut Reader, retention: &Retention) -> Result<Vec<Dropped>, StoreError> {
    reader.run(async |connection| find(connection, retention).await).await
}

/// Drops what is old enough; answers what went and what stays. What is in use, or was written into since it was
/// looked at, stays until the next time.
pub(super) async fn carry_out(pool: &PgPool, retention: &Retention) -> Result<Vec<Dropped>, StoreError> {
    let mut turn = Turn::wait(pool).await?;
    let done = carry_out_all(&mut turn, retention).await;
    turn.end().await;
    done.map_err(unavailable)
}

async fn find(connection: &mut PgConnection, retention: &Retention) -> Result<Vec<Dropped>, sqlx::Error> {
    let mut parts = Vec::new();
    if let Some(before_us) = retention.readings_us {
        let query = sqlx::query(sql!("old_readings")).bind(time::at(before_us));
        for row in query.fetch_all(&mut *connection).await? {
            let kept_because = reason_to_stay(&row, retention.quiet_since_us)?;
            parts.push(Dropped { kept_because, ..part("reading", &row)? });
        }
    }
    if let Some(before_us) = retention.milkings_us {
        let query = sqlx::query(sql!("old_milkings")).bind(time::at(before_us));
        for row in query.fetch_all(&mut *connection).await? {
            let kept_because = lately(&row, retention.quiet_since_us)?;
            parts.push(Dropped { kept_because, ..part("milking", &row)? });
        }
    }
    let row = sqlx::query(sql!("watermark")).fetch_one(&mut *connection).await?;
    let stored_us = Watermark::of(&row)?.lifecycle.stored_before_us;
    let rollups_us: Vec<Option<Micros>> = retention
        .rollups_us
        .into_iter()
        // Whole days, of what is kept: the rest is answered from readings.
        .map(|before_us| Some(Level::Day.floor(before_us?.min(stored_us?))))
        .collect();
    if rollups_us.iter().any(Option::is_some) {
        let query = sqlx::query(sql!("old_rollups"));
        let query = rollups_us.iter().fold(query, |query, at| query.bind(at.map(time::at)));
        let row = query.fetch_one(&mut *connection).await?;
        for (place, (table, end_us)) in ROLLUPS.into_iter().zip(&rollups_us).enumerate() {
            let count: i64 = row.try_get(place)?;
            parts.extend(end_us.filter(|_| count > 0).map(|end_us| all_before(table, end_us, count)));
        }
    }
    if let Some(before_us) = retention.quarantine_us {
        let query = sqlx::query_scalar(sql!("count_quarantine")).bind(time::at(before_us));
        let count: i64 = query.fetch_one(&mut *connection).await?;
        parts.extend((count > 0).then(|| all_before("quarantine", before_us, count)));
    }
    Ok(parts)
}

/// Looks once it is its turn: what another server has dropped before is not told again.
async fn carry_out_all(turn: &mut Turn, retention: &Retention) -> Result<Vec<Dropped>, sqlx::Error> {
    let found = turn.run(async |connection| find(connection, retention).await).await?;
    let quiet_since = time::at(retention.quiet_since_us);
    let mut parts = Vec::with_capacity(found.len());
    for mut part in found {
        if part.kept_because.is_empty() {
            match turn.run(async |connection| carry_out_one(connection, &part, quiet_since).await).await {
                Ok(Went::Nothing) => continue,
                Ok(Went::Uncounted) => {}
                Ok(Went::Rows(rows)) => part.rows = rows,
                Err(error) if is_locked(&error) => {
                    part.kept_because =
                        "somebody reads or writes it for long: the next run tries again".into();
                }
                Err(error) if is_not_ready(&error) => {
                    part.kept_because = "something came into it just now: the next run tries again".into();
                }
                Err(error) => return Err(error),
            }
        }
        parts.push(part);
    }
    Ok(parts)
}

async fn carry_out_one(
    connection: &mut PgConnection,
    part: &Dropped,
    quiet_since: DateTime<Utc>,
) -> Result<Went, sqlx::Error> {
    let (start, end) = (part.start_us.map(time::at), time::at(part.end_us));
    let rows: i64 = match part.table {
        "reading" => {
            let query = sqlx::query_scalar(sql!("drop_readings")).bind(start).bind(end).bind(quiet_since);
            let went: bool = query.fetch_one(connection).await?;
            return Ok(if went { Went::Uncounted } else { Went::Nothing });
        }
        "milking" => {
            let query = sqlx::query_scalar(sql!("drop_milkings")).bind(start).bind(quiet_since);
            query.fetch_one(connection).await?
        }
        "quarantine" => {
            let gone = sqlx::query(sql!("drop_quarantine")).bind(end).execute(connection).await?;
            gone.rows_affected() as i64
        }
        rollup => {
            let level = rollup.strip_prefix("rollup_").unwrap_or(rollup);
            sqlx::query_scalar(sql!("drop_rollups")).bind(level).bind(end).fetch_one(connection).await?
        }
    };
    Ok(if rows > 0 { Went::Rows(rows as u64) } else { Went::Nothing })
}

fn part(table: &'static str, row: &PgRow) -> Result<Dropped, sqlx::Error> {
    Ok(Dropped {
        table,
        start_us: maybe_us(row, "start_time")?,
        end_us: time::micros(row.try_get("end_time")?),
        rows: row.try_get::<i64, _>("rows")? as u64,
        bytes: row.try_get::<i64, _>("bytes")? as u64,
        kept_because: String::new(),
    })
}

fn all_before(table: &'static str, end_us: Micros, rows: i64) -> Dropped {
    Dropped { table, start_us: None, end_us, rows: rows as u64, bytes: 0, kept_because: String::new() }
}

/// Why readings stay although they are old enough; empty: they go.
fn reason_to_stay(row: &PgRow, quiet_since_us: Micros) -> Result<String, sqlx::Error> {
    if !row.try_get::<bool, _>("whole")? {
        return Ok("its chunk does not hold whole days of UTC: set its chunk_time_interval to a day".into());
    }
    if !row.try_get::<bool, _>("stored")? {
        return Ok("its aggregates are not kept yet: refresh first".into());
    }
    let dirty: i64 = row.try_get("dirty")?;
    if dirty > 0 {
        return Ok(format!("{dirty} hours of its series are to be mended first: refresh"));
    }
    lately(row, quiet_since_us)
}

/// Why a day that was written lately stays.
fn lately(row: &PgRow, quiet_since_us: Micros) -> Result<String, sqlx::Error> {
    let written_us = maybe_us(row, "written")?.filter(|written_us| *written_us >= quiet_since_us);
    Ok(written_us.map_or_else(String::new, |written_us| {
        let at = time::at(written_us).format("%Y-%m-%dT%H:%M:%SZ");
        format!("something was written into it at {at}: an import may not be over")
    }))
}
