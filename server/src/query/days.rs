//! Days of a time zone.

use std::sync::Arc;

use chrono::{DateTime, Days, NaiveDate, NaiveTime, Offset as _, TimeZone as _};
use chrono_tz::Tz;

use crate::{
    error::Error,
    ingest::validate::quote,
    model::{DAY_US, Micros},
    store::{Cut, Level},
};

/// Days one answer may tell, at most.
pub(super) const MAX_DAYS: usize = 7_500;

/// A time zone; None: UTC.
///
/// # Errors
///
/// [`Error::BadRequest`] for a name that is none.
pub(super) fn time_zone(name: &str) -> Result<Option<Tz>, Error> {
    match name {
        "" => Ok(None),
        name => match name.parse::<Tz>() {
            Ok(Tz::UTC | Tz::Etc__UTC) => Ok(None),
            Ok(zone) => Ok(Some(zone)),
            Err(_) => {
                let message =
                    format!("{} is no time zone: a name such as \"Europe/Berlin\" is expected", quote(name));
                Err(Error::BadRequest { field: "time_zone", message })
            }
        },
    }
}

/// The date of a day, as "2026-11-24".
pub(super) fn date(field: &'static str, text: &str) -> Result<NaiveDate, Error> {
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().filter(|_| text.len() == 10).ok_or_else(|| {
        let message = format!("{} is no date such as \"2026-11-24\"", quote(text));
        Error::BadRequest { field, message }
    })
}

/// The date that a time lies on; None: beyond the calendar, there or in UTC.
pub(super) fn date_of(zone: Option<Tz>, time_us: Micros) -> Option<NaiveDate> {
    let time = DateTime::from_timestamp_micros(time_us)?.naive_utc();
    let Some(zone) = zone else { return Some(time.date()) };
    // A local time of the calendar's first or last day may lie outside of it.
    Some(time.checked_add_offset(zone.offset_from_utc_datetime(&time).fix())?.date())
}

/// The days from one date to another, both included.
///
/// # Errors
///
/// [`Error::BadRequest`] when there are too many, or a day does not begin at a quarter of an hour of UTC, as some did
/// long ago.
pub(super) fn days(zone: Option<Tz>, first: NaiveDate, last: NaiveDate) -> Result<Cut, Error> {
    let end = last.checked_add_days(Days::new(1)).ok_or_else(|| beyond(last))?;
    let Some(zone) = zone else {
        let midnight = |date: NaiveDate| date.and_time(NaiveTime::MIN).and_utc().timestamp_micros();
        return Ok(Cut::Level { level: Level::Day, start_us: midnight(first), end_us: midnight(end) });
    };
    let count = (end - first).num_days();
    if count > MAX_DAYS as i64 {
        let message = format!("the range has {count} days: at most {MAX_DAYS}");
        return Err(Error::BadRequest { field: "end_us", message });
    }
    let mut times: Vec<Micros> = Vec::with_capacity(count.max(0) as usize + 1);
    for date in first.iter_days().take_while(|date| *date <= end) {
        let start_us = start_of(zone, date).ok_or_else(|| beyond(date))?;
        if Level::QuarterHour.floor(start_us) != start_us {
            let message =
                format!("{date} does not begin at a quarter of an hour in {zone}: ask for days of UTC");
            return Err(Error::BadRequest { field: "time_zone", message });
        }
        // A zone that crossed the date line left out a date.
        if times.last() != Some(&start_us) {
            times.push(start_us);
        }
    }
    Ok(Cut::Spans(Arc::from(times)))
}

/// Refuses days of a time zone that begin before what they are put together from is kept.
pub(super) fn check_kept(
    cut: &Cut,
    kept_from_us: Option<Micros>,
    field: &'static str,
    parts: &str,
) -> Result<(), Error> {
    let (Cut::Spans(_), Some(kept_us)) = (cut, kept_from_us) else { return Ok(()) };
    if cut.start_us() >= kept_us {
        return Ok(());
    }
    let kept = DateTime::from_timestamp_micros(kept_us).map_or(kept_us.to_string(), |time| time.to_rfc3339());
    let message = format!(
        "days of a time zone are put together from {parts}, which are kept from {kept}: begin a day after that, or \
         ask for days of UTC"
    );
    Err(Error::BadRequest { field, message })
}

