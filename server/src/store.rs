//! Where readings are kept: the [`Store`] contract and its profiles.

use std::{fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;

use crate::model::{
    Micros, Milking, Offset, ProducerId, ProducerRow, Quarantined, Reading, Rejection, SeriesId, SeriesKey,
    Totals,
};

mod admission;
mod aggregate;
mod cache;
mod call;
pub mod embedded;
mod heard;
mod lifecycle;
mod lines;
mod look;
mod milk;
mod order;
mod origin;
pub mod postgres;
mod tally;

pub use aggregate::{Bucket, BucketRange, Cut, Level, MilkBucket, MilkRange, Tag};
pub use call::{Call, Step, Steps};
pub use lifecycle::{Chunk, Dropped, Lifecycle, Refresh, Refreshed, Retention};
pub use look::Look;

/// A series with its newest reading, if it has one.
pub type Latest = (SeriesId, SeriesKey, Option<Reading>);

/// A place that keeps readings, their producers and what was refused.
///
/// Every profile passes the same contract suite (`server/tests/store_contract.rs`).
#[async_trait]
pub trait Store: Send + Sync + fmt::Debug + 'static {
    /// Finds the numbers of series, creating those that are new; answers in the order of `keys`.
    /// A number handed out is never given to another key, even after a crash.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]; nothing was promised then.
    async fn resolve_series(&self, keys: &[SeriesKey]) -> Result<Vec<SeriesId>, StoreError>;

    /// Gets ready for readings of a UTC day, counted from 1970, where a new one takes so long that other commits
    /// should not wait for it. Need not be called: a commit does it, too. Promises nothing.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]; it may be called again.
    async fn prepare_day(&self, _day: i64) -> Result<(), StoreError> {
        Ok(())
    }

    /// Commits a group in one synced transaction and says what became of each of its producers, in order.
    ///
    /// A producer whose ledger row does not fit its [`Guard`] leaves the group; the rest commits. Calling
    /// it again with the same group after an error is safe: what had been committed is recognised.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]: the outcome is unknown; call again until it is known.
    async fn commit(&self, group: Arc<CommitGroup>) -> Result<Vec<Outcome>, StoreError>;

    /// A producer's row in the ledger.
    async fn producer(&self, id: ProducerId) -> Result<Option<ProducerRow>, StoreError>;

    /// Quarantine of a producer within `span`, by offset, kind and index.
    async fn quarantine(
        &self,
        producer: ProducerId,
        span: QuarantineSpan,
        limit: usize,
    ) -> Result<Vec<Quarantined>, StoreError>;

    /// Begins to look; what it sees is settled with its first question.
    fn look(&self) -> Box<dyn Look>;

    /// The series that match, as [`Look::find_series`] finds them, each with its newest reading, in the order of their
    /// numbers. A look of its own: what is asked most may be answered without beginning one.
    async fn find_latest(&self, filter: SeriesFilter) -> Result<Vec<Latest>, StoreError>;

    /// How many hours of series are dirty.
    async fn dirty_hours(&self) -> Result<u64, StoreError>;

    /// Closes buckets and computes what is closed or dirty; may take long, may be dropped half way, and may run
    /// on several servers: one of them does it.
    async fn refresh(&self, refresh: Refresh) -> Result<Refreshed, StoreError>;

    /// Has open buckets from `from_us` on summed up as they are written, from now on, so that questions need not read
    /// their readings; if `least` readings or more came to this server since this was last asked for. Buckets are true
    /// without it. A store that holds open buckets in memory has nothing to do.
    async fn sum_from(&self, from_us: Micros, least: u64) -> Result<(), StoreError>;

    /// Has the next refresh compute anew what is kept from `start_us` to before `end_us`, as far as its readings are
    /// kept; what is kept and has no readings goes then. A store that cannot do it later does it now, and answers how
    /// many buckets it computed. Hours that reach out of the span belong to it, and days that hold one of them.
    ///
    /// # Errors
    ///
    /// [`StoreError::Elsewhere`]: nothing was done. [`StoreError::Refused`]: this store cannot.
    async fn doubt(&self, span_us: (Micros, Micros)) -> Result<u64, StoreError>;

    /// Drops what is old enough, after its rollups are kept; tells what went, or would go.
    ///
    /// # Errors
    ///
    /// [`StoreError::Elsewhere`]: nothing was done.
    async fn retain(&self, retention: Retention) -> Result<Vec<Dropped>, StoreError>;

    /// Chunks of readings and milkings, oldest first.
    async fn chunks(&self) -> Result<Vec<Chunk>, StoreError>;

    /// Compresses the chunks that end by `before_us` and are not; tells which. None: the store packs readings as
    /// they come, or cannot compress at all.
    ///
    /// # Errors
    ///
    /// [`StoreError::Elsewhere`]: nothing was done.
    async fn compress(&self, before_us: Micros, dry_run: bool) -> Result<Option<Vec<Chunk>>, StoreError>;

    /// Whether the store can be written now; cheap enough for once a second.
    async fn ready(&self) -> Result<(), StoreError>;

    /// Syncs and closes; later calls fail.
    async fn close(&self);

    /// What it is, for people.
    fn describe(&self) -> Description;
}

