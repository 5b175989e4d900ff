//! Watches what becomes of everything that is sent.

use std::{convert::Infallible, sync::Arc, time::Duration};

use herdstream_client::Producer;
use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{Intended, Latencies, Second};

/// How often the fates of what was sent are looked at: the resolution of all latencies.
pub(super) const LOOK: Duration = Duration::from_millis(1);

/// What one sender has under way; shared with the sampler.
#[derive(Debug, Default)]
pub(super) struct Flight {
    pub(super) intended: Mutex<Intended>,
    /// Told when the fate of more items is known.
    pub(super) landed: Notify,
}

/// Looks at the counters of all producers and turns them into latencies.
#[derive(Debug)]
pub(super) struct Sampler {
    watched: Vec<(Producer, Arc<Flight>)>,
    start: Instant,
    all: Latencies,
    this_second: Latencies,
    timeline: Vec<Second>,
    pending: u64,
    resolved: u64,
    last: (f64, u64),
}

impl Sampler {
    pub(super) fn new(watched: Vec<(Producer, Arc<Flight>)>, start: Instant) -> Self {
        Self {
            watched,
            start,
            all: Latencies::default(),
            this_second: Latencies::default(),
            timeline: Vec::new(),
            pending: 0,
            resolved: 0,
            last: (0.0, 0),
        }
    }

    /// To be called every [`LOOK`].
    pub(super) fn look(&mut self) {
        (self.pending, self.resolved) = (0, 0);
        for (producer, flight) in &self.watched {
            let counters = producer.counters();
            let resolved = counters.accepted - counters.pending;
            let mut intended = flight.intended.lock();
            if resolved > intended.resolved() {
                intended.resolve(resolved, self.start.elapsed(), &mut self.this_second);
                flight.landed.notify_one();
            }
            self.resolved += intended.resolved();
            self.pending += counters.pending;
        }
    }

    /// Goes on looking: what was sent in time may be acknowledged later.
    pub(super) async fn keep_looking(&mut self) -> Infallible {
        loop {
            self.look();
            tokio::time::sleep(LOOK).await;
        }
    }

    /// Items whose fate was known at the last look.
    pub(super) fn resolved(&self) -> u64 {
        self.resolved
    }

    /// What was sent in time and acknowledged afterwards counts too: it is the slowest of all.
    pub(super) fn finish(mut self) -> (Latencies, Vec<Second>) {
        self.look();
        self.all.add(&self.this_second);
        (self.all, self.timeline)
    }

    /// Closes a second.
    pub(super) fn second(&mut self) -> &Second {
        let at = self.start.elapsed().as_secs_f64();
        let percentiles = self.this_second.percentiles();
        let (before, resolved) = self.last;
        self.timeline.push(Second {
            at,
            rate: (self.resolved - resolved) as f64 / (at - before),
            p50_ms: percentiles.p50,
            p99_ms: percentiles.p99,
            max_ms: percentiles.max,
            pending: self.pending,
        });
        self.last = (at, self.resolved);
        self.all.add(&self.this_second);
        self.this_second.clear();
        self.timeline.last().expect("one was pushed")
    }
}
