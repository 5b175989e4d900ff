//! One opening of the fjall database, with what is held in memory about it. After a failure the whole of it
//! is dropped and opened again: nothing that was not committed survives in memory.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use fjall::{
    AbstractTree, CompressionType, Database, Guard, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch,
    PersistMode, UserValue,
    compaction::Leveled,
    config::{BlockSizePolicy, CompressionPolicy, FilterPolicy},
};
use parking_lot::RwLock;

use super::{
    EmbeddedConfig,
    catalogue::Catalogue,
    codec::{Input, Undecodable, put_varint},
    devices::Devices,
    format, journal,
    keys::{self, Table},
    open::{Open, OpenBuckets, open_from},
    rows,
    view::{Seen, View},
    watch::Watch,
};
use crate::{
    model::{Micros, SeriesId, SeriesKey, now_us},
    store::{Latest, Level, SeriesFilter, StoreError},
};

/// Name of the keyspace of everything small.
const ROWS: &str = "rows";

/// Name of the keyspace of rollups.
const ROLLUPS: &str = "rollups";

/// Rotation is ours ([`Engine::rotate`]): fjall's would count each keyspace for itself.
const NEVER_ROTATE: u64 = u64::MAX / 2;

/// Keyspaces of blocks, by day.
pub(super) type Chunks = BTreeMap<i64, Keyspace>;

pub(super) struct Engine {
    pub(super) catalogue: Catalogue,
    pub(super) devices: Devices,
    pub(super) open: OpenBuckets,
    rows: Keyspace,
    rollups: Keyspace,
    chunks: RwLock<Arc<Chunks>>,
    /// Nothing is to be read from it any more.
    given_up: AtomicBool,
    memtable_bytes: u64,
    db: Database,
    /// Behind the database: it goes when that is closed.
    alive: Arc<()>,
}

impl Engine {
    /// Opens or creates the database in `dir`.
    pub(super) fn open(dir: &Path, config: &EmbeddedConfig) -> Result<Self, StoreError> {
        journal::settle(dir)?;
        // fjall keeps invariants with `expect`, and may find them broken on disk.
        catch_unwind(AssertUnwindSafe(|| Self::open_unguarded(dir, config)))
            .unwrap_or_else(|panic| Err(StoreError::Damaged(panicked(&*panic))))
    }

    fn open_unguarded(dir: &Path, config: &EmbeddedConfig) -> Result<Self, StoreError> {
        let db = Database::builder(dir)
            .cache_size(config.cache_bytes)
            // The rest of a process's descriptors, often 1024, are for streams.
            .max_cached_files(Some(256))
            .max_journaling_size(config.journal_bytes.max(64 << 20))
            .journal_compression(CompressionType::None)
            // With more, one of them would turn on the spot while another compacts.
            .worker_threads(1)
            .open()
            .map_err(|error| failed("open the engine", error))?;
        let rows = db.keyspace(ROWS, row_options).map_err(|error| failed("open the rows", error))?;
        let rollups =
            db.keyspace(ROLLUPS, rollup_options).map_err(|error| failed("open the rollups", error))?;
        let names = db.list_keyspace_names();
        let days = names.iter().filter_map(|name| Some((name, keys::parse_chunk(name)?)));
        let mut chunks = Chunks::new();
        for (name, day) in days {
            let chunk = db.keyspace(name, chunk_options).map_err(|error| failed("open a day", error))?;
            chunks.insert(day, chunk);
        }
        format::sync_dir(&dir.join("keyspaces")).map_err(|error| failed("open the engine", error.into()))?;
        let mut engine = Self {
            catalogue: Catalogue::new(),
            devices: Devices::default(),
            open: OpenBuckets::new(0, None, Micros::MIN),
            rows,
            rollups,
            chunks: RwLock::new(Arc::new(chunks)),
            given_up: AtomicBool::new(false),
            memtable_bytes: config.memtable_bytes,
            db,
            alive: Arc::new(()),
        };
        engine.finish_dropping()?;
        engine.complete()?;
        engine.load()?;
        engine.open = engine.open_buckets()?;
        Ok(engine)
    }

