//! With a spool, against the real server.

use std::{fs, path::Path, time::Duration};

use herdstream_client::{Event, Producer, ProducerConfig, SendReason, SpoolConfig, WhenFull};
use herdstream_server::testing::TestServer;
use tempfile::TempDir;

use crate::farm::{Collar, PATIENCE, assert_balanced, assert_holds, config, connected, stored, until};

fn spooled(server: &TestServer, dir: &TempDir) -> ProducerConfig {
    config(server.endpoint()).spool(dir.path())
}

fn small(server: &TestServer, dir: &TempDir) -> ProducerConfig {
    let spool = SpoolConfig { max_bytes: 1 << 20, segment_bytes: 64 << 10, ..SpoolConfig::new(dir.path()) };
    config(server.endpoint()).batch_readings(100).spool_config(spool)
}

/// Producers' logs in a spool.
fn logs(dir: &Path) -> usize {
    let entries = fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("an entry"));
    entries.filter(|entry| entry.file_name().len() == 36 && entry.path().is_dir()).count()
}

#[tokio::test]
async fn what_is_acknowledged_leaves_the_spool() {
    let (server, dir) = (TestServer::start().await, TempDir::new().expect("a directory"));
    let producer = Producer::open(spooled(&server, &dir)).await.expect("opens");
    let mut collar = Collar::of(&producer);
    for _ in 0..10 {
        producer.send(collar.reading(), PATIENCE).await.expect("room");
    }
    let counters = producer.counters();
    assert_eq!(counters.accepted, 10);
    assert!(counters.syncs >= 10, "each lone send waits for a sync: {counters:?}");
    producer.send_many(collar.readings(5000), PATIENCE).await.expect("room");
    producer.flush(PATIENCE).await.expect("a server");
    assert_holds(&server, 1..=5010).await;
    let report = producer.close(PATIENCE).await.expect("closes");
    assert_balanced(&report.counters);
    assert_eq!((report.pending, report.kept_in), (0, None));
    assert_eq!(logs(dir.path()), 0, "nothing is left");
}

#[tokio::test]
async fn senders_at_the_same_time_share_syncs() {
    let (server, dir) = (TestServer::start().await, TempDir::new().expect("a directory"));
    let producer = Producer::open(spooled(&server, &dir)).await.expect("opens");
    let mut collar = Collar::of(&producer);
    let sends = collar.readings(500).into_iter().map(|reading| producer.send(reading, PATIENCE));
    futures::future::try_join_all(sends).await.expect("room");
    let counters = producer.counters();
    assert_eq!(counters.accepted, 500);
    assert!(counters.syncs < 250, "{counters:?}");
    producer.close(PATIENCE).await.expect("closes");
    assert_holds(&server, 1..=500).await;
}

#[tokio::test]
async fn a_close_keeps_what_is_not_acknowledged_and_the_next_opening_sends_it() {
    let (mut server, dir) = (TestServer::start().await, TempDir::new().expect("a directory"));
    server.pause().await;
    let mut sent = 0;
    let mut last = None;
    for opening in 0..4 {
        let producer = Producer::open(spooled(&server, &dir)).await.expect("opens");
        let counters = producer.counters();
        assert_eq!(counters.recovered_logs, opening, "{counters:?}");
        assert_eq!(counters.recovered_batches > 0, opening > 0, "{counters:?}");
        let mut collar =
            last.as_ref().map_or_else(|| Collar::of(&producer), |last| Collar::after(&producer, last));
        producer.send_many(collar.readings(1500), PATIENCE).await.expect("room");
        let report = producer.close(Duration::from_millis(10)).await.expect("the spool keeps it");
        assert_eq!(report.pending, 1500);
        assert_eq!(report.kept_in.as_deref(), Some(dir.path()));
        sent += 1500;
        last = Some(collar);
    }
    server.resume().await;
    let producer = Producer::open(spooled(&server, &dir)).await.expect("opens");
    let mut events = producer.events();
    let mut drained = 0;
    until(&mut events, "four logs", |event| {
        drained += u32::from(matches!(event, Event::SpoolDrained { .. }));
        (drained == 4).then_some(())
    })
    .await;
    assert_holds(&server, 1..=sent).await;
    let counters = producer.close(PATIENCE).await.expect("closes").counters;
    assert_eq!((counters.recovered_logs, counters.recovered_batches), (0, 0));
    assert_eq!(logs(dir.path()), 0);
}

