use std::time::{Duration, Instant};

use herdstream_proto::error::Reason;
use tonic::{Code, Status};
use uuid::Uuid;

use crate::{
    error::Error,
    ops::metrics::{self, Answer, Rpc},
    store::StoreError,
};

/// Pause a client is asked for when the server cannot say how long something lasts.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What a client sees of an error. Damage and bugs are logged here under an id, and only that is shown.
pub(super) fn to_status(error: Error) -> Status {
    let text = error.to_string();
    match error {
        Error::BadMessage(_) => Reason::BadMessage.status(text, [], None),
        Error::UnsupportedVersion(_) => Reason::UnsupportedVersion.status(text, [], None),
        Error::OffsetGap { expected, .. } => {
            Reason::OffsetGap.status(text, [("expected_offset", expected.to_string())], None)
        }
        Error::Fenced { instance_id } => Reason::Fenced.status(text, [("instance_id", instance_id)], None),
        Error::BatchTooLarge(_) => Reason::BatchTooLarge.status(text, [], None),
        Error::CreditExceeded { .. } => Reason::CreditExceeded.status(text, [], None),
        Error::RateLimited { retry_after, .. } => Reason::RateLimited.status(text, [], Some(retry_after)),
        Error::TooManyQueries(_) => Reason::RateLimited.status(text, [], Some(RETRY_AFTER)),
        Error::Unanswered => Reason::TimedOut.status(text, [], None),
        Error::TooManyStreams(_) => Reason::TooManyStreams.status(text, [], Some(RETRY_AFTER)),
        Error::Unauthenticated(_) => Reason::Unauthenticated.status(text, [], None),
        Error::PermissionDenied(_) => Reason::PermissionDenied.status(text, [], None),
        Error::Draining | Error::Store(StoreError::Closed) => {
            Reason::Draining.status(Error::Draining.to_string(), [], None)
        }
        Error::Stalled(_) => Reason::Stalled.status(text, [], None),
        Error::BadRequest { field, .. } => {
            Reason::BadRequest.status(text, [("field", field.to_owned())], None)
        }
        Error::Store(StoreError::Refused(_)) => Reason::BadRequest.status(text, [], None),
        Error::Store(StoreError::Elsewhere) => Reason::Unsupported.status(text, [], Some(RETRY_AFTER)),
        Error::Store(StoreError::Deadline) => Reason::TimedOut.status(text, [], None),
        Error::Unsupported(_) => Reason::Unsupported.status(text, [], None),
        Error::NotFound(_) => Reason::NotFound.status(text, [], None),
        Error::StoreDown => Reason::StoreDown.status(text, [], Some(RETRY_AFTER)),
        Error::Store(StoreError::Unavailable(..)) => {
            Reason::StoreDown.status(Error::StoreDown.to_string(), [], Some(RETRY_AFTER))
        }
        Error::Store(StoreError::Damaged(_)) | Error::Internal(_) => {
            let id = Uuid::new_v4().to_string();
            tracing::error!(%id, error = text, "call failed");
            Reason::Internal.status(format!("internal error {id}: see the server's log"), [("id", id)], None)
        }
    }
}

/// What the server makes of an error that reading a request raised: a broken link, or a message that the
/// codec or the meter refused.
pub(super) fn from_inbound(status: Status) -> Option<Status> {
    match status.code() {
        _ if Reason::of(&status).is_some() => Some(status),
        // The transport's own words for a message it cannot take apart.
        Code::Internal | Code::OutOfRange | Code::Unimplemented if !is_broken_link(&status) => {
            Some(Reason::BadMessage.status(format!("malformed message: {}", status.message()), [], None))
        }
        _ => None,
    }
}

fn is_broken_link(status: &Status) -> bool {
    std::error::Error::source(status).is_some()
}

/// Counts a stream of answers and how it ended.
pub(super) fn measure_stream(rpc: Rpc, error: Option<&Error>, began: Instant) {
    let answer = match error {
        None => Answer::Ok,
        Some(Error::Store(StoreError::Refused(_))) => Answer::Refused,
        Some(Error::Draining | Error::StoreDown | Error::Store(_) | Error::Internal(_)) => Answer::Failed,
        Some(_) => Answer::Refused,
    };
    metrics::call(rpc, answer, began.elapsed());
}

/// Counts a unary call and how it was answered.
pub(super) fn measure<T>(rpc: Rpc, status: &Result<T, Status>, began: Instant) {
    let answer = match status.as_ref().err().map(Status::code) {
        None => Answer::Ok,
        Some(Code::Unavailable | Code::Internal | Code::DeadlineExceeded) => Answer::Failed,
        Some(_) => Answer::Refused,
    };
    metrics::call(rpc, answer, began.elapsed());
}
