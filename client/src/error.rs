//! What can go wrong, and what is given back when it does.

use std::{error::Error as StdError, fmt, sync::Arc, time::Duration};

use herdstream_proto::error::Reason;
use tonic::{Code, Status};

use crate::{item::Item, spool::SpoolError};

/// Why a producer could not be opened, a series not be named, or a query not be answered.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A configuration value is out of bounds.
    #[error("configuration: {0}")]
    Config(String),
    /// A series' name breaks a bound, or the producer has too many series.
    #[error("series: {0}")]
    Series(String),
    /// The spool cannot be opened.
    #[error("spool: {0}")]
    Spool(#[from] SpoolError),
    /// No connection to the server.
    #[error("cannot connect to {endpoint}: check that the server runs and can be reached")]
    Connect {
        /// The server.
        endpoint: String,
        /// What the transport said.
        source: tonic::transport::Error,
    },
    /// The server did not answer in time.
    #[error("no answer from {endpoint} within {timeout:?}: try again, or allow more time")]
    Timeout {
        /// The server.
        endpoint: String,
        /// The deadline that passed.
        timeout: Duration,
    },
    /// The server, or something before it, refused.
    #[error("refused with {:?}: {}", .status.code(), .status.message())]
    Refused {
        /// The reason, if a Herdstream server gave it.
        reason: Option<Reason>,
        /// The whole status.
        #[source]
        status: Box<Status>,
    },
}

impl Error {
    /// Whether the same call may succeed later without a change by the caller.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Config(_) | Self::Series(_) => false,
            Self::Spool(_) | Self::Connect { .. } | Self::Timeout { .. } => true,
            Self::Refused { reason: Some(reason), .. } => retryable_reason(*reason),
            Self::Refused { reason: None, status } => retryable_code(status.code()),
        }
    }

    /// Whether the server does not know what was asked for.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Refused { status, .. } if status.code() == Code::NotFound)
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        Self::Refused { reason: Reason::of(&status), status: Box::new(status) }
    }
}

fn retryable_reason(reason: Reason) -> bool {
    match reason {
        Reason::OffsetGap
        | Reason::CreditExceeded
        | Reason::RateLimited
        | Reason::TooManyStreams
        | Reason::StoreDown
        | Reason::Draining
        | Reason::Stalled
        | Reason::TimedOut
        | Reason::Internal => true,
        Reason::BadMessage
        | Reason::UnsupportedVersion
        | Reason::Fenced
        | Reason::BatchTooLarge
        | Reason::Unauthenticated
        | Reason::PermissionDenied
        | Reason::BadRequest
        | Reason::Unsupported
        | Reason::NotFound => false,
    }
}

fn retryable_code(code: Code) -> bool {
    match code {
        Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => true,
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Unauthenticated => false,
    }
}

/// Why something was not taken.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SendReason {
    /// The buffer or the spool stayed full for the whole timeout.
    #[error("full: {pending} readings and milkings wait to be acknowledged; send later, or allow more room")]
    Full {
        /// Accepted and neither acknowledged nor given up.
        pending: u64,
    },
    /// It is larger than a batch, or than all of the buffer, may be.
    #[error("{bytes} bytes: at most {limit} fit; shorten its texts")]
    TooLarge {
        /// Its encoded size.
        bytes: usize,
        /// The largest that is taken.
        limit: usize,
    },
    /// The reading names a series that this producer does not have.
    #[error("series ref {0} is unknown to this producer: get it from Producer::series")]
    UnknownSeries(u32),
    /// The producer was closed.
    #[error("the producer is closed")]
    Closed,
    /// Another process took over this producer.
    #[error("another process ({0}) took over this producer: open a new one")]
    Fenced(String),
    /// The server holds offsets of this producer that were never sent.
    #[error("the server knows offsets of this producer that were never sent: open a new producer")]
    Conflict,
    /// The spool could not be written; nothing of it is kept there.
    #[error("spool: {0}")]
    Spool(#[source] Arc<SpoolError>),
    /// The disk did not confirm in time: it may be kept and sent all the same.
    #[error("the spool did not confirm within {0:?}: it may be sent all the same")]
    Unconfirmed(Duration),
}

/// A reading or milking that was not taken, and why.
pub struct SendError<T = Item> {
    /// Why.
    pub reason: SendReason,
    pub(crate) item: Box<T>,
}

impl<T> SendError<T> {
    /// Gives back what was not taken.
    pub fn into_item(self) -> T {
        *self.item
    }
}

/// Readings and milkings that were not taken, and why.
pub struct SendManyError<T = Item> {
    /// Why the first of them was not.
    pub reason: SendReason,
    /// What was not taken, in order; everything before it was.
    pub items: Vec<T>,
}

/// How much of a slice was taken, and why not all.
#[derive(Clone, Debug, thiserror::Error)]
#[error("taken only the first {taken}: {reason}")]
pub struct SendSliceError {
    /// Why `items[taken]` was not taken.
    #[source]
    pub reason: SendReason,
    /// Items taken, from the front.
    pub taken: usize,
}

/// Why a flush did not finish.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FlushError {
    /// The deadline passed first; everything is still kept.
    #[error(
        "{pending} readings and milkings are not acknowledged after {timeout:?}: they are kept, flush again"
    )]
    Timeout {
        /// Accepted and not acknowledged.
        pending: u64,
        /// The deadline.
        timeout: Duration,
    },
    /// The session ended for good.
    #[error("cannot be acknowledged any more: {0}")]
    Ended(#[source] SendReason),
}

/// Why a close did not finish. The producer is as before, except that it takes nothing new: what is
/// not acknowledged is kept and still being sent, and it can be closed again.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// Without a spool, what is not acknowledged exists only in this process.
    #[error(
        "{pending} readings and milkings are not acknowledged after {timeout:?} and only in memory: close again, or drop the producer to lose them"
    )]
    Unacked {
        /// Accepted and not acknowledged.
        pending: u64,
        /// The deadline.
        timeout: Duration,
    },
    /// The session ended for good.
    #[error("{pending} readings and milkings cannot be acknowledged any more: {reason}")]
    Ended {
        /// Accepted and not acknowledged.
        pending: u64,
        /// Why.
        #[source]
        reason: SendReason,
    },
}

impl SendReason {
    /// Whether the same send may succeed later without a change by the caller.
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Full { .. } | Self::Spool(_) => true,
            Self::TooLarge { .. }
            | Self::UnknownSeries(_)
            | Self::Closed
            | Self::Fenced(_)
            | Self::Conflict
            | Self::Unconfirmed(_) => false,
        }
    }
}

impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendError").field("reason", &self.reason).finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not taken: {}", self.reason)
    }
}

impl<T> StdError for SendError<T> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.reason)
    }
}

impl<T> fmt::Debug for SendManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendManyError")
            .field("reason", &self.reason)
            .field("not_taken", &self.items.len())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Display for SendManyError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} not taken: {}", self.items.len(), self.reason)
    }
}

impl<T> StdError for SendManyError<T> {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&self.reason)
    }
}
