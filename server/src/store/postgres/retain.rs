//! Retention: what is old enough goes, a day at a time, once its rollups are kept.

use chrono::{DateTime, Utc};
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};

use super::{
    error::{is_locked, is_not_ready, unavailable},
    late::maybe_us,
    lifecycle::lifecycle,
    reading::Reader,
    time,
    turn::Turn,
};
use crate::{
    model::Micros,
    store::{Dropped, Level, Retention, StoreError},
};

/// Names of what goes, by level.
const ROLLUPS: [&str; 3] = ["rollup_15min", "rollup_hourly", "rollup_daily"];

/// Tells what is old enough and whether it goes.
pub(super) async fn list(reader: &mut Reader, retention: &Retention) -> Result<Vec<Dropped>, StoreError> {
    let mut parts = Vec::new();
    if let Some(before_us) = retention.readings_us {
        let rows = reader.all(sql!("old_readings"), |query| query.bind(time::at(before_us))).await?;
        for row in rows {
            let because = reason_to_stay(&row, retention.quiet_since_us).map_err(unavailable)?;
            parts.push(Dropped { kept_because: because, ..part("reading", &row).map_err(unavailable)? });
        }
    }
    if let Some(before_us) = retention.milkings_us {
        let rows = reader.all(sql!("old_milkings"), |query| query.bind(time::at(before_us))).await?;
        for row in rows {
            let because = lately(&row, retention.quiet_since_us).map_err(unavailable)?;
            parts.push(Dropped { kept_because: because, ..part("milking", &row).map_err(unavailable)? });
        }
    }
    let stored_us = lifecycle(reader).await?.stored_before_us;
    let rollups_us: Vec<Option<Micros>> = (Level::ALL.iter().zip(retention.rollups_us))
        // What is not kept yet is answered from readings.
        .map(|(level, before_us)| Some(level.floor(before_us?.min(stored_us?))))
        .collect();
    let bind = |query| {
        rollups_us.iter().fold(query, |query: super::reading::Statement, at| query.bind(at.map(time::at)))
    };
    if rollups_us.iter().any(Option::is_some) {
        for row in reader.all(sql!("old_rollups"), bind).await? {
            for (place, (table, end_us)) in ROLLUPS.into_iter().zip(&rollups_us).enumerate() {
                let count: i64 = row.try_get(place).map_err(unavailable)?;
                parts.extend(end_us.filter(|_| count > 0).map(|end_us| all_before(table, end_us, count)));
            }
        }
    }
    if let Some(before_us) = retention.quarantine_us {
        for row in reader.all(sql!("count_quarantine"), |query| query.bind(time::at(before_us))).await? {
            let count: i64 = row.try_get(0).map_err(unavailable)?;
            parts.extend((count > 0).then(|| all_before("quarantine", before_us, count)));
        }
    }
    Ok(parts)
}

/// Drops what was listed to go. What is in use, or was written into since, stays until the next time.
pub(super) async fn carry_out(
    pool: &PgPool,
    retention: &Retention,
    parts: &mut [Dropped],
) -> Result<(), StoreError> {
    let mut turn = Turn::wait(pool).await?;
    let done = carry_out_all(&mut turn, retention, parts).await;
    turn.end().await;
    done.map_err(unavailable)
}

async fn carry_out_all(
    turn: &mut Turn,
    retention: &Retention,
    parts: &mut [Dropped],
) -> Result<(), sqlx::Error> {
    for part in parts.iter_mut().filter(|part| part.kept_because.is_empty()) {
        let quiet_since = time::at(retention.quiet_since_us);
        let dropped = turn.run(async |connection| carry_out_one(connection, part, quiet_since).await).await;
        match dropped {
            Ok(Some(rows)) => part.rows = rows as u64,
            Ok(None) => {}
            Err(error) if is_locked(&error) => {
                part.kept_because = "somebody reads or writes it for long: the next run tries again".into();
            }
            Err(error) if is_not_ready(&error) => {
                part.kept_because = "something came into it just now: the next run tries again".into();
            }
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Drops one part; answers how many rows that were, if they were counted.
async fn carry_out_one(
    connection: &mut PgConnection,
    part: &Dropped,
    quiet_since: DateTime<Utc>,
) -> Result<Option<i64>, sqlx::Error> {
    let (start, end) = (part.start_us.map(time::at), time::at(part.end_us));
    match part.table {
        "reading" => {
            let query = sqlx::query(sql!("drop_readings")).bind(start).bind(end).bind(quiet_since);
            query.execute(connection).await.map(|_| None)
        }
        "milking" => {
            let query = sqlx::query_scalar(sql!("drop_milkings")).bind(start).bind(quiet_since);
            query.fetch_one(connection).await.map(Some)
        }
        "quarantine" => {
            let gone = sqlx::query(sql!("drop_quarantine")).bind(end).execute(connection).await?;
            Ok(Some(gone.rows_affected() as i64))
        }
        rollup => {
            let level = rollup.strip_prefix("rollup_").unwrap_or(rollup);
            sqlx::query_scalar(sql!("drop_rollups"))
                .bind(level)
                .bind(end)
                .fetch_one(connection)
                .await
                .map(Some)
        }
    }
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
