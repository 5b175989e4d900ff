//! Every bound, on both sides.

use super::*;
use crate::{
    ingest::IncomingReading,
    model::{Milking, SeriesKey},
};
use RejectionCode as Code;

const NOW: Micros = 1_772_366_400_000_000;
const DAY: Duration = Duration::from_hours(24);

fn window() -> TimeWindow {
    Validator::new(60 * DAY, Duration::from_mins(5)).window(NOW, NOW)
}

fn sound() -> IncomingReading {
    IncomingReading { series_ref: 1, time_us: NOW, value: 38.6, ..IncomingReading::default() }
}

/// What is wrong with a reading of a metric after a change; None: nothing.
fn verdict(metric: &str, change: impl Fn(&mut IncomingReading)) -> Option<(Code, &'static str)> {
    let mut reading = sound();
    change(&mut reading);
    check_reading(&reading, value_range(metric), &window()).err().map(|fault| (fault.code, fault.field))
}

#[test]
fn values_have_the_range_of_their_metric() {
    let cases = [("temperature", -50.0, 100.0), ("activity", 0.0, 1000.0), ("yield", 0.0, 100.0)];
    for (metric, low, high) in cases.into_iter().chain([("rumination", -1e140, 1e140)]) {
        for bound in [low, high] {
            assert_eq!(verdict(metric, |reading| reading.value = bound), None, "{metric} {bound}");
        }
        for beyond in [f64::next_down(low), f64::next_up(high), f64::MAX, f64::MIN] {
            let refused = Some((Code::OutOfRange, "value"));
            assert_eq!(verdict(metric, |reading| reading.value = beyond), refused, "{metric} {beyond}");
        }
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let refused = Some((Code::NotFinite, "value"));
            assert_eq!(verdict(metric, |reading| reading.value = odd), refused, "{metric} {odd}");
        }
    }
}

#[test]
fn times_are_within_the_window() {
    let (oldest, newest) = (NOW - 60 * 86_400_000_000, NOW + 300_000_000);
    let cases = [
        (oldest, None),
        (newest, None),
        (oldest - 1, Some(Code::TooLate)),
        (newest + 1, Some(Code::TimeInFuture)),
        (0, Some(Code::Required)),
        (i64::MIN, Some(Code::TooLate)),
        (i64::MAX, Some(Code::TimeInFuture)),
    ];
    for (time_us, expected) in cases {
        let expected = expected.map(|code| (code, "time_us"));
        assert_eq!(verdict("activity", |reading| reading.time_us = time_us), expected, "{time_us}");
        let milking = Milking { time_us, ..milking() };
        let found = check_milking(&milking, &window()).err().map(|fault| (fault.code, fault.field));
        assert_eq!(found, expected, "{time_us}");
    }
}

#[test]
fn whole_numbers_are_what_a_column_takes() {
    type Set = fn(&mut IncomingReading, i32);
    let fields: [(&str, Set, i32, i32); 4] = [
        ("animal_id", |reading, value| reading.animal_id = Some(value), 1, i32::MAX),
        ("zone_id", |reading, value| reading.zone_id = Some(value), 1, i32::MAX),
        ("battery_level", |reading, value| reading.battery_level = Some(value), 0, 100),
        ("signal_strength", |reading, value| reading.signal_strength = Some(value), -32_768, 32_767),
    ];
    for (field, set, low, high) in fields {
        assert_eq!(verdict("activity", |reading| set(reading, low)), None, "{field}");
        assert_eq!(verdict("activity", |reading| set(reading, high)), None, "{field}");
        for beyond in [low - 1, high.saturating_add(1)] {
            let found = verdict("activity", |reading| set(reading, beyond));
            let refused = found.filter(|(code, at)| *code != Code::TextTooLong && *at == field);
            assert_eq!(refused.is_some(), beyond < low || beyond > high, "{field} = {beyond}");
        }
    }
}

#[test]
fn texts_are_short_and_without_nul() {
    let session = |text: &str| {
        let text = text.to_owned();
        verdict("activity", move |reading| reading.session_id = Some(text.clone()))
    };
    assert_eq!(session(&"é".repeat(64)), None);
    assert_eq!(session(&"é".repeat(65)), Some((Code::TextTooLong, "session_id")));
    assert_eq!(session("a\0b"), Some((Code::TextInvalid, "session_id")));
}

