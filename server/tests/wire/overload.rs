//! Slow, lying and vanishing clients.

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use herdstream_proto::{error::Reason, v1};
use herdstream_server::{config::Config, testing::TestServer};
use http_body_util::StreamBody;
use prost::Message as _;
use tokio_stream::StreamExt as _;
use tonic::{body::Body, transport::Endpoint};
use tower::{Service as _, ServiceExt as _};

use crate::client::{PATIENCE, RawStream, assert_reason, batch, sent, stored};

#[tokio::test]
async fn all_streams_together_hold_no_more_than_the_pool() {
    let mut config = Config::default();
    config.ingest.buffer = bytesize::ByteSize::mib(8);
    config.ingest.group_bytes = bytesize::ByteSize::mib(1);
    let server = TestServer::start_with(config).await;
    let mut streams = Vec::new();
    for _ in 0..40 {
        streams.push(RawStream::open(&server).await.0);
    }
    server.faults().stall(true);
    // Each sends one batch of 250 KB that nobody commits: forty are more than the pool holds.
    for (index, stream) in streams.iter().enumerate() {
        stream.send(sent(batch(1, &format!("d{index}"), 10_000))).await;
    }
    let pool = server.ingest().pool().clone();
    while pool.available() > 300_000 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(pool.held() <= 8 << 20);
    server.faults().stall(false);
    for stream in &mut streams {
        stream.acked(1).await;
    }
    assert_eq!(stored(&server, "d39").await.len(), 10_000);
    drop(streams);
    while pool.held() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_are_announced_and_do_not_come_hold_nobody_up() {
    let mut config = Config::default();
    // Nobody is cut for it while this test lasts.
    config.ingest.message_timeout = Duration::from_hours(1);
    config.ingest.open_timeout = Duration::from_hours(1);
    config.drain.deadline = Duration::from_secs(1);
    let server = TestServer::start_with(config).await;
    let mut silent = Vec::new();
    // Many times the pool: nothing but the length, or a beginning.
    for (announced, sent) in [(4_u32 << 20, 0), (4 << 20, 100_000), (8 << 20, 100_000), (60_000, 10)] {
        for _ in 0..150 {
            let mut begun = vec![0];
            begun.extend(announced.to_be_bytes());
            begun.resize(begun.len() + sent, 0);
            let frames = tokio_stream::once(Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(begun))));
            silent.push(raw_stream(&server, StreamBody::new(frames.chain(tokio_stream::pending()))).await);
        }
    }
    let (mut stream, _) = RawStream::open(&server).await;
    for offset in 1..=20 {
        stream.send(sent(batch(offset, "d", 1000))).await;
        stream.acked(offset).await;
    }
    // They are still there, and hold what they were granted.
    assert!(server.ingest().pool().held() > 0);
    drop(silent);
    server.stop().await;
}

#[tokio::test]
async fn a_message_that_is_begun_and_not_ended_is_cut() {
    let mut config = Config::default();
    config.ingest.message_timeout = Duration::from_millis(200);
    let server = TestServer::start_with(config).await;
    // The prefix announces four megabytes; ten bytes come.
    let mut begun = vec![0];
    begun.extend((4_u32 << 20).to_be_bytes());
    begun.extend([0; 10]);
    let frames = tokio_stream::once(Ok::<_, Infallible>(http_body::Frame::data(Bytes::from(begun))));
    let body = StreamBody::new(frames.chain(tokio_stream::pending()));
    let mut responses = raw_stream(&server, body).await;
    let status = tokio::time::timeout(PATIENCE, responses.message()).await.unwrap().unwrap_err();
    assert_reason(&status, Reason::Stalled);
    assert_eq!(server.ingest().pool().held(), 0);
    server.stop().await;
}

