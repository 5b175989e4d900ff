//! Which server a command talks to.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use herdstream_client::QueryConfig;

/// The server, and who asks.
#[derive(Debug, clap::Args)]
pub(crate) struct ServerArgs {
    /// The server, as http://HOST:PORT
    #[arg(long, value_name = "URL", env = "HERDSTREAM_ENDPOINT", default_value = "http://127.0.0.1:7171")]
    pub(crate) endpoint: String,
    #[command(flatten)]
    pub(crate) caller: CallerArgs,
}

/// The administration port of a server on this machine.
#[derive(Debug, clap::Args)]
pub(crate) struct AdminArgs {
    /// The server's administration port, as http://127.0.0.1:PORT
    #[arg(
        long,
        value_name = "URL",
        env = "HERDSTREAM_ADMIN_ENDPOINT",
        default_value = "http://127.0.0.1:7173"
    )]
    pub(crate) admin_endpoint: String,
    /// Time that a call may take
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

/// Who asks, and how long they wait.
#[derive(Debug, clap::Args)]
pub(crate) struct CallerArgs {
    /// File that holds the bearer token; without it the variable `HERDSTREAM_TOKEN` is looked at
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Time that a call may take
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

impl ServerArgs {
    pub(crate) fn config(&self) -> Result<QueryConfig> {
        let config = QueryConfig::new(&self.endpoint).timeout(self.caller.timeout);
        let token = match &self.caller.token_file {
            Some(file) => {
                let text =
                    fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
                Some(text.trim().to_owned())
            }
            None => std::env::var("HERDSTREAM_TOKEN").ok().filter(|token| !token.is_empty()),
        };
        Ok(match token {
            Some(token) => config.token(token),
            None => config,
        })
    }
}

/// Says how to get a server where none answers; `flag` names another.
pub(crate) fn reach<T>(
    endpoint: &str,
    flag: &str,
    connected: Result<T, herdstream_client::Error>,
) -> Result<T> {
    match connected {
        // What is wrong with the URL or the token says so itself.
        Err(error) if !error.is_retryable() => Err(error.into()),
        connected => connected.with_context(|| {
            format!(
                "no server answers at {endpoint}: start one with `herdstream`, or name another with {flag}"
            )
        }),
    }
}
