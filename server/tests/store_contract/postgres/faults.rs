//! What happens to a database under load: locks, deadlocks, an empty pool, sessions that are ended, a failover. The
//! store says what is wrong and how to get out of it, and the same group again is committed once, with nothing in
//! quarantine.

use std::{fmt::Debug, fs, future::Future, os::unix::fs::PermissionsExt as _, sync::Arc, time::Duration};

use herdstream_server::{
    model::{Offset, ProducerId, SeriesId},
    store::{
        CommitGroup, Outcome, QuarantineSpan, Store, StoreError,
        postgres::{PostgresConfig, PostgresStore},
    },
};
use herdstream_testkit::Postgres;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use sqlx::{Executor as _, PgConnection};

use super::{super::laws::Fixture as _, Database, hold, until_blocked};
use crate::store_contract::rows::{
    NOON, batches, commit_one, everything, group, opening, producer, reading, resolve,
};

/// Long, where a test must not come to it.
const NEVER: Duration = Duration::from_mins(5);

/// Readings of a producer's batch.
const ROWS: u64 = 100;

/// A producer that commits one batch after the other.
struct Log {
    id: ProducerId,
    series: SeriesId,
    committed: Offset,
}

impl Log {
    async fn open(store: &dyn Store, n: u32) -> Self {
        let id = producer(u128::from(n) + 1);
        commit_one(store, opening(id, "a")).await;
        Self { id, series: resolve(store, n).await, committed: 0 }
    }

    /// The next batch, alone in its group.
    fn next(&mut self) -> Arc<CommitGroup> {
        let from = self.committed;
        self.committed += 1;
        let first = NOON + (from * ROWS) as i64;
        let readings = (0..ROWS as i64).map(|n| reading(self.series, first + n, n as f64)).collect();
        group(vec![batches(self.id, 1, from, self.committed, readings)])
    }

    /// Everything that was handed out is stored once, and nothing was refused.
    async fn balances(&self, store: &dyn Store) {
        let stored = everything(store, self.series).await;
        let times: Vec<_> = stored.iter().map(|reading| reading.time_us - NOON).collect();
        let expected: Vec<_> = (0..(self.committed * ROWS) as i64).collect();
        assert_eq!(times, expected);
        let row = store.producer(self.id).await.unwrap().expect("it has a row");
        assert_eq!((row.committed_offset, row.totals.stored), (self.committed, self.committed * ROWS));
        assert_eq!(row.totals.quarantined, 0);
        let span = QuarantineSpan { first: (0, 0, 0), last: Offset::MAX };
        assert!(store.quarantine(self.id, span, 10).await.unwrap().is_empty());
    }
}

async fn is_committed(store: &dyn Store, group: &Arc<CommitGroup>) {
    committed(&store.commit(Arc::clone(group)).await.expect("it is committed now"));
}

fn committed(outcomes: &[Outcome]) {
    let refused =
        |outcome: &Outcome| !matches!(outcome, Outcome::Committed(_, refused) if refused.is_empty());
    assert!(!outcomes.iter().any(refused), "{outcomes:?}");
}

/// The store is down, and says so in words that hold `parts`.
fn is_down<T: Debug>(result: &Result<T, StoreError>, parts: &[&str]) {
    let Err(StoreError::Unavailable(message, _)) = result else { panic!("{result:?}") };
    for part in parts {
        assert!(message.contains(part), "{part:?} is not in {message:?}");
    }
}

