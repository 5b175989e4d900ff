//! A block: consecutive readings of one series, packed by column into one value.
//!
//! ```text
//! flags     how times and values are packed
//! mask      which optional columns follow
//! count     varint
//! span      last time - first time, in units      (more than one reading)
//! times     the steps but the last, in units      (unless all are equal)
//! values    raw, as 32 bits, or decimals: places, first, differences; one of them if all are equal
//! columns   each: one value for all, or a bitmap of who has one and the values
//! ```
//! The first time is in the key. Readings are in the order of their times; equal times in the order
//! of the commit.

use super::codec::{Input, Undecodable, put_signed, put_text, put_varint};
use crate::model::{Micros, Quality, Reading, SECOND_US};

mod unpack;

pub(super) use unpack::{Part, Values, unpack};

/// Readings in one block.
pub(super) const MAX_READINGS: usize = 1024;

/// From the first time of a block to its last, at most: how far back a search for the newest must look.
pub(super) const MAX_SPAN_US: Micros = 900 * SECOND_US;

/// Texts of one block: a block is unpacked as a whole.
pub(super) const MAX_TEXT_BYTES: usize = 64 << 10;

const UNITS_US: [u32; 3] = [1, 1_000, 1_000_000];
const UNIT: u8 = 0b11;
const EQUAL_STEPS: u8 = 1 << 2;
const EQUAL_VALUES: u8 = 1 << 3;
const DECIMAL: u8 = 1 << 4;
const SINGLE: u8 = 1 << 5;

const QUALITY: u8 = 1;
const INTERPOLATED: u8 = 1 << 1;
const ANIMAL: u8 = 1 << 2;
const ZONE: u8 = 1 << 3;
const BATTERY: u8 = 1 << 4;
const SIGNAL: u8 = 1 << 5;
const SESSION: u8 = 1 << 6;
const METADATA: u8 = 1 << 7;

const SAME: u8 = 1;
const MIXED: u8 = 2;

/// More decimals than sensors have; each costs a try on every value that is no decimal.
const POWERS: [f64; 6] = [1.0, 10.0, 100.0, 1_000.0, 10_000.0, 100_000.0];

/// Appends `run` to `out`.
///
/// It holds 1 to [`MAX_READINGS`] readings in the order of their times, within [`MAX_SPAN_US`].
pub(super) fn pack(out: &mut Vec<u8>, run: &[&Reading]) {
    let start = out.len();
    out.extend_from_slice(&[0, mask(run)]);
    put_varint(out, run.len() as u64);
    let flags = pack_times(out, run) | pack_values(out, run);
    out[start] = flags;
    pack_columns(out, run);
}

/// Readings in a packed block, and its last time.
///
/// # Errors
///
/// When the bytes are no block.
pub(super) fn peek(first_us: Micros, bytes: &[u8]) -> Result<(usize, Micros), Undecodable> {
    let header = Header::decode(&mut Input(bytes), first_us)?;
    Ok((header.count, header.last_us))
}

/// What a block begins with.
struct Header {
    flags: u8,
    mask: u8,
    count: usize,
    unit_us: Micros,
    last_us: Micros,
}

impl Header {
    fn decode(input: &mut Input<'_>, first_us: Micros) -> Result<Self, Undecodable> {
        let [flags, mask] = input.array()?;
        let count = input.number()?;
        if count == 0 || count > MAX_READINGS {
            return Err(Undecodable("its count is out of range"));
        }
        let unit_us =
            UNITS_US.get(usize::from(flags & UNIT)).ok_or(Undecodable("an unknown unit of time"))?;
        let unit_us = Micros::from(*unit_us);
        let span: u32 = if count > 1 { input.number()? } else { 0 };
        let last_us = (Micros::from(span).checked_mul(unit_us))
            .and_then(|span| first_us.checked_add(span))
            .ok_or(Undecodable("a time is out of range"))?;
        Ok(Self { flags, mask, count, unit_us, last_us })
    }
}

fn mask(run: &[&Reading]) -> u8 {
    run.iter().fold(0, |mask, reading| {
        mask | if reading.quality == Quality::Valid { 0 } else { QUALITY }
            | if reading.is_interpolated { INTERPOLATED } else { 0 }
            | if reading.animal_id.is_some() { ANIMAL } else { 0 }
            | if reading.zone_id.is_some() { ZONE } else { 0 }
            | if reading.battery_level.is_some() { BATTERY } else { 0 }
            | if reading.signal_strength.is_some() { SIGNAL } else { 0 }
            | if reading.session_id.is_some() { SESSION } else { 0 }
            | if reading.metadata.is_some() { METADATA } else { 0 }
    })
}

fn steps<'a>(run: &'a [&Reading]) -> impl Iterator<Item = u32> + Clone + 'a {
    // MAX_SPAN_US fits 32 bits.
    run.windows(2).map(|pair| (pair[1].time_us - pair[0].time_us) as u32)
}

