//! The embedded profile: one directory, one process, nothing else to install.
//!
//! On fjall, a log-structured engine. A group becomes one batch of it: readings packed by series and time
//! into blocks, beside the ledger rows of their producers, synced once. One thread writes; reads run
//! beside it, each over a view of whole commits.

use std::{
    fmt, io,
    path::{self, PathBuf},
    sync::Arc,
    thread,
};

use async_trait::async_trait;
use parking_lot::{Mutex, RwLock};
use tokio::sync::oneshot;

use self::{
    engine::{Engine, View, panicked},
    format::Directory,
    writer::{Command, Reply, Writer},
};
use super::{
    Activity, Bucket, BucketRange, Chunk, CommitGroup, Description, Device, Dropped, Feature, Lifecycle,
    MilkBucket, MilkRange, MilkingRange, Outcome, QuarantineSpan, Refresh, Refreshed, Retention,
    SeriesFilter, SeriesRange, Store, StoreError, Tag,
};
use crate::config::Config;
use crate::model::{Micros, Milking, ProducerId, ProducerRow, Quarantined, Reading, SeriesId, SeriesKey};

mod block;
mod catalogue;
mod chunks;
mod codec;
mod commit;
mod devices;
mod engine;
mod format;
mod journal;
mod keys;
mod read;
mod rows;
mod series;
mod writer;

/// How the embedded store is set up.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Its directory, created if absent.
    pub dir: PathBuf,
    /// Bytes of readings held in memory before they are written out as a table. While that goes on, two
    /// times as much may be held besides.
    pub memtable_bytes: u64,
    /// Bytes of the journal on disk, at least 64 MiB: what a start after a crash reads at most.
    pub journal_bytes: u64,
    /// Bytes of blocks read from disk and kept.
    pub cache_bytes: u64,
    /// With less free space than this, nothing is written.
    pub min_free_bytes: u64,
}

impl EmbeddedConfig {
    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            memtable_bytes: 16 << 20,
            journal_bytes: 128 << 20,
            cache_bytes: 16 << 20,
            min_free_bytes: 256 << 20,
        }
    }
}

impl From<&Config> for EmbeddedConfig {
    fn from(config: &Config) -> Self {
        let store = &config.store;
        Self {
            dir: store.data_dir.clone(),
            memtable_bytes: store.memtable.as_u64(),
            journal_bytes: store.journal.as_u64(),
            cache_bytes: store.cache.as_u64(),
            min_free_bytes: store.min_free.as_u64(),
        }
    }
}

/// Why a directory cannot be opened. Unless it says otherwise, nothing in it was touched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{dir} is in use by another herdstream process: stop that one, or give this one a directory of its own"
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// It holds something else.
    #[error(
        "{dir} holds '{entry}', which is not herdstream's: choose an empty directory, or one that does not exist"
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// What was found.
        entry: String,
    },
    /// A later version wrote it.
    #[error(
        "{dir} has format {found}, and this version knows up to {known}: use the version that wrote it, or a later one"
    )]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// It is ours and cannot be read.
    #[error("{dir} is damaged ({what}): restore it from a backup, or move it away to start empty")]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It was removed, moved away, unmounted or replaced while it was open.
    #[error(
        "{dir} is no longer the directory that was opened: put that back, or restart to use what is there"
    )]
    Gone {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("{dir} cannot be opened: check that it is a directory, can be written and has space")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The engine could not start.
    #[error("{dir} cannot be opened")]
    Engine {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: StoreError,
    },
}

/// The embedded store; dropping it closes it.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    writer: Mutex<Option<thread::JoinHandle<()>>>,
    commands: Mutex<Option<std::sync::mpsc::Sender<Command>>>,
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

/// What the writer and the readers share.
struct Shared {
    config: EmbeddedConfig,
    state: RwLock<State>,
}

enum State {
    Open(Arc<Engine>),
    /// Readable, but too little space is left to write.
    Full(Arc<Engine>, String),
    /// Being opened again, because of this.
    Down(String),
    /// What is on disk cannot be read; tried again from time to time.
    Damaged(String),
    Closed,
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
        Ok(Self { shared, writer: Mutex::new(Some(thread)), commands: Mutex::new(Some(commands)) })
    }

    /// Drops the readings of a UTC day, counted from 1970; a day without readings is fine.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]: it may have been dropped, or is at the next start.
    pub async fn drop_day(&self, day: i64) -> Result<(), StoreError> {
        self.ask(|reply| Command::DropDay(day, reply)).await
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

    /// Reads on a thread that may block.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.with_engine(|engine| work(engine.view())).await
    }

    async fn with_engine<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Engine) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let engine = self.shared.engine()?;
        match tokio::task::spawn_blocking(move || work(&engine)).await {
            Ok(answer) => answer,
            Err(error) => Err(match error.try_into_panic() {
                Ok(panic) => StoreError::Damaged(panicked(&*panic)),
                Err(_) => StoreError::Closed,
            }),
        }
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

