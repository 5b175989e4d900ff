//! The producer: takes readings, answers when they are safe.

use std::{collections::HashMap, path::PathBuf, sync::Arc, thread::JoinHandle, time::Duration};

use herdstream_proto::limits::MAX_STREAM_SERIES;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use uuid::Uuid;

use crate::{
    backlog::{Backlog, Limits},
    config::ProducerConfig,
    connection::bearer,
    counters::Counters,
    encode,
    error::{CloseError, Error, FlushError, SendError, SendManyError, SendReason, SendSliceError},
    event::{EventStream, Events},
    item::Sendable,
    opening,
    outbox::{Outbox, deadline_after},
    receipt::Receipt,
    series::{SeriesKey, SeriesRef},
    session::{self, Link},
    spooler,
};

/// Time that a close takes beyond its deadline, at most, to end what runs in the background.
const CLOSE_GRACE: Duration = Duration::from_secs(2);

/// Sends readings and milkings to a server, each exactly once.
///
/// Cheap to clone, and shared by any number of tasks: clones feed the same batches. When the last
/// clone is dropped without [`close`](Self::close), sending stops; what is not acknowledged stays in
/// the spool, or is lost if there is none.
#[derive(Clone, Debug)]
pub struct Producer(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    outbox: Arc<Outbox>,
    /// Logs left by earlier openings of the spool, while they are being sent.
    recovered: Vec<Arc<Outbox>>,
    series: Mutex<HashMap<SeriesKey, SeriesRef>>,
    link: Arc<Link>,
    spooler: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let pending = self.outbox.lock().pending();
        if pending > 0 && !self.link.cancelled.is_cancelled() && !self.outbox.is_spooled() {
            tracing::warn!(producer_id = %self.outbox.producer_id, pending, "producer dropped without a close");
        }
        self.outbox.end(SendReason::Closed);
        self.link.cancelled.cancel();
    }
}

/// What a close left behind.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CloseReport {
    /// Readings and milkings of this producer that are not acknowledged: the spool keeps them.
    pub pending: u64,
    /// The spool that keeps them, if there are any.
    pub kept_in: Option<PathBuf>,
    /// The final counts.
    pub counters: Counters,
}

impl Producer {
    /// Opens a producer under a fresh id. Works without a reachable server.
    ///
    /// With a spool, what earlier openings left there is sent too, each log under its own id. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] when a value is out of bounds, [`Error::Spool`] when the spool is in use, is none,
    /// or cannot be read.
    pub async fn open(config: ProducerConfig) -> Result<Self, Error> {
        config.check()?;
        let token = config.token.as_ref().map(bearer).transpose()?;
        let events = Events::new();
        let limits = Limits::of(&config);
        let when_full = config.when_full;
        let link = Arc::new(Link {
            token,
            instance_id: Uuid::new_v4().to_string(),
            tasks: TaskTracker::new(),
            cancelled: CancellationToken::new(),
            config,
        });
        let Some(spool) = link.config.spool.clone() else {
            let outbox = Outbox::new(Uuid::new_v4(), Backlog::new(limits), None, when_full, events);
            let outbox = Arc::new(outbox);
            link.tasks.spawn(session::run(outbox.clone(), link.clone()));
            return Ok(Self::new(outbox, Vec::new(), link, None));
        };
        let opened = opening::open(spool, limits, when_full, &events).await?;
        let all = opened.recovered.iter().chain([&opened.outbox]).cloned().collect();
        let spooler = spooler::start(opened.outbox.clone(), all, when_full)
            .map_err(|error| Error::Config(format!("cannot start a thread for the spool: {error}")))?;
        opening::start(&opened, &link);
        Ok(Self::new(opened.outbox, opened.recovered, link, Some(spooler)))
    }

    fn new(
        outbox: Arc<Outbox>,
        recovered: Vec<Arc<Outbox>>,
        link: Arc<Link>,
        spooler: Option<JoinHandle<()>>,
    ) -> Self {
        let (series, spooler) = (Mutex::default(), Mutex::new(spooler));
        Self(Arc::new(Inner { outbox, recovered, series, link, spooler }))
    }

    /// Its id: fresh for every opening.
    pub fn producer_id(&self) -> Uuid {
        self.0.outbox.producer_id
    }

    /// A handle for a series. The same key gives the same handle; repeating it is cheap.
    ///
    /// # Errors
    ///
    /// [`Error::Series`] when a name breaks its bound, or beyond 100 000 series.
    pub fn series(&self, key: SeriesKey) -> Result<SeriesRef, Error> {
        let mut series = self.0.series.lock();
        if let Some(known) = series.get(&key) {
            return Ok(*known);
        }
        key.check()?;
        let added = self.0.outbox.lock().add_series(|ref_| encode::series(ref_, &key));
        let added = SeriesRef(added.ok_or_else(|| {
            Error::Series(format!("this would be more than {MAX_STREAM_SERIES}: use another producer"))
        })?);
        series.insert(key, added);
        Ok(added)
    }

