//! Rollups that are not what they should be, and that somebody doubts.

use herdstream_server::{
    model::{Micros, SeriesId},
    store::{Bucket, BucketRange, Cut, Level, Look as _, Refresh, Retention, Store},
};

use super::{super::laws::Fixture as _, Database};
use crate::store_contract::rows::{DAY, HOUR, MINUTE, NOON, reading, resolve, write};

const MIDNIGHT: Micros = NOON - 12 * HOUR;

/// As if a backup had brought the wrong ones: wrong values, none of the second series on the last day, and some of times
/// and of a series (the last) without readings.
const DAMAGE: &str = "
    DO $$
    DECLARE
        level text;
        kept  text;
    BEGIN
        FOREACH level IN ARRAY ARRAY['rollup_15min', 'rollup_hourly', 'rollup_daily'] LOOP
            kept := 'iot.' || level;
            IF to_regclass('timescaledb_information.continuous_aggregates') IS NOT NULL THEN
                EXECUTE 'SELECT format(''%I.%I'', materialization_hypertable_schema, materialization_hypertable_name) '
                        'FROM timescaledb_information.continuous_aggregates '
                        'WHERE view_schema = ''iot'' AND view_name = $1' INTO kept USING level;
            END IF;
            EXECUTE format('UPDATE %s SET max_value = 1000000', kept);
            EXECUTE format('CREATE TEMP TABLE spare AS SELECT * FROM %s', kept);
            UPDATE spare SET bucket = bucket + INTERVAL '1 hour' WHERE series_id = (SELECT min(series_id) FROM iot.series);
            UPDATE spare SET series_id = (SELECT max(series_id) FROM iot.series)
            WHERE series_id > (SELECT min(series_id) FROM iot.series);
            DELETE FROM spare
            WHERE series_id = (SELECT min(series_id) FROM iot.series) AND extract(hour FROM bucket AT TIME ZONE 'UTC') <> 5;
            EXECUTE format('INSERT INTO %s SELECT * FROM spare', kept);
            DROP TABLE spare;
            EXECUTE format('DELETE FROM %s WHERE bucket >= ''2026-02-28 00:00:00+00'' AND series_id = '
                           '(SELECT min(series_id) + 1 FROM iot.series)', kept);
        END LOOP;
    END
    $$";

/// All buckets of all levels of some days before midnight, with what is exact in them.
async fn answers(
    store: &dyn Store,
    series: &[SeriesId],
    days: std::ops::Range<i64>,
) -> Vec<(u32, Micros, u64, f64, f64, Option<f64>)> {
    let exact = |(line, bucket): &(u32, Bucket)| {
        (*line, bucket.start_us, bucket.count, bucket.min, bucket.max, bucket.median)
    };
    let mut all = Vec::new();
    for level in Level::ALL {
        let (start_us, end_us) = (MIDNIGHT - days.end * DAY, MIDNIGHT - days.start * DAY);
        let cut = Cut::Level { level, start_us, end_us };
        let series = series.iter().zip(0..).map(|(id, line)| (*id, line)).collect();
        let range = BucketRange { series, tag: None, cut, percentiles: true };
        all.extend(store.buckets(range).await.unwrap().iter().map(exact));
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_doubted_is_computed_again_from_readings() {
    for timescale in [false, true] {
        let database = if timescale { Database::timescale().await } else { Database::plain().await };
        let Some(database) = database else { continue };
        let store = &*database.store();
        let series = [resolve(store, 0).await, resolve(store, 1).await, resolve(store, 2).await];
        // Three days, and nothing in the sixth hour of each.
        let times = (0..3 * 144).map(|n| MIDNIGHT - 3 * DAY + n * 10 * MINUTE);
        let times: Vec<_> =
            times.filter(|time_us| (time_us - MIDNIGHT).rem_euclid(DAY) / HOUR != 5).collect();
        let of =
            |id| times.iter().zip(0..).map(move |(&time_us, n)| reading(id, time_us, f64::from(n * 7 % 50)));
        write(store, series[..2].iter().flat_map(|&id| of(id)).collect()).await;
        let refresh =
            async |span_us| store.refresh(Refresh { close_before_us: MIDNIGHT, span_us }).await.unwrap();
        refresh(None).await;
        let retention = Retention {
            readings_us: Some(MIDNIGHT - 2 * DAY),
            quiet_since_us: Micros::MAX,
            ..Retention::default()
        };
        let dropped = store.retain(retention).await.unwrap();
        assert!(dropped.len() == 1 && dropped[0].kept_because.is_empty(), "{dropped:?}");

        let right = answers(store, &series, 0..2).await;
        database.run(DAMAGE).await;
        let dropped_day = answers(store, &series, 2..3).await;
        let wrong = answers(store, &series, 0..2).await;
        assert_ne!(wrong, right);
        refresh(Some((MIDNIGHT - 3 * DAY, MIDNIGHT))).await;
        assert_eq!(answers(store, &series, 0..2).await, wrong, "nothing is dirty");

        // Two hours of the last day, and with them that day's buckets by day; the other day stays as it is.
        let before = answers(store, &series, 1..2).await;
        let hours = (MIDNIGHT - 19 * HOUR, MIDNIGHT - 17 * HOUR);
        store.doubt(hours).await.unwrap();
        refresh(Some(hours)).await;
        assert_eq!(answers(store, &series, 1..2).await, before);
        let whole_days = |answers: Vec<(u32, Micros, u64, f64, f64, Option<f64>)>| -> Vec<_> {
            answers.into_iter().filter(|answer| answer.2 > 100).collect()
        };
        let last_day = answers(store, &series, 0..1).await;
        let empty_hour =
            last_day.iter().filter(|answer| (hours.0..hours.0 + HOUR).contains(&answer.1)).count();
        assert_eq!(empty_hour, 0, "what has no readings has no bucket");
        let of_last_day = right.iter().filter(|answer| answer.1 >= MIDNIGHT - DAY).copied().collect();
        assert_eq!(whole_days(last_day), whole_days(of_last_day));

        // The span reaches over what is dropped, and over what is not closed.
        let all = (MIDNIGHT - 9 * DAY, MIDNIGHT + DAY);
        store.doubt(all).await.unwrap();
        assert_eq!(answers(store, &series, 0..2).await, right, "at once");
        refresh(Some(all)).await;
        assert_eq!(answers(store, &series, 0..2).await, right);
        assert_eq!(store.dirty_hours().await.unwrap(), 0);
        assert_eq!(answers(store, &series, 2..3).await, dropped_day, "nobody knows better");
        // It is in rollups again, not computed for the answer.
        database.run("DELETE FROM iot.reading").await;
        assert_eq!(answers(store, &series, 0..2).await, right);
    }
}
