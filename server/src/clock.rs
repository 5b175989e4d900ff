use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::model::{Micros, SECOND_US, now_us};

/// Difference between the two clocks that is a jump, and no drift.
const JUMP_US: Micros = 60 * SECOND_US;

/// The server's clock, mistrusted.
///
/// A wall clock that jumps must not send good readings to quarantine. So the present is a span: from the
/// earlier to the later of what the wall clock says and what it would say had it run evenly since the server
/// started. As long as nothing jumps the two agree.
#[derive(Debug)]
pub(crate) struct Clock(Mutex<Anchor>);

#[derive(Debug)]
struct Anchor {
    at: Instant,
    wall_us: Micros,
    jumped: bool,
}

/// The present, bounds included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Present {
    pub(crate) earliest_us: Micros,
    pub(crate) latest_us: Micros,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self(Mutex::new(Anchor { at: Instant::now(), wall_us: now_us(), jumped: false }))
    }

    pub(crate) fn present(&self) -> Present {
        self.0.lock().present(Instant::now(), now_us())
    }
}

impl Anchor {
    fn present(&mut self, at: Instant, wall_us: Micros) -> Present {
        let elapsed = at.saturating_duration_since(self.at);
        let even_us =
            self.wall_us.saturating_add(Micros::try_from(elapsed.as_micros()).unwrap_or(Micros::MAX));
        let ahead_us = wall_us.saturating_sub(even_us);
        if ahead_us.saturating_abs() < JUMP_US {
            // Drift is followed, so that it does not add up to a jump.
            if elapsed > Duration::from_mins(1) {
                (self.at, self.wall_us) = (at, wall_us);
            }
        } else if !self.jumped {
            self.jumped = true;
            let seconds = ahead_us / SECOND_US;
            tracing::warn!(seconds, "the clock jumped: times on either side are accepted until a restart");
        }
        Present { earliest_us: wall_us.min(even_us), latest_us: wall_us.max(even_us) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_the_wall_clock_does_true_time_is_within_the_present(
            steps in prop::collection::vec((1..100_000_u64, -86_400..86_400_i64, prop::bool::weighted(0.2)), 1..50)
        ) {
            let start = Instant::now();
            let mut anchor = Anchor { at: start, wall_us: 0, jumped: false };
            let (mut true_ms, mut offset_us) = (0, 0);
            for (step_ms, jump_s, jumps) in steps {
                true_ms += step_ms;
                if jumps && jump_s.abs() > 61 {
                    // One jump, or several: what counts is where the wall clock stands beside true time.
                    offset_us = if offset_us == 0 { jump_s * SECOND_US } else { 0 };
                }
                let true_us = true_ms as Micros * 1000;
                let present = anchor.present(start + Duration::from_millis(true_ms), true_us + offset_us);
                prop_assert!(present.earliest_us <= true_us && true_us <= present.latest_us, "{present:?} {true_us}");
            }
        }

        #[test]
        fn drift_is_followed(parts_per_million in -500..500_i64) {
            let start = Instant::now();
            let mut anchor = Anchor { at: start, wall_us: 0, jumped: false };
            for minute in 1..10_000_i64 {
                let true_us = minute * 61 * SECOND_US;
                let wall_us = true_us + true_us / 1_000_000 * parts_per_million;
                let present = anchor.present(start + Duration::from_micros(true_us.unsigned_abs()), wall_us);
                prop_assert!(present.latest_us - present.earliest_us < SECOND_US, "{present:?}");
            }
            prop_assert!(!anchor.jumped);
        }
    }
}
