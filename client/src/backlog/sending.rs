//! One session: what to put on the wire next, and what the server's answers mean.

use std::collections::VecDeque;

use bytes::Bytes;
use herdstream_proto::v1;
use tokio::time::Instant;

use super::{Backlog, Gap, Sent, gaps::skip_reason};
use crate::{
    batch::{Known, Tracked},
    receipt::Outcome,
    spool::GapReason,
};

/// The session that is open.
#[derive(Debug)]
pub(super) struct Sending {
    /// Next offset to put on the wire.
    cursor: u64,
    /// Up to here the server has forgotten what it had acknowledged.
    forgotten_upto: u64,
    /// Bytes of batches sent, and allowed to be sent, since the session was opened.
    used: u64,
    allowed: u64,
    /// What is on the wire: last offset, and whether it is a batch.
    in_flight: VecDeque<(u64, bool)>,
    batches_in_flight: usize,
    known: Known,
    /// One past the highest offset that the server knows to be assigned.
    announced: u64,
    /// What the server said is durable in this session.
    committed: u64,
    /// Up to here one batch at a time, to see which one the server refuses.
    alone_upto: u64,
    /// The server stops: send nothing more.
    draining: bool,
}

impl Sending {
    pub(super) fn cursor(&self) -> u64 {
        self.cursor
    }

    fn fits(&self, bytes: usize) -> bool {
        self.batches_in_flight == 0
            || (self.committed >= self.alone_upto && self.used + bytes as u64 <= self.allowed)
    }
}

/// What to do next in a session.
#[derive(Debug)]
pub(crate) enum Next {
    /// Send this batch, encoded in two parts.
    Batch { head: Bytes, body: Bytes },
    /// Send this.
    Skip(v1::Skip),
    /// Read this offset from the spool, and ask again.
    Read(u64),
    /// Nothing until something changes, or until then.
    Wait(Option<Instant>),
    /// Nothing ever: half-close.
    Finish,
    /// Open the session again: the server knows too little of the log.
    Reopen,
}

/// What the opening of a session showed.
#[derive(Debug)]
pub(crate) struct Begun {
    /// What became known.
    pub(crate) settled: Settled,
    /// Offsets that the server had acknowledged and no longer has.
    pub(crate) forgotten: Option<(u64, u64)>,
    /// Batches that were too old to be sent.
    pub(crate) expired: Vec<Gap>,
}

/// What an answer of the server settled.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// Offsets that are decided now: first and last, if any.
    pub(crate) offsets: Option<(u64, u64)>,
    /// Who wants to know what became of an item in them.
    pub(crate) receipts: Vec<(u64, Vec<Tracked>)>,
    /// How many more the server refused than was known.
    pub(crate) quarantined: u64,
}

/// The server claims more than it can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation {
    /// What the server says is durable.
    pub(crate) committed: u64,
    /// The highest offset that was sent.
    pub(crate) sent: u64,
}

impl Backlog {
    /// The offsets that open a session: the first one held, and one past the highest assigned.
    pub(crate) fn range(&self) -> (u64, u64) {
        let next = self.ready + 1;
        (self.sealed.front().map_or(next, |sealed| sealed.offset.min(next)), next)
    }

    /// A session is open. Batches up to `alone_upto` are sent one at a time; those in `held` were decided,
    /// the last of them being the last that was, are not any more, and are still in the spool.
    ///
    /// # Errors
    ///
    /// When the server has offsets that were never sent: somebody else uses this producer's id.
    pub(crate) fn begin(
        &mut self,
        opened: &v1::Opened,
        announced: u64,
        alone_upto: u64,
        now_us: i64,
        held: &[(u64, u32)],
    ) -> Result<Begun, Violation> {
        let mut committed = opened.committed_offset;
        if self.recovered {
            // An older copy of this log may know less than was sent from it. What is new since then went
            // to another producer, so there is nothing to mix up.
            committed = committed.min(self.next_offset - 1);
        } else if committed > self.sent_upto {
            return Err(Violation { committed, sent: self.sent_upto });
        }
        self.take_back(held);
        let forgotten = (committed < self.decided).then_some((committed + 1, self.decided));
        let settled = self.settle(committed, opened.totals.as_ref());
        self.sending = Some(Sending {
            cursor: committed + 1,
            forgotten_upto: self.decided,
            used: 0,
            allowed: opened.credit.as_ref().map_or(0, |credit| credit.max_bytes),
            in_flight: VecDeque::new(),
            batches_in_flight: 0,
            known: Known::default(),
            announced,
            committed,
            alone_upto,
            draining: false,
        });
        self.counters.sessions += 1;
        Ok(Begun { settled, forgotten, expired: self.expire(now_us) })
    }

