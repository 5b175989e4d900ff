//! Connections for reading: the last one serves again, half of the pool stays free of questions, and what is lost is
//! replaced.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use herdstream_server::{
    model::{Offset, now_us},
    store::{Call, QuarantineSpan, SeriesFilter, Store, StoreError, postgres::PostgresConfig},
};
use sqlx::{Executor as _, PgConnection, Row as _};
use tokio::task::JoinHandle;

use super::{super::laws::Fixture as _, Database, hold, until_blocked};
use crate::store_contract::rows::{producer, reading, resolve, write};

/// Longer than anything here takes, on a machine that has much to do.
const LONG: Duration = Duration::from_secs(60);

/// A database where every series has a reading of now, so that the newest values are one statement.
async fn start(pool_max: u32) -> Option<Database> {
    let change = |config: &mut PostgresConfig| {
        (config.pool_min, config.pool_max) = (1, pool_max);
        config.acquire_timeout = LONG;
        config.lock_timeout = LONG * 100;
        config.statement_timeout = LONG * 100;
    };
    let database = Database::plain_with(change).await?;
    add_series(&*database.store(), 0).await;
    Some(database)
}

async fn add_series(store: &dyn Store, n: u32) {
    let series = resolve(store, n).await;
    write(store, vec![reading(series, now_us(), 1.0)]).await;
}

async fn newest(store: &dyn Store) -> Result<usize, StoreError> {
    store.find_latest(SeriesFilter::default()).await.map(|found| found.len())
}

fn asking(database: &Database) -> JoinHandle<Result<usize, StoreError>> {
    let store = database.store();
    tokio::spawn(async move { newest(&*store).await })
}

/// Backends of which the last statement was that of the newest values, with its time and whether it runs.
async fn asked(watcher: &mut PgConnection) -> Vec<(i32, i64, bool)> {
    let asked = "SELECT pid, (extract(epoch FROM query_start) * 1e6)::bigint, state <> 'idle' FROM pg_stat_activity \
                 WHERE datname = current_database() AND application_name = 'herdstream' \
                 AND query LIKE '%newest_of%' ORDER BY pid";
    let rows = watcher.fetch_all(asked).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

/// Waits until so many were asked and so many of them run.
async fn until(watcher: &mut PgConnection, count: usize, running: usize) {
    let fits = |asked: &[(i32, i64, bool)]| {
        (asked.len(), asked.iter().filter(|(.., runs)| *runs).count()) == (count, running)
    };
    until_asked(watcher, fits).await;
}

/// Waits until none of them runs; answers which were asked.
async fn until_idle(watcher: &mut PgConnection) -> BTreeSet<i32> {
    let asked = until_asked(watcher, |asked| asked.iter().all(|(.., runs)| !runs)).await;
    asked.into_iter().map(|(backend, ..)| backend).collect()
}

async fn until_asked(
    watcher: &mut PgConnection,
    is_it: impl Fn(&[(i32, i64, bool)]) -> bool,
) -> Vec<(i32, i64, bool)> {
    let began = Instant::now();
    loop {
        let asked = asked(watcher).await;
        if is_it(&asked) {
            return asked;
        }
        assert!(began.elapsed() < LONG, "still {asked:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newest_values_take_one_statement_over_the_connection_used_last() {
    let Some(database) = start(8).await else { return };
    let mut watcher = database.connect().await;
    let mut other = hold(&database, "iot.reading").await;
    let askers = [asking(&database), asking(&database), asking(&database)];
    until(&mut watcher, 3, 3).await;
    other.execute("ROLLBACK").await.unwrap();
    for asker in askers {
        assert_eq!(asker.await.unwrap().unwrap(), 1);
    }
    // A transaction would have ended with a statement of its own.
    until(&mut watcher, 3, 0).await;
    let before = asked(&mut watcher).await;
    for _ in 0..5 {
        assert_eq!(newest(&*database.store()).await.unwrap(), 1);
    }
    let after = asked(&mut watcher).await;
    let moved = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!(moved, 1, "{before:?} {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newest_values_end_with_their_caller_and_their_deadline() {
    let Some(database) = start(4).await else { return };
    let mut watcher = database.connect().await;
    let store = database.store();
    let mut kept = BTreeSet::new();
    // More often than there are places: each is given back.
    for _ in 0..4 {
        let mut other = hold(&database, "iot.reading").await;

        let left = asking(&database);
        kept.insert(until_blocked(&mut watcher).await);
        left.abort();
        until_idle(&mut watcher).await;

        let call = Call { deadline: Some(Instant::now() + Duration::from_millis(100)), steps: None };
        let late = call.run(async { newest(&*store).await }).await;
        assert!(matches!(late, Err(StoreError::Deadline)), "{late:?}");
        until_idle(&mut watcher).await;

        other.execute("ROLLBACK").await.unwrap();
        assert_eq!(newest(&*store).await.unwrap(), 1);
        kept.extend(until_idle(&mut watcher).await);
    }
    // A backend is idle a moment before its connection is, for which a question opens another one.
    assert!(kept.len() <= 2, "{kept:?}");
    assert_eq!(until_idle(&mut watcher).await, kept, "the connections were given back, not lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_leave_writes_their_connections() {
    for pool_max in [2, 4] {
        let Some(database) = start(pool_max).await else { return };
        let mut watcher = database.connect().await;
        // Commits of the present do not look at it.
        let mut other = hold(&database, "iot.rollup_dirty").await;
        let asker = |_| {
            let store = database.store();
            tokio::spawn(async move { store.dirty_hours().await })
        };
        let askers: Vec<_> = (0..9).map(asker).collect();
        until_blocked(&mut watcher).await;
        let store = database.store();
        add_series(&*store, 1).await;
        // What a write asks before it commits.
        assert_eq!(store.producer(producer(1)).await.unwrap(), None);
        let span = QuarantineSpan { first: (0, 0, 0), last: Offset::MAX };
        assert_eq!(store.quarantine(producer(1), span, 1).await.unwrap(), []);
        other.execute("ROLLBACK").await.unwrap();
        for asker in askers {
            asker.await.unwrap().expect("it was its turn, in the end");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_connections_that_were_ended_one_question_fails_at_most() {
    let Some(database) = start(16).await else { return };
    let mut watcher = database.connect().await;
    let mut other = hold(&database, "iot.reading").await;
    let askers: Vec<_> = (0..8).map(|_| asking(&database)).collect();
    until(&mut watcher, 8, 8).await;
    other.execute("ROLLBACK").await.unwrap();
    for asker in askers {
        assert_eq!(asker.await.unwrap().unwrap(), 1);
    }
    // Those of commits are idle in the pool.
    let store: Arc<dyn Store> = database.store();
    tokio::join!(add_series(&*store, 1), add_series(&*store, 2), add_series(&*store, 3));
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
               AND application_name = 'herdstream'";
    watcher.execute(end).await.unwrap();
    let mut failed = 0;
    for _ in 0..8 {
        failed += usize::from(newest(&*store).await.is_err());
    }
    assert!(failed <= 1, "{failed} failed");
}
