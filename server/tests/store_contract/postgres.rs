//! The profiles on a database: the contract on plain PostgreSQL and on TimescaleDB, and what is their own.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use herdstream_server::store::{
    Store,
    postgres::{CopyMode, PostgresConfig, PostgresStore},
};
use herdstream_testkit::{Postgres, Timescale};

use secrecy::ExposeSecret as _;
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection};

use super::{aggregates, laws::Fixture, model};

mod cancel;
mod days;
mod direct;
mod doubt;
mod faults;
mod lifecycle;
mod milk;
mod open;
mod opening;
mod queries;
mod read_pool;
mod refused;
mod shared;

mod plain {
    crate::obeys_the_contract!(match super::Database::plain().await {
        Some(fixture) => fixture,
        None => return,
    });
}

mod without_copy {
    crate::obeys_the_contract!(match super::Database::without_copy().await {
        Some(fixture) => fixture,
        None => return,
    });
}

mod timescale {
    crate::obeys_the_contract!(match super::Database::timescale().await {
        Some(fixture) => fixture,
        None => return,
    });
}

/// A store on a database of its own.
pub(super) struct Database {
    store: Option<Arc<PostgresStore>>,
    config: PostgresConfig,
    timescale: Option<Timescale>,
}

impl Database {
    /// On plain PostgreSQL; None: it is not installed.
    pub(super) async fn plain() -> Option<Self> {
        Self::plain_with(|_| {}).await
    }

    /// Likewise, by `INSERT`.
    pub(super) async fn without_copy() -> Option<Self> {
        Self::plain_with(|config| config.copy = CopyMode::Never).await
    }

    /// On TimescaleDB; None: it is not to be had.
    pub(super) async fn timescale() -> Option<Self> {
        Self::timescale_with(|_| {}).await
    }

    /// Likewise, set up otherwise. PGlite has no COPY, which the store finds out.
    async fn timescale_with(change: impl FnOnce(&mut PostgresConfig)) -> Option<Self> {
        let timescale = Timescale::start()?;
        let mut config = PostgresConfig { activity: forever(), ..PostgresConfig::new(timescale.url()) };
        if !timescale.is_real() {
            (config.pool_min, config.pool_max) = (1, 1);
            config.acquire_timeout = Duration::from_secs(60);
        }
        change(&mut config);
        Some(Self::open(config, Some(timescale)).await)
    }

    /// Another store on the same database.
    pub(super) async fn beside(&self) -> Arc<dyn Store> {
        Arc::new(PostgresStore::open(self.config.clone()).await.expect("a second store opens"))
    }

    /// Runs statements, as an operator would.
    pub(super) async fn run(&self, statements: &'static str) {
        self.connect().await.execute(statements).await.expect("the statements run");
    }

    /// On plain PostgreSQL, set up otherwise.
    async fn plain_with(change: impl FnOnce(&mut PostgresConfig)) -> Option<Self> {
        let server = Postgres::shared()?;
        let mut config =
            PostgresConfig { activity: forever(), ..PostgresConfig::new(server.create_database()) };
        change(&mut config);
        Some(Self::open(config, None).await)
    }

    /// The store as what it is.
    fn postgres(&self) -> &PostgresStore {
        self.store.as_ref().expect("it is open")
    }

    /// Whether it is a TimescaleDB that has everything, other than PGlite.
    fn is_real(&self) -> bool {
        self.timescale.as_ref().is_some_and(Timescale::is_real)
    }

    /// A connection of somebody else.
    async fn connect(&self) -> PgConnection {
        PgConnection::connect(self.config.url.expose_secret()).await.expect("the database answers")
    }

    async fn open(config: PostgresConfig, timescale: Option<Timescale>) -> Self {
        let store = PostgresStore::open(config.clone()).await.expect("the store opens");
        let database = Self { store: Some(Arc::new(store)), config, timescale };
        if database.is_real() {
            // The laws store readings of long ago: retention would take them away half way.
            let pause = "SELECT alter_job(job_id, scheduled => false) FROM timescaledb_information.jobs \
                         WHERE job_id >= 1000";
            database.run(pause).await;
        }
        database
    }
}

/// A session of somebody else that holds a table.
async fn hold(database: &Database, table: &str) -> PgConnection {
    let mut other = database.connect().await;
    let lock = format!("BEGIN; LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE");
    other.execute(AssertSqlSafe(lock)).await.expect("nobody else holds it");
    other
}

/// Waits until a session of the store waits for a lock; tells which.
async fn until_blocked(watcher: &mut PgConnection) -> i32 {
    let blocked = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() \
                   AND application_name = 'herdstream' AND wait_event_type = 'Lock'";
    loop {
        if let Some(pid) = sqlx::query_scalar(blocked).fetch_optional(&mut *watcher).await.unwrap() {
            return pid;
        }
        tokio::task::yield_now().await;
    }
}

/// The laws count readings of times long past.
fn forever() -> Duration {
    Duration::from_hours(24 * 365 * 100)
}

#[async_trait]
impl Fixture for Database {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone().expect("it is open")
    }

    fn looks_beside_commits(&self) -> bool {
        self.config.pool_max > 1
    }

    async fn reopen(&mut self) {
        if let Some(store) = self.store.take() {
            store.close().await;
        }
        let store = PostgresStore::open(self.config.clone()).await.expect("the store opens again");
        self.store = Some(Arc::new(store));
    }
}

#[test]
fn random_histories_are_kept() {
    if Postgres::shared().is_some() {
        model::check(10, async || Database::plain().await.expect("PostgreSQL is installed"));
    }
}

#[test]
fn aggregates_equal_a_recomputation() {
    if Postgres::shared().is_some() {
        aggregates::check(12, 12, async || Database::plain().await.expect("PostgreSQL is installed"));
    }
}

#[test]
fn aggregates_equal_a_recomputation_on_timescale() {
    if Timescale::start().is_some() {
        aggregates::check(2, 10, async || Database::timescale().await.expect("it is to be had"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queries_see_whole_commits_beside_ingest() {
    let Some(mut database) = Database::plain().await else { return };
    aggregates::queries_see_whole_commits_beside_ingest(&mut database).await;
}
