//! From intended send time to durable ack, without coordinated omission.
//!
//! A schedule says when each item ought to be sent. Whatever holds the sender up (a full buffer, a busy
//! machine, a server that stalls) counts, since the clock of an item starts at its intended moment and not
//! when its turn comes. Fates are cumulative in the order of sending, so the count of items whose fate is
//! known tells which items those are.

use std::{collections::VecDeque, time::Duration};

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest latency that is told apart; longer ones count as this.
const LONGEST_US: u64 = 600_000_000;

/// Items in the order of sending, with the moment each was meant to be sent at.
#[derive(Debug, Default)]
pub struct Intended {
    spans: VecDeque<Span>,
    resolved: u64,
}

/// Items that were meant to be sent evenly from a moment on.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    /// How many.
    pub items: u64,
    /// Moment of the first, since the start of the run.
    pub first: Duration,
    /// From one to the next; zero: all at once.
    pub step: Duration,
}

impl Intended {
    /// Adds what comes next.
    pub fn push(&mut self, span: Span) {
        if span.items > 0 {
            self.spans.push_back(span);
        }
    }

    /// Takes back the last items: they were not taken, and come again in another span.
    pub fn take_back(&mut self, mut items: u64) {
        while items > 0
            && let Some(last) = self.spans.back_mut()
        {
            let part = items.min(last.items);
            last.items -= part;
            items -= part;
            if last.items == 0 {
                self.spans.pop_back();
            }
        }
    }

    /// Notes that the fate of the first `resolved` items ever is known at `now`, and records how long
    /// those took that were not known before.
    pub fn resolve(&mut self, resolved: u64, now: Duration, into: &mut Latencies) {
        while self.resolved < resolved
            && let Some(span) = self.spans.front_mut()
        {
            let items = span.items.min(resolved - self.resolved);
            if span.step.is_zero() {
                into.record(now.saturating_sub(span.first), items);
            } else {
                let mut at = span.first;
                for _ in 0..items {
                    into.record(now.saturating_sub(at), 1);
                    at += span.step;
                }
                span.first = at;
            }
            span.items -= items;
            self.resolved += items;
            if span.items == 0 {
                self.spans.pop_front();
            }
        }
    }

    /// Items whose fate is known.
    pub fn resolved(&self) -> u64 {
        self.resolved
    }
}

/// A histogram of latencies, to the microsecond and three digits.
#[derive(Clone, Debug)]
pub struct Latencies(Histogram<u64>);

/// What a person wants to know of them. Milliseconds.
#[derive(Clone, Copy, Debug, Default, Serialize)]
#[allow(missing_docs, reason = "the usual figures")]
pub struct Percentiles {
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
    /// How many were measured.
    pub samples: u64,
}

impl Default for Latencies {
    fn default() -> Self {
        Self(Histogram::new_with_max(LONGEST_US, 3).expect("bounds that a histogram allows"))
    }
}

impl Latencies {
    /// Counts `items` that took so long.
    pub fn record(&mut self, latency: Duration, items: u64) {
        self.0.saturating_record_n(u64::try_from(latency.as_micros()).unwrap_or(LONGEST_US), items);
    }

    /// Adds another histogram's.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, so nothing can be refused.
        let _ = self.0.add(&other.0);
    }

    /// Forgets all.
    pub fn clear(&mut self) {
        self.0.reset();
    }

    /// The usual figures; zeros when nothing was recorded.
    pub fn percentiles(&self) -> Percentiles {
        let ms = |quantile| self.0.value_at_quantile(quantile) as f64 / 1_000.0;
        Percentiles {
            p50: ms(0.5),
            p90: ms(0.9),
            p99: ms(0.99),
            p999: ms(0.999),
            max: self.0.max() as f64 / 1_000.0,
            samples: self.0.len(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_stall_counts_for_every_item_that_was_due_meanwhile() {
        // One item a millisecond; the server answers nothing for a second and then everything.
        let mut intended = Intended::default();
        intended.push(Span { items: 1_000, first: ms(0), step: ms(1) });
        let mut latencies = Latencies::default();
        intended.resolve(1_000, ms(1_000), &mut latencies);
        let p = latencies.percentiles();
        assert_eq!(p.samples, 1_000);
        assert!((p.p50 - 500.0).abs() < 2.0 && (p.p99 - 990.0).abs() < 2.0 && p.max >= 1_000.0, "{p:?}");
    }

    #[test]
    fn a_part_of_a_span_is_the_front_of_it() {
        let mut intended = Intended::default();
        intended.push(Span { items: 10, first: ms(0), step: ms(10) });
        let mut latencies = Latencies::default();
        intended.resolve(4, ms(50), &mut latencies);
        assert_eq!(latencies.percentiles().max.round() as u64, 50);
        latencies.clear();
        intended.resolve(10, ms(100), &mut latencies);
        // The fifth was meant to go at 40.
        assert_eq!((latencies.percentiles().max.round() as u64, latencies.percentiles().samples), (60, 6));
    }

    #[test]
    fn what_was_not_taken_is_measured_when_it_is() {
        let mut intended = Intended::default();
        intended.push(Span { items: 5, first: ms(0), step: ms(0) });
        intended.take_back(2);
        intended.push(Span { items: 2, first: ms(0), step: ms(0) });
        let mut latencies = Latencies::default();
        intended.resolve(3, ms(10), &mut latencies);
        intended.resolve(5, ms(30), &mut latencies);
        assert_eq!(latencies.percentiles().samples, 5);
        assert_eq!(latencies.percentiles().max.round() as u64, 30);
    }

    #[test]
    fn an_absurd_latency_is_the_longest() {
        let mut latencies = Latencies::default();
        latencies.record(Duration::from_secs(100_000), 1);
        assert!(latencies.percentiles().max >= 599_000.0);
    }

    proptest! {
        /// Against one moment kept per item.
        #[test]
        fn spans_agree_with_a_list_of_moments(
            spans in prop::collection::vec((1_u64..40, 0_u64..500, 0_u64..5), 1..20),
            acks in prop::collection::vec((0_u64..60, 0_u64..100), 1..40),
        ) {
            let mut intended = Intended::default();
            let mut moments = Vec::new();
            for (items, first, step) in spans {
                intended.push(Span { items, first: ms(first), step: ms(step) });
                moments.extend((0..items).map(|n| first + n * step));
            }
            let (mut recorded, mut expected) = (Latencies::default(), Latencies::default());
            let (mut resolved, mut now) = (0_usize, 0);
            for (items, later) in acks {
                now += later;
                let until = (resolved + items as usize).min(moments.len());
                intended.resolve(until as u64, ms(now), &mut recorded);
                for at in &moments[resolved..until] {
                    expected.record(ms(now.saturating_sub(*at)), 1);
                }
                resolved = until;
                prop_assert_eq!(intended.resolved(), resolved as u64);
            }
            prop_assert_eq!(&recorded.0, &expected.0);
        }
    }
}