#[tokio::test]
async fn a_spool_that_was_copied_neither_doubles_nor_swallows() {
    let (mut server, dir) = (TestServer::start().await, TempDir::new().expect("a directory"));
    server.pause().await;
    let producer = Producer::open(spooled(&server, &dir)).await.expect("opens");
    let mut collar = Collar::of(&producer);
    producer.send_many(collar.readings(2000), PATIENCE).await.expect("room");
    producer.close(Duration::from_millis(10)).await.expect("the spool keeps it");
    let copy = TempDir::new().expect("a directory");
    copy_dir(dir.path(), copy.path());
    server.resume().await;
    for dir in [&dir, &copy] {
        let producer = Producer::open(spooled(&server, dir)).await.expect("opens");
        let mut events = producer.events();
        until(&mut events, "the log", |event| matches!(event, Event::SpoolDrained { .. }).then_some(()))
            .await;
        let mut more = Collar::after(&producer, &collar);
        producer.send_many(more.readings(10), PATIENCE).await.expect("room");
        collar = more;
        producer.close(PATIENCE).await.expect("closes");
    }
    assert_holds(&server, 1..=2020).await;
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a directory");
    for entry in fs::read_dir(from).expect("a directory").map(|entry| entry.expect("an entry")) {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

#[tokio::test]
async fn more_than_fits_into_memory_waits_on_disk() {
    let (mut server, dir) = (TestServer::start().await, TempDir::new().expect("a directory"));
    server.pause().await;
    let producer = Producer::open(spooled(&server, &dir).buffer_bytes(64 << 10)).await.expect("opens");
    let mut collar = Collar::of(&producer);
    producer.send_many(collar.readings(50_000), PATIENCE).await.expect("the disk has room");
    let counters = producer.counters();
    assert!(counters.buffered_bytes <= 64 << 10, "{counters:?}");
    server.resume().await;
    producer.send_many(collar.readings(10_000), PATIENCE).await.expect("room");
    producer.flush(PATIENCE).await.expect("a server");
    assert_holds(&server, 1..=60_000).await;
    assert_balanced(&producer.counters());
}

#[tokio::test]
async fn faults_of_the_link_neither_lose_nor_double_what_is_spooled() {
    let (server, dir) = (TestServer::start().await, TempDir::new().expect("a directory"));
    let config = spooled(&server, &dir).batch_readings(50).buffer_bytes(64 << 10);
    let producer = Producer::open(config).await.expect("opens");
    let mut collar = Collar::of(&producer);
    for round in 0..30 {
        match round % 3 {
            0 => server.faults().drop_before_commit(),
            1 => server.faults().drop_after_commit(),
            _ => server.cut_streams(),
        }
        producer.send_many(collar.readings(700), PATIENCE).await.expect("room");
    }
    producer.flush(PATIENCE).await.expect("the session comes back");
    assert_holds(&server, 1..=30 * 700).await;
    let counters = producer.close(PATIENCE).await.expect("closes").counters;
    assert_balanced(&counters);
    assert_eq!(counters.stored, 30 * 700);
}

#[tokio::test]
async fn a_full_spool_gives_readings_back_and_goes_on_when_there_is_room() {
    for when_full in [WhenFull::Block, WhenFull::Reject] {
        let (mut server, dir) = (TestServer::start().await, TempDir::new().expect("a directory"));
        server.pause().await;
        let producer = Producer::open(small(&server, &dir).when_full(when_full)).await.expect("opens");
        let mut collar = Collar::of(&producer);
        let error = loop {
            match producer.send_many(collar.readings(1000), Duration::from_millis(50)).await {
                Ok(()) => assert!(collar.sent() < 100_000, "the bound of 1 MiB is not kept"),
                Err(error) => break error,
            }
        };
        assert!(matches!(error.reason, SendReason::Full { .. }), "{error}");
        let accepted = producer.counters().accepted;
        assert_eq!(accepted + error.items.len() as u64, u64::from(collar.sent()));
        assert_eq!(error.items[0].value, accepted as f64 + 1.0);
        server.resume().await;
        producer.flush(PATIENCE).await.expect("a server");
        // An ack frees its segments a moment after it came.
        let mut items = error.items;
        while let Err(error) = producer.send_many(items, PATIENCE).await {
            assert!(when_full == WhenFull::Reject && error.reason.is_retryable(), "{error}");
            items = error.items;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        producer.close(PATIENCE).await.expect("closes");
        assert_holds(&server, 1..=collar.sent()).await;
    }
}

#[tokio::test]
async fn a_full_spool_evicts_the_oldest_earlier_logs_first() {
    let (mut server, dir) = (TestServer::start().await, TempDir::new().expect("a directory"));
    server.pause().await;
    let config = || small(&server, &dir).when_full(WhenFull::EvictOldest);
    let first = Producer::open(config()).await.expect("opens");
    let mut collar = Collar::of(&first);
    first.send_many(collar.readings(10_000), PATIENCE).await.expect("room");
    first.close(Duration::from_millis(10)).await.expect("the spool keeps it");
    let producer = Producer::open(config()).await.expect("opens");
    let mut events = producer.events();
    let mut collar = Collar::after(&producer, &collar);
    for _ in 0..50 {
        producer.send_many(collar.readings(1000), PATIENCE).await.expect("the oldest make room");
    }
    let evicted = until(&mut events, "an eviction", |event| match event {
        Event::Evicted { producer_id, .. } => Some(producer_id),
        _ => None,
    })
    .await;
    assert_eq!(evicted, first.producer_id());
    server.resume().await;
    producer.flush(PATIENCE).await.expect("a server");
    let counters = producer.close(PATIENCE).await.expect("closes").counters;
    assert_balanced(&counters);
    assert!(counters.evicted > 5000, "{counters:?}");
    let values = stored(server.endpoint()).await;
    let own = values.iter().filter(|value| **value > 10_000).count();
    assert_eq!(own as u64, counters.stored, "{counters:?}");
    assert_eq!(values.last(), Some(&60_000), "the newest stays");
    assert!(values.windows(2).all(|pair| pair[0] < pair[1]), "none twice");
}

#[tokio::test]
async fn what_is_too_old_expires_on_disk() {
    let (mut server, dir) = (TestServer::start().await, TempDir::new().expect("a directory"));
    server.pause().await;
    let config = || spooled(&server, &dir).max_age(Duration::from_millis(500));
    let producer = Producer::open(config()).await.expect("opens");
    let mut collar = Collar::of(&producer);
    producer.send_many(collar.readings(2000), PATIENCE).await.expect("room");
    producer.close(Duration::from_millis(10)).await.expect("the spool keeps it");
    let producer = Producer::open(config()).await.expect("opens");
    let mut collar = Collar::after(&producer, &collar);
    producer.send_many(collar.readings(2000), PATIENCE).await.expect("room");
    tokio::time::sleep(Duration::from_millis(600)).await;
    server.resume().await;
    producer.send_many(collar.readings(10), PATIENCE).await.expect("room");
    let mut events = producer.events();
    until(&mut events, "the earlier log", |event| matches!(event, Event::SpoolDrained { .. }).then_some(()))
        .await;
    let counters = producer.close(PATIENCE).await.expect("closes").counters;
    assert_balanced(&counters);
    assert_eq!((counters.expired, counters.stored), (2000, 10), "{counters:?}");
    assert_holds(&server, 4001..=4010).await;
    assert_eq!(logs(dir.path()), 0);
}

#[tokio::test]
async fn a_spool_in_use_is_refused() {
    let (server, dir) = (TestServer::start().await, TempDir::new().expect("a directory"));
    let producer = Producer::open(spooled(&server, &dir)).await.expect("opens");
    let error = Producer::open(spooled(&server, &dir)).await.expect_err("in use");
    assert!(error.to_string().contains("in use"), "{error}");
    let mut events = producer.events();
    connected(&mut events).await;
    producer.close(PATIENCE).await.expect("closes");
    Producer::open(spooled(&server, &dir)).await.expect("free again");
}

#[tokio::test]
async fn a_spool_that_is_full_again_and_again_neither_loses_nor_doubles() {
    let (server, dir) = (TestServer::start().await, TempDir::new().expect("a directory"));
    let producer = Producer::open(small(&server, &dir).buffer_bytes(64 << 10)).await.expect("opens");
    let mut collar = Collar::of(&producer);
    // More than the spool holds, from several senders, while the server comes and goes.
    let senders: Vec<_> = (0..4)
        .map(|_| {
            let (producer, readings) = (producer.clone(), collar.readings(40_000));
            tokio::spawn(async move {
                for part in readings.chunks(7000) {
                    producer.send_slice(part, PATIENCE).await.expect("acks make room");
                }
            })
        })
        .collect();
    for round in 0..10 {
        server.faults().stall(round % 2 == 0);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    server.faults().stall(false);
    for sender in senders {
        sender.await.expect("no panic");
    }
    let counters = producer.close(PATIENCE).await.expect("closes").counters;
    assert_balanced(&counters);
    assert_eq!(counters.stored, 160_000, "{counters:?}");
    assert_holds(&server, 1..=160_000).await;
}
