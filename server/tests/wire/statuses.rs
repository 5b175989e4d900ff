//! Every row of the protocol's table of statuses, provoked on the wire: status, reason, and that what
//! the stream had committed is untouched.

use std::time::Duration;

use herdstream_proto::{
    error::Reason,
    v1::{self, stream_request::Message as Sent},
};
use herdstream_server::{config::Config, testing::TestServer};
use tonic::Status;
use tonic_types::StatusExt as _;

use crate::client::{RawStream, assert_reason, batch, ingest_client, sent, series, stored};

/// Commits ten readings, lets `provoke` end the stream, and checks how it ended and what is stored.
async fn refused(server: &TestServer, reason: Reason, provoke: impl AsyncFnOnce(&RawStream, &str)) -> Status {
    let device = format!("device-{}", uuid::Uuid::new_v4());
    let (mut stream, _) = RawStream::open(server).await;
    stream.send(sent(batch(1, &device, 10))).await;
    stream.acked(1).await;
    provoke(&stream, &device).await;
    let status = stream.refused().await;
    assert_reason(&status, reason);
    assert_eq!(stored(server, &device).await.len(), 10, "committed data after {reason:?}");
    let (mut again, opened) = RawStream::reopen(server, stream.producer).await;
    assert_eq!(opened.committed_offset, 1);
    again.send(sent(batch(2, &device, 1))).await;
    again.acked(2).await;
    status
}

#[tokio::test]
async fn bad_message() {
    let server = TestServer::start().await;
    refused(&server, Reason::BadMessage, async |stream, _| stream.send(stream.open_message()).await).await;
    refused(&server, Reason::BadMessage, async |stream, _| stream.send_empty().await).await;
    let undefined = refused(&server, Reason::BadMessage, async |stream, device| {
        let mut undefined = batch(2, device, 3);
        undefined.readings[2].series_ref = 77;
        stream.send(sent(undefined)).await;
    })
    .await;
    assert!(undefined.message().contains("batch 2") && undefined.message().contains("77"), "{undefined:?}");
    refused(&server, Reason::BadMessage, async |stream, device| {
        let mut rebound = batch(2, device, 3);
        rebound.series = vec![series(1, "other", "temperature")];
        stream.send(sent(rebound)).await;
    })
    .await;
    refused(&server, Reason::BadMessage, async |stream, device| stream.send(sent(batch(0, device, 1))).await)
        .await;
    server.stop().await;
}

#[tokio::test]
async fn the_first_message_must_be_a_sound_open() {
    let server = TestServer::start().await;
    let refuse = async |change: fn(&mut v1::Open), reason| {
        let mut stream = RawStream::connect(&server).await.unwrap();
        let Sent::Open(mut open) = stream.open_message() else { unreachable!() };
        change(&mut open);
        stream.send(Sent::Open(open)).await;
        assert_reason(&stream.refused().await, reason);
    };
    refuse(|open| open.protocol_version = 2, Reason::UnsupportedVersion).await;
    refuse(|open| open.producer_id = "7".to_owned(), Reason::BadMessage).await;
    refuse(|open| open.producer_id = uuid::Uuid::nil().to_string(), Reason::BadMessage).await;
    refuse(|open| open.gateway_id.clear(), Reason::BadMessage).await;
    refuse(|open| open.gateway_id = "g".repeat(65), Reason::BadMessage).await;
    refuse(|open| open.instance_id = "\0".to_owned(), Reason::BadMessage).await;
    refuse(|open| open.sdk = "s".repeat(65), Reason::BadMessage).await;
    refuse(|open| open.first_retained_offset = 0, Reason::BadMessage).await;
    refuse(|open| open.next_offset = 0, Reason::BadMessage).await;
    refuse(|open| open.next_offset = u64::MAX, Reason::BadMessage).await;
    let mut stream = RawStream::connect(&server).await.unwrap();
    stream.send(sent(batch(1, "d", 1))).await;
    assert_reason(&stream.refused().await, Reason::BadMessage);
    server.stop().await;
}

#[tokio::test]
async fn offset_gap() {
    let server = TestServer::start().await;
    let status = refused(&server, Reason::OffsetGap, async |stream, device| {
        stream.send(sent(batch(3, device, 1))).await;
    })
    .await;
    assert_eq!(status.get_details_error_info().unwrap().metadata["expected_offset"], "2");
    server.stop().await;
}

