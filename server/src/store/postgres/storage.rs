//! Chunks and their compression.

use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};

use super::{error::unavailable, reading::Reader, time, turn::Turn};
use crate::{
    model::Micros,
    store::{Chunk, StoreError},
};

/// Chunks of readings and milkings, oldest first.
pub(super) async fn chunks(reader: &mut Reader) -> Result<Vec<Chunk>, StoreError> {
    let rows = reader.all(sql!("list_chunks"), |query| query).await?;
    rows.iter().map(chunk).collect::<Result<_, _>>().map_err(unavailable)
}

/// Compresses chunks, one after the other.
pub(super) async fn compress(pool: &PgPool, chunks: &[Chunk]) -> Result<(), StoreError> {
    if chunks.is_empty() {
        return Ok(());
    }
    let mut turn = Turn::wait(pool).await?;
    let work = async |connection: &mut PgConnection| {
        for chunk in chunks {
            let query = sqlx::query(sql!("timescale/compress_chunk")).bind(chunk.name.clone());
            query.execute(&mut *connection).await?;
        }
        Ok(())
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
