//! What a producer is told when it is opened.

use std::{fmt, path::PathBuf, time::Duration};

use herdstream_proto::limits::{MAX_BATCH_BYTES, MAX_BATCH_READINGS, MAX_NAME_CHARS};
use tonic::{metadata::MetadataValue, transport::Uri};

use crate::{error::Error, spool::SpoolConfig};

/// Longest duration that makes sense here; far from what a clock cannot add.
const LONGEST: Duration = Duration::from_hours(24);

/// Configuration of a [`Producer`](crate::Producer).
///
/// Every field has a default except `endpoints` and `gateway_id`; start from [`ProducerConfig::new`].
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// Servers as URLs, `http://host:port`. At least one; tried in turn.
    pub endpoints: Vec<String>,
    /// Name of the gateway. 1 to 64 characters.
    pub gateway_id: String,
    /// Sent as `authorization: Bearer …` on every stream; never logged. Default: none.
    pub token: Option<Token>,
    /// Readings and milkings that fill a batch. 1 to 10 000; default 1 000.
    pub batch_readings: usize,
    /// Encoded bytes that fill a batch. 1 KiB to 4 MiB; default 256 KiB.
    pub batch_bytes: usize,
    /// How long a batch that is not full waits for more while others are under way. When nothing is
    /// under way it leaves at once. Default 5 ms.
    pub linger: Duration,
    /// Bytes held in memory, encoded. Without a spool: of everything accepted and not acknowledged.
    /// With one: of what is being written or sent. At least 64 KiB; default 16 MiB.
    pub buffer_bytes: usize,
    /// Disk spool. Default: none, what is not acknowledged is lost with the process.
    pub spool: Option<SpoolConfig>,
    /// What to do when the buffer or the spool is full. Default [`WhenFull::Block`].
    pub when_full: WhenFull,
    /// Batches older than this that have not been sent are given up. Default: none is.
    pub max_age: Option<Duration>,
    /// Where batches go that the server refuses again and again, when there is no spool (a spool keeps
    /// them in its own `poison` directory). Default: nowhere, the event carries the bytes.
    pub poison_dir: Option<PathBuf>,
    /// Bound on establishing a connection. Default 10 s.
    pub connect_timeout: Duration,
    /// Bound on the server's answer to the opening of a session. Default 30 s.
    pub open_timeout: Duration,
    /// Interval of HTTP/2 pings. Default 15 s.
    pub keepalive: Duration,
    /// How long the answer to a ping may take before the connection is given up. Default 10 s.
    pub keepalive_timeout: Duration,
    /// Upper bound of the first wait before a reconnect; doubles with every failure. Default 100 ms.
    pub backoff_min: Duration,
    /// Upper bound of any wait before a reconnect. Default 30 s.
    pub backoff_max: Duration,
}

/// What to do with a reading when the buffer or the spool is full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum WhenFull {
    /// Wait for room until the timeout of the send.
    #[default]
    Block,
    /// Give the reading back at once.
    Reject,
    /// Give up the oldest batches that have not been sent in this session: counted, reported by
    /// [`Event::Evicted`](crate::Event::Evicted) and to the server. Waits only when there is none: a
    /// spool evicts nothing while it is connected, since it is just then sending the oldest.
    EvictOldest,
}

/// A bearer token that is not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Token(String);

