//! What a store may know of the call it answers: until when, and whether somebody wants to know how.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

tokio::task_local! {
    static CALL: Call;
}

/// A call under way. Without one there is no deadline and nobody watches.
#[derive(Clone, Debug, Default)]
pub struct Call {
    /// When nobody waits for the answer any more.
    pub deadline: Option<Instant>,
    /// Where the store notes what it did.
    pub steps: Option<Steps>,
}

/// What a store did, in order.
#[derive(Clone, Debug, Default)]
pub struct Steps(Arc<Mutex<Vec<Step>>>);

/// One look into the store.
#[derive(Clone, Debug)]
pub struct Step {
    /// What was asked: a statement, or what was looked for.
    pub statement: String,
    /// How it was answered: the database's plan, or what was read.
    pub plan: String,
    /// How long it took.
    pub took: Duration,
}

impl Call {
    /// Runs `work` as part of this call.
    pub async fn run<T>(self, work: impl Future<Output = T>) -> T {
        CALL.scope(self, work).await
    }

    /// The call that this task answers.
    pub fn current() -> Self {
        CALL.try_with(Clone::clone).unwrap_or_default()
    }

    /// Time left; None: no deadline.
    pub fn time_left(&self) -> Option<Duration> {
        self.deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
    }
}

impl Steps {
    /// Notes a step.
    pub fn note(&self, step: Step) {
        self.0.lock().push(step);
    }

    /// Takes what was noted.
    pub fn take(&self) -> Vec<Step> {
        std::mem::take(&mut self.0.lock())
    }
}