    fn take_back(&mut self, held: &[(u64, u32)]) {
        let Some((first, _)) = held.first() else { return };
        self.decided = first - 1;
        if !self.recovered {
            for &(offset, items) in held.iter().rev() {
                self.acked -= u64::from(items);
                self.sent.push_front(Sent { offset, items });
            }
            self.counters.quarantined = self.counters.quarantined.min(self.acked);
        }
    }

    /// The server has forgotten what it had acknowledged, and it is not held any more.
    pub(crate) fn forget(&mut self, upto: u64) {
        if let Some(sending) = &mut self.sending {
            sending.forgotten_upto = sending.forgotten_upto.max(upto);
        }
    }

    /// Gives up what is too old, in memory. With a spool the batches are on disk, and expire there.
    fn expire(&mut self, now_us: i64) -> Vec<Gap> {
        let mut expired = Vec::new();
        if let Some(too_old) = self.too_old(now_us).filter(|_| !self.limits.spooled) {
            while self.sealed.front().is_some_and(|sealed| sealed.at_us < too_old) {
                if let Some(gap) = self.give_up(0, GapReason::Expired) {
                    super::gaps::push(&mut expired, gap);
                }
            }
        }
        expired
    }

    /// What was sealed before this is too old to be sent.
    pub(crate) fn too_old(&self, now_us: i64) -> Option<i64> {
        let age = i64::try_from(self.limits.max_age?.as_micros()).unwrap_or(i64::MAX);
        Some(now_us.saturating_sub(age))
    }

    /// The session is over. Answers whether there was one.
    pub(crate) fn stop_sending(&mut self) -> bool {
        self.sending.take().is_some()
    }

    /// The first batch on the wire: the one that the server refuses, if it refuses one.
    pub(crate) fn head_in_flight(&self) -> Option<u64> {
        self.sending.as_ref()?.in_flight.iter().find(|(_, batch)| *batch).map(|(offset, _)| *offset)
    }

    /// The server stops: nothing more goes to it.
    pub(crate) fn drain(&mut self) {
        if let Some(sending) = &mut self.sending {
            sending.draining = true;
        }
    }

    /// The server allows so many bytes of batches since the session was opened.
    pub(crate) fn allow(&mut self, max_bytes: u64) {
        if let Some(sending) = &mut self.sending {
            sending.allowed = sending.allowed.max(max_bytes);
        }
    }

    /// What to put on the wire next. It counts as sent.
    pub(crate) fn next(&mut self, now: Instant, now_us: i64) -> Next {
        loop {
            let Some(sending) = &self.sending else { return Next::Wait(None) };
            if sending.draining {
                return Next::Finish;
            }
            let cursor = sending.cursor;
            if cursor > self.ready {
                match self.next_unsealed(now) {
                    Some(wait) => return wait,
                    None => self.seal(now_us),
                }
                continue;
            }
            if cursor <= sending.forgotten_upto {
                return self.skip(sending.forgotten_upto, 0, v1::SkipReason::Acked);
            }
            if let Some(gap) = self.gaps.at(cursor) {
                if gap.last >= sending.announced {
                    return Next::Reopen;
                }
                self.count(gap);
                return self.skip(gap.last, gap.items, skip_reason(gap.reason));
            }
            return match self.find(cursor) {
                Some(at) => self.send(at),
                None if self.limits.spooled => Next::Read(cursor),
                // In memory every offset is held, given up or decided.
                None => {
                    self.lose(cursor);
                    continue;
                }
            };
        }
    }

    /// Everything sealed is sent: whether to wait for the open batch to fill. `None`: seal it now.
    ///
    /// It leaves at once when nothing is under way. Otherwise it fills until the linger is over, and in
    /// any case while there is no credit for it, so that batches are full when the server is busy.
    fn next_unsealed(&self, now: Instant) -> Option<Next> {
        let sending = self.sending.as_ref()?;
        let Some(since) = self.open.since.filter(|_| !self.limits.spooled) else {
            let finished = (self.ended.is_some() || self.recovered) && self.is_drained();
            return Some(if finished { Next::Finish } else { Next::Wait(None) });
        };
        if !sending.fits(self.open.bytes()) {
            return Some(Next::Wait(None));
        }
        let due = since + self.limits.linger;
        let now_or_never = self.open.urgent || sending.batches_in_flight == 0 || now >= due;
        (!now_or_never).then_some(Next::Wait(Some(due)))
    }

    fn send(&mut self, at: usize) -> Next {
        let Some(sending) = &mut self.sending else { return Next::Wait(None) };
        let sealed = &self.sealed[at];
        let bytes = sealed.wire_bytes(&self.table, &sending.known);
        if !sending.fits(bytes) {
            return Next::Wait(None);
        }
        let (head, body) = sealed.parts(&self.table, &mut sending.known);
        sending.used += bytes as u64;
        sending.cursor += 1;
        sending.announced = sending.announced.max(sending.cursor);
        sending.in_flight.push_back((sealed.offset, true));
        sending.batches_in_flight += 1;
        if sealed.offset > self.sent_upto {
            self.sent_upto = sealed.offset;
            self.sent.push_back(Sent { offset: sealed.offset, items: sealed.items });
        }
        self.counters.batches_sent += 1;
        self.counters.bytes_sent += bytes as u64;
        Next::Batch { head, body }
    }

