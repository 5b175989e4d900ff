use std::{collections::BTreeMap, sync::Arc};

use herdstream_proto::limits::MAX_ACK_REJECTIONS;
use tokio::sync::oneshot;

use super::{
    lane::{Entry, Known, Pending},
    outbox::Outbox,
    pool::MessagePermit,
    write::WriteReply,
};
use crate::{
    error::Error,
    model::{ProducerId, ProducerRow, Rejection, RejectionKind, Totals},
    store::{Batch, CommitGroup, Guard, OpenSession, ProducerCommit},
};

/// Work collected for one commit: what the store gets, and who waits for it.
#[derive(Debug, Default)]
pub(super) struct Group {
    members: BTreeMap<ProducerId, Member>,
    /// Encoded bytes in it.
    pub(super) bytes: u64,
}

/// One producer's part of a group.
#[derive(Debug)]
pub(super) struct Member {
    commit: ProducerCommit,
    pub(super) waiting: Waiting,
}

/// Who waits for a member.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    pub(super) appended: Option<Appended>,
    pub(super) opened: Option<Opening>,
    pub(super) written: Option<Written>,
    pub(super) rejections: Rejections,
    pub(super) entries: u64,
    pub(super) totals: Totals,
    /// Given back when the member is settled.
    held: Vec<(MessagePermit, MessagePermit, Pending)>,
}

/// A caller waiting for an answer.
pub(super) type Reply<T> = oneshot::Sender<Result<T, Error>>;

/// Entries of the producer's open session.
#[derive(Debug)]
pub(super) struct Appended {
    pub(super) outbox: Arc<Outbox>,
    pub(super) entries: u64,
    pub(super) bytes: u64,
}

/// A write of one batch.
#[derive(Debug)]
pub(super) struct Written {
    /// It was committed before: only counted, and no session is opened.
    pub(super) repeated: bool,
    pub(super) totals: Totals,
    pub(super) reply: Reply<WriteReply>,
}

/// A session being opened.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) outbox: Arc<Outbox>,
    pub(super) reply: Reply<ProducerRow>,
}

impl Group {
    pub(super) fn member(&self, producer: ProducerId) -> Option<&Member> {
        self.members.get(&producer)
    }

    /// Adds an entry of the session whose row is `known`.
    pub(super) fn append(&mut self, producer: ProducerId, known: &Known, outbox: Arc<Outbox>, entry: Entry) {
        let bytes = entry.permit.bytes as u64;
        let member = self.member_for(producer, Some(known));
        let appended = member.waiting.appended.get_or_insert(Appended { outbox, entries: 0, bytes: 0 });
        appended.entries += 1;
        appended.bytes += entry.batch_bytes;
        member.add(entry);
        self.bytes += bytes;
    }

    /// Adds the opening of a session. Without batches it fits whatever stands in the ledger.
    pub(super) fn open(&mut self, producer: ProducerId, open: OpenSession, opening: Opening) {
        let member = self.member_for(producer, None);
        member.commit.open = Some(open);
        member.waiting.opened = Some(opening);
    }

    /// Adds a write: of a producer whose row is `known`, opening a session unless it is a repeat, or of nobody.
    pub(super) fn write(
        &mut self,
        producer: ProducerId,
        known: Option<&Known>,
        open: Option<OpenSession>,
        entry: Entry,
        reply: Reply<WriteReply>,
    ) {
        self.bytes += entry.permit.bytes as u64;
        let member = self.member_for(producer, known);
        let repeated = known.is_some() && open.is_none();
        member.commit.open = open;
        member.waiting.written = Some(Written { repeated, totals: entry.totals, reply });
        member.add(entry);
    }

    /// Splits it into what the store commits and who waits for that, in the same order.
    pub(super) fn seal(self) -> (CommitGroup, Vec<(ProducerId, Waiting)>) {
        let (producers, waiting) =
            self.members.into_iter().map(|(id, member)| (member.commit, (id, member.waiting))).unzip();
        (CommitGroup { producers }, waiting)
    }

    fn member_for(&mut self, producer: ProducerId, known: Option<&Known>) -> &mut Member {
        self.members.entry(producer).or_insert_with(|| Member {
            commit: ProducerCommit {
                producer,
                guard: known.map(|known| Guard {
                    epoch: known.row.epoch,
                    committed_offset: known.row.committed_offset,
                }),
                committed_offset: known.map_or(0, |known| known.row.committed_offset),
                totals: Totals::default(),
                open: None,
                batches: Vec::new(),
                quarantined: Vec::new(),
            },
            waiting: Waiting::default(),
        })
    }
}

impl Member {
    fn add(&mut self, entry: Entry) {
        self.waiting.rejections.extend(entry.quarantined.iter().map(|record| &record.rejection));
        self.waiting.entries += 1;
        self.waiting.totals += entry.totals;
        self.waiting.held.push((entry.permit, entry.rows_permit, entry.pending));
        self.commit.committed_offset = entry.committed_offset;
        self.commit.totals += entry.totals;
        let Entry { committed_offset: offset, readings, milkings, .. } = entry;
        if !readings.is_empty() || !milkings.is_empty() {
            self.commit.batches.push(Batch { offset, readings, milkings });
        }
        self.commit.quarantined.extend(entry.quarantined);
    }
}

/// What is told of refusals: some, and how many more there are.
#[derive(Debug, Default)]
pub(super) struct Rejections {
    /// At most as many as an ack carries.
    pub(super) told: Vec<Rejection>,
    /// Those beyond.
    pub(super) omitted: u32,
}

impl Rejections {
    pub(super) fn extend<'a>(&mut self, rejections: impl IntoIterator<Item = &'a Rejection>) {
        for rejection in rejections {
            if self.told.len() < MAX_ACK_REJECTIONS {
                self.told.push(rejection.clone());
            } else {
                self.omitted += 1;
            }
        }
    }
}

/// How many of `rejections` are readings or milkings, each of which is a row that was not stored.
pub(super) fn refused_rows(rejections: &[Rejection]) -> u64 {
    rejections.iter().filter(|rejection| rejection.kind != RejectionKind::Series).count() as u64
}
