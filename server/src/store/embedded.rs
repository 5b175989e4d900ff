//! The embedded profile: one directory, one process, nothing else to install.
//!
//! On fjall, a log-structured engine. A group becomes one batch of it: readings packed by series and time
//! into blocks, beside the ledger rows of their producers, synced once. One thread writes; reads run
//! beside it, each over a view of whole commits.

use std::{fmt, path, sync::Arc, thread};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedMutexGuard, Semaphore, oneshot};

use self::{
    engine::{Engine, panicked},
    format::Directory,
    keeping::Keeping,
    look::EmbeddedLook,
    state::{Shared, State, blocking, reading},
    view::View,
    writer::{Command, Reply, Writer},
};
use super::{
    Chunk, CommitGroup, Description, Dropped, Feature, Latest, Level, Look, Outcome, QuarantineSpan, Refresh,
    Refreshed, Retention, SeriesFilter, Store, StoreError,
};
use crate::model::{Micros, ProducerId, ProducerRow, Quarantined, Reading, SeriesId, SeriesKey};

mod block;
mod buckets;
mod catalogue;
mod changes;
mod chunks;
mod codec;
mod commit;
mod config;
mod devices;
mod engine;
mod error;
#[cfg(test)]
mod fixture;
mod format;
mod journal;
mod keeping;
mod keys;
mod late;
mod look;
mod open;
mod read;
mod refresh;
mod retain;
mod roll;
mod rollup;
mod rows;
mod series;
mod spare;
mod state;
mod tags;
mod view;
mod watch;
mod words;
mod writer;

pub use config::EmbeddedConfig;
pub use error::OpenError;

/// The embedded store; dropping it closes it.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
    commands: Mutex<Option<std::sync::mpsc::Sender<Command>>>,
    /// Held by the one who refreshes or drops.
    keeping: Arc<tokio::sync::Mutex<()>>,
    /// Held while a day is prepared.
    preparing: Arc<tokio::sync::Mutex<()>>,
    /// Places of those who compute, as many as there are cores: the writer needs its turn.
    computing: Arc<Semaphore>,
}

/// Packs readings of one series, in the order of their times and within 15 minutes, as a block; for the
/// benchmarks.
#[doc(hidden)]
pub fn pack_block(out: &mut Vec<u8>, run: &[&Reading]) {
    block::pack(out, run);
}

/// Unpacks a block; for the benchmarks. False if it is none.
#[doc(hidden)]
pub fn unpack_block(series: SeriesId, first_us: Micros, bytes: &[u8], out: &mut Vec<Reading>) -> bool {
    block::unpack(series, first_us, bytes, out).is_ok()
}

impl EmbeddedStore {
    /// Opens the directory, creating it if it is absent or empty. Blocks: after a crash, for as long as
    /// reading the journal takes.
    ///
    /// # Errors
    ///
    /// See [`OpenError`].
    pub fn open(config: EmbeddedConfig) -> Result<Self, OpenError> {
        let directory = Directory::take(&config.dir)?;
        let failed = |source| OpenError::Engine { dir: config.dir.clone(), source };
        let engine = Engine::open(&directory.engine(), &config).map_err(failed)?;
        directory.created()?;

        let shared = Arc::new(Shared { config: config.clone(), state: RwLock::new(State::Closed) });
        let (commands, received) = std::sync::mpsc::channel();
        let writer = Writer::new(shared.clone(), directory, engine).map_err(failed)?;
        let thread = thread::Builder::new().name("store".into()).spawn(move || writer.run(&received));
        let thread = thread.map_err(|source| OpenError::Io { dir: config.dir, source })?;
        let (writer, commands) = (Mutex::new(Some(thread)), Mutex::new(Some(commands)));
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let computing = Arc::new(Semaphore::new(cores));
        Ok(Self { shared, writer, commands, keeping: Arc::default(), preparing: Arc::default(), computing })
    }

    fn embedded_look(&self) -> EmbeddedLook {
        EmbeddedLook::new(Arc::clone(&self.shared), Arc::clone(&self.computing))
    }

    /// Has the writer do something, and waits for it.
    async fn ask<T>(&self, command: impl FnOnce(Reply<T>) -> Command) -> Result<T, StoreError> {
        let (reply, answer) = oneshot::channel();
        {
            let commands = self.commands.lock();
            let commands = commands.as_ref().ok_or(StoreError::Closed)?;
            commands.send(command(reply)).map_err(|_| StoreError::Closed)?;
        }
        answer.await.map_err(|_| StoreError::Closed)?
    }

    /// Reads on a thread that may block; given up once nobody waits any more.
    async fn read<T: Send + 'static>(
        &self,
        what: &str,
        work: impl FnOnce(&View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        reading(self.shared.engine()?, what.to_owned(), |engine, watch| {
            let view = engine.watched(watch);
            Ok((work(&view)?, view.looked.describe()))
        })
        .await
    }

    /// Works beside the writer, as the only one.
    async fn keep<T: Send + 'static>(
        &self,
        alone: OwnedMutexGuard<()>,
        work: impl FnOnce(&Keeping) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let commands = self.commands.lock().clone().ok_or(StoreError::Closed)?;
        blocking(self.shared.engine()?, None, move |engine, watch| {
            work(&Keeping { engine: engine.clone(), watch, commands, _alone: alone })
        })
        .await
    }

    /// Takes the writer's thread, after telling it to stop.
    fn stop(&self) -> Option<thread::JoinHandle<()>> {
        self.commands.lock().take();
        self.writer.lock().take()
    }
}