/// When a day begins: at midnight, or at the first moment after it where the clock jumps over midnight.
fn start_of(zone: Tz, date: NaiveDate) -> Option<Micros> {
    let midnight = date.and_time(NaiveTime::MIN);
    let quarters = (0..=96).map(|quarter| midnight + chrono::TimeDelta::minutes(15 * quarter));
    let mut starts = quarters.filter_map(|time| zone.from_local_datetime(&time).earliest());
    starts.next().map(|time| time.timestamp_micros())
}

fn beyond(date: NaiveDate) -> Error {
    Error::BadRequest { field: "end_us", message: format!("{date} is beyond what the calendar knows") }
}

/// Ends of the buckets or spans of a cut, by their start.
pub(super) fn end_of(cut: &Cut, start_us: Micros) -> Micros {
    match cut {
        Cut::Level { level, .. } => start_us.saturating_add(level.width_us()),
        Cut::Spans(times) => {
            let next = times.partition_point(|&time| time <= start_us);
            times.get(next).copied().unwrap_or(start_us.saturating_add(DAY_US))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(zone: &str, first: &str, last: &str) -> Vec<i64> {
        let zone = time_zone(zone).unwrap();
        let cut = days(zone, date("first_date", first).unwrap(), date("last_date", last).unwrap()).unwrap();
        let Cut::Spans(times) = cut else { panic!("spans are expected") };
        times.windows(2).map(|pair| (pair[1] - pair[0]) / 3_600_000_000).collect()
    }

    #[test]
    fn days_have_as_many_hours_as_the_clock_says() {
        assert_eq!(hours("Europe/Berlin", "2026-03-28", "2026-03-30"), [24, 23, 24]);
        assert_eq!(hours("Europe/Berlin", "2026-10-24", "2026-10-26"), [24, 25, 24]);
        assert_eq!(hours("Asia/Kathmandu", "2026-12-31", "2027-01-01"), [24, 24]);
        // Midnight does not exist there on the day summer begins.
        assert_eq!(hours("America/Asuncion", "2023-09-30", "2023-10-02"), [24, 23, 24]);
        // Samoa left out the 30th.
        assert_eq!(hours("Pacific/Apia", "2011-12-29", "2011-12-31"), [24, 24]);
    }

    #[test]
    fn the_ends_of_the_calendar_are_no_surprise() {
        let ends = [DateTime::<chrono::Utc>::MIN_UTC, DateTime::<chrono::Utc>::MAX_UTC];
        for (name, told) in [("", [true, true]), ("Europe/Berlin", [true, false])] {
            let zone = time_zone(name).unwrap();
            let dates = ends.map(|end| date_of(zone, end.timestamp_micros()));
            assert_eq!(dates.map(|date| date.is_some()), told, "{name:?}");
        }
        let west = time_zone("America/Asuncion").unwrap();
        assert_eq!(date_of(west, ends[0].timestamp_micros()), None);
        // Whatever comes of the days at the ends, it is an answer.
        for zone in ["Europe/Berlin", "America/Asuncion", "Asia/Kathmandu"] {
            let zone = time_zone(zone).unwrap();
            let _ = days(zone, NaiveDate::MIN, NaiveDate::MIN);
            let _ = days(zone, NaiveDate::MAX, NaiveDate::MAX);
            let before = NaiveDate::MAX.pred_opt().unwrap();
            let _ = days(zone, before, before);
        }
    }

    #[test]
    fn what_is_no_zone_or_date_is_refused() {
        assert!(time_zone("Europe/Atlantis").is_err());
        assert!(time_zone("").unwrap().is_none() && time_zone("UTC").unwrap().is_none());
        for text in ["", "2026-13-01", "2026-2-3", "tomorrow", "2026-11-24T00:00"] {
            assert!(date("first_date", text).is_err(), "{text}");
        }
        let zone = time_zone("Africa/Monrovia").unwrap();
        let long_ago = NaiveDate::from_ymd_opt(1971, 1, 1).unwrap();
        assert!(days(zone, long_ago, long_ago).is_err(), "44 minutes and 30 seconds behind");
    }
}
