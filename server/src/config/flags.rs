//! Settings that can be given on the command line.

use std::{net::SocketAddr, path::PathBuf};

use serde::Serialize;

use super::LogFormat;

/// Settings given on the command line; they override file and environment.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Flags {
    /// Read this configuration file [default: ./herdstream.toml, if there is one]
    #[arg(long, value_name = "FILE", env = "HERDSTREAM_CONFIG", global = true)]
    pub config: Option<PathBuf>,
    /// Serve gRPC here [default: 127.0.0.1:7171]
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub listen: Option<SocketAddr>,
    /// Serve metrics, probes and the status page here, or "off" [default: 127.0.0.1:7172]
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub http_listen: Option<String>,
    /// Serve administration to this machine here, or "off" [default: 127.0.0.1:7173]
    #[arg(long, value_name = "ADDRESS", global = true)]
    pub admin_listen: Option<String>,
    /// Keep data in this directory [default: ./data]
    #[arg(long, value_name = "DIRECTORY", global = true)]
    pub data_dir: Option<String>,
    /// Keep data in this PostgreSQL or TimescaleDB instead: postgres://USER:PASSWORD@HOST:PORT/DATABASE.
    /// A password is better given as `HERDSTREAM_DATABASE__URL`, which other users of the machine cannot see
    #[arg(long, value_name = "URL", global = true)]
    pub database_url: Option<String>,
    /// Serve callers without credentials on an address that others can reach
    #[arg(long, global = true)]
    pub allow_anonymous: bool,
    /// Form of log lines [default: text]
    #[arg(long, value_name = "FORMAT", global = true)]
    pub log_format: Option<LogFormat>,
    /// What to log, for example "debug" or "info,h2=debug" [default: info, and the store's engine at warn]
    #[arg(long, value_name = "FILTER", global = true)]
    pub log_filter: Option<String>,
}

/// Shaped like [`super::Config`]; absent values are left out.
#[derive(Serialize)]
pub(super) struct Given<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    listen: Option<SocketAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    http_listen: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    admin_listen: Option<&'a str>,
    store: GivenStore<'a>,
    database: GivenDatabase<'a>,
    auth: GivenAuth,
    log: GivenLog<'a>,
}

#[derive(Serialize)]
struct GivenStore<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    data_dir: Option<&'a str>,
}

#[derive(Serialize)]
struct GivenDatabase<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<&'a str>,
}

#[derive(Serialize)]
struct GivenAuth {
    #[serde(skip_serializing_if = "Option::is_none")]
    allow_anonymous: Option<bool>,
}

#[derive(Serialize)]
struct GivenLog<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    format: Option<LogFormat>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a str>,
}

impl Flags {
    pub(super) fn given(&self) -> Given<'_> {
        Given {
            listen: self.listen,
            http_listen: self.http_listen.as_deref(),
            admin_listen: self.admin_listen.as_deref(),
            store: GivenStore { data_dir: self.data_dir.as_deref() },
            database: GivenDatabase { url: self.database_url.as_deref() },
            auth: GivenAuth { allow_anonymous: self.allow_anonymous.then_some(true) },
            log: GivenLog { format: self.log_format, filter: self.log_filter.as_deref() },
        }
    }
}
