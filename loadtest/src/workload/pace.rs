//! When to send: as fast as acks come, or by a schedule.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Gateway, Span, now_us, sampler::Flight};

/// How long one hand-over may wait for room before it is tried again.
const SEND_TIMEOUT: Duration = Duration::from_secs(5);

/// When to send.
#[derive(Clone, Debug)]
pub enum Pace {
    /// Closed loop: each producer has at most so many batches unacknowledged, and sends the next when one
    /// is acknowledged. Shows how much a server can take.
    Closed {
        /// Batches. 1 or more.
        window: usize,
    },
    /// Open loop: so many items a second, all producers together, on a schedule that waits for nobody.
    /// Shows how long an ack takes at that load.
    Open {
        /// Items a second. Above zero.
        rate: f64,
    },
}

impl Pace {
    /// From one item of a producer to the next; zero in a closed loop.
    pub(super) fn interval(&self, producers: usize) -> Duration {
        match self {
            Self::Closed { .. } => Duration::ZERO,
            Self::Open { rate } => Duration::from_secs_f64(producers as f64 / rate),
        }
    }
}

/// One gateway that sends.
pub(super) struct Sender {
    pub(super) gateway: Gateway,
    pub(super) flight: Arc<Flight>,
    pub(super) batch: usize,
    pub(super) start: Instant,
    pub(super) phase: Duration,
    /// Length of the schedule.
    pub(super) duration: Duration,
    /// How long after its end it may take to send what was due.
    pub(super) grace: Duration,
    pub(super) stop: CancellationToken,
}

impl Sender {
    /// Sends until it is stopped, and gives the gateway back; with the reason if it ended early.
    pub(super) async fn run(mut self, pace: Pace, producers: usize) -> (Gateway, Option<String>) {
        let trouble = match pace {
            Pace::Closed { window } => self.closed((window * self.batch) as u64).await,
            Pace::Open { .. } => self.open(pace.interval(producers)).await,
        };
        (self.gateway, trouble)
    }

    async fn closed(&mut self, window: u64) -> Option<String> {
        let mut sent = 0;
        while !self.stop.is_cancelled() {
            if sent + self.batch as u64 > self.flight.intended.lock().resolved() + window {
                tokio::select! {
                    () = self.flight.landed.notified() => continue,
                    () = self.stop.cancelled() => return None,
                }
            }
            self.gateway.prepare(self.batch, now_us());
            let now = self.start.elapsed();
            sent += self.batch as u64;
            if let Some(trouble) = self.send(now, Duration::ZERO).await {
                return Some(trouble);
            }
        }
        None
    }

    /// Ends with the schedule and not with the time: what was due and is not sent would be the slowest of
    /// all, and must not drop out of the figures.
    async fn open(&mut self, interval: Duration) -> Option<String> {
        let schedule = self.duration.saturating_sub(self.phase);
        let all = (schedule.as_secs_f64() / interval.as_secs_f64()).ceil() as usize;
        let mut sent = 0;
        while sent < all {
            // The moment of the n-th item is fixed in advance and does not depend on how the others fared.
            let next = self.phase + interval.mul_f64(sent as f64);
            let now = self.start.elapsed();
            let Some(late) = now.checked_sub(next) else {
                tokio::time::sleep_until(self.start + next).await;
                continue;
            };
            if now > self.duration + self.grace {
                return Some(format!("{late:?} late: the server does not keep up with this rate"));
            }
            let due = (late.as_secs_f64() / interval.as_secs_f64()) as usize + 1;
            let items = due.min(self.batch).min(all - sent);
            self.gateway.prepare(items, now_us());
            sent += items;
            if let Some(trouble) = self.send(next, interval).await {
                return Some(trouble);
            }
        }
        self.stop.cancelled().await;
        None
    }

    /// Hands over all that is prepared, whose first item was meant to go at `first`.
    async fn send(&mut self, first: Duration, step: Duration) -> Option<String> {
        // Known before it is handed over, since its ack may be quicker than the return of the call.
        self.flight.intended.lock().push(Span { items: self.gateway.left() as u64, first, step });
        loop {
            let Err(reason) = self.gateway.send(SEND_TIMEOUT).await else { return None };
            if !reason.is_retryable() || self.start.elapsed() > self.duration + self.grace {
                self.flight.intended.lock().take_back(self.gateway.left() as u64);
                return Some(reason.to_string());
            }
        }
    }
}
