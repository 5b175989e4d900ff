//! Sums of open quarters of an hour.

use std::{sync::Arc, time::Duration};

use herdstream_server::{
    model::{Micros, SeriesId},
    store::{Bucket, BucketRange, Cut, Level, Look as _, Refresh, Store},
};
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{super::laws::Fixture as _, Database};
use crate::store_contract::rows::{DAY, HOUR, MINUTE, NOON, reading, resolve, write};

const QUARTER: Micros = 15 * MINUTE;

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

/// Readings that are summed up.
async fn summed(connection: &mut PgConnection) -> i64 {
    let sums = "SELECT COALESCE(sum(sample_count), 0)::bigint FROM iot.rollup_open";
    sqlx::query_scalar(sums).fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_question_reads_sums_and_not_what_is_in_them() {
    let Some(database) = Database::plain().await else { return };
    let store = database.store();
    store.refresh(Refresh { close_before_us: NOON, span_us: None }).await.unwrap();
    let series = fill(&*store, &[0, MINUTE, 16 * MINUTE], 2.0).await;
    let mut other = beside(&database).await;
    // Too few to be worth it.
    store.sum_from(NOON + QUARTER, 4).await.unwrap();
    fill(&*store, &[2 * MINUTE, 17 * MINUTE], 2.0).await;
    assert_eq!(summed(&mut other).await, 0);
    // What is there of the second quarter is summed up at once, and what comes, with what is written.
    store.sum_from(NOON + QUARTER, 2).await.unwrap();
    assert_eq!(summed(&mut other).await, 2);
    fill(&*store, &[3 * MINUTE, 20 * MINUTE, 18 * MINUTE, 31 * MINUTE], 3.0).await;
    assert_eq!(summed(&mut other).await, 5);
    let bucket = hour(&*store, series).await.unwrap();
    assert_eq!((bucket.count, bucket.sum, bucket.min, bucket.max), (9, 22.0, 2.0, 3.0));
    // It really is the sums that are read: without the readings, too.
    other.execute("TRUNCATE iot.reading").await.unwrap();
    let bucket = hour(&*store, series).await.unwrap();
    assert_eq!((bucket.count, bucket.sum), (5, 13.0));
    // They count until their quarters are kept, and go then.
    store.refresh(Refresh { close_before_us: NOON + 2 * QUARTER, span_us: None }).await.unwrap();
    assert_eq!(summed(&mut other).await, 1);
    assert_eq!(hour(&*store, series).await.unwrap().count, 1);
}

#[tokio::test]
async fn values_that_arithmetic_cannot_hold_are_summed_up() {
    let Some(database) = Database::plain().await else { return };
    let store = database.store();
    store.refresh(Refresh { close_before_us: NOON, span_us: None }).await.unwrap();
    let series = fill(&*store, &[0], 0.0).await;
    store.sum_from(NOON, 0).await.unwrap();
    for value in [1e140, -1e140, 5e-324, 1e-300, -1e-160] {
        fill(&*store, &[MINUTE], value).await;
        fill(&*store, &[MINUTE, MINUTE], value).await;
    }
    let bucket = hour(&*store, series).await.unwrap();
    assert_eq!((bucket.count, bucket.min, bucket.max), (16, -1e140, 1e140));
    // Alone, too, where a square is less than the least number.
    store.refresh(Refresh { close_before_us: NOON + QUARTER, span_us: None }).await.unwrap();
    for value in [5e-324, 1e-300, -1e-160] {
        fill(&*store, &[QUARTER], value).await;
    }
    assert_eq!(hour(&*store, series).await.unwrap().count, 19);
}

/// Two servers write the same series while sums begin and quarters are kept; then an old writer takes its time. Whatever
/// an operator made the default of the database.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_committed_while_sums_begin_is_in_them_once() {
    let Some(database) = Database::plain().await else { return };
    let isolate = "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L', \
                   current_database(), 'repeatable read'); END $$";
    database.run(isolate).await;
    let (first, second) = (database.beside().await, database.beside().await);
    first.refresh(Refresh { close_before_us: NOON, span_us: None }).await.unwrap();
    let series = resolve(&*first, 0).await;
    write(&*first, vec![reading(series, NOON, 0.0)]).await;
    let mut old = beside(&database).await;
    old.execute("SET default_transaction_isolation = 'read committed'").await.unwrap();
    let insert = "INSERT INTO iot.sensor_data (time, device_uid, device_type, farm_id, metric_name, metric_unit, \
                  metric_value) SELECT $1, device_uid, device_type, farm_id, metric_name, metric_unit, 0.5 \
                  FROM iot.series";
    let at = |offset: Micros| chrono::DateTime::from_timestamp_micros(NOON + offset).unwrap();
    let steps: i32 = 60;
    let writers = [Arc::clone(&first), Arc::clone(&second)].map(|store| {
        tokio::spawn(async move {
            for step in 0..steps {
                let at_us = NOON + i64::from(step * 7 % steps) * MINUTE / 2;
                write(&*store, vec![reading(series, at_us, f64::from(step))]).await;
            }
        })
    });
    let asking = tokio::spawn(async move {
        let mut before = 0;
        for step in 0..steps {
            // A commit may be in the way of either.
            while step == 10 && summed(&mut old).await == 0 {
                second.sum_from(NOON, 0).await.unwrap();
            }
            if step == 30 {
                second.refresh(Refresh { close_before_us: NOON + QUARTER, span_us: None }).await.unwrap();
            }
            let count = hour(&*second, series).await.map_or(0, |bucket| bucket.count);
            let there = "SELECT count(*) FROM iot.reading";
            let there = sqlx::query_scalar::<_, i64>(there).fetch_one(&mut old).await.unwrap();
            assert!(
                (before..=there as u64).contains(&count),
                "{count} counted, {before} before, {there} there"
            );
            before = count;
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        old
    });
    for writer in writers {
        writer.await.unwrap();
    }
    let mut old = asking.await.unwrap();
    let store = database.store();
    assert!(summed(&mut old).await > 0);
    // Nobody waits for an old writer.
    old.execute("BEGIN").await.unwrap();
    old.execute(sqlx::query(insert).bind(at(MINUTE))).await.unwrap();
    write(&*store, vec![reading(series, NOON + MINUTE, 0.0)]).await;
    old.execute("COMMIT").await.unwrap();
    let expected = 2.0 * (0..steps).map(f64::from).sum::<f64>() + 0.5;
    let bucket = hour(&*store, series).await.unwrap();
    assert_eq!((bucket.count, bucket.sum), (2 * steps as u64 + 3, expected));
    // Kept, it is the same, and the sums are gone.
    store.refresh(Refresh { close_before_us: NOON + DAY, span_us: None }).await.unwrap();
    let bucket = hour(&*store, series).await.unwrap();
    assert_eq!((bucket.count, bucket.sum), (2 * steps as u64 + 3, expected));
    assert_eq!(summed(&mut old).await, 0);
}
