//! Whether the store is open, and its engine if it is.

use std::{sync::Arc, time::Instant};

use parking_lot::RwLock;

use super::{
    EmbeddedConfig,
    engine::{Engine, panicked},
    watch::Watch,
};
use crate::store::{Call, Step, StoreError};

/// What the writer and the readers share.
pub(super) struct Shared {
    pub(super) config: EmbeddedConfig,
    pub(super) state: RwLock<State>,
}

pub(super) enum State {
    Open(Arc<Engine>),
    /// Readable, but too little space is left to write.
    Full(Arc<Engine>, String),
    /// Being opened again, because of this.
    Down(String),
    /// What is on disk cannot be read; tried again from time to time.
    Damaged(String),
    Closed,
}

impl Shared {
    /// The engine, for reading.
    pub(super) fn engine(&self) -> Result<Arc<Engine>, StoreError> {
        match &*self.state.read() {
            State::Open(engine) | State::Full(engine, _) => Ok(engine.clone()),
            other => Err(other.refusal()),
        }
    }

    /// Lets go of the last state where nobody waits for it: an engine takes a while to close.
    pub(super) fn set_state(&self, state: State) {
        drop(std::mem::replace(&mut *self.state.write(), state));
    }

    /// Notes how much space is left.
    pub(super) fn set_room(&self, engine: &Arc<Engine>, free_bytes: u64) {
        let EmbeddedConfig { dir, min_free_bytes, .. } = &self.config;
        let mut state = self.state.write();
        match (&*state, free_bytes < *min_free_bytes) {
            (State::Open(_), true) => {
                let why = format!(
                    "{} has {free_bytes} bytes free, and nothing is written below {min_free_bytes}: make space",
                    dir.display(),
                );
                tracing::error!(reason = why, "the embedded store refuses writes");
                *state = State::Full(engine.clone(), why);
            }
            (State::Full(..), false) => {
                tracing::info!(free_bytes, "the embedded store takes writes again");
                *state = State::Open(engine.clone());
            }
            _ => {}
        }
    }
}

impl State {
    /// The state that an error leads to.
    pub(super) fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Damaged(what) => Self::Damaged(what.clone()),
            other => Self::Down(other.to_string()),
        }
    }

    /// Why nothing is written now.
    pub(super) fn refusal(&self) -> StoreError {
        match self {
            Self::Full(_, why) | Self::Down(why) => StoreError::Unavailable(why.clone(), None),
            Self::Damaged(what) => StoreError::Damaged(what.clone()),
            Self::Open(_) | Self::Closed => StoreError::Closed,
        }
    }
}

/// Has something read for the present call, on a thread that may block; `work` also tells what it looked at.
pub(super) async fn reading<T: Send + 'static>(
    engine: Arc<Engine>,
    what: String,
    work: impl FnOnce(&Arc<Engine>, Watch) -> Result<(T, String), StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let call = Call::current();
    let read = blocking(engine, call.deadline, move |engine, watch| {
        let began = Instant::now();
        let (answer, plan) = work(engine, watch)?;
        Ok((answer, plan, began.elapsed()))
    });
    let (answer, plan, took) = read.await?;
    if let Some(steps) = call.steps {
        steps.note(Step { statement: what, plan, took });
    }
    Ok(answer)
}

/// Works on a thread that may block, until `deadline`, and no longer than anybody waits.
pub(super) async fn blocking<T: Send + 'static>(
    engine: Arc<Engine>,
    deadline: Option<Instant>,
    work: impl FnOnce(&Arc<Engine>, Watch) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, StoreError> {
    let (watch, _waiting) = Watch::new(deadline);
    match tokio::task::spawn_blocking(move || work(&engine, watch)).await {
        Ok(answer) => answer,
        Err(error) => Err(match error.try_into_panic() {
            Ok(panic) => StoreError::Damaged(panicked(&*panic)),
            Err(_) => StoreError::Closed,
        }),
    }
}
