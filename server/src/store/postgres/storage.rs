//! Chunks and their compression.

use std::collections::HashSet;

use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};

use super::{error::unavailable, reading::Reader, time, turn::Turn};
use crate::{
    model::Micros,
    store::{Chunk, StoreError},
};

/// Chunks of readings and milkings, oldest first.
pub(super) async fn chunks(reader: &mut Reader) -> Result<Vec<Chunk>, StoreError> {
    reader.run(list).await
}

async fn list(connection: &mut PgConnection) -> Result<Vec<Chunk>, sqlx::Error> {
    let rows = sqlx::query(sql!("list_chunks")).fetch_all(connection).await?;
    rows.iter().map(chunk).collect()
}

/// Compresses the chunks that are due, one after the other; answers them as they are then.
pub(super) async fn compress(pool: &PgPool, before_us: Micros) -> Result<Vec<Chunk>, StoreError> {
    let mut turn = Turn::wait(pool).await?;
    let work = async |connection: &mut PgConnection| {
        let mut done = HashSet::new();
        for chunk in list(connection).await?.into_iter().filter(|chunk| is_due(chunk, before_us)) {
            let query = sqlx::query(sql!("timescale/compress_chunk")).bind(chunk.name.clone());
            query.execute(&mut *connection).await?;
            done.insert(chunk.name);
        }
        let chunks = list(connection).await?.into_iter();
        Ok(chunks.filter(|chunk| done.contains(&chunk.name)).collect())
    };
    let done = turn.run(work).await;
    turn.end().await;
    done.map_err(unavailable)
}

/// Whether it ends by `before_us` and is not compressed.
pub(super) fn is_due(chunk: &Chunk, before_us: Micros) -> bool {
    !chunk.compressed && chunk.end_us <= before_us
}

fn chunk(row: &PgRow) -> Result<Chunk, sqlx::Error> {
    let table = if row.try_get::<&str, _>("source")? == "reading" { "reading" } else { "milking" };
    Ok(Chunk {
        table,
        name: row.try_get("name")?,
        start_us: time::micros(row.try_get("start_time")?),
        end_us: time::micros(row.try_get("end_time")?),
        bytes: row.try_get::<i64, _>("bytes")? as u64,
        uncompressed_bytes: row.try_get::<Option<i64>, _>("uncompressed_bytes")?.map(|bytes| bytes as u64),
        compressed: row.try_get("compressed")?,
    })
}
