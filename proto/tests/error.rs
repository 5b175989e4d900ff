//! Reasons survive the way over the wire, and nobody else's errors pass for them.

use std::{collections::HashSet, time::Duration};

use herdstream_proto::error::{DOMAIN, Reason};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, StatusExt as _};

/// The status as the other side receives it.
fn received(status: &Status) -> Status {
    let mut headers = http::HeaderMap::new();
    status.add_header(&mut headers).expect("a status has a form in headers");
    Status::from_header_map(&headers).expect("headers hold a status")
}

#[test]
fn every_reason_arrives_with_message_metadata_and_delay() {
    for reason in Reason::ALL.iter().copied() {
        let delay = Some(Duration::from_millis(1_500));
        let sent = reason.status("the barn is full: \u{1F404}", [("instance_id", "abc".to_owned())], delay);
        let status = received(&sent);
        assert_eq!(Reason::of(&status), Some(reason));
        assert_eq!(status.code(), reason.code(), "{reason:?}");
        assert_eq!(status.message(), "the barn is full: \u{1F404}");
        let details = status.get_error_details();
        let info = details.error_info().expect("an ErrorInfo");
        assert_eq!((info.domain.as_str(), info.reason.as_str()), (DOMAIN, reason.as_str()));
        assert_eq!(info.metadata.get("instance_id").map(String::as_str), Some("abc"));
        assert_eq!(details.retry_info().and_then(|retry| retry.retry_delay), delay);
    }
}

#[test]
fn no_delay_is_told_unless_one_is_given() {
    let status = received(&Reason::StoreDown.status("down", [], None));
    assert!(status.get_error_details().retry_info().is_none());
}

#[test]
fn reasons_are_distinct_and_written_as_the_contract_says() {
    let texts: HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
    assert_eq!(texts.len(), Reason::ALL.len());
    for reason in Reason::ALL {
        assert!(reason.as_str().bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'_'), "{reason:?}");
        assert_ne!(reason.code(), Code::Ok);
    }
}

#[test]
fn errors_of_others_have_no_reason() {
    assert_eq!(Reason::of(&Status::unavailable("connection reset")), None);
    for (domain, text) in [("googleapis.com", "FENCED"), (DOMAIN, "NOT_OURS"), ("", "FENCED")] {
        let details = ErrorDetails::with_error_info(text, domain, []);
        assert_eq!(
            Reason::of(&Status::with_error_details(Code::Aborted, "no", details)),
            None,
            "{domain} {text}"
        );
    }
    let garbage = Status::with_details(Code::Aborted, "no", vec![0xff; 40].into());
    assert_eq!(Reason::of(&garbage), None);
}
