//! The database of production.

use std::time::Duration;

use secrecy::{ExposeSecret as _, SecretString};
use serde::{Deserialize, Serialize};

use super::values;
use crate::store::postgres::{CopyMode, DirectCompress, PostgresConfig, ProfileChoice};

/// PostgreSQL or TimescaleDB, in place of the embedded store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DatabaseConfig {
    /// `postgres://USER:PASSWORD@HOST:PORT/DATABASE`. Absent, as by default: the embedded store.
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "values::redacted_option")]
    pub url: Option<SecretString>,
    /// `"auto"`, `"postgres"` or `"timescale"`. Default: auto, which is TimescaleDB where the database has it.
    pub profile: ProfileChoice,
    /// Commits side by side. 1 to 64; default 2.
    pub lanes: usize,
    /// Connections kept open. 0 to `pool_max`; default 2.
    pub pool_min: u32,
    /// Connections at most; queries use up to half of them, lanes the others. 1 to 1000; default 16.
    pub pool_max: u32,
    /// Time in which a connection must become free. 100 ms to 1 hour; default 5 s.
    #[serde(with = "values::duration")]
    pub acquire_timeout: Duration,
    /// Time after which the database gives a statement up. 1 s to 1 hour; default 30 s.
    #[serde(with = "values::duration")]
    pub statement_timeout: Duration,
    /// Time after which the database gives up waiting for a lock. 100 ms to 1 hour; default 10 s.
    #[serde(with = "values::duration")]
    pub lock_timeout: Duration,
    /// `"auto"`: by `COPY`, or by `INSERT` once the database has refused that; `"never"`: by `INSERT` from the
    /// start, where something between does not speak `COPY`. Default: auto.
    pub copy: CopyMode,
    /// `"auto"`: TimescaleDB of 2.26 or later compresses readings as they are copied in; `"never"`: the
    /// compression policy does it later. Default: auto.
    pub direct_compress: DirectCompress,
}

impl Default for DatabaseConfig {
    fn default() -> Self {
        let defaults = PostgresConfig::new(String::new());
        Self {
            url: None,
            profile: defaults.profile,
            lanes: 2,
            pool_min: defaults.pool_min,
            pool_max: defaults.pool_max,
            acquire_timeout: defaults.acquire_timeout,
            statement_timeout: defaults.statement_timeout,
            lock_timeout: defaults.lock_timeout,
            copy: defaults.copy,
            direct_compress: defaults.direct_compress,
        }
    }
}

impl DatabaseConfig {
    /// How the store is set up; None: no database is configured.
    pub fn postgres(&self) -> Option<PostgresConfig> {
        let url = self.url.as_ref()?;
        Some(PostgresConfig {
            profile: self.profile,
            pool_min: self.pool_min,
            pool_max: self.pool_max,
            acquire_timeout: self.acquire_timeout,
            statement_timeout: self.statement_timeout,
            lock_timeout: self.lock_timeout,
            copy: self.copy,
            direct_compress: self.direct_compress,
            ..PostgresConfig::new(url.expose_secret())
        })
    }
}
