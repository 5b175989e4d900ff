//! What was last heard of each device: held in memory, written as rows every few seconds.
//!
//! Each commit holds a record of the statuses it changed, so that a start after a crash reads the rows and
//! applies the records of the commits since.

use std::collections::BTreeSet;

use fjall::OwnedWriteBatch;
use parking_lot::RwLock;

use super::{
    engine::Engine,
    keys::{self, Table},
    rows,
};
use crate::{
    model::Micros,
    store::{
        StoreError,
        heard::{Heard, Status},
    },
};

/// The statuses of all devices, by number.
#[derive(Default)]
pub(super) struct Devices {
    statuses: RwLock<Vec<Option<Status>>>,
}

impl Devices {
    pub(super) fn get(&self, device: u32) -> Option<Status> {
        self.statuses.read().get(device as usize).copied().flatten()
    }

    /// Puts in place what was committed.
    pub(super) fn set(&self, changed: &[(u32, Status)]) {
        let mut statuses = self.statuses.write();
        for &(device, status) in changed {
            let index = device as usize;
            if statuses.len() <= index {
                statuses.resize(index + 1, None);
            }
            statuses[index] = Some(status);
        }
    }

    /// Time of the newest reading of all.
    pub(super) fn newest_us(&self) -> Option<Micros> {
        self.statuses.read().iter().flatten().map(|status| status.last_seen_us).max()
    }

    /// Devices seen at `since_us` or after.
    pub(super) fn count_since(&self, since_us: Micros) -> u64 {
        self.statuses.read().iter().flatten().filter(|status| status.last_seen_us >= since_us).count() as u64
    }
}

/// The statuses that change, with their new state, by device.
pub(super) fn changes(heard: Heard<u32>, devices: &Devices) -> Vec<(u32, Status)> {
    let mut changes: Vec<_> = (heard.into_devices())
        .filter_map(|(device, heard)| {
            let known = devices.get(device);
            let mut status = known.unwrap_or(heard);
            status.merge(&heard);
            (known != Some(status)).then_some((device, status))
        })
        .collect();
    changes.sort_unstable_by_key(|&(device, _)| device);
    changes
}

/// What has changed in memory since the rows were written.
#[derive(Default)]
pub(super) struct Unwritten {
    pub(super) devices: BTreeSet<u32>,
    /// Commits whose records are not in the rows yet.
    pub(super) commits: Vec<u64>,
}

impl Unwritten {
    /// The records that an engine holds.
    pub(super) fn read(engine: &Engine) -> Result<Self, StoreError> {
        let mut unwritten = Self::default();
        engine.view().scan(&keys::table(Table::Touches), |key, value| {
            unwritten.devices.extend(rows::decode_touches(value)?.into_iter().map(|(device, _)| device));
            unwritten.commits.push(keys::parse_touches(key)?);
            Ok(true)
        })?;
        Ok(unwritten)
    }

    /// Writes the statuses and removes the records.
    pub(super) fn batch(&self, engine: &Engine) -> OwnedWriteBatch {
        let mut batch = engine.batch(self.devices.len() + self.commits.len());
        for &device in &self.devices {
            if let Some(status) = engine.devices.get(device) {
                let mut row = Vec::with_capacity(32);
                rows::put_status(&mut row, &status);
                batch.insert(engine.rows(), keys::status(device), row);
            }
        }
        for &commit in &self.commits {
            batch.remove(engine.rows(), keys::touches(commit));
        }
        batch
    }
}
