//! A backlog behind a lock, and the waking of who waits for it: senders, the session, the disk.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::{Condvar, Mutex, MutexGuard};
use tokio::{
    sync::{Notify, oneshot, watch},
    task::coop,
    time::Instant,
};
use uuid::Uuid;

use crate::{
    backlog::{Accepted, Backlog, Gap, Settled, Stop},
    batch::SyncReceiver,
    config::WhenFull,
    encode::Encode,
    error::{FlushError, SendReason, SendSliceError},
    event::{Event, Events},
    receipt::Receipt,
    spool::{GapReason, Log},
};

/// How long a sender waits for the disk before it gives up on knowing.
const SYNC_PATIENCE: Duration = Duration::from_mins(1);

/// What cannot be told from for ever.
const FOREVER: Duration = Duration::from_hours(24 * 365 * 10);

/// Items taken under one lock: the session needs it too.
const BUFFERED_ITEMS: usize = 4096;
/// The same with a spool, where each time costs a sync.
const SPOOLED_ITEMS: usize = 32_768;

/// How far the server is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Everything up to this offset is durable, or the server was told why not.
    pub(crate) decided: u64,
    /// It will not get further.
    pub(crate) over: bool,
}

/// Everything of one producer id that is shared between its senders, its session and the disk.
#[derive(Debug)]
pub(crate) struct Outbox {
    pub(crate) producer_id: Uuid,
    /// Whether batches go to a spool first.
    spooled: bool,
    /// The log on disk, until it is released.
    log: Mutex<Option<Arc<Log>>>,
    pub(crate) events: Events,
    when_full: WhenFull,
    backlog: Mutex<Backlog>,
    /// There may be something to send.
    wake: Notify,
    /// There may be room.
    room: Notify,
    /// There may be something to sync.
    unsynced: Condvar,
    progress: watch::Sender<Progress>,
}

