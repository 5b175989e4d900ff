//! A look into the directory: a view of whole commits, taken with the first question and kept for the others.

use std::{
    sync::{Arc, OnceLock},
    time::Instant,
};

use async_trait::async_trait;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    engine::Engine,
    state::{Shared, reading},
    view::{Seen, View},
    words,
};
use crate::{
    model::{Micros, Milking, Reading, SeriesId, SeriesKey},
    store::{
        Activity, Bucket, BucketRange, Call, Device, Latest, Lifecycle, Look, MilkBucket, MilkRange,
        MilkingRange, SeriesFilter, SeriesRange, Step, StoreError, Tag,
    },
};

pub(super) struct EmbeddedLook {
    shared: Arc<Shared>,
    /// Places of those who compute.
    computing: Arc<Semaphore>,
    seen: Arc<OnceLock<(Arc<Engine>, Seen)>>,
}

impl EmbeddedLook {
    pub(super) fn new(shared: Arc<Shared>, computing: Arc<Semaphore>) -> Self {
        Self { shared, computing, seen: Arc::default() }
    }

    /// As [`Look::find_series`] and then [`Look::latest`], of a look that has seen nothing yet: at once from memory,
    /// or on one turn of a thread.
    pub(super) async fn find_latest(self, filter: SeriesFilter) -> Result<Vec<Latest>, StoreError> {
        let what = told(|| format!("newest readings of {}", words::series(&filter)));
        let began = Instant::now();
        if let Some(found) = self.shared.engine()?.latest_at_once(&filter) {
            if let Some(steps) = Call::current().steps {
                let plan = format!("looked at newest readings of {} series, held in memory", found.len());
                steps.note(Step { statement: what, plan, took: began.elapsed() });
            }
            return Ok(found);
        }
        self.read(what, move |view| view.find_latest(&filter)).await
    }

    /// Reads on a thread that may block; given up once nobody waits any more.
    async fn read<T: Send + 'static>(
        &self,
        what: String,
        work: impl FnOnce(&View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.read_in(what, None, work).await
    }

    /// As [`Self::read`], in a place that is kept by the work, which goes on for a while after its caller has gone.
    async fn read_in<T: Send + 'static>(
        &self,
        what: String,
        place: Option<OwnedSemaphorePermit>,
        work: impl FnOnce(&View<'_>) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let seen = Arc::clone(&self.seen);
        let engine = match seen.get() {
            Some((engine, _)) => Arc::clone(engine),
            None => self.shared.engine()?,
        };
        reading(engine, what, move |engine, watch| {
            let _place = place;
            let (engine, seen) = match seen.get() {
                Some(seen) => seen,
                None => {
                    let now = engine.see(&watch)?;
                    seen.get_or_init(|| (Arc::clone(engine), now))
                }
            };
            let view = View::new(engine, seen.clone(), watch);
            Ok((work(&view)?, view.looked.describe()))
        })
        .await
    }
}

#[allow(
    clippy::redundant_closure_for_method_calls,
    reason = "a method of one lifetime is not a closure over all"
)]
#[async_trait]
impl Look for EmbeddedLook {
    async fn find_series(&self, filter: SeriesFilter) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        self.read(told(|| words::series(&filter)), move |view| view.find_series(&filter)).await
    }

    async fn tagged_series(
        &self,
        tag: Tag,
        start_us: Micros,
        end_us: Micros,
    ) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        let span_us = (start_us, end_us);
        self.read(told(|| words::tagged(tag, span_us)), move |view| view.tagged_series(tag, span_us)).await
    }

    async fn latest(&self, series: &[SeriesId]) -> Result<Vec<Reading>, StoreError> {
        let series = series.to_vec();
        let what = told(|| format!("newest readings of {} series", series.len()));
        self.read(what, move |view| view.latest_of(&series)).await
    }

    async fn range(&self, range: SeriesRange) -> Result<Vec<Reading>, StoreError> {
        self.read(told(|| words::range(&range)), move |view| view.range(&range)).await
    }

    async fn buckets(&self, range: BucketRange) -> Result<Vec<(u32, Bucket)>, StoreError> {
        let what = told(|| words::buckets(&range));
        // Never closed.
        let place = self.computing.clone().acquire_owned().await.ok();
        self.read_in(what, place, move |view| view.buckets(&range)).await
    }

    async fn milk(&self, range: MilkRange) -> Result<Vec<MilkBucket>, StoreError> {
        self.read(told(|| words::milk(&range)), move |view| view.milk(&range)).await
    }

    async fn milkings(&self, range: MilkingRange) -> Result<Vec<Milking>, StoreError> {
        self.read(told(|| words::milkings(&range)), move |view| view.milkings(&range)).await
    }

    async fn devices(
        &self,
        farm_id: Option<i32>,
        after: Option<(i32, String)>,
        limit: usize,
    ) -> Result<Vec<Device>, StoreError> {
        let what = told(|| {
            farm_id.map_or_else(|| "devices".to_owned(), |farm_id| format!("devices of farm {farm_id}"))
        });
        self.read(what, move |view| view.devices(farm_id, after.as_ref(), limit)).await
    }

    async fn device(&self, farm_id: i32, device_uid: &str) -> Result<Option<Device>, StoreError> {
        let device_uid = device_uid.to_owned();
        let what = told(|| format!("device {device_uid} of farm {farm_id}"));
        self.read(what, move |view| view.device(farm_id, &device_uid)).await
    }

    async fn activity(&self, now_us: Micros) -> Result<Activity, StoreError> {
        self.read(told(|| "readings by recency".to_owned()), move |view| view.activity(now_us)).await
    }

    async fn lifecycle(&self) -> Result<Lifecycle, StoreError> {
        self.read(told(|| "watermarks".to_owned()), |view| view.lifecycle()).await
    }
}

/// What is looked for, if somebody watches.
fn told(words: impl FnOnce() -> String) -> String {
    if Call::current().steps.is_some() { words() } else { String::new() }
}
