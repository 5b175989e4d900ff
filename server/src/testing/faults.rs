use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::watch;

use crate::{
    ingest::Ingest,
    model::{Micros, Milking, ProducerId, ProducerRow, Quarantined, Reading, SeriesId, SeriesKey},
    store::{
        Activity, Bucket, BucketRange, Chunk, CommitGroup, Description, Device, Dropped, Latest, Lifecycle,
        Look, MilkBucket, MilkRange, MilkingRange, Outcome, QuarantineSpan, Refresh, Refreshed, Retention,
        SeriesFilter, SeriesRange, Store, StoreError, Tag,
    },
};

/// What goes wrong, on demand. Each fault hits the next commit that holds batches.
#[derive(Debug)]
pub struct Faults {
    next: Mutex<Vec<Fault>>,
    stalled: watch::Sender<bool>,
    reads_stalled: watch::Sender<bool>,
    stalled_day: watch::Sender<Option<i64>>,
    down: watch::Sender<bool>,
    damaged: watch::Sender<bool>,
    ingest: Mutex<Option<Ingest>>,
}

#[derive(Clone, Copy, Debug)]
enum Fault {
    DropBeforeCommit,
    DropAfterCommit,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            next: Mutex::default(),
            stalled: watch::Sender::new(false),
            reads_stalled: watch::Sender::new(false),
            stalled_day: watch::Sender::new(None),
            down: watch::Sender::new(false),
            damaged: watch::Sender::new(false),
            ingest: Mutex::default(),
        }
    }
}

impl Faults {
    /// Every stream breaks just before the next commit, which does not take place.
    pub fn drop_before_commit(&self) {
        self.next.lock().push(Fault::DropBeforeCommit);
    }

    /// Every stream breaks just after the next commit: it is durable, and no ack tells so.
    pub fn drop_after_commit(&self) {
        self.next.lock().push(Fault::DropAfterCommit);
    }

    /// Commits wait, until told otherwise.
    pub fn stall(&self, stalled: bool) {
        self.stalled.send_replace(stalled);
    }

    /// Getting ready for a UTC day, counted from 1970, waits, until told otherwise.
    pub fn stall_day(&self, day: Option<i64>) {
        self.stalled_day.send_replace(day);
    }

    /// Questions about readings and buckets wait, until told otherwise.
    pub fn stall_reads(&self, stalled: bool) {
        self.reads_stalled.send_replace(stalled);
    }

    /// The store refuses commits as an unreachable one would, until told otherwise.
    pub fn store_down(&self, down: bool) {
        self.down.send_replace(down);
    }

    /// What the ledger holds cannot be read, until told otherwise.
    pub fn damage(&self, damaged: bool) {
        self.damaged.send_replace(damaged);
    }

    pub(super) fn attach(&self, ingest: Ingest) {
        *self.ingest.lock() = Some(ingest);
    }

    /// Lets go of the server, which holds the faults through its store.
    pub(super) fn detach(&self) {
        *self.ingest.lock() = None;
    }

    fn cut_streams(&self) {
        if let Some(ingest) = &*self.ingest.lock() {
            ingest.cut_streams();
        }
    }

    fn take(&self) -> Option<Fault> {
        let mut next = self.next.lock();
        (!next.is_empty()).then(|| next.remove(0))
    }

    async fn read(&self) {
        // Cannot fail: the sender lives as long as this.
        let _ = self.reads_stalled.subscribe().wait_for(|stalled| !stalled).await;
    }

    fn unavailable(&self) -> Result<(), StoreError> {
        if *self.down.borrow() {
            return Err(StoreError::Unavailable("the store was told to be down".to_owned(), None));
        }
        Ok(())
    }
}

/// A store that fails when told to.
#[derive(Debug)]
pub(super) struct FaultyStore {
    inner: Arc<dyn Store>,
    faults: Arc<Faults>,
}

impl FaultyStore {
    pub(super) fn new(inner: Arc<dyn Store>, faults: Arc<Faults>) -> Self {
        Self { inner, faults }
    }

    /// What a commit answers that never took place: the session is over, the ledger as it was.
    async fn refuse(&self, group: &CommitGroup) -> Result<Vec<Outcome>, StoreError> {
        let mut outcomes = Vec::with_capacity(group.producers.len());
        for commit in &group.producers {
            outcomes.push(Outcome::Fenced(self.inner.producer(commit.producer).await?.unwrap_or_default()));
        }
        Ok(outcomes)
    }
}

