//! The profiles on a database: the contract on plain PostgreSQL and on TimescaleDB, and what is their own.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use herdstream_server::store::{
    Store,
    postgres::{CopyMode, PostgresConfig, PostgresStore},
};
use herdstream_testkit::{Postgres, Timescale};

use secrecy::ExposeSecret as _;
use sqlx::{Connection as _, Executor as _, PgConnection};

use super::{aggregates, laws::Fixture, model};

mod cancel;
mod lifecycle;
mod opening;
mod queries;
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
    _timescale: Option<Timescale>,
}

impl Database {
    /// On plain PostgreSQL; None: it is not installed.
    pub(super) async fn plain() -> Option<Self> {
        let server = Postgres::shared()?;
        let config = PostgresConfig { activity: forever(), ..PostgresConfig::new(server.create_database()) };
        Some(Self::open(config, None).await)
    }

    /// Likewise, by `INSERT`.
    pub(super) async fn without_copy() -> Option<Self> {
        let server = Postgres::shared()?;
        let config = PostgresConfig {
            activity: forever(),
            copy: CopyMode::Never,
            ..PostgresConfig::new(server.create_database())
        };
        Some(Self::open(config, None).await)
    }

    /// On TimescaleDB; None: it is not to be had.
    pub(super) async fn timescale() -> Option<Self> {
        let timescale = Timescale::start()?;
        let mut config = PostgresConfig { activity: forever(), ..PostgresConfig::new(timescale.url()) };
        if !timescale.is_real() {
            (config.copy, config.pool_min, config.pool_max) = (CopyMode::Never, 1, 1);
            config.acquire_timeout = Duration::from_secs(60);
        }
        Some(Self::open(config, Some(timescale)).await)
    }

    /// Another store on the same database.
    pub(super) async fn beside(&self) -> Arc<dyn Store> {
        Arc::new(PostgresStore::open(self.config.clone()).await.expect("a second store opens"))
    }

    /// Runs statements, as an operator would.
    pub(super) async fn run(&self, statements: &'static str) {
        let url = self.config.url.expose_secret();
        let mut connection = PgConnection::connect(url).await.expect("the database answers");
        connection.execute(statements).await.expect("the statements run");
    }

    async fn open(config: PostgresConfig, timescale: Option<Timescale>) -> Self {
        let store = PostgresStore::open(config.clone()).await.expect("the store opens");
        Self { store: Some(Arc::new(store)), config, _timescale: timescale }
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
