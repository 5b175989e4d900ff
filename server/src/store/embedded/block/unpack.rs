//! Blocks back into readings, or into no more of them than statistics need.

use super::{
    ANIMAL, BATTERY, DECIMAL, EQUAL_STEPS, EQUAL_VALUES, Header, INTERPOLATED, METADATA, MIXED, POWERS,
    QUALITY, SAME, SESSION, SIGNAL, SINGLE, ZONE,
};
use crate::{
    model::{Micros, Quality, Reading, SeriesId},
    store::{
        Tag,
        embedded::codec::{Input, Undecodable},
    },
};

/// Appends the readings of a block to `out`.
///
/// # Errors
///
/// When the bytes are no block; `out` then holds no more than before.
pub(in crate::store::embedded) fn unpack(
    series: SeriesId,
    first_us: Micros,
    bytes: &[u8],
    out: &mut Vec<Reading>,
) -> Result<(), Undecodable> {
    let start = out.len();
    let unpacked = unpack_columns(series, first_us, bytes, out, start);
    if unpacked.is_err() {
        out.truncate(start);
    }
    unpacked
}

/// Times and values of readings of one series, in the order of their times.
#[derive(Default)]
pub(in crate::store::embedded) struct Values {
    times_us: Vec<Micros>,
    values: Vec<f64>,
    /// Empty: all are valid.
    qualities: Vec<Quality>,
    readings: Vec<Reading>,
}

/// Some neighbours of them.
#[derive(Clone, Copy)]
pub(in crate::store::embedded) struct Part<'a> {
    pub(in crate::store::embedded) times_us: &'a [Micros],
    pub(in crate::store::embedded) values: &'a [f64],
    /// Empty: all are valid.
    pub(in crate::store::embedded) qualities: &'a [Quality],
}

impl Part<'_> {
    /// The first `count`, and the rest.
    pub(in crate::store::embedded) fn split_at(self, count: usize) -> (Self, Self) {
        let (times_us, values) = (self.times_us.split_at(count), self.values.split_at(count));
        let qualities = self.qualities.split_at_checked(count).unwrap_or_default();
        (
            Self { times_us: times_us.0, values: values.0, qualities: qualities.0 },
            Self { times_us: times_us.1, values: values.1, qualities: qualities.1 },
        )
    }

    /// Those from `start_us` to before `end_us`.
    pub(in crate::store::embedded) fn between(self, start_us: Micros, end_us: Micros) -> Self {
        let place = |bound| self.times_us.partition_point(|time_us| *time_us < bound);
        let within = place(start_us)..place(end_us).max(place(start_us));
        Self {
            times_us: &self.times_us[within.clone()],
            values: &self.values[within.clone()],
            qualities: self.qualities.get(within).unwrap_or_default(),
        }
    }
}

impl Values {
    pub(in crate::store::embedded) fn all(&self) -> Part<'_> {
        Part { times_us: &self.times_us, values: &self.values, qualities: &self.qualities }
    }

    /// Takes in readings in the order of their times, in place of what it held.
    pub(in crate::store::embedded) fn take(&mut self, run: &[&Reading]) {
        self.times_us.clear();
        self.times_us.extend(run.iter().map(|reading| reading.time_us));
        self.values.clear();
        self.values.extend(run.iter().map(|reading| reading.value));
        self.qualities.clear();
        self.qualities.extend(run.iter().map(|reading| reading.quality));
    }

    /// Takes in a block in place of what it held; with a tag, only readings that carry it.
    ///
    /// # Errors
    ///
    /// When the bytes are no block.
    pub(in crate::store::embedded) fn unpack(
        &mut self,
        first_us: Micros,
        bytes: &[u8],
        tag: Option<Tag>,
    ) -> Result<(), Undecodable> {
        self.times_us.clear();
        self.values.clear();
        self.qualities.clear();
        let mut input = Input(bytes);
        let header = Header::decode(&mut input, first_us)?;
        if tag.is_some() || header.mask & QUALITY != 0 {
            self.readings.clear();
            unpack(SeriesId(0), first_us, bytes, &mut self.readings)?;
            for reading in self.readings.iter().filter(|reading| tag.is_none_or(|tag| tag.is_on(reading))) {
                self.times_us.push(reading.time_us);
                self.values.push(reading.value);
                self.qualities.push(reading.quality);
            }
            return Ok(());
        }
        self.times_us.reserve(header.count);
        unpack_times(&mut input, &header, first_us, |time_us| self.times_us.push(time_us))?;
        self.values.reserve(header.count);
        unpack_values(&mut input, &header, |value| self.values.push(value))
    }
}

