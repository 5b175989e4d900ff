//! Sessions for reading: one serves again and again, half of the pool stays free of them, and one that is lost is
//! replaced.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use herdstream_server::{
    model::{Offset, now_us},
    store::{Call, QuarantineSpan, SeriesFilter, Store, StoreError, postgres::PostgresConfig},
};
use sqlx::{Executor as _, PgConnection, Row as _};

use super::{
    super::laws::Fixture as _,
    Database,
    faults::{hold, until_blocked},
};
use crate::store_contract::rows::{producer, reading, resolve, write};

/// Longer than anything here takes, on a machine that has much to do.
const LONG: Duration = Duration::from_secs(60);

/// A database where every series has a reading of now, so that the newest values are one statement.
async fn start(pool_max: u32) -> Option<Database> {
    let change = |config: &mut PostgresConfig| {
        (config.pool_min, config.pool_max) = (1, pool_max);
        config.acquire_timeout = LONG;
        config.lock_timeout = LONG;
    };
    let database = Database::plain_with(change).await?;
    let store = database.store();
    let series = resolve(&*store, 0).await;
    write(&*store, vec![reading(series, now_us(), 1.0)]).await;
    Some(database)
}

async fn newest(store: &dyn Store) -> Result<usize, StoreError> {
    store.find_latest(SeriesFilter::default()).await.map(|found| found.len())
}

/// Sessions whose last statement was that of the newest values: backend and state.
async fn asked(watcher: &mut PgConnection) -> Vec<(i32, String)> {
    let asked = "SELECT pid, state FROM pg_stat_activity WHERE datname = current_database() \
                 AND application_name = 'herdstream' AND query LIKE '%newest_of%' ORDER BY pid";
    let rows = watcher.fetch_all(asked).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1))).collect()
}

async fn until_idle(watcher: &mut PgConnection) -> Vec<i32> {
    let began = Instant::now();
    loop {
        let asked = asked(watcher).await;
        if asked.iter().all(|(_, state)| state == "idle") {
            return asked.into_iter().map(|(backend, _)| backend).collect();
        }
        assert!(began.elapsed() < LONG, "{asked:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newest_values_take_one_statement_in_the_session_used_last() {
    let Some(database) = start(8).await else { return };
    let mut watcher = database.connect().await;
    for _ in 0..5 {
        assert_eq!(newest(&*database.store()).await.unwrap(), 1);
    }
    // A transaction would have ended with a statement of its own.
    assert_eq!(asked(&mut watcher).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn newest_values_end_with_their_caller_and_their_deadline() {
    let Some(database) = start(2).await else { return };
    let mut watcher = database.connect().await;
    assert_eq!(newest(&*database.store()).await.unwrap(), 1);
    let before = asked(&mut watcher).await;
    let mut other = hold(&database, "iot.reading").await;

    let store = database.store();
    let left = tokio::spawn(async move { newest(&*store).await });
    until_blocked(&mut watcher).await;
    left.abort();
    until_idle(&mut watcher).await;

    let call = Call { deadline: Some(Instant::now() + Duration::from_millis(100)), steps: None };
    let store = database.store();
    let late = call.run(async { newest(&*store).await }).await;
    assert!(matches!(late, Err(StoreError::Deadline)), "{late:?}");
    until_idle(&mut watcher).await;

    other.execute("ROLLBACK").await.unwrap();
    assert_eq!(newest(&*database.store()).await.unwrap(), 1);
    assert_eq!(asked(&mut watcher).await, before, "the session was given back, not lost");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn questions_leave_half_of_the_pool_to_commits() {
    let Some(database) = start(2).await else { return };
    let mut watcher = database.connect().await;
    // Nothing is committed into it.
    let mut other = hold(&database, "iot.quarantine").await;
    let span = QuarantineSpan { first: (0, 0, 0), last: Offset::MAX };
    let asker = |n: u128| {
        let store = database.store();
        tokio::spawn(async move { store.quarantine(producer(n), span, 1).await })
    };
    let askers: Vec<_> = (0..5).map(asker).collect();
    until_blocked(&mut watcher).await;
    let store = database.store();
    let series = resolve(&*store, 1).await;
    write(&*store, vec![reading(series, now_us(), 2.0)]).await;
    other.execute("ROLLBACK").await.unwrap();
    for asker in askers {
        asker.await.unwrap().expect("it was its turn, in the end");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_sessions_that_were_ended_one_question_fails_at_most() {
    let Some(database) = start(16).await else { return };
    let mut other = hold(&database, "iot.reading").await;
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let store = database.store();
            tokio::spawn(async move { newest(&*store).await })
        })
        .collect();
    let mut watcher = database.connect().await;
    let began = Instant::now();
    while asked(&mut watcher).await.len() < 8 {
        assert!(began.elapsed() < LONG, "eight can be asked at once");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    other.execute("ROLLBACK").await.unwrap();
    for asker in askers {
        assert_eq!(asker.await.unwrap().unwrap(), 1);
    }
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() \
               AND application_name = 'herdstream'";
    watcher.execute(end).await.unwrap();
    let store: Arc<dyn Store> = database.store();
    let mut failed = 0;
    for _ in 0..8 {
        failed += usize::from(newest(&*store).await.is_err());
    }
    assert!(failed <= 1, "{failed} failed");
}
