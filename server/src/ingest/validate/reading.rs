use herdstream_proto::limits::{MAX_METADATA_BYTES, MAX_NAME_CHARS};

use super::{
    Fault, TimeWindow, ValueRange, check_finite, check_positive,
    text::{check_metadata, check_text},
};
use crate::{ingest::IncomingReading, model::RejectionCode};

/// Checks everything about a reading but its series.
///
/// # Errors
///
/// The first fault found.
#[inline]
pub fn check_reading(reading: &IncomingReading, range: ValueRange, window: &TimeWindow) -> Result<(), Fault> {
    window.check(reading.time_us)?;
    // False for NaN too.
    if !(reading.value >= range.low && reading.value <= range.high) {
        return Err(value_fault(reading.value, range));
    }
    if let Some(animal) = reading.animal_id {
        check_positive("animal_id", animal)?;
    }
    if let Some(zone) = reading.zone_id {
        check_positive("zone_id", zone)?;
    }
    if let Some(level) = reading.battery_level {
        check_within("battery_level", level, 0, 100)?;
    }
    if let Some(signal) = reading.signal_strength {
        check_within("signal_strength", signal, i16::MIN.into(), i16::MAX.into())?;
    }
    if let Some(session) = &reading.session_id {
        check_text("session_id", session, MAX_NAME_CHARS)?;
    }
    if let Some(metadata) = &reading.metadata {
        check_metadata("metadata", metadata, MAX_METADATA_BYTES)?;
    }
    Ok(())
}

#[cold]
fn value_fault(value: f64, range: ValueRange) -> Fault {
    if let Err(fault) = check_finite("value", value) {
        return fault;
    }
    let message = format!("{value:?} is outside {:?} to {:?}", range.low, range.high);
    Fault::new(RejectionCode::OutOfRange, "value", message)
}

fn check_within(field: &'static str, value: i32, low: i32, high: i32) -> Result<(), Fault> {
    if (low..=high).contains(&value) {
        return Ok(());
    }
    Err(Fault::new(RejectionCode::OutOfRange, field, format!("{value} is outside {low} to {high}")))
}
