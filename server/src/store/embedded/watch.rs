//! A read under way: whether somebody still waits for it, and what it looked at.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
};

use crate::store::StoreError;

/// Tells a read when to give up. Cheap to ask.
#[derive(Clone, Default)]
pub(super) struct Watch {
    gone: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

/// Held by whoever waits: when it is dropped, nobody does.
pub(super) struct Waiting(Arc<AtomicBool>);

impl Watch {
    pub(super) fn new(deadline: Option<Instant>) -> (Self, Waiting) {
        let gone = Arc::new(AtomicBool::new(false));
        (Self { gone: Arc::clone(&gone), deadline }, Waiting(gone))
    }

    /// Fails once nobody waits any more.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        let late = self.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if late || self.gone.load(Ordering::Relaxed) { Err(StoreError::Deadline) } else { Ok(()) }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What a read looked at.
#[derive(Default)]
pub(super) struct Looked {
    pub(super) rows: Cell<u64>,
    pub(super) hours: Cell<u64>,
    pub(super) blocks: Cell<u64>,
    pub(super) readings: Cell<u64>,
    pub(super) rollups: Cell<u64>,
    pub(super) open: Cell<u64>,
}

impl Looked {
    pub(super) fn add(count: &Cell<u64>, more: u64) {
        count.set(count.get() + more);
    }

    /// For people.
    pub(super) fn describe(&self) -> String {
        let counts = [
            (&self.rows, "rows"),
            (&self.rollups, "rows of rollups"),
            (&self.open, "open buckets"),
            (&self.hours, "hours of series"),
            (&self.blocks, "blocks"),
            (&self.readings, "readings"),
        ];
        let told = counts.into_iter().filter(|(count, _)| count.get() > 0);
        let told: Vec<_> = told.map(|(count, what)| format!("{} {what}", count.get())).collect();
        if told.is_empty() {
            "looked at nothing".to_owned()
        } else {
            format!("looked at {}", told.join(", "))
        }
    }
}