fn commit(
    store: &Arc<dyn Store>,
    group: &Arc<CommitGroup>,
) -> tokio::task::JoinHandle<Result<Vec<Outcome>, StoreError>> {
    let (store, group) = (Arc::clone(store), Arc::clone(group));
    tokio::spawn(async move { store.commit(group).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lock_that_is_held_too_long() {
    let short = |config: &mut PostgresConfig| config.lock_timeout = Duration::from_millis(100);
    let Some(database) = Database::plain_with(short).await else { return };
    let store = database.store();
    let mut log = Log::open(&*store, 0).await;
    // The first round meets the day's partition before it is made, the last one the ledger.
    for table in ["iot.reading", "iot.reading", "iot.producer"] {
        let mut other = hold(&database, table).await;
        let next = log.next();
        for _ in 0..2 {
            is_down(&store.commit(Arc::clone(&next)).await, &["55P03", "pg_locks"]);
        }
        other.execute("ROLLBACK").await.unwrap();
        is_committed(&*store, &next).await;
    }
    log.balances(&*store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadlock_is_tried_again() {
    let patient =
        |config: &mut PostgresConfig| (config.lock_timeout, config.statement_timeout) = (NEVER, NEVER);
    let Some(database) = Database::plain_with(patient).await else { return };
    // Time to close the circle before the store's session looks for one: it looks once.
    database
        .run(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 3000', current_database()); \
             END $$",
        )
        .await;
    let store = database.beside().await;
    let mut log = Log::open(&*store, 0).await;
    is_committed(&*store, &log.next()).await;
    let mut other = hold(&database, "iot.reading").await;
    other.execute("SET deadlock_timeout = '1h'").await.unwrap();
    let under_way = commit(&store, &log.next());
    until_blocked(&mut database.connect().await).await;
    // The store has the ledger row and waits for the table; this has the table and waits for the row. That it
    // gets it means that the store's transaction was the victim.
    other.execute("SELECT FROM iot.producer FOR UPDATE").await.expect("the store's session gives way");
    other.execute("ROLLBACK").await.unwrap();
    committed(&under_way.await.unwrap().expect("it was tried again"));
    log.balances(&*store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_that_is_empty() {
    let small = |config: &mut PostgresConfig| {
        (config.pool_min, config.pool_max) = (1, 1);
        config.acquire_timeout = Duration::from_secs(1);
        config.lock_timeout = NEVER;
    };
    let Some(database) = Database::plain_with(small).await else { return };
    let store = database.store();
    let mut logs = [Log::open(&*store, 0).await, Log::open(&*store, 1).await];
    let mut other = hold(&database, "iot.reading").await;
    let first = commit(&store, &logs[0].next());
    until_blocked(&mut database.connect().await).await;
    let second = logs[1].next();
    is_down(
        &store.commit(Arc::clone(&second)).await,
        &["database.acquire_timeout", "database.pool_max", "pg_stat_activity"],
    );
    assert!(store.ready().await.is_err(), "nor is it ready");
    other.execute("ROLLBACK").await.unwrap();
    committed(&first.await.unwrap().expect("it had the connection"));
    is_committed(&*store, &second).await;
    for log in logs {
        log.balances(&*store).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_ended_in_the_middle() {
    let Some(database) = Database::plain_with(|config| config.lock_timeout = NEVER).await else { return };
    let store = database.store();
    let mut log = Log::open(&*store, 0).await;
    for table in ["iot.producer", "iot.reading", "iot.activity"] {
        let mut other = hold(&database, table).await;
        let next = log.next();
        let under_way = commit(&store, &next);
        let pid = until_blocked(&mut database.connect().await).await;
        sqlx::query("SELECT pg_terminate_backend($1)").bind(pid).execute(&mut other).await.unwrap();
        is_down(&under_way.await.unwrap(), &["somebody ended the session"]);
        other.execute("ROLLBACK").await.unwrap();
        is_committed(&*store, &next).await;
    }
    log.balances(&*store).await;
}

/// Wherever a commit is just then.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_that_are_ended_at_any_moment() {
    let Some(database) = Database::plain().await else { return };
    let seed = rand::random();
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let store = database.store();
    let mut log = Log::open(&*store, 0).await;
    let mut other = database.connect().await;
    let mut failures = 0;
    for _ in 0..1000 {
        if failures >= 20 {
            break;
        }
        let next = log.next();
        let pause = Duration::from_micros(random.random_range(0..8_000));
        let (mut result, ()) = tokio::join!(store.commit(Arc::clone(&next)), async {
            tokio::time::sleep(pause).await;
            end_sessions(&mut other).await;
        });
        while let Err(error) = result {
            assert!(matches!(error, StoreError::Unavailable(..)), "{error:?}");
            failures += 1;
            result = store.commit(Arc::clone(&next)).await;
        }
        committed(&result.unwrap());
    }
    assert!(failures > 0, "some of them were felt");
    log.balances(&*store).await;
}

async fn end_sessions(other: &mut PgConnection) {
    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
               WHERE datname = current_database() AND application_name = 'herdstream'";
    other.execute(end).await.unwrap();
}

/// The primary became a standby under the store, and is made the primary again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_standby_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let options = Postgres::options().fsync(false).data_dir(directory.path().join("cluster"));
    let Some(mut server) = options.start() else { return };
    let config = PostgresConfig::new(server.create_database());
    let store = PostgresStore::open(config.clone()).await.unwrap();
    let mut log = Log::open(&store, 0).await;
    is_committed(&store, &log.next()).await;

    server.stop().unwrap();
    let signal = directory.path().join("cluster/data/standby.signal");
    fs::write(&signal, "").unwrap();
    fs::set_permissions(&signal, fs::Permissions::from_mode(0o666)).unwrap();
    server.restart().unwrap();
    let next = log.next();
    let says = ["read-only", "point database.url at the primary"];
    is_down(&until_answered(async || store.commit(Arc::clone(&next)).await).await, &says);
    is_down(&store.ready().await, &says);
    let refused = PostgresStore::open(config).await.expect_err("a standby takes no schema").to_string();
    assert!(says.iter().all(|part| refused.contains(part)), "{refused}");

    server.psql("SELECT pg_promote()").unwrap();
    is_committed(&store, &next).await;
    store.ready().await.unwrap();
    log.balances(&store).await;
}

/// Tries until it is not the old connection that fails.
async fn until_answered<T, F>(mut attempt: impl FnMut() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match attempt().await {
            Err(StoreError::Unavailable(message, _)) if !message.contains("read-only") => {}
            other => return other,
        }
    }
}