impl Outbox {
    pub(crate) fn new(
        producer_id: Uuid,
        backlog: Backlog,
        log: Option<Arc<Log>>,
        when_full: WhenFull,
        events: Events,
    ) -> Self {
        let progress = Progress { decided: backlog.decided(), over: false };
        Self {
            producer_id,
            spooled: log.is_some(),
            log: Mutex::new(log),
            events,
            when_full,
            backlog: Mutex::new(backlog),
            wake: Notify::new(),
            room: Notify::new(),
            unsynced: Condvar::new(),
            progress: watch::Sender::new(progress),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Backlog> {
        self.backlog.lock()
    }

    /// Whether batches go to a spool first.
    pub(crate) fn is_spooled(&self) -> bool {
        self.spooled
    }

    /// The log on disk, if there is one and it is not released.
    pub(crate) fn log(&self) -> Option<Arc<Log>> {
        self.log.lock().clone()
    }

    /// Lets go of the log, so that the spool can be opened again.
    pub(crate) fn release(&self) {
        self.log.lock().take();
    }

    /// Sends items; answers when they are accepted, or how many were when one was not.
    pub(crate) async fn send<T: Encode>(&self, items: &[T], timeout: Duration) -> Result<(), SendSliceError> {
        self.send_until(items, timeout, &mut None).await
    }

    /// Sends one item, and answers with its receipt.
    pub(crate) async fn send_tracked<T: Encode>(
        &self,
        item: &T,
        timeout: Duration,
    ) -> Result<Receipt, SendReason> {
        let mut receipt = None;
        let sent = self.send_until(std::slice::from_ref(item), timeout, &mut Some(&mut receipt)).await;
        match (sent, receipt) {
            (Err(error), _) => Err(error.reason),
            (Ok(()), Some(receipt)) => Ok(receipt),
            // An item that was taken was given a receipt.
            (Ok(()), None) => Err(SendReason::Closed),
        }
    }

    async fn send_until<T: Encode>(
        &self,
        items: &[T],
        timeout: Duration,
        receipt: &mut Option<&mut Option<Receipt>>,
    ) -> Result<(), SendSliceError> {
        let mut deadline = None;
        let mut at = 0;
        loop {
            // Sends that never wait must not keep a runtime of one thread from carrying them away.
            coop::consume_budget().await;
            // Hears of any room made from here on.
            let room = self.room.notified();
            let end = items.len().min(at + if self.spooled { SPOOLED_ITEMS } else { BUFFERED_ITEMS });
            let Accepted { taken, stopped, syncs, .. } = self.accept(&items[at..end], receipt);
            // Before anything behind it is accepted, so that what is taken is always the front.
            match (self.synced(syncs).await, stopped) {
                (Ok(()), None) if end == items.len() => return Ok(()),
                (Ok(()), None) => {
                    at = end;
                    continue;
                }
                (Ok(()), Some(Stop::Refused(reason))) => {
                    return Err(SendSliceError { reason, taken: at + taken });
                }
                (Ok(()), Some(Stop::Full)) => at += taken,
                // The spool turned out to be full: these go in again when there is room.
                (Err((start, SendReason::Full { .. })), _) => at += start,
                (Err((start, reason)), _) => return Err(SendSliceError { reason, taken: at + start }),
            }
            let deadline = *deadline.get_or_insert_with(|| deadline_after(timeout));
            if self.when_full == WhenFull::Reject || tokio::time::timeout_at(deadline, room).await.is_err() {
                let reason = SendReason::Full { pending: self.lock().pending() };
                return Err(SendSliceError { reason, taken: at });
            }
        }
    }

    fn accept<T: Encode>(&self, items: &[T], receipt: &mut Option<&mut Option<Receipt>>) -> Accepted {
        let (mut answer, waiting) = match receipt {
            Some(_) => {
                let (answer, waiting) = oneshot::channel();
                (Some(answer), Some(Receipt(waiting)))
            }
            None => (None, None),
        };
        let accepted =
            self.lock().accept(items, now_us(), Instant::now(), answer.is_some().then_some(&mut answer));
        if let Some(receipt) = receipt
            && accepted.taken > 0
        {
            **receipt = waiting;
        }
        if accepted.wake {
            if self.spooled {
                self.unsynced.notify_one();
            } else {
                self.wake.notify_one();
            }
        }
        for gap in &accepted.evicted {
            self.tell_of(gap);
        }
        accepted
    }

    /// Waits until the disk has the batches; answers with the first item that it does not have.
    async fn synced(&self, syncs: Vec<(usize, SyncReceiver)>) -> Result<(), (usize, SendReason)> {
        for (start, sync) in syncs {
            let reason = match tokio::time::timeout(SYNC_PATIENCE, sync).await {
                Ok(Ok(Ok(()))) => continue,
                Ok(Ok(Err(failure))) => failure.reason(self.lock().pending()),
                Ok(Err(_)) => SendReason::Closed,
                Err(_) => SendReason::Unconfirmed(SYNC_PATIENCE),
            };
            return Err((start, reason));
        }
        Ok(())
    }

    /// Waits until everything accepted so far is decided.
    pub(crate) async fn flush(&self, timeout: Duration) -> Result<(), FlushError> {
        let target = self.lock().flush();
        self.wake.notify_one();
        let mut progress = self.progress.subscribe();
        let reached = progress.wait_for(|progress| progress.decided >= target || progress.over);
        let reached = tokio::time::timeout(timeout, reached).await;
        let backlog = self.lock();
        match reached {
            Ok(Ok(progress)) if progress.decided >= target => Ok(()),
            Ok(_) => Err(FlushError::Ended(backlog.fatal().unwrap_or(SendReason::Closed))),
            Err(_) => Err(FlushError::Timeout { pending: backlog.pending(), timeout }),
        }
    }

    /// Takes nothing more; what is accepted is still sent, unless the reason is final.
    pub(crate) fn end(&self, reason: SendReason) {
        let fatal = {
            let mut backlog = self.lock();
            backlog.end(reason);
            backlog.fatal().is_some()
        };
        if fatal {
            self.over();
        }
        self.wake.notify_one();
        self.room.notify_waiters();
        self.unsynced.notify_one();
    }

    /// Nothing more will be decided.
    pub(crate) fn over(&self) {
        self.lock().forget_receipts();
        self.progress.send_modify(|progress| progress.over = true);
    }

    pub(crate) fn progress(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Waits until there may be something new to send.
    pub(crate) async fn woken(&self) {
        self.wake.notified().await;
    }

    /// Lets the session look again.
    pub(crate) fn wake(&self) {
        self.wake.notify_one();
    }

    /// Lets senders that wait for room look again.
    pub(crate) fn made_room(&self) {
        self.room.notify_waiters();
    }

    /// Waits for something to sync; for the thread that syncs.
    pub(crate) fn wait_unsynced(&self, backlog: &mut MutexGuard<'_, Backlog>) {
        self.unsynced.wait(backlog);
    }

    /// A session is over, and what it had sent may be given up: lets senders that wait for room look again.
    pub(crate) fn may_evict(&self) {
        if self.spooled {
            // Those of the live producer wait for room in the whole spool: who trims it wakes them.
            self.progress.send_modify(|_| {});
        } else {
            self.made_room();
        }
    }

    /// After an answer of the server: lets everybody look again who waits for one.
    pub(crate) fn settled(&self, settled: &Settled) {
        if let Some((_, decided)) = settled.offsets {
            self.progress.send_modify(|progress| progress.decided = decided);
            if !self.spooled {
                self.made_room();
            }
        }
    }

    /// The server has forgotten what is behind an offset, and gets it again.
    pub(crate) fn set_back(&self, decided: u64) {
        self.progress.send_modify(|progress| progress.decided = decided);
    }

    /// Tells of batches that were given up.
    pub(crate) fn tell_of(&self, gap: &Gap) {
        let Gap { first, last, items, reason } = *gap;
        let producer_id = self.producer_id;
        match reason {
            GapReason::Evicted => self.events.send(Event::Evicted { producer_id, first, last, items }),
            GapReason::Expired => self.events.send(Event::Expired { producer_id, first, last, items }),
            GapReason::Lost => self.events.send(Event::Lost { producer_id, first, last, items }),
            // Has an event of its own, with the place it went to.
            GapReason::Poisoned => {}
        }
    }
}

/// The end of a wait that begins now, however long the caller is ready to wait.
pub(crate) fn deadline_after(timeout: Duration) -> Instant {
    let now = Instant::now();
    now.checked_add(timeout).unwrap_or_else(|| now + FOREVER)
}

/// Now, microseconds since 1970 UTC.
pub(crate) fn now_us() -> i64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
}
