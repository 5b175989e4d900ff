use serde::{Deserialize, Serialize};

use super::{Micros, SeriesId};

/// One value of one series at one instant, valid and ready to store.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reading {
    /// Its series.
    pub series: SeriesId,
    /// When it was measured.
    pub time_us: Micros,
    /// The value, finite, in the unit of the series.
    #[serde(with = "super::json_number")]
    pub value: f64,
    /// What validation found.
    pub quality: Quality,
    /// Computed by the gateway instead of measured.
    pub is_interpolated: bool,
    /// Animal, 1 or more.
    pub animal_id: Option<i32>,
    /// Zone, 1 or more.
    pub zone_id: Option<i32>,
    /// Battery in percent, 0 to 100.
    pub battery_level: Option<i16>,
    /// Signal in dBm.
    pub signal_strength: Option<i16>,
    /// Milking session, at most 64 characters.
    pub session_id: Option<Box<str>>,
    /// A JSON object, at most 8192 bytes.
    pub metadata: Option<Box<str>>,
}

impl Reading {
    /// A valid one that tells nothing but its value.
    pub const fn new(series: SeriesId, time_us: Micros, value: f64) -> Self {
        Self {
            series,
            time_us,
            value,
            quality: Quality::Valid,
            is_interpolated: false,
            animal_id: None,
            zone_id: None,
            battery_level: None,
            signal_strength: None,
            session_id: None,
            metadata: None,
        }
    }

    /// Bytes of its texts.
    pub fn text_bytes(&self) -> usize {
        [&self.session_id, &self.metadata].into_iter().flatten().map(|text| text.len()).sum()
    }
}

/// Quality of a stored reading. The numbers are the embedded store's format.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[repr(u8)]
pub enum Quality {
    /// Inside the valid range.
    #[default]
    Valid = 1,
}
