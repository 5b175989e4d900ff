//! Refreshes and retention: work beside the writer, which makes the changes.

use std::sync::{Arc, mpsc::Sender};

use tokio::sync::{OwnedMutexGuard, oneshot};

use super::{
    changes::{Changes, OldDay},
    engine::Engine,
    view::View,
    watch::Watch,
    writer::{Command, Reply},
};
use crate::store::StoreError;

/// Works on one opening of the engine: what was seen in it is not written into the next.
///
/// Not for asynchronous tasks: it waits for the writer.
pub(super) struct Keeping {
    pub(super) engine: Arc<Engine>,
    pub(super) watch: Watch,
    pub(super) commands: Sender<Command>,
    /// Let go when the work ends, not when its caller goes.
    pub(super) _alone: OwnedMutexGuard<()>,
}

impl Keeping {
    pub(super) fn view(&self) -> View<'_> {
        self.engine.watched(self.watch.clone())
    }

    /// Answers the number of the last commit whose marks may be taken away, after a view that is taken from now on:
    /// later ones mark anew. Their own marks must stay, since still later ones rely on them.
    pub(super) fn look(&self) -> Result<u64, StoreError> {
        self.ask(Command::Look)
    }

    /// Has all of the changes made.
    pub(super) fn apply(&self, changes: Changes) -> Result<(), StoreError> {
        self.watch.check()?;
        self.ask(|reply| Command::Change(Arc::downgrade(&self.engine), Box::new(changes), reply))
    }

    /// Has the changes made if they have become many.
    pub(super) fn apply_if_full(&self, changes: &mut Changes) -> Result<(), StoreError> {
        changes.take_full().map_or(Ok(()), |changes| self.apply(changes))
    }

    /// Has a day dropped; false: something has come for it since it was looked at.
    pub(super) fn drop_day(&self, day: OldDay) -> Result<bool, StoreError> {
        self.watch.check()?;
        self.ask(|reply| Command::DropDay(Arc::downgrade(&self.engine), day, reply))
    }

    fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        self.commands.send(command(reply)).map_err(|_| StoreError::Closed)?;
        answer.blocking_recv().map_err(|_| StoreError::Closed)?
    }
}