impl Drop for EmbeddedStore {
    /// Waits until the directory is free for the next.
    fn drop(&mut self) {
        if let Some(Err(panic)) = self.stop().map(thread::JoinHandle::join) {
            tracing::error!(error = panicked(&*panic), "the store's thread ended early");
        }
    }
}

impl fmt::Debug for EmbeddedStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedStore").field("config", &self.shared.config).finish_non_exhaustive()
    }
}

#[allow(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of one lifetime is not a closure over all"
)]
#[async_trait]
impl Store for EmbeddedStore {
    async fn resolve_series(&self, keys: &[SeriesKey]) -> Result<Vec<SeriesId>, StoreError> {
        let engine = self.shared.engine()?;
        let mut ids: Vec<_> = keys.iter().map(|key| engine.catalogue.number(key)).collect();
        drop(engine);
        let unknown: Vec<_> =
            keys.iter().zip(&ids).filter(|(_, id)| id.is_none()).map(|(key, _)| key.clone()).collect();
        if !unknown.is_empty() {
            let resolved = self.ask(|reply| Command::Resolve(unknown, reply)).await?;
            ids.iter_mut().filter(|id| id.is_none()).zip(resolved).for_each(|(id, found)| *id = Some(found));
        }
        ids.into_iter().map(|id| id.ok_or(StoreError::Closed)).collect()
    }

    async fn prepare_day(&self, day: i64) -> Result<(), StoreError> {
        // While it is not open, the commit tells.
        let is_there = || self.shared.engine().map_or(true, |engine| engine.chunks().contains_key(&day));
        if is_there() {
            return Ok(());
        }
        // One day at a time, whoever asks: a commit waits for the one that is begun and the one that is next.
        let turn = self.preparing.clone().lock_owned().await;
        if is_there() {
            return Ok(());
        }
        self.ask(|reply| Command::PrepareDay(day, turn, reply)).await
    }

    async fn commit(&self, group: Arc<CommitGroup>) -> Result<Vec<Outcome>, StoreError> {
        self.ask(|reply| Command::Commit(group, reply)).await
    }

    async fn producer(&self, id: ProducerId) -> Result<Option<ProducerRow>, StoreError> {
        self.read("a producer", move |view| view.producer(id)).await
    }

    async fn quarantine(
        &self,
        producer: ProducerId,
        span: QuarantineSpan,
        limit: usize,
    ) -> Result<Vec<Quarantined>, StoreError> {
        self.read("quarantine of a producer", move |view| view.quarantine(producer, span, limit)).await
    }

    fn look(&self) -> Box<dyn Look> {
        Box::new(self.embedded_look())
    }

    async fn find_latest(&self, filter: SeriesFilter) -> Result<Vec<Latest>, StoreError> {
        self.embedded_look().find_latest(filter).await
    }

    async fn dirty_hours(&self) -> Result<u64, StoreError> {
        self.read("dirty hours", |view| view.dirty_hours()).await
    }

    async fn refresh(&self, refresh: Refresh) -> Result<Refreshed, StoreError> {
        let alone = self.keeping.clone().lock_owned().await;
        let close_before_us = Level::QuarterHour.floor(refresh.close_before_us);
        self.ask(|reply| Command::CloseBefore(close_before_us, reply)).await?;
        self.keep(alone, move |keeping| refresh::Refresh::new(keeping).run(refresh.span_us)).await
    }

    async fn sum_from(&self, _from_us: Micros, _least: u64) -> Result<(), StoreError> {
        Ok(())
    }

    async fn doubt(&self, span_us: (Micros, Micros)) -> Result<u64, StoreError> {
        let alone = self.keeping.clone().lock_owned().await;
        self.keep(alone, move |keeping| refresh::Refresh::new(keeping).doubt(span_us)).await?;
        Ok(0)
    }

    async fn retain(&self, retention: Retention) -> Result<Vec<Dropped>, StoreError> {
        let alone = self.keeping.clone().lock_owned().await;
        self.keep(alone, move |keeping| retain::Run { keeping, retention }.run()).await
    }

    async fn chunks(&self) -> Result<Vec<Chunk>, StoreError> {
        self.read("chunks", |view| view.list_chunks()).await
    }

    async fn compress(&self, _: Micros, _: bool) -> Result<Option<Vec<Chunk>>, StoreError> {
        Ok(None)
    }

    async fn ready(&self) -> Result<(), StoreError> {
        match &*self.shared.state.read() {
            State::Open(_) => Ok(()),
            other => Err(other.refusal()),
        }
    }

    fn describe(&self) -> Description {
        let dir = &self.shared.config.dir;
        let dir = path::absolute(dir).unwrap_or_else(|_| dir.clone());
        Description {
            profile: "embedded",
            place: format!("in {}", dir.display()),
            reason: "no database is configured".to_owned(),
            data_dir: Some(dir),
            features: vec![
                Feature {
                    name: "packed_blocks",
                    on: true,
                    note: "readings are packed as they are committed",
                },
                Feature { name: "rollups", on: true, note: "15 minutes, hour and day, a row for each day" },
            ],
            ..Description::default()
        }
    }

    async fn close(&self) {
        let closed = self.ask(Command::Close).await;
        self.stop();
        if let Err(StoreError::Closed) = closed {
            tracing::debug!("the embedded store was closed already");
        }
    }
}
