//! What blocks add to open buckets, as they are committed or read again.

use crate::{
    model::{Micros, Reading, SeriesId},
    store::{
        Bucket, Level,
        embedded::{
            block::{Part, Values},
            commit::ORDINAL_BITS,
            keys::BlockKey,
        },
    },
};

/// Texts of a reading that is held in memory, at most; others are read from their blocks.
const MOST_TEXT_BYTES: usize = 256;

/// The buckets that some blocks fill, and the newest reading of each series among what they hold.
pub(in crate::store::embedded) struct Filled {
    from_us: Micros,
    pub(super) buckets: Vec<(SeriesId, Bucket)>,
    pub(super) newest: Vec<Newest>,
    values: Values,
}

/// The last reading of a block.
#[derive(Clone)]
pub(in crate::store::embedded) struct Newest {
    pub(in crate::store::embedded) block: BlockKey,
    pub(in crate::store::embedded) last_us: Micros,
    /// None: it is to be read.
    pub(in crate::store::embedded) reading: Option<Reading>,
}

impl Newest {
    /// Of a block that ends at `last_us`.
    pub(in crate::store::embedded) fn new(block: BlockKey, last_us: Micros) -> Self {
        Self { block, last_us, reading: None }
    }

    /// Whether it comes after another: of equal times, the one that was committed later is the newer.
    pub(in crate::store::embedded) fn is_after(&self, other: &Self) -> bool {
        let order = |newest: &Self| {
            let BlockKey { stamp, first_us, .. } = newest.block;
            (newest.last_us, stamp >> ORDINAL_BITS, first_us, stamp)
        };
        order(self) > order(other)
    }
}

impl Filled {
    /// Takes what is not before `from_us`, the start of a quarter.
    pub(super) fn from(from_us: Micros) -> Self {
        Self { from_us, buckets: Vec::new(), newest: Vec::new(), values: Values::default() }
    }

    /// Adds a block as it is written.
    pub(in crate::store::embedded) fn add(&mut self, block: BlockKey, run: &[&Reading]) {
        let Some(&last) = run.last().filter(|last| last.time_us >= self.from_us) else { return };
        let mut values = std::mem::take(&mut self.values);
        values.take(run);
        self.add_part(block, values.all());
        self.values = values;
        if last.text_bytes() <= MOST_TEXT_BYTES
            && let Some(newest) = self.newest.last_mut().filter(|newest| newest.block == block)
        {
            newest.reading = Some(last.clone());
        }
    }

    /// Adds a block, or the end of one.
    pub(super) fn add_part(&mut self, block: BlockKey, part: Part<'_>) {
        let (_, mut rest) = part.split_at(part.times_us.partition_point(|time_us| *time_us < self.from_us));
        while let Some(&first_us) = rest.times_us.first() {
            let start_us = Level::QuarterHour.floor(first_us);
            let is_in = |time_us: &Micros| Level::QuarterHour.floor(*time_us) == start_us;
            let (quarter, tail) = rest.split_at(rest.times_us.partition_point(is_in));
            rest = tail;
            let bucket = Bucket::of_values(start_us, quarter.values, quarter.qualities);
            match self.buckets.last_mut() {
                Some((series, last)) if (*series, last.start_us) == (block.series, start_us) => {
                    last.merge(&bucket);
                }
                _ => self.buckets.push((block.series, bucket)),
            }
        }
        let Some(&last_us) = part.times_us.last().filter(|last_us| **last_us >= self.from_us) else { return };
        let newest = Newest::new(block, last_us);
        match self.newest.last_mut() {
            Some(last) if last.block.series == block.series => {
                if newest.is_after(last) {
                    *last = newest;
                }
            }
            _ => self.newest.push(newest),
        }
    }
}
