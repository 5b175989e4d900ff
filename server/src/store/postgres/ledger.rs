//! The ledger: how far each producer's log is durable.

use std::collections::HashMap;

use sqlx::{PgConnection, Row as _, postgres::PgRow};

use super::{error::unavailable, reading::Reader};
use crate::{
    model::{ProducerId, ProducerRow, Totals},
    store::{CommitGroup, ProducerCommit, StoreError},
};

/// A row under its lock.
#[derive(Default)]
pub(super) struct Standing {
    pub(super) row: ProducerRow,
    /// Number of the commit that wrote it.
    pub(super) number: i64,
}

/// The row of a producer.
pub(super) async fn find(reader: &mut Reader, id: ProducerId) -> Result<Option<ProducerRow>, StoreError> {
    let rows = reader.all(sql!("find_producer"), |query| query.bind(id)).await?;
    let found = rows.first().map(standing).transpose().map_err(unavailable)?;
    Ok(found.map(|(_, standing)| standing.row))
}

/// Locks the rows of a group's producers, in the order of their ids, making those of new ones first. A
/// transaction that still commits holds its rows: after a lost connection this waits until its outcome stands.
pub(super) async fn lock(
    connection: &mut PgConnection,
    group: &CommitGroup,
) -> Result<HashMap<ProducerId, Standing>, sqlx::Error> {
    let is_new = |commit: &&ProducerCommit| {
        commit.open.is_some() || commit.guard.is_some_and(|guard| guard.epoch == 0)
    };
    let new: Vec<ProducerId> = group.producers.iter().filter(is_new).map(|commit| commit.producer).collect();
    if !new.is_empty() {
        sqlx::query(sql!("create_producers")).bind(new).execute(&mut *connection).await?;
    }
    let all = group.producers.iter().filter(|commit| commit.has_ledger());
    let all: Vec<ProducerId> = all.map(|commit| commit.producer).collect();
    if all.is_empty() {
        return Ok(HashMap::new());
    }
    let rows = sqlx::query(sql!("lock_producers")).bind(all).fetch_all(connection).await?;
    rows.iter().map(standing).collect()
}

/// Writes rows that are locked.
pub(super) async fn update(
    connection: &mut PgConnection,
    rows: &[(ProducerId, &ProducerRow)],
    commit_number: i64,
) -> Result<(), sqlx::Error> {
    if rows.is_empty() {
        return Ok(());
    }
    let text =
        |get: fn(&ProducerRow) -> &String| rows.iter().map(|(_, row)| get(row).clone()).collect::<Vec<_>>();
    let number =
        |get: fn(&ProducerRow) -> u64| rows.iter().map(|(_, row)| signed(get(row))).collect::<Vec<_>>();
    sqlx::query(sql!("update_producers"))
        .bind(rows.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(text(|row| &row.gateway_id))
        .bind(text(|row| &row.instance_id))
        .bind(number(|row| row.epoch))
        .bind(number(|row| row.committed_offset))
        .bind(number(|row| row.totals.stored))
        .bind(number(|row| row.totals.duplicate))
        .bind(number(|row| row.totals.quarantined))
        .bind(rows.iter().map(|(_, row)| row.totals.skipped.to_string()).collect::<Vec<_>>())
        .bind(commit_number)
        .execute(connection)
        .await?;
    Ok(())
}

/// Numbers are 63 bits in the database; a client that says more gets the most.
pub(super) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn standing(row: &PgRow) -> Result<(ProducerId, Standing), sqlx::Error> {
    let number = |column| row.try_get::<i64, _>(column).map(|number| number as u64);
    let totals = Totals {
        stored: number("stored")?,
        duplicate: number("duplicate")?,
        quarantined: number("quarantined")?,
        skipped: row.try_get::<String, _>("skipped")?.parse().unwrap_or(u64::MAX),
    };
    let producer = ProducerRow {
        epoch: number("epoch")?,
        committed_offset: number("committed_offset")?,
        totals,
        gateway_id: row.try_get("gateway_id")?,
        instance_id: row.try_get("instance_id")?,
    };
    Ok((row.try_get("producer_id")?, Standing { row: producer, number: row.try_get("commit_number")? }))
}
