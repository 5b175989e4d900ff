//! Times as people write and read them.

use chrono::{DateTime, NaiveDate, NaiveTime, SecondsFormat, TimeDelta, TimeZone as _, Utc};
use chrono_tz::Tz;

use crate::refusal::Misused;

/// Microseconds since 1970.
pub(crate) type Micros = i64;

/// A moment as it was typed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Moment {
    At(Micros),
    /// The start of a day, of a zone that another option names.
    Day(NaiveDate),
}

impl Moment {
    /// The moment; of no zone: UTC.
    pub(crate) fn micros(self, zone: Option<Tz>) -> Micros {
        match self {
            Self::At(time_us) => time_us,
            Self::Day(date) => start_of(date, zone.unwrap_or_default()),
        }
    }
}

/// Reads "now", an age such as "-24h", a date (its start) or a time with its offset.
pub(crate) fn parse(text: &str) -> Result<Moment, String> {
    let now = Utc::now();
    if text == "now" {
        return Ok(Moment::At(now.timestamp_micros()));
    }
    if let Some(age) = text.strip_prefix('-') {
        let age =
            humantime::parse_duration(age).map_err(|error| format!("no age such as -24h or -7d: {error}"))?;
        let micros = i64::try_from(age.as_micros()).map_err(|_| "older than time itself".to_owned())?;
        return Ok(Moment::At(now.timestamp_micros().saturating_sub(micros)));
    }
    if let Ok(date) = parse_date(text) {
        return Ok(Moment::Day(date));
    }
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => Ok(Moment::At(time.timestamp_micros())),
        Err(_) => {
            Err("expected now, -24h, 2026-11-24, or a time with its offset such as 2026-11-24T06:00:00+01:00"
                .to_owned())
        }
    }
}

/// Reads a date such as 2026-11-24.
pub(crate) fn parse_date(text: &str) -> Result<NaiveDate, String> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| text.len() == 10);
    date.ok_or_else(|| "expected a date such as 2026-11-24".to_owned())
}

/// Reads the name of a time zone.
pub(crate) fn parse_zone(text: &str) -> Result<Tz, String> {
    text.parse().map_err(|_| "expected the name of a time zone such as Europe/Berlin".to_owned())
}

/// As requests name a zone; none is UTC.
pub(crate) fn zone_name(zone: Option<Tz>) -> String {
    zone.map(|zone| zone.name().to_owned()).unwrap_or_default()
}

/// Midnight, or the first quarter of an hour after it that the clock of the zone shows.
fn start_of(date: NaiveDate, zone: Tz) -> Micros {
    let midnight = date.and_time(NaiveTime::MIN);
    let quarters = (0..=96).map(|quarter| midnight + TimeDelta::minutes(15 * quarter));
    let mut starts = quarters.filter_map(|time| zone.from_local_datetime(&time).earliest());
    starts.next().map_or_else(|| midnight.and_utc().timestamp_micros(), |time| time.timestamp_micros())
}

/// Refuses a range of time that ends before it begins.
///
/// # Errors
///
/// [`Misused`], with both ends.
pub(crate) fn check(from: Micros, to: Micros) -> Result<(), Misused> {
    if from < to {
        return Ok(());
    }
    Err(Misused(format!("--to {} is not after --from {}: nothing lies between them", show(to), show(from))))
}

/// As RFC 3339 in UTC, with as many decimals as it needs.
pub(crate) fn show(time_us: Micros) -> String {
    DateTime::from_timestamp_micros(time_us)
        .map_or_else(|| time_us.to_string(), |time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true))
}

/// A server's message with its times as RFC 3339: numbers with as many digits as microseconds since 1970 have in our
/// days. Counts have fewer.
pub(crate) fn readable(message: &str) -> String {
    const DIGITS: std::ops::RangeInclusive<usize> = 13..=18;
    let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-' || c == '.';
    let mut text = String::with_capacity(message.len());
    let mut rest = message;
    while !rest.is_empty() {
        let (word, after) = rest.split_at(rest.find(|c| !part_of_word(c)).unwrap_or(rest.len()));
        match word.parse() {
            Ok(time_us) if DIGITS.contains(&word.trim_start_matches('-').len()) => text += &show(time_us),
            _ => text += word,
        }
        let next = after.find(part_of_word).unwrap_or(after.len());
        text += &after[..next];
        rest = &after[next..];
    }
    text
}

