use proptest::{collection::vec, option, prelude::*, sample::select};

use super::*;
use crate::{model::SeriesId, store::Tag};

fn plain(time_us: Micros, value: f64) -> Reading {
    Reading::new(SeriesId(7), time_us, value)
}

fn packed(readings: &[Reading]) -> Vec<u8> {
    let run: Vec<_> = readings.iter().collect();
    let mut out = Vec::new();
    pack(&mut out, &run);
    out
}

/// Bit for bit: `==` takes 0.0 for -0.0.
fn assert_same(found: &[Reading], expected: &[Reading]) {
    assert_eq!(found, expected);
    let bits =
        |readings: &[Reading]| readings.iter().map(|reading| reading.value.to_bits()).collect::<Vec<_>>();
    assert_eq!(bits(found), bits(expected));
}

fn assert_comes_back(readings: &[Reading]) -> usize {
    let bytes = packed(readings);
    let first_us = readings[0].time_us;
    let mut found = vec![plain(0, 0.0)];
    unpack(SeriesId(7), first_us, &bytes, &mut found).expect("it unpacks");
    assert_same(&found[1..], readings);
    assert_eq!(peek(first_us, &bytes), Ok((readings.len(), readings[readings.len() - 1].time_us)));
    for tag in [None, Some(Tag::Animal(1)), Some(Tag::Zone(0))] {
        let mut values = Values::default();
        values.unpack(first_us, &bytes, tag).expect("it unpacks");
        let told = || readings.iter().filter(|reading| tag.is_none_or(|tag| tag.is_on(reading)));
        let found = values.all();
        assert!(found.times_us.iter().copied().eq(told().map(|reading| reading.time_us)));
        let bits = found.values.iter().map(|value| value.to_bits());
        assert!(bits.eq(told().map(|reading| reading.value.to_bits())));
    }
    bytes.len()
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-100_000..100_000).prop_map(|n| f64::from(n) / 1000.0),
        (-100_000..100_000, 0..9).prop_map(|(n, places)| f64::from(n) / 10_f64.powi(places)),
        any::<f32>().prop_map(f64::from),
        any::<f64>(),
        select(vec![0.0, -0.0, f64::MAX, f64::MIN_POSITIVE, 4_503_599_627_370_496.0, 1e300]),
    ]
}

prop_compose! {
    fn reading()(
        step_us in prop_oneof![0..3_i64, Just(1000), Just(SECOND_US), 0..800_000_i64],
        value in value(),
        is_interpolated in any::<bool>(),
        ids in (option::of(any::<i32>()), option::of(any::<i32>())),
        told in (option::of(any::<i16>()), option::of(any::<i16>())),
        texts in (option::of("[a-zä]{0,6}"), option::of("\\PC{0,20}")),
    ) -> (Micros, Reading) {
        let mut reading = plain(step_us, value);
        reading.is_interpolated = is_interpolated;
        (reading.animal_id, reading.zone_id) = ids;
        (reading.battery_level, reading.signal_strength) = told;
        reading.session_id = texts.0.map(Into::into);
        reading.metadata = texts.1.map(Into::into);
        (step_us, reading)
    }
}

prop_compose! {
    /// Where some columns are the same for all, as they mostly are.
    fn run()(
        first_us in prop_oneof![any::<i32>().prop_map(i64::from), Just(1_772_366_400 * SECOND_US)],
        readings in vec(reading(), 1..80),
        same in any::<u8>(),
        equal_steps in any::<bool>(),
    ) -> Vec<Reading> {
        let first = readings[0].1.clone();
        let first_step = readings[0].0;
        let mut time_us = first_us;
        readings.into_iter().map(|(step_us, mut reading)| {
            reading.time_us = time_us;
            time_us += if equal_steps { first_step } else { step_us };
            if same & QUALITY != 0 { reading.value = first.value }
            if same & INTERPOLATED != 0 { reading.is_interpolated = false }
            if same & ANIMAL != 0 { reading.animal_id = first.animal_id }
            if same & ZONE != 0 { reading.zone_id = None }
            if same & BATTERY != 0 { reading.battery_level = first.battery_level }
            if same & SIGNAL != 0 { reading.signal_strength = first.signal_strength }
            if same & SESSION != 0 { reading.session_id.clone_from(&first.session_id) }
            if same & METADATA != 0 { reading.metadata = None }
            reading
        }).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_packed_comes_back(run in run()) {
        // NaN is no reading's value, but must not break the others.
        prop_assume!(run.iter().all(|reading| !reading.value.is_nan()));
        assert_comes_back(&run);
    }

    #[test]
    fn any_bytes_are_a_block_or_an_error(bytes in vec(any::<u8>(), 0..200), first_us in any::<i64>()) {
        let mut out = Vec::new();
        match unpack(SeriesId(1), first_us, &bytes, &mut out) {
            Ok(()) => prop_assert_eq!(out.len(), peek(first_us, &bytes).expect("it unpacks").0),
            Err(_) => prop_assert!(out.is_empty()),
        }
    }

    #[test]
    fn a_changed_byte_does_no_harm(run in run(), at in any::<prop::sample::Index>(), to in any::<u8>()) {
        let mut bytes = packed(&run);
        let at = at.index(bytes.len());
        bytes[at] = to;
        let mut out = Vec::new();
        let _ = Values::default().unpack(run[0].time_us, &bytes, None);
        if unpack(SeriesId(1), run[0].time_us, &bytes, &mut out).is_ok() {
            prop_assert!(out.is_sorted_by_key(|reading| reading.time_us));
        }
    }
}

#[test]
fn what_sensors_send_takes_few_bytes() {
    let temperatures: Vec<_> =
        (0..60).map(|n| plain(n * 10 * SECOND_US, f64::from(385 + n as i32 % 7) / 10.0)).collect();
    let bytes = assert_comes_back(&temperatures);
    assert!(bytes <= 60 + 10, "{bytes} bytes for 60 temperatures");
    let jittered = |n: i64| plain(n * 10 * SECOND_US + n * n % 17 * 1000, 38.5);
    let bytes = assert_comes_back(&(0..60).map(jittered).collect::<Vec<_>>());
    assert!(bytes <= 2 * 60 + 10, "{bytes} bytes for 60 equal values at odd times");
}

#[test]
fn the_bounds_can_be_packed() {
    let most: Vec<_> = (0..MAX_READINGS).map(|_| plain(0, 1.5)).collect();
    assert_comes_back(&most);
    assert_comes_back(&[plain(0, 1.0), plain(MAX_SPAN_US, 2.0)]);
    assert_comes_back(&[plain(i64::MIN, 1.0)]);
    assert_comes_back(&[plain(i64::MAX - 5, 1.0), plain(i64::MAX, 1.0)]);
}
