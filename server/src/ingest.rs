//! From a decoded batch to its ack: session → validate → lane (group commit) → ack.
//!
//! A *session* checks order and credit and turns what arrived into rows; the *lane* that owns the
//! producer commits what sessions hand it, one group at a time, and only then lets acks go.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::{clock::Clock, config::IngestConfig, error::Error, model::ProducerId, store::Store};

mod caller;
mod group;
mod incoming;
mod lane;
mod outbox;
mod pool;
mod rate;
mod refs;
mod rows;
mod session;
pub mod validate;
mod write;

pub use caller::Caller;
pub use incoming::{IncomingBatch, IncomingReading, IncomingSeries, Open, Skip, SkipReason};
pub use outbox::{Ack, Notice, Outbox};
pub use pool::{BytePool, MessagePermit, Share};
pub use session::{Opened, Session};
pub use write::{WriteOutcome, WriteSession};

use lane::Lane;
use rate::Rate;
use validate::Validator;

/// Memory for rows, as a multiple of that for messages: a row takes about three times its encoded size.
const ROWS_PER_WIRE: usize = 3;

/// The ingestion side of a server. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Ingest(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    config: IngestConfig,
    drain_endpoints: Vec<String>,
    store: Arc<dyn Store>,
    validator: Validator,
    clock: Clock,
    lanes: Vec<Lane>,
    pool: BytePool,
    /// What rows take between validation and commit.
    rows: BytePool,
    streams: Arc<Semaphore>,
    streams_open: AtomicUsize,
    opens: Rate,
    writes: Rate,
    status: Arc<Status>,
    sessions: TaskTracker,
    stop: CancellationToken,
}

/// What lanes tell everybody else.
#[derive(Debug)]
pub(crate) struct Status {
    /// Whether the last commit went through.
    store_up: watch::Sender<bool>,
    /// Set when the server stops, to the moment at which streams are cut.
    drain: watch::Sender<Option<tokio::time::Instant>>,
    /// Raised to cut every stream without a word; for fault injection.
    cut: watch::Sender<u64>,
    /// Readings and milkings received and not yet committed.
    pending: AtomicU64,
}

impl Ingest {
    /// Starts `lanes` lanes over `store`.
    pub fn start(
        config: IngestConfig,
        drain_endpoints: Vec<String>,
        store: Arc<dyn Store>,
        lanes: usize,
    ) -> Self {
        let status = Arc::new(Status {
            store_up: watch::Sender::new(true),
            drain: watch::Sender::new(None),
            cut: watch::Sender::new(0),
            pending: AtomicU64::new(0),
        });
        let stop = CancellationToken::new();
        let lanes = (0..lanes.max(1))
            .map(|_| {
                Lane::start(
                    Arc::clone(&store),
                    config.group_bytes.as_u64(),
                    Arc::clone(&status),
                    stop.clone(),
                )
            })
            .collect();
        Self(Arc::new(Shared {
            validator: Validator::new(config.accepted_lateness, config.max_ahead),
            clock: Clock::start(),
            lanes,
            pool: BytePool::new(config.buffer.as_u64() as usize),
            rows: BytePool::new(config.buffer.as_u64() as usize * ROWS_PER_WIRE),
            streams: Arc::new(Semaphore::new(config.max_streams)),
            streams_open: AtomicUsize::new(0),
            opens: Rate::new("opens", config.max_opens_per_second),
            writes: Rate::new("writes", config.max_writes_per_second),
            status,
            sessions: TaskTracker::new(),
            stop,
            config,
            drain_endpoints,
            store,
        }))
    }

    /// The pool that everything received and not yet committed is charged to.
    pub fn pool(&self) -> &BytePool {
        &self.0.pool
    }

    /// The configuration it runs with.
    pub fn config(&self) -> &IngestConfig {
        &self.0.config
    }

    /// Where clients are told to go when the server drains.
    pub fn drain_endpoints(&self) -> &[String] {
        &self.0.drain_endpoints
    }

