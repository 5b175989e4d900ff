use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::{
    health::Readiness,
    metrics::{self, METERS},
};
use crate::store::Description;

/// Seconds that the status page looks back.
pub(super) const HISTORY: usize = 300;

/// What the status page and the probes know about one server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Board(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    facts: Facts,
    readiness: watch::Sender<Readiness>,
    history: Mutex<History>,
}

/// What does not change while the server runs.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Where gRPC is served.
    pub grpc: SocketAddr,
    /// Where the status page is served.
    pub http: Option<SocketAddr>,
    /// Where readings are kept.
    pub store: Description,
    /// Bound of bytes received and not yet committed.
    pub buffer: u64,
    /// When the server started.
    pub started: Instant,
}

/// The last minutes, a sample each second.
#[derive(Debug)]
pub(super) struct History {
    samples: VecDeque<Sample>,
    before: Totals,
    at: Instant,
}

/// One second.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Sample {
    /// Readings and milkings stored, a second.
    pub(super) readings: f64,
    /// Mean time of a commit; zero when there was none.
    pub(super) commit: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Totals {
    stored: u64,
    commits: u64,
    commit_micros: u64,
}

impl Board {
    /// A board without history.
    pub fn new(facts: Facts) -> Self {
        let history =
            History { samples: VecDeque::with_capacity(HISTORY), before: Totals::now(), at: Instant::now() };
        Self(Arc::new(Shared {
            facts,
            readiness: watch::Sender::new(Readiness::Starting),
            history: Mutex::new(history),
        }))
    }

    /// Whether the server should be sent work.
    pub fn readiness(&self) -> Readiness {
        self.0.readiness.borrow().clone()
    }

    /// Follows [`Board::readiness`].
    #[cfg(test)]
    pub(super) fn follow(&self) -> watch::Receiver<Readiness> {
        self.0.readiness.subscribe()
    }

    /// Takes a new readiness; answers whether it differs from the one before.
    pub(super) fn set_readiness(&self, readiness: &Readiness) -> bool {
        self.0.readiness.send_if_modified(|current| {
            let changed = current != readiness;
            if changed {
                current.clone_from(readiness);
            }
            changed
        })
    }

    /// Adds what happened since the last call.
    pub(super) fn sample(&self) {
        self.0.history.lock().sample(Instant::now(), Totals::now());
        metrics::upkeep();
    }

    pub(super) fn facts(&self) -> &Facts {
        &self.0.facts
    }

    /// The last samples, oldest first.
    pub(super) fn samples(&self) -> Vec<Sample> {
        self.0.history.lock().samples.iter().copied().collect()
    }
}

impl Totals {
    fn now() -> Self {
        let (commits, commit_micros) = METERS.commits.get();
        Self { stored: METERS.stored.get(), commits, commit_micros }
    }
}

impl History {
    fn sample(&mut self, at: Instant, totals: Totals) {
        let seconds = at.duration_since(self.at).as_secs_f64().max(0.001);
        let commits = totals.commits.saturating_sub(self.before.commits);
        let micros = totals.commit_micros.saturating_sub(self.before.commit_micros);
        let sample = Sample {
            readings: totals.stored.saturating_sub(self.before.stored) as f64 / seconds,
            commit: Duration::from_micros(micros.checked_div(commits).unwrap_or(0)),
        };
        if self.samples.len() == HISTORY {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
        (self.before, self.at) = (totals, at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn history_keeps_rates_and_forgets_the_oldest() {
        let start = Instant::now();
        let zero = Totals { stored: 0, commits: 0, commit_micros: 0 };
        let mut history = History { samples: VecDeque::new(), before: zero, at: start };
        let second = |n: usize| start + Duration::from_secs(n as u64);
        history.sample(second(2), Totals { stored: 500, commits: 4, commit_micros: 10_000 });
        assert_eq!(history.samples[0], Sample { readings: 250.0, commit: Duration::from_micros(2500) });
        for n in 3..=HISTORY + 2 {
            history.sample(second(n), Totals { stored: 500, commits: 4, commit_micros: 10_000 });
        }
        assert_eq!(history.samples.len(), HISTORY);
        assert_eq!(history.samples[0], Sample::default());
    }
}