    fn skip(&mut self, last: u64, items: u64, reason: v1::SkipReason) -> Next {
        let Some(sending) = &mut self.sending else { return Next::Wait(None) };
        let first = sending.cursor;
        sending.cursor = last + 1;
        sending.in_flight.push_back((last, false));
        self.sent_upto = self.sent_upto.max(last);
        Next::Skip(v1::Skip { first, last, readings: items, reason: reason.into() })
    }

    /// The server did not have what is in a gap, and now never will: that is its fate.
    fn count(&mut self, gap: Gap) {
        if !self.gaps.count(gap.first) || self.recovered {
            return;
        }
        let (counter, outcome) = match gap.reason {
            GapReason::Evicted => (&mut self.counters.evicted, Outcome::Evicted),
            GapReason::Expired => (&mut self.counters.expired, Outcome::Expired),
            GapReason::Poisoned => (&mut self.counters.poisoned, Outcome::Poisoned),
            GapReason::Lost => (&mut self.counters.lost, Outcome::Lost),
        };
        *counter += gap.items;
        self.sent.retain(|sent| sent.offset < gap.first || sent.offset > gap.last);
        let mut behind = self.tracked.split_off(&gap.first);
        self.tracked.append(&mut behind.split_off(&(gap.last + 1)));
        for tracked in behind.into_values().flatten() {
            // Whoever dropped the receipt does not want to know.
            let _ = tracked.answer.send(Ok(outcome.clone()));
        }
    }

    fn lose(&mut self, offset: u64) {
        let gap = Gap { first: offset, last: offset, items: 0, reason: GapReason::Lost };
        self.gaps.insert(gap, self.sent_upto);
    }

    /// Everything up to an offset is durable.
    ///
    /// # Errors
    ///
    /// When that was never sent in this session.
    pub(crate) fn ack(&mut self, ack: &v1::Ack) -> Result<Settled, Violation> {
        let committed = ack.committed_offset;
        let Some(sending) = &mut self.sending else { return Ok(Settled::default()) };
        if committed >= sending.cursor {
            return Err(Violation { committed, sent: sending.cursor - 1 });
        }
        sending.committed = sending.committed.max(committed);
        while let Some(&(_, batch)) = sending.in_flight.front().filter(|(last, _)| *last <= committed) {
            sending.batches_in_flight -= usize::from(batch);
            sending.in_flight.pop_front();
        }
        if let Some(credit) = &ack.credit {
            self.allow(credit.max_bytes);
        }
        self.counters.acks += 1;
        Ok(self.settle(committed, ack.totals.as_ref()))
    }

    fn settle(&mut self, committed: u64, totals: Option<&v1::Totals>) -> Settled {
        let mut settled = Settled::default();
        if committed > self.decided {
            settled.offsets = Some((self.decided + 1, committed));
            settled.receipts = self.decide(committed);
        }
        if let Some(totals) = totals.filter(|_| !self.recovered) {
            // Whatever a server says: no more can be in quarantine than it has of us.
            let quarantined = totals.quarantined.min(self.acked);
            settled.quarantined = quarantined.saturating_sub(self.counters.quarantined);
            self.counters.quarantined += settled.quarantined;
            self.counters.duplicate = self.counters.duplicate.max(totals.duplicate);
        }
        settled
    }

    fn decide(&mut self, committed: u64) -> Vec<(u64, Vec<Tracked>)> {
        self.decided = committed;
        while let Some(sealed) = self.sealed.front().filter(|sealed| sealed.offset <= committed) {
            self.held -= sealed.held;
            self.sealed.pop_front();
        }
        while let Some(sent) = self.sent.front().filter(|sent| sent.offset <= committed) {
            self.acked += u64::from(sent.items);
            self.sent.pop_front();
        }
        self.gaps.cut(committed);
        let behind = self.tracked.split_off(&(committed + 1));
        std::mem::replace(&mut self.tracked, behind).into_iter().collect()
    }

    /// Takes a batch out that the server refuses again and again: its items, and the encoded batch.
    /// With a spool, it is the spool that does.
    pub(crate) fn take_poisoned(&mut self, offset: u64) -> Option<(u64, Bytes)> {
        let at = self.find(offset)?;
        let batch = self.sealed[at].whole(&self.table);
        self.give_up(at, GapReason::Poisoned).map(|gap| (gap.items, batch))
    }
}