#[tokio::test]
async fn acks_to_a_client_that_does_not_read_are_merged() {
    let server = TestServer::start().await;
    let (mut stream, _) = RawStream::open(&server).await;
    for offset in 1..=500 {
        let mut bad = batch(offset, "d", 2);
        bad.readings[0].value = f64::INFINITY;
        stream.send(sent(bad)).await;
    }
    while server.ingest().pending() > 0 || stored(&server, "d").await.len() < 500 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let mut told = 0;
    loop {
        let Ok(Some(v1::stream_response::Message::Ack(ack))) = stream.next().await else { panic!("an ack") };
        assert!(ack.rejections.len() <= 500);
        told += ack.rejections.len() + ack.rejections_omitted as usize;
        if ack.committed_offset == 500 {
            break;
        }
    }
    assert_eq!(told, 500);
    server.stop().await;
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_what_it_sent_and_nothing_else() {
    let server = TestServer::start().await;
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(RawStream::open(&server).await.0);
    }
    server.faults().stall(true);
    for stream in &streams {
        stream.send(sent(batch(1, "d", 10))).await;
    }
    while server.ingest().pending() < 200 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(streams);
    server.faults().stall(false);
    while !server.ingest().sessions().is_empty() || server.ingest().pending() > 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(stored(&server, "d").await.len(), 200);
    assert_eq!(server.ingest().pool().held(), 0);
    server.stop().await;
}

#[tokio::test]
async fn a_slow_link_may_take_longer_for_a_message_than_the_timeout_as_long_as_it_goes_on() {
    let mut config = Config::default();
    config.ingest.message_timeout = Duration::from_millis(300);
    config.ingest.idle_timeout = Duration::from_millis(400);
    config.ingest.keepalive = Duration::from_millis(200);
    let server = TestServer::start_with(config).await;
    let (mut stream, _) = RawStream::open(&server).await;
    let producer = stream.producer;
    stream.finish();
    stream.ended().await;
    // 300 KB in parts of 20 KB, 50 ms apart: three times the timeout in all.
    let mut messages = Vec::new();
    let large = v1::Reading {
        metadata: Some(format!("{{\"a\":\"{}\"}}", "x".repeat(6000))),
        ..batch(1, "d", 1).readings[0].clone()
    };
    let mut heavy = batch(1, "d", 0);
    heavy.readings = vec![large; 50];
    for message in [stream_open(producer), v1::stream_request::Message::Batch(heavy)] {
        let message = v1::StreamRequest { message: Some(message) }.encode_to_vec();
        messages.push(0);
        messages.extend((message.len() as u32).to_be_bytes());
        messages.extend(message);
    }
    let parts: Vec<_> = messages.chunks(20_000).map(Bytes::copy_from_slice).collect();
    let frames = tokio_stream::iter(parts)
        .throttle(Duration::from_millis(50))
        .map(|part| Ok::<_, Infallible>(http_body::Frame::data(part)));
    let mut responses = raw_stream(&server, StreamBody::new(frames)).await;
    let mut committed = 0;
    while let Some(response) = tokio::time::timeout(PATIENCE, responses.message()).await.unwrap().unwrap() {
        if let Some(v1::stream_response::Message::Ack(ack)) = response.message {
            committed = ack.committed_offset;
        }
    }
    assert_eq!(committed, 1);
    assert_eq!(stored(&server, "d").await.len(), 50);
    server.stop().await;
}

fn stream_open(producer: uuid::Uuid) -> v1::stream_request::Message {
    v1::stream_request::Message::Open(v1::Open {
        protocol_version: 1,
        producer_id: producer.to_string(),
        instance_id: "i".to_owned(),
        gateway_id: "g".to_owned(),
        first_retained_offset: 1,
        next_offset: 2,
        sdk: String::new(),
    })
}

/// A stream whose bytes the test decides on.
async fn raw_stream<B>(server: &TestServer, body: B) -> tonic::Streaming<v1::StreamResponse>
where
    B: http_body::Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let mut channel =
        Endpoint::new(server.endpoint()).expect("an address").connect().await.expect("the server listens");
    let request = http::Request::post(format!("{}/herdstream.v1.IngestService/Stream", server.endpoint()))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(body))
        .expect("a sound request");
    let response = channel.ready().await.expect("connected").call(request).await.expect("an answer");
    let decoder = tonic_prost::ProstDecoder::<v1::StreamResponse>::default();
    tonic::codec::Streaming::new_response(decoder, response.into_body(), http::StatusCode::OK, None, None)
}
