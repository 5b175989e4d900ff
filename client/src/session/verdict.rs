//! Why a session ended, and what follows from it.

use std::time::Duration;

use herdstream_proto::error::Reason;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{backlog::Violation, event::DisconnectReason};

/// The longest wait that a server may ask for.
const MAX_TOLD: Duration = Duration::from_hours(1);

/// How a session, or the attempt to open one, ended.
#[derive(Debug)]
pub(super) enum End {
    /// Everything is decided and the producer closed.
    Finished,
    /// The server stops and names where to go.
    Drained(Vec<String>),
    /// No connection.
    Unreachable(String),
    /// Something did not come in time.
    Timeout(String),
    /// The server, or something before it, said so.
    Refused(Status),
    /// The server ended the stream without a word.
    Closed,
    /// The server acknowledged what was not sent.
    Violation(Violation),
    /// The server holds what was never sent under this id.
    Conflict(Violation),
    /// The server has to hear of offsets that were assigned since the session was opened.
    Reopen,
}

/// What to do about it.
#[derive(Debug, PartialEq)]
pub(super) struct Verdict {
    pub(super) reason: DisconnectReason,
    pub(super) pause: Pause,
    /// The server refused the first batch on the wire.
    pub(super) strike: bool,
    /// Another process took over.
    pub(super) fenced_by: Option<String>,
    /// Another endpoint may do better.
    pub(super) elsewhere: bool,
}

/// How long to wait before the next attempt.
#[derive(Debug, PartialEq)]
pub(super) enum Pause {
    /// Longer with every failure.
    Backoff,
    /// What the server asked for, and then as after any failure.
    Told(Duration),
    /// Long: it does not mend by itself soon.
    Slow,
    /// Just enough that not all clients come at once.
    Spread,
}

impl Verdict {
    fn new(reason: DisconnectReason, pause: Pause) -> Self {
        Self { reason, pause, strike: false, fenced_by: None, elsewhere: true }
    }

    fn here(self) -> Self {
        Self { elsewhere: false, ..self }
    }
}

/// What an end means to a client whose process is `instance_id`.
pub(super) fn judge(end: &End, instance_id: &str) -> Verdict {
    use DisconnectReason as R;
    match end {
        End::Finished | End::Closed => Verdict::new(R::Broken, Pause::Backoff),
        End::Drained(_) => Verdict::new(R::Draining, Pause::Spread),
        End::Unreachable(_) => Verdict::new(R::Unreachable, Pause::Backoff),
        End::Timeout(_) => Verdict::new(R::Timeout, Pause::Backoff),
        End::Violation(_) | End::Conflict(_) => Verdict::new(R::ProtocolViolation, Pause::Backoff),
        End::Reopen => Verdict::new(R::Superseded, Pause::Spread).here(),
        End::Refused(status) => judge_status(status, instance_id),
    }
}

fn judge_status(status: &Status, instance_id: &str) -> Verdict {
    use DisconnectReason as R;
    let told = || match status.get_details_retry_info().and_then(|info| info.retry_delay) {
        Some(delay) => Pause::Told(delay.min(MAX_TOLD)),
        None => Pause::Backoff,
    };
    let Some(reason) = Reason::of(status) else {
        // A proxy, or a transport: everything passes, except perhaps credentials.
        return match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Verdict::new(R::Unauthorized, Pause::Slow),
            _ => Verdict::new(R::Broken, told()),
        };
    };
    match reason {
        Reason::BadMessage | Reason::BatchTooLarge => {
            Verdict { strike: true, ..Verdict::new(R::BatchRefused, Pause::Backoff).here() }
        }
        Reason::UnsupportedVersion => Verdict::new(R::UnsupportedVersion, Pause::Slow),
        Reason::OffsetGap | Reason::CreditExceeded => {
            Verdict::new(R::ProtocolViolation, Pause::Backoff).here()
        }
        Reason::Fenced => {
            let by =
                status.get_details_error_info().and_then(|info| info.metadata.get("instance_id").cloned());
            let by = by.unwrap_or_else(|| "unknown".to_owned());
            let fenced_by = (by != instance_id).then_some(by);
            Verdict { fenced_by, ..Verdict::new(R::Superseded, Pause::Backoff).here() }
        }
        Reason::RateLimited | Reason::TooManyStreams | Reason::StoreDown => Verdict::new(R::Busy, told()),
        Reason::Draining => Verdict::new(R::Draining, told()),
        Reason::Unauthenticated | Reason::PermissionDenied => Verdict::new(R::Unauthorized, Pause::Slow),
        Reason::Stalled => Verdict::new(R::Timeout, told()),
        Reason::BadRequest | Reason::NotFound | Reason::TimedOut | Reason::Unsupported | Reason::Internal => {
            Verdict::new(R::Broken, told())
        }
    }
}