/// What a store is, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    /// `embedded`, `postgres` or `timescale`.
    pub profile: &'static str,
    /// Where the data is: "in DIRECTORY", "at HOST:PORT/DATABASE". Never holds a password.
    pub place: String,
    /// Why this profile, in a sentence.
    pub reason: String,
    /// Directory on this machine, if it is one.
    pub data_dir: Option<PathBuf>,
    /// Version of PostgreSQL.
    pub database_version: String,
    /// Version of TimescaleDB; empty: the database has none.
    pub extension_version: String,
    /// Licence under which the extension runs: `timescale` or `apache`.
    pub licence: String,
    /// What differs between profiles.
    pub features: Vec<Feature>,
}

/// Something that one profile has and another may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Its name, in snake case.
    pub name: &'static str,
    /// Whether it is on.
    pub on: bool,
    /// How it is done, or why it is off.
    pub note: &'static str,
}

/// Work of one lane since its last commit: each producer at most once.
#[derive(Debug, Default)]
pub struct CommitGroup {
    /// In the order of their ids.
    pub producers: Vec<ProducerCommit>,
}

/// What one producer contributes to a group.
#[derive(Debug)]
pub struct ProducerCommit {
    /// The producer. Without a guard and an open, the id under which an anonymous write is quarantined.
    pub producer: ProducerId,
    /// What must stand in the ledger for the batches to count. None: an anonymous write, or only an open.
    pub guard: Option<Guard>,
    /// Committed offset after this commit; the guard's when no batch moves it.
    pub committed_offset: Offset,
    /// To be added to the ledger's totals.
    pub totals: Totals,
    /// A new session, after the batches: raises the epoch.
    pub open: Option<OpenSession>,
    /// What validation let pass. The store refuses what belongs to a day that retention has dropped.
    pub batches: Vec<Batch>,
    /// Refused readings and milkings.
    pub quarantined: Vec<Quarantined>,
}

/// The sound rows of one batch, in the order in which they arrived.
#[derive(Debug, Default)]
pub struct Batch {
    /// Offset of the batch.
    pub offset: Offset,
    /// Readings.
    pub readings: Vec<Reading>,
    /// Milkings.
    pub milkings: Vec<Milking>,
}

impl ProducerCommit {
    /// Whether the ledger has a say: anonymous writes have no row in it.
    pub(in crate::store) fn has_ledger(&self) -> bool {
        self.guard.is_some() || self.open.is_some()
    }
}

/// What the ledger must hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Epoch of the session that sent the batches.
    pub epoch: u64,
    /// Committed offset before them.
    pub committed_offset: Offset,
}

/// Who opens a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenSession {
    /// Gateway.
    pub gateway_id: String,
    /// Client process.
    pub instance_id: String,
}

/// What became of a producer in a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Committed, now or by an earlier attempt of the same group. Holds the row as it stands after, and
    /// what the store itself refused as data (it is in quarantine, and counted there in the row's totals).
    Committed(ProducerRow, Vec<Rejection>),
    /// Another session took over: nothing of the batches was written. Holds the row that stands; an
    /// `open` in the same commit took effect all the same and is part of it.
    Fenced(ProducerRow),
}

