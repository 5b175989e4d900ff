//! The way to disk and back: batches that wait for their sync, and batches read from the spool.

use super::{Backlog, Gap, Sending, file_receipts};
use crate::{
    batch::{Sealed, SyncFailure, SyncWaiter},
    error::SendReason,
    spool::Frame,
};

/// What goes to disk with one sync, roughly: more makes nothing cheaper, and all wait for it.
const GROUP_BYTES: usize = 2 << 20;

impl Backlog {
    /// Whether something waits for a sync.
    pub(crate) fn has_unsynced(&self) -> bool {
        !self.open.is_empty() || self.sealed.back().is_some_and(|sealed| sealed.offset > self.ready)
    }

    /// The next group to bring to disk, as frames.
    pub(crate) fn unsynced(&mut self, now_us: i64) -> Vec<Frame> {
        if self.unsynced < GROUP_BYTES {
            self.seal(now_us);
        }
        let at = self.sealed.partition_point(|sealed| sealed.offset <= self.ready);
        let mut bytes = 0;
        let group = self.sealed.range(at..).take_while(|sealed| {
            let fits = bytes < GROUP_BYTES;
            bytes += sealed.held;
            fits
        });
        group.map(|sealed| sealed.frame(&self.table)).collect()
    }

    /// Everything up to `offset` is on disk. Answers with who waited for it.
    pub(crate) fn synced(&mut self, offset: u64) -> Vec<SyncWaiter> {
        let mut waiters = Vec::new();
        let at = self.sealed.partition_point(|sealed| sealed.offset <= self.ready);
        for sealed in self.sealed.range_mut(at..) {
            if sealed.offset > offset {
                break;
            }
            waiters.append(&mut sealed.waiters);
            self.counters.accepted += u64::from(sealed.items);
            self.unsynced -= sealed.held;
            file_receipts(&mut self.tracked, sealed);
        }
        self.ready = self.ready.max(offset);
        self.counters.syncs += 1;
        self.shed();
        waiters
    }

    /// Nothing that is not on disk yet will get there: it is given back to who sent it, and its
    /// offsets are free again. The open batch goes too, so that what is taken of a call is its front.
    pub(crate) fn unsynced_failed(&mut self, full: bool) -> Vec<SyncWaiter> {
        // Only what was lost to a full spool is tried again by its sender, who then has to wait.
        self.spool_full |= full;
        self.seal(0);
        let at = self.sealed.partition_point(|sealed| sealed.offset <= self.ready);
        let failed: Vec<Sealed> = self.sealed.drain(at..).collect();
        self.next_offset = self.ready + 1;
        self.held -= self.unsynced;
        self.unsynced = 0;
        failed.into_iter().flat_map(|sealed| sealed.waiters).collect()
    }

    /// Something may have gone from the spool.
    pub(crate) fn spool_trimmed(&mut self) {
        self.spool_full = false;
    }

    /// Highest offset that may be evicted from the spool now. Nothing while a session is open: it
    /// sends the oldest.
    pub(crate) fn evictable(&self) -> u64 {
        if self.sending.is_some() { 0 } else { self.ready }
    }

    /// Takes what the spool gave up. Answers with what is new.
    pub(crate) fn absorb_gaps(&mut self, gaps: &[Gap]) {
        self.gaps.absorb(gaps);
        let (gaps, held) = (&self.gaps, &mut self.held);
        self.sealed.retain(|sealed| {
            let keep = gaps.at(sealed.offset).is_none();
            if !keep {
                *held -= sealed.held;
            }
            keep
        });
    }

    /// Takes batches read from the spool for the session to send. Answers with one that is not ours.
    pub(crate) fn absorb_frames(&mut self, frames: &[Frame]) -> Option<u64> {
        for frame in frames {
            let offset = frame.offset;
            if offset <= self.decided || offset > self.ready || self.gaps.at(offset).is_some() {
                continue;
            }
            let at = self.sealed.partition_point(|sealed| sealed.offset < offset);
            if self.sealed.get(at).is_some_and(|sealed| sealed.offset == offset) {
                continue;
            }
            let Some(sealed) = Sealed::from_frame(frame, &mut self.table) else { return Some(offset) };
            self.held += sealed.held;
            self.sealed.insert(at, sealed);
        }
        self.shed();
        None
    }

    /// Drops from memory what the spool has too, until half of the buffer is free for what it has not.
    ///
    /// First what was sent, which is needed again only after a reconnect; then the newest, which is
    /// needed last.
    fn shed(&mut self) {
        let budget = self.limits.buffer_bytes / 2;
        let cursor = self.sending.as_ref().map_or(self.decided + 1, Sending::cursor);
        let on_disk = self.sealed.partition_point(|sealed| sealed.offset <= self.ready);
        let mut on_disk_bytes: usize = self.sealed.range(..on_disk).map(|sealed| sealed.held).sum();
        while on_disk_bytes > budget {
            let on_disk = self.sealed.partition_point(|sealed| sealed.offset <= self.ready);
            let at = match self.sealed.front() {
                Some(front) if front.offset < cursor => 0,
                // The next one to be sent stays in any case.
                _ if on_disk > 1 => on_disk - 1,
                _ => return,
            };
            let Some(sealed) = self.sealed.remove(at) else { return };
            on_disk_bytes -= sealed.held;
            self.held -= sealed.held;
        }
    }

    /// Why nothing can be sent any more, if the session ended for good.
    pub(crate) fn fatal(&self) -> Option<SendReason> {
        self.ended.clone().filter(|reason| !matches!(reason, SendReason::Closed))
    }
}

impl SyncFailure {
    /// What a sender is told.
    pub(crate) fn reason(&self, pending: u64) -> SendReason {
        match self {
            Self::Full => SendReason::Full { pending },
            Self::Disk(error) => SendReason::Spool(error.clone()),
        }
    }
}