impl Shared {
    /// The engine, for reading.
    fn engine(&self) -> Result<Arc<Engine>, StoreError> {
        match &*self.state.read() {
            State::Open(engine) | State::Full(engine, _) => Ok(engine.clone()),
            other => Err(other.refusal()),
        }
    }

    /// Lets go of the last state where nobody waits for it: an engine takes a while to close.
    fn set_state(&self, state: State) {
        drop(std::mem::replace(&mut *self.state.write(), state));
    }

    /// Notes how much space is left.
    fn set_room(&self, engine: &Arc<Engine>, free_bytes: u64) {
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
    fn of(error: &StoreError) -> Self {
        match error {
            StoreError::Damaged(what) => Self::Damaged(what.clone()),
            other => Self::Down(other.to_string()),
        }
    }

    /// Why nothing is written now.
    fn refusal(&self) -> StoreError {
        match self {
            Self::Full(_, why) | Self::Down(why) => StoreError::Unavailable(why.clone(), None),
            Self::Damaged(what) => StoreError::Damaged(what.clone()),
            Self::Open(_) | Self::Closed => StoreError::Closed,
        }
    }
}

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
        self.read(move |view| view.producer(id)).await
    }

    async fn quarantine(
        &self,
        producer: ProducerId,
        span: QuarantineSpan,
        limit: usize,
    ) -> Result<Vec<Quarantined>, StoreError> {
        self.read(move |view| view.quarantine(producer, span, limit)).await
    }

    async fn find_series(&self, filter: SeriesFilter) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        self.read(move |view| view.find_series(&filter)).await
    }

    async fn latest(&self, series: &[SeriesId]) -> Result<Vec<Reading>, StoreError> {
        let series = series.to_vec();
        self.with_engine(move |engine| read::latest(engine, &series)).await
    }

    async fn range(&self, range: SeriesRange) -> Result<Vec<Reading>, StoreError> {
        self.read(move |view| view.range(&range)).await
    }

    async fn milkings(&self, range: MilkingRange) -> Result<Vec<Milking>, StoreError> {
        self.read(move |view| view.milkings(&range)).await
    }

    async fn devices(
        &self,
        farm_id: Option<i32>,
        after: Option<(i32, String)>,
        limit: usize,
    ) -> Result<Vec<Device>, StoreError> {
        self.read(move |view| view.devices(farm_id, after.as_ref(), limit)).await
    }

    async fn tagged_series(
        &self,
        tag: Tag,
        start_us: Micros,
        end_us: Micros,
    ) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        todo!("{tag:?} {start_us} {end_us}")
    }

    async fn buckets(&self, range: BucketRange) -> Result<Vec<(u32, Bucket)>, StoreError> {
        todo!("{range:?}")
    }

    async fn milk(&self, range: MilkRange) -> Result<Vec<MilkBucket>, StoreError> {
        todo!("{range:?}")
    }

    async fn device(&self, farm_id: i32, device_uid: &str) -> Result<Option<Device>, StoreError> {
        todo!("{farm_id} {device_uid}")
    }

    async fn lifecycle(&self) -> Result<Lifecycle, StoreError> {
        Ok(Lifecycle::default())
    }

    async fn refresh(&self, refresh: Refresh) -> Result<Refreshed, StoreError> {
        todo!("{refresh:?}")
    }

    async fn retain(&self, retention: Retention) -> Result<Vec<Dropped>, StoreError> {
        todo!("{retention:?}")
    }

    async fn chunks(&self) -> Result<Vec<Chunk>, StoreError> {
        todo!()
    }

    async fn compress(&self, before_us: Micros, dry_run: bool) -> Result<Option<Vec<Chunk>>, StoreError> {
        todo!("{before_us} {dry_run}")
    }

    async fn activity(&self, now_us: Micros) -> Result<Activity, StoreError> {
        self.read(move |view| view.activity(now_us)).await
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
            features: vec![Feature {
                name: "packed_blocks",
                on: true,
                note: "readings are packed as they are committed",
            }],
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
