//! Receipts: what became of one reading.

use std::{
    future::Future,
    pin::Pin,
    task::{Context, Poll},
};

use herdstream_proto::v1::{self, RejectionCode, RejectionKind};
use tokio::sync::oneshot;

/// What became of a reading or milking sent with [`Producer::send_tracked`](crate::Producer::send_tracked).
///
/// A future; dropping it does no harm.
#[derive(Debug)]
pub struct Receipt(pub(crate) oneshot::Receiver<Result<Outcome, ReceiptError>>);

/// The fate of a reading or milking. Final.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// Durable in the server's store.
    Stored,
    /// Refused by the server and kept in its quarantine.
    Quarantined(Rejection),
    /// Given up to make room.
    Evicted,
    /// Given up because it was too old.
    Expired,
    /// Its batch was refused again and again, and set aside.
    Poisoned,
    /// Unreadable in the spool.
    Lost,
}

/// Why there is no outcome.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReceiptError {
    /// The producer ended before the outcome was known; a spool still holds the reading.
    #[error("the producer ended before the outcome was known")]
    Ended,
    /// The batch is committed, but the server did not tell which of its readings it refused.
    #[error("committed, but the server did not tell whether it was refused: {0}")]
    Unknown(String),
}

/// Why the server refused a reading, milking or series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// Offset of its batch.
    pub offset: u64,
    /// What was refused.
    pub kind: RejectionKind,
    /// Position in the batch's list of that kind, from 0.
    pub index: u32,
    /// Why.
    pub code: RejectionCode,
    /// Name of the field at fault.
    pub field: String,
    /// What was wrong, with the value, and what would be right.
    pub message: String,
}

impl Future for Receipt {
    type Output = Result<Outcome, ReceiptError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.0).poll(cx).map(|answer| answer.unwrap_or(Err(ReceiptError::Ended)))
    }
}

impl From<v1::Rejection> for Rejection {
    fn from(rejection: v1::Rejection) -> Self {
        Self {
            offset: rejection.offset,
            kind: rejection.kind(),
            index: rejection.index,
            code: rejection.code(),
            field: rejection.field,
            message: rejection.message,
        }
    }
}
