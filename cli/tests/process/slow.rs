//! The log of slow queries.

use futures::StreamExt as _;
use herdstream_client::{QueryClient, QueryConfig, v1};

use crate::{PATIENCE, history::History, server::Setup};

#[tokio::test(flavor = "multi_thread")]
async fn slow_queries_and_parts_of_streams_are_logged_and_fast_ones_are_not() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path().join("data"));
    let (all, none) = (setup.clone().set("QUERY__SLOW", "0s"), setup.set("QUERY__SLOW", "1h"));
    let server = all.start().await;
    let history = History::write(&server).await;
    ask(&QueryConfig::new(format!("http://{}", server.address())), &history).await;
    for rpc in ["GetLatest", "StreamRange", "WatchReadings"] {
        server.says(&format!("rpc=\"{rpc}\"")).await;
        let output = server.output();
        let is_told =
            |line: &str| line.contains("slow query") && line.contains(rpc) && line.contains(history.device());
        assert!(output.lines().any(is_told), "{rpc} of {} is not told:\n{output}", history.device());
    }
    server.stop().await;

    let server = none.start().await;
    ask(&QueryConfig::new(format!("http://{}", server.address())), &history).await;
    let output = server.output();
    assert!(!output.contains("slow query"), "{output}");
    server.stop().await;
}

/// Asks for the newest reading, a part of a stream, and live values.
async fn ask(config: &QueryConfig, history: &History) {
    let client = QueryClient::connect(config.clone().timeout(PATIENCE)).await.expect("the server listens");
    let device_uid = history.device().to_owned();
    let latest = v1::GetLatestRequest { device_uid: device_uid.clone(), ..Default::default() };
    client.get_latest(latest).await.expect("the newest");
    let (start_us, end_us) = (0, i64::MAX);
    let all =
        v1::StreamRangeRequest { device_uid: device_uid.clone(), start_us, end_us, ..Default::default() };
    let mut parts = Box::pin(client.stream_range(all).await.expect("a stream"));
    parts.next().await.expect("a part").expect("a part");
    let live = v1::WatchReadingsRequest { device_uid, ..Default::default() };
    let mut changes = Box::pin(client.watch_readings(live).await.expect("a stream"));
    changes.next().await.expect("a change").expect("a change");
}
