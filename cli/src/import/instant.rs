//! Times as files have them.

use chrono::{DateTime, NaiveDateTime, TimeZone as _};
use chrono_tz::Tz;

use super::source::Value;

/// Unit of times that are numbers, counted from 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Unit {
    /// Seconds
    S,
    /// Milliseconds
    Ms,
    /// Microseconds
    Us,
    /// Nanoseconds
    Ns,
}

/// Microseconds since 1970.
pub(super) fn micros(value: &Value, zone: Option<Tz>, unit: Option<Unit>) -> Result<i64, String> {
    match value {
        Value::Time(time_us) => Ok(*time_us),
        Value::LocalTime(local_us) => match DateTime::from_timestamp_micros(*local_us) {
            Some(time) => of_local(time.naive_utc(), zone),
            None => Err(format!("{local_us} is beyond all times")),
        },
        Value::Integer(number) => of_number(*number, unit),
        Value::Real(seconds) if seconds.is_finite() && unit.is_none_or(|unit| unit == Unit::S) => {
            Ok((seconds * 1e6).round() as i64)
        }
        Value::Text(text) => match text.parse::<i64>() {
            Ok(number) => of_number(number, unit),
            Err(_) => of_text(text, zone),
        },
        other => Err(format!("{other} is no time")),
    }
}

/// By its size, unless the unit is given: seconds up to the year 5000, and so on.
fn of_number(number: i64, unit: Option<Unit>) -> Result<i64, String> {
    let unit = unit.unwrap_or(match number.unsigned_abs() {
        0..100_000_000_000 => Unit::S,
        100_000_000_000..100_000_000_000_000 => Unit::Ms,
        100_000_000_000_000..100_000_000_000_000_000 => Unit::Us,
        _ => Unit::Ns,
    });
    let micros = match unit {
        Unit::S => number.checked_mul(1_000_000),
        Unit::Ms => number.checked_mul(1_000),
        Unit::Us => Some(number),
        Unit::Ns => Some(number.div_euclid(1_000)),
    };
    micros.ok_or_else(|| format!("{number} is beyond all times"))
}

fn of_text(text: &str, zone: Option<Tz>) -> Result<i64, String> {
    // As RFC 3339, as PostgreSQL writes it, and with a space for the T.
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(time.timestamp_micros());
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M:%S%.f%#z"] {
        if let Ok(time) = DateTime::parse_from_str(text, format) {
            return Ok(time.timestamp_micros());
        }
    }
    for format in ["%Y-%m-%d %H:%M:%S%.f", "%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M"] {
        if let Ok(time) = NaiveDateTime::parse_from_str(text, format) {
            return of_local(time, zone);
        }
    }
    Err(format!("{text:?} is no time such as 2026-11-24T05:00:00Z"))
}

/// A time of a clock on the wall; the first of two, where the clock was set back.
fn of_local(time: NaiveDateTime, zone: Option<Tz>) -> Result<i64, String> {
    let Some(zone) = zone else {
        return Err(format!("{time} does not say in which zone: give one with --time-zone, as in UTC"));
    };
    let local = zone.from_local_datetime(&time).earliest();
    local
        .map(|time| time.timestamp_micros())
        .ok_or_else(|| format!("{time} does not exist in {zone}, where the clock jumped over it"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_every_form_are_the_same_instant() {
        let berlin = Some(chrono_tz::Europe::Berlin);
        let wanted = 1_795_500_000_000_000;
        for text in [
            "2026-11-24T06:00:00Z",
            "2026-11-24T07:00:00+01:00",
            "2026-11-24 06:00:00+00",
            "2026-11-24 07:00:00.000000+01:00",
            "2026-11-24 07:00:00",
            "2026-11-24T07:00:00.0",
            "2026-11-24 07:00",
            "1795500000",
            "1795500000000",
            "1795500000000000",
            "1795500000000000000",
        ] {
            assert_eq!(micros(&Value::Text(text.to_owned()), berlin, None), Ok(wanted), "{text}");
        }
        assert_eq!(micros(&Value::LocalTime(wanted + 3_600_000_000), berlin, None), Ok(wanted));
        assert_eq!(micros(&Value::Integer(1_795_500_000), None, Some(Unit::Ms)), Ok(1_795_500_000_000));
        assert_eq!(micros(&Value::Real(1_795_500_000.25), None, None), Ok(wanted + 250_000));
    }

    #[test]
    fn what_is_no_instant_says_why() {
        let text = |text: &str| Value::Text(text.to_owned());
        let refused = |value: Value, zone| micros(&value, zone, None).unwrap_err();
        assert!(refused(text("2026-11-24 07:00:00"), None).contains("--time-zone"));
        assert!(refused(Value::LocalTime(0), None).contains("--time-zone"));
        assert!(refused(text("2026-03-29 02:30:00"), Some(chrono_tz::Europe::Berlin)).contains("jumped"));
        assert!(refused(text("24.11.2026"), None).contains("no time"));
        assert!(refused(Value::Flag(true), None).contains("no time"));
    }
}
