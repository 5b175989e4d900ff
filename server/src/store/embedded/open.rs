//! Open buckets: quarters of an hour that no refresh has stored yet, kept in memory as commits fill them, so that a
//! question about the present does not read everything that has arrived in the last minutes. Beside those of a series
//! stands its newest reading.
//!
//! Only a help: what is not held here is computed from readings. Held is everything from one time on, which moves
//! ahead when rollups are stored, and when more is open than is held. After a start it is read again, beside
//! everything else.

use std::{collections::HashMap, sync::Arc};

use parking_lot::{Mutex, MutexGuard};

use super::{
    roll::{InHour, hours_of},
    view::View,
};
use crate::{
    model::{Micros, SeriesId},
    store::{Bucket, Level, StoreError},
};

mod filled;

pub(super) use filled::{Filled, Newest};

/// Buckets that are held, at most: 120 MB if each is of another series, with its newest reading, and texts besides.
const MOST: usize = if cfg!(test) { 50 } else { 200_000 };

/// Quarters that a start reads again, at most.
const MOST_QUARTERS: i64 = 4;

/// Blocks that are read again before they are taken in.
const BLOCKS_AT_ONCE: usize = if cfg!(test) { 2 } else { 1024 };

/// Parts of the series: of those that a commit fills it copies the ones that somebody looks at.
const PARTS: usize = 256;

/// What has been committed since rollups were stored last.
pub(super) struct OpenBuckets(Mutex<Held>);

pub(super) struct Held {
    /// The last commit that is in.
    pub(super) commit: u64,
    /// The start of a quarter of an hour: what is committed goes in from then on.
    from_us: Micros,
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

/// What is open of each series.
type Part = HashMap<SeriesId, Arc<OfSeries>>;

/// Buckets by start, and the newest of their readings.
#[derive(Clone, Default)]
struct OfSeries {
    buckets: Vec<Bucket>,
    newest: Option<Newest>,
}

impl OpenBuckets {
    /// Holds what comes after commit `commit`, of which no reading is newer than `newest_us`. Of what has come before,
    /// that from `from_us` on is to be [read again](Self::read_again).
    pub(super) fn new(commit: u64, newest_us: Option<Micros>, from_us: Micros) -> Self {
        let since_us = newest_us.map_or(Micros::MIN, behind);
        let open = Open { since_us, parts: vec![Arc::default(); PARTS] };
        Self(Mutex::new(Held { commit, from_us: from_us.min(since_us), open, count: 0 }))
    }

    /// Reads what came before the start, in the view as of then, while commits go on.
    pub(super) fn read_again(&self, view: &View<'_>) -> Result<(), StoreError> {
        let read = self.read_past(view);
        let mut held = self.held();
        match read {
            Ok(()) => held.open.since_us = held.from_us,
            Err(_) => held.let_past_go(),
        }
        read
    }

    fn read_past(&self, view: &View<'_>) -> Result<(), StoreError> {
        let span_us = {
            let held = self.held();
            (held.from_us, held.open.since_us)
        };
        for (day, chunk) in view.chunks(span_us.0, span_us.1) {
            for hour in hours_of(day, span_us) {
                let asked = InHour { chunk, hour, series: 0..=u32::MAX, span_us, tag: None };
                let mut filled = Filled::from(span_us.0);
                let mut blocks = 0;
                view.readings(&asked, |block, part| {
                    filled.add_part(block, part);
                    blocks += 1;
                    if blocks % BLOCKS_AT_ONCE > 0 {
                        return Ok(true);
                    }
                    Ok(self.held().take_past(&mut filled))
                })?;
                if !self.held().take_past(&mut filled) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Whoever holds it sees what is in as of its commit; the writer waits meanwhile.
    pub(super) fn held(&self) -> MutexGuard<'_, Held> {
        self.0.lock()
    }

    /// Unless somebody holds it.
    pub(super) fn try_held(&self) -> Option<MutexGuard<'_, Held>> {
        self.0.try_lock()
    }

    /// What a commit is going to fill.
    pub(super) fn filling(&self) -> Filled {
        Filled::from(self.held().from_us)
    }

    /// Takes in what commit `commit` has filled.
    pub(super) fn fill(&self, commit: u64, mut filled: Filled) {
        let mut held = self.held();
        held.commit = commit;
        held.take_in(&mut filled);
    }

    /// Rollups are stored up to there.
    pub(super) fn stored_before(&self, stored_us: Micros) {
        self.held().keep_from(Level::QuarterHour.floor(stored_us));
    }
}

impl Held {
    /// As it stands.
    pub(super) fn open(&self) -> &Open {
        &self.open
    }

