//! The `postgres` and `timescale` profiles: production, on a database of the operator's.
//!
//! A group becomes one transaction: the ledger rows of its producers, locked in the order of their ids and
//! checked, then everything they let in. Of the two profiles only the schema differs, and who makes chunks.

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use sqlx::PgPool;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Chunk, CommitGroup, Description, Dropped, Latest, Look, Outcome, QuarantineSpan, Refresh, Refreshed,
    Retention, SeriesFilter, Store, StoreError,
};
use crate::model::{Micros, ProducerId, ProducerRow, Quarantined, SeriesId, SeriesKey};

/// A named query of `sql/queries`.
macro_rules! sql {
    ($name:literal) => {
        include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../sql/queries/", $name, ".sql"))
    };
}

/// Reads by a function, in a transaction of its own.
macro_rules! read {
    ($store:ident, $function:path $(, $argument:expr)*) => {{
        let mut reader = $store.shared.reader().await?;
        $function(&mut reader $(, $argument)*).await
    }};
}

mod aggregate;
mod attempts;
mod cancel;
mod chunks;
mod columns;
mod commit;
mod connect;
mod copy;
mod devices;
mod direct;
mod doubt;
mod error;
mod late;
mod ledger;
mod lifecycle;
mod look;
mod migrate;
mod nodelay;
mod open;
mod others;
mod profile;
mod read;
mod read_pool;
mod reading;
mod retain;
mod rows;
mod series;
mod storage;
mod tags;
mod time;
mod trace;
mod turn;
mod watermark;

pub use connect::{CopyMode, DirectCompress, PostgresConfig, ProfileChoice};
pub use direct::NewChunks;
pub use error::OpenError;
pub use profile::{Facts, Profile};

use chunks::Chunks;
use commit::Committer;
use devices::Devices;
use direct::Watch;
use error::unavailable;
use look::PostgresLook;
use open::Open;
use read_pool::{ReadPool, Reads};
use reading::Reader;
use series::Catalogue;
use tags::Tags;

/// How often what was heard of devices is written.
const FLUSH: Duration = Duration::from_secs(10);

/// A store on PostgreSQL, with or without TimescaleDB.
pub struct PostgresStore {
    shared: Arc<Shared>,
    flusher: TaskTracker,
    stop: CancellationToken,
}

struct Shared {
    facts: Facts,
    pool: PgPool,
    read_pool: Arc<ReadPool>,
    catalogue: Catalogue,
    chunks: Chunks,
    devices: Devices,
    tags: Tags,
    committer: Committer,
    open: Open,
    watch: Watch,
    /// What a statement may take, whatever its caller allows.
    patience: Duration,
}

impl Shared {
    /// Begins to answer a question.
    async fn reader(&self) -> Result<Reader, StoreError> {
        Reader::begin(&self.read_pool, Reads::Question, self.patience).await
    }

    /// Begins to read for a write.
    async fn write_reader(&self) -> Result<Reader, StoreError> {
        Reader::begin(&self.read_pool, Reads::Write, self.patience).await
    }
}

impl PostgresStore {
    /// Connects, finds out which profile it is, and brings the schema up to date.
    ///
    /// # Errors
    ///
    /// [`OpenError`], with the way out.
    pub async fn open(config: PostgresConfig) -> Result<Self, OpenError> {
        let (pool, facts) = connect::connect(&config).await?;
        let shared = Arc::new(Shared {
            catalogue: Catalogue::new(),
            chunks: Chunks::new(facts.profile),
            devices: Devices::default(),
            tags: Tags::new(),
            committer: Committer::new(&config),
            open: Open::default(),
            watch: Watch::new(&facts),
            patience: config.statement_timeout,
            facts,
            read_pool: Arc::new(ReadPool::new(&pool)),
            pool,
        });
        let (flusher, stop) = (TaskTracker::new(), CancellationToken::new());
        flusher.spawn(flush(Arc::clone(&shared), config.activity, stop.clone()));
        flusher.close();
        Ok(Self { shared, flusher, stop })
    }

    /// Brings the schema up to date and does no more.
    ///
    /// # Errors
    ///
    /// [`OpenError`], with the way out.
    pub async fn migrate(config: &PostgresConfig) -> Result<Facts, OpenError> {
        let (pool, facts) = connect::connect(config).await?;
        pool.close().await;
        Ok(facts)
    }

    /// What was found at the start.
    pub fn facts(&self) -> &Facts {
        &self.shared.facts
    }

    /// Chunks of readings made within the last day; None: PostgreSQL has partitions, which it does not compress.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn new_chunks(&self) -> Result<Option<NewChunks>, StoreError> {
        if self.shared.facts.profile == Profile::Postgres {
            return Ok(None);
        }
        let chunks = direct::find(&self.shared.pool).await.map_err(unavailable)?;
        Ok(Some(direct::count(&chunks)))
    }
}

