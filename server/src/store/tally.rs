//! Collects the values of one bucket.

use super::aggregate::{Bucket, Level};
use crate::model::{Micros, Quality};

/// Values of a bucket that are held for its percentiles, at most: 32 MiB.
const MOST_HELD: usize = if cfg!(test) { 100 } else { 4 << 20 };

/// Bins of one pass over more values than are held.
const BINS: usize = 1 << 16;

/// Which percentiles are kept of a level.
const fn kept(level: Level) -> (bool, bool) {
    match level {
        Level::QuarterHour => (false, false),
        Level::Hour => (true, true),
        Level::Day => (true, false),
    }
}

/// The values of one bucket so far.
pub(in crate::store) struct Tally {
    /// Its percentiles are not known yet.
    bucket: Bucket,
    level: Level,
    percentiles: bool,
    held: Vec<f64>,
}

impl Tally {
    /// An empty bucket of a level; with `percentiles` those that are kept of the level are told.
    pub(in crate::store) fn new(level: Level, start_us: Micros, percentiles: bool) -> Self {
        let bucket = Bucket {
            start_us,
            count: 0,
            valid_count: 0,
            error_count: 0,
            sum: 0.0,
            min: f64::INFINITY,
            max: f64::NEG_INFINITY,
            squares: 0.0,
            median: None,
            p95: None,
        };
        let percentiles = percentiles && kept(level) != (false, false);
        Self { bucket, level, percentiles, held: Vec::new() }
    }

    /// Start of the bucket.
    pub(in crate::store) fn start_us(&self) -> Micros {
        self.bucket.start_us
    }

    /// Values that it holds in memory.
    pub(in crate::store) fn held(&self) -> usize {
        self.held.len()
    }

    /// Adds finite values with their qualities; without qualities, all are valid.
    pub(in crate::store) fn extend(&mut self, values: &[f64], qualities: &[Quality]) {
        if values.is_empty() {
            return;
        }
        let more = Bucket::of_values(self.bucket.start_us, values, qualities);
        if self.bucket.count == 0 {
            self.bucket = more;
        } else {
            self.bucket.merge(&more);
        }
        if self.percentiles && self.held.len() < MOST_HELD {
            self.held.extend_from_slice(values);
        }
    }

    /// The bucket; None: it is empty. `scan` shows every value again: it is asked where there are more than can be
    /// held.
    ///
    /// # Errors
    ///
    /// What `scan` answers.
    pub(in crate::store) fn finish<E>(
        mut self,
        mut scan: impl FnMut(&mut dyn FnMut(&[f64])) -> Result<(), E>,
    ) -> Result<Option<Bucket>, E> {
        if self.bucket.count == 0 {
            return Ok(None);
        }
        if self.percentiles {
            let (median, p95) = kept(self.level);
            let count = self.bucket.count;
            let mut percentile = |fraction: f64| -> Result<f64, E> {
                if self.held.len() as u64 == count {
                    return Ok(selected(fraction, &mut self.held));
                }
                let (low, high, between) = place(fraction, count);
                let below = ranked(low, &mut scan)?;
                let above = if high == low { below } else { ranked(high, &mut scan)? };
                Ok(below + (above - below) * between)
            };
            self.bucket.median = median.then(|| percentile(0.5)).transpose()?;
            self.bucket.p95 = p95.then(|| percentile(0.95)).transpose()?;
        }
        Ok(Some(self.bucket))
    }
}

/// SQL's `percentile_cont` lies between the values of two ranks: those, from 0, and how far from the first.
fn place(fraction: f64, count: u64) -> (u64, u64, f64) {
    let position = fraction * (count - 1) as f64;
    (position.floor() as u64, position.ceil() as u64, position.fract())
}

/// A percentile of one value or more, which it puts in another order.
fn selected(fraction: f64, values: &mut [f64]) -> f64 {
    let (low, high, between) = place(fraction, values.len() as u64);
    let (_, &mut below, rest) = values.select_nth_unstable_by(low as usize, f64::total_cmp);
    let next = rest.iter().copied().min_by(f64::total_cmp).filter(|_| high > low);
    next.map_or(below, |above| below + (above - below) * between)
}

/// The value of a rank, from 0, among more values than can be held: each pass narrows the range by the bins.
fn ranked<E>(rank: u64, scan: &mut impl FnMut(&mut dyn FnMut(&[f64])) -> Result<(), E>) -> Result<f64, E> {
    let (mut low, mut width) = (0_u64, u64::MAX);
    let mut before = 0;
    loop {
        let bin_width = width / BINS as u64 + 1;
        let mut bins = vec![0_u64; BINS];
        scan(&mut |values| {
            for place in values.iter().copied().map(ordered) {
                if place >= low && place - low <= width {
                    bins[((place - low) / bin_width) as usize] += 1;
                }
            }
        })?;
        let mut seen = before;
        let bin = bins.iter().position(|count| {
            seen += count;
            seen > rank
        });
        let bin = bin.unwrap_or(BINS - 1);
        before = seen - bins[bin];
        low += bin as u64 * bin_width;
        width = bin_width - 1;
        if width == 0 {
            return Ok(unordered(low));
        }
    }
}

