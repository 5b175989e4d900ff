//! What a listener does when the system gives it no connection.

use std::{
    io::{self, ErrorKind},
    time::{Duration, Instant},
};

/// Until the system is asked again.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two complaints.
const QUIET: Duration = Duration::from_secs(10);

/// Tells of connections that cannot be accepted, now and then.
#[derive(Debug)]
pub struct Refusals {
    server: &'static str,
    told: Option<Instant>,
}

impl Refusals {
    /// Those of a server by that name.
    pub fn new(server: &'static str) -> Self {
        Self { server, told: None }
    }

    /// How long to wait after an error before the next try; None when only that connection is concerned.
    pub fn pause(&mut self, error: &io::Error) -> Option<Duration> {
        let gone = [ErrorKind::ConnectionAborted, ErrorKind::ConnectionReset, ErrorKind::ConnectionRefused];
        if gone.contains(&error.kind()) {
            return None;
        }
        if self.told.is_none_or(|told| told.elapsed() >= QUIET) {
            self.told = Some(Instant::now());
            let server = self.server;
            tracing::warn!(%error, server, "no connections are accepted: are there enough file descriptors?");
        }
        Some(PAUSE)
    }
}
