//! Configuration: defaults < TOML file < environment < flags.
//!
//! Every key can be given in a file (`[ingest] buffer = "64MiB"`), in the environment
//! (`HERDSTREAM_INGEST__BUFFER=64MiB`), and the common ones as flags (`--listen`). Unknown keys are
//! refused, so that a typing error cannot pass for a setting.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use bytesize::ByteSize;
use secrecy::SecretString;
use serde::{Deserialize, Serialize};

mod bounds;
mod database;
mod flags;
mod layers;
mod lifecycle;
mod values;

pub use database::DatabaseConfig;
pub use flags::Flags;
pub use layers::ConfigError;
pub use lifecycle::{QueryConfig, RetentionConfig, RollupConfig};

/// File that is read when it exists and no other is named.
pub const DEFAULT_FILE: &str = "herdstream.toml";

/// The effective configuration of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Where gRPC is served. A port of 0 takes a free one. Default: `127.0.0.1:7171`.
    #[serde(deserialize_with = "values::address")]
    pub listen: SocketAddr,
    /// Where metrics, probes and the status page are served over HTTP; `"off"` for nowhere.
    /// Default: `127.0.0.1:7172`.
    #[serde(with = "values::address_or_off")]
    pub http_listen: Option<SocketAddr>,
    /// Where administration is served over gRPC to callers on this machine; `"off"` for nowhere.
    /// Default: `127.0.0.1:7173`.
    #[serde(with = "values::address_or_off")]
    pub admin_listen: Option<SocketAddr>,
    /// Where readings are kept when no database is configured.
    pub store: StoreConfig,
    /// The database where readings are kept.
    pub database: DatabaseConfig,
    /// How much is taken in at once, and from whom.
    pub ingest: IngestConfig,
    /// Aggregates that are kept.
    pub rollups: RollupConfig,
    /// For how long everything is kept.
    pub retention: RetentionConfig,
    /// How long queries may take.
    pub query: QueryConfig,
    /// How the server stops.
    pub drain: DrainConfig,
    /// Who may call.
    pub auth: AuthConfig,
    /// What the server writes about itself.
    pub log: LogConfig,
}

/// The embedded store.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Directory of the embedded store; made when missing. Default: `./data`.
    pub data_dir: PathBuf,
    /// Memory for rows on their way to a table on disk, all keyspaces together. 1 MiB to 1 GiB; default 16 MiB.
    #[serde(with = "values::size")]
    pub memtable: ByteSize,
    /// Memory for blocks read back. 1 MiB to 1 TiB; default 32 MiB.
    #[serde(with = "values::size")]
    pub cache: ByteSize,
    /// Disk for the journal, which is read again at start. 64 MiB to 64 GiB; default 256 MiB.
    #[serde(with = "values::size")]
    pub journal: ByteSize,
    /// Free disk below which the store counts as down. 16 MiB to 1 TiB; default 256 MiB.
    #[serde(with = "values::size")]
    pub min_free: ByteSize,
}

/// Admission and grouping of what arrives.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IngestConfig {
    /// Encoded bytes received and not yet committed, all streams together. 8 MiB to 64 GiB; default 32 MiB.
    #[serde(with = "values::size")]
    pub buffer: ByteSize,
    /// Bytes one stream may have in flight. 64 KiB to `buffer`; default 1 MiB.
    #[serde(with = "values::size")]
    pub stream_credit: ByteSize,
    /// Encoded bytes after which a commit takes no further batch. 64 KiB to `buffer`; default 8 MiB.
    #[serde(with = "values::size")]
    pub group_bytes: ByteSize,
    /// Streams open at once. 1 to 1 000 000; default 10 000.
    pub max_streams: usize,
    /// Sessions opened a second. At least 1; unlimited when absent, as by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_opens_per_second: Option<u32>,
    /// Unary writes a second. At least 1; unlimited when absent, as by default.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_writes_per_second: Option<u32>,
    /// Age up to which a reading is accepted. 1 minute to 3650 days; default 60 days.
    #[serde(with = "values::duration")]
    pub accepted_lateness: Duration,
    /// How far ahead of the server's clock a reading may be. At most 1 day; default 5 minutes.
    #[serde(with = "values::duration")]
    pub max_ahead: Duration,
    /// Series one stream may define. 1 to 10 000 000; default 100 000.
    pub max_series_per_producer: usize,
    /// Time from connecting a stream to its opening. 100 ms to 1 hour; default 10 s.
    #[serde(with = "values::duration")]
    pub open_timeout: Duration,
    /// Time in which a message that has begun must end, or go on by 16 KiB. 100 ms to 1 hour; default 20 s.
    #[serde(with = "values::duration")]
    pub message_timeout: Duration,
    /// Silence after which either side asks whether the other is there. 1 s to 1 hour; default 20 s.
    #[serde(with = "values::duration")]
    pub keepalive: Duration,
    /// Silence after which a stream is cut. At least twice `keepalive`, at most 1 day; default 2 minutes.
    #[serde(with = "values::duration")]
    pub idle_timeout: Duration,
}

