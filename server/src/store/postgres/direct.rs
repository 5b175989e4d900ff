//! Direct compress: TimescaleDB packs readings as they are copied in. What stands in its way it tells in a notice
//! that nobody reads, and goes on without; so the chunks are looked at.

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use sqlx::{PgConnection, PgPool, Row as _, postgres::PgRow};
use tokio::time::Instant;

use super::{
    chunks::day,
    connect::{CopyMode, DirectCompress, PostgresConfig},
    error::{OpenError, explain},
    profile::{Facts, Profile, number},
    rows, time,
};
use crate::{
    ops::metrics,
    store::{CommitGroup, Outcome},
};

/// Extension versions below this do without it beside continuous aggregates (before 2.24) or may lose data by it.
const OLDEST_EXTENSION: (u32, u32) = (2, 26);

/// Between two looks at the chunks.
const PERIOD: Duration = Duration::from_mins(1);

/// Chunks of readings that were made within the last day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NewChunks {
    /// Those that hold compressed readings.
    pub compressed: u64,
    /// Those that do not.
    pub uncompressed: u64,
}

/// Whether the sessions of a store are to compress directly; if not, why.
pub(super) async fn detect(
    connection: &mut PgConnection,
    config: &PostgresConfig,
    facts: &Facts,
) -> Result<Result<(), &'static str>, OpenError> {
    if facts.profile == Profile::Postgres {
        return Ok(Err("needs TimescaleDB with the licence 'timescale'"));
    }
    if config.direct_compress == DirectCompress::Never {
        return Ok(Err("database.direct_compress is \"never\""));
    }
    if config.copy == CopyMode::Never {
        return Ok(Err("needs COPY, and database.copy is \"never\""));
    }
    if facts.extension_version.as_deref().is_none_or(|version| number(version) < OLDEST_EXTENSION) {
        return Ok(Err("needs TimescaleDB 2.26 or later"));
    }
    let known = sqlx::query_scalar(
        "SELECT EXISTS (SELECT FROM pg_settings WHERE name = 'timescaledb.enable_direct_compress_copy')",
    );
    match known.fetch_one(connection).await {
        Ok(true) => Ok(Ok(())),
        Ok(false) => Ok(Err("this TimescaleDB has no setting timescaledb.enable_direct_compress_copy")),
        Err(error) => Err(OpenError::Profile(explain(&error))),
    }
}

/// What a session runs for it: nothing fails where the setting is gone after a change of the extension.
pub(super) fn session(config: &PostgresConfig, facts: &Facts) -> &'static str {
    match (facts.direct_compress, config.direct_compress) {
        (Ok(()), _) => {
            "; SELECT set_config(name, 'on', false) FROM pg_settings \
             WHERE name = 'timescaledb.enable_direct_compress_copy'"
        }
        // An operator may have turned it on for the database.
        (Err(_), DirectCompress::Never) => {
            "; SELECT set_config(name, 'off', false) FROM pg_settings \
             WHERE name = 'timescaledb.enable_direct_compress_copy'"
        }
        (Err(_), DirectCompress::Auto) => "",
    }
}

/// Looks at new chunks now and then.
pub(super) struct Watch {
    /// Plain PostgreSQL has no chunks that could be compressed.
    has_chunks: bool,
    /// Whether chunks that get readings by COPY are to be compressed at once.
    expects: bool,
    /// Days since 1970 that got readings by COPY since the last look.
    copied: Mutex<BTreeSet<i64>>,
    disappointed: AtomicBool,
    last: Mutex<Option<Instant>>,
}

impl Watch {
    pub(super) fn new(facts: &Facts) -> Self {
        Self {
            has_chunks: facts.profile == Profile::Timescale,
            expects: facts.direct_compress.is_ok(),
            copied: Mutex::default(),
            disappointed: AtomicBool::new(false),
            last: Mutex::default(),
        }
    }

    /// Whether a chunk was not compressed that was to be.
    pub(super) fn is_disappointed(&self) -> bool {
        self.disappointed.load(Ordering::Relaxed)
    }

    /// Notes the days of a group that was committed by COPY.
    pub(super) fn copied(&self, group: &CommitGroup, outcomes: &[Outcome]) {
        if !self.expects || self.is_disappointed() {
            return;
        }
        let written = group.producers.iter().zip(outcomes);
        let written = written.filter(|(_, outcome)| matches!(outcome, Outcome::Committed(..)));
        self.copied.lock().extend(rows::days(written.map(|(commit, _)| commit)));
    }

