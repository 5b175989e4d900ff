use std::time::Duration;

use crate::{model::Offset, store::StoreError};

/// Why a call or a stream failed. `wire::status` says what the client sees of it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The client broke the protocol.
    #[error("{0}")]
    BadMessage(String),
    /// The client speaks another version of the protocol.
    #[error("protocol version {0} is not supported: this server speaks version 1")]
    UnsupportedVersion(u32),
    /// An offset beyond the next one.
    #[error("offset {got} leaves a gap: the next offset of this producer is {expected}")]
    OffsetGap {
        /// The next offset.
        expected: Offset,
        /// What came.
        got: Offset,
    },
    /// Another session of the producer took over.
    #[error("a later session of this producer took over (instance {instance_id:?})")]
    Fenced {
        /// Client process that took over.
        instance_id: String,
    },
    /// More than the limits allow.
    #[error("{0}")]
    BatchTooLarge(String),
    /// More than the credit allows.
    #[error("{sent} bytes of batches sent, credit is {credit}: wait for an ack while one is due")]
    CreditExceeded {
        /// Bytes sent since `Open`.
        sent: u64,
        /// Bytes allowed since `Open`.
        credit: u64,
    },
    /// Too many calls of a kind.
    #[error("more than {limit} {what} a second: try again later")]
    RateLimited {
        /// What there were too many of.
        what: &'static str,
        /// Bound per second.
        limit: u32,
        /// When it is worth trying again.
        retry_after: Duration,
    },
    /// Too many queries wait for their turn.
    #[error("more than {0} queries wait for their turn: try again later")]
    TooManyQueries(usize),
    /// The store was given something and has not said what became of it.
    #[error(
        "the store did not answer in time: what was sent may still be stored. Sent again with the producer and offset \
         that it had, it is stored once"
    )]
    Unanswered,
    /// Too many streams.
    #[error("this server carries at most {0} streams: try again later, or elsewhere")]
    TooManyStreams(usize),
    /// No credentials, or wrong ones.
    #[error("{0}")]
    Unauthenticated(&'static str),
    /// Not the caller's to use.
    #[error("{0}")]
    PermissionDenied(String),
    /// The server is stopping.
    #[error("the server is stopping: connect again, or elsewhere")]
    Draining,
    /// The client was silent in the middle of a message, or stopped reading.
    #[error("{0}")]
    Stalled(String),
    /// An argument of a query is out of bounds.
    #[error("{field}: {message}")]
    BadRequest {
        /// The argument.
        field: &'static str,
        /// What was wrong, and the bound.
        message: String,
    },
    /// The store of this server does not do that.
    #[error("{0}")]
    Unsupported(&'static str),
    /// Not there.
    #[error("{0}")]
    NotFound(String),
    /// The store cannot be used at present.
    #[error("the store is not available: try again later")]
    StoreDown,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A bug.
    #[error("{0}")]
    Internal(&'static str),
}