/// As RFC 3339 in UTC, without seconds: where those do not matter.
pub(crate) fn show_minute(time_us: Micros) -> String {
    DateTime::from_timestamp_micros(time_us)
        .map_or_else(|| time_us.to_string(), |time| time.format("%Y-%m-%dT%H:%MZ").to_string())
}

/// The date of a moment in a time zone; of no zone: UTC.
pub(crate) fn show_date(time_us: Micros, zone: Option<Tz>) -> String {
    DateTime::from_timestamp_micros(time_us).map_or_else(
        || time_us.to_string(),
        |time| time.with_timezone(&zone.unwrap_or_default()).date_naive().to_string(),
    )
}

/// An age in days, or in hours where it is no whole number of them.
pub(crate) fn show_age(age_us: Micros) -> String {
    const HOUR_US: Micros = 3_600_000_000;
    match (age_us / (24 * HOUR_US), age_us % (24 * HOUR_US)) {
        (1, 0) => "1 day".to_owned(),
        (days, 0) => format!("{days} days"),
        _ => format!("{} hours", age_us / HOUR_US),
    }
}

/// Days before today in a time zone; of no zone: UTC.
pub(crate) fn days_ago(days: i64, zone: Option<Tz>) -> NaiveDate {
    Utc::now().with_timezone(&zone.unwrap_or_default()).date_naive() - TimeDelta::days(days)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn utc(text: &str) -> Micros {
        parse(text).unwrap().micros(None)
    }

    #[test]
    fn times_are_read_as_they_are_shown() {
        for text in ["2026-11-24T05:00:00Z", "1969-12-31T23:59:59.500Z", "2026-11-24T05:00:00.000001Z"] {
            assert_eq!(show(utc(text)), text);
        }
        assert_eq!(show(utc("2026-11-24T06:00:00+05:45")), "2026-11-24T00:15:00Z");
        assert_eq!(show(utc("2026-11-24")), "2026-11-24T00:00:00Z");
        let now = Utc::now().timestamp_micros();
        assert!((utc("-1h") - (now - 3_600_000_000)).abs() < 60_000_000);
        // Noon on the line: one of them has always a day more.
        let today = |zone| days_ago(0, Some(zone));
        assert!(today(Tz::Pacific__Kiritimati) > today(Tz::Pacific__Niue));
        for text in ["", "yesterday", "2026-11-24T05:00:00", "24.11.2026", "-", "-x"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn ages_are_days_or_hours() {
        let hour = 3_600_000_000;
        for (hours, shown) in [(24, "1 day"), (48, "2 days"), (36, "36 hours"), (2160, "90 days")] {
            assert_eq!(show_age(hours * hour), shown);
        }
    }

    #[test]
    fn dates_are_those_of_the_zone() {
        for (zone, date, start) in [
            (Tz::Europe__Berlin, "2026-10-25", "2026-10-24T22:00:00Z"),
            (Tz::Europe__Berlin, "2026-10-26", "2026-10-25T23:00:00Z"),
            (Tz::Asia__Kathmandu, "2026-10-25", "2026-10-24T18:15:00Z"),
            // There the clock went from midnight to one o'clock.
            (Tz::America__Sao_Paulo, "2018-11-04", "2018-11-04T03:00:00Z"),
        ] {
            let start_us = parse(date).unwrap().micros(Some(zone));
            assert_eq!((show(start_us).as_str(), show_date(start_us, Some(zone)).as_str()), (start, date));
        }
        // A time with its offset is the same everywhere.
        let time = parse("2026-10-25T00:00:00Z").unwrap();
        assert_eq!(time.micros(Some(Tz::Europe__Berlin)), time.micros(None));
    }
}
