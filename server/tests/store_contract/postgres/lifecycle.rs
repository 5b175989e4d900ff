//! Refresh and retention where several servers, long transactions and killed backends are.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use herdstream_server::{
    config::Config,
    lifecycle::Keeper,
    model::{Micros, RejectionCode, RejectionKind, SeriesId, Totals},
    ops::metrics,
    store::{
        Bucket, BucketRange, Cut, Level, Look as _, Outcome, ProducerCommit, QuarantineSpan, Refresh,
        Retention, Store, StoreError,
        postgres::{DirectCompress, PostgresConfig, PostgresStore},
    },
};
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio_util::sync::CancellationToken;

use super::{super::laws::Fixture as _, Database};
use crate::store_contract::rows::{
    DAY, HOUR, MINUTE, NOON, batches, commit, commit_one, milked, milking, opening, producer, reading,
    resolve, write,
};

const MIDNIGHT: Micros = NOON - 12 * HOUR;

/// Longer than anything here takes, on a machine that has much to do.
const LONG: Duration = Duration::from_secs(60);

/// A reading every ten minutes of three days, of two series.
async fn fill(store: &dyn Store) -> [SeriesId; 2] {
    let series = [resolve(store, 0).await, resolve(store, 1).await];
    let readings = |id: SeriesId| {
        (0..3 * 144).map(move |n| reading(id, MIDNIGHT - 3 * DAY + n * 10 * MINUTE, (n * 7 % 50) as f64))
    };
    write(store, series.into_iter().flat_map(readings).collect()).await;
    series
}

/// All buckets of all levels.
async fn answers(store: &dyn Store, series: &[SeriesId]) -> Vec<(u32, Bucket)> {
    let mut all = Vec::new();
    for level in Level::ALL {
        let cut = Cut::Level { level, start_us: MIDNIGHT - 10 * DAY, end_us: MIDNIGHT + 10 * DAY };
        let series = series.iter().zip(0..).map(|(id, line)| (*id, line)).collect();
        all.extend(store.buckets(BucketRange { series, tag: None, cut, percentiles: true }).await.unwrap());
    }
    all
}

/// What of answers does not depend on the order of adding.
fn told(answers: &[(u32, Bucket)]) -> Vec<(u32, Micros, u64, Option<f64>)> {
    answers.iter().map(|(line, bucket)| (*line, bucket.start_us, bucket.count, bucket.median)).collect()
}

fn until(close_before_us: Micros) -> Refresh {
    Refresh { close_before_us, span_us: None }
}

/// A retention of days that ended before, of readings and milkings.
fn keep_from(before_us: Micros) -> Retention {
    Retention {
        readings_us: Some(before_us),
        milkings_us: Some(before_us),
        quiet_since_us: Micros::MAX,
        ..Retention::default()
    }
}

/// A connection beside the store's.
async fn beside(database: &Database) -> PgConnection {
    PgConnection::connect(database.config.url.expose_secret()).await.expect("the database answers")
}

