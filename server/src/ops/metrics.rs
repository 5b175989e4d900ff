//! Metrics: their names, and one function for each thing that happens.
//!
//! The functions are called per commit, stream or call, never per reading; they touch atomics only.
//! Labels are bounded by the types they come from: no device, producer or gateway is ever a label.
//! All servers of one process share these figures, as Prometheus expects of a process.

use std::time::Duration;

use crate::model::RejectionCode;

mod meters;
mod process;
mod recorder;

use meters::TABLES;
pub use meters::{Answer, Rpc};
pub(super) use meters::{METERS, REJECTIONS};
pub(super) use process::resident_bytes;
pub(super) use recorder::Total;

/// Media type of [`render`]'s text.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A group was committed: how long it took, and the rows and encoded bytes in it.
pub fn commit(took: Duration, rows: usize, bytes: u64) {
    METERS.commits.record(took);
    METERS.commit_rows.record(rows as f64);
    METERS.committed_bytes.add(bytes);
    METERS.stored.add(rows as u64);
}

/// Batches were committed.
pub fn batches(count: u64) {
    METERS.batches.add(count);
}

/// Readings and milkings arrived again and were dropped.
pub fn duplicate(count: u64) {
    METERS.duplicate.add(count);
}

/// A reading or milking was refused and kept in quarantine.
pub fn quarantined(code: RejectionCode) {
    METERS.quarantined[code as usize - 1].add(1);
}

/// A client gave up readings and milkings.
pub fn skipped(count: u64) {
    METERS.skipped.add(count);
}

/// Streams were opened (positive) or ended (negative).
pub fn streams_changed(by: i64) {
    METERS.streams.change(by);
}

/// A session was opened.
pub fn opened() {
    METERS.opened.add(1);
}

/// Work of a session that another had taken over was refused.
pub fn fenced() {
    METERS.fenced.add(1);
}

/// Credit was granted beyond what had been granted before.
pub fn credit(bytes: u64) {
    METERS.credit.add(bytes);
}

/// The store went down or came back.
pub fn store_up(up: bool) {
    METERS.store_up.set(i64::from(up));
}

/// Chunks of readings made within the last day, compressed and not.
pub fn new_chunks(compressed: u64, uncompressed: u64) {
    for (gauge, chunks) in METERS.new_chunks.iter().zip([compressed, uncompressed]) {
        gauge.set(chunks as f64);
    }
}

/// A unary call was answered.
pub fn call(rpc: Rpc, answer: Answer, took: Duration) {
    METERS.calls[rpc as usize][answer as usize].record(took);
}

/// Rollups were refreshed here.
pub fn refreshed(took: Duration, buckets: u64, mended: u64) {
    METERS.refreshes.record(took);
    METERS.rollup_buckets.add(buckets);
    METERS.mended.add(mended);
}

/// A refresh of the rollups failed here.
pub fn refresh_failed() {
    METERS.refresh_failures.add(1);
}

/// How far rollups lag behind what is closed, and how many hours of series are dirty.
pub fn rollups(lag: Duration, dirty_hours: u64) {
    METERS.rollup_lag.set(lag.as_secs_f64());
    METERS.dirty_hours.set(dirty_hours as i64);
}

/// Retention dropped part of a table.
pub fn dropped(table: &str, bytes: u64) {
    if let Some(place) = TABLES.iter().position(|known| *known == table) {
        METERS.dropped[place].add(1);
        METERS.dropped_bytes[place].add(bytes);
    }
}

/// All metrics in Prometheus' text format.
pub fn render() -> String {
    process::observe();
    METERS.handle.render()
}

/// What is taken in and not yet committed: encoded bytes, readings and milkings.
pub(super) fn queue(bytes: u64, readings: u64) {
    METERS.buffer_bytes.set(bytes as i64);
    METERS.pending.set(readings as i64);
}

/// Free bytes on the disk of the store.
pub(super) fn disk_free(bytes: u64) {
    METERS.disk_free.set(bytes as i64);
}

/// Moves samples into their histograms; unless somebody does this now and then, they pile up.
pub(super) fn upkeep() {
    METERS.handle.run_upkeep();
}

#[cfg(test)]
mod tests;