    /// Sends one reading or milking.
    ///
    /// Without a spool this answers as soon as it is in memory; with one, when it is on disk, synced.
    /// A lone sender pays for one sync each; senders at the same time share one, and
    /// [`send_many`](Self::send_many) pays once for all. Waits for room for at most `timeout`.
    ///
    /// A call that is dropped before it answers may have sent.
    ///
    /// # Errors
    ///
    /// [`SendError`] says why and gives it back.
    pub async fn send<T: Sendable>(&self, item: T, timeout: Duration) -> Result<(), SendError<T>> {
        match self.0.outbox.send(std::slice::from_ref(&item), timeout).await {
            Ok(()) => Ok(()),
            Err(SendSliceError { reason, .. }) => Err(SendError { reason, item: Box::new(item) }),
        }
    }

    /// Sends many, in order. As [`send`](Self::send), and much faster.
    ///
    /// # Errors
    ///
    /// [`SendManyError`] says why and gives back what was not taken.
    pub async fn send_many<T: Sendable>(
        &self,
        mut items: Vec<T>,
        timeout: Duration,
    ) -> Result<(), SendManyError<T>> {
        match self.0.outbox.send(&items, timeout).await {
            Ok(()) => Ok(()),
            Err(SendSliceError { reason, taken }) => {
                Err(SendManyError { reason, items: items.split_off(taken) })
            }
        }
    }

    /// Sends many, in order, and leaves them to the caller, who can fill the same memory again.
    ///
    /// # Errors
    ///
    /// [`SendSliceError`] says why, and how many from the front were taken.
    pub async fn send_slice<T: Sendable>(
        &self,
        items: &[T],
        timeout: Duration,
    ) -> Result<(), SendSliceError> {
        self.0.outbox.send(items, timeout).await
    }

    /// Sends one, and answers with a receipt that tells what became of it. As [`send`](Self::send).
    ///
    /// # Errors
    ///
    /// [`SendError`] says why and gives it back.
    pub async fn send_tracked<T: Sendable>(
        &self,
        item: T,
        timeout: Duration,
    ) -> Result<Receipt, SendError<T>> {
        let sent = self.0.outbox.send_tracked(&item, timeout).await;
        sent.map_err(|reason| SendError { reason, item: Box::new(item) })
    }

    /// Waits until everything accepted before is acknowledged, or was given up and counted as such.
    ///
    /// # Errors
    ///
    /// [`FlushError`]; nothing is lost by it.
    pub async fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        self.0.outbox.flush(timeout).await
    }

    /// Takes nothing more, sends what there is for at most `timeout`, and ends.
    ///
    /// With a spool, what is not acknowledged by then is kept for the next opening. Clones end too.
    ///
    /// # Errors
    ///
    /// [`CloseError`] without a spool, when something is not acknowledged: it is kept in memory and still
    /// being sent, and the close can be repeated.
    pub async fn close(&self, timeout: Duration) -> Result<CloseReport, CloseError> {
        let Inner { outbox, recovered, link, spooler, .. } = &*self.0;
        let deadline = deadline_after(timeout);
        outbox.end(SendReason::Closed);
        let spooler = spooler.lock().take();
        if let Some(spooler) = spooler {
            // What senders still wait for gets to disk first.
            let ended = tokio::task::spawn_blocking(move || spooler.join());
            let _ = timeout_at(deadline.max(Instant::now() + CLOSE_GRACE), ended).await;
        }
        let flushed = outbox.flush(deadline.saturating_duration_since(Instant::now())).await;
        let pending = outbox.lock().pending();
        if outbox.is_spooled() {
            // Earlier logs get the rest of the time; what is left of them stays too.
            for log in recovered {
                let mut progress = log.progress();
                let _ = timeout_at(deadline, progress.wait_for(|progress| progress.over)).await;
            }
        } else if pending > 0 {
            return Err(match &flushed {
                Err(FlushError::Ended(reason)) => CloseError::Ended { pending, reason: reason.clone() },
                _ => CloseError::Unacked { pending, timeout },
            });
        }
        link.tasks.close();
        let mut progress = outbox.progress();
        if flushed.is_ok() {
            // The session ends by itself: the server hears that this was all.
            let until = deadline.max(Instant::now() + CLOSE_GRACE);
            let _ = timeout_at(until, progress.wait_for(|progress| progress.over)).await;
        }
        link.cancelled.cancel();
        let _ = tokio::time::timeout(CLOSE_GRACE, link.tasks.wait()).await;
        opening::remove_if_drained(outbox).await;
        for outbox in recovered.iter().chain([outbox]) {
            outbox.release();
        }
        let counters = self.counters();
        let kept_in = link.config.spool.as_ref().map(|spool| spool.dir.clone());
        Ok(CloseReport {
            pending: counters.pending,
            kept_in: kept_in.filter(|_| counters.pending > 0),
            counters,
        })
    }

    /// What happens to the producer; the first call hears of everything since the opening.
    pub fn events(&self) -> EventStream {
        self.0.outbox.events.subscribe()
    }

    /// Counts since the opening.
    pub fn counters(&self) -> Counters {
        let mut counters = self.0.outbox.lock().counters();
        for log in &self.0.recovered {
            let left = log.lock().counters().recovered_batches;
            counters.recovered_batches += left;
            counters.recovered_logs += u64::from(left > 0);
        }
        counters
    }
}