    /// The store it commits to.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// Takes a place among the streams.
    ///
    /// # Errors
    ///
    /// [`Error::TooManyStreams`], [`Error::Draining`].
    pub fn admit_stream(&self) -> Result<StreamPermit, Error> {
        self.refuse_while_draining()?;
        let permit = Arc::clone(&self.0.streams)
            .try_acquire_owned()
            .map_err(|_| Error::TooManyStreams(self.0.config.max_streams))?;
        self.0.streams_open.fetch_add(1, Ordering::Relaxed);
        crate::ops::metrics::streams_changed(1);
        Ok(StreamPermit { ingest: self.clone(), _permit: permit })
    }

    /// Runs sessions, so that a drain can wait for them.
    pub fn sessions(&self) -> &TaskTracker {
        &self.0.sessions
    }

    /// Readings and milkings received and not yet committed.
    pub fn pending(&self) -> u64 {
        self.0.status.pending.load(Ordering::Relaxed)
    }

    /// Whether the last commit went through.
    pub fn store_up(&self) -> bool {
        *self.0.status.store_up.borrow()
    }

    /// Follows the beginning of a drain: its deadline, once it has begun.
    pub fn drain_signal(&self) -> watch::Receiver<Option<tokio::time::Instant>> {
        self.0.status.drain.subscribe()
    }

    /// Follows [`Ingest::cut_streams`].
    pub fn cut_signal(&self) -> watch::Receiver<u64> {
        self.0.status.cut.subscribe()
    }

    /// Ends every stream without a word, as a broken link would.
    pub fn cut_streams(&self) {
        self.0.status.cut.send_modify(|count| *count += 1);
    }

    /// Asks every stream to finish and waits for it, at most until `deadline`; then stops the lanes.
    /// What was received is committed and acknowledged; what the store did not take in time is not, and
    /// the answer is how many streams were cut over it.
    pub async fn drain(&self, deadline: Duration) -> usize {
        let end = tokio::time::Instant::now() + deadline;
        self.0.status.drain.send_replace(Some(end));
        self.0.sessions.close();
        let mut cut = 0;
        if tokio::time::timeout_at(end, self.0.sessions.wait()).await.is_err() {
            cut = self.0.sessions.len();
            tracing::warn!(streams = cut, "drain deadline reached: cutting the streams that remain");
            self.cut_streams();
        }
        self.0.stop.cancel();
        for lane in &self.0.lanes {
            lane.stopped().await;
        }
        cut
    }

    /// Credit beyond what has been committed, for one stream at this moment.
    fn window(&self) -> u64 {
        let streams = self.0.streams_open.load(Ordering::Relaxed).max(1);
        let share = self.0.pool.available() / streams;
        (share as u64).min(self.0.config.stream_credit.as_u64())
    }

    fn lane_of(&self, producer: ProducerId) -> &Lane {
        &self.0.lanes[(producer.as_u128() % self.0.lanes.len() as u128) as usize]
    }

    fn refuse_while_draining(&self) -> Result<(), Error> {
        if self.0.status.drain.borrow().is_some() { Err(Error::Draining) } else { Ok(()) }
    }

    fn refuse_while_down(&self) -> Result<(), Error> {
        if self.store_up() { Ok(()) } else { Err(Error::StoreDown) }
    }

    /// Waits for a lane's answer, no longer than the store is up and the configuration allows: then
    /// [`Error::Unanswered`].
    async fn answer<T>(&self, reply: tokio::sync::oneshot::Receiver<Result<T, Error>>) -> Result<T, Error> {
        let mut store_up = self.0.status.store_up.subscribe();
        tokio::select! {
            biased;
            answer = reply => answer.unwrap_or(Err(Error::Draining)),
            _ = store_up.wait_for(|up| !up) => Err(Error::Unanswered),
            () = tokio::time::sleep(self.0.config.open_timeout) => Err(Error::Unanswered),
        }
    }
}

/// What has an identity can be sent again as it was, whatever became of it.
fn again(error: Error) -> Error {
    if matches!(error, Error::Unanswered) { Error::StoreDown } else { error }
}

/// A place among the streams, given back when dropped.
#[derive(Debug)]
pub struct StreamPermit {
    ingest: Ingest,
    _permit: OwnedSemaphorePermit,
}

impl Drop for StreamPermit {
    fn drop(&mut self) {
        self.ingest.0.streams_open.fetch_sub(1, Ordering::Relaxed);
        crate::ops::metrics::streams_changed(-1);
    }
}