    /// Open buckets before a commit fills them.
    fn open_buckets(&self) -> Result<OpenBuckets, StoreError> {
        let view = self.view();
        let newest_us = self.devices.newest_us();
        let stored_us = view.watermarks()?.stored_before_us(Level::QuarterHour);
        let from_us = newest_us.map_or(Micros::MIN, |newest_us| open_from(stored_us, newest_us, now_us()));
        Ok(OpenBuckets::new(view.number(keys::LAST_COMMIT)?, newest_us, from_us))
    }

    /// Reads open buckets again on a thread of its own. To be called before the first commit.
    pub(super) fn read_open_again(self: &Arc<Self>) {
        if !self.open.held().has_past() {
            return;
        }
        let (engine, seen) = (Arc::clone(self), self.view().seen);
        let read = move || match engine.open.read_again(&View::new(&engine, seen, Watch::default())) {
            Ok(()) => tracing::debug!("open buckets are read again"),
            // Questions read them themselves, and meet what is wrong.
            Err(error) => tracing::debug!(%error, "open buckets are not read again"),
        };
        if let Err(error) = thread::Builder::new().name("open buckets".to_owned()).spawn(read) {
            tracing::warn!(%error, "open buckets are not read again");
            self.open.held().let_past_go();
        }
    }

    /// The newest readings of a device's series, if all of it is in memory.
    pub(super) fn latest_at_once(&self, filter: &SeriesFilter) -> Option<Vec<Latest>> {
        let (series, newest) = {
            let held = self.open.try_held()?;
            // After that: what has readings here is in the list, or there is none.
            let series = self.catalogue.of_device(filter)?;
            let newest = |(id, _): &(SeriesId, SeriesKey)| match self.catalogue.newest(*id)?.hour() {
                None => Some(None),
                Some(_) => Some(Some(held.open().newest(*id)?.reading.clone()?)),
            };
            let newest = series.iter().map(newest).collect::<Option<Vec<_>>>()?;
            (series, newest)
        };
        Some(series.into_iter().zip(newest).map(|((id, key), newest)| (id, key, newest)).collect())
    }

    /// Reads the catalogue and the statuses.
    fn load(&self) -> Result<(), StoreError> {
        let newest_hour = self.chunks.read().keys().next_back().map(|day| day * 24 + 23);
        let view = self.view();
        view.scan(&keys::table(Table::SeriesById), |key, value| {
            let (device, _) = decode_series(value)?;
            self.catalogue.add(SeriesId(keys::parse_numbered(key)?), device, newest_hour);
            Ok(true)
        })?;
        view.scan(&keys::table(Table::Status), |key, value| {
            let mut input = Input(value);
            let status = rows::status(&mut input)?;
            input.finish()?;
            self.devices.set(&[(keys::parse_numbered(key)?, status)]);
            Ok(true)
        })?;
        view.scan(&keys::table(Table::Touches), |_, value| {
            self.devices.set(&rows::decode_touches(value)?);
            Ok(true)
        })
    }

