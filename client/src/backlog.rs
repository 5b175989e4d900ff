//! Everything of one producer whose fate is not known yet, and every decision about it.
//!
//! Plain sequential code: no I/O, no clock, no tasks, so that it can be tested against a model.
//! [`Outbox`](crate::outbox::Outbox) puts a lock around it and wakes who waits.
//!
//! ```text
//!       accept            seal          (sync)         send            ack
//! item ───────▶ open batch ────▶ sealed ───────▶ ready ─────▶ in flight ────▶ decided
//! ```

use std::{
    collections::{BTreeMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use tokio::{sync::oneshot, time::Instant};

use herdstream_proto::limits::{MAX_BATCH_BYTES, MAX_STREAM_SERIES};

use crate::{
    batch::{HEAD_BYTES, ITEM_OVERHEAD, OpenBatch, Sealed, SeriesTable, SyncFailure, SyncReceiver, Tracked},
    config::{ProducerConfig, WhenFull},
    counters::Counters,
    encode::Encode,
    error::SendReason,
    receipt::{Outcome, ReceiptError},
    spool::GapReason,
};

mod gaps;
mod sending;
mod spooling;
#[cfg(test)]
mod tests;

pub(crate) use gaps::Gap;
use gaps::Gaps;
use sending::Sending;
pub(crate) use sending::{Next, Settled, Violation};

/// The part of the configuration that decides about batches.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) batch_readings: usize,
    pub(crate) batch_bytes: usize,
    pub(crate) buffer_bytes: usize,
    pub(crate) linger: Duration,
    pub(crate) max_age: Option<Duration>,
    pub(crate) when_full: WhenFull,
    pub(crate) spooled: bool,
}

impl Limits {
    pub(crate) fn of(config: &ProducerConfig) -> Self {
        Self {
            batch_readings: config.batch_readings,
            // Two batches must fit into the buffer, or one could neither leave nor let another in.
            batch_bytes: config.batch_bytes.min(config.buffer_bytes / 2),
            buffer_bytes: config.buffer_bytes,
            linger: config.linger,
            max_age: config.max_age,
            when_full: config.when_full,
            spooled: config.spool.is_some(),
        }
    }
}

/// A batch that was put on the wire in some session.
#[derive(Clone, Copy, Debug)]
struct Sent {
    offset: u64,
    items: u32,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Backlog {
    limits: Limits,
    table: SeriesTable,
    open: OpenBatch,
    /// Offset that the open batch will get.
    next_offset: u64,
    /// In memory, by offset. With a spool some may be missing: they are read from it.
    sealed: VecDeque<Sealed>,
    /// Memory that `sealed` takes, and the part of it that is not on disk yet.
    held: usize,
    unsynced: usize,
    /// Highest offset that may be sent. With a spool: that is synced.
    ready: u64,
    /// The spool had no room for the last batches; nothing has gone from it since.
    spool_full: bool,
    /// Highest offset that the server said is durable.
    decided: u64,
    gaps: Gaps,
    /// Batches beyond `decided` that may have been committed, by offset.
    sent: VecDeque<Sent>,
    /// Highest offset ever put on the wire, skips included.
    sent_upto: u64,
    /// Who wants to know what becomes of an item, by offset.
    tracked: BTreeMap<u64, Vec<Tracked>>,
    sending: Option<Sending>,
    /// Why nothing more is taken.
    ended: Option<SendReason>,
    /// A log that an earlier opening left: its items do not count here.
    recovered: bool,
    /// Items that the server has, stored or in quarantine.
    acked: u64,
    counters: Counters,
}

/// What [`Backlog::accept`] did.
#[derive(Debug, Default)]
pub(crate) struct Accepted {
    /// Items taken, from the front.
    pub(crate) taken: usize,
    /// Why not all.
    pub(crate) stopped: Option<Stop>,
    /// With a spool: the first item in each batch, and where to hear that the batch is on disk.
    pub(crate) syncs: Vec<(usize, SyncReceiver)>,
    /// There is something new to send or to sync.
    pub(crate) wake: bool,
    /// What was given up to make room.
    pub(crate) evicted: Vec<Gap>,
}

/// Why an item was not taken.
#[derive(Debug)]
pub(crate) enum Stop {
    /// No room now.
    Full,
    /// It never will be.
    Refused(SendReason),
}

impl Backlog {
    /// Nothing yet.
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            limits,
            table: SeriesTable::new(),
            open: OpenBatch::default(),
            next_offset: 1,
            sealed: VecDeque::new(),
            held: 0,
            unsynced: 0,
            ready: 0,
            spool_full: false,
            decided: 0,
            gaps: Gaps::default(),
            sent: VecDeque::new(),
            sent_upto: 0,
            tracked: BTreeMap::new(),
            sending: None,
            ended: None,
            recovered: false,
            acked: 0,
            counters: Counters::default(),
        }
    }

    /// What an earlier opening left in the spool.
    pub(crate) fn recovered(limits: Limits, next_offset: u64, acked: u64, gaps: &[Gap]) -> Self {
        let mut backlog = Self { next_offset, ready: next_offset - 1, decided: acked, ..Self::new(limits) };
        backlog.recovered = true;
        backlog.gaps.absorb(gaps);
        backlog
    }

    /// Adds a series, which is not there yet.
    pub(crate) fn add_series(&mut self, encode: impl FnOnce(u32) -> Vec<u8>) -> Option<u32> {
        (self.table.len() < MAX_STREAM_SERIES).then(|| self.table.add(encode))
    }

    /// Takes items from the front as far as there is room, and encodes them.
    pub(crate) fn accept<T: Encode>(
        &mut self,
        items: &[T],
        now_us: i64,
        now: Instant,
        mut track: Option<&mut Option<oneshot::Sender<Result<Outcome, ReceiptError>>>>,
    ) -> Accepted {
        let mut accepted = Accepted::default();
        let was_empty = self.open.is_empty();
        // Where the items that are in the open batch begin.
        let mut batch_start = 0;
        for (index, item) in items.iter().enumerate() {
            let size = match self.check(item) {
                Ok(size) => size,
                Err(reason) => {
                    accepted.stopped = Some(Stop::Refused(reason));
                    break;
                }
            };
            if !self.make_room(size + ITEM_OVERHEAD, &mut accepted.evicted) {
                accepted.stopped = Some(Stop::Full);
                break;
            }
            if !self.open.is_empty() && self.open.bytes() + size > self.limits.batch_bytes {
                self.wait_for_sync(&mut accepted, batch_start, index);
                batch_start = index;
                self.seal(now_us);
                accepted.wake = true;
            }
            self.open.since.get_or_insert(now);
            self.open.push(item, now_us, &mut self.table);
            if let Some(answer) = track.as_mut().and_then(|track| track.take()) {
                self.open.track(item.series().is_some(), answer);
            }
            accepted.taken += 1;
            if self.open.items() as usize >= self.limits.batch_readings {
                self.wait_for_sync(&mut accepted, batch_start, index + 1);
                batch_start = index + 1;
                self.seal(now_us);
                accepted.wake = true;
            }
        }
        let taken = accepted.taken;
        self.wait_for_sync(&mut accepted, batch_start, taken);
        if !self.limits.spooled {
            self.counters.accepted += accepted.taken as u64;
        }
        accepted.wake |= was_empty && accepted.taken > 0;
        accepted
    }

    /// Whether the item can be taken at all, and an upper bound of its encoded size with its series.
    #[inline]
    fn check<T: Encode>(&self, item: &T) -> Result<usize, SendReason> {
        if let Some(reason) = &self.ended {
            return Err(reason.clone());
        }
        let mut bytes = item.bound();
        if let Some(series) = item.series() {
            if !self.table.knows(series.0) {
                return Err(SendReason::UnknownSeries(series.0));
            }
            bytes += self.table.unmarked_bytes(series.0);
        }
        let limit = MAX_BATCH_BYTES.min(self.limits.buffer_bytes / 2) - HEAD_BYTES;
        if bytes > limit {
            return Err(SendReason::TooLarge { bytes, limit });
        }
        Ok(bytes)
    }

    /// Whether `bytes` more fit, evicting if that is wanted.
    #[inline]
    fn make_room(&mut self, bytes: usize, evicted: &mut Vec<Gap>) -> bool {
        let limit = self.limits.buffer_bytes;
        if self.limits.spooled {
            return !self.spool_full && self.unsynced + self.open.held() + bytes <= limit / 2;
        }
        while self.held + self.open.held() + bytes > limit {
            if self.limits.when_full != WhenFull::EvictOldest {
                return false;
            }
            match self.evict_oldest() {
                Some(gap) => gaps::push(evicted, gap),
                None => return false,
            }
        }
        true
    }

    /// Gives up the oldest batch in memory that was not sent in this session.
    fn evict_oldest(&mut self) -> Option<Gap> {
        let from = self.sending.as_ref().map_or(0, Sending::cursor);
        let at = self.sealed.partition_point(|sealed| sealed.offset < from);
        self.give_up(at, GapReason::Evicted)
    }

    /// Removes a batch from memory and remembers why. Its fate counts when the server is told.
    fn give_up(&mut self, at: usize, reason: GapReason) -> Option<Gap> {
        let Sealed { offset, items, .. } = *self.sealed.get(at)?;
        let sealed = self.sealed.remove(at)?;
        self.held -= sealed.held;
        let gap = Gap { first: offset, last: offset, items: u64::from(items), reason };
        // What may have been committed stays apart: Opened may show that some of it was.
        self.gaps.insert(gap, self.sent_upto);
        Some(gap)
    }

    fn wait_for_sync(&mut self, accepted: &mut Accepted, start: usize, end: usize) {
        if self.limits.spooled && start < end {
            let (waiter, receiver) = oneshot::channel();
            self.open.waiters.push(waiter);
            accepted.syncs.push((start, receiver));
        }
    }

    /// Gives the open batch its offset.
    fn seal(&mut self, now_us: i64) {
        if self.open.is_empty() {
            return;
        }
        let mut sealed = self.open.seal(self.next_offset, now_us, &mut self.table);
        self.held += sealed.held;
        self.next_offset += 1;
        if self.limits.spooled {
            self.unsynced += sealed.held;
        } else {
            self.ready = sealed.offset;
            file_receipts(&mut self.tracked, &mut sealed);
        }
        self.sealed.push_back(sealed);
    }

    /// Seals what there is, and answers with the offset that covers everything accepted so far.
    pub(crate) fn flush(&mut self) -> u64 {
        if self.limits.spooled {
            // What is not synced is not accepted yet.
            return self.ready;
        }
        if self.open.is_empty() {
            return self.next_offset - 1;
        }
        self.open.urgent = true;
        self.next_offset
    }

    /// Takes nothing more.
    pub(crate) fn end(&mut self, reason: SendReason) {
        self.ended.get_or_insert(reason);
    }

    /// Why nothing more is taken.
    pub(crate) fn ended(&self) -> Option<&SendReason> {
        self.ended.as_ref()
    }

    /// Drops every receipt: nobody will answer any more.
    pub(crate) fn forget_receipts(&mut self) {
        self.tracked.clear();
        self.open.tracked.clear();
    }

    /// Highest offset that the server said is durable.
    pub(crate) fn decided(&self) -> u64 {
        self.decided
    }

    /// Whether the server has everything, or was told why not.
    pub(crate) fn is_drained(&self) -> bool {
        self.open.is_empty() && self.decided + 1 >= self.next_offset
    }

    /// Counts now.
    pub(crate) fn counters(&self) -> Counters {
        let mut counters = self.counters;
        counters.stored = self.acked.saturating_sub(counters.quarantined);
        counters.pending = self.pending();
        counters.buffered_bytes = (self.held + self.open.held()) as u64;
        if self.recovered {
            counters.recovered_batches = (self.next_offset - 1).saturating_sub(self.decided);
        }
        counters
    }

    /// Accepted, their fate not known.
    pub(crate) fn pending(&self) -> u64 {
        let Counters { accepted, evicted, expired, poisoned, lost, .. } = self.counters;
        accepted.saturating_sub(self.acked + evicted + expired + poisoned + lost)
    }

    /// Counts a session, or an attempt, that ended.
    pub(crate) fn count_disconnect(&mut self) {
        self.counters.disconnects += 1;
    }

    /// The batch of an offset, if it is in memory.
    fn find(&self, offset: u64) -> Option<usize> {
        // Almost always the batches are contiguous, and then the place is known.
        let first = self.sealed.front()?.offset;
        let guess = usize::try_from(offset.checked_sub(first)?).ok()?;
        if self.sealed.get(guess).is_some_and(|sealed| sealed.offset == offset) {
            return Some(guess);
        }
        self.sealed.binary_search_by_key(&offset, |sealed| sealed.offset).ok()
    }
}

/// Files the receipts of a batch under its offset: they outlive the batch in memory.
fn file_receipts(tracked: &mut BTreeMap<u64, Vec<Tracked>>, sealed: &mut Sealed) {
    if !sealed.tracked.is_empty() {
        tracked.insert(sealed.offset, std::mem::take(&mut sealed.tracked));
    }
}

/// Shared failure of a group of batches.
pub(crate) fn disk_failure(error: crate::spool::SpoolError) -> SyncFailure {
    SyncFailure::Disk(Arc::new(error))
}
