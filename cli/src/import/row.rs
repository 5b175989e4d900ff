//! From a row of a file to a reading or a milking.

use herdstream_client::v1;

use super::{
    Reading,
    columns::{Columns, Kind},
    instant,
    source::{Record, Value},
};

/// A row, understood.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Row {
    Reading(v1::SeriesKey, v1::Reading),
    Milking(Box<v1::Milking>),
}

impl Row {
    /// Understands a row.
    ///
    /// # Errors
    ///
    /// What is wrong with which column.
    pub(super) fn of(record: &Record, columns: &Columns, how: &Reading) -> Result<Self, String> {
        if record.values.len() != columns.count() {
            return Err(format!("it has {} fields, and the header {}", record.values.len(), columns.count()));
        }
        match columns.kind {
            Kind::Readings => reading(record, columns, how),
            Kind::Milkings => milking(record, columns, how).map(|milking| Self::Milking(Box::new(milking))),
        }
    }

    pub(super) fn time_us(&self) -> i64 {
        match self {
            Self::Reading(_, reading) => reading.time_us,
            Self::Milking(milking) => milking.time_us,
        }
    }

    /// Encoded bytes, at most, with a series of its own.
    pub(super) fn bytes(&self) -> usize {
        let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let texts = match self {
            Self::Reading(key, reading) => {
                let names = [&key.device_uid, &key.device_type, &key.metric_name, &key.metric_unit];
                names.map(String::len).iter().sum::<usize>()
                    + length(&reading.session_id)
                    + length(&reading.metadata)
            }
            Self::Milking(milking) => {
                milking.session_id.len() + length(&milking.milking_type) + length(&milking.meter_status) + 80
            }
        };
        128 + texts
    }
}

fn reading(record: &Record, columns: &Columns, how: &Reading) -> Result<Row, String> {
    let mut key = v1::SeriesKey {
        farm_id: how.farm_id.unwrap_or_default(),
        device_type: how.device_type.clone().unwrap_or_default(),
        metric_name: how.metric_name.clone().unwrap_or_default(),
        metric_unit: how.metric_unit.clone().unwrap_or_default(),
        ..v1::SeriesKey::default()
    };
    let mut reading = v1::Reading::default();
    let mut value = None;
    each(record, columns, |field, found| {
        match field {
            "time" => reading.time_us = instant::micros(found, how.time_zone, how.time_unit)?,
            "device_uid" => key.device_uid = text(found),
            "device_type" => key.device_type = text(found),
            "farm_id" => key.farm_id = integer(found)?,
            "metric_name" => key.metric_name = text(found),
            "metric_value" => value = Some(real(found)?),
            "metric_unit" => key.metric_unit = text(found),
            "is_interpolated" => reading.is_interpolated = flag(found)?,
            "animal_id" => reading.animal_id = Some(integer(found)?),
            "zone_id" => reading.zone_id = Some(integer(found)?),
            "session_id" => reading.session_id = Some(text(found)),
            "battery_level" => reading.battery_level = Some(integer(found)?),
            "signal_strength" => reading.signal_strength = Some(integer(found)?),
            "metadata" => reading.metadata = Some(text(found)).filter(|text| text != "{}"),
            _ => {}
        }
        Ok(())
    })?;
    reading.value = value.ok_or("metric_value is empty")?;
    missing(reading.time_us == 0, "time")?;
    Ok(Row::Reading(key, reading))
}

