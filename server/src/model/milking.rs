use serde::{Deserialize, Serialize};

use super::Micros;

/// One milking of one animal: the seed's `milk_production_realtime`, section 7.1.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Milking {
    /// When it was recorded.
    pub time_us: Micros,
    /// Meter, 1 or more.
    pub milk_meter_id: i32,
    /// Animal, 1 or more.
    pub animal_id: i32,
    /// Farm, 1 or more.
    pub farm_id: i32,
    /// Milking session, 1 to 64 characters.
    pub session_id: String,
    /// Kilograms, 0 to 100.
    #[serde(with = "super::json_number")]
    pub yield_kg: f64,
    /// Seconds.
    pub duration_seconds: Option<i32>,
    /// Kilograms per minute.
    #[serde(with = "super::json_number::optional", default)]
    pub flow_rate_kg_min: Option<f64>,
    /// mS/cm at 25 °C.
    #[serde(with = "super::json_number::optional", default)]
    pub conductivity_ms: Option<f64>,
    /// Degrees Celsius.
    #[serde(with = "super::json_number::optional", default)]
    pub temperature_c: Option<f64>,
    /// Blood was seen.
    pub blood_detected: bool,
    /// Percent.
    #[serde(with = "super::json_number::optional", default)]
    pub fat_percent: Option<f64>,
    /// Percent.
    #[serde(with = "super::json_number::optional", default)]
    pub protein_percent: Option<f64>,
    /// Percent.
    #[serde(with = "super::json_number::optional", default)]
    pub lactose_percent: Option<f64>,
    /// Cells per millilitre.
    pub somatic_cell_count: Option<i32>,
    /// The meter's own score.
    #[serde(with = "super::json_number::optional", default)]
    pub mastitis_risk_score: Option<f64>,
    /// Start of the session.
    pub session_start_us: Option<Micros>,
    /// End of the session.
    pub session_end_us: Option<Micros>,
    /// At most 16 characters.
    pub milking_type: Option<String>,
    /// At most 16 characters.
    pub meter_status: Option<String>,
}
