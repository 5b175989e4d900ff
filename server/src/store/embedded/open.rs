//! Open buckets: quarters of an hour that no refresh has stored yet, kept in memory as commits fill them, so that a
//! question about the present does not read everything that has arrived in the last minutes.
//!
//! Only a help: what is not held here is computed from readings. Held is everything from one time on, which moves
//! ahead when rollups are stored, and when more is open than is held.

use std::collections::HashMap;

use parking_lot::{Mutex, MutexGuard};

use crate::{
    model::{Micros, Quality, Reading, SeriesId},
    store::{Bucket, Level},
};

/// Buckets that are held, at most: 20 MB.
const MOST: usize = if cfg!(test) { 50 } else { 200_000 };

/// What has been committed since rollups were stored last.
pub(super) struct OpenBuckets(Mutex<Held>);

pub(super) struct Held {
    /// The last commit that is in.
    pub(super) commit: u64,
    /// The start of a quarter of an hour: every reading from then on is in.
    since_us: Micros,
    /// By start, of each series.
    buckets: HashMap<SeriesId, Vec<Bucket>>,
    count: usize,
}

/// The open buckets of some series, as they were in one view.
pub(super) struct Open {
    pub(super) since_us: Micros,
    buckets: HashMap<SeriesId, Vec<Bucket>>,
}

/// The buckets that one commit fills.
pub(super) struct Filled {
    since_us: Micros,
    buckets: Vec<(SeriesId, Bucket)>,
    values: Vec<f64>,
    qualities: Vec<Quality>,
}

impl OpenBuckets {
    /// Holds what comes after commit `commit`, of which no reading is newer than `newest_us`.
    pub(super) fn new(commit: u64, newest_us: Option<Micros>) -> Self {
        let since_us = newest_us.map_or(Micros::MIN, behind);
        Self(Mutex::new(Held { commit, since_us, buckets: HashMap::new(), count: 0 }))
    }

    /// Whoever holds it sees what is in as of its commit; the writer waits meanwhile.
    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock()
    }

    /// What a commit is going to fill.
    pub(super) fn filling(&self) -> Filled {
        let since_us = self.0.lock().since_us;
        Filled { since_us, buckets: Vec::new(), values: Vec::new(), qualities: Vec::new() }
    }

    /// Takes in what commit `commit` has filled.
    pub(super) fn fill(&self, commit: u64, filled: Filled) {
        let mut held = self.0.lock();
        held.commit = commit;
        for (series, bucket) in filled.buckets {
            held.add(series, bucket);
        }
        if held.count > MOST {
            let newest_us = held.buckets.values().flatten().map(|bucket| bucket.start_us).max();
            held.since_us = newest_us.map_or(held.since_us, behind);
            held.forget();
        }
    }

    /// Rollups are stored up to there.
    pub(super) fn stored_before(&self, stored_us: Micros) {
        let mut held = self.0.lock();
        held.since_us = held.since_us.max(Level::QuarterHour.floor(stored_us));
        held.forget();
    }
}

impl Held {
    /// Of these series.
    pub(super) fn of(&self, series: impl Iterator<Item = SeriesId>) -> Open {
        let of = |series| Some((series, self.buckets.get(&series)?.clone()));
        Open { since_us: self.since_us, buckets: series.filter_map(of).collect() }
    }

    fn add(&mut self, series: SeriesId, bucket: Bucket) {
        let buckets = self.buckets.entry(series).or_default();
        match buckets.binary_search_by_key(&bucket.start_us, |held| held.start_us) {
            Ok(place) => buckets[place].merge(&bucket),
            Err(place) => {
                buckets.insert(place, bucket);
                self.count += 1;
            }
        }
    }

    /// Lets go of what lies before its beginning.
    fn forget(&mut self) {
        let since_us = self.since_us;
        self.buckets.retain(|_, buckets| {
            buckets.retain(|bucket| bucket.start_us >= since_us);
            !buckets.is_empty()
        });
        self.count = self.buckets.values().map(Vec::len).sum();
    }
}

impl Open {
    /// Buckets of a series with a start in a span, in order.
    pub(super) fn of(
        &self,
        series: SeriesId,
        (start_us, end_us): (Micros, Micros),
    ) -> impl Iterator<Item = Bucket> {
        let buckets = self.buckets.get(&series).into_iter().flatten();
        buckets.filter(move |bucket| (start_us..end_us).contains(&bucket.start_us)).copied()
    }
}

impl Filled {
    /// Adds readings of one series in the order of their times.
    pub(super) fn add(&mut self, run: &[&Reading]) {
        let mut rest = run;
        while let Some(first) = rest.first() {
            let start_us = Level::QuarterHour.floor(first.time_us);
            let of_bucket = |reading: &&Reading| Level::QuarterHour.floor(reading.time_us) == start_us;
            let count = rest.iter().position(|reading| !of_bucket(reading)).unwrap_or(rest.len());
            let (readings, tail) = rest.split_at(count);
            rest = tail;
            if start_us < self.since_us {
                continue;
            }
            self.values.clear();
            self.values.extend(readings.iter().map(|reading| reading.value));
            self.qualities.clear();
            self.qualities.extend(readings.iter().map(|reading| reading.quality));
            let bucket = Bucket::of_values(start_us, &self.values, &self.qualities);
            match self.buckets.last_mut() {
                Some((series, last)) if (*series, last.start_us) == (first.series, start_us) => {
                    last.merge(&bucket);
                }
                _ => self.buckets.push((first.series, bucket)),
            }
        }
    }
}

/// The start of the quarter after the one that holds a time.
fn behind(time_us: Micros) -> Micros {
    Level::QuarterHour.floor(time_us).saturating_add(Level::QuarterHour.width_us())
}
