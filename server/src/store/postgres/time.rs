//! Times as PostgreSQL has them.

use chrono::{DateTime, Utc};

use crate::model::Micros;

/// From 4714 BC, where PostgreSQL begins, to the year 262 000, where the calendar here ends.
const BOUNDS_US: (Micros, Micros) = (-210_866_000_000_000_000, 8_210_000_000_000_000_000);

/// The instant, or the nearest that both the database and the calendar here know.
pub(super) fn at(time_us: Micros) -> DateTime<Utc> {
    let time_us = time_us.clamp(BOUNDS_US.0, BOUNDS_US.1);
    DateTime::from_timestamp_micros(time_us).unwrap_or(DateTime::UNIX_EPOCH)
}

/// As [`at`], for a time that may be missing.
pub(super) fn maybe(time_us: Option<Micros>) -> Option<DateTime<Utc>> {
    time_us.map(at)
}

/// Microseconds since 1970.
pub(super) fn micros(time: DateTime<Utc>) -> Micros {
    time.timestamp_micros()
}

/// Microseconds since 1970 of a time that the database sends: it counts from 2000 on.
pub(super) fn of_database(time_us: i64) -> Micros {
    const SINCE_1970_US: Micros = 946_684_800_000_000;
    time_us.saturating_add(SINCE_1970_US)
}
