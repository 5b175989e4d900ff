//! From a URL to a pool over a schema that is up to date.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use sqlx::{
    ConnectOptions as _, Connection as _, Executor as _, PgPool,
    postgres::{PgConnectOptions, PgPoolOptions},
};

use super::{
    direct,
    error::{OpenError, explain},
    migrate, nodelay,
    profile::{Facts, Profile, detect},
};

/// Time for the first connection.
const CONNECT: Duration = Duration::from_secs(15);

/// A connection that was idle for longer is tried before it is used, which takes a round trip. One that broke since fails
/// its statement, as one does that breaks a moment later.
pub(super) const IDLE: Duration = Duration::from_secs(1);

/// How a store on PostgreSQL is set up.
#[derive(Clone, Debug)]
pub struct PostgresConfig {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`, with libpq's parameters.
    pub url: SecretString,
    /// Which profile.
    pub profile: ProfileChoice,
    /// Connections kept open.
    pub pool_min: u32,
    /// Connections at most; queries use up to half of them.
    pub pool_max: u32,
    /// Time in which a connection must become free.
    pub acquire_timeout: Duration,
    /// Time after which the database gives a statement up.
    pub statement_timeout: Duration,
    /// Time after which it gives up waiting for a lock.
    pub lock_timeout: Duration,
    /// How readings get there.
    pub copy: CopyMode,
    /// Whether TimescaleDB compresses them as they are copied in.
    pub direct_compress: DirectCompress,
    /// For how long readings are counted by the minute of their time.
    pub activity: Duration,
}

impl PostgresConfig {
    /// The defaults, for a database.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: SecretString::from(url.into()),
            profile: ProfileChoice::Auto,
            pool_min: 2,
            pool_max: 16,
            acquire_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(30),
            lock_timeout: Duration::from_secs(10),
            copy: CopyMode::Auto,
            direct_compress: DirectCompress::Auto,
            activity: Duration::from_hours(25),
        }
    }
}

/// Which profile a database is to have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProfileChoice {
    /// `timescale` where the extension can be used, else `postgres`.
    #[default]
    Auto,
    /// Plain PostgreSQL, even beside the extension.
    Postgres,
    /// TimescaleDB, or not at all.
    Timescale,
}

impl ProfileChoice {
    pub(super) fn profile(self) -> Option<Profile> {
        match self {
            Self::Auto => None,
            Self::Postgres => Some(Profile::Postgres),
            Self::Timescale => Some(Profile::Timescale),
        }
    }
}

/// How readings get to the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CopyMode {
    /// By `COPY`, twice as fast; by `INSERT` where the database refuses that.
    #[default]
    Auto,
    /// By `INSERT`, for what stands before a database and does not speak `COPY`.
    Never,
}

/// Whether readings are compressed as they are copied in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DirectCompress {
    /// Where the version of TimescaleDB does it well: 2.26 or later.
    #[default]
    Auto,
    /// Not at all: the compression policy compresses whole chunks later.
    Never,
}

/// Connects, decides the profile, migrates, and opens the pool.
pub(super) async fn connect(config: &PostgresConfig) -> Result<(PgPool, Facts), OpenError> {
    let url = config.url.expose_secret();
    if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
        return Err(OpenError::Url("it does not begin with postgres://".to_owned()));
    }
    let options: PgConnectOptions = (config.url.expose_secret().parse())
        .map_err(|error: sqlx::Error| OpenError::Url(hide(&error.to_string(), config)))?;
    let options = options
        .application_name("herdstream")
        .statement_cache_capacity(200)
        .log_slow_statements(tracing::log::LevelFilter::Debug, Duration::from_secs(5))
        .log_statements(tracing::log::LevelFilter::Trace);
    let at =
        format!("{}:{}/{}", options.get_host(), options.get_port(), options.get_database().unwrap_or(""));
    let failed = |why: String| OpenError::Connect { at: at.clone(), why };
    let mut connection = match tokio::time::timeout(CONNECT, options.connect()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => return Err(failed(explain(&error))),
        Err(_) => {
            return Err(failed(format!("no answer within {CONNECT:?}: check host, port and firewalls")));
        }
    };
    migrate::lock(&mut connection).await?;
    let recorded = migrate::recorded(&mut connection).await?;
    let mut facts = detect(&mut connection, &at, config.profile, recorded).await?;
    migrate::run(&mut connection, facts.profile).await?;
    facts.direct_compress = direct::detect(&mut connection, config, &facts).await?;
    drop(connection.close().await);

    let session = session(config, &facts);
    let port = options.get_socket().is_none().then(|| options.get_port());
    let pool = PgPoolOptions::new()
        .min_connections(config.pool_min.min(config.pool_max))
        .max_connections(config.pool_max)
        .acquire_timeout(config.acquire_timeout)
        .test_before_acquire(false)
        .before_acquire(|connection, meta| {
            Box::pin(async move {
                if meta.idle_for > IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
        .after_connect(move |connection, _| {
            let session = session.clone();
            Box::pin(async move {
                if let Some(port) = port {
                    drop(tokio::task::spawn_blocking(move || nodelay::set(port)).await);
                }
                connection.execute(sqlx::AssertSqlSafe(session)).await.map(drop)
            })
        })
        .connect_lazy_with(options);
    Ok((pool, facts))
}

/// What every session sets: commits are synced, nothing waits without end, and who waited for a lock sees what was
/// committed meanwhile, whatever the database's default is.
fn session(config: &PostgresConfig, facts: &Facts) -> String {
    let PostgresConfig { statement_timeout, lock_timeout, .. } = config;
    format!(
        "SET synchronous_commit = on; SET default_transaction_isolation = 'read committed'; SET timezone = 'UTC'; \
         SET statement_timeout = {}; SET lock_timeout = {}; \
         SET idle_in_transaction_session_timeout = {}; SET tcp_user_timeout = 20000; SET jit = off{}",
        statement_timeout.as_millis(),
        lock_timeout.as_millis(),
        2 * statement_timeout.as_millis(),
        direct::session(config, facts),
    )
}

/// The text without the URL, which may hold a password.
fn hide(text: &str, config: &PostgresConfig) -> String {
    text.replace(config.url.expose_secret(), "***")
}
