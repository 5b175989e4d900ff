//! Decides what a store may be given: shapes and bounds of the protocol, and the seed's value ranges.
//!
//! Knows neither the wire nor the store. What passes is accepted by every profile: the bounds are
//! those of PostgreSQL's column types (seed, section 7.1).

use std::time::Duration;

use crate::model::{Micros, RejectionCode, SECOND_US};

mod milking;
mod reading;
mod series;
mod text;

pub use milking::check_milking;
pub use reading::check_reading;
pub use series::{ValueRange, check_series, value_range};
pub use text::quote;

/// 1900-01-01: nothing is older, not even history.
const OLDEST_US: Micros = -2_208_988_800 * SECOND_US;

/// What is wrong with a reading, a milking or a series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// Kind of fault.
    pub code: RejectionCode,
    /// Field, by its name in the protocol.
    pub field: &'static str,
    /// What was wrong, with the value, and what would be right.
    pub message: String,
}

impl Fault {
    fn new(code: RejectionCode, field: &'static str, message: impl Into<String>) -> Self {
        Self { code, field, message: message.into() }
    }
}

/// Bounds on time that do not change while the server runs.
#[derive(Clone, Copy, Debug)]
pub struct Validator {
    lateness_us: Micros,
    ahead_us: Micros,
}

impl Validator {
    /// Accepts times from `lateness` ago to `ahead` from now.
    pub fn new(lateness: Duration, ahead: Duration) -> Self {
        let micros = |duration: Duration| Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX);
        Self { lateness_us: micros(lateness), ahead_us: micros(ahead) }
    }

    /// The times accepted when the present is between `earliest_us` and `latest_us`.
    pub fn window(&self, earliest_us: Micros, latest_us: Micros) -> TimeWindow {
        TimeWindow {
            oldest_us: earliest_us.saturating_sub(self.lateness_us),
            newest_us: latest_us.saturating_add(self.ahead_us),
            validator: *self,
        }
    }
}

impl TimeWindow {
    /// The same for history: back to 1900.
    #[must_use]
    pub fn for_backfill(self) -> Self {
        Self { oldest_us: OLDEST_US, ..self }
    }
}

/// Times accepted at one moment, bounds included.
#[derive(Clone, Copy, Debug)]
pub struct TimeWindow {
    oldest_us: Micros,
    newest_us: Micros,
    validator: Validator,
}

impl TimeWindow {
    #[inline]
    fn check(&self, time_us: Micros) -> Result<(), Fault> {
        if time_us >= self.oldest_us && time_us <= self.newest_us && time_us != 0 {
            return Ok(());
        }
        Err(self.fault(time_us))
    }

    #[cold]
    fn fault(&self, time_us: Micros) -> Fault {
        let field = "time_us";
        if time_us == 0 {
            return Fault::new(RejectionCode::Required, field, "no time: stamp it before sending");
        }
        if time_us > self.newest_us {
            let bound = Duration::from_micros(self.validator.ahead_us.unsigned_abs());
            let message = format!("{time_us} is more than {bound:?} ahead of the server: check the clock");
            return Fault::new(RejectionCode::TimeInFuture, field, message);
        }
        if self.oldest_us == OLDEST_US {
            let message = format!("{time_us} is before 1900: check the clock, or the unit of the time");
            return Fault::new(RejectionCode::TooLate, field, message);
        }
        let days = self.validator.lateness_us / crate::model::DAY_US;
        let message = format!("{time_us} is older than the {days} days that are accepted: import it instead");
        Fault::new(RejectionCode::TooLate, field, message)
    }
}

fn check_finite(field: &'static str, value: f64) -> Result<(), Fault> {
    if value.is_finite() {
        return Ok(());
    }
    Err(Fault::new(RejectionCode::NotFinite, field, format!("{value} is not a finite number")))
}

fn check_positive(field: &'static str, value: i32) -> Result<(), Fault> {
    match value {
        1.. => Ok(()),
        0 => Err(Fault::new(RejectionCode::Required, field, "missing or 0: 1 or more is expected")),
        _ => Err(Fault::new(RejectionCode::OutOfRange, field, format!("{value} is below 1"))),
    }
}

#[cfg(test)]
mod tests;
