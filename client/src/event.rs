//! Events: what happened that counters alone do not tell.

use std::{path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::broadcast;
use uuid::Uuid;

use crate::receipt::Rejection;

/// Events kept for a subscriber that does not keep up. One may hold 500 rejections.
const CAPACITY: usize = 256;
/// Events kept for the first subscriber before there is one.
const KEPT_FOR_FIRST: usize = 64;

/// Something that happened to a producer, or to a log left by an earlier opening of its spool.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A session is open.
    Connected {
        /// Whose session.
        producer_id: Uuid,
        /// The server.
        endpoint: String,
        /// Number of the session.
        epoch: u64,
        /// Everything up to here was durable already.
        committed_offset: u64,
    },
    /// A session, or the attempt to open one, ended.
    Disconnected {
        /// Whose session.
        producer_id: Uuid,
        /// The server.
        endpoint: String,
        /// Why.
        reason: DisconnectReason,
        /// What was said, for people.
        message: String,
        /// When the next attempt follows.
        retry_in: Duration,
    },
    /// The server is about to stop; the session goes on elsewhere.
    Drained {
        /// Whose session.
        producer_id: Uuid,
        /// The server that stops.
        endpoint: String,
    },
    /// Another process took over: nothing more is sent under this id.
    Fenced {
        /// Whose session.
        producer_id: Uuid,
        /// The process that took over.
        instance_id: String,
    },
    /// The server claims to hold offsets that were never sent: nothing more is sent under this id.
    Conflict {
        /// Whose session.
        producer_id: Uuid,
        /// What the server claims is durable.
        committed_offset: u64,
        /// The highest offset ever sent.
        sent_offset: u64,
    },
    /// The server no longer holds what it had acknowledged: restored from a backup, or another server.
    Forgotten {
        /// Whose batches.
        producer_id: Uuid,
        /// First offset.
        first: u64,
        /// Last offset.
        last: u64,
    },
    /// Readings or milkings were refused and put in quarantine.
    Rejected {
        /// Who sent them.
        producer_id: Uuid,
        /// What was refused, as far as the server listed it.
        rejections: Vec<Rejection>,
        /// How many more were refused.
        omitted: u64,
    },
    /// Batches were given up to make room.
    Evicted {
        /// Whose batches.
        producer_id: Uuid,
        /// First offset.
        first: u64,
        /// Last offset.
        last: u64,
        /// Readings and milkings in them. Those that turn out to have been committed before count as
        /// stored later.
        items: u64,
    },
    /// Batches were given up because they were too old.
    Expired {
        /// Whose batches.
        producer_id: Uuid,
        /// First offset.
        first: u64,
        /// Last offset.
        last: u64,
        /// Readings and milkings in them.
        items: u64,
    },
    /// A batch was refused again and again, and set aside.
    Poisoned {
        /// Whose batch.
        producer_id: Uuid,
        /// Its offset.
        offset: u64,
        /// Readings and milkings in it.
        items: u64,
        /// Where it is now.
        file: Option<PathBuf>,
        /// The encoded `Batch`, when there is no file.
        batch: Option<Bytes>,
        /// What the server said.
        message: String,
    },
    /// Batches in the spool cannot be read.
    Lost {
        /// Whose batches.
        producer_id: Uuid,
        /// First offset.
        first: u64,
        /// Last offset.
        last: u64,
        /// Readings and milkings in them, as far as known.
        items: u64,
    },
    /// The spool holds a log left by an earlier opening; it is sent under its own id.
    SpoolRecovered {
        /// The log's id.
        producer_id: Uuid,
        /// Lowest offset it holds.
        first_retained_offset: u64,
        /// One past the highest.
        next_offset: u64,
        /// Bytes of an unfinished write that were cut off; never accepted.
        torn_bytes: u64,
    },
    /// Everything in a log left by an earlier opening is durable; it is gone from the spool.
    SpoolDrained {
        /// The log's id.
        producer_id: Uuid,
    },
    /// The spool could not be read or written; it is tried again.
    SpoolFailed {
        /// Whose log.
        producer_id: Uuid,
        /// What failed.
        message: String,
    },
    /// The subscriber was too slow and missed events.
    Missed(u64),
}

/// Why a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// No connection.
    Unreachable,
    /// An answer did not come in time: a half-open link, or a stalled server.
    Timeout,
    /// The server stopped.
    Draining,
    /// The store is down, or the server cannot take more for now.
    Busy,
    /// No credentials, wrong ones, or not for this gateway. Retried slowly.
    Unauthorized,
    /// The server speaks another version of the protocol. Retried slowly.
    UnsupportedVersion,
    /// The server refused a batch.
    BatchRefused,
    /// An older session of this very process was closed.
    Superseded,
    /// One side did not follow the protocol.
    ProtocolViolation,
    /// The connection broke, or the server failed.
    Broken,
}

/// Events of one producer, from [`Producer::events`](crate::Producer::events).
///
/// The first stream of a producer begins with its opening, unless more than 64 events have happened
/// since; later ones begin with the call.
/// Bounded: a subscriber that falls more than 256 events behind gets [`Event::Missed`].
#[derive(Debug)]
pub struct EventStream(broadcast::Receiver<Event>);

impl EventStream {
    /// Waits for the next event. `None` when the producer has ended.
    pub async fn next(&mut self) -> Option<Event> {
        match self.0.recv().await {
            Ok(event) => Some(event),
            Err(broadcast::error::RecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }

    /// Takes the next event if there is one.
    pub fn try_next(&mut self) -> Option<Event> {
        match self.0.try_recv() {
            Ok(event) => Some(event),
            Err(broadcast::error::TryRecvError::Lagged(missed)) => Some(Event::Missed(missed)),
            Err(_) => None,
        }
    }
}

/// Where events go.
#[derive(Clone, Debug)]
pub(crate) struct Events {
    sender: broadcast::Sender<Event>,
    /// For the first subscriber, who wants to hear of the opening too.
    first: Arc<Mutex<Option<broadcast::Receiver<Event>>>>,
}

impl Events {
    pub(crate) fn new() -> Self {
        let (sender, first) = broadcast::channel(CAPACITY);
        Self { sender, first: Arc::new(Mutex::new(Some(first))) }
    }

    pub(crate) fn subscribe(&self) -> EventStream {
        EventStream(self.first.lock().take().unwrap_or_else(|| self.sender.subscribe()))
    }

    pub(crate) fn send(&self, event: Event) {
        // Memory for somebody who may never come is bounded more tightly.
        self.first.lock().take_if(|first| first.len() >= KEPT_FOR_FIRST);
        // Nobody listening is fine: the counters and the log tell the rest.
        let _ = self.sender.send(event);
    }
}
