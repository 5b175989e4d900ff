use herdstream_proto::limits::{MAX_NAME_CHARS, MAX_UNIT_CHARS};

use super::{
    Fault, TimeWindow, check_finite, check_positive, series,
    text::{check_required, check_text},
};
use crate::model::{Micros, Milking, RejectionCode};

/// Bounds of a PostgreSQL timestamp, with room to spare: the years 1 and 9999.
const TIMESTAMP_US: std::ops::RangeInclusive<Micros> = -62_135_596_800_000_000..=253_402_300_799_000_000;

/// Checks a milking. Its yield has the range of the metric `yield`.
///
/// # Errors
///
/// The first fault found.
pub fn check_milking(milking: &Milking, window: &TimeWindow) -> Result<(), Fault> {
    window.check(milking.time_us)?;
    check_positive("milk_meter_id", milking.milk_meter_id)?;
    check_positive("animal_id", milking.animal_id)?;
    check_positive("farm_id", milking.farm_id)?;
    check_required("session_id", &milking.session_id, MAX_NAME_CHARS)?;
    check_yield(milking.yield_kg)?;
    for (field, value) in [
        ("flow_rate_kg_min", milking.flow_rate_kg_min),
        ("conductivity_ms", milking.conductivity_ms),
        ("temperature_c", milking.temperature_c),
        ("fat_percent", milking.fat_percent),
        ("protein_percent", milking.protein_percent),
        ("lactose_percent", milking.lactose_percent),
        ("mastitis_risk_score", milking.mastitis_risk_score),
    ] {
        value.map_or(Ok(()), |value| check_finite(field, value))?;
    }
    for (field, value) in
        [("duration_seconds", milking.duration_seconds), ("somatic_cell_count", milking.somatic_cell_count)]
    {
        if let Some(value) = value.filter(|value| *value < 0) {
            return Err(Fault::new(RejectionCode::OutOfRange, field, format!("{value} is below 0")));
        }
    }
    for (field, time_us) in
        [("session_start_us", milking.session_start_us), ("session_end_us", milking.session_end_us)]
    {
        if let Some(time_us) = time_us.filter(|time_us| !TIMESTAMP_US.contains(time_us)) {
            let message = format!("{time_us} is outside the years 1 to 9999");
            return Err(Fault::new(RejectionCode::OutOfRange, field, message));
        }
    }
    for (field, text) in [("milking_type", &milking.milking_type), ("meter_status", &milking.meter_status)] {
        if let Some(text) = text {
            check_text(field, text, MAX_UNIT_CHARS)?;
        }
    }
    Ok(())
}

fn check_yield(yield_kg: f64) -> Result<(), Fault> {
    check_finite("yield_kg", yield_kg)?;
    let range = series::value_range("yield");
    if (range.low..=range.high).contains(&yield_kg) {
        return Ok(());
    }
    let message = format!("{yield_kg} is outside {} to {}", range.low, range.high);
    Err(Fault::new(RejectionCode::OutOfRange, "yield_kg", message))
}
