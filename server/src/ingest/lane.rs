//! A lane owns the producers hashed to it: everything about one of them passes through its queue,
//! so that order and fencing are sequential code.

use std::{
    cmp::Ordering,
    collections::HashMap,
    ops::ControlFlow,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use tokio::{sync::mpsc, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{
    Status,
    group::{Group, Opening, Reply, Waiting, Written, refused_rows},
    outbox::Outbox,
    pool::MessagePermit,
    write::WriteReply,
};
use crate::{
    error::Error,
    model::{
        Milking, Offset, ProducerId, ProducerRow, Quarantined, Reading, Rejection, RejectionKind, Totals,
    },
    ops::metrics,
    store::{OpenSession, Outcome, Store},
};

/// Commands that may wait. What they carry is bounded by the byte pool.
const QUEUE: usize = 4096;

/// Rows of producers without a session that a lane remembers for the next write.
const KNOWN: usize = 65_536;

/// First and longest pause before a failed commit is tried again.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(2));

/// Handle of a lane.
#[derive(Debug)]
pub(super) struct Lane {
    queue: mpsc::Sender<Command>,
    task: TaskTracker,
}

/// Something about one producer.
#[derive(Debug)]
pub(super) enum Command {
    /// Opens a session; answered after everything queued before it.
    Open { producer: ProducerId, open: OpenSession, opening: Opening },
    /// The next entry of a session.
    Append { producer: ProducerId, epoch: u64, outbox: Arc<Outbox>, entry: Entry },
    /// A session of one batch.
    Write { producer: ProducerId, open: OpenSession, entry: Entry, reply: Reply<WriteReply> },
    /// A batch of nobody.
    WriteOnce { producer: ProducerId, entry: Entry, reply: Reply<WriteReply> },
    /// A session's stream is gone.
    Close { producer: ProducerId, epoch: u64 },
}

/// One step of a producer's log.
#[derive(Debug)]
pub(super) struct Entry {
    /// Committed offset after it.
    pub(super) committed_offset: Offset,
    /// What it adds.
    pub(super) totals: Totals,
    pub(super) readings: Vec<Reading>,
    pub(super) milkings: Vec<Milking>,
    pub(super) quarantined: Vec<Quarantined>,
    /// Encoded bytes of its batch, as credit counts them.
    pub(super) batch_bytes: u64,
    pub(super) permit: MessagePermit,
    /// What the rows take, beside what the message took.
    pub(super) rows_permit: MessagePermit,
    pub(super) pending: Pending,
}

impl Entry {
    /// What remains of it when its offset was committed before: a count.
    pub(super) fn repeated(self, committed_offset: Offset) -> Self {
        let rows = self.readings.len() + self.milkings.len() + self.quarantined_rows();
        Self {
            committed_offset,
            totals: Totals { duplicate: rows as u64, ..Totals::default() },
            readings: Vec::new(),
            milkings: Vec::new(),
            quarantined: Vec::new(),
            ..self
        }
    }

    fn quarantined_rows(&self) -> usize {
        self.quarantined.iter().filter(|record| record.rejection.kind != RejectionKind::Series).count()
    }
}

/// Readings and milkings counted as received and not yet committed, while it lives.
#[derive(Debug)]
pub(super) struct Pending(Arc<Status>, u64);

impl Pending {
    pub(super) fn new(status: &Arc<Status>, count: usize) -> Self {
        status.pending.fetch_add(count as u64, Relaxed);
        Self(Arc::clone(status), count as u64)
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        self.0.pending.fetch_sub(self.1, Relaxed);
    }
}

/// A producer's row as last committed, and its open session.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) row: ProducerRow,
    outbox: Option<Arc<Outbox>>,
}

impl Lane {
    pub(super) fn start(
        store: Arc<dyn Store>,
        group_bytes: u64,
        status: Arc<Status>,
        stop: CancellationToken,
    ) -> Self {
        let (queue, commands) = mpsc::channel(QUEUE);
        let task = TaskTracker::new();
        task.spawn(Worker { store, group_bytes, status, stop, known: HashMap::new() }.run(commands));
        task.close();
        Self { queue, task }
    }

    /// Queues a command, waiting for a place.
    pub(super) async fn send(&self, command: Command) -> Result<(), Error> {
        self.queue.send(command).await.map_err(|_| Error::Draining)
    }

    /// Queues the end of a session; dropped if the lane is gone, which forgets the session anyway.
    pub(super) fn close(&self, producer: ProducerId, epoch: u64) {
        let queue = self.queue.clone();
        match queue.try_send(Command::Close { producer, epoch }) {
            Ok(()) | Err(mpsc::error::TrySendError::Closed(_)) => {}
            Err(mpsc::error::TrySendError::Full(command)) => {
                tokio::spawn(async move { queue.send(command).await });
            }
        }
    }

    pub(super) async fn stopped(&self) {
        self.task.wait().await;
    }
}

struct Worker {
    store: Arc<dyn Store>,
    group_bytes: u64,
    status: Arc<Status>,
    stop: CancellationToken,
    known: HashMap<ProducerId, Known>,
}

impl Worker {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut held = None;
        loop {
            let first = match held.take() {
                Some(command) => command,
                None => tokio::select! {
                    biased;
                    command = commands.recv() => match command {
                        Some(command) => command,
                        None => return,
                    },
                    () = self.stop.cancelled() => return,
                },
            };
            let mut group = Group::default();
            let mut next = Some(first);
            while let Some(command) = next.take() {
                if let ControlFlow::Break(command) = self.take(&mut group, command).await {
                    held = Some(command);
                    break;
                }
                if group.bytes < self.group_bytes {
                    next = commands.try_recv().ok();
                }
            }
            self.commit(group).await;
        }
    }

    /// Adds a command to the group, or hands it back if the group must be committed first.
    async fn take(&mut self, group: &mut Group, command: Command) -> ControlFlow<Command> {
        match command {
            Command::Append { producer, epoch, outbox, entry } => {
                let member = group.member(producer).map(|member| &member.waiting);
                if member.is_some_and(|member| member.written.is_some()) {
                    return ControlFlow::Break(Command::Append { producer, epoch, outbox, entry });
                }
                let reopened = member.is_some_and(|member| member.opened.is_some());
                match self.known.get(&producer).filter(|known| known.row.epoch == epoch && !reopened) {
                    Some(known) => group.append(producer, known, outbox, entry),
                    // Whoever opened the later session has told this outbox, or will with this group.
                    None => metrics::fenced(),
                }
            }
            Command::Open { producer, open, opening } => {
                if opening.reply.is_closed() {
                    return ControlFlow::Continue(());
                }
                let member = group.member(producer).map(|member| &member.waiting);
                if member.is_some_and(|member| member.opened.is_some() || member.written.is_some()) {
                    return ControlFlow::Break(Command::Open { producer, open, opening });
                }
                group.open(producer, open, opening);
            }
            Command::Write { producer, open, entry, reply } => {
                if group.member(producer).is_some() {
                    return ControlFlow::Break(Command::Write { producer, open, entry, reply });
                }
                self.take_write(group, producer, open, entry, reply).await;
            }
            Command::WriteOnce { producer, entry, reply } => group.write(producer, None, None, entry, reply),
            Command::Close { producer, epoch } => {
                // A member of this group still needs the row; it is forgotten with a later close, or by `bound_known`.
                if self.known.get(&producer).is_some_and(|known| known.row.epoch == epoch) {
                    if group.member(producer).is_some() {
                        return ControlFlow::Break(Command::Close { producer, epoch });
                    }
                    self.known.remove(&producer);
                }
            }
        }
        ControlFlow::Continue(())
    }

    async fn take_write(
        &mut self,
        group: &mut Group,
        producer: ProducerId,
        open: OpenSession,
        entry: Entry,
        reply: Reply<WriteReply>,
    ) {
        // One that is ahead of what is known may have written over another server meanwhile.
        let next = self.known.get(&producer).map(|known| known.row.committed_offset + 1);
        if next.is_none_or(|next| entry.committed_offset > next) {
            match self.store.producer(producer).await {
                Ok(row) => self.learn(producer, row.unwrap_or_default()),
                Err(error) => return drop(reply.send(Err(error.into()))),
            }
        }
        let known = &self.known[&producer];
        let expected = known.row.committed_offset + 1;
        match entry.committed_offset.cmp(&expected) {
            Ordering::Equal => group.write(producer, Some(known), Some(open), entry, reply),
            // Only counted: the caller looks the first outcome up.
            Ordering::Less => group.write(producer, Some(known), None, entry.repeated(expected - 1), reply),
            Ordering::Greater => {
                drop(reply.send(Err(Error::OffsetGap { expected, got: entry.committed_offset })));
            }
        }
    }

    /// Commits a group, however long it takes, and tells everybody who waits for it.
    async fn commit(&mut self, group: Group) {
        let bytes = group.bytes;
        let (commit, waiting) = group.seal();
        if waiting.is_empty() {
            return;
        }
        let commit = Arc::new(commit);
        let began = Instant::now();
        let mut pause = RETRY.0;
        let outcomes = loop {
            let attempt = tokio::select! {
                biased;
                attempt = self.store.commit(Arc::clone(&commit)) => attempt,
                // A store that hangs must not keep the process.
                () = self.stop.cancelled() => return give_up(waiting),
            };
            match attempt {
                Ok(outcomes) => break outcomes,
                Err(error) => self.went_down(&error),
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(RETRY.1),
                () = self.stop.cancelled() => return give_up(waiting),
            }
        };
        if !self.status.store_up.send_replace(true) {
            tracing::info!("the store is back after {:.1?}", began.elapsed());
            metrics::store_up(true);
        }
        let mut rows = 0;
        for ((producer, waiting), outcome) in waiting.into_iter().zip(outcomes) {
            rows += self.settle(producer, waiting, outcome);
        }
        metrics::commit(began.elapsed(), rows as usize, bytes);
        self.bound_known();
    }

    fn went_down(&self, error: &crate::store::StoreError) {
        if self.status.store_up.send_replace(false) {
            metrics::store_up(false);
            let error: &dyn std::error::Error = error;
            tracing::error!(error, "commit failed: nothing is acknowledged until the store is back");
        }
    }

    /// Tells everybody who waits for a member; answers how many rows of it were stored.
    fn settle(&mut self, producer: ProducerId, waiting: Waiting, outcome: Outcome) -> u64 {
        let (row, refused, fenced) = match outcome {
            Outcome::Committed(row, refused) => (row, refused, false),
            Outcome::Fenced(row) => (row, Vec::new(), true),
        };
        let mut rejections = waiting.rejections;
        rejections.extend(&refused);
        let stored = if fenced { 0 } else { count(&waiting.totals, waiting.entries, &refused) };
        let taken_over = || Error::Fenced { instance_id: row.instance_id.clone() };
        if let Some(appended) = waiting.appended {
            if fenced {
                appended.outbox.end(taken_over());
            } else {
                let rejections = std::mem::take(&mut rejections);
                appended.outbox.settle(&row, appended.entries, appended.bytes, rejections);
            }
        }
        let new_session =
            waiting.opened.is_some() || waiting.written.as_ref().is_some_and(|written| !written.repeated);
        if (fenced || new_session)
            && let Some(outbox) = self.known.remove(&producer).and_then(|known| known.outbox)
        {
            outbox.end(taken_over());
        }
        if let Some(Opening { outbox, reply }) = waiting.opened {
            metrics::opened();
            if reply.send(Ok(row.clone())).is_ok() {
                self.remember(producer, row, Some(outbox));
            }
            return stored;
        }
        if let Some(Written { repeated, totals, reply }) = waiting.written {
            let refused = refused_rows(&refused);
            drop(reply.send(if fenced {
                Err(taken_over())
            } else {
                let stored = totals.stored.saturating_sub(refused);
                Ok(WriteReply { repeated, stored, quarantined: totals.quarantined + refused, rejections })
            }));
            if !fenced && !repeated && row.epoch > 0 {
                self.remember(producer, row, None);
                return stored;
            }
        }
        if !fenced && let Some(known) = self.known.get_mut(&producer) {
            known.row = row;
        }
        stored
    }

    /// Takes up a row as the ledger has it; a session that is not its own has been taken over.
    fn learn(&mut self, producer: ProducerId, row: ProducerRow) {
        let (is_same, outbox) = match self.known.remove(&producer) {
            Some(known) => (known.row.epoch == row.epoch, known.outbox),
            None => (false, None),
        };
        if let Some(outbox) = outbox.as_ref().filter(|_| !is_same) {
            outbox.end(Error::Fenced { instance_id: row.instance_id.clone() });
        }
        self.remember(producer, row, outbox.filter(|_| is_same));
    }

    fn remember(&mut self, producer: ProducerId, row: ProducerRow, outbox: Option<Arc<Outbox>>) {
        self.known.insert(producer, Known { row, outbox });
    }

    fn bound_known(&mut self) {
        if self.known.len() > KNOWN {
            // An outbox that nobody else holds is that of an open whose caller went away.
            let held = |outbox: &Arc<Outbox>| Arc::strong_count(outbox) > 1;
            self.known.retain(|_, known| known.outbox.as_ref().is_some_and(held));
        }
    }
}

/// Counts what was committed; answers the rows stored, which are fewer by what the store itself refused.
fn count(totals: &Totals, entries: u64, refused: &[Rejection]) -> u64 {
    metrics::batches(entries);
    metrics::duplicate(totals.duplicate);
    metrics::skipped(totals.skipped);
    for rejection in refused {
        metrics::quarantined(rejection.code);
    }
    totals.stored.saturating_sub(refused_rows(refused))
}

/// Answers everybody that the server stops before the store took their data.
fn give_up(waiting: Vec<(ProducerId, Waiting)>) {
    for (_, waiting) in waiting {
        if let Some(appended) = waiting.appended {
            appended.outbox.end(Error::StoreDown);
        }
        if let Some(opening) = waiting.opened {
            drop(opening.reply.send(Err(Error::StoreDown)));
        }
        if let Some(written) = waiting.written {
            drop(written.reply.send(Err(Error::StoreDown)));
        }
    }
}