#[tokio::test]
async fn batch_too_large() {
    let server = TestServer::start().await;
    refused(&server, Reason::BatchTooLarge, async |stream, device| {
        stream.send(sent(batch(2, device, 10_001))).await;
    })
    .await;
    refused(&server, Reason::BatchTooLarge, async |stream, device| {
        let mut long = batch(2, device, 600);
        for reading in &mut long.readings {
            reading.metadata = Some(format!("{{\"a\":\"{}\"}}", "x".repeat(8000)));
        }
        stream.send(sent(long)).await;
    })
    .await;
    refused(&server, Reason::BatchTooLarge, async |stream, device| {
        let mut huge = batch(2, device, 1);
        huge.readings[0].metadata = Some("x".repeat(9 << 20));
        stream.send(sent(huge)).await;
    })
    .await;
    server.stop().await;
}

#[tokio::test]
async fn fenced() {
    let server = TestServer::start().await;
    let (mut stream, _) = RawStream::open(&server).await;
    stream.send(sent(batch(1, "d", 10))).await;
    stream.acked(1).await;
    server.fence(stream.producer).await;
    assert_reason(&stream.refused().await, Reason::Fenced);
    assert_eq!(stored(&server, "d").await.len(), 10);
    server.stop().await;
}

#[tokio::test]
async fn credit_exceeded() {
    let mut config = Config::default();
    config.ingest.stream_credit = bytesize::ByteSize::kib(64);
    let server = TestServer::start_with(config).await;
    let (mut stream, opened) = RawStream::open(&server).await;
    assert_eq!(opened.credit.unwrap().max_bytes, 64 << 10);
    server.faults().stall(true);
    // The first may be larger than the credit, since nothing is in flight.
    stream.send(sent(batch(1, "d", 5000))).await;
    stream.try_send(sent(batch(2, "d", 1))).await;
    assert_reason(&stream.refused().await, Reason::CreditExceeded);
    server.faults().stall(false);
    let (_, opened) = RawStream::reopen(&server, stream.producer).await;
    assert_eq!(opened.committed_offset, 1);
    assert_eq!(stored(&server, "d").await.len(), 5000);
    server.stop().await;
}

#[tokio::test]
async fn rate_limited() {
    let mut config = Config::default();
    config.ingest.max_opens_per_second = Some(1);
    config.ingest.max_writes_per_second = Some(1);
    let server = TestServer::start_with(config).await;
    let (mut first, _) = RawStream::open(&server).await;
    first.send(sent(batch(1, "d", 10))).await;
    first.acked(1).await;
    let mut second = RawStream::connect(&server).await.unwrap();
    second.send(second.open_message()).await;
    let mut statuses = vec![second.refused().await];
    let mut client = ingest_client(&server).await;
    let write = v1::WriteRequest { batch: Some(batch(0, "d", 1)), ..v1::WriteRequest::default() };
    client.write(write.clone()).await.unwrap();
    statuses.push(client.write(write).await.unwrap_err());
    for status in statuses {
        assert_reason(&status, Reason::RateLimited);
        let pause = status.get_details_retry_info().unwrap().retry_delay.unwrap();
        assert!(pause > Duration::ZERO && pause <= Duration::from_secs(1), "{pause:?}");
    }
    assert_eq!(stored(&server, "d").await.len(), 11);
    server.stop().await;
}

#[tokio::test]
async fn too_many_streams() {
    let mut config = Config::default();
    config.ingest.max_streams = 1;
    let server = TestServer::start_with(config).await;
    let (mut first, _) = RawStream::open(&server).await;
    let status = RawStream::connect(&server).await.err().expect("no second stream");
    assert_reason(&status, Reason::TooManyStreams);
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    first.send(sent(batch(1, "d", 10))).await;
    first.finish();
    first.ended().await;
    assert_eq!(stored(&server, "d").await.len(), 10);
    // The place is free again.
    drop(first);
    let mut next = loop {
        match RawStream::connect(&server).await {
            Ok(stream) => break stream,
            Err(status) => assert_reason(&status, Reason::TooManyStreams),
        }
    };
    next.send(next.open_message()).await;
    next.send(sent(batch(1, "d", 1))).await;
    next.next().await.unwrap();
    next.acked(1).await;
    server.stop().await;
}

