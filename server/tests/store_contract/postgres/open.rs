//! Sums of open quarters of an hour.

use std::{sync::Arc, time::Duration};

use herdstream_server::{
    model::{Micros, SeriesId},
    store::{Bucket, BucketRange, Cut, Level, Look as _, Refresh, Store},
};
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{super::laws::Fixture as _, Database};
use crate::store_contract::rows::{DAY, HOUR, MINUTE, NOON, SECOND, reading, resolve, write};

/// Readings of a series in open time, each with its value.
async fn fill(store: &dyn Store, offsets: &[Micros], value: f64) -> SeriesId {
    let series = resolve(store, 0).await;
    write(store, offsets.iter().map(|offset| reading(series, NOON + offset, value)).collect()).await;
    series
}

/// The bucket of the hour after noon; None: it has no readings.
async fn hour(store: &dyn Store, series: SeriesId) -> Option<Bucket> {
    let cut = Cut::Level { level: Level::Hour, start_us: NOON, end_us: NOON + HOUR };
    let range = BucketRange { series: vec![(series, 0)], tag: None, cut, percentiles: false };
    store.buckets(range).await.unwrap().first().map(|(_, bucket)| *bucket)
}

async fn beside(database: &Database) -> PgConnection {
    PgConnection::connect(database.config.url.expose_secret()).await.expect("the database answers")
}

#[tokio::test]
async fn a_question_reads_sums_and_what_came_since_they_were_made() {
    let Some(database) = Database::plain().await else { return };
    let store = database.store();
    store.refresh(Refresh { close_before_us: NOON, span_us: None }).await.unwrap();
    let series = fill(&*store, &[0, MINUTE, 2 * MINUTE, 16 * MINUTE], 2.0).await;
    // Too few to be worth it.
    store.sum_open(NOON + 20 * MINUTE, 5).await.unwrap();
    let mut other = beside(&database).await;
    let sums = "SELECT COALESCE(sum(sample_count), 0)::bigint FROM iot.rollup_open";
    assert_eq!(sqlx::query_scalar::<_, i64>(sums).fetch_one(&mut other).await.unwrap(), 0);
    store.sum_open(NOON + 20 * MINUTE, 4).await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(sums).fetch_one(&mut other).await.unwrap(), 4);
    // It really is the sums that are read: without the readings, too.
    other.execute("TRUNCATE iot.reading").await.unwrap();
    fill(&*store, &[21 * MINUTE], 5.0).await;
    let bucket = hour(&*store, series).await.unwrap();
    assert_eq!((bucket.count, bucket.sum, bucket.min, bucket.max), (5, 13.0, 2.0, 5.0));
    // And not where something was written into their quarter since: of the first one only this is left.
    fill(&*store, &[3 * MINUTE], 7.0).await;
    let bucket = hour(&*store, series).await.unwrap();
    assert_eq!((bucket.count, bucket.sum, bucket.max), (3, 14.0, 7.0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_while_time_is_sealed_is_in_the_sums_or_marks_them() {
    let Some(database) = Database::plain().await else { return };
    let (first, second) = (database.store(), database.beside().await);
    first.refresh(Refresh { close_before_us: NOON, span_us: None }).await.unwrap();
    let series = resolve(&*first, 0).await;
    let steps = 60;
    let writers = [Arc::clone(&first), Arc::clone(&second)].map(|store| {
        tokio::spawn(async move {
            for step in 0..steps {
                // Now and then into what was sealed long ago.
                let at = NOON + if step % 7 == 0 { step % 3 * SECOND } else { step * 10 * SECOND };
                write(&*store, vec![reading(series, at, f64::from(step as i32))]).await;
            }
        })
    });
    let summing = [first, second].map(|store| {
        tokio::spawn(async move {
            for step in 0..steps {
                // A commit may be in the way for longer than sealing waits.
                drop(store.sum_open(NOON + (step - 1) * 10 * SECOND, 0).await);
                let count = hour(&*store, series).await.map_or(0, |bucket| bucket.count);
                assert!(count <= 2 * steps as u64, "{count} of {} counted", 2 * steps);
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        })
    });
    for task in writers.into_iter().chain(summing) {
        task.await.unwrap();
    }
    let store = database.store();
    let expected: f64 = 2.0 * (0..steps).map(|step| f64::from(step as i32)).sum::<f64>();
    let bucket = hour(&*store, series).await.unwrap();
    assert_eq!((bucket.count, bucket.sum), (2 * steps as u64, expected));
    // Kept, it is the same, and the sums are gone.
    store.refresh(Refresh { close_before_us: NOON + DAY, span_us: None }).await.unwrap();
    let bucket = hour(&*store, series).await.unwrap();
    assert_eq!((bucket.count, bucket.sum), (2 * steps as u64, expected));
    let left = "SELECT (SELECT count(*) FROM iot.rollup_open) + (SELECT count(*) FROM iot.rollup_open_dirty)";
    let left: i64 = sqlx::query_scalar(left).fetch_one(&mut beside(&database).await).await.unwrap();
    assert_eq!(left, 0);
}
