//! Open buckets: quarters of an hour that no refresh has stored yet, kept in memory as commits fill them, so that a
//! question about the present does not read everything that has arrived in the last minutes.
//!
//! Only a help: what is not held here is computed from readings. Held is everything from one time on, which moves
//! ahead when rollups are stored, and when more is open than is held. After a start it is read again.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use super::{
    block,
    keys::HOUR_US,
    roll::{InHour, hours_of},
    view::View,
};
use crate::{
    model::{Micros, Quality, Reading, SeriesId},
    store::{Bucket, Level, StoreError},
};

/// Buckets that are held, at most: 20 MB.
const MOST: usize = if cfg!(test) { 50 } else { 200_000 };

/// Quarters that a start reads again, and their readings, at most: these take a second.
const MOST_QUARTERS: i64 = 4;
const MOST_READ: usize = if cfg!(test) { 200 } else { 50_000_000 };

/// Parts of the series: of those that a commit fills it copies the ones that somebody looks at.
const PARTS: usize = 256;

/// What has been committed since rollups were stored last.
pub(super) struct OpenBuckets(Mutex<Held>);

pub(super) struct Held {
    /// The last commit that is in.
    pub(super) commit: u64,
    open: Open,
    count: usize,
}

/// Open buckets, as they were in one view. Cheap to clone.
#[derive(Clone)]
pub(super) struct Open {
    /// The start of a quarter of an hour: every reading from then on is in.
    pub(super) since_us: Micros,
    parts: Vec<Arc<Part>>,
}

/// Buckets by start, of each series.
type Part = HashMap<SeriesId, Arc<Vec<Bucket>>>;

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
        let open = Open { since_us, parts: vec![Arc::default(); PARTS] };
        Self(Mutex::new(Held { commit, open, count: 0 }))
    }

    /// Holds again what a view sees from `from_us` on, the start of a quarter. False: that is too much, and nothing is
    /// held.
    pub(super) fn read_again(&self, view: &View<'_>, from_us: Micros) -> Result<bool, StoreError> {
        let mut held = self.0.lock();
        let since_us = std::mem::replace(&mut held.open.since_us, from_us);
        let mut read = 0;
        let span_us = (from_us, since_us);
        for (day, chunk) in view.chunks(from_us, since_us) {
            for hour in hours_of(day, span_us) {
                let asked = InHour { chunk, hour, series: 0..=u32::MAX, span_us, tag: None };
                view.readings(&asked, |series, part| {
                    read += part.values.len();
                    for bucket in quarters(hour, part) {
                        held.add(series, bucket);
                    }
                    Ok(read <= MOST_READ && held.count <= MOST)
                })?;
            }
        }
        let fits = read <= MOST_READ && held.count <= MOST;
        if !fits {
            held.open.since_us = since_us;
            held.forget();
        }
        Ok(fits)
    }

    /// Whoever holds it sees what is in as of its commit; the writer waits meanwhile.
    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock()
    }

    /// What a commit is going to fill.
    pub(super) fn filling(&self) -> Filled {
        let since_us = self.0.lock().open.since_us;
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
            let buckets = held.open.parts.iter().flat_map(|part| part.values()).flat_map(|of| of.iter());
            let newest_us = buckets.map(|bucket| bucket.start_us).max();
            held.open.since_us = newest_us.map_or(held.open.since_us, behind);
            held.forget();
        }
    }

    /// Rollups are stored up to there.
    pub(super) fn stored_before(&self, stored_us: Micros) {
        let mut held = self.0.lock();
        let since_us = Level::QuarterHour.floor(stored_us);
        if since_us > held.open.since_us {
            held.open.since_us = since_us;
            held.forget();
        }
    }
}

impl Held {
    /// As it stands.
    pub(super) fn open(&self) -> Open {
        self.open.clone()
    }

    fn add(&mut self, series: SeriesId, bucket: Bucket) {
        let part = Arc::make_mut(&mut self.open.parts[part_of(series)]);
        let buckets = Arc::make_mut(part.entry(series).or_default());
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
        let since_us = self.open.since_us;
        self.count = 0;
        // By start: the first tells whether any goes.
        let is_old = |buckets: &Vec<Bucket>| buckets.first().is_some_and(|bucket| bucket.start_us < since_us);
        for part in &mut self.open.parts {
            if part.values().any(|buckets| is_old(buckets)) {
                Arc::make_mut(part).retain(|_, buckets| {
                    if is_old(buckets) {
                        Arc::make_mut(buckets).retain(|bucket| bucket.start_us >= since_us);
                    }
                    !buckets.is_empty()
                });
            }
            self.count += part.values().map(|buckets| buckets.len()).sum::<usize>();
        }
    }
}

impl Open {
    /// Buckets of a series with a start in a span, in order.
    pub(super) fn of(
        &self,
        series: SeriesId,
        (start_us, end_us): (Micros, Micros),
    ) -> impl Iterator<Item = Bucket> {
        let buckets = self.parts.get(part_of(series)).and_then(|part| part.get(&series));
        let buckets = buckets.into_iter().flat_map(|buckets| buckets.iter());
        buckets.filter(move |bucket| (start_us..end_us).contains(&bucket.start_us)).copied()
    }
}

