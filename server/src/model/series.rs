use serde::{Deserialize, Serialize};

/// Number of a series in the store. Given once, never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesId(pub u32);

/// The immutable tuple that names a series. Bounds: seed, section 7.1.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SeriesKey {
    /// Farm, 1 or more.
    pub farm_id: i32,
    /// Device, 1 to 64 characters.
    pub device_uid: String,
    /// Kind of device, 1 to 32 characters.
    pub device_type: String,
    /// Metric, 1 to 64 characters.
    pub metric_name: String,
    /// UCUM unit, 0 to 16 characters.
    pub metric_unit: String,
}
