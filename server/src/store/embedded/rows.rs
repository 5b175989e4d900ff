//! Values of the tables in `rows`.

use super::codec::{Input, Undecodable, put_optional, put_signed, put_text, put_varint};
use crate::{
    model::{
        Content, Micros, Milking, Offset, ProducerRow, Quality, Quarantined, Reading, Rejection,
        RejectionCode, RejectionKind, SeriesId, SeriesKey, Totals, field_name,
    },
    store::{MilkBucket, heard::Status},
};

pub(super) fn encode_producer(row: &ProducerRow) -> Vec<u8> {
    let Totals { stored, duplicate, quarantined, skipped } = row.totals;
    let mut out = Vec::with_capacity(128);
    for number in [row.epoch, row.committed_offset, stored, duplicate, quarantined, skipped] {
        put_varint(&mut out, number);
    }
    put_text(&mut out, &row.gateway_id);
    put_text(&mut out, &row.instance_id);
    out
}

pub(super) fn decode_producer(bytes: &[u8]) -> Result<ProducerRow, Undecodable> {
    let mut input = Input(bytes);
    let row = ProducerRow {
        epoch: input.varint()?,
        committed_offset: input.varint()?,
        totals: Totals {
            stored: input.varint()?,
            duplicate: input.varint()?,
            quarantined: input.varint()?,
            skipped: input.varint()?,
        },
        gateway_id: input.text()?.to_owned(),
        instance_id: input.text()?.to_owned(),
    };
    input.finish()?;
    Ok(row)
}

pub(super) fn encode_milking(milking: &Milking) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    put_milking(&mut out, milking);
    out
}

pub(super) fn decode_milking(bytes: &[u8]) -> Result<Milking, Undecodable> {
    let mut input = Input(bytes);
    let milking = milking(&mut input)?;
    input.finish()?;
    Ok(milking)
}

/// All but its place, which is in the key.
pub(super) fn encode_quarantined(quarantined: &Quarantined) -> Vec<u8> {
    let mut out = Vec::with_capacity(256);
    let rejection = &quarantined.rejection;
    out.push(rejection.code as u8);
    put_text(&mut out, rejection.field);
    put_text(&mut out, &rejection.message);
    put_signed(&mut out, quarantined.received_us);
    put_optional(&mut out, quarantined.series.as_ref(), put_series);
    match &quarantined.content {
        None => out.push(0),
        Some(Content::Reading(reading)) => {
            out.push(1);
            put_reading(&mut out, reading);
        }
        Some(Content::Milking(milking)) => {
            out.push(2);
            put_milking(&mut out, milking);
        }
    }
    out
}

pub(super) fn decode_quarantined(
    (offset, kind, index): (Offset, RejectionKind, u32),
    bytes: &[u8],
) -> Result<Quarantined, Undecodable> {
    let mut input = Input(bytes);
    let rejection = Rejection {
        offset,
        kind,
        index,
        code: RejectionCode::from_number(input.byte()?).ok_or(Undecodable("an unknown rejection code"))?,
        field: field_name(input.text()?).ok_or(Undecodable("an unknown field name"))?,
        message: input.text()?.to_owned(),
    };
    let quarantined = Quarantined {
        rejection,
        received_us: input.signed()?,
        series: input.optional(series)?,
        content: match input.byte()? {
            0 => None,
            1 => Some(Content::Reading(reading(&mut input)?)),
            2 => Some(Content::Milking(Box::new(milking(&mut input)?))),
            _ => return Err(Undecodable("an unknown content")),
        },
    };
    input.finish()?;
    Ok(quarantined)
}

/// Number and kind of a device.
pub(super) fn encode_device(number: u32, device_type: &str) -> Vec<u8> {
    let mut out = Vec::with_capacity(40);
    put_varint(&mut out, number.into());
    put_text(&mut out, device_type);
    out
}