    pub(super) fn view(&self) -> View<'_> {
        self.watched(Watch::default())
    }

    /// As [`Engine::view`], for a read that may be given up.
    pub(super) fn watched(&self, watch: Watch) -> View<'_> {
        loop {
            let chunks = self.chunks();
            let snapshot = self.db.snapshot();
            // A day that was created or dropped in between would be in one of them only.
            if Arc::ptr_eq(&chunks, &self.chunks()) {
                let seen = Seen { commit: None, open: Open::default(), snapshot, chunks };
                return View::new(self, seen, watch);
            }
        }
    }

    /// What there is to be seen now, open buckets included.
    pub(super) fn see(&self, watch: &Watch) -> Result<Seen, StoreError> {
        loop {
            let held = self.open.held();
            let view = self.watched(watch.clone());
            // A commit can be seen a moment before it is counted.
            if view.number(keys::LAST_COMMIT)? == held.commit {
                return Ok(Seen { commit: Some(held.commit), open: held.open().clone(), ..view.seen });
            }
            drop(held);
            view.check()?;
            thread::yield_now();
        }
    }

    /// Reads under way end early from now on, so that what they hold is let go.
    pub(super) fn give_up(&self) {
        self.given_up.store(true, Ordering::Relaxed);
    }

    /// Whether it is still there, its files included.
    pub(super) fn alive(&self) -> Weak<()> {
        Arc::downgrade(&self.alive)
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.given_up.load(Ordering::Relaxed)
    }

    /// An empty batch with room for so many rows.
    pub(super) fn batch(&self, capacity: usize) -> OwnedWriteBatch {
        OwnedWriteBatch::with_capacity(self.db.clone(), capacity)
    }

    pub(super) fn rows(&self) -> &Keyspace {
        &self.rows
    }

    pub(super) fn rollups(&self) -> &Keyspace {
        &self.rollups
    }

    /// A row of rollups as it stands.
    pub(super) fn rollup(&self, key: &[u8]) -> Result<Option<UserValue>, StoreError> {
        self.rollups.get(key).map_err(|error| failed("read the rollups", error))
    }

    pub(super) fn chunks(&self) -> Arc<Chunks> {
        self.chunks.read().clone()
    }

    /// The chunk of a day, created if need be. For the writer only.
    pub(super) fn chunk_or_create(&self, day: i64) -> Result<Keyspace, StoreError> {
        if let Some(chunk) = self.chunks.read().get(&day) {
            return Ok(chunk.clone());
        }
        let create = || -> fjall::Result<Keyspace> {
            let chunk = self.db.keyspace(&keys::chunk(day), chunk_options)?;
            // fjall syncs what is in the new directory, not its entry in the one above; without that
            // entry a commit would be taken for one to a deleted keyspace and be left out at recovery.
            format::sync_dir(chunk.path().parent().unwrap_or(chunk.path()))?;
            Ok(chunk)
        };
        let chunk = create().map_err(|error| failed("create a day", error))?;
        self.change_chunks(|chunks| chunks.insert(day, chunk.clone()));
        Ok(chunk)
    }

    /// Forgets a day's chunk and deletes it: readers that still look at it keep its files until they end.
    pub(super) fn delete_chunk(&self, day: i64) -> Result<(), StoreError> {
        let Some(chunk) = self.change_chunks(|chunks| chunks.remove(&day)) else { return Ok(()) };
        // A file that fjall keeps open for later would keep its room on the disk, too.
        let tree = &chunk.tree;
        if let Some(open) = &tree.tree_config().descriptor_table {
            for table in tree.current_version().iter_tables() {
                open.remove_for_table(&(tree.id(), table.metadata.id).into());
            }
        }
        self.db.delete_keyspace(chunk).map_err(|error| failed("drop a day", error))
    }

    /// Views that were taken keep the days that they have. For the writer only.
    fn change_chunks<T>(&self, change: impl FnOnce(&mut Chunks) -> T) -> T {
        let mut chunks = Chunks::clone(&self.chunks());
        let changed = change(&mut chunks);
        *self.chunks.write() = Arc::new(chunks);
        changed
    }

    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.db.persist(PersistMode::SyncData).map_err(|error| failed("sync", error))
    }

    /// Whether fjall's own threads have failed: nothing can be written then.
    pub(super) fn check(&self) -> Result<(), StoreError> {
        self.db.persist(PersistMode::Buffer).map_err(|error| failed("go on", error))
    }

    /// Whether a commit now might wait inside fjall, where nothing could end the waiting.
    pub(super) fn is_behind(&self) -> bool {
        let chunks = self.chunks();
        let mut keyspaces = chunks.values().chain([&self.rows, &self.rollups]);
        let mut sealed = 0;
        keyspaces.any(|keyspace| {
            sealed += keyspace.sealed_memtable_count();
            sealed > 2 || keyspace.tree.l0_run_count() > 16
        })
    }

    /// Has the largest memtable written out if all of them together are above the bound.
    pub(super) fn rotate(&self) -> Result<(), StoreError> {
        let chunks = self.chunks();
        let sizes = chunks.values().chain([&self.rows, &self.rollups]).map(|keyspace| {
            // A reading's block takes about as much again in the skip list.
            (keyspace.tree.active_memtable().size(), keyspace)
        });
        let (total, largest) = sizes.fold((0, None), |(total, largest), (size, keyspace)| {
            let larger = largest.is_none_or(|(most, _)| size > most);
            (total + size, if larger { Some((size, keyspace)) } else { largest })
        });
        match largest {
            Some((_, keyspace)) if total > self.memtable_bytes => {
                keyspace.rotate_memtable().map(drop).map_err(|error| failed("rotate a memtable", error))
            }
            _ => Ok(()),
        }
    }

    /// Has the memtable of a chunk that is not `live` but holds something written out, if there is one.
    pub(super) fn rotate_idle(&self, live: impl Fn(i64) -> bool) -> Result<(), StoreError> {
        let chunks = self.chunks();
        let mut idle = chunks.iter().filter(|(day, _)| !live(**day)).map(|(_, chunk)| chunk);
        match idle.find(|chunk| chunk.tree.active_memtable().size() > 0) {
            Some(chunk) => {
                chunk.rotate_memtable().map(drop).map_err(|error| failed("rotate a memtable", error))
            }
            None => Ok(()),
        }
    }
}

