//! Days and hours without percentiles, put together from what is kept of them.

use herdstream_server::{
    model::Micros,
    store::{Bucket, BucketRange, Cut, Level, Look as _, Refresh, Retention, Store},
};

use super::{super::laws::Fixture as _, Database};
use crate::store_contract::rows::{DAY, HOUR, MINUTE, NOON, reading, resolve, write};

const MIDNIGHT: Micros = NOON - 12 * HOUR;

/// Two days of two series, and half an hour of a third day, which is kept up to 10:15 on the second one: there are
/// late readings of both days.
async fn fill(store: &dyn Store) -> [Vec<Bucket>; 2] {
    let series = [resolve(store, 0).await, resolve(store, 1).await];
    let readings =
        |id| (0..291).map(move |n| reading(id, MIDNIGHT - 2 * DAY + n * 10 * MINUTE, (n % 50) as f64));
    write(store, series.into_iter().flat_map(readings).collect()).await;
    let close_before_us = MIDNIGHT - DAY + 10 * HOUR + 15 * MINUTE;
    store.refresh(Refresh { close_before_us, span_us: None }).await.unwrap();
    let late = [MIDNIGHT - 2 * DAY + 5 * HOUR, MIDNIGHT - DAY + 3 * HOUR, MIDNIGHT - DAY + 10 * HOUR];
    write(store, late.map(|time_us| reading(series[0], time_us, 1000.0)).into()).await;
    let [days, hours] = answers(store).await;
    let counts: Vec<_> = days.iter().map(|day| (day.count, day.max)).collect();
    assert_eq!(counts, [(289, 1000.0), (290, 1000.0), (6, 40.0)], "{days:?}");
    let counts: Vec<_> = hours.iter().map(|hour| hour.count).collect();
    let wanted: Vec<_> = (0..49).map(|hour| 12 + u64::from([5, 27, 34].contains(&hour))).collect();
    assert_eq!((&counts[..48], counts[48]), (&wanted[..48], 6), "{hours:?}");
    [days, hours]
}

async fn answers(store: &dyn Store) -> [Vec<Bucket>; 2] {
    [answer(store, Level::Day).await, answer(store, Level::Hour).await]
}

async fn answer(store: &dyn Store, level: Level) -> Vec<Bucket> {
    let series = [resolve(store, 0).await, resolve(store, 1).await].map(|id| (id, 0)).into();
    let cut = Cut::Level { level, start_us: MIDNIGHT - 5 * DAY, end_us: MIDNIGHT + 5 * DAY };
    let found = store.buckets(BucketRange { series, tag: None, cut, percentiles: false }).await.unwrap();
    // How they were merged shows in the last digits.
    let round = |bucket: Bucket| Bucket {
        squares: (bucket.squares * 1000.0).round(),
        median: None,
        p95: None,
        ..bucket
    };
    found.into_iter().map(|(_, bucket)| round(bucket)).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_finished_comes_from_kept_hours_and_quarters() {
    for timescale in [false, true] {
        let database = if timescale { Database::timescale().await } else { Database::plain().await };
        let Some(database) = database else { continue };
        let store = database.store();
        let before = fill(&*store).await;
        // Without the readings that are in clean and kept hours and quarters of an hour.
        let delete = "DELETE FROM iot.reading AS r WHERE time < (SELECT stored_before FROM iot.watermark) \
                      AND NOT EXISTS (SELECT FROM iot.rollup_dirty AS d WHERE d.series_id = r.series_id \
                                      AND r.time >= d.hour AND r.time < d.hour + INTERVAL '1 hour')";
        database.run(delete).await;
        assert_eq!(answers(&*store).await, before);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_has_lost_its_parts_comes_from_readings() {
    for (level, timescale) in [(0, false), (1, false), (0, true), (1, true)] {
        let database = if timescale { Database::timescale().await } else { Database::plain().await };
        let Some(database) = database else { continue };
        let store = database.store();
        let before = fill(&*store).await;
        let mut rollups_us = [None; 3];
        rollups_us[level] = Some(MIDNIGHT);
        let dropped = store.retain(Retention { rollups_us, ..Retention::default() }).await.unwrap();
        assert!(dropped.len() == 1 && dropped[0].rows > 0, "{dropped:?}");
        assert_eq!(answers(&*store).await, before);
    }
}
