//! A row of rollups: the buckets of one level of a series on one UTC day.
//!
//! ```text
//! each bucket: slot (its place in the day), count, valid, error, flags (which percentiles follow),
//!              sum, min, max, squares, [median], [95th percentile]
//! ```
//! Counts are varints, values 64-bit floats.

use std::collections::BTreeMap;

use super::codec::{Input, Undecodable, put_varint};
use crate::{
    model::{DAY_US, Micros},
    store::{Bucket, Level},
};

const MEDIAN: u8 = 1;
const P95: u8 = 1 << 1;

/// The buckets of a day, by their start.
pub(super) type Day = BTreeMap<Micros, Bucket>;

pub(super) fn encode(level: Level, buckets: &Day) -> Vec<u8> {
    let mut out = Vec::with_capacity(buckets.len() * 48);
    for bucket in buckets.values() {
        put_varint(&mut out, (bucket.start_us.rem_euclid(DAY_US) / level.width_us()) as u64);
        for count in [bucket.count, bucket.valid_count, bucket.error_count] {
            put_varint(&mut out, count);
        }
        let flag = |percentile: Option<f64>, flag| if percentile.is_some() { flag } else { 0 };
        out.push(flag(bucket.median, MEDIAN) | flag(bucket.p95, P95));
        let values = [bucket.sum, bucket.min, bucket.max, bucket.squares];
        for value in values.into_iter().chain(bucket.median).chain(bucket.p95) {
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
    out
}

/// Shows the buckets of a row, in order.
///
/// # Errors
///
/// When the bytes are no row.
pub(super) fn decode(
    level: Level,
    day: i64,
    bytes: &[u8],
    mut see: impl FnMut(Bucket),
) -> Result<(), Undecodable> {
    let mut input = Input(bytes);
    while !input.0.is_empty() {
        let slot: u16 = input.number()?;
        let start_us = day.saturating_mul(DAY_US).saturating_add(Micros::from(slot) * level.width_us());
        let (count, valid_count, error_count) = (input.varint()?, input.varint()?, input.varint()?);
        let flags = input.byte()?;
        let mut real = || input.array().map(f64::from_le_bytes);
        let (sum, min, max, squares) = (real()?, real()?, real()?, real()?);
        let median = (flags & MEDIAN != 0).then(&mut real).transpose()?;
        let p95 = (flags & P95 != 0).then(&mut real).transpose()?;
        if count == 0 || Micros::from(slot) * level.width_us() >= DAY_US {
            return Err(Undecodable("a bucket is out of range"));
        }
        see(Bucket { start_us, count, valid_count, error_count, sum, min, max, squares, median, p95 });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    prop_compose! {
        fn bucket(level: Level)(
            slot in 0..DAY_US / level.width_us(),
            count in 1..u64::MAX,
            values in prop::array::uniform4(any::<f64>().prop_filter("compared", |value| !value.is_nan())),
            median in prop::option::of(-1e9..1e9_f64),
            p95 in prop::option::of(-1e9..1e9_f64),
        ) -> Bucket {
            let [sum, min, max, squares] = values;
            let start_us = -3 * DAY_US + slot * level.width_us();
            Bucket { start_us, count, valid_count: count - 1, error_count: 1, sum, min, max, squares, median, p95 }
        }
    }

    proptest! {
        #[test]
        fn a_row_reads_back(
            (level, buckets) in prop::sample::select(Level::ALL.to_vec())
                .prop_flat_map(|level| (Just(level), prop::collection::vec(bucket(level), 0..100)))
        ) {
            let day: Day = buckets.into_iter().map(|bucket| (bucket.start_us, bucket)).collect();
            let mut read = Day::new();
            decode(level, -3, &encode(level, &day), |bucket| {
                let _ = read.insert(bucket.start_us, bucket);
            })
            .unwrap();
            prop_assert_eq!(read, day);
        }

        #[test]
        fn any_bytes_decode_or_fail(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(Level::Hour, 20_000, &bytes, |_| {});
        }
    }
}