#[tokio::test]
async fn credentials() {
    let config = r#"
        [[auth.gateways]]
        gateway_id = "gateway"
        token = "0123456789abcdef"
        farms = [1]
        [[auth.gateways]]
        gateway_id = "neighbour"
        token = "fedcba9876543210"
        farms = [2]
    "#;
    let config: Config = toml::from_str(config).unwrap();
    let server = TestServer::start_with(config).await;
    let open = async |token: &str, producer: Option<uuid::Uuid>| {
        let mut stream = RawStream::connect_with(&server, Some(token)).await.unwrap();
        stream.producer = producer.unwrap_or(stream.producer);
        stream.send(stream.open_message()).await;
        stream
    };
    for token in [None, Some("0123456789abcdeX"), Some("")] {
        let status =
            RawStream::connect_with(&server, token).await.err().expect("no stream without credentials");
        assert_reason(&status, Reason::Unauthenticated);
        assert!(!status.message().contains("0123456789"), "{status:?}");
    }
    let mut own = open("0123456789abcdef", None).await;
    own.next().await.unwrap();
    own.send(sent(batch(1, "d", 10))).await;
    own.acked(1).await;
    // Another gateway's name, another gateway's producer, another's farm.
    assert_reason(&open("fedcba9876543210", None).await.refused().await, Reason::PermissionDenied);
    let mut foreign = batch(2, "d", 1);
    foreign.series[0].r#ref = 2;
    foreign.series[0].farm_id = 2;
    foreign.readings[0].series_ref = 2;
    own.send(sent(foreign)).await;
    assert_reason(&own.refused().await, Reason::PermissionDenied);
    let mut theirs = RawStream::connect_with(&server, Some("fedcba9876543210")).await.unwrap();
    theirs.producer = own.producer;
    let Sent::Open(mut message) = theirs.open_message() else { unreachable!() };
    message.gateway_id = "neighbour".to_owned();
    theirs.send(Sent::Open(message)).await;
    assert_reason(&theirs.refused().await, Reason::PermissionDenied);
    let mut again = open("0123456789abcdef", Some(own.producer)).await;
    let Ok(Some(v1::stream_response::Message::Opened(opened))) = again.next().await else {
        panic!("not opened")
    };
    assert_eq!((opened.committed_offset, opened.totals.unwrap().stored), (1, 10));
    server.stop().await;
}

#[tokio::test]
async fn store_down() {
    let server = TestServer::start().await;
    let (mut stream, _) = RawStream::open(&server).await;
    stream.send(sent(batch(1, "d", 10))).await;
    stream.acked(1).await;
    server.faults().store_down(true);
    // The open stream stays, and nothing is acknowledged.
    stream.send(sent(batch(2, "d", 10))).await;
    stream.ping(1).await;
    while server.ingest().store_up() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut late = RawStream::connect(&server).await.unwrap();
    late.send(late.open_message()).await;
    let status = late.refused().await;
    assert_reason(&status, Reason::StoreDown);
    assert!(status.get_details_retry_info().unwrap().retry_delay.is_some());
    server.faults().store_down(false);
    let ack = stream.acked(2).await;
    assert_eq!(ack.totals.unwrap().stored, 20);
    assert_eq!(stored(&server, "d").await.len(), 20);
    server.stop().await;
}

#[tokio::test]
async fn draining() {
    let mut server = TestServer::start().await;
    let (mut stream, _) = RawStream::open(&server).await;
    server.faults().stall(true);
    stream.send(sent(batch(1, "d", 10))).await;
    stream.ping(1).await;
    let mut client = ingest_client(&server).await;
    let faults = server.faults().clone();
    let ((), ()) = tokio::join!(server.pause(), async {
        assert!(matches!(stream.next().await, Ok(Some(v1::stream_response::Message::Drain(_)))));
        let write = v1::WriteRequest { batch: Some(batch(0, "d", 1)), ..v1::WriteRequest::default() };
        assert_reason(&client.write(write).await.unwrap_err(), Reason::Draining);
        faults.stall(false);
        assert_eq!(stream.ended().await.unwrap().committed_offset, 1);
    });
    server.resume().await;
    assert_eq!(stored(&server, "d").await.len(), 10);
    server.stop().await;
}

#[tokio::test]
async fn a_bug_shows_an_id_and_nothing_else() {
    let server = TestServer::start().await;
    let (mut stream, _) = RawStream::open(&server).await;
    stream.send(sent(batch(1, "d", 10))).await;
    stream.acked(1).await;
    server.faults().damage(true);
    let request = v1::GetProducerRequest { producer_id: stream.producer.to_string() };
    let status = ingest_client(&server).await.get_producer(request).await.unwrap_err();
    assert_reason(&status, Reason::Internal);
    let id = &status.get_details_error_info().unwrap().metadata["id"];
    assert_eq!(status.message(), format!("internal error {id}: see the server's log"));
    server.faults().damage(false);
    assert_eq!(stored(&server, "d").await.len(), 10);
    server.stop().await;
}

#[tokio::test]
async fn silence_is_cut() {
    let mut config = Config::default();
    config.ingest.open_timeout = Duration::from_millis(200);
    config.ingest.keepalive = Duration::from_millis(100);
    config.ingest.idle_timeout = Duration::from_millis(400);
    let server = TestServer::start_with(config).await;
    let mut mute = RawStream::connect(&server).await.unwrap();
    assert_reason(&mute.refused().await, Reason::Stalled);
    refused(&server, Reason::Stalled, async |_, _| {}).await;
    server.stop().await;
}