fn pack_times(out: &mut Vec<u8>, run: &[&Reading]) -> u8 {
    let Some(first_step) = steps(run).next() else { return 0 };
    let (mut equal, mut seconds, mut millis) = (true, true, true);
    for step in steps(run) {
        equal &= step == first_step;
        seconds &= step % UNITS_US[2] == 0;
        millis &= step % UNITS_US[1] == 0;
    }
    let unit = if seconds { 2 } else { usize::from(millis) };
    let span = steps(run).sum::<u32>();
    put_varint(out, u64::from(span / UNITS_US[unit]));
    if equal {
        return unit as u8 | EQUAL_STEPS;
    }
    for step in steps(run).take(run.len() - 2) {
        put_varint(out, u64::from(step / UNITS_US[unit]));
    }
    unit as u8
}

fn pack_values(out: &mut Vec<u8>, run: &[&Reading]) -> u8 {
    let first = run[0].value;
    let equal = run[1..].iter().all(|reading| reading.value.to_bits() == first.to_bits());
    let (run, mut flags) = if equal { (&run[..1], EQUAL_VALUES) } else { (run, 0) };
    if let Some(places) = decimal_places(run) {
        flags |= DECIMAL;
        out.push(places as u8);
        let mut previous = 0;
        for reading in run {
            let scaled = scale(reading.value, places);
            put_signed(out, scaled - previous);
            previous = scaled;
        }
    } else if run.iter().all(|reading| f64::from(reading.value as f32).to_bits() == reading.value.to_bits()) {
        flags |= SINGLE;
        for reading in run {
            out.extend_from_slice(&(reading.value as f32).to_le_bytes());
        }
    } else {
        for reading in run {
            out.extend_from_slice(&reading.value.to_le_bytes());
        }
    }
    flags
}

fn scale(value: f64, places: usize) -> i64 {
    let scaled = value * POWERS[places];
    (scaled + 0.5_f64.copysign(scaled)) as i64
}

/// Decimals with which every value, times a power of ten, is a whole number that gives it back exactly.
fn decimal_places(run: &[&Reading]) -> Option<usize> {
    let mut places = 0;
    for reading in run {
        while !is_decimal(reading.value, places) {
            places += 1;
            if places == POWERS.len() {
                return None;
            }
        }
    }
    // A later value may have asked for more places, and an earlier one may be too large for them.
    run.iter().all(|reading| is_decimal(reading.value, places)).then_some(places)
}

fn is_decimal(value: f64, places: usize) -> bool {
    const EXACT: f64 = (1_u64 << 52) as f64;
    let scaled = value * POWERS[places];
    // Comparing bits keeps -0.0 out.
    scaled.abs() < EXACT && (scale(value, places) as f64 / POWERS[places]).to_bits() == value.to_bits()
}

fn pack_columns(out: &mut Vec<u8>, run: &[&Reading]) {
    let mask = mask(run);
    if mask & QUALITY != 0 {
        pack_column(out, run, |reading| Some(i64::from(reading.quality as u8)), put_signed);
    }
    if mask & INTERPOLATED != 0 {
        pack_column(out, run, |reading| reading.is_interpolated.then_some(1), put_signed);
    }
    if mask & ANIMAL != 0 {
        pack_column(out, run, |reading| reading.animal_id.map(i64::from), put_signed);
    }
    if mask & ZONE != 0 {
        pack_column(out, run, |reading| reading.zone_id.map(i64::from), put_signed);
    }
    if mask & BATTERY != 0 {
        pack_column(out, run, |reading| reading.battery_level.map(i64::from), put_signed);
    }
    if mask & SIGNAL != 0 {
        pack_column(out, run, |reading| reading.signal_strength.map(i64::from), put_signed);
    }
    if mask & SESSION != 0 {
        pack_column(out, run, |reading| reading.session_id.as_deref(), put_text);
    }
    if mask & METADATA != 0 {
        pack_column(out, run, |reading| reading.metadata.as_deref(), put_text);
    }
}

fn pack_column<'a, T: PartialEq + Copy>(
    out: &mut Vec<u8>,
    run: &'a [&'a Reading],
    get: impl Fn(&'a Reading) -> Option<T>,
    put: impl Fn(&mut Vec<u8>, T),
) {
    let first = get(run[0]);
    if let Some(value) = first
        && run[1..].iter().all(|reading| get(reading) == first)
    {
        out.push(SAME);
        put(out, value);
        return;
    }
    out.push(MIXED);
    for eight in run.chunks(8) {
        let present = eight.iter().enumerate().filter(|(_, reading)| get(reading).is_some());
        out.push(present.fold(0, |bits, (index, _)| bits | 1 << index));
    }
    for value in run.iter().filter_map(|reading| get(reading)) {
        put(out, value);
    }
}

#[cfg(test)]
mod tests;