fn unpack_columns(
    series: SeriesId,
    first_us: Micros,
    bytes: &[u8],
    out: &mut Vec<Reading>,
    start: usize,
) -> Result<(), Undecodable> {
    let mut input = Input(bytes);
    let header = Header::decode(&mut input, first_us)?;
    out.reserve(header.count);
    unpack_times(&mut input, &header, first_us, |time_us| {
        out.push(Reading::new(series, time_us, 0.0));
    })?;
    let readings = &mut out[start..];
    let mut places = readings.iter_mut();
    unpack_values(&mut input, &header, |value| {
        if let Some(reading) = places.next() {
            reading.value = value;
        }
    })?;
    let input = &mut input;
    let mask = header.mask;
    if mask & QUALITY != 0 {
        unpack_column(input, readings, quality, |reading, quality| reading.quality = quality)?;
    }
    if mask & INTERPOLATED != 0 {
        unpack_column(input, readings, Input::signed, |reading, _| reading.is_interpolated = true)?;
    }
    if mask & ANIMAL != 0 {
        unpack_column(input, readings, Input::integer, |reading, id| reading.animal_id = Some(id))?;
    }
    if mask & ZONE != 0 {
        unpack_column(input, readings, Input::integer, |reading, id| reading.zone_id = Some(id))?;
    }
    if mask & BATTERY != 0 {
        unpack_column(input, readings, Input::integer, |reading, level| reading.battery_level = Some(level))?;
    }
    if mask & SIGNAL != 0 {
        unpack_column(input, readings, Input::integer, |reading, dbm| reading.signal_strength = Some(dbm))?;
    }
    if mask & SESSION != 0 {
        unpack_column(input, readings, Input::text, |reading, text| reading.session_id = Some(text.into()))?;
    }
    if mask & METADATA != 0 {
        unpack_column(input, readings, Input::text, |reading, text| reading.metadata = Some(text.into()))?;
    }
    input.finish()
}

/// Shows the times, in their order.
fn unpack_times(
    input: &mut Input<'_>,
    header: &Header,
    first_us: Micros,
    mut see: impl FnMut(Micros),
) -> Result<(), Undecodable> {
    let equal_step = if header.flags & EQUAL_STEPS != 0 && header.count > 1 {
        let steps = header.count as Micros - 1;
        let span_us = header.last_us - first_us;
        if span_us % steps != 0 {
            return Err(Undecodable("its span is no multiple of its step"));
        }
        Some(span_us / steps)
    } else {
        None
    };
    let mut time_us = first_us;
    for index in 0..header.count {
        if index > 0 {
            time_us = match equal_step {
                Some(step_us) => time_us + step_us,
                None if index + 1 == header.count => header.last_us,
                None => time_us.saturating_add(Micros::from(input.number::<u32>()?) * header.unit_us),
            };
            if time_us > header.last_us {
                return Err(Undecodable("a time lies beyond its last"));
            }
        }
        see(time_us);
    }
    Ok(())
}

/// Shows the values, in the order of the times.
fn unpack_values(
    input: &mut Input<'_>,
    header: &Header,
    mut see: impl FnMut(f64),
) -> Result<(), Undecodable> {
    let equal = header.flags & EQUAL_VALUES != 0;
    let (count, times) = if equal { (1, header.count) } else { (header.count, 1) };
    let mut see = |value| (0..times).for_each(|_| see(value));
    if header.flags & DECIMAL != 0 {
        let power = POWERS.get(usize::from(input.byte()?)).ok_or(Undecodable("too many decimal places"))?;
        let mut scaled = 0_i64;
        for _ in 0..count {
            scaled = scaled.wrapping_add(input.signed()?);
            see(scaled as f64 / power);
        }
    } else if header.flags & SINGLE != 0 {
        for _ in 0..count {
            see(f32::from_le_bytes(input.array()?).into());
        }
    } else {
        for _ in 0..count {
            see(f64::from_le_bytes(input.array()?));
        }
    }
    Ok(())
}

fn quality(input: &mut Input<'_>) -> Result<Quality, Undecodable> {
    match input.signed()? {
        1 => Ok(Quality::Valid),
        _ => Err(Undecodable("an unknown quality")),
    }
}

fn unpack_column<'a, T: Copy>(
    input: &mut Input<'a>,
    readings: &mut [Reading],
    get: impl Fn(&mut Input<'a>) -> Result<T, Undecodable>,
    set: impl Fn(&mut Reading, T),
) -> Result<(), Undecodable> {
    match input.byte()? {
        SAME => {
            let value = get(input)?;
            for reading in readings {
                set(reading, value);
            }
        }
        MIXED => {
            let present = input.take(readings.len().div_ceil(8))?;
            for (index, reading) in readings.iter_mut().enumerate() {
                if present[index / 8] >> (index % 8) & 1 == 1 {
                    set(reading, get(input)?);
                }
            }
        }
        _ => return Err(Undecodable("an unknown way of packing a column")),
    }
    Ok(())
}