    /// Counts new chunks for the metrics, at most once a minute; says once if direct compress does not take place.
    pub(super) async fn look(&self, pool: &PgPool) {
        let is_due = |last: Instant| last.elapsed() >= PERIOD;
        if !self.has_chunks || !self.last.lock().is_none_or(is_due) {
            return;
        }
        *self.last.lock() = Some(Instant::now());
        // Before the chunks are read: whatever is noted here is committed, and its chunk is seen.
        let copied = std::mem::take(&mut *self.copied.lock());
        let chunks = match find(pool).await {
            Ok(chunks) => chunks,
            Err(error) => {
                self.copied.lock().extend(copied);
                tracing::debug!(%error, "new chunks are looked at later");
                return;
            }
        };
        let NewChunks { compressed, uncompressed } = count(&chunks);
        metrics::new_chunks(compressed, uncompressed);
        if let Some(chunk) = missed(&chunks, &copied)
            && !self.disappointed.swap(true, Ordering::Relaxed)
        {
            tracing::warn!(
                chunk = chunk.name,
                "direct compress is on, and yet a new chunk that readings were copied into is not compressed: \
                 iot.reading must have no trigger and no unique or exclusion constraint; PostgreSQL's log tells \
                 what is in the way, and the compression policy compresses the chunk later"
            );
        }
    }
}

/// A chunk of readings.
pub(super) struct Made {
    name: String,
    is_compressed: bool,
    range_start: DateTime<Utc>,
    range_end: DateTime<Utc>,
}

/// The chunks made within the last day.
pub(super) async fn find(pool: &PgPool) -> Result<Vec<Made>, sqlx::Error> {
    let rows = sqlx::query(sql!("timescale/new_chunks")).fetch_all(pool).await?;
    let made = |row: PgRow| {
        Ok(Made {
            name: row.try_get("name")?,
            is_compressed: row.try_get("is_compressed")?,
            range_start: row.try_get("range_start")?,
            range_end: row.try_get("range_end")?,
        })
    };
    rows.into_iter().map(made).collect()
}

/// How many of them are compressed.
pub(super) fn count(chunks: &[Made]) -> NewChunks {
    let compressed = chunks.iter().filter(|chunk| chunk.is_compressed).count() as u64;
    NewChunks { compressed, uncompressed: chunks.len() as u64 - compressed }
}

/// A chunk that is not compressed although readings of these days were copied into it.
fn missed<'a>(chunks: &'a [Made], copied: &BTreeSet<i64>) -> Option<&'a Made> {
    chunks.iter().filter(|chunk| !chunk.is_compressed).find(|chunk| {
        let first = day(time::micros(chunk.range_start));
        // A chunk of another width than a day is the operator's choice.
        let end = day(time::micros(chunk.range_end)).max(first + 1);
        copied.range(first..end).next().is_some()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DAY_US: i64 = 86_400_000_000;

    fn made(name: String, is_compressed: bool, first: i64, days: i64) -> Made {
        let at = |day: i64| time::at(day * DAY_US);
        Made { name, is_compressed, range_start: at(first), range_end: at(first + days) }
    }

    proptest! {
        /// A chunk is missed if, and only if, it is not compressed and covers a day that was copied into.
        #[test]
        fn only_uncompressed_chunks_with_copied_readings_are_missed(
            chunks in prop::collection::vec((any::<bool>(), -20_i64..20, 1_i64..4), 0..8),
            copied in prop::collection::btree_set(-20_i64..20, 0..6),
        ) {
            let chunks: Vec<_> = (chunks.into_iter().enumerate())
                .map(|(n, (compressed, first, days))| made(n.to_string(), compressed, first, days))
                .collect();
            let expected = chunks.iter().any(|chunk| {
                let covers = |day: &i64| {
                    let at = time::at(day * DAY_US + DAY_US / 2);
                    chunk.range_start <= at && at < chunk.range_end
                };
                !chunk.is_compressed && copied.iter().any(covers)
            });
            let found = missed(&chunks, &copied);
            prop_assert_eq!(found.is_some(), expected);
            prop_assert!(found.is_none_or(|chunk| !chunk.is_compressed));
            let NewChunks { compressed, uncompressed } = count(&chunks);
            prop_assert_eq!(compressed + uncompressed, chunks.len() as u64);
        }
    }
}
