//! Keeps a session open: connects, opens, reconnects, for as long as there is a producer.

use std::{collections::VecDeque, sync::Arc};

use herdstream_proto::limits::MAX_NAME_CHARS;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::metadata::{Ascii, MetadataValue};

use crate::{
    backoff::Backoff,
    config::{ProducerConfig, check_endpoint},
    error::SendReason,
    event::Event,
    outbox::Outbox,
};

mod rejections;
mod stream;
mod verdict;
mod wire;

use verdict::{End, Pause, Verdict, judge};

/// Refusals of the same batch after which it is set aside.
const MAX_STRIKES: u32 = 3;

/// What all sessions of one opening have in common.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) config: ProducerConfig,
    pub(crate) token: Option<MetadataValue<Ascii>>,
    /// Random for every opening.
    pub(crate) instance_id: String,
    pub(crate) tasks: TaskTracker,
    pub(crate) cancelled: CancellationToken,
}

/// How one attempt at a session went.
struct Attempt {
    end: End,
    /// Something was acknowledged: the next failure is a first one again.
    progressed: bool,
    /// The first batch on the wire when it ended.
    head: Option<u64>,
}

/// The batch that the server refused last, and how often in a row. Offset 0: none.
#[derive(Debug, Default)]
struct Strikes {
    offset: u64,
    count: u32,
    message: String,
}

impl Strikes {
    fn add(&mut self, offset: u64, message: String) {
        self.count = if self.offset == offset { self.count + 1 } else { 1 };
        (self.offset, self.message) = (offset, message);
    }

    /// The batch to set aside, unless the server has it after all.
    fn condemned(&self, committed: u64) -> Option<u64> {
        (self.count >= MAX_STRIKES && self.offset > committed).then_some(self.offset)
    }
}

/// Runs sessions of one producer id until everything is decided and nothing more comes, it was fenced,
/// or it is cancelled.
pub(crate) async fn run(outbox: Arc<Outbox>, link: Arc<Link>) {
    let _ = link.cancelled.run_until_cancelled(keep_open(&outbox, &link)).await;
    outbox.lock().stop_sending();
    outbox.over();
}

async fn keep_open(outbox: &Arc<Outbox>, link: &Arc<Link>) {
    let mut route = Route::new(&link.config.endpoints);
    let mut backoff = Backoff::new(link.config.backoff_min, link.config.backoff_max);
    let mut strikes = Strikes::default();
    loop {
        let endpoint = route.endpoint();
        let Attempt { end, progressed, head } = stream::run(outbox, link, &endpoint, &strikes).await;
        if matches!(end, End::Finished) {
            return;
        }
        if progressed {
            backoff.reset();
        }
        let Verdict { reason, pause, strike, fenced_by, elsewhere } = judge(&end, &link.instance_id);
        let producer_id = outbox.producer_id;
        if let Some(instance_id) = fenced_by {
            tracing::warn!(%producer_id, instance_id, "another process took over the producer");
            outbox.events.send(Event::Fenced { producer_id, instance_id: instance_id.clone() });
            outbox.end(SendReason::Fenced(instance_id));
            return;
        }
        if let End::Conflict(violation) = &end {
            tracing::error!(%producer_id, "{}", end.message());
            let (committed_offset, sent_offset) = (violation.committed, violation.sent);
            outbox.events.send(Event::Conflict { producer_id, committed_offset, sent_offset });
            outbox.end(SendReason::Conflict);
            return;
        }
        let message = end.message();
        if let Some(head) = head.filter(|_| strike) {
            strikes.add(head, message.clone());
        }
        let retry_in = match pause {
            Pause::Backoff => backoff.next(),
            Pause::Told(told) => told + backoff.next(),
            Pause::Slow => backoff.slow(),
            Pause::Spread => backoff.spread(),
        };
        if elsewhere {
            route.advance();
        }
        outbox.lock().count_disconnect();
        tracing::info!(%producer_id, endpoint, ?reason, message, ?retry_in, "session ended");
        if let End::Drained(hints) = end {
            outbox.events.send(Event::Drained { producer_id, endpoint });
            route.prefer(hints);
        } else {
            outbox.events.send(Event::Disconnected { producer_id, endpoint, reason, message, retry_in });
        }
        tokio::time::sleep(retry_in).await;
    }
}

/// Which endpoint comes next.
struct Route {
    endpoints: VecDeque<String>,
    /// Named by a server that stops; each is tried once.
    hints: VecDeque<String>,
}

impl Route {
    fn new(endpoints: &[String]) -> Self {
        Self { endpoints: endpoints.iter().cloned().collect(), hints: VecDeque::new() }
    }

    fn endpoint(&self) -> String {
        self.hints.front().or(self.endpoints.front()).cloned().unwrap_or_default()
    }

    fn advance(&mut self) {
        if self.hints.pop_front().is_none() {
            self.endpoints.rotate_left(1);
        }
    }

    fn prefer(&mut self, hints: Vec<String>) {
        self.hints = hints.into_iter().filter(|hint| check_endpoint(hint).is_ok()).collect();
        if !self.hints.is_empty() {
            // Not all clients to the first one.
            let turn = rand::random_range(0..self.hints.len());
            self.hints.rotate_left(turn);
        }
    }
}

/// Name and version of the SDK, for the server's log.
fn sdk() -> String {
    let name = concat!("herdstream-rust/", env!("CARGO_PKG_VERSION"));
    name.chars().take(MAX_NAME_CHARS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_refusals_in_a_row_condemn_a_batch() {
        let mut strikes = Strikes::default();
        assert_eq!(strikes.condemned(0), None);
        strikes.add(5, "no".into());
        strikes.add(5, "no".into());
        assert_eq!(strikes.condemned(4), None);
        strikes.add(6, "no".into());
        strikes.add(6, "no".into());
        assert_eq!(strikes.condemned(5), None);
        strikes.add(6, "no".into());
        assert_eq!(strikes.condemned(5), Some(6));
        assert_eq!(strikes.condemned(6), None, "the server has it after all");
    }

    #[test]
    fn hints_are_tried_once_and_then_the_configured_endpoints_in_turn() {
        let mut route = Route::new(&["http://a:1".to_owned(), "http://b:1".to_owned()]);
        assert_eq!(route.endpoint(), "http://a:1");
        route.advance();
        route.prefer(vec!["http://c:1".to_owned(), "no url".to_owned()]);
        assert_eq!(route.endpoint(), "http://c:1");
        route.advance();
        assert_eq!(route.endpoint(), "http://b:1");
        route.advance();
        assert_eq!(route.endpoint(), "http://a:1");
    }
}