/// Commits a batch; durable when it returns if `synced`.
pub(super) fn write(batch: OwnedWriteBatch, synced: bool) -> Result<(), StoreError> {
    let mode = if synced { PersistMode::SyncData } else { PersistMode::Buffer };
    batch.durability(Some(mode)).commit().map_err(|error| failed("commit", error))
}

/// Key and value of what an iterator found.
pub(super) fn entry(guard: Guard) -> Result<fjall::KvPair, StoreError> {
    guard.into_inner().map_err(|error| failed("read", error))
}

/// The value under a series' number: its device, and the key of its tuple.
pub(super) fn encode_series(device: u32, key: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(key.len() + 5);
    put_varint(&mut out, device.into());
    out.extend_from_slice(key);
    out
}

pub(super) fn decode_series(value: &[u8]) -> Result<(u32, SeriesKey), Undecodable> {
    let mut input = Input(value);
    Ok((input.number()?, keys::parse_series(input.0)?))
}

pub(super) fn undecodable(Undecodable(what): Undecodable) -> StoreError {
    StoreError::Damaged(format!("a row or block does not decode: {what}"))
}

/// What fjall's error means for the store.
pub(super) fn failed(doing: &str, error: fjall::Error) -> StoreError {
    use fjall::{Error, LsmError};
    let why = match &error {
        Error::Io(source) | Error::Storage(LsmError::Io(source)) => source.to_string(),
        Error::Poisoned => "it failed to write in the background; is the disk full or failing?".into(),
        Error::Locked => "something else has its files open".into(),
        _ => return StoreError::Damaged(format!("the embedded store could not {doing}: {error}")),
    };
    StoreError::Unavailable(format!("the embedded store could not {doing}: {why}"), Some(error.into()))
}

/// What a panic said.
pub(super) fn panicked(panic: &(dyn Any + Send)) -> String {
    let said = panic.downcast_ref::<&str>().copied();
    let said = said.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the storage engine gave up: {}", said.unwrap_or("no reason given"))
}

/// Values of one kind beside each other: worth compressing from the start.
fn rollup_options() -> KeyspaceCreateOptions {
    row_options().data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
}

fn row_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default().max_memtable_size(NEVER_ROTATE)
}

/// Blocks are found by ranges, for which filters are no help, or are there for certain; and packed, so that only
/// what has come to rest is worth compressing.
fn chunk_options() -> KeyspaceCreateOptions {
    KeyspaceCreateOptions::default()
        .max_memtable_size(NEVER_ROTATE)
        .data_block_size_policy(BlockSizePolicy::all(16 << 10))
        .data_block_compression_policy(CompressionPolicy::new([CompressionType::None, CompressionType::Lz4]))
        .filter_policy(FilterPolicy::disabled())
        .compaction_strategy(Arc::new(Leveled::default().with_table_target_size(16 << 20)))
}
