//! Whether the store is open, and its engine if it is.

use std::sync::Arc;

use parking_lot::RwLock;

use super::{EmbeddedConfig, engine::Engine};
use crate::store::StoreError;

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