pub(super) fn decode_device(bytes: &[u8]) -> Result<(u32, String), Undecodable> {
    let mut input = Input(bytes);
    let device = (input.number()?, input.text()?.to_owned());
    input.finish()?;
    Ok(device)
}

pub(super) fn put_status(out: &mut Vec<u8>, status: &Status) {
    put_signed(out, status.last_seen_us);
    for told in [status.battery_level, status.signal_strength] {
        put_optional(out, told, |out, (time_us, value)| {
            put_signed(out, status.last_seen_us.wrapping_sub(time_us));
            put_signed(out, value.into());
        });
    }
}

pub(super) fn status(input: &mut Input<'_>) -> Result<Status, Undecodable> {
    let last_seen_us = input.signed()?;
    let told = |input: &mut Input<'_>| -> Result<(Micros, i16), Undecodable> {
        Ok((last_seen_us.wrapping_sub(input.signed()?), input.integer()?))
    };
    Ok(Status { last_seen_us, battery_level: input.optional(told)?, signal_strength: input.optional(told)? })
}

/// What one commit changed: devices by number, and their statuses after it.
pub(super) fn encode_touches(touched: &[(u32, Status)]) -> Vec<u8> {
    let mut out = Vec::with_capacity(touched.len() * 16 + 4);
    put_varint(&mut out, touched.len() as u64);
    for (device, status) in touched {
        put_varint(&mut out, (*device).into());
        put_status(&mut out, status);
    }
    out
}

pub(super) fn decode_touches(bytes: &[u8]) -> Result<Vec<(u32, Status)>, Undecodable> {
    let mut input = Input(bytes);
    let count: u32 = input.number()?;
    let touched = (0..count).map(|_| Ok((input.number()?, status(&mut input)?))).collect::<Result<_, _>>()?;
    input.finish()?;
    Ok(touched)
}

pub(super) fn encode_number(number: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(10);
    put_varint(&mut out, number);
    out
}

pub(super) fn decode_number(bytes: &[u8]) -> Result<u64, Undecodable> {
    let mut input = Input(bytes);
    let number = input.varint()?;
    input.finish()?;
    Ok(number)
}

/// Milk of one animal on one day.
pub(super) fn encode_milk_day(milk: &MilkBucket) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    put_varint(&mut out, milk.milkings);
    put_real(&mut out, milk.total_yield_kg);
    for value in [milk.avg_conductivity, milk.avg_scc, milk.max_mastitis_risk, milk.avg_fat, milk.avg_protein]
    {
        put_optional(&mut out, value, put_real);
    }
    out
}

pub(super) fn decode_milk_day(
    start_us: Micros,
    animal_id: i32,
    bytes: &[u8],
) -> Result<MilkBucket, Undecodable> {
    let mut input = Input(bytes);
    let milk = MilkBucket {
        start_us,
        animal_id,
        milkings: input.varint()?,
        total_yield_kg: real(&mut input)?,
        avg_conductivity: input.optional(real)?,
        avg_scc: input.optional(real)?,
        max_mastitis_risk: input.optional(real)?,
        avg_fat: input.optional(real)?,
        avg_protein: input.optional(real)?,
    };
    input.finish()?;
    Ok(milk)
}

fn put_series(out: &mut Vec<u8>, series: &SeriesKey) {
    put_signed(out, series.farm_id.into());
    for text in [&series.device_uid, &series.device_type, &series.metric_name, &series.metric_unit] {
        put_text(out, text);
    }
}

fn series(input: &mut Input<'_>) -> Result<SeriesKey, Undecodable> {
    Ok(SeriesKey {
        farm_id: input.integer()?,
        device_uid: input.text()?.to_owned(),
        device_type: input.text()?.to_owned(),
        metric_name: input.text()?.to_owned(),
        metric_unit: input.text()?.to_owned(),
    })
}

fn put_real(out: &mut Vec<u8>, value: f64) {
    out.extend_from_slice(&value.to_le_bytes());
}

fn real(input: &mut Input<'_>) -> Result<f64, Undecodable> {
    input.array().map(f64::from_le_bytes)
}

