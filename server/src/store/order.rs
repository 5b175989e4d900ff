//! A group's readings in the order in which they are stored, and their count by minute.

use std::collections::HashMap;

use crate::model::Reading;

/// Microseconds of a minute.
const MINUTE_US: i64 = 60_000_000;

/// By series, then time, then place in the group.
pub(in crate::store) fn sort<'a>(readings: &[&'a Reading]) -> Vec<&'a Reading> {
    let mut order: Vec<u128> = (readings.iter().enumerate())
        .map(|(place, reading)| {
            let time = (reading.time_us as u64) ^ (1 << 63);
            // A group is far smaller than 2^32 readings: the lanes bound its bytes.
            u128::from(reading.series.0) << 96 | u128::from(time) << 32 | place as u128
        })
        .collect();
    order.sort_unstable();
    order.into_iter().map(|key| readings[key as u32 as usize]).collect()
}

/// Readings by minute.
#[derive(Default)]
pub(in crate::store) struct Minutes {
    /// By minutes since 1970.
    pub(in crate::store) counts: HashMap<i64, u64>,
}

impl Minutes {
    /// Adds readings in the order of their times.
    pub(in crate::store) fn add(&mut self, run: &[&Reading]) {
        let mut rest = run;
        while let Some(first) = rest.first() {
            let minute = first.time_us.div_euclid(MINUTE_US);
            let end = (minute + 1).saturating_mul(MINUTE_US);
            let count = rest.iter().take_while(|reading| reading.time_us < end).count().max(1);
            *self.counts.entry(minute).or_default() += count as u64;
            rest = &rest[count..];
        }
    }
}
