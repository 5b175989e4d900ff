//! A look into the database: one transaction, begun with the first question.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::{MappedMutexGuard, Mutex, MutexGuard};

use super::{Shared, aggregate, others, read, reading::Reader, series};
use crate::{
    model::{Micros, Milking, Reading, SeriesId, SeriesKey},
    store::{
        Activity, Bucket, BucketRange, Device, Lifecycle, Look, MilkBucket, MilkRange, MilkingRange,
        SeriesFilter, SeriesRange, StoreError, Tag,
    },
};

/// Questions wait for each other: they share a connection.
pub(super) struct PostgresLook {
    shared: Arc<Shared>,
    reader: Mutex<Option<Reader>>,
}

impl PostgresLook {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, reader: Mutex::new(None) }
    }

    async fn reader(&self) -> Result<MappedMutexGuard<'_, Reader>, StoreError> {
        let mut reader = self.reader.lock().await;
        let begun = match reader.take() {
            Some(begun) => begun,
            None => self.shared.reader().await?,
        };
        Ok(MutexGuard::map(reader, |reader| reader.insert(begun)))
    }
}

#[async_trait]
impl Look for PostgresLook {
    async fn find_series(&self, filter: SeriesFilter) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        series::find(&mut *self.reader().await?, &filter).await
    }

    async fn tagged_series(
        &self,
        tag: Tag,
        start_us: Micros,
        end_us: Micros,
    ) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        series::tagged(&mut *self.reader().await?, tag, start_us, end_us).await
    }

    async fn latest(&self, series: &[SeriesId]) -> Result<Vec<Reading>, StoreError> {
        read::latest(&mut *self.reader().await?, series).await
    }

    async fn range(&self, range: SeriesRange) -> Result<Vec<Reading>, StoreError> {
        read::range(&mut *self.reader().await?, &range).await
    }

    async fn buckets(&self, range: BucketRange) -> Result<Vec<(u32, Bucket)>, StoreError> {
        aggregate::buckets(&mut *self.reader().await?, &range).await
    }

    async fn milk(&self, range: MilkRange) -> Result<Vec<MilkBucket>, StoreError> {
        aggregate::milk(&mut *self.reader().await?, &range).await
    }

    async fn milkings(&self, range: MilkingRange) -> Result<Vec<Milking>, StoreError> {
        others::milkings(&mut *self.reader().await?, &range).await
    }

    async fn devices(
        &self,
        farm_id: Option<i32>,
        after: Option<(i32, String)>,
        limit: usize,
    ) -> Result<Vec<Device>, StoreError> {
        self.shared.devices.list(&mut *self.reader().await?, farm_id, after, limit).await
    }

    async fn device(&self, farm_id: i32, device_uid: &str) -> Result<Option<Device>, StoreError> {
        self.shared.devices.find(&mut *self.reader().await?, farm_id, device_uid).await
    }

    async fn activity(&self, now_us: Micros) -> Result<Activity, StoreError> {
        self.shared.devices.activity(&mut *self.reader().await?, now_us).await
    }

    async fn lifecycle(&self) -> Result<Lifecycle, StoreError> {
        Ok(self.reader().await?.watermark().lifecycle)
    }
}