/// The backend that refreshes, once it waits for a lock; the advisory lock of refreshes is number 3.
async fn refreshing(connection: &mut PgConnection) -> i32 {
    let began = Instant::now();
    loop {
        let backend: Option<i32> = sqlx::query_scalar(
            "SELECT pid FROM pg_locks JOIN pg_stat_activity USING (pid) \
             WHERE locktype = 'advisory' AND objid = 3 AND objsubid = 2 AND granted \
               AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
               AND wait_event_type = 'Lock'",
        )
        .fetch_optional(&mut *connection)
        .await
        .unwrap();
        if let Some(backend) = backend {
            return backend;
        }
        assert!(began.elapsed() < LONG, "nobody refreshes");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_do_not_refresh_twice() {
    let Some(database) = Database::plain().await else { return };
    let (first, second) = (database.store(), database.beside().await);
    let series = fill(&*first).await;
    let before = answers(&*first, &series).await;
    let mut blocker = beside(&database).await;
    // The first one is in the middle of it.
    blocker.execute("BEGIN; LOCK TABLE iot.rollup_hourly IN SHARE MODE").await.unwrap();
    let work = {
        let first = Arc::clone(&first);
        tokio::spawn(async move { first.refresh(until(MIDNIGHT)).await })
    };
    let mut watcher = beside(&database).await;
    refreshing(&mut watcher).await;
    assert!(second.refresh(until(MIDNIGHT)).await.unwrap().elsewhere);
    assert_eq!(answers(&*second, &series).await, before);
    blocker.execute("COMMIT").await.unwrap();
    let done = work.await.unwrap().unwrap();
    // Readings are 10 minutes apart: each quarter of an hour has one.
    assert_eq!((done.buckets, done.elsewhere), (2 * 3 * (96 + 24 + 1), false));
    // Its connection goes with its turn.
    let began = Instant::now();
    let again = loop {
        let again = second.refresh(until(MIDNIGHT)).await.unwrap();
        if !again.elsewhere {
            break again;
        }
        assert!(began.elapsed() < LONG, "the turn does not end");
    };
    assert_eq!((again.buckets, again.dirty_hours), (0, 0), "all was done");
    let after = answers(&*second, &series).await;
    assert_eq!(after.len(), before.len());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refresh_that_is_killed_half_way_leaves_truth() {
    let Some(database) = Database::plain().await else { return };
    let store = database.store();
    let series = fill(&*store).await;
    let before = answers(&*store, &series).await;
    let mut blocker = beside(&database).await;
    let mut watcher = beside(&database).await;
    for kill in [true, false] {
        blocker.execute("BEGIN; LOCK TABLE iot.rollup_hourly IN SHARE MODE").await.unwrap();
        let work = {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.refresh(until(MIDNIGHT)).await })
        };
        let backend = refreshing(&mut watcher).await;
        if kill {
            let terminate = sqlx::query("SELECT pg_terminate_backend($1)").bind(backend);
            terminate.execute(&mut watcher).await.unwrap();
            assert!(work.await.unwrap().is_err());
        } else {
            // Its future is dropped: it stops in the database, too, though nothing is unlocked.
            work.abort();
            let began = Instant::now();
            while store.refresh(until(MIDNIGHT - 30 * DAY)).await.map_or(true, |done| done.elsewhere) {
                assert!(began.elapsed() < LONG, "the turn does not end");
                // It would do what the other one has not: what is in the way goes.
                blocker.execute("ROLLBACK").await.unwrap();
            }
        }
        blocker.execute("ROLLBACK").await.unwrap();
        assert_eq!(store.lifecycle().await.unwrap().closed_before_us, Some(MIDNIGHT));
        if kill {
            assert_eq!(store.lifecycle().await.unwrap().stored_before_us, None);
        }
        // Closed and not kept: what comes now is late.
        write(&*store, vec![reading(series[0], MIDNIGHT - 40 * DAY, 1.0)]).await;
        assert!(store.dirty_hours().await.unwrap() > 0);
        assert_eq!(answers(&*store, &series).await.len(), before.len());
    }
    let began = Instant::now();
    while store.refresh(until(MIDNIGHT)).await.unwrap().elsewhere {
        assert!(began.elapsed() < LONG, "the turn does not end");
    }
    assert_eq!(store.dirty_hours().await.unwrap(), 0);
    let after = answers(&*store, &series).await;
    for ((line, before), (same, after)) in before.iter().zip(&after) {
        assert_eq!((line, before.start_us, before.count), (same, after.start_us, after.count));
        assert_eq!((before.sum, before.median, before.p95), (after.sum, after.median, after.p95));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_transaction_of_a_writer_delays_closing_and_mending_and_no_answer() {
    let Some(database) = Database::plain().await else { return };
    let store = database.store();
    let series = fill(&*store).await;
    store.refresh(until(MIDNIGHT - DAY)).await.unwrap();
    let mut writer = beside(&database).await;
    writer.execute("BEGIN; SELECT iot.hold_watermark()").await.unwrap();
    write(&*store, vec![reading(series[0], MIDNIGHT - 2 * DAY, 1.0)]).await;
    let began = Instant::now();
    let done = loop {
        let done = store.refresh(until(MIDNIGHT)).await.unwrap();
        if !done.elsewhere {
            break done;
        }
        assert!(began.elapsed() < LONG, "the turn does not end");
    };
    assert_eq!(done.dirty_hours, 0, "the writer may count on the mark");
    assert_eq!(store.lifecycle().await.unwrap().closed_before_us, Some(MIDNIGHT - DAY));
    let held = answers(&*store, &series).await;
    writer.execute("ROLLBACK").await.unwrap();
    let began = Instant::now();
    while store.lifecycle().await.unwrap().closed_before_us != Some(MIDNIGHT)
        || store.dirty_hours().await.unwrap() > 0
    {
        assert!(began.elapsed() < LONG, "the watermark does not move");
        store.refresh(until(MIDNIGHT)).await.unwrap();
    }
    let mended = answers(&*store, &series).await;
    assert_eq!(told(&held), told(&mended));
}

/// An hour is marked once until a refresh looks; what comes while one mends is marked anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hour_is_marked_once_until_a_refresh_looks() {
    let Some(database) = Database::plain().await else { return };
    let (store, other) = (database.store(), PostgresStore::open(database.config.clone()).await.unwrap());
    let series = fill(&*store).await;
    store.refresh(until(MIDNIGHT)).await.unwrap();
    let mut beside = beside(&database).await;
    let late = || vec![reading(series[0], MIDNIGHT - 2 * DAY, 1.0), reading(series[0], MIDNIGHT - DAY, 1.0)];
    let marks = "SELECT count(*) FROM iot.rollup_dirty";
    for _ in 0..3 {
        write(&*store, late()).await;
    }
    assert_eq!(sqlx::query_scalar::<_, i64>(marks).fetch_one(&mut beside).await.unwrap(), 2);
    // Another server does not know it.
    write(&other, late()).await;
    assert_eq!(sqlx::query_scalar::<_, i64>(marks).fetch_one(&mut beside).await.unwrap(), 4);
    // Looked at, and before they are mended the hour gets more.
    beside.execute("SELECT iot.close_before('2000-01-03 00:00:00+00')").await.unwrap();
    write(&*store, late()).await;
    write(&*store, late()).await;
    assert_eq!(sqlx::query_scalar::<_, i64>(marks).fetch_one(&mut beside).await.unwrap(), 6);
    beside.execute("SELECT iot.mend_rollups(100)").await.unwrap();
    assert_eq!(sqlx::query_scalar::<_, i64>(marks).fetch_one(&mut beside).await.unwrap(), 2);
    write(&*store, late()).await;
    let dirty = answers(&*store, &series).await;
    let began = Instant::now();
    while store.dirty_hours().await.unwrap() > 0 {
        assert!(began.elapsed() < LONG, "the marks stay");
        store.refresh(until(MIDNIGHT)).await.unwrap();
    }
    assert_eq!(told(&answers(&*store, &series).await), told(&dirty));
    other.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_keeps_rollups_and_refuses_what_comes_for_a_dropped_day() {
    for timescale in [false, true] {
        let database = if timescale { Database::timescale().await } else { Database::plain().await };
        let Some(database) = database else { continue };
        let store = database.store();
        let series = fill(&*store).await;
        let milk = vec![milking(1, 1, MIDNIGHT - 2 * DAY - HOUR), milking(1, 2, MIDNIGHT - HOUR)];
        let mut first = batches(producer(1), 1, 0, 1, Vec::new());
        first.batches = vec![milked(milk)];
        commit_one(&*store, opening(producer(1), "a")).await;
        commit_one(&*store, first).await;
        let before = answers(&*store, &series).await;

        // Nothing goes before its rollups are kept.
        let listed = store.retain(keep_from(MIDNIGHT - DAY)).await.unwrap();
        let kept: Vec<_> = listed.iter().filter(|part| !part.kept_because.is_empty()).collect();
        assert_eq!((listed.len(), kept.len()), (3, 2), "{listed:?}");
        assert!(kept.iter().all(|part| part.table == "reading" && part.kept_because.contains("refresh")));
        settle(&*store, MIDNIGHT).await;

        let dry = store.retain(Retention { dry_run: true, ..keep_from(MIDNIGHT - DAY) }).await.unwrap();
        let dropped = store.retain(keep_from(MIDNIGHT - DAY)).await.unwrap();
        let places = |parts: &[herdstream_server::store::Dropped]| {
            parts.iter().map(|part| (part.table, part.start_us, part.rows)).collect::<Vec<_>>()
        };
        assert_eq!(places(&dry), places(&dropped));
        let day = |n| Some(MIDNIGHT - n * DAY);
        assert_eq!(places(&dropped), [("reading", day(3), 288), ("reading", day(2), 288)]);
        assert!(dropped.iter().all(|part| part.bytes > 0 && part.kept_because.is_empty()), "{dropped:?}");
        assert!(store.retain(keep_from(MIDNIGHT - DAY)).await.unwrap().is_empty());
        assert_eq!(store.chunks().await.unwrap()[0].start_us, MIDNIGHT - DAY);
        let after = answers(&*store, &series).await;
        assert_eq!(after.len(), before.len());
        for ((_, before), (_, after)) in before.iter().zip(&after) {
            assert_eq!((before.start_us, before.sum, before.p95), (after.start_us, after.sum, after.p95));
        }

        // Too late, and what came with it is stored.
        let late = vec![
            reading(series[0], MIDNIGHT, 1.0),
            reading(series[0], MIDNIGHT - 2 * DAY + HOUR, 1.0),
            reading(series[0], MIDNIGHT - 5 * DAY, 1.0),
        ];
        let mut part = batches(producer(1), 1, 1, 2, late);
        part.batches[0].offset = 2;
        part.batches[0].milkings = vec![milking(1, 1, MIDNIGHT - 3 * DAY + 1), milking(1, 1, MIDNIGHT)];
        part.totals = Totals { stored: 5, ..Totals::default() };
        let Outcome::Committed(row, rejections) = commit_one(&*store, part).await else {
            panic!("nobody else has it")
        };
        assert_eq!((row.totals.stored, row.totals.quarantined), (3, 2));
        let places: Vec<_> =
            rejections.iter().map(|r| (r.offset, r.kind, r.index, r.code, r.field)).collect();
        let refused = RejectionCode::StoreRefused;
        assert_eq!(
            places,
            [
                (2, RejectionKind::Reading, 1, refused, "time_us"),
                (2, RejectionKind::Milking, 0, refused, "time_us")
            ]
        );
        assert!(rejections[0].message.contains("2026-02-27 was dropped by retention"), "{rejections:?}");
        let span = QuarantineSpan { first: (0, 0, 0), last: 10 };
        let quarantine = store.quarantine(producer(1), span, 10).await.unwrap();
        assert_eq!(quarantine.iter().map(|kept| kept.rejection.clone()).collect::<Vec<_>>(), rejections);
        settle(&*store, MIDNIGHT).await;
        assert_eq!(
            answers(&*store, &series).await.len(),
            before.len() + 3 + 3,
            "two new days of one reading"
        );

        // Rollups and quarantine by their own ages.
        let rest = Retention {
            rollups_us: [Some(MIDNIGHT - DAY - 1), None, None],
            quarantine_us: Some(Micros::MAX),
            ..Retention::default()
        };
        let dropped = store.retain(rest).await.unwrap();
        let quarters = 2 * 96 + 1;
        let tables: Vec<_> = dropped.iter().map(|part| (part.table, part.end_us, part.rows)).collect();
        // Whole days.
        let end_us = MIDNIGHT - 2 * DAY;
        assert_eq!(tables, [("rollup_15min", end_us, quarters), ("quarantine", Micros::MAX, 2)]);
        assert_eq!(store.lifecycle().await.unwrap().kept_from_us(Level::QuarterHour), Some(end_us));
        assert!(store.quarantine(producer(1), span, 10).await.unwrap().is_empty());
    }
}

/// A day into which something was written lately stays for a while, so that an import is not cut in two: late or
/// before anything was closed, readings and milkings.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_day_that_was_just_written_stays() {
    for timescale in [false, true] {
        let database = if timescale { Database::timescale().await } else { Database::plain().await };
        let Some(database) = database else { continue };
        let store = database.store();
        let series = fill(&*store).await;
        let milk = ProducerCommit {
            batches: vec![milked((1..=3).map(|day| milking(1, 1, MIDNIGHT - day * DAY)).collect())],
            ..commit(producer(1))
        };
        commit_one(&*store, milk).await;
        settle(&*store, MIDNIGHT).await;
        let kept = async |quiet_since_us| -> Vec<_> {
            let retention = Retention { quiet_since_us, dry_run: true, ..keep_from(MIDNIGHT) };
            let parts = store.retain(retention).await.unwrap();
            assert_eq!(parts.len(), 6, "{parts:?}");
            let staying = parts.iter().filter(|part| !part.kept_because.is_empty());
            staying.map(|part| (part.table, (MIDNIGHT - part.start_us.unwrap()) / DAY)).collect()
        };
        let everything = ["reading", "milking"].map(|table| [3, 2, 1].map(|day| (table, day))).concat();
        assert_eq!(kept(0).await, everything, "an import that was closed only now");
        let really = store.retain(Retention { quiet_since_us: 0, ..keep_from(MIDNIGHT) }).await.unwrap();
        assert!(really.iter().all(|part| part.kept_because.contains("an import may not be over")));
        assert_eq!(store.chunks().await.unwrap().iter().filter(|chunk| chunk.table == "reading").count(), 3);

        // As if that were long ago; what comes from here on is late.
        database.run("UPDATE iot.written_day SET written = '2020-01-01'").await;
        database.run("UPDATE iot.milk_production_realtime SET written = '2020-01-01'").await;
        assert_eq!(kept(NOON - 1000 * DAY).await, []);
        write(&*store, vec![reading(series[0], MIDNIGHT - 3 * DAY, 1.0)]).await;
        let late = ProducerCommit {
            batches: vec![milked(vec![milking(1, 2, MIDNIGHT - 2 * DAY)])],
            ..commit(producer(1))
        };
        commit_one(&*store, late).await;
        settle(&*store, MIDNIGHT).await;
        assert_eq!(kept(NOON - 1000 * DAY).await, [("reading", 3), ("milking", 2)]);
        // The database looks again, under the lock.
        let day = "SELECT iot.drop_milking_day('2026-02-27', '2026-01-01')";
        assert!(database.connect().await.execute(day).await.is_err());
    }
}

/// Takes the turn as another server has it that is in the middle of something.
async fn hold_turn(database: &Database) -> PgConnection {
    let mut holder = beside(database).await;
    holder.execute("SELECT pg_advisory_lock(hashtext('herdstream'), 3)").await.unwrap();
    holder
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_servers_tell_a_deletion_once() {
    let Some(database) = Database::plain().await else { return };
    let (first, second) = (database.store(), database.beside().await);
    fill(&*first).await;
    let milk = (1..=3).map(|day| milking(1, 1, MIDNIGHT - day * DAY));
    commit_one(&*first, ProducerCommit { batches: vec![milked(milk.collect())], ..commit(producer(1)) })
        .await;
    settle(&*first, MIDNIGHT).await;
    // Both want to, and neither can yet.
    let mut holder = hold_turn(&database).await;
    let retention = Retention { rollups_us: [Some(MIDNIGHT), None, None], ..keep_from(MIDNIGHT) };
    let work = [first, second].map(|store| tokio::spawn(async move { store.retain(retention).await }));
    let waiting = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 3 AND objsubid = 2 \
                   AND NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    let began = Instant::now();
    while sqlx::query_scalar::<_, i64>(waiting).fetch_one(&mut holder).await.unwrap() < 2 {
        assert!(began.elapsed() < LONG, "they do not wait");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    holder.execute("SELECT pg_advisory_unlock(hashtext('herdstream'), 3)").await.unwrap();
    let mut told = Vec::new();
    for work in work {
        told.extend(work.await.unwrap().unwrap().into_iter().map(|part| (part.table, part.start_us)));
    }
    let day = |n| Some(MIDNIGHT - n * DAY);
    let days = ["reading", "milking"].map(|table| [3, 2, 1].map(|n| (table, day(n)))).concat();
    told.sort_by_key(|(table, start_us)| (days.iter().position(|(known, _)| known == table), *start_us));
    assert_eq!(told[..1], [("rollup_15min", None)]);
    assert_eq!(told[1..], days);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_server_is_at_is_not_down() {
    let soon = |config: &mut PostgresConfig| config.lock_timeout = Duration::from_millis(100);
    let Some(database) = Database::plain_with(soon).await else { return };
    let store = database.store();
    fill(&*store).await;
    settle(&*store, MIDNIGHT).await;
    let mut holder = hold_turn(&database).await;
    assert!(store.refresh(until(MIDNIGHT)).await.unwrap().elsewhere);
    for _ in 0..10 {
        let busy = store.retain(keep_from(MIDNIGHT)).await.unwrap_err();
        assert!(matches!(busy, StoreError::Elsewhere), "{busy:?}");
    }
    let dry = store.retain(Retention { dry_run: true, ..keep_from(MIDNIGHT) }).await.unwrap();
    assert_eq!(dry.len(), 3, "to tell needs no turn");
    holder.execute("SELECT pg_advisory_unlock(hashtext('herdstream'), 3)").await.unwrap();
    assert_eq!(store.retain(keep_from(MIDNIGHT)).await.unwrap(), dry);
}

/// The keeper tells how far rollups lag, and that it fails, although no refresh succeeds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_lag_is_seen_although_refreshes_fail() {
    let Some(database) = Database::plain().await else { return };
    let store = database.store();
    let series = fill(&*store).await;
    settle(&*store, MIDNIGHT).await;
    write(&*store, vec![reading(series[0], MIDNIGHT - DAY, 1.0), reading(series[1], MIDNIGHT - DAY, 1.0)])
        .await;
    database.run("ALTER FUNCTION iot.close_before RENAME TO close_later").await;
    let stop = CancellationToken::new();
    let keeper = tokio::spawn(Keeper::new(store, &Config::default()).run(stop.clone()));
    let value = |name: &str| {
        let text = metrics::render();
        let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the metric is there");
        line.trim().parse::<f64>().expect("a number")
    };
    let began = Instant::now();
    while value("herdstream_rollup_refresh_failures_total ") < 1.0
        || value("herdstream_rollup_dirty_hours ") != 2.0
        || value("herdstream_rollup_lag_seconds ") < 86_400.0
    {
        assert!(began.elapsed() < LONG, "the lag is not seen");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    stop.cancel();
    keeper.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_are_compressed_where_that_exists() {
    if let Some(database) = Database::plain().await {
        assert_eq!(database.store().compress(Micros::MAX, false).await.unwrap(), None);
    }
    // Compressed as they come, there would be nothing to do.
    let later = |config: &mut PostgresConfig| config.direct_compress = DirectCompress::Never;
    let Some(database) = Database::timescale_with(later).await else { return };
    let store = database.store();
    let series = fill(&*store).await;
    let before = answers(&*store, &series).await;
    let due = store.compress(MIDNIGHT - DAY, true).await.unwrap().unwrap();
    assert_eq!(
        due.iter().map(|chunk| chunk.end_us).collect::<Vec<_>>(),
        [MIDNIGHT - 2 * DAY, MIDNIGHT - DAY]
    );
    assert!(due.iter().all(|chunk| !chunk.compressed));
    let done = store.compress(MIDNIGHT - DAY, false).await.unwrap().unwrap();
    assert_eq!(done.len(), 2);
    assert!(done.iter().all(|chunk| chunk.compressed && chunk.uncompressed_bytes > Some(0)), "{done:?}");
    assert_eq!(store.compress(MIDNIGHT - DAY, false).await.unwrap(), Some(Vec::new()));
    assert_eq!(answers(&*store, &series).await.len(), before.len());
    // A late reading in a compressed chunk, mended there.
    write(&*store, vec![reading(series[0], MIDNIGHT - 3 * DAY, 1000.0)]).await;
    settle(&*store, MIDNIGHT).await;
    let highest =
        answers(&*store, &series).await.into_iter().map(|(_, bucket)| bucket.max).fold(0.0, f64::max);
    assert_eq!(highest, 1000.0);
}

/// Refreshes until this store has done it.
async fn settle(store: &dyn Store, close_before_us: Micros) {
    let began = Instant::now();
    while store.refresh(until(close_before_us)).await.unwrap().elsewhere {
        assert!(began.elapsed() < LONG, "the turn does not end");
    }
    assert_eq!(store.dirty_hours().await.unwrap(), 0);
}
