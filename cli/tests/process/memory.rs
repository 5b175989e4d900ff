//! Memory of a server with thousands of streams.

use std::sync::Arc;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{sync::Barrier, task::JoinSet};
use tonic::transport::Channel;
use uuid::Uuid;

use crate::{
    gateway::no_streams,
    server::Setup,
    stream::{Stream, an_hour_ago, batch},
    until,
};

/// Each with four idle streams and four active ones.
const CONNECTIONS: usize = 250;
const BATCHES: u64 = 6;
const READINGS: usize = 500;
const BOUND_KIB: u64 = 400 << 10;

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_idle_and_a_thousand_active_streams_fit_in_400_mib() {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::new(dir.path().join("data")).start().await;
    let empty = server.figure("VmRSS");

    let mut opening = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let channel = server.connect().await;
        opening.spawn(async move {
            let mut idle = Vec::new();
            for _ in 0..4 {
                idle.push(Stream::open(channel.clone(), Uuid::new_v4()).await.unwrap().0);
            }
            (channel, idle)
        });
    }
    let connections = opening.join_all().await;
    let idle = server.figure("VmRSS");

    // All are open before the first of them sends.
    let all_open = Arc::new(Barrier::new(CONNECTIONS * 4 + 1));
    let mut active = JoinSet::new();
    for (channel, _) in &connections {
        for _ in 0..4 {
            active.spawn(stream(channel.clone(), Arc::clone(&all_open)));
        }
    }
    until("all are open", || async {
        server.metric("herdstream_streams_open").await == CONNECTIONS as u64 * 8
    })
    .await;
    all_open.wait().await;
    assert!(server.descriptors() >= CONNECTIONS, "{} descriptors", server.descriptors());
    let acked: u64 = active.join_all().await.into_iter().sum();
    assert_eq!(acked, CONNECTIONS as u64 * 4 * BATCHES);
    let streams = server.metric("herdstream_streams_open").await;
    assert!(streams >= CONNECTIONS as u64 * 4, "the idle streams live: {streams}");
    let peak = server.figure("VmHWM");
    println!(
        "resident: empty {} MiB, 1000 idle streams {} MiB, peak with 1000 active ones {} MiB",
        empty >> 10,
        idle >> 10,
        peak >> 10
    );
    assert!(peak <= BOUND_KIB, "peak of {peak} KiB");

    for (_, idle) in connections {
        for mut stream in idle {
            assert!(stream.send(batch(1, "idle", an_hour_ago(), 1)).await);
            stream.acked(1).await.unwrap();
            stream.close().await.unwrap();
        }
    }
    no_streams(&server).await;
    server.stop().await;
}

/// Streams as fast as credit allows; answers the batches acked.
async fn stream(channel: Channel, all_open: Arc<Barrier>) -> u64 {
    let producer = Uuid::new_v4();
    let device = format!("device-{}", producer.simple());
    let (mut stream, _) = Stream::open(channel, producer).await.expect("a session");
    let start_us = an_hour_ago();
    all_open.wait().await;
    for offset in 1..=BATCHES {
        let batch = batch(offset, &device, start_us, READINGS);
        while !stream.may_send(&batch) {
            let received = stream.next().await.expect("the stream goes on");
            assert!(received.is_some(), "the stream goes on");
        }
        assert!(stream.send(batch).await);
    }
    stream.acked(BATCHES).await.expect("acks");
    stream.close().await.expect("an orderly end");
    BATCHES
}
