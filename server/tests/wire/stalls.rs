//! Callers of streams of answers who take nothing.

use std::time::Duration;

use herdstream_proto::{
    error::Reason,
    v1::{self, query_service_client::QueryServiceClient},
};
use herdstream_server::{config::Config, testing::TestServer};
use tonic::{
    Status, Streaming,
    transport::{Channel, Endpoint},
};

use crate::{
    answers::{DAY, Measured, START, store},
    client::{PATIENCE, assert_reason, query_client},
};

/// Places of each kind of stream.
const PLACES: usize = 256;

/// A caller on a connection of its own that takes no more than `window` bytes ahead of being read.
async fn slow_client(server: &TestServer, window: u32) -> QueryServiceClient<Channel> {
    let endpoint = Endpoint::new(server.endpoint()).expect("an address").initial_stream_window_size(window);
    QueryServiceClient::new(endpoint.connect().await.expect("the server listens"))
}

/// Asks until there is a place.
async fn in_time<T>(mut ask: impl AsyncFnMut() -> Result<T, Status>) -> T {
    let asking = async {
        loop {
            match ask().await {
                Ok(answer) => return answer,
                Err(status) => assert_reason(&status, Reason::TooManyStreams),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.expect("places come free")
}

/// Reads what is left: how many messages, and how it ends.
async fn rest<T>(stream: &mut Streaming<T>) -> (usize, Option<Status>) {
    let mut count = 0;
    loop {
        match tokio::time::timeout(PATIENCE, stream.message()).await.expect("an answer in time") {
            Ok(Some(_)) => count += 1,
            Ok(None) => return (count, None),
            Err(status) => return (count, Some(status)),
        }
    }
}

/// A server with a farm whose three devices have 1500 readings each. That makes three parts, and the transport takes
/// two ahead of its caller.
async fn server_with(stall_timeout: Duration) -> TestServer {
    let mut config = Config::default();
    config.query.stall_timeout = stall_timeout;
    let server = TestServer::start_with(config).await;
    let measured = |n: u32| Measured {
        farm: 1,
        device: n % 3,
        time_us: START + i64::from(n),
        quarters: n as i32,
        animal: None,
    };
    store(&server, &(0..4_500).map(measured).collect::<Vec<_>>()).await;
    server
}

fn all_readings() -> v1::StreamRangeRequest {
    v1::StreamRangeRequest {
        farm_id: 1,
        start_us: START,
        end_us: START + DAY,
        ..v1::StreamRangeRequest::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_who_take_nothing_lose_their_places() {
    let server = server_with(Duration::from_millis(100)).await;
    let mut stalled = Vec::new();
    // A connection carries at most 200 streams.
    for _ in 0..3 {
        let client = slow_client(&server, 1024).await;
        for _ in 0..PLACES / 2 {
            let ask = async || client.clone().stream_range(all_readings()).await;
            stalled.push(in_time(ask).await.into_inner());
        }
    }
    assert!(stalled.len() > PLACES);
    // The last of them may still have its place; the first lost it to another.
    let (count, end) = rest(&mut stalled[0]).await;
    assert!(count < 3, "{count} of 3 parts");
    let status = end.expect("it was cut");
    assert_reason(&status, Reason::Stalled);
    assert!(status.message().contains("100ms"), "{status:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watchers_who_take_nothing_lose_their_places_when_there_is_something_to_take() {
    let server = server_with(Duration::from_millis(100)).await;
    let asked = v1::WatchReadingsRequest { farm_id: 1, ..v1::WatchReadingsRequest::default() };
    let watching = async {
        let mut stalled = Vec::new();
        for _ in 0..3 {
            let client = slow_client(&server, 64).await;
            for _ in 0..PLACES / 2 {
                let ask = async || client.clone().watch_readings(asked.clone()).await;
                stalled.push(in_time(ask).await.into_inner());
            }
        }
        stalled
    };
    let changing = async {
        for n in 1.. {
            let newest = START + DAY + n;
            store(&server, &[Measured { farm: 1, device: 0, time_us: newest, quarters: 1, animal: None }])
                .await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let mut stalled = tokio::select! { stalled = watching => stalled, () = changing => unreachable!() };
    assert!(stalled.len() > PLACES);
    let (_, end) = rest(&mut stalled[0]).await;
    assert_reason(&end.expect("it was cut"), Reason::Stalled);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_is_not_stalled() {
    let server = server_with(Duration::from_hours(1)).await;
    let mut stream =
        slow_client(&server, 1024).await.stream_range(all_readings()).await.unwrap().into_inner();
    // Others come and go meanwhile.
    for _ in 0..3 {
        let mut other = query_client(&server).await.stream_range(all_readings()).await.unwrap().into_inner();
        let (count, end) = rest(&mut other).await;
        assert_eq!((count, end.map(|status| status.code())), (3, None));
    }
    let (count, end) = rest(&mut stream).await;
    assert_eq!((count, end.map(|status| status.code())), (3, None));
    server.stop().await;
}