#[async_trait]
impl Store for FaultyStore {
    async fn commit(&self, group: Arc<CommitGroup>) -> Result<Vec<Outcome>, StoreError> {
        // Cannot fail: the sender lives as long as this store.
        let _ = self.faults.stalled.subscribe().wait_for(|stalled| !stalled).await;
        self.faults.unavailable()?;
        let holds_batches = group.producers.iter().any(|commit| !commit.batches.is_empty());
        match holds_batches.then(|| self.faults.take()).flatten() {
            None => self.inner.commit(group).await,
            Some(Fault::DropBeforeCommit) => {
                self.faults.cut_streams();
                self.refuse(&group).await
            }
            Some(Fault::DropAfterCommit) => {
                let outcomes = self.inner.commit(group).await;
                self.faults.cut_streams();
                // Sessions see the cut before the acks: both are ready, and the cut is looked at first.
                outcomes
            }
        }
    }

    async fn resolve_series(&self, keys: &[SeriesKey]) -> Result<Vec<SeriesId>, StoreError> {
        self.faults.unavailable()?;
        self.inner.resolve_series(keys).await
    }

    async fn prepare_day(&self, day: i64) -> Result<(), StoreError> {
        // Cannot fail: the sender lives as long as this store.
        let _ = self.faults.stalled_day.subscribe().wait_for(|stalled| *stalled != Some(day)).await;
        self.inner.prepare_day(day).await
    }

    async fn producer(&self, id: ProducerId) -> Result<Option<ProducerRow>, StoreError> {
        if *self.faults.damaged.borrow() {
            return Err(StoreError::Damaged("the ledger was told to be damaged".to_owned()));
        }
        self.inner.producer(id).await
    }

    async fn quarantine(
        &self,
        producer: ProducerId,
        span: QuarantineSpan,
        limit: usize,
    ) -> Result<Vec<Quarantined>, StoreError> {
        self.inner.quarantine(producer, span, limit).await
    }

    fn look(&self) -> Box<dyn Look> {
        Box::new(FaultyLook { inner: self.inner.look(), faults: Arc::clone(&self.faults) })
    }

    async fn find_latest(&self, filter: SeriesFilter) -> Result<Vec<Latest>, StoreError> {
        self.inner.find_latest(filter).await
    }

    async fn dirty_hours(&self) -> Result<u64, StoreError> {
        self.inner.dirty_hours().await
    }

    async fn refresh(&self, refresh: Refresh) -> Result<Refreshed, StoreError> {
        self.inner.refresh(refresh).await
    }

    async fn sum_from(&self, from_us: Micros, least: u64) -> Result<(), StoreError> {
        self.inner.sum_from(from_us, least).await
    }

    async fn doubt(&self, span_us: (Micros, Micros)) -> Result<u64, StoreError> {
        self.inner.doubt(span_us).await
    }

    async fn retain(&self, retention: Retention) -> Result<Vec<Dropped>, StoreError> {
        self.inner.retain(retention).await
    }

    async fn chunks(&self) -> Result<Vec<Chunk>, StoreError> {
        self.inner.chunks().await
    }

    async fn compress(&self, before_us: Micros, dry_run: bool) -> Result<Option<Vec<Chunk>>, StoreError> {
        self.inner.compress(before_us, dry_run).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.faults.unavailable()?;
        self.inner.ready().await
    }

    fn describe(&self) -> Description {
        self.inner.describe()
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// A look whose readings are kept waiting when it is told so.
struct FaultyLook {
    inner: Box<dyn Look>,
    faults: Arc<Faults>,
}

#[async_trait]
impl Look for FaultyLook {
    async fn find_series(&self, filter: SeriesFilter) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        self.inner.find_series(filter).await
    }

    async fn tagged_series(
        &self,
        tag: Tag,
        start_us: Micros,
        end_us: Micros,
    ) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        self.inner.tagged_series(tag, start_us, end_us).await
    }

    async fn latest(&self, series: &[SeriesId]) -> Result<Vec<Reading>, StoreError> {
        self.inner.latest(series).await
    }

    async fn range(&self, range: SeriesRange) -> Result<Vec<Reading>, StoreError> {
        self.faults.read().await;
        self.inner.range(range).await
    }

    async fn buckets(&self, range: BucketRange) -> Result<Vec<(u32, Bucket)>, StoreError> {
        self.faults.read().await;
        self.inner.buckets(range).await
    }

    async fn milk(&self, range: MilkRange) -> Result<Vec<MilkBucket>, StoreError> {
        self.inner.milk(range).await
    }

    async fn milkings(&self, range: MilkingRange) -> Result<Vec<Milking>, StoreError> {
        self.inner.milkings(range).await
    }

    async fn devices(
        &self,
        farm_id: Option<i32>,
        after: Option<(i32, String)>,
        limit: usize,
    ) -> Result<Vec<Device>, StoreError> {
        self.inner.devices(farm_id, after, limit).await
    }

    async fn device(&self, farm_id: i32, device_uid: &str) -> Result<Option<Device>, StoreError> {
        self.inner.device(farm_id, device_uid).await
    }

    async fn activity(&self, now_us: Micros) -> Result<Activity, StoreError> {
        self.inner.activity(now_us).await
    }

    async fn lifecycle(&self) -> Result<Lifecycle, StoreError> {
        self.inner.lifecycle().await
    }
}
