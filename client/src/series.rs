//! Series and the short numbers that stand for them.

use herdstream_proto::{
    limits::{MAX_DEVICE_TYPE_CHARS, MAX_NAME_CHARS, MAX_UNIT_CHARS},
    v1,
};

use crate::error::Error;

/// What is measured, by which device, on which farm. Immutable: two readings belong to the same
/// series when all five agree.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesKey {
    /// Farm that owns the device. 1 to 2 147 483 647.
    pub farm_id: i32,
    /// Device identifier. 1 to 64 characters.
    pub device_uid: String,
    /// Kind of device, for example `collar`. 1 to 32 characters.
    pub device_type: String,
    /// What is measured, for example `temperature`. 1 to 64 characters.
    pub metric_name: String,
    /// Unit as UCUM writes it, for example `Cel`. 0 to 16 characters.
    pub metric_unit: String,
}

/// Handle of one series of one producer, from [`Producer::series`](crate::Producer::series).
///
/// Means nothing to another producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SeriesRef(pub(crate) u32);

impl SeriesKey {
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.farm_id < 1 {
            return Err(Error::Series(format!("farm_id of {}: use 1 to {}", self.farm_id, i32::MAX)));
        }
        text("device_uid", &self.device_uid, 1, MAX_NAME_CHARS)?;
        text("device_type", &self.device_type, 1, MAX_DEVICE_TYPE_CHARS)?;
        text("metric_name", &self.metric_name, 1, MAX_NAME_CHARS)?;
        text("metric_unit", &self.metric_unit, 0, MAX_UNIT_CHARS)
    }
}

fn text(field: &str, value: &str, min: usize, max: usize) -> Result<(), Error> {
    let chars = value.chars().count();
    if chars < min || chars > max {
        return Err(Error::Series(format!("{field} of {chars} characters: use {min} to {max}")));
    }
    if value.contains('\0') {
        return Err(Error::Series(format!("{field} {value:?} holds U+0000: no store keeps it, remove it")));
    }
    Ok(())
}

impl From<v1::SeriesKey> for SeriesKey {
    fn from(key: v1::SeriesKey) -> Self {
        Self {
            farm_id: key.farm_id,
            device_uid: key.device_uid,
            device_type: key.device_type,
            metric_name: key.metric_name,
            metric_unit: key.metric_unit,
        }
    }
}
