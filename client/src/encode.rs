//! Encodes readings without going through the generated types.
//!
//! Readings are by far the most that is ever encoded, so this is written out by hand: one pass, no
//! allocation, straight into the batch. The bytes are those that prost would write (tested), so
//! that client and server agree on a batch's encoded length, in which credit is counted.

use herdstream_proto::v1;
use prost::Message as _;

use crate::{
    item::{Item, Milking, Reading},
    series::{SeriesKey, SeriesRef},
};

/// Tag of `Batch.series`.
pub(crate) const SERIES_TAG: u8 = 2 << 3 | 2;
/// Tag of `Batch.readings`.
pub(crate) const READINGS_TAG: u8 = 3 << 3 | 2;
/// Tag of `Batch.milkings`.
pub(crate) const MILKINGS_TAG: u8 = 4 << 3 | 2;
/// Tag of `Batch.offset`.
pub(crate) const OFFSET_TAG: u8 = 1 << 3;
/// Tag of `StreamRequest.batch`.
pub(crate) const STREAM_BATCH_TAG: u8 = 2 << 3 | 2;

/// Encoded bytes of a reading without its texts, tag and length included, never exceed this.
const READING_BYTES: usize = 80;
/// The same for a milking.
const MILKING_BYTES: usize = 240;

/// What can be encoded as an element of a batch. Not for use outside this crate.
pub trait Encode: Send + Sync {
    /// The series it refers to, if it is a reading.
    #[doc(hidden)]
    fn series(&self) -> Option<SeriesRef>;
    /// An upper bound of the bytes that `encode` appends.
    #[doc(hidden)]
    fn bound(&self) -> usize;
    /// Appends it as a field of `Batch`.
    #[doc(hidden)]
    fn encode(&self, now_us: i64, out: &mut Vec<u8>);
}

impl Encode for Reading {
    #[inline]
    fn series(&self) -> Option<SeriesRef> {
        Some(self.series)
    }

    #[inline]
    fn bound(&self) -> usize {
        READING_BYTES
            + self.session_id.as_ref().map_or(0, |text| text.len() + 6)
            + self.metadata.as_ref().map_or(0, |text| text.len() + 6)
    }

    #[inline]
    fn encode(&self, now_us: i64, out: &mut Vec<u8>) {
        let mut fields = Fields { bytes: [0; READING_BYTES], len: 2 };
        let ref_ = self.series.0;
        if ref_ != 0 {
            fields.byte(1 << 3);
            fields.varint(u64::from(ref_));
        }
        let time_us = self.time_us.unwrap_or(now_us);
        if time_us != 0 {
            fields.byte(2 << 3 | 1);
            fields.eight(time_us.to_le_bytes());
        }
        if self.value != 0.0 {
            fields.byte(3 << 3 | 1);
            fields.eight(self.value.to_le_bytes());
        }
        if self.is_interpolated {
            fields.byte(4 << 3);
            fields.byte(1);
        }
        if let Some(id) = self.animal_id {
            fields.byte(5 << 3);
            fields.varint(i64::from(id) as u64);
        }
        if let Some(id) = self.zone_id {
            fields.byte(6 << 3);
            fields.varint(i64::from(id) as u64);
        }
        if self.session_id.is_some() || self.metadata.is_some() {
            return self.encode_with_texts(&fields, out);
        }
        self.status(&mut fields);
        // Without texts the length always fits one byte.
        fields.bytes[0] = READINGS_TAG;
        fields.bytes[1] = (fields.len - 2) as u8;
        out.extend_from_slice(&fields.bytes[..fields.len]);
    }
}

impl Reading {
    #[inline]
    fn status(&self, fields: &mut Fields) {
        if let Some(percent) = self.battery_level {
            fields.byte(8 << 3);
            fields.varint(zigzag(percent));
        }
        if let Some(dbm) = self.signal_strength {
            fields.byte(9 << 3);
            fields.varint(zigzag(dbm));
        }
    }

    #[cold]
    fn encode_with_texts(&self, first: &Fields, out: &mut Vec<u8>) {
        let mut status = Fields { bytes: [0; READING_BYTES], len: 0 };
        self.status(&mut status);
        let text_len = |text: &Option<Box<str>>| {
            text.as_ref().map_or(0, |text| 1 + varint_len(text.len() as u64) + text.len())
        };
        let len = first.len - 2 + status.len + text_len(&self.session_id) + text_len(&self.metadata);
        out.push(READINGS_TAG);
        put_varint(len as u64, out);
        out.extend_from_slice(&first.bytes[2..first.len]);
        if let Some(text) = &self.session_id {
            put_bytes(7 << 3 | 2, text.as_bytes(), out);
        }
        out.extend_from_slice(&status.bytes[..status.len]);
        if let Some(text) = &self.metadata {
            put_bytes(10 << 3 | 2, text.as_bytes(), out);
        }
    }
}

impl Encode for Milking {
    fn series(&self) -> Option<SeriesRef> {
        None
    }

    fn bound(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        MILKING_BYTES + self.session_id.len() + text(&self.milking_type) + text(&self.meter_status)
    }

    fn encode(&self, now_us: i64, out: &mut Vec<u8>) {
        put_bytes(MILKINGS_TAG, &self.to_wire(now_us).encode_to_vec(), out);
    }
}

