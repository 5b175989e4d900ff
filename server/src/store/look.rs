//! What can be asked of a store: the [`Look`] contract.

use async_trait::async_trait;

use super::{
    Activity, Bucket, BucketRange, Device, Lifecycle, MilkBucket, MilkRange, MilkingRange, SeriesFilter,
    SeriesRange, Store, StoreError, Tag,
};
use crate::model::{Micros, Milking, Reading, SeriesId, SeriesKey};

/// A look into a store. All its questions are answered from the same whole commits: those that stood when the first of
/// them was asked. After an error it is of no more use.
///
/// A store can be asked directly, too: then every question is a look of its own.
#[async_trait]
pub trait Look: Send + Sync {
    /// The series that match, by number, after `filter.after` and at most `filter.limit` of them.
    async fn find_series(&self, filter: SeriesFilter) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError>;

    /// The series of which a reading with `start_us <= time < end_us` carries `tag`, by number; perhaps more, of
    /// which one of these days does.
    async fn tagged_series(
        &self,
        tag: Tag,
        start_us: Micros,
        end_us: Micros,
    ) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError>;

    /// The newest reading of each of `series` that has one; among equal times the one committed last.
    async fn latest(&self, series: &[SeriesId]) -> Result<Vec<Reading>, StoreError>;

    /// Readings of one series with `start_us <= time < end_us`, by time; equal times in a fixed order.
    /// Skips the first `skip`, answers at most `limit`.
    async fn range(&self, range: SeriesRange) -> Result<Vec<Reading>, StoreError>;

    /// Statistics of readings by line, then time; what is in no reading is not told. Equals a computation from
    /// the readings, as far as they or the rollups made from them are kept.
    async fn buckets(&self, range: BucketRange) -> Result<Vec<(u32, Bucket)>, StoreError>;

    /// Milk by span, then animal; likewise.
    async fn milk(&self, range: MilkRange) -> Result<Vec<MilkBucket>, StoreError>;

    /// Milkings, by time; equal times in a fixed order.
    async fn milkings(&self, range: MilkingRange) -> Result<Vec<Milking>, StoreError>;

    /// Devices after `after` (farm, identifier), in that order. What was last heard of them is of now.
    async fn devices(
        &self,
        farm_id: Option<i32>,
        after: Option<(i32, String)>,
        limit: usize,
    ) -> Result<Vec<Device>, StoreError>;

    /// One device; likewise.
    async fn device(&self, farm_id: i32, device_uid: &str) -> Result<Option<Device>, StoreError>;

    /// Readings by recency, as of `now_us`.
    async fn activity(&self, now_us: Micros) -> Result<Activity, StoreError>;

    /// How far buckets are closed and kept; cheap enough for every query.
    async fn lifecycle(&self) -> Result<Lifecycle, StoreError>;
}

#[async_trait]
impl<S: Store + ?Sized> Look for S {
    async fn find_series(&self, filter: SeriesFilter) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        self.look().find_series(filter).await
    }

    async fn tagged_series(
        &self,
        tag: Tag,
        start_us: Micros,
        end_us: Micros,
    ) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        self.look().tagged_series(tag, start_us, end_us).await
    }

    async fn latest(&self, series: &[SeriesId]) -> Result<Vec<Reading>, StoreError> {
        self.look().latest(series).await
    }

    async fn range(&self, range: SeriesRange) -> Result<Vec<Reading>, StoreError> {
        self.look().range(range).await
    }

    async fn buckets(&self, range: BucketRange) -> Result<Vec<(u32, Bucket)>, StoreError> {
        self.look().buckets(range).await
    }

    async fn milk(&self, range: MilkRange) -> Result<Vec<MilkBucket>, StoreError> {
        self.look().milk(range).await
    }

    async fn milkings(&self, range: MilkingRange) -> Result<Vec<Milking>, StoreError> {
        self.look().milkings(range).await
    }

    async fn devices(
        &self,
        farm_id: Option<i32>,
        after: Option<(i32, String)>,
        limit: usize,
    ) -> Result<Vec<Device>, StoreError> {
        self.look().devices(farm_id, after, limit).await
    }

    async fn device(&self, farm_id: i32, device_uid: &str) -> Result<Option<Device>, StoreError> {
        self.look().device(farm_id, device_uid).await
    }

    async fn activity(&self, now_us: Micros) -> Result<Activity, StoreError> {
        self.look().activity(now_us).await
    }

    async fn lifecycle(&self) -> Result<Lifecycle, StoreError> {
        self.look().lifecycle().await
    }
}
