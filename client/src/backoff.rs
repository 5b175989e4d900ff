//! Waits between reconnects: full jitter, so that gateways that lost a server together do not come
//! back together.

use std::time::Duration;

/// Doublings after which the upper bound certainly is reached.
const MAX_DOUBLINGS: u32 = 20;

/// The next wait is uniform between zero and a bound that doubles from `min` to `max`.
#[derive(Debug)]
pub(crate) struct Backoff {
    min: Duration,
    max: Duration,
    failures: u32,
}

impl Backoff {
    pub(crate) fn new(min: Duration, max: Duration) -> Self {
        Self { min, max, failures: 0 }
    }

    /// A wait after one more failure.
    pub(crate) fn next(&mut self) -> Duration {
        let bound = self.min.saturating_mul(1 << self.failures.min(MAX_DOUBLINGS)).min(self.max);
        self.failures = self.failures.saturating_add(1);
        bound.mul_f64(rand::random())
    }

    /// A wait for what does not mend by itself soon: between half of the maximum and all of it.
    pub(crate) fn slow(&self) -> Duration {
        self.max.mul_f64(0.5 + 0.5 * rand::random::<f64>())
    }

    /// A short wait that says nothing about failure: a server stops and sends its clients elsewhere.
    pub(crate) fn spread(&self) -> Duration {
        self.min.mul_f64(rand::random())
    }

    /// Things work again.
    pub(crate) fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_maximum_and_never_beyond() {
        let (min, max) = (Duration::from_millis(100), Duration::from_secs(30));
        let mut backoff = Backoff::new(min, max);
        for failures in 0..10_000_u32 {
            let bound = min.saturating_mul(1 << failures.min(20)).min(max);
            assert!(backoff.next() <= bound);
        }
        assert!((0..100).map(|_| backoff.next()).any(|wait| wait > Duration::from_secs(10)));
        backoff.reset();
        assert!(backoff.next() <= min);
    }

    #[test]
    fn a_slow_wait_is_neither_short_nor_beyond_the_maximum() {
        let backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(30));
        for _ in 0..100 {
            assert!((Duration::from_secs(15)..=Duration::from_secs(30)).contains(&backoff.slow()));
        }
    }
}
