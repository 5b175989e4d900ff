//! What is counted: figures belong to a process, so this test has one of its own.

use std::time::Duration;

use herdstream_proto::{
    error::Reason,
    v1::{self, query_service_client::QueryServiceClient},
};
use herdstream_server::{config::Config, ops::metrics, testing::TestServer};
use tonic::Request;

/// Calls of an RPC that were answered so.
fn answers(rpc: &str, answer: &str) -> u64 {
    let labels = [format!("=\"{rpc}\""), format!("=\"{answer}\"")];
    let text = metrics::render();
    let is_meant = |line: &&str| {
        line.starts_with("herdstream_call_duration_seconds_count{")
            && labels.iter().all(|label| line.contains(label))
    };
    let count = text.lines().find(is_meant).and_then(|line| line.rsplit(' ').next());
    count.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("no count of {rpc} {answer}"))
}

/// Waits until a stream that its caller has seen the end of is counted.
async fn counted(rpc: &str, answer: &str, count: u64) {
    let counted = async {
        while answers(rpc, answer) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), counted).await.expect("it is counted");
    assert_eq!(answers(rpc, answer), count, "{rpc} {answer}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_stream_of_answers_is_counted_once_as_it_ended() {
    const TOKEN: &str = "Bearer 0123456789abcdef";
    let config = "[[auth.gateways]]\ngateway_id = 'g'\ntoken = '0123456789abcdef'\nfarms = [1]";
    let config: Config = toml::from_str(config).unwrap();
    let server = TestServer::start_with(config).await;
    let mut client = QueryServiceClient::connect(server.endpoint()).await.unwrap();
    let mut refused = 0;
    // Before a stream begins: no credentials, a farm of others. And after: a farm that is not known.
    for (token, farm_id, reason) in [
        (None, 1, Reason::Unauthenticated),
        (Some(TOKEN), 2, Reason::PermissionDenied),
        (Some(TOKEN), 1, Reason::NotFound),
    ] {
        let range = v1::StreamRangeRequest { farm_id, end_us: 1, ..v1::StreamRangeRequest::default() };
        let watch = v1::WatchReadingsRequest { farm_id, ..v1::WatchReadingsRequest::default() };
        let (mut range, mut watch) = (Request::new(range), Request::new(watch));
        if let Some(token) = token {
            range.metadata_mut().insert("authorization", token.parse().unwrap());
            watch.metadata_mut().insert("authorization", token.parse().unwrap());
        }
        let ended =
            async { client.clone().stream_range(range).await?.into_inner().message().await.map(drop) };
        assert_eq!(Reason::of(&ended.await.unwrap_err()), Some(reason));
        let ended = async { client.watch_readings(watch).await?.into_inner().message().await.map(drop) };
        assert_eq!(Reason::of(&ended.await.unwrap_err()), Some(reason));
        refused += 1;
        counted("StreamRange", "refused", refused).await;
        counted("WatchReadings", "refused", refused).await;
    }
    for answer in ["ok", "failed"] {
        assert_eq!((answers("StreamRange", answer), answers("WatchReadings", answer)), (0, 0), "{answer}");
    }
    server.stop().await;
}
