//! The log of slow queries.

use std::{
    fmt::{self, Debug, Write as _},
    time::Duration,
};

use crate::ops::metrics::Rpc;

/// A query that is logged if it is slow.
pub(super) struct Slow {
    rpc: Rpc,
    /// The request, where warnings are logged.
    asked: Option<String>,
    slow: Duration,
}

impl Slow {
    /// A query that is slow from `slow` on.
    pub(super) fn new(rpc: Rpc, request: &impl Debug, slow: Duration) -> Self {
        let asked = tracing::enabled!(tracing::Level::WARN).then(|| shortly(request));
        Self { rpc, asked, slow }
    }

    /// Logs what was asked and how long it took, or a part of it, if that is slow.
    pub(super) fn tell(&self, took: Duration) {
        if took >= self.slow {
            let asked = self.asked.as_deref().unwrap_or_default();
            tracing::warn!(
                rpc = self.rpc.name(),
                ?took,
                asked,
                "slow query: AdminService.ExplainQuery tells why"
            );
        }
    }
}

/// A request in as few words as a line of the log takes.
fn shortly(request: &impl Debug) -> String {
    const MOST: usize = 500;
    struct Short(String);
    impl fmt::Write for Short {
        /// Fails once it is full, which ends the writing.
        fn write_str(&mut self, text: &str) -> fmt::Result {
            let room = MOST.saturating_sub(self.0.len());
            self.0.push_str(&text[..text.floor_char_boundary(room)]);
            if text.len() <= room { Ok(()) } else { Err(fmt::Error) }
        }
    }
    let mut short = Short(String::new());
    let _ = write!(short, "{request:?}");
    short.0
}