impl Default for Open {
    /// Nothing is held.
    fn default() -> Self {
        Self { since_us: Micros::MAX, parts: Vec::new() }
    }
}

fn part_of(series: SeriesId) -> usize {
    series.0 as usize % PARTS
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

/// The quarters of an hour, from readings of it in the order of their times.
fn quarters(hour: i64, part: block::Part<'_>) -> impl Iterator<Item = Bucket> {
    let width_us = Level::QuarterHour.width_us();
    let starts =
        (0..HOUR_US / width_us).map(move |n| hour.saturating_mul(HOUR_US).saturating_add(n * width_us));
    starts.filter_map(move |start_us| {
        let part = part.between(start_us, start_us.saturating_add(width_us));
        (!part.values.is_empty()).then(|| Bucket::of_values(start_us, part.values, part.qualities))
    })
}

/// From where on a start reads open quarters again, the first that fits: what no refresh has stored, but not much more
/// than an hour; the present quarter.
pub(super) fn open_from(stored_us: Micros, newest_us: Micros, now_us: Micros) -> [Micros; 2] {
    let present_us = Level::QuarterHour.floor(newest_us.min(now_us));
    let oldest_us = present_us.saturating_sub((MOST_QUARTERS - 1) * Level::QuarterHour.width_us());
    [stored_us.clamp(oldest_us, present_us), present_us]
}

/// The start of the quarter after the one that holds a time.
fn behind(time_us: Micros) -> Micros {
    Level::QuarterHour.floor(time_us).saturating_add(Level::QuarterHour.width_us())
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUARTER: Micros = Level::QuarterHour.width_us();

    fn reading(series: u32, time_us: Micros) -> Reading {
        Reading {
            series: SeriesId(series),
            time_us,
            value: 1.0,
            quality: Quality::Valid,
            is_interpolated: false,
            animal_id: None,
            zone_id: None,
            battery_level: None,
            signal_strength: None,
            session_id: None,
            metadata: None,
        }
    }

    fn fill(open: &OpenBuckets, commit: u64, readings: &[Reading]) {
        let mut filled = open.filling();
        let readings: Vec<_> = readings.iter().collect();
        readings.chunk_by(|a, b| a.series == b.series).for_each(|run| filled.add(run));
        open.fill(commit, filled);
    }

    /// Since when buckets are held, and the starts and counts of a series' buckets.
    fn held(open: &OpenBuckets, series: u32) -> (Micros, Vec<(Micros, u64)>) {
        let held = open.held().open();
        let buckets = held.of(SeriesId(series), (Micros::MIN, Micros::MAX));
        (held.since_us, buckets.map(|bucket| (bucket.start_us, bucket.count)).collect())
    }

    #[test]
    fn what_came_before_the_start_is_not_held() {
        let open = OpenBuckets::new(7, Some(QUARTER + 1));
        assert_eq!(open.held().commit, 7);
        fill(&open, 8, &[reading(1, 2 * QUARTER - 1), reading(1, 2 * QUARTER), reading(1, 2 * QUARTER)]);
        fill(&open, 9, &[reading(1, 2 * QUARTER + 5), reading(1, 4 * QUARTER)]);
        assert_eq!(open.held().commit, 9);
        assert_eq!(held(&open, 1), (2 * QUARTER, vec![(2 * QUARTER, 3), (4 * QUARTER, 1)]));
        assert_eq!(held(&open, 2), (2 * QUARTER, vec![]));
    }

    #[test]
    fn what_is_stored_is_let_go() {
        let open = OpenBuckets::new(0, None);
        fill(&open, 1, &[reading(1, 0), reading(1, QUARTER), reading(2, 0)]);
        open.stored_before(QUARTER + 5);
        assert_eq!(held(&open, 1), (QUARTER, vec![(QUARTER, 1)]));
        open.stored_before(0);
        assert_eq!(held(&open, 2), (QUARTER, vec![]), "never back");
    }

    #[test]
    fn a_start_reads_what_is_not_stored_but_not_much_more_than_an_hour() {
        let from = |stored_us, newest_us| open_from(stored_us, newest_us, 20 * QUARTER + 5);
        assert_eq!(from(18 * QUARTER, 20 * QUARTER + 3), [18 * QUARTER, 20 * QUARTER]);
        assert_eq!(from(Micros::MIN, 20 * QUARTER + 3), [17 * QUARTER, 20 * QUARTER], "never stored");
        assert_eq!(from(18 * QUARTER, Micros::MAX), [18 * QUARTER, 20 * QUARTER], "a clock is ahead");
        assert_eq!(from(20 * QUARTER, 9 * QUARTER), [9 * QUARTER; 2], "nothing has come since");
    }

    #[test]
    fn more_than_is_held_is_let_go_at_once() {
        let open = OpenBuckets::new(0, None);
        let many: Vec<_> = (0..=MOST as i64).map(|n| reading(1, n * QUARTER)).collect();
        fill(&open, 1, &many);
        let since_us = many.len() as i64 * QUARTER;
        assert_eq!(held(&open, 1), (since_us, vec![]));
        fill(&open, 2, &[reading(1, since_us - 1), reading(1, since_us)]);
        assert_eq!(held(&open, 1), (since_us, vec![(since_us, 1)]));
    }
}
