//! Until when a caller waits.

use std::time::{Duration, Instant};

use tonic::metadata::MetadataMap;

use crate::{
    error::Error,
    store::{Call, Steps, StoreError},
};

/// Time in which an answer gets from here to the transport.
const MARGIN: Duration = Duration::from_millis(20);

/// Runs the answer to a question until its caller's deadline, or ours if that is earlier.
///
/// # Errors
///
/// What `answer` fails with, or [`StoreError::Deadline`].
pub(super) async fn within<T>(
    metadata: &MetadataMap,
    longest: Duration,
    steps: Option<Steps>,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    // A little less than asked for: the transport gives up at the same time, without a reason.
    let patience =
        asked(metadata).map_or(longest, |asked| asked.saturating_sub(asked.min(MARGIN) / 2).min(longest));
    let call = Call { deadline: Some(Instant::now() + patience), steps };
    match tokio::time::timeout(patience, call.run(answer)).await {
        Ok(answer) => answer,
        Err(_) => Err(Error::Store(StoreError::Deadline)),
    }
}

/// The header `grpc-timeout`: at most eight digits and a unit (gRPC over HTTP/2).
fn asked(metadata: &MetadataMap) -> Option<Duration> {
    let text = metadata.get("grpc-timeout")?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let count: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(count * 3600)),
        "M" => Some(Duration::from_secs(count * 60)),
        "S" => Some(Duration::from_secs(count)),
        "m" => Some(Duration::from_millis(count)),
        "u" => Some(Duration::from_micros(count)),
        "n" => Some(Duration::from_nanos(count)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn whoever_has_less_patience_decides() {
        let asking = |text: &str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().expect("a header"));
            metadata
        };
        let (short, long) = (Duration::from_millis(10), Duration::from_hours(1));
        for (metadata, longest) in [(asking("30m"), long), (asking("1H"), short), (MetadataMap::new(), short)]
        {
            let ended = within(&metadata, longest, None, std::future::pending::<Result<(), Error>>()).await;
            assert!(matches!(ended, Err(Error::Store(StoreError::Deadline))), "{metadata:?}: {ended:?}");
        }
        assert!(within(&asking("1H"), long, None, async { Ok(()) }).await.is_ok());
    }

    #[test]
    fn timeouts_are_read_as_the_specification_says() {
        let read = |text: &'static str| {
            let mut metadata = MetadataMap::new();
            metadata.insert("grpc-timeout", text.parse().expect("a header"));
            asked(&metadata)
        };
        assert_eq!(read("1H"), Some(Duration::from_hours(1)));
        assert_eq!(read("2M"), Some(Duration::from_mins(2)));
        assert_eq!(read("99999999S"), Some(Duration::from_secs(99_999_999)));
        assert_eq!(read("250m"), Some(Duration::from_millis(250)));
        assert_eq!(read("7u"), Some(Duration::from_micros(7)));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        for text in ["", "S", "1", "1s", "-1S", "123456789S", "1.5S"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert_eq!(asked(&MetadataMap::new()), None);
    }
}
