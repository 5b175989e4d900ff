//! Which time a question is about.

use chrono::{NaiveDate, TimeDelta, Utc};
use chrono_tz::Tz;

use crate::{
    refusal::Misused,
    times::{self, Micros, Moment},
};

/// A range of time.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct Span {
    /// Start: an age such as -24h or -7d, a date, or a time with its offset [default: -24h]
    #[arg(long, value_name = "TIME", allow_hyphen_values = true, value_parser = times::parse)]
    from: Option<Moment>,
    /// End, not included
    #[arg(long, value_name = "TIME", default_value = "now", allow_hyphen_values = true, value_parser = times::parse)]
    to: Moment,
    /// Time zone of --from and --to where they are dates, as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", value_parser = times::parse_zone)]
    pub(super) time_zone: Option<Tz>,
}

impl Span {
    /// Start and end; dates are those of the time zone.
    ///
    /// # Errors
    ///
    /// [`Misused`] when the end is not after the start.
    pub(crate) fn micros(self) -> Result<(Micros, Micros), Misused> {
        let day_ago = || Moment::At((Utc::now() - TimeDelta::days(1)).timestamp_micros());
        let (from, to) = (self.from.unwrap_or_else(day_ago), self.to);
        let (from, to) = (from.micros(self.time_zone), to.micros(self.time_zone));
        times::check(from, to).map(|()| (from, to))
    }

    /// What an empty answer means, where nobody said from when on.
    pub(super) fn nothing(self, (from, to): (Micros, Micros)) -> Option<String> {
        let ends = (times::show_minute(from), times::show_minute(to));
        self.from.is_none().then(|| {
            format!("nothing between {} and {}: ask for another time with --from and --to", ends.0, ends.1)
        })
    }
}

/// Days of a time zone.
#[derive(Debug, clap::Args)]
pub(crate) struct Days {
    /// First day, as 2026-11-24 [default: six days before the last]
    #[arg(long, value_name = "DATE", value_parser = times::parse_date)]
    first: Option<NaiveDate>,
    /// Last day, included [default: today]
    #[arg(long, value_name = "DATE", value_parser = times::parse_date)]
    last: Option<NaiveDate>,
    /// Time zone of the days, as Europe/Berlin [default: UTC]
    #[arg(long, value_name = "ZONE", value_parser = times::parse_zone)]
    pub(super) time_zone: Option<Tz>,
}

impl Days {
    /// The first and the last.
    ///
    /// # Errors
    ///
    /// [`Misused`] when the last comes before the first.
    pub(super) fn dates(&self) -> Result<(NaiveDate, NaiveDate), Misused> {
        let last = self.last.unwrap_or_else(|| times::days_ago(0, self.time_zone));
        let first = self.first.unwrap_or_else(|| last - TimeDelta::days(6));
        if first > last {
            return Err(Misused(format!(
                "--last {last} is before --first {first}: no day lies between them"
            )));
        }
        Ok((first, last))
    }

    /// What an empty answer means, where nobody said which days.
    pub(super) fn nothing(&self, (first, last): (NaiveDate, NaiveDate)) -> Option<String> {
        self.first
            .is_none()
            .then(|| format!("nothing from {first} to {last}: ask for other days with --first and --last"))
    }
}
