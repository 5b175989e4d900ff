use parking_lot::Mutex;
use tokio::sync::Notify;

use herdstream_proto::limits::MAX_ACK_REJECTIONS;

use super::group::Rejections;
use crate::{
    error::Error,
    model::{Offset, ProducerRow, Rejection, Totals},
};

/// What a lane has to tell one session. Acks are cumulative, so a slow reader costs one of them,
/// not a queue.
#[derive(Debug, Default)]
pub struct Outbox {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    ack: Option<Ack>,
    settled_entries: u64,
    settled_bytes: u64,
    end: Option<Error>,
}

/// Everything up to an offset is durable.
#[derive(Debug, Default)]
pub struct Ack {
    /// Cumulative.
    pub committed_offset: Offset,
    /// Of the producer.
    pub totals: Totals,
    /// Refused since the last ack, at most 500.
    pub rejections: Vec<Rejection>,
    /// Refused beyond those.
    pub rejections_omitted: u32,
    /// Bytes of batches committed since the session was opened.
    pub settled_bytes: u64,
}

/// What happened to a session.
#[derive(Debug)]
pub enum Notice {
    /// Some of what it sent is durable.
    Ack(Ack),
    /// It is over.
    End(Error),
}

impl Outbox {
    /// Waits for the next notice; an end comes after every ack. Cancel safe.
    pub async fn next(&self) -> Notice {
        loop {
            let changed = self.changed.notified();
            if let Some(notice) = self.take() {
                return notice;
            }
            changed.await;
        }
    }

    /// Whether everything up to `entries` has been settled and told.
    pub fn is_settled(&self, entries: u64) -> bool {
        let state = self.state.lock();
        state.settled_entries >= entries && state.ack.is_none()
    }

    /// Bytes of batches settled since the session was opened.
    pub fn settled_bytes(&self) -> u64 {
        self.state.lock().settled_bytes
    }

    /// Tells that `entries` of `bytes` are committed, with what was refused of them.
    pub(super) fn settle(&self, row: &ProducerRow, entries: u64, bytes: u64, rejections: Rejections) {
        let mut state = self.state.lock();
        state.settled_entries += entries;
        state.settled_bytes += bytes;
        let settled_bytes = state.settled_bytes;
        let ack = state.ack.get_or_insert_default();
        ack.committed_offset = row.committed_offset;
        ack.totals = row.totals;
        ack.settled_bytes = settled_bytes;
        let room = MAX_ACK_REJECTIONS - ack.rejections.len();
        ack.rejections_omitted += rejections.omitted + rejections.told.len().saturating_sub(room) as u32;
        ack.rejections.extend(rejections.told.into_iter().take(room));
        drop(state);
        self.changed.notify_one();
    }

    /// Ends the session, unless it has ended.
    pub(super) fn end(&self, error: Error) {
        self.state.lock().end.get_or_insert(error);
        self.changed.notify_one();
    }

    fn take(&self) -> Option<Notice> {
        let mut state = self.state.lock();
        if let Some(ack) = state.ack.take() {
            return Some(Notice::Ack(ack));
        }
        state.end.take().map(Notice::End)
    }
}
