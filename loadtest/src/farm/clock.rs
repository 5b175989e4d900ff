//! Simulated time.

/// Length of a tick while the present is far: how often a device reports.
const TICK_US: i64 = 10_000_000;

/// Part of the distance to the present that one tick may cover. Far enough from 1 that a run never
/// catches up, however long it is: the clock ends up going as fast as the real one, a little behind.
const APPROACH: i64 = 30_000;

/// Parts of a tick, for the moments of devices within it. A part of a full tick is a millisecond.
const PARTS: i64 = 10_000;

pub(super) const SECOND_US: i64 = 1_000_000;
pub(super) const DAY_US: i64 = 86_400 * SECOND_US;

/// Goes from tick to tick; in each, every device may report once.
#[derive(Debug)]
pub(super) struct Clock {
    now_us: i64,
    tick_us: i64,
    ticks: u32,
}

impl Clock {
    pub(super) fn starting_at(start_us: i64) -> Self {
        Self { now_us: start_us, tick_us: 0, ticks: 0 }
    }

    /// Start of the current tick.
    pub(super) fn now_us(&self) -> i64 {
        self.now_us
    }

    /// Number of the current tick, from 1.
    pub(super) fn ticks(&self) -> u32 {
        self.ticks
    }

    /// Goes to the next tick. All of it lies before `limit_us`, unless that is closer than a microsecond.
    pub(super) fn tick(&mut self, limit_us: i64) {
        self.now_us += self.tick_us;
        self.tick_us = ((limit_us - self.now_us) / APPROACH).clamp(0, TICK_US);
        self.ticks = self.ticks.wrapping_add(1);
    }

    /// A moment of the current tick, for a `part` below 10 000.
    pub(super) fn moment(&self, part: i64) -> i64 {
        debug_assert!((0..PARTS).contains(&part), "{part} is no part of a tick");
        self.now_us + self.tick_us / PARTS * part
    }

    /// Microseconds since midnight UTC.
    pub(super) fn time_of_day_us(&self) -> i64 {
        self.now_us.rem_euclid(DAY_US)
    }
}
