//! Readings into `iot.reading`: by `COPY` in the binary format of PostgreSQL, or by `INSERT`.

use std::sync::atomic::{AtomicBool, Ordering};

use sqlx::{PgConnection, postgres::PgCopyIn};

use super::{connect::CopyMode, error::is_unsupported, rows::Row, time};

/// Microseconds from 1970 to 2000, where PostgreSQL counts from.
const EPOCH_US: i64 = 946_684_800_000_000;

/// Signature, flags and length of the header's extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";

/// Columns of `copy_readings.sql`.
const COLUMNS: i16 = 12;

/// Encoded at a time.
const PIECE: usize = 256 << 10;

/// Which of the two it is: `COPY`, until the database turns out not to have it.
pub(super) struct Copying(AtomicBool);

impl Copying {
    pub(super) fn new(mode: CopyMode) -> Self {
        Self(AtomicBool::new(mode == CopyMode::Auto))
    }

    /// Whether readings are copied.
    pub(super) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// Writes rows. An error after which [`is_on`](Self::is_on) has changed says no more than that: the same
    /// transaction once more writes them by `INSERT`.
    pub(super) async fn write(
        &self,
        connection: &mut PgConnection,
        rows: &[Row<'_>],
    ) -> Result<(), sqlx::Error> {
        if self.is_on() { self.copy(connection, rows).await } else { insert(connection, rows).await }
    }

    async fn copy(&self, connection: &mut PgConnection, rows: &[Row<'_>]) -> Result<(), sqlx::Error> {
        let copy = connection.copy_in_raw(sql!("copy_readings")).await;
        if let Err(error) = &copy
            && is_unsupported(error)
            && self.0.swap(false, Ordering::Relaxed)
        {
            tracing::warn!(
                %error,
                "the database does not take COPY: from now on readings are written by INSERT, which takes about \
                 twice as long; database.copy = \"never\" does so from the start"
            );
        }
        send(copy?, rows).await
    }
}

/// Sends rows in the binary format.
async fn send(mut copy: PgCopyIn<&mut PgConnection>, rows: &[Row<'_>]) -> Result<(), sqlx::Error> {
    let mut piece = Vec::with_capacity(PIECE + 16 * 1024);
    piece.extend_from_slice(HEADER);
    for row in rows {
        put(&mut piece, row);
        if piece.len() >= PIECE {
            copy.send(&piece[..]).await?;
            piece.clear();
        }
    }
    piece.extend_from_slice(&(-1_i16).to_be_bytes());
    copy.send(&piece[..]).await?;
    copy.finish().await?;
    Ok(())
}

fn put(out: &mut Vec<u8>, row: &Row<'_>) {
    let reading = row.reading;
    out.extend_from_slice(&COLUMNS.to_be_bytes());
    field(out, &(time::at(reading.time_us).timestamp_micros() - EPOCH_US).to_be_bytes());
    field(out, &row.stamp.to_be_bytes());
    field(out, &reading.value.to_be_bytes());
    field(out, &reading.series.0.to_be_bytes());
    optional(out, reading.animal_id.map(i32::to_be_bytes));
    optional(out, reading.zone_id.map(i32::to_be_bytes));
    field(out, &(reading.quality as i16).to_be_bytes());
    optional(out, reading.battery_level.map(i16::to_be_bytes));
    optional(out, reading.signal_strength.map(i16::to_be_bytes));
    field(out, &[u8::from(reading.is_interpolated)]);
    match &reading.session_id {
        Some(text) => field(out, text.as_bytes()),
        None => null(out),
    }
    match &reading.metadata {
        Some(json) => {
            // JSONB as text, version 1 of its binary format.
            out.extend_from_slice(&(json.len() as i32 + 1).to_be_bytes());
            out.push(1);
            out.extend_from_slice(json.as_bytes());
        }
        None => null(out),
    }
}

#[inline]
fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}

#[inline]
fn optional<const N: usize>(out: &mut Vec<u8>, bytes: Option<[u8; N]>) {
    match bytes {
        Some(bytes) => field(out, &bytes),
        None => null(out),
    }
}

#[inline]
fn null(out: &mut Vec<u8>) {
    out.extend_from_slice(&(-1_i32).to_be_bytes());
}

/// Writes rows by `INSERT`.
async fn insert(connection: &mut PgConnection, rows: &[Row<'_>]) -> Result<(), sqlx::Error> {
    let text = |text: &Option<Box<str>>| text.as_deref().map(str::to_owned);
    sqlx::query(sql!("insert_readings"))
        .bind(rows.iter().map(|row| time::at(row.reading.time_us)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.stamp).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reading.value).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reading.series.0 as i32).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reading.animal_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reading.zone_id).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reading.quality as i16).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reading.battery_level).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reading.signal_strength).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.reading.is_interpolated).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| text(&row.reading.session_id)).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| text(&row.reading.metadata)).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}
