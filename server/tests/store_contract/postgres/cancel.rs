//! Reads stop in the database when nobody waits any more.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use herdstream_server::store::{
    Call, Look as _, Steps, Store, StoreError,
    postgres::{PostgresConfig, PostgresStore},
};
use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, PgConnection, Row as _};

use super::{Database, forever};

/// Counting what is dirty takes an hour.
const SLOW: &str = "ALTER TABLE iot.rollup_dirty RENAME TO dirty; CREATE VIEW iot.rollup_dirty AS \
     SELECT d.* FROM pg_sleep(3600) AS s LEFT JOIN iot.dirty AS d ON true";

/// Longer than anything here takes, on a machine that has much to do.
const LONG: Duration = Duration::from_secs(60);

struct Slow {
    database: Database,
    store: Arc<PostgresStore>,
    watcher: PgConnection,
}

impl Slow {
    /// A store of one connection, where it takes an hour to count.
    async fn start(statement_timeout: Duration) -> Option<Self> {
        let database = Database::plain().await?;
        database.run(SLOW).await;
        let url = database.config.url.expose_secret();
        let config = PostgresConfig {
            activity: forever(),
            pool_min: 1,
            pool_max: 1,
            acquire_timeout: LONG,
            statement_timeout,
            ..PostgresConfig::new(url)
        };
        let store = Arc::new(PostgresStore::open(config).await.expect("it opens"));
        let watcher = PgConnection::connect(url).await.expect("the database answers");
        Some(Self { database, store, watcher })
    }

    async fn count(store: &PostgresStore) -> Result<(), StoreError> {
        store.dirty_hours().await.map(drop)
    }

    /// Backends that count.
    async fn running(&mut self) -> Vec<i32> {
        let rows = sqlx::query(
            "SELECT pid FROM pg_stat_activity WHERE state = 'active' AND pid <> pg_backend_pid() \
             AND datname = current_database() AND query LIKE '%iot.rollup_dirty%'",
        );
        let rows = rows.fetch_all(&mut self.watcher).await.expect("the database answers");
        rows.iter().map(|row| row.get(0)).collect()
    }

    /// Waits until as many run.
    async fn until_running(&mut self, count: usize) -> Vec<i32> {
        let began = Instant::now();
        loop {
            let running = self.running().await;
            if running.len() == count {
                return running;
            }
            assert!(began.elapsed() < LONG, "{running:?} run instead of {count}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_caller_left_is_cancelled_and_its_connection_serves_again() {
    let Some(mut slow) = Slow::start(LONG * 100).await else { return };
    let backend = async |slow: &mut Slow| {
        let store = Arc::clone(&slow.store);
        let call = tokio::spawn(async move { Slow::count(&store).await });
        let running = slow.until_running(1).await;
        call.abort();
        slow.until_running(0).await;
        running
    };
    let first = backend(&mut slow).await;
    slow.store.lifecycle().await.expect("the only connection is free again");
    let second = backend(&mut slow).await;
    assert_eq!(first, second, "the connection was given back, not lost");
    slow.store.lifecycle().await.expect("once more");
    drop(slow.database);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_a_statement_in_the_database() {
    let Some(mut slow) = Slow::start(LONG * 100).await else { return };
    let store = Arc::clone(&slow.store);
    let call = Call { deadline: Some(Instant::now() + Duration::from_millis(300)), steps: None };
    let answer = call.run(async { Slow::count(&store).await }).await;
    assert!(matches!(answer, Err(StoreError::Deadline)), "{answer:?}");
    // The answer leaves the backend a moment before it is told to be idle.
    slow.until_running(0).await;
    slow.store.lifecycle().await.expect("without a deadline there is no timeout left over");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_ends_the_wait_for_a_connection() {
    let Some(mut slow) = Slow::start(LONG * 100).await else { return };
    let store = Arc::clone(&slow.store);
    let call = tokio::spawn(async move { Slow::count(&store).await });
    slow.until_running(1).await;
    let hurried = Call { deadline: Some(Instant::now() + Duration::from_millis(100)), steps: None };
    let answer = hurried.run(slow.store.lifecycle()).await;
    assert!(matches!(answer, Err(StoreError::Deadline)), "{answer:?}");
    call.abort();
    slow.until_running(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_deadline_the_configured_timeout_holds() {
    let Some(mut slow) = Slow::start(Duration::from_millis(300)).await else { return };
    let answer = Slow::count(&slow.store).await;
    let told = answer.expect_err("it takes an hour").to_string();
    assert!(told.contains("database.statement_timeout"), "{told}");
    assert_eq!(slow.running().await, [] as [i32; 0]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watched_call_tells_the_plan_of_every_statement() {
    let Some(database) = Database::plain().await else { return };
    let store = super::super::laws::Fixture::store(&database);
    let steps = Steps::default();
    let call = Call { deadline: None, steps: Some(steps.clone()) };
    call.run(store.dirty_hours()).await.unwrap();
    let steps = steps.take();
    assert_eq!(steps.len(), 1);
    assert!(steps[0].statement.contains("iot.rollup_dirty"), "{steps:?}");
    assert!(steps[0].plan.contains("Execution Time") && steps[0].plan.contains("Buffers"), "{steps:?}");
}