impl Token {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl<T: Into<String>> From<T> for Token {
    fn from(token: T) -> Self {
        Self(token.into())
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

impl ProducerConfig {
    /// Defaults for a gateway that talks to one server.
    pub fn new(endpoint: impl Into<String>, gateway_id: impl Into<String>) -> Self {
        Self {
            endpoints: vec![endpoint.into()],
            gateway_id: gateway_id.into(),
            token: None,
            batch_readings: 1000,
            batch_bytes: 256 << 10,
            linger: Duration::from_millis(5),
            buffer_bytes: 16 << 20,
            spool: None,
            when_full: WhenFull::Block,
            max_age: None,
            poison_dir: None,
            connect_timeout: Duration::from_secs(10),
            open_timeout: Duration::from_secs(30),
            keepalive: Duration::from_secs(15),
            keepalive_timeout: Duration::from_secs(10),
            backoff_min: Duration::from_millis(100),
            backoff_max: Duration::from_secs(30),
        }
    }

    /// Adds a server to fall back to.
    #[must_use]
    pub fn endpoint(mut self, endpoint: impl Into<String>) -> Self {
        self.endpoints.push(endpoint.into());
        self
    }

    /// Sends this bearer token.
    #[must_use]
    pub fn token(mut self, token: impl Into<Token>) -> Self {
        self.token = Some(token.into());
        self
    }

    /// Keeps what is not acknowledged in this directory, within the default bounds.
    #[must_use]
    pub fn spool(self, dir: impl Into<PathBuf>) -> Self {
        self.spool_config(SpoolConfig::new(dir))
    }

    /// Keeps what is not acknowledged in a spool.
    #[must_use]
    pub fn spool_config(mut self, spool: SpoolConfig) -> Self {
        self.spool = Some(spool);
        self
    }

    /// Sets how many readings fill a batch.
    #[must_use]
    pub fn batch_readings(mut self, readings: usize) -> Self {
        self.batch_readings = readings;
        self
    }

    /// Sets how many encoded bytes fill a batch.
    #[must_use]
    pub fn batch_bytes(mut self, bytes: usize) -> Self {
        self.batch_bytes = bytes;
        self
    }

    /// Sets how long a batch waits for more.
    #[must_use]
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Sets how much is held in memory.
    #[must_use]
    pub fn buffer_bytes(mut self, bytes: usize) -> Self {
        self.buffer_bytes = bytes;
        self
    }

    /// Sets what happens when the buffer or the spool is full.
    #[must_use]
    pub fn when_full(mut self, when_full: WhenFull) -> Self {
        self.when_full = when_full;
        self
    }

    /// Gives up batches that could not be sent for so long.
    #[must_use]
    pub fn max_age(mut self, age: Duration) -> Self {
        self.max_age = Some(age);
        self
    }

    /// Sets the bounds of the waits between reconnects.
    #[must_use]
    pub fn backoff(mut self, min: Duration, max: Duration) -> Self {
        (self.backoff_min, self.backoff_max) = (min, max);
        self
    }

    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.endpoints.is_empty() {
            return Err(config("no endpoint: name at least one, for example http://127.0.0.1:7171"));
        }
        for endpoint in &self.endpoints {
            check_endpoint(endpoint)?;
        }
        let chars = self.gateway_id.chars().count();
        if chars == 0 || chars > MAX_NAME_CHARS || self.gateway_id.contains('\0') {
            return Err(config(format!(
                "gateway_id of {chars} characters: use 1 to {MAX_NAME_CHARS}, without U+0000"
            )));
        }
        check_token(self.token.as_ref())?;
        within("batch_readings", self.batch_readings, 1, MAX_BATCH_READINGS)?;
        within("batch_bytes", self.batch_bytes, 1 << 10, MAX_BATCH_BYTES)?;
        within("buffer_bytes", self.buffer_bytes, 64 << 10, usize::MAX >> 1)?;
        if self.linger > LONGEST {
            return Err(config(format!("linger of {:?}: at most {LONGEST:?}", self.linger)));
        }
        for (name, value) in [
            ("connect_timeout", self.connect_timeout),
            ("open_timeout", self.open_timeout),
            ("keepalive", self.keepalive),
            ("keepalive_timeout", self.keepalive_timeout),
            ("backoff_min", self.backoff_min),
            ("backoff_max", self.backoff_max),
        ] {
            if value.is_zero() || value > LONGEST {
                return Err(config(format!("{name} of {value:?}: use more than 0 and at most {LONGEST:?}")));
            }
        }
        if self.backoff_max < self.backoff_min {
            return Err(config(format!(
                "backoff_max of {:?} is below backoff_min of {:?}: raise it",
                self.backoff_max, self.backoff_min
            )));
        }
        Ok(())
    }
}

pub(crate) fn check_endpoint(endpoint: &str) -> Result<(), Error> {
    let uri: Uri = endpoint
        .parse()
        .map_err(|error| config(format!("endpoint {endpoint:?}: {error}; write it as http://host:port")))?;
    match uri.scheme_str() {
        Some("http") if uri.host().is_some() => Ok(()),
        Some("https") => Err(config(format!(
            "endpoint {endpoint:?}: this build speaks no TLS; use http:// to a local proxy that does"
        ))),
        _ => Err(config(format!("endpoint {endpoint:?} is no http URL: write it as http://host:port"))),
    }
}

pub(crate) fn check_token(token: Option<&Token>) -> Result<(), Error> {
    match token {
        Some(token) if MetadataValue::try_from(format!("Bearer {}", token.expose())).is_err() => {
            Err(config("token with characters that no header carries: use visible ASCII only"))
        }
        _ => Ok(()),
    }
}

fn within(name: &str, value: usize, min: usize, max: usize) -> Result<(), Error> {
    if (min..=max).contains(&value) {
        return Ok(());
    }
    Err(config(format!("{name} of {value}: use {min} to {max}")))
}

fn config(message: impl Into<String>) -> Error {
    Error::Config(message.into())
}