    fn take_in(&mut self, filled: &mut Filled) {
        for (series, bucket) in filled.buckets.drain(..) {
            self.add(series, bucket);
        }
        for newest in filled.newest.drain(..) {
            self.add_newest(newest);
        }
        while self.count > MOST && self.has_past() {
            // It is read oldest first, and less of it is asked for then.
            self.keep_from(
                self.from_us.saturating_add(Level::QuarterHour.width_us()).min(self.open.since_us),
            );
        }
        if self.count > MOST {
            let series = self.open.parts.iter().flat_map(|part| part.values());
            let newest_us = series.filter_map(|series| Some(series.newest.as_ref()?.last_us)).max();
            self.keep_from(newest_us.map_or(self.open.since_us, behind));
        }
    }

    /// Takes in what was read again; false: no more is needed.
    fn take_past(&mut self, filled: &mut Filled) -> bool {
        self.take_in(filled);
        self.has_past()
    }

    /// Whether something is to be read again.
    pub(super) fn has_past(&self) -> bool {
        self.from_us < self.open.since_us
    }

    /// Lets go of what is being read again.
    pub(super) fn let_past_go(&mut self) {
        self.keep_from(self.open.since_us);
    }

    fn add(&mut self, series: SeriesId, bucket: Bucket) {
        if bucket.start_us < self.from_us {
            return;
        }
        let part = Arc::make_mut(&mut self.open.parts[part_of(series)]);
        let buckets = &mut Arc::make_mut(part.entry(series).or_default()).buckets;
        match buckets.binary_search_by_key(&bucket.start_us, |held| held.start_us) {
            Ok(place) => buckets[place].merge(&bucket),
            Err(place) => {
                buckets.insert(place, bucket);
                self.count += 1;
            }
        }
    }

    fn add_newest(&mut self, newest: Newest) {
        let part = Arc::make_mut(&mut self.open.parts[part_of(newest.block.series)]);
        // Its bucket has been added, unless that is let go.
        if let Some(series) = part.get_mut(&newest.block.series)
            && series.newest.as_ref().is_none_or(|held| newest.is_after(held))
        {
            Arc::make_mut(series).newest = Some(newest);
        }
    }

    /// Lets go of what lies before `from_us`, unless it has done so.
    fn keep_from(&mut self, from_us: Micros) {
        self.open.since_us = self.open.since_us.max(from_us);
        if from_us <= self.from_us {
            return;
        }
        self.from_us = from_us;
        self.count = 0;
        // By start: the first tells whether any goes. The newest reading lies in the last.
        let is_old =
            |series: &OfSeries| series.buckets.first().is_some_and(|bucket| bucket.start_us < from_us);
        for part in &mut self.open.parts {
            if part.values().any(|series| is_old(series)) {
                Arc::make_mut(part).retain(|_, series| {
                    if is_old(series) {
                        Arc::make_mut(series).buckets.retain(|bucket| bucket.start_us >= from_us);
                    }
                    !series.buckets.is_empty()
                });
            }
            self.count += part.values().map(|series| series.buckets.len()).sum::<usize>();
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
        let buckets = self.series(series).into_iter().flat_map(|series| &series.buckets);
        buckets.filter(move |bucket| (start_us..end_us).contains(&bucket.start_us)).copied()
    }

    /// The newest reading of a series, if it lies in what is held.
    pub(super) fn newest(&self, series: SeriesId) -> Option<&Newest> {
        self.series(series)?.newest.as_ref().filter(|newest| newest.last_us >= self.since_us)
    }

    fn series(&self, series: SeriesId) -> Option<&Arc<OfSeries>> {
        self.parts.get(part_of(series))?.get(&series)
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

/// From where on a start reads open quarters again: what no refresh has stored, but not much more than an hour.
pub(super) fn open_from(stored_us: Micros, newest_us: Micros, now_us: Micros) -> Micros {
    let present_us = Level::QuarterHour.floor(newest_us.min(now_us));
    let oldest_us = present_us.saturating_sub((MOST_QUARTERS - 1) * Level::QuarterHour.width_us());
    stored_us.clamp(oldest_us, present_us)
}

/// The start of the quarter after the one that holds a time.
fn behind(time_us: Micros) -> Micros {
    Level::QuarterHour.floor(time_us).saturating_add(Level::QuarterHour.width_us())
}

#[cfg(test)]
mod tests;
