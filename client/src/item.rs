//! What a producer takes: readings and milkings.

use herdstream_proto::v1;

use crate::{encode::Encode, series::SeriesRef};

/// One value of one series at one instant.
///
/// Ranges are checked by the server: what it refuses is kept in quarantine and reported by
/// [`Event::Rejected`](crate::Event::Rejected).
#[derive(Clone, Debug, PartialEq)]
pub struct Reading {
    /// The series.
    pub series: SeriesRef,
    /// When it was measured, microseconds since 1970-01-01T00:00:00Z. `None`: when it is sent.
    pub time_us: Option<i64>,
    /// The value, in the unit of the series. Finite; -0.0 arrives as 0.0.
    pub value: f64,
    /// Whether the gateway computed the value instead of measuring it.
    pub is_interpolated: bool,
    /// Animal it belongs to. From 1.
    pub animal_id: Option<i32>,
    /// Zone of the barn. From 1.
    pub zone_id: Option<i32>,
    /// Battery of the device in percent. 0 to 100.
    pub battery_level: Option<i16>,
    /// Signal strength in dBm.
    pub signal_strength: Option<i16>,
    /// Milking session. At most 64 characters.
    pub session_id: Option<Box<str>>,
    /// A JSON object. At most 8192 bytes.
    pub metadata: Option<Box<str>>,
}

impl Reading {
    /// A reading that is stamped with the time of its sending.
    pub fn new(series: SeriesRef, value: f64) -> Self {
        Self {
            series,
            time_us: None,
            value,
            is_interpolated: false,
            animal_id: None,
            zone_id: None,
            battery_level: None,
            signal_strength: None,
            session_id: None,
            metadata: None,
        }
    }

    /// Sets when it was measured, microseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn at(mut self, time_us: i64) -> Self {
        self.time_us = Some(time_us);
        self
    }

    /// Sets the animal.
    #[must_use]
    pub fn animal(mut self, id: i32) -> Self {
        self.animal_id = Some(id);
        self
    }

    /// Sets the zone of the barn.
    #[must_use]
    pub fn zone(mut self, id: i32) -> Self {
        self.zone_id = Some(id);
        self
    }

    /// Sets the battery level, percent.
    #[must_use]
    pub fn battery(mut self, percent: i16) -> Self {
        self.battery_level = Some(percent);
        self
    }

    /// Sets the signal strength, dBm.
    #[must_use]
    pub fn signal(mut self, dbm: i16) -> Self {
        self.signal_strength = Some(dbm);
        self
    }

    /// Sets the milking session.
    #[must_use]
    pub fn session(mut self, id: impl Into<Box<str>>) -> Self {
        self.session_id = Some(id.into());
        self
    }

    /// Sets the metadata, a JSON object.
    #[must_use]
    pub fn metadata(mut self, json: impl Into<Box<str>>) -> Self {
        self.metadata = Some(json.into());
        self
    }

    /// Marks the value as computed instead of measured.
    #[must_use]
    pub fn interpolated(mut self) -> Self {
        self.is_interpolated = true;
        self
    }
}

/// One milking of one animal.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Milking {
    /// When it was recorded, microseconds since 1970-01-01T00:00:00Z. `None`: when it is sent.
    pub time_us: Option<i64>,
    /// Meter that measured it. From 1.
    pub milk_meter_id: i32,
    /// Animal that was milked. From 1.
    pub animal_id: i32,
    /// Farm of the animal. From 1.
    pub farm_id: i32,
    /// Milking session it belongs to. 1 to 64 characters.
    pub session_id: String,
    /// Milk yield in kilograms. 0 to 100.
    pub yield_kg: f64,
    /// How long the milking took, in seconds.
    pub duration_seconds: Option<i32>,
    /// Mean flow in kilograms per minute.
    pub flow_rate_kg_min: Option<f64>,
    /// Electrical conductivity in mS/cm at 25 degrees Celsius.
    pub conductivity_ms: Option<f64>,
    /// Milk temperature in degrees Celsius.
    pub temperature_c: Option<f64>,
    /// Whether blood was seen in the milk.
    pub blood_detected: bool,
    /// Fat in percent of mass.
    pub fat_percent: Option<f64>,
    /// Protein in percent of mass.
    pub protein_percent: Option<f64>,
    /// Lactose in percent of mass.
    pub lactose_percent: Option<f64>,
    /// Somatic cells per millilitre.
    pub somatic_cell_count: Option<i32>,
    /// Risk of mastitis as the meter computed it.
    pub mastitis_risk_score: Option<f64>,
    /// Start of the milking session, microseconds since 1970-01-01T00:00:00Z.
    pub session_start_us: Option<i64>,
    /// End of the milking session, microseconds since 1970-01-01T00:00:00Z.
    pub session_end_us: Option<i64>,
    /// `morning`, `evening` or `midday` by custom. At most 16 characters.
    pub milking_type: Option<String>,
    /// State of the meter, vendor's word. At most 16 characters.
    pub meter_status: Option<String>,
}

impl Milking {
    pub(crate) fn to_wire(&self, now_us: i64) -> v1::Milking {
        v1::Milking {
            time_us: self.time_us.unwrap_or(now_us),
            milk_meter_id: self.milk_meter_id,
            animal_id: self.animal_id,
            farm_id: self.farm_id,
            session_id: self.session_id.clone(),
            yield_kg: self.yield_kg,
            duration_seconds: self.duration_seconds,
            flow_rate_kg_min: self.flow_rate_kg_min,
            conductivity_ms: self.conductivity_ms,
            temperature_c: self.temperature_c,
            blood_detected: self.blood_detected,
            fat_percent: self.fat_percent,
            protein_percent: self.protein_percent,
            lactose_percent: self.lactose_percent,
            somatic_cell_count: self.somatic_cell_count,
            mastitis_risk_score: self.mastitis_risk_score,
            session_start_us: self.session_start_us,
            session_end_us: self.session_end_us,
            milking_type: self.milking_type.clone(),
            meter_status: self.meter_status.clone(),
        }
    }
}

/// A reading or a milking.
#[derive(Clone, Debug, PartialEq)]
pub enum Item {
    /// A reading.
    Reading(Reading),
    /// A milking: boxed, since it is several times larger and a thousand times rarer.
    Milking(Box<Milking>),
}

impl From<Reading> for Item {
    fn from(reading: Reading) -> Self {
        Self::Reading(reading)
    }
}

impl From<Milking> for Item {
    fn from(milking: Milking) -> Self {
        Self::Milking(Box::new(milking))
    }
}

/// What a producer can send: [`Reading`], [`Milking`] or [`Item`].
pub trait Sendable: Encode {}

impl Sendable for Reading {}
impl Sendable for Milking {}
impl Sendable for Item {}