/// A number that sorts as the value does.
fn ordered(value: f64) -> u64 {
    let bits = value.to_bits();
    if bits >> 63 == 1 { !bits } else { bits | 1 << 63 }
}

fn unordered(place: u64) -> f64 {
    f64::from_bits(if place >> 63 == 1 { place & !(1 << 63) } else { !place })
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use proptest::prelude::*;

    use super::*;

    fn tally(level: Level, values: &[f64]) -> Option<Bucket> {
        tally_of(level, values, values.len().max(1))
    }

    /// As they come: so many at a time. In tests few of them are held.
    fn tally_of(level: Level, values: &[f64], at_once: usize) -> Option<Bucket> {
        let mut tally = Tally::new(level, 0, true);
        values.chunks(at_once).for_each(|values| tally.extend(values, &[]));
        let scan = |see: &mut dyn FnMut(&[f64])| {
            values.chunks(at_once).for_each(see);
            Ok::<_, Infallible>(())
        };
        tally.finish(scan).unwrap()
    }

    #[test]
    fn percentiles_are_those_of_sql() {
        let hour = tally(Level::Hour, &[4.0, 1.0, 3.0, 2.0]).unwrap();
        assert_eq!((hour.median, hour.p95), (Some(2.5), Some(3.849_999_999_999_999_6)));
        let day = tally(Level::Day, &[7.0]).unwrap();
        assert_eq!((day.median, day.p95, day.stddev()), (Some(7.0), None, None));
        let quarter = tally(Level::QuarterHour, &[1.0, 2.0]).unwrap();
        assert_eq!((quarter.median, quarter.p95), (None, None));
        assert_eq!(tally(Level::Day, &[]), None);
    }

    proptest! {
        #[test]
        fn a_tally_equals_a_plain_computation(
            values in prop::collection::vec(-1e6..1e6_f64, 1..200),
            at_once in 1..50_usize,
        ) {
            let bucket = tally_of(Level::Hour, &values, at_once).unwrap();
            let count = values.len() as f64;
            let mean = values.iter().sum::<f64>() / count;
            let squares: f64 = values.iter().map(|value| (value - mean).powi(2)).sum();
            prop_assert_eq!(bucket.count, values.len() as u64);
            prop_assert!((bucket.avg() - mean).abs() <= 1e-9 * mean.abs().max(1.0));
            prop_assert!((bucket.squares - squares).abs() <= 1e-9 * squares.max(1.0));
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            prop_assert_eq!(bucket.min.to_bits(), least.to_bits());
            let greatest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            prop_assert_eq!(bucket.max.to_bits(), greatest.to_bits());
            let mut sorted = values.clone();
            sorted.sort_unstable_by(f64::total_cmp);
            let percentile = |fraction: f64| {
                let position = fraction * (count - 1.0);
                let (low, high) = (sorted[position.floor() as usize], sorted[position.ceil() as usize]);
                low + (high - low) * position.fract()
            };
            prop_assert_eq!((bucket.median, bucket.p95), (Some(percentile(0.5)), Some(percentile(0.95))));
        }

        #[test]
        fn two_halves_merge_to_the_whole(
            values in prop::collection::vec(-1e3..1e3_f64, 2..100),
            at in 1..99_usize,
        ) {
            let (left, right) = values.split_at(at.min(values.len() - 1));
            let mut merged = tally(Level::QuarterHour, left).unwrap();
            merged.merge(&tally(Level::QuarterHour, right).unwrap());
            let whole = tally(Level::QuarterHour, &values).unwrap();
            prop_assert_eq!((merged.count, merged.min, merged.max), (whole.count, whole.min, whole.max));
            prop_assert!((merged.sum - whole.sum).abs() < 1e-6);
            prop_assert!((merged.squares - whole.squares).abs() <= 1e-9 * whole.squares.max(1.0));
        }

        #[test]
        fn a_rank_is_found_in_passes_as_in_order(
            values in prop::collection::vec(any::<f64>(), 1..50),
            at in any::<prop::sample::Index>(),
        ) {
            let mut sorted: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
            prop_assume!(!sorted.is_empty());
            sorted.sort_unstable_by(f64::total_cmp);
            let rank = at.index(sorted.len());
            let shown = sorted.clone();
            let found = ranked(rank as u64, &mut |see: &mut dyn FnMut(&[f64])| {
                shown.chunks(3).rev().for_each(&mut *see);
                Ok::<_, Infallible>(())
            });
            prop_assert_eq!(found.unwrap().to_bits(), sorted[rank].to_bits());
        }
    }
}
