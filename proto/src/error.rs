//! Reasons: what a client acts on. A status code alone may come from a proxy.

use std::collections::HashMap;

use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt};

/// Domain of every `google.rpc.ErrorInfo` that a Herdstream server sends.
pub const DOMAIN: &str = "herdstream";

macro_rules! reasons {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $code:ident;)*) => {
        /// Why a call or a stream failed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason { $($(#[$doc])* $name,)* }

        impl Reason {
            /// Every reason there is.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The reason's text in `ErrorInfo`.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* }
            }

            /// The status code that goes with it.
            pub const fn code(self) -> Code {
                match self { $(Self::$name => Code::$code,)* }
            }
        }
    };
}

reasons! {
    /// A message breaks the protocol: malformed, out of place, or with an undefined series ref.
    BadMessage = "BAD_MESSAGE", InvalidArgument;
    /// The client speaks a protocol version that the server does not.
    UnsupportedVersion = "UNSUPPORTED_VERSION", FailedPrecondition;
    /// The batch's offset is beyond the next one expected.
    OffsetGap = "OFFSET_GAP", OutOfRange;
    /// A later session of the same producer took over. Metadata: `instance_id`.
    Fenced = "FENCED", Aborted;
    /// A batch or message exceeds the advertised limits.
    BatchTooLarge = "BATCH_TOO_LARGE", InvalidArgument;
    /// More was sent than the credit allowed.
    CreditExceeded = "CREDIT_EXCEEDED", ResourceExhausted;
    /// Too many calls in a short time: wait as `RetryInfo` says.
    RateLimited = "RATE_LIMITED", ResourceExhausted;
    /// The server carries as many streams as it may: wait as `RetryInfo` says.
    TooManyStreams = "TOO_MANY_STREAMS", ResourceExhausted;
    /// No credentials, or wrong ones.
    Unauthenticated = "UNAUTHENTICATED", Unauthenticated;
    /// The caller may not act for this gateway, producer or farm.
    PermissionDenied = "PERMISSION_DENIED", PermissionDenied;
    /// The store cannot be written at present.
    StoreDown = "STORE_DOWN", Unavailable;
    /// The server is stopping.
    Draining = "DRAINING", Unavailable;
    /// The client sent nothing, or read nothing, for too long.
    Stalled = "STALLED", DeadlineExceeded;
    /// A query's argument is out of bounds. Metadata: `field`.
    BadRequest = "BAD_REQUEST", InvalidArgument;
    /// A query was not answered by its deadline: the caller's, or the server's own.
    TimedOut = "TIMED_OUT", DeadlineExceeded;
    /// The store of this server does not do that.
    Unsupported = "UNSUPPORTED", FailedPrecondition;
    /// What was asked for does not exist.
    NotFound = "NOT_FOUND", NotFound;
    /// A bug. Metadata: `id`, to be found in the server's log.
    Internal = "INTERNAL", Internal;
}

impl Reason {
    /// Builds a status whose details carry this reason, `metadata`, and, when given, how long to wait.
    pub fn status(
        self,
        message: impl Into<String>,
        metadata: impl IntoIterator<Item = (&'static str, String)>,
        retry_after: Option<std::time::Duration>,
    ) -> Status {
        let metadata: HashMap<String, String> =
            metadata.into_iter().map(|(k, v)| (k.to_owned(), v)).collect();
        let mut details = ErrorDetails::with_error_info(self.as_str(), DOMAIN, metadata);
        if retry_after.is_some() {
            details.set_retry_info(retry_after);
        }
        Status::with_error_details(self.code(), message, details)
    }

    /// The reason that a status carries, if a Herdstream server made it.
    pub fn of(status: &Status) -> Option<Self> {
        let info = status.get_details_error_info()?;
        if info.domain != DOMAIN {
            return None;
        }
        Self::ALL.iter().copied().find(|reason| reason.as_str() == info.reason)
    }
}