impl Encode for Item {
    #[inline]
    fn series(&self) -> Option<SeriesRef> {
        match self {
            Self::Reading(reading) => reading.series(),
            Self::Milking(_) => None,
        }
    }

    #[inline]
    fn bound(&self) -> usize {
        match self {
            Self::Reading(reading) => reading.bound(),
            Self::Milking(milking) => milking.bound(),
        }
    }

    #[inline]
    fn encode(&self, now_us: i64, out: &mut Vec<u8>) {
        match self {
            Self::Reading(reading) => reading.encode(now_us, out),
            Self::Milking(milking) => milking.encode(now_us, out),
        }
    }
}

/// Encodes a series as a field of `Batch`.
pub(crate) fn series(ref_: u32, key: &SeriesKey) -> Vec<u8> {
    let SeriesKey { farm_id, device_uid, device_type, metric_name, metric_unit } = key.clone();
    let series = v1::Series { r#ref: ref_, farm_id, device_uid, device_type, metric_name, metric_unit };
    let mut out = Vec::with_capacity(series.encoded_len() + 4);
    put_bytes(SERIES_TAG, &series.encode_to_vec(), &mut out);
    out
}

/// Appends a length-delimited field.
pub(crate) fn put_bytes(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag);
    put_varint(bytes.len() as u64, out);
    out.extend_from_slice(bytes);
}

/// Appends a varint.
pub(crate) fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes of a varint.
pub(crate) const fn varint_len(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

fn zigzag(value: i16) -> u64 {
    let value = i32::from(value);
    u64::from((value << 1 ^ value >> 31) as u32)
}

/// A small buffer on the stack: one copy into the batch per reading instead of one per field.
struct Fields {
    bytes: [u8; READING_BYTES],
    len: usize,
}

impl Fields {
    #[inline]
    fn byte(&mut self, byte: u8) {
        self.bytes[self.len] = byte;
        self.len += 1;
    }

    #[inline]
    fn eight(&mut self, bytes: [u8; 8]) {
        self.bytes[self.len..self.len + 8].copy_from_slice(&bytes);
        self.len += 8;
    }

    #[inline]
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.byte(value as u8 | 0x80);
            value >>= 7;
        }
        self.byte(value as u8);
    }
}

#[cfg(test)]
mod tests {
    use proptest::{option, prelude::*};

    use super::*;

    fn readings() -> impl Strategy<Value = Reading> {
        (
            any::<u32>(),
            option::of(any::<i64>()),
            any::<f64>(),
            any::<bool>(),
            (option::of(any::<i32>()), option::of(any::<i32>())),
            (option::of(any::<i16>()), option::of(any::<i16>())),
            (option::of(".{0,80}"), option::of(".{0,300}")),
        )
            .prop_map(|(ref_, time_us, value, is_interpolated, ids, status, texts)| Reading {
                series: SeriesRef(ref_),
                time_us,
                value,
                is_interpolated,
                animal_id: ids.0,
                zone_id: ids.1,
                battery_level: status.0,
                signal_strength: status.1,
                session_id: texts.0.map(Into::into),
                metadata: texts.1.map(Into::into),
            })
    }

    proptest! {
        #[test]
        fn a_reading_is_encoded_as_prost_does(reading in readings(), now_us in 1..i64::MAX) {
            let wire = v1::Reading {
                series_ref: reading.series.0,
                time_us: reading.time_us.unwrap_or(now_us),
                value: reading.value,
                is_interpolated: reading.is_interpolated,
                animal_id: reading.animal_id,
                zone_id: reading.zone_id,
                session_id: reading.session_id.as_deref().map(Into::into),
                battery_level: reading.battery_level.map(Into::into),
                signal_strength: reading.signal_strength.map(Into::into),
                metadata: reading.metadata.as_deref().map(Into::into),
            };
            let expected = v1::Batch { readings: vec![wire], ..Default::default() }.encode_to_vec();
            let mut out = Vec::new();
            reading.encode(now_us, &mut out);
            prop_assert_eq!(&out, &expected);
            prop_assert!(out.len() <= reading.bound());
        }

        #[test]
        fn varints_have_the_length_they_say(value: u64) {
            let mut out = Vec::new();
            put_varint(value, &mut out);
            prop_assert_eq!(out.len(), varint_len(value));
        }
    }

    #[test]
    fn a_full_milking_stays_within_its_bound() {
        let milking = Milking {
            time_us: Some(-1),
            milk_meter_id: -1,
            animal_id: -1,
            farm_id: -1,
            session_id: "s".repeat(300),
            yield_kg: 1.5,
            duration_seconds: Some(-1),
            flow_rate_kg_min: Some(1.5),
            conductivity_ms: Some(1.5),
            temperature_c: Some(1.5),
            blood_detected: true,
            fat_percent: Some(1.5),
            protein_percent: Some(1.5),
            lactose_percent: Some(1.5),
            somatic_cell_count: Some(-1),
            mastitis_risk_score: Some(1.5),
            session_start_us: Some(-1),
            session_end_us: Some(-1),
            milking_type: Some("m".repeat(300)),
            meter_status: Some("m".repeat(300)),
        };
        let mut out = Vec::new();
        milking.encode(0, &mut out);
        assert!(out.len() <= milking.bound(), "{} bytes above the bound of {}", out.len(), milking.bound());
        let batch = v1::Batch::decode(out.as_slice()).expect("a batch");
        assert_eq!(batch.milkings, [milking.to_wire(0)]);
    }
}