/// An orderly stop.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DrainConfig {
    /// Time to commit and acknowledge what was received. 1 s to 1 hour; default 25 s.
    #[serde(with = "values::duration")]
    pub deadline: Duration,
    /// Where clients are told to go instead, as `http://` or `https://` URLs. At most 16; default none.
    pub endpoints: Vec<String>,
}

/// Who may call.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AuthConfig {
    /// Serve callers without credentials on an address that others can reach. Default: false.
    pub allow_anonymous: bool,
    /// Gateways that may call. Empty, as by default: everyone.
    pub gateways: Vec<GatewayConfig>,
}

/// A gateway's credentials.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatewayConfig {
    /// Name the gateway opens its sessions with. 1 to 64 characters, unique.
    pub gateway_id: String,
    /// Bearer token. 16 to 512 printable ASCII characters without spaces, unique.
    #[serde(serialize_with = "values::redacted")]
    pub token: SecretString,
    /// Farms whose readings it may write and read. Empty: all.
    #[serde(default)]
    pub farms: Vec<i32>,
}

/// Logging to standard error.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LogConfig {
    /// Form of a line. Default: text.
    pub format: LogFormat,
    /// What is logged, in the syntax of `tracing`'s `EnvFilter`. Default: `info`, the engine of the store `warn`.
    pub filter: String,
}

/// Form of a log line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

impl Config {
    /// Reads the configuration of this process: file, environment and `flags`, checked.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], naming the key, its value and what would be right.
    pub fn load(flags: &Flags) -> Result<Self, ConfigError> {
        // A name or value that is not Unicode cannot be one of ours.
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        Self::load_with(flags, environment)
    }

    /// [`Config::load`] with an environment of the caller's.
    ///
    /// # Errors
    ///
    /// As [`Config::load`].
    pub fn load_with(
        flags: &Flags,
        environment: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        let config: Self = layers::read(flags, environment)?;
        config.validate()?;
        Ok(config)
    }

    /// Checks every bound.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Bounds`] with everything that is wrong.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let faults = bounds::faults(self);
        if faults.is_empty() { Ok(()) } else { Err(ConfigError::Bounds(faults)) }
    }

    /// The effective configuration as TOML, secrets as `"***"`.
    ///
    /// # Panics
    ///
    /// When `store.data_dir` is not Unicode; [`Config::load`] never makes such a one.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("every value but a path that is not Unicode has a form in TOML")
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 7171)),
            http_listen: Some(SocketAddr::from(([127, 0, 0, 1], 7172))),
            admin_listen: Some(SocketAddr::from(([127, 0, 0, 1], 7173))),
            store: StoreConfig::default(),
            database: DatabaseConfig::default(),
            ingest: IngestConfig::default(),
            rollups: RollupConfig::default(),
            retention: RetentionConfig::default(),
            query: QueryConfig::default(),
            drain: DrainConfig::default(),
            auth: AuthConfig::default(),
            log: LogConfig::default(),
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from("./data"),
            memtable: ByteSize::mib(16),
            cache: ByteSize::mib(32),
            journal: ByteSize::mib(256),
            min_free: ByteSize::mib(256),
        }
    }
}

impl Default for IngestConfig {
    fn default() -> Self {
        Self {
            buffer: ByteSize::mib(32),
            stream_credit: ByteSize::mib(1),
            group_bytes: ByteSize::mib(8),
            max_streams: 10_000,
            max_opens_per_second: None,
            max_writes_per_second: None,
            accepted_lateness: Duration::from_hours(60 * 24),
            max_ahead: Duration::from_mins(5),
            max_series_per_producer: 100_000,
            open_timeout: Duration::from_secs(10),
            message_timeout: Duration::from_secs(20),
            keepalive: Duration::from_secs(20),
            idle_timeout: Duration::from_mins(2),
        }
    }
}

impl Default for DrainConfig {
    fn default() -> Self {
        Self { deadline: Duration::from_secs(25), endpoints: Vec::new() }
    }
}

impl Default for LogConfig {
    fn default() -> Self {
        Self { format: LogFormat::Text, filter: "info,fjall=warn,lsm_tree=warn".to_owned() }
    }
}

#[cfg(test)]
mod tests;
