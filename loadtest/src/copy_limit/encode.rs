//! Readings in the binary format of PostgreSQL's COPY.

use crate::farm::Sample;

/// What the rows are sent to.
pub(super) const STATEMENT: &str = "\
    COPY iot.reading (time, stamp, value, series_id, animal_id, zone_id, quality, battery_level, signal_strength, \
    is_interpolated, session_id, metadata) FROM STDIN (FORMAT BINARY)";
/// Signature, flags and length of the header's extension.
pub(super) const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// No more rows.
pub(super) const TRAILER: &[u8] = &[0xff, 0xff];

/// Columns of [`STATEMENT`].
const COLUMNS: i16 = 12;
/// Microseconds from 1970 to 2000, where PostgreSQL counts from.
const EPOCH_US: i64 = 946_684_800_000_000;
/// Of a reading that passed validation.
const VALID: i16 = 1;

/// Appends a row.
pub(super) fn row(out: &mut Vec<u8>, series: i32, stamp: i64, sample: &Sample) {
    out.extend_from_slice(&COLUMNS.to_be_bytes());
    field(out, &(sample.time_us - EPOCH_US).to_be_bytes());
    field(out, &stamp.to_be_bytes());
    field(out, &sample.value.to_be_bytes());
    field(out, &series.to_be_bytes());
    optional(out, sample.animal_id.map(i32::to_be_bytes).as_ref().map(<[u8; 4]>::as_slice));
    optional(out, sample.zone_id.map(i32::to_be_bytes).as_ref().map(<[u8; 4]>::as_slice));
    field(out, &VALID.to_be_bytes());
    field(out, &sample.battery_level.to_be_bytes());
    field(out, &sample.signal_strength.to_be_bytes());
    field(out, &[u8::from(sample.is_interpolated)]);
    optional(out, sample.session_id.as_deref().map(str::as_bytes));
    // JSONB as text, version 1 of its binary format.
    let metadata = sample.metadata.map(|json| [&[1], json.as_bytes()].concat());
    optional(out, metadata.as_deref());
}

fn field(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as i32).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn optional(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    match bytes {
        Some(bytes) => field(out, bytes),
        None => out.extend_from_slice(&(-1_i32).to_be_bytes()),
    }
}
