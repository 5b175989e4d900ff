//! What a commit tells of its devices.

use std::{collections::HashMap, hash::Hash};

use crate::model::{Micros, Reading};

/// What was last heard of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::store) struct Status {
    /// Time of its newest reading.
    pub(in crate::store) last_seen_us: Micros,
    /// Percent, and the time of the newest reading that told it.
    pub(in crate::store) battery_level: Option<(Micros, i16)>,
    /// dBm, and the time of the newest reading that told it.
    pub(in crate::store) signal_strength: Option<(Micros, i16)>,
}

impl Status {
    /// Takes over what `other`, committed later, heard at the same time or after.
    pub(in crate::store) fn merge(&mut self, other: &Self) {
        fn newer(ours: &mut Option<(Micros, i16)>, theirs: Option<(Micros, i16)>) {
            if let Some((time_us, _)) = theirs
                && ours.is_none_or(|(known_us, _)| known_us <= time_us)
            {
                *ours = theirs;
            }
        }
        self.last_seen_us = self.last_seen_us.max(other.last_seen_us);
        newer(&mut self.battery_level, other.battery_level);
        newer(&mut self.signal_strength, other.signal_strength);
    }
}

/// What the readings of one commit tell of their devices.
pub(in crate::store) struct Heard<K> {
    devices: HashMap<K, Status>,
}

impl<K> Default for Heard<K> {
    fn default() -> Self {
        Self { devices: HashMap::new() }
    }
}

impl<K: Hash + Eq> Heard<K> {
    /// Adds readings of one device in the order of their times.
    pub(in crate::store) fn add(&mut self, device: K, run: &[&Reading]) {
        let Some(last) = run.last() else { return };
        let newest = |get: &dyn Fn(&Reading) -> Option<i16>| {
            run.iter().rev().find_map(|reading| Some((reading.time_us, get(reading)?)))
        };
        let heard = Status {
            last_seen_us: last.time_us,
            battery_level: newest(&|reading| reading.battery_level),
            signal_strength: newest(&|reading| reading.signal_strength),
        };
        self.devices.entry(device).and_modify(|status| status.merge(&heard)).or_insert(heard);
    }

    /// Every device with what was heard of it, in no order.
    pub(in crate::store) fn into_devices(self) -> impl Iterator<Item = (K, Status)> {
        self.devices.into_iter()
    }
}
