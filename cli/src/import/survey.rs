//! A look at every row of a file before the first is sent: what cannot be read, what will not stay, and what is there
//! already.

use std::path::Path;

use anyhow::{Context as _, Result, bail};
use chrono::Utc;
use indicatif::HumanCount;

use super::{
    Args,
    columns::{Columns, Kind},
    row::Row,
    server::{Kept, Server},
    source::Source,
};
use crate::times;

/// Rows of which it is asked whether they are there already, at most.
const SAMPLES: usize = 16;

const DAY_US: i64 = 86_400_000_000;

/// What goes within so many days is told.
const SOON_DAYS: i64 = 7;

/// What a file holds.
#[derive(Default)]
struct Survey {
    rows: u64,
    /// Rows of days that the server has dropped, if it had them.
    dropped: u64,
    /// Others that it drops soon.
    old: u64,
    bad: u64,
    /// Place and fault of the first that cannot be read.
    first_bad: Option<(u64, String)>,
    samples: Samples,
}

/// Some rows, evenly spread however many come.
struct Samples {
    rows: Vec<Row>,
    seen: usize,
    /// Each row of this number is one.
    every: usize,
}

impl Default for Samples {
    fn default() -> Self {
        Self { rows: Vec::new(), seen: 0, every: 1 }
    }
}

impl Samples {
    fn see(&mut self, row: Row) {
        if self.seen.is_multiple_of(self.every) {
            if self.rows.len() == SAMPLES {
                self.every *= 2;
                let mut at = 0;
                self.rows.retain(|_| {
                    at += 1;
                    at % 2 == 1
                });
            }
            if self.seen.is_multiple_of(self.every) {
                self.rows.push(row);
            }
        }
        self.seen += 1;
    }
}

/// Reads a file to its end before anything of it is stored, and warns of what its owner may not expect. Answers how many
/// rows it has.
///
/// # Errors
///
/// There is a row that cannot be read, and none is to be skipped: whoever mends it has another file then, whose good
/// rows would be stored twice. Or there are rows that are on the server, and none is to be stored again.
pub(super) async fn survey(
    args: &Args,
    (server, producer): (&Server, &str),
    file: &Path,
    columns: &Columns,
) -> Result<u64> {
    let name = file.display();
    let kept = server.kept(columns.kind).await?;
    let survey = read(args, file, columns, &kept)?;
    let all = survey.rows + survey.bad;
    if let Some((place, why)) = survey.first_bad.filter(|_| !args.reading.skip_bad_rows) {
        let more = match survey.bad {
            1 => String::new(),
            bad => format!(", and {} more rows cannot be read", HumanCount(bad - 1)),
        };
        bail!(
            "{name}:{place}: {why}{more}; nothing of the file was stored: mend it, or leave such rows out with \
             --skip-bad-rows"
        );
    }
    let what = if columns.kind == Kind::Readings { "readings" } else { "milkings" };
    let of =
        |some: u64| format!("{name}: warning: {} of {} {what}", HumanCount(some), HumanCount(survey.rows));
    if let Some(from_us) = kept.from_us.filter(|_| survey.dropped > 0) {
        tell!(
            "{} are from before {}, where the server has dropped days: what is of such a day will be refused",
            of(survey.dropped),
            times::show_date(from_us, None)
        );
    }
    if let Some(age_us) = kept.age_us.filter(|_| survey.old > 0) {
        tell!(
            "{} will not stay: the server drops {what} at an age of {}, counted back from the newest it has, and these \
             are as old or will be within {SOON_DAYS} days",
            of(survey.old),
            times::show_age(age_us)
        );
    }
    let (samples, mut there) = (survey.samples.rows, 0);
    for row in &samples {
        there += usize::from(server.has(row).await?);
    }
    // Unless another import of this file has begun meanwhile.
    if there > 0 && server.earlier(producer).await?.committed == 0 {
        let found = format!(
            "of {} rows that were looked for, {there} are on the server already, though this file was not imported \
             before in this way: from a former version of it, with other options, from another file, or a gateway",
            samples.len()
        );
        if !args.store_again {
            bail!(
                "{name}: {found}; nothing of it was stored: import what is new alone, or all of it once more with \
                 --store-again"
            );
        }
        tell!("{name}: warning: {found}. They are stored once more");
    }
    Ok(all)
}

fn read(args: &Args, file: &Path, columns: &Columns, kept: &Kept) -> Result<Survey> {
    let soon_us = Utc::now().timestamp_micros() + SOON_DAYS * DAY_US;
    let goes_before_us = kept.age_us.map(|age_us| soon_us.saturating_sub(age_us));
    let mut survey = Survey::default();
    for record in Source::open(file, args.delimiter)? {
        let record = record.with_context(|| format!("cannot read {}", file.display()))?;
        match Row::of(&record, columns, &args.reading) {
            Ok(row) => {
                survey.rows += 1;
                let is_before = |limit: Option<i64>| limit.is_some_and(|limit_us| row.time_us() < limit_us);
                if is_before(kept.from_us) {
                    survey.dropped += 1;
                } else if is_before(goes_before_us) {
                    survey.old += 1;
                }
                survey.samples.see(row);
            }
            Err(why) => {
                survey.bad += 1;
                survey.first_bad.get_or_insert((record.place, why));
            }
        }
    }
    Ok(survey)
}

#[cfg(test)]
mod tests {
    use herdstream_client::v1;

    use super::*;

    #[test]
    fn samples_are_spread_over_all_rows() {
        for count in [0, 1, 15, 16, 17, 31, 32, 33, 1_000, 100_001] {
            let mut samples = Samples::default();
            for time_us in 0..count {
                let reading = v1::Reading { time_us, ..v1::Reading::default() };
                samples.see(Row::Reading(v1::SeriesKey::default(), reading));
            }
            let times: Vec<i64> = samples.rows.iter().map(Row::time_us).collect();
            assert!(
                times.len() <= SAMPLES && times.len() as i64 >= count.min(SAMPLES as i64 / 2),
                "{times:?}"
            );
            let every = samples.every as i64;
            let spread: Vec<i64> = (0..count).filter(|time| time % every == 0).collect();
            assert_eq!(times, spread, "of {count}");
        }
    }
}