impl End {
    /// For people.
    pub(super) fn message(&self) -> String {
        match self {
            Self::Finished => "finished".to_owned(),
            Self::Drained(_) => "the server stops".to_owned(),
            Self::Unreachable(message) | Self::Timeout(message) => message.clone(),
            Self::Refused(status) => format!("{}: {}", status.code(), status.message()),
            Self::Closed => "the server ended the stream without a reason".to_owned(),
            Self::Violation(Violation { committed, sent }) => {
                format!("the server acknowledged offset {committed}, only {sent} was sent in this session")
            }
            Self::Conflict(Violation { committed, sent }) => {
                format!("the server holds offset {committed} of this producer, only {sent} was ever sent")
            }
            Self::Reopen => "the server has to hear of newer offsets".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use DisconnectReason as R;

    #[test]
    fn every_reason_has_its_consequence() {
        let second = Duration::from_secs(1);
        for &reason in Reason::ALL {
            for retry in [None, Some(second)] {
                let told = || retry.map_or(Pause::Backoff, Pause::Told);
                let expected = match reason {
                    Reason::BadMessage | Reason::BatchTooLarge => {
                        (R::BatchRefused, Pause::Backoff, true, false)
                    }
                    Reason::UnsupportedVersion => (R::UnsupportedVersion, Pause::Slow, false, true),
                    Reason::OffsetGap | Reason::CreditExceeded => {
                        (R::ProtocolViolation, Pause::Backoff, false, false)
                    }
                    Reason::Fenced => (R::Superseded, Pause::Backoff, false, false),
                    Reason::RateLimited | Reason::TooManyStreams | Reason::StoreDown => {
                        (R::Busy, told(), false, true)
                    }
                    Reason::Draining => (R::Draining, told(), false, true),
                    Reason::Unauthenticated | Reason::PermissionDenied => {
                        (R::Unauthorized, Pause::Slow, false, true)
                    }
                    Reason::Stalled => (R::Timeout, told(), false, true),
                    Reason::BadRequest
                    | Reason::NotFound
                    | Reason::TimedOut
                    | Reason::Unsupported
                    | Reason::Internal => (R::Broken, told(), false, true),
                };
                let status = reason.status("no", [("instance_id", "me".to_owned())], retry);
                let verdict = judge(&End::Refused(status), "me");
                assert_eq!(
                    (verdict.reason, verdict.pause, verdict.strike, verdict.elsewhere),
                    expected,
                    "{reason:?}"
                );
                assert_eq!(verdict.fenced_by, None, "{reason:?}");
            }
        }
    }

    #[test]
    fn only_another_process_fences() {
        for (by, fenced) in [("me", None), ("other", Some("other".to_owned()))] {
            let status = Reason::Fenced.status("no", [("instance_id", by.to_owned())], None);
            assert_eq!(judge(&End::Refused(status), "me").fenced_by, fenced);
        }
        let anonymous = Reason::Fenced.status("no", [], None);
        assert_eq!(judge(&End::Refused(anonymous), "me").fenced_by.as_deref(), Some("unknown"));
    }

    #[test]
    fn a_code_without_a_reason_is_retried() {
        for code in 1..=16 {
            let verdict = judge(&End::Refused(Status::new(Code::from(code), "from a proxy")), "me");
            let credentials = matches!(Code::from(code), Code::Unauthenticated | Code::PermissionDenied);
            let expected =
                if credentials { (R::Unauthorized, Pause::Slow) } else { (R::Broken, Pause::Backoff) };
            assert_eq!((verdict.reason, verdict.pause), expected, "{code}");
            assert!(!verdict.strike && verdict.fenced_by.is_none());
        }
    }

    #[test]
    fn a_server_cannot_ask_for_more_than_an_hour() {
        let status = Reason::RateLimited.status("no", [], Some(Duration::from_secs(1 << 40)));
        assert_eq!(judge(&End::Refused(status), "me").pause, Pause::Told(MAX_TOLD));
    }
}
