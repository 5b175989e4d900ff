//! Puts buckets together: several series in one line, quarters of an hour in the days of a time zone.

use std::collections::{BTreeMap, btree_map::Entry};

use super::aggregate::{Bucket, Cut};
use crate::model::Micros;

/// Lines of buckets so far.
pub(in crate::store) struct Lines {
    cut: Cut,
    buckets: BTreeMap<(u32, Micros), Bucket>,
}

impl Lines {
    pub(in crate::store) fn new(cut: Cut) -> Self {
        Self { cut, buckets: BTreeMap::new() }
    }

    /// Adds a bucket of a series to a line; what lies outside of the cut is left out.
    pub(in crate::store) fn add(&mut self, line: u32, bucket: Bucket) {
        let Some(start_us) = self.cut.start_of(bucket.start_us) else { return };
        match self.buckets.entry((line, start_us)) {
            Entry::Vacant(place) => drop(place.insert(Bucket { start_us, ..bucket })),
            Entry::Occupied(mut place) => place.get_mut().merge(&bucket),
        }
    }

    /// By line, then time.
    pub(in crate::store) fn finish(self) -> Vec<(u32, Bucket)> {
        let spans = matches!(self.cut, Cut::Spans(_));
        // A span of a single quarter of an hour must not tell what others cannot.
        let told = |((line, _), bucket): (_, Bucket)| {
            (line, if spans { Bucket { median: None, p95: None, ..bucket } } else { bucket })
        };
        self.buckets.into_iter().map(told).collect()
    }
}
