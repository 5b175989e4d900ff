use herdstream_proto::limits::{MAX_DEVICE_TYPE_CHARS, MAX_NAME_CHARS, MAX_UNIT_CHARS};

use super::{
    Fault, check_positive,
    text::{check_required, check_text},
};
use crate::model::SeriesKey;

/// Checks the five fields of a series.
///
/// # Errors
///
/// The first fault found: a required field is empty, a text too long or with U+0000, a farm below 1.
pub fn check_series(key: &SeriesKey) -> Result<(), Fault> {
    check_positive("farm_id", key.farm_id)?;
    check_required("device_uid", &key.device_uid, MAX_NAME_CHARS)?;
    check_required("device_type", &key.device_type, MAX_DEVICE_TYPE_CHARS)?;
    check_required("metric_name", &key.metric_name, MAX_NAME_CHARS)?;
    check_text("metric_unit", &key.metric_unit, MAX_UNIT_CHARS)
}

/// Values accepted for a metric, bounds included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ValueRange {
    /// Lowest.
    pub low: f64,
    /// Highest.
    pub high: f64,
}

impl ValueRange {
    /// What no sensor exceeds, and whose squares can still be added up: a deviation over larger ones overflows.
    pub const ANY: Self = Self { low: -1e140, high: 1e140 };
}

/// The valid range of a metric: seed, section 7.1 (`validate_sensor_reading`); [`ValueRange::ANY`] for others.
pub fn value_range(metric_name: &str) -> ValueRange {
    match metric_name {
        "temperature" => ValueRange { low: -50.0, high: 100.0 },
        "activity" => ValueRange { low: 0.0, high: 1000.0 },
        "yield" => ValueRange { low: 0.0, high: 100.0 },
        _ => ValueRange::ANY,
    }
}