/// Writes what was heard of devices now and then, and forgets old activity.
async fn flush(shared: Arc<Shared>, activity: Duration, stop: CancellationToken) {
    let mut rebuilt = false;
    while !stop.is_cancelled() {
        if !rebuilt {
            rebuilt = shared.devices.rebuild(&shared.pool).await.is_ok();
        }
        tokio::select! {
            () = tokio::time::sleep(FLUSH) => {}
            () = stop.cancelled() => {}
        }
        if let Err(error) = shared.devices.save(&shared.pool).await {
            tracing::debug!(%error, "what was heard of devices is written later");
        }
        shared.watch.look(&shared.pool).await;
        let oldest = chrono::Utc::now() - activity;
        drop(sqlx::query(sql!("forget_activity")).bind(oldest).execute(&shared.pool).await);
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("facts", &self.shared.facts).finish_non_exhaustive()
    }
}

#[async_trait]
impl Store for PostgresStore {
    async fn resolve_series(&self, keys: &[SeriesKey]) -> Result<Vec<SeriesId>, StoreError> {
        self.shared.catalogue.resolve(&self.shared.pool, keys).await.map_err(unavailable)
    }

    async fn prepare_day(&self, day: i64) -> Result<(), StoreError> {
        let Shared { chunks, pool, .. } = &*self.shared;
        if let Err(error) = chunks.ensure(pool, [day].into()).await {
            // The commit tries again, and tells.
            tracing::debug!(%error, day, "a partition is made later");
        }
        Ok(())
    }

    async fn commit(&self, group: Arc<CommitGroup>) -> Result<Vec<Outcome>, StoreError> {
        self.shared.commit(&group).await
    }

    async fn producer(&self, id: ProducerId) -> Result<Option<ProducerRow>, StoreError> {
        ledger::find(&mut self.shared.write_reader().await?, id).await
    }

    async fn quarantine(
        &self,
        producer: ProducerId,
        span: QuarantineSpan,
        limit: usize,
    ) -> Result<Vec<Quarantined>, StoreError> {
        others::quarantine(&mut self.shared.write_reader().await?, producer, span, limit).await
    }

    fn look(&self) -> Box<dyn Look> {
        Box::new(PostgresLook::new(Arc::clone(&self.shared)))
    }

    async fn find_latest(&self, filter: SeriesFilter) -> Result<Vec<Latest>, StoreError> {
        read::find_latest(&self.shared, &filter).await
    }

    async fn dirty_hours(&self) -> Result<u64, StoreError> {
        read!(self, lifecycle::dirty_hours)
    }

    async fn refresh(&self, refresh: Refresh) -> Result<Refreshed, StoreError> {
        lifecycle::refresh(&self.shared.pool, self.shared.facts.profile, refresh).await
    }

    async fn sum_from(&self, from_us: Micros, least: u64) -> Result<(), StoreError> {
        self.shared.open.sum_from(&self.shared.pool, from_us, least).await
    }

    async fn doubt(&self, span_us: (Micros, Micros)) -> Result<u64, StoreError> {
        doubt::doubt(&self.shared.pool, &self.shared.facts, span_us).await
    }

    async fn retain(&self, retention: Retention) -> Result<Vec<Dropped>, StoreError> {
        if retention.dry_run {
            return read!(self, retain::list, &retention);
        }
        retain::carry_out(&self.shared.pool, &retention).await
    }

    async fn chunks(&self) -> Result<Vec<Chunk>, StoreError> {
        read!(self, storage::chunks)
    }

    async fn compress(&self, before_us: Micros, dry_run: bool) -> Result<Option<Vec<Chunk>>, StoreError> {
        if self.shared.facts.profile != Profile::Timescale {
            return Ok(None);
        }
        if dry_run {
            let chunks = self.chunks().await?.into_iter();
            return Ok(Some(chunks.filter(|chunk| storage::is_due(chunk, before_us)).collect()));
        }
        storage::compress(&self.shared.pool, before_us).await.map(Some)
    }

    async fn ready(&self) -> Result<(), StoreError> {
        let replica: bool =
            sqlx::query_scalar(sql!("ready")).fetch_one(&self.shared.pool).await.map_err(unavailable)?;
        if replica {
            return Err(StoreError::Unavailable(error::READ_ONLY.to_owned(), None));
        }
        Ok(())
    }

    fn describe(&self) -> Description {
        let Shared { facts, committer, watch, .. } = &*self.shared;
        facts.describe(committer.copying.is_on(), watch.is_disappointed())
    }

    async fn close(&self) {
        self.stop.cancel();
        self.flusher.wait().await;
        self.shared.read_pool.close();
        self.shared.pool.close().await;
    }
}
