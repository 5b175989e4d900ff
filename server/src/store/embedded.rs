//! The embedded profile: one directory, one process, nothing else to install.
//!
//! On fjall, a log-structured engine. A group becomes one batch of it: readings packed by series and time
//! into blocks, beside the ledger rows of their producers, synced once. One thread writes; reads run
//! beside it, each over a view of whole commits.

use std::{fmt, path, sync::Arc, thread, time::Instant};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{OwnedMutexGuard, Semaphore, oneshot};

use self::{
    engine::{Engine, panicked},
    format::Directory,
    keeping::Keeping,
    state::{Shared, State},
    view::View,
    watch::Watch,
    writer::{Command, Reply, Writer},
};
use super::{
    Activity, Bucket, BucketRange, Call, Chunk, CommitGroup, Description, Device, Dropped, Feature, Level,
    Lifecycle, MilkBucket, MilkRange, MilkingRange, Outcome, QuarantineSpan, Refresh, Refreshed, Retention,
    SeriesFilter, SeriesRange, Step, Store, StoreError, Tag,
};
use crate::model::{Micros, Milking, ProducerId, ProducerRow, Quarantined, Reading, SeriesId, SeriesKey};

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
mod format;
mod journal;
mod keeping;
mod keys;
mod late;
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
        Ok(Self { shared, writer, commands, keeping: Arc::default(), computing })
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
        what: impl fmt::Debug,
        work: impl FnOnce(&View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read_after(what, |_| (), |view, ()| work(view)).await
    }

    /// As [`Self::read`], after asking the engine for something before the view is taken.
    async fn read_after<T: Send + 'static, A>(
        &self,
        what: impl fmt::Debug,
        ask: impl FnOnce(&Engine) -> A + Send + 'static,
        work: impl FnOnce(&View<'_>, A) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.note(what, move |engine, watch| {
            let asked = ask(engine);
            let view = engine.watched(watch);
            Ok((work(&view, asked)?, view.looked.describe()))
        })
        .await
    }

    /// Has something read that also tells what it looked at.
    async fn note<T: Send + 'static>(
        &self,
        what: impl fmt::Debug,
        work: impl FnOnce(&Engine, Watch) -> Result<(T, String), StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let call = Call::current();
        let (answer, plan, took) = self
            .with_engine(call.deadline, move |engine, watch| {
                let began = Instant::now();
                let (answer, plan) = work(engine, watch)?;
                Ok((answer, plan, began.elapsed()))
            })
            .await?;
        if let Some(steps) = call.steps {
            steps.note(Step { statement: format!("{what:?}"), plan, took });
        }
        Ok(answer)
    }

    async fn with_engine<T: Send + 'static>(
        &self,
        deadline: Option<Instant>,
        work: impl FnOnce(&Arc<Engine>, Watch) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let engine = self.shared.engine()?;
        let (watch, _waiting) = Watch::new(deadline);
        match tokio::task::spawn_blocking(move || work(&engine, watch)).await {
            Ok(answer) => answer,
            Err(error) => Err(match error.try_into_panic() {
                Ok(panic) => StoreError::Damaged(panicked(&*panic)),
                Err(_) => StoreError::Closed,
            }),
        }
    }

    /// Works beside the writer, as the only one.
    async fn keep<T: Send + 'static>(
        &self,
        alone: OwnedMutexGuard<()>,
        work: impl FnOnce(&Keeping) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let commands = self.commands.lock().clone().ok_or(StoreError::Closed)?;
        self.with_engine(None, move |engine, watch| {
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

    async fn commit(&self, group: Arc<CommitGroup>) -> Result<Vec<Outcome>, StoreError> {
        self.ask(|reply| Command::Commit(group, reply)).await
    }

    async fn producer(&self, id: ProducerId) -> Result<Option<ProducerRow>, StoreError> {
        self.read(("producer", id), move |view| view.producer(id)).await
    }

    async fn quarantine(
        &self,
        producer: ProducerId,
        span: QuarantineSpan,
        limit: usize,
    ) -> Result<Vec<Quarantined>, StoreError> {
        self.read(("quarantine", producer, span), move |view| view.quarantine(producer, span, limit)).await
    }

    async fn find_series(&self, filter: SeriesFilter) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        self.read(filter.clone(), move |view| view.find_series(&filter)).await
    }

    async fn latest(&self, series: &[SeriesId]) -> Result<Vec<Reading>, StoreError> {
        let series = series.to_vec();
        let what = format!("latest of {} series", series.len());
        // Asked first, then looked at: what is committed in between is found or was announced.
        let ask = move |engine: &Engine| series.iter().map(|&id| (id, engine.catalogue.newest(id))).collect();
        self.read_after(what, ask, |view, known: Vec<_>| view.latest_of(known)).await
    }

    async fn range(&self, range: SeriesRange) -> Result<Vec<Reading>, StoreError> {
        self.read(range, move |view| view.range(&range)).await
    }

    async fn milkings(&self, range: MilkingRange) -> Result<Vec<Milking>, StoreError> {
        self.read(range, move |view| view.milkings(&range)).await
    }

    async fn devices(
        &self,
        farm_id: Option<i32>,
        after: Option<(i32, String)>,
        limit: usize,
    ) -> Result<Vec<Device>, StoreError> {
        self.read(("devices", farm_id), move |view| view.devices(farm_id, after.as_ref(), limit)).await
    }

    async fn tagged_series(
        &self,
        tag: Tag,
        start_us: Micros,
        end_us: Micros,
    ) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        self.read((tag, start_us, end_us), move |view| view.tagged_series(tag, (start_us, end_us))).await
    }

    async fn buckets(&self, range: BucketRange) -> Result<Vec<(u32, Bucket)>, StoreError> {
        let what = (range.cut.clone(), range.tag, range.series.len());
        // Kept by the work, which goes on for a while after its caller has gone.
        let place = self.computing.clone().acquire_owned().await;
        self.note(what, move |engine, watch| {
            let _place = place;
            let (view, open) = engine.watched_with_open(&watch, range.series.iter().map(|&(id, _)| id))?;
            Ok((view.buckets(&range, &open)?, view.looked.describe()))
        })
        .await
    }

    async fn milk(&self, range: MilkRange) -> Result<Vec<MilkBucket>, StoreError> {
        self.read(range.clone(), move |view| view.milk(&range)).await
    }

    async fn device(&self, farm_id: i32, device_uid: &str) -> Result<Option<Device>, StoreError> {
        let device_uid = device_uid.to_owned();
        self.read((farm_id, device_uid.clone()), move |view| view.device(farm_id, &device_uid)).await
    }

    async fn lifecycle(&self) -> Result<Lifecycle, StoreError> {
        self.read("lifecycle", |view| view.lifecycle()).await
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

    async fn activity(&self, now_us: Micros) -> Result<Activity, StoreError> {
        self.read("activity", move |view| view.activity(now_us)).await
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
