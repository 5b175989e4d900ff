//! Times as people write and read them.

use chrono::{DateTime, NaiveDate, SecondsFormat, Utc};

/// Microseconds since 1970.
pub(crate) type Micros = i64;

/// Reads "now", an age such as "-24h", a date (its start in UTC) or a time with its offset.
pub(crate) fn parse(text: &str) -> Result<Micros, String> {
    let now = Utc::now();
    if text == "now" {
        return Ok(now.timestamp_micros());
    }
    if let Some(age) = text.strip_prefix('-') {
        let age =
            humantime::parse_duration(age).map_err(|error| format!("no age such as -24h or -7d: {error}"))?;
        let micros = i64::try_from(age.as_micros()).map_err(|_| "older than time itself".to_owned())?;
        return Ok(now.timestamp_micros().saturating_sub(micros));
    }
    if let Ok(date) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Ok(date.and_time(chrono::NaiveTime::MIN).and_utc().timestamp_micros());
    }
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Ok(time.timestamp_micros()),
        Err(_) => {
            Err("expected now, -24h, 2026-11-24, or a time with its offset such as 2026-11-24T06:00:00+01:00"
                .to_owned())
        }
    }
}

/// As RFC 3339 in UTC, with as many decimals as it needs.
pub(crate) fn show(time_us: Micros) -> String {
    DateTime::from_timestamp_micros(time_us)
        .map_or_else(|| time_us.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// Days before today in a time zone, as a date; of no known zone: UTC.
pub(crate) fn days_ago(days: i64, time_zone: &str) -> String {
    let zone: chrono_tz::Tz = time_zone.parse().unwrap_or_default();
    (Utc::now().with_timezone(&zone).date_naive() - chrono::TimeDelta::days(days)).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_they_are_shown() {
        for text in ["2026-11-24T05:00:00Z", "1969-12-31T23:59:59.500Z", "2026-11-24T05:00:00.000001Z"] {
            assert_eq!(show(parse(text).unwrap()), text);
        }
        assert_eq!(show(parse("2026-11-24T06:00:00+05:45").unwrap()), "2026-11-24T00:15:00Z");
        assert_eq!(show(parse("2026-11-24").unwrap()), "2026-11-24T00:00:00Z");
        let now = Utc::now().timestamp_micros();
        assert!((parse("-1h").unwrap() - (now - 3_600_000_000)).abs() < 60_000_000);
        let today = |zone| NaiveDate::parse_from_str(&days_ago(0, zone), "%Y-%m-%d").unwrap();
        // Noon on the line: one of them has always a day more.
        assert!(today("Pacific/Kiritimati") > today("Pacific/Niue"));
        for text in ["", "yesterday", "2026-11-24T05:00:00", "24.11.2026", "-", "-x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