fn milking(record: &Record, columns: &Columns, how: &Reading) -> Result<v1::Milking, String> {
    let mut milking = v1::Milking { farm_id: how.farm_id.unwrap_or_default(), ..v1::Milking::default() };
    let mut yield_kg = None;
    let time = |found: &Value| instant::micros(found, how.time_zone, how.time_unit);
    each(record, columns, |field, found| {
        match field {
            "time" => milking.time_us = time(found)?,
            "milk_meter_id" => milking.milk_meter_id = integer(found)?,
            "animal_id" => milking.animal_id = integer(found)?,
            "farm_id" => milking.farm_id = integer(found)?,
            "session_id" => milking.session_id = text(found),
            "yield_kg" => yield_kg = Some(real(found)?),
            "duration_seconds" => milking.duration_seconds = Some(integer(found)?),
            "flow_rate_kg_min" => milking.flow_rate_kg_min = Some(real(found)?),
            "conductivity_ms" => milking.conductivity_ms = Some(real(found)?),
            "temperature_c" => milking.temperature_c = Some(real(found)?),
            "blood_detected" => milking.blood_detected = flag(found)?,
            "fat_percent" => milking.fat_percent = Some(real(found)?),
            "protein_percent" => milking.protein_percent = Some(real(found)?),
            "lactose_percent" => milking.lactose_percent = Some(real(found)?),
            "somatic_cell_count" => milking.somatic_cell_count = Some(integer(found)?),
            "mastitis_risk_score" => milking.mastitis_risk_score = Some(real(found)?),
            "session_start" => milking.session_start_us = Some(time(found)?),
            "session_end" => milking.session_end_us = Some(time(found)?),
            "milking_type" => milking.milking_type = Some(text(found)),
            "meter_status" => milking.meter_status = Some(text(found)),
            _ => {}
        }
        Ok(())
    })?;
    milking.yield_kg = yield_kg.ok_or("yield_kg is empty")?;
    missing(milking.time_us == 0, "time")?;
    Ok(milking)
}

/// Shows the fields that have a value; what is wrong with one is told with its name.
fn each(
    record: &Record,
    columns: &Columns,
    mut see: impl FnMut(&str, &Value) -> Result<(), String>,
) -> Result<(), String> {
    for (column, value) in record.values.iter().enumerate() {
        if let Some(field) = columns.field(column)
            && *value != Value::Null
        {
            let seen = match value {
                Value::Bytes(_) => Err(format!("{value} is not UTF-8; save the file in that encoding")),
                Value::Nested => Err(format!("it is {value}, and one value is expected")),
                _ => see(field, value),
            };
            seen.map_err(|why| format!("{field}: {why}"))?;
        }
    }
    Ok(())
}

fn missing(is_missing: bool, field: &str) -> Result<(), String> {
    if is_missing { Err(format!("{field} is empty")) } else { Ok(()) }
}

fn text(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        other => other.to_string(),
    }
}

fn real(value: &Value) -> Result<f64, String> {
    match value {
        Value::Real(value) => Ok(*value),
        Value::Integer(number) => Ok(*number as f64),
        Value::Text(text) => text.trim().parse().map_err(|_| {
            let way_out = if text.contains(',') { ": decimals stand after a point" } else { "" };
            format!("{value} is not a number{way_out}")
        }),
        other => Err(format!("{other} is not a number")),
    }
}

fn integer(value: &Value) -> Result<i32, String> {
    let wrong = || format!("{value} is not a whole number");
    match value {
        Value::Integer(number) => i32::try_from(*number).map_err(|_| wrong()),
        // As pandas writes a column of whole numbers that has gaps.
        Value::Real(real) if real.fract() == 0.0 && real.abs() <= f64::from(i32::MAX) => Ok(*real as i32),
        Value::Text(text) => {
            let text = text.trim();
            text.strip_suffix(".0").unwrap_or(text).parse().map_err(|_| wrong())
        }
        _ => Err(wrong()),
    }
}

fn flag(value: &Value) -> Result<bool, String> {
    match value {
        Value::Flag(flag) => Ok(*flag),
        Value::Integer(0) => Ok(false),
        Value::Integer(1) => Ok(true),
        Value::Text(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "t" | "1" | "yes" => Ok(true),
            "false" | "f" | "0" | "no" => Ok(false),
            _ => Err(format!("{value} is neither true nor false")),
        },
        other => Err(format!("{other} is neither true nor false")),
    }
}
