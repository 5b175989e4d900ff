//! What became of a commit whose answer was lost.
//!
//! Every commit leaves its number in the ledger rows that it changes. A group that comes again finds there,
//! under their locks, whether its last attempt was committed: a transaction commits as a whole or not at all.
//! A group that changes no row, which only anonymous writes do, is written again.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;

use super::ledger::Standing;
use crate::{
    model::ProducerId,
    store::{CommitGroup, Outcome},
};

/// The last attempt of each group that somebody still holds.
#[derive(Default)]
pub(super) struct Attempts(Mutex<Vec<Attempt>>);

struct Attempt {
    group: Weak<CommitGroup>,
    number: i64,
    changed: Vec<ProducerId>,
    outcomes: Vec<Outcome>,
    finished: bool,
}

impl Attempt {
    fn is_of(&self, group: &Arc<CommitGroup>) -> bool {
        std::ptr::eq(self.group.as_ptr(), Arc::as_ptr(group))
    }
}

impl Attempts {
    /// Notes what a commit is about to make true.
    pub(super) fn begin(
        &self,
        group: &Arc<CommitGroup>,
        number: i64,
        changed: Vec<ProducerId>,
        outcomes: &[Outcome],
    ) {
        let mut attempts = self.0.lock();
        attempts.retain(|attempt| attempt.group.strong_count() > 0 && !attempt.is_of(group));
        let (group, outcomes) = (Arc::downgrade(group), outcomes.to_vec());
        attempts.push(Attempt { group, number, changed, outcomes, finished: false });
    }

    /// Notes that it was answered.
    pub(super) fn finish(&self, group: &Arc<CommitGroup>) {
        if let Some(attempt) = self.0.lock().iter_mut().find(|attempt| attempt.is_of(group)) {
            attempt.finished = true;
        }
    }

    /// The outcomes of a group whose commit was answered.
    pub(super) fn finished(&self, group: &Arc<CommitGroup>) -> Option<Vec<Outcome>> {
        let attempts = self.0.lock();
        let attempt = attempts.iter().find(|attempt| attempt.finished && attempt.is_of(group))?;
        Some(attempt.outcomes.clone())
    }

    /// The outcomes of a group whose commit turns out to be in the ledger.
    pub(super) fn resolve(
        &self,
        group: &Arc<CommitGroup>,
        standing: &HashMap<ProducerId, Standing>,
    ) -> Option<Vec<Outcome>> {
        let attempts = self.0.lock();
        let attempt = attempts.iter().find(|attempt| attempt.is_of(group))?;
        let is_in = |id| standing.get(id).is_some_and(|standing| standing.number == attempt.number);
        attempt.changed.iter().any(is_in).then(|| attempt.outcomes.clone())
    }
}