fn put_integer<T: Into<i64>>(out: &mut Vec<u8>, value: T) {
    put_signed(out, value.into());
}

fn owned_text(input: &mut Input<'_>) -> Result<String, Undecodable> {
    input.text().map(str::to_owned)
}

/// A refused reading: bit for bit as it came, whatever its values.
fn put_reading(out: &mut Vec<u8>, reading: &Reading) {
    put_varint(out, reading.series.0.into());
    put_signed(out, reading.time_us);
    put_real(out, reading.value);
    out.push(reading.quality as u8);
    out.push(reading.is_interpolated.into());
    put_optional(out, reading.animal_id, put_integer);
    put_optional(out, reading.zone_id, put_integer);
    put_optional(out, reading.battery_level, put_integer);
    put_optional(out, reading.signal_strength, put_integer);
    put_optional(out, reading.session_id.as_deref(), put_text);
    put_optional(out, reading.metadata.as_deref(), put_text);
}

fn reading(input: &mut Input<'_>) -> Result<Reading, Undecodable> {
    Ok(Reading {
        series: SeriesId(input.number()?),
        time_us: input.signed()?,
        value: real(input)?,
        quality: match input.byte()? {
            1 => Quality::Valid,
            _ => return Err(Undecodable("an unknown quality")),
        },
        is_interpolated: input.byte()? != 0,
        animal_id: input.optional(Input::integer)?,
        zone_id: input.optional(Input::integer)?,
        battery_level: input.optional(Input::integer)?,
        signal_strength: input.optional(Input::integer)?,
        session_id: input.optional(Input::text)?.map(Into::into),
        metadata: input.optional(Input::text)?.map(Into::into),
    })
}

fn put_milking(out: &mut Vec<u8>, milking: &Milking) {
    put_signed(out, milking.time_us);
    put_integer(out, milking.milk_meter_id);
    put_integer(out, milking.animal_id);
    put_integer(out, milking.farm_id);
    put_text(out, &milking.session_id);
    put_real(out, milking.yield_kg);
    put_optional(out, milking.duration_seconds, put_integer);
    put_optional(out, milking.flow_rate_kg_min, put_real);
    put_optional(out, milking.conductivity_ms, put_real);
    put_optional(out, milking.temperature_c, put_real);
    out.push(milking.blood_detected.into());
    put_optional(out, milking.fat_percent, put_real);
    put_optional(out, milking.protein_percent, put_real);
    put_optional(out, milking.lactose_percent, put_real);
    put_optional(out, milking.somatic_cell_count, put_integer);
    put_optional(out, milking.mastitis_risk_score, put_real);
    put_optional(out, milking.session_start_us, put_integer);
    put_optional(out, milking.session_end_us, put_integer);
    put_optional(out, milking.milking_type.as_deref(), put_text);
    put_optional(out, milking.meter_status.as_deref(), put_text);
}

fn milking(input: &mut Input<'_>) -> Result<Milking, Undecodable> {
    Ok(Milking {
        time_us: input.signed()?,
        milk_meter_id: input.integer()?,
        animal_id: input.integer()?,
        farm_id: input.integer()?,
        session_id: owned_text(input)?,
        yield_kg: real(input)?,
        duration_seconds: input.optional(Input::integer)?,
        flow_rate_kg_min: input.optional(real)?,
        conductivity_ms: input.optional(real)?,
        temperature_c: input.optional(real)?,
        blood_detected: input.byte()? != 0,
        fat_percent: input.optional(real)?,
        protein_percent: input.optional(real)?,
        lactose_percent: input.optional(real)?,
        somatic_cell_count: input.optional(Input::integer)?,
        mastitis_risk_score: input.optional(real)?,
        session_start_us: input.optional(Input::signed)?,
        session_end_us: input.optional(Input::signed)?,
        milking_type: input.optional(owned_text)?,
        meter_status: input.optional(owned_text)?,
    })
}