/// A store failed; the data is not at fault.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// It cannot be reached or written at present; it may recover.
    #[error("{0}")]
    Unavailable(String, #[source] Option<Box<dyn std::error::Error + Send + Sync>>),
    /// It cannot take what was asked, such as a U+0000 in a name, or cannot compute the answer.
    #[error("the store cannot answer that: {0}")]
    Refused(String),
    /// Another server of the database refreshes or drops; nothing was done.
    #[error("another server refreshes or drops at present: try again when it is done")]
    Elsewhere,
    /// Nobody waits for the answer any more.
    #[error("the deadline passed before the store had answered: ask for less, or allow more time")]
    Deadline,
    /// It was closed.
    #[error("the store is closed")]
    Closed,
    /// What it holds cannot be read: damage or a bug.
    #[error("the store holds damaged data: {0}")]
    Damaged(String),
}

/// Bounds of a look into quarantine.
#[derive(Clone, Copy, Debug)]
pub struct QuarantineSpan {
    /// First (offset, kind, index), inclusive.
    pub first: (Offset, u8, u32),
    /// Last offset, inclusive.
    pub last: Offset,
}

/// Which series.
#[derive(Clone, Debug, Default)]
pub struct SeriesFilter {
    /// Only this farm.
    pub farm_id: Option<i32>,
    /// Only this device.
    pub device_uid: Option<String>,
    /// Only these metrics; empty: all.
    pub metric_names: Vec<String>,
    /// Only numbers beyond this one.
    pub after: Option<SeriesId>,
    /// At most so many; None: all.
    pub limit: Option<usize>,
}

impl SeriesFilter {
    /// Those that match, of series in the order of their numbers.
    fn pick(&self, series: &[(SeriesId, SeriesKey)]) -> Vec<(SeriesId, SeriesKey)> {
        let fitting = series.iter().filter(|(id, key)| Some(*id) > self.after && self.fits(key));
        fitting.take(self.limit.unwrap_or(usize::MAX)).cloned().collect()
    }

    /// Whether it names this farm, device and metric; whatever the number.
    fn fits(&self, key: &SeriesKey) -> bool {
        self.farm_id.is_none_or(|farm_id| farm_id == key.farm_id)
            && self.device_uid.as_ref().is_none_or(|uid| *uid == key.device_uid)
            && (self.metric_names.is_empty() || self.metric_names.contains(&key.metric_name))
    }
}

/// Part of a series.
#[derive(Clone, Copy, Debug)]
pub struct SeriesRange {
    /// The series.
    pub series: SeriesId,
    /// Only readings that carry it.
    pub tag: Option<Tag>,
    /// Inclusive.
    pub start_us: Micros,
    /// Exclusive.
    pub end_us: Micros,
    /// Leave out so many from the start.
    pub skip: usize,
    /// At most so many.
    pub limit: usize,
    /// No more once their texts together have so many bytes.
    pub text_bytes: usize,
}

/// Milkings of a farm.
#[derive(Clone, Copy, Debug)]
pub struct MilkingRange {
    /// The farm.
    pub farm_id: i32,
    /// Only this animal.
    pub animal_id: Option<i32>,
    /// Inclusive.
    pub start_us: Micros,
    /// Exclusive.
    pub end_us: Micros,
    /// Leave out so many from the start.
    pub skip: usize,
    /// At most so many.
    pub limit: usize,
}

/// A device and what was last heard of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its farm.
    pub farm_id: i32,
    /// Its identifier.
    pub device_uid: String,
    /// Its kind.
    pub device_type: String,
    /// Time of its newest reading; none stored yet: None.
    pub last_seen_us: Option<Micros>,
    /// Percent, from the newest reading that told it.
    pub battery_level: Option<i16>,
    /// dBm, from the newest reading that told it.
    pub signal_strength: Option<i16>,
}

/// How much arrived lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Readings whose time is within the last hour, to the minute.
    pub readings_last_hour: u64,
    /// Readings whose time is within the last 24 hours, to the minute.
    pub readings_last_24h: u64,
    /// Devices with a reading of the last five minutes.
    pub active_devices: u64,
}