#[test]
fn metadata_is_an_object_that_jsonb_takes() {
    let long = format!(r#"{{"a":"{}"}}"#, "x".repeat(8192 - 8));
    assert_eq!(long.len(), 8192);
    for (text, expected) in [
        ("{}", None),
        (r#"{"a":[1,{"b":null}]}"#, None),
        (&long, None),
        (&format!("{long} "), Some(Code::TextTooLong)),
        ("[]", Some(Code::MetadataInvalid)),
        ("7", Some(Code::MetadataInvalid)),
        ("{", Some(Code::MetadataInvalid)),
        ("{\"a\":1e400000}", Some(Code::MetadataInvalid)),
        (r#"{"a":"\u0000"}"#, Some(Code::MetadataInvalid)),
        (r#"{"a":{"\u0000":1}}"#, Some(Code::MetadataInvalid)),
        (r#"{"a":"\ud800"}"#, Some(Code::MetadataInvalid)),
    ] {
        let found = verdict("activity", |reading| reading.metadata = Some(text.to_owned()));
        assert_eq!(found, expected.map(|code| (code, "metadata")), "{}", quote(text));
    }
}

fn milking() -> Milking {
    Milking {
        time_us: NOW,
        milk_meter_id: 1,
        animal_id: 1,
        farm_id: 1,
        session_id: "s".to_owned(),
        yield_kg: 12.0,
        ..Milking::default()
    }
}

#[test]
fn milkings_are_checked_field_by_field() {
    type Change = fn(&mut Milking);
    let changes: [(Change, Option<(Code, &str)>); 14] = [
        (|_| (), None),
        (|milking| milking.yield_kg = 100.0, None),
        (|milking| milking.yield_kg = 100.1, Some((Code::OutOfRange, "yield_kg"))),
        (|milking| milking.yield_kg = f64::NAN, Some((Code::NotFinite, "yield_kg"))),
        (|milking| milking.milk_meter_id = 0, Some((Code::Required, "milk_meter_id"))),
        (|milking| milking.animal_id = -1, Some((Code::OutOfRange, "animal_id"))),
        (|milking| milking.farm_id = 0, Some((Code::Required, "farm_id"))),
        (|milking| milking.session_id.clear(), Some((Code::Required, "session_id"))),
        (|milking| milking.fat_percent = Some(f64::INFINITY), Some((Code::NotFinite, "fat_percent"))),
        (|milking| milking.duration_seconds = Some(-1), Some((Code::OutOfRange, "duration_seconds"))),
        (|milking| milking.somatic_cell_count = Some(0), None),
        (|milking| milking.session_start_us = Some(i64::MAX), Some((Code::OutOfRange, "session_start_us"))),
        (|milking| milking.milking_type = Some("x".repeat(17)), Some((Code::TextTooLong, "milking_type"))),
        (|milking| milking.meter_status = Some("\0".into()), Some((Code::TextInvalid, "meter_status"))),
    ];
    for (number, (change, expected)) in changes.into_iter().enumerate() {
        let mut milking = milking();
        change(&mut milking);
        let found = check_milking(&milking, &window()).err().map(|fault| (fault.code, fault.field));
        assert_eq!(found, expected, "change {number}");
    }
}

#[test]
fn series_are_checked_field_by_field() {
    type Change = fn(&mut SeriesKey);
    let sound = SeriesKey {
        farm_id: 1,
        device_uid: "é".repeat(64),
        device_type: "t".repeat(32),
        metric_name: "m".repeat(64),
        metric_unit: String::new(),
    };
    assert_eq!(check_series(&sound), Ok(()));
    let changes: [(Change, Code, &str); 6] = [
        (|key| key.farm_id = 0, Code::Required, "farm_id"),
        (|key| key.device_uid.push('x'), Code::TextTooLong, "device_uid"),
        (|key| key.device_type.push('x'), Code::TextTooLong, "device_type"),
        (|key| key.metric_name.clear(), Code::Required, "metric_name"),
        (|key| key.metric_unit = "u".repeat(17), Code::TextTooLong, "metric_unit"),
        (|key| key.metric_unit = "\0".into(), Code::TextInvalid, "metric_unit"),
    ];
    for (change, code, field) in changes {
        let mut key = sound.clone();
        change(&mut key);
        let fault = check_series(&key).expect_err(field);
        assert_eq!((fault.code, fault.field), (code, field));
    }
}
