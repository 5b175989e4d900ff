//! Without a spool, against the real server.

use std::time::Duration;

use herdstream_client::{
    CloseError, Error, Event, FlushError, Milking, Outcome, Producer, Reading, SendReason, WhenFull,
};
use herdstream_proto::v1::RejectionCode;
use herdstream_server::testing::TestServer;

use crate::farm::{
    Collar, PATIENCE, assert_balanced, assert_holds, config, connected, key, so_far, stored, until,
};

#[tokio::test]
async fn what_is_sent_is_stored_once_and_acknowledged() {
    let server = TestServer::start().await;
    let producer = Producer::open(config(server.endpoint())).await.expect("opens");
    let mut collar = Collar::of(&producer);
    producer.send(collar.reading(), Duration::MAX).await.expect("room");
    producer.send_many(collar.readings(2500), PATIENCE).await.expect("room");
    producer.send_slice(&collar.readings(2500), PATIENCE).await.expect("room");
    producer.flush(PATIENCE).await.expect("a server");
    assert_holds(&server, 1..=5001).await;
    let report = producer.close(PATIENCE).await.expect("a server");
    assert_balanced(&report.counters);
    assert_eq!((report.counters.accepted, report.counters.stored, report.pending), (5001, 5001, 0));
    assert!(report.counters.batches_sent >= 6, "{:?}", report.counters);
    let refused = producer.send(collar.reading(), PATIENCE).await.expect_err("closed");
    assert!(matches!(refused.reason, SendReason::Closed));
    assert_eq!(refused.into_item().value, 5002.0, "the reading comes back");
    server.stop().await;
}

#[tokio::test]
async fn a_reading_without_a_time_gets_that_of_its_sending() {
    let server = TestServer::start().await;
    let producer = Producer::open(config(server.endpoint())).await.expect("opens");
    let series = producer.series(key("collar-1")).expect("a good key");
    producer
        .send_many(vec![Reading::new(series, 1.0), Reading::new(series, 2.0)], PATIENCE)
        .await
        .expect("room");
    producer.close(PATIENCE).await.expect("a server");
    assert_holds(&server, 1..=2).await;
}

#[tokio::test]
async fn clones_feed_the_same_batches() {
    let server = TestServer::start().await;
    let producer = Producer::open(config(server.endpoint())).await.expect("opens");
    let mut collar = Collar::of(&producer);
    let senders: Vec<_> = (0..8)
        .map(|_| {
            let (producer, readings) = (producer.clone(), collar.readings(200));
            tokio::spawn(async move {
                for reading in readings {
                    producer.send(reading, PATIENCE).await.expect("room");
                }
                // Its own readings are covered, whoever's batch they are in.
                producer.flush(PATIENCE).await.expect("a server");
            })
        })
        .collect();
    for sender in senders {
        sender.await.expect("no panic");
    }
    assert_holds(&server, 1..=1600).await;
    producer.close(PATIENCE).await.expect("a server");
}

#[tokio::test]
async fn a_producer_starts_without_a_server() {
    let mut server = TestServer::start().await;
    server.pause().await;
    let producer = Producer::open(config(server.endpoint())).await.expect("opens");
    let mut collar = Collar::of(&producer);
    producer.send_many(collar.readings(100), PATIENCE).await.expect("room");
    let flushed = producer.flush(Duration::from_millis(50)).await;
    assert!(matches!(flushed, Err(FlushError::Timeout { pending: 100, .. })), "{flushed:?}");
    server.resume().await;
    producer.flush(PATIENCE).await.expect("a server");
    assert_holds(&server, 1..=100).await;
}

#[tokio::test]
async fn a_cut_before_or_after_a_commit_neither_loses_nor_doubles() {
    let server = TestServer::start().await;
    let producer = Producer::open(config(server.endpoint()).batch_readings(50)).await.expect("opens");
    let mut collar = Collar::of(&producer);
    for round in 0..30 {
        match round % 3 {
            0 => server.faults().drop_before_commit(),
            1 => server.faults().drop_after_commit(),
            _ => server.cut_streams(),
        }
        producer.send_many(collar.readings(170), PATIENCE).await.expect("room");
        if round % 4 == 0 {
            producer.flush(PATIENCE).await.expect("the session comes back");
        }
    }
    producer.flush(PATIENCE).await.expect("the session comes back");
    assert_holds(&server, 1..=30 * 170).await;
    let counters = producer.close(PATIENCE).await.expect("a server").counters;
    assert_balanced(&counters);
    assert_eq!(counters.stored, 30 * 170);
    assert!(counters.sessions > 10, "{counters:?}");
}

#[tokio::test]
async fn a_drain_goes_unnoticed_by_who_sends() {
    let mut server = TestServer::start().await;
    let producer = Producer::open(config(server.endpoint())).await.expect("opens");
    let mut events = producer.events();
    let mut collar = Collar::of(&producer);
    connected(&mut events).await;
    for _ in 0..3 {
        let sender = {
            let (producer, readings) = (producer.clone(), collar.readings(5000));
            tokio::spawn(async move { producer.send_many(readings, PATIENCE).await })
        };
        server.pause().await;
        until(&mut events, "a drain", |event| matches!(event, Event::Drained { .. }).then_some(())).await;
        server.resume().await;
        sender.await.expect("no panic").expect("a drain is no error");
        connected(&mut events).await;
    }
    producer.flush(PATIENCE).await.expect("a server");
    assert_holds(&server, 1..=15_000).await;
}

#[tokio::test]
async fn a_producer_taken_over_by_another_process_stops_and_says_so() {
    let server = TestServer::start().await;
    let producer = Producer::open(config(server.endpoint())).await.expect("opens");
    let mut events = producer.events();
    let mut collar = Collar::of(&producer);
    producer.send(collar.reading(), PATIENCE).await.expect("room");
    producer.flush(PATIENCE).await.expect("a server");
    let id = producer.producer_id().to_string().parse().expect("an id");
    server.fence(id).await;
    until(&mut events, "the fence", |event| matches!(event, Event::Fenced { .. }).then_some(())).await;
    let refused = producer.send(collar.reading(), PATIENCE).await.expect_err("fenced");
    assert!(matches!(refused.reason, SendReason::Fenced(_)), "{refused}");
    producer.close(PATIENCE).await.expect("everything accepted is stored");
}

#[tokio::test]
async fn receipts_tell_each_fate() {
    let server = TestServer::start().await;
    let producer = Producer::open(config(server.endpoint())).await.expect("opens");
    let mut events = producer.events();
    let mut collar = Collar::of(&producer);
    let good = producer.send_tracked(collar.reading(), PATIENCE).await.expect("room");
    let bad = producer.send_tracked(Reading::new(collar.series, f64::NAN), PATIENCE).await.expect("room");
    let milking = Milking {
        milk_meter_id: 1,
        animal_id: 1,
        farm_id: 1,
        session_id: "morning".into(),
        yield_kg: 12.5,
        ..Milking::default()
    };
    let milked = producer.send_tracked(milking.clone(), PATIENCE).await.expect("room");
    let absurd = Milking { yield_kg: 1e9, ..milking };
    let refused = producer.send_tracked(absurd, PATIENCE).await.expect("room");
    assert_eq!(good.await.expect("known"), Outcome::Stored);
    assert_eq!(milked.await.expect("known"), Outcome::Stored);
    let Outcome::Quarantined(rejection) = bad.await.expect("known") else { panic!("NaN is stored") };
    assert_eq!(rejection.code, RejectionCode::NotFinite);
    let Outcome::Quarantined(rejection) = refused.await.expect("known") else { panic!("a flood is stored") };
    assert_eq!(rejection.field, "yield_kg");
    until(&mut events, "a rejection", |event| matches!(event, Event::Rejected { .. }).then_some(())).await;
    let counters = producer.counters();
    assert_balanced(&counters);
    assert_eq!((counters.stored, counters.quarantined), (2, 2));
}

#[tokio::test]
async fn a_receipt_whose_ack_was_lost_is_asked_for() {
    let server = TestServer::start().await;
    let producer = Producer::open(config(server.endpoint())).await.expect("opens");
    let mut events = producer.events();
    let mut collar = Collar::of(&producer);
    connected(&mut events).await;
    for _ in 0..5 {
        server.faults().drop_after_commit();
        // One batch: the ack that is lost is the one that tells of both.
        let readings = [Reading::new(collar.series, f64::INFINITY), collar.reading()];
        let (bad, good) = tokio::join!(
            producer.send_tracked(readings[0].clone(), PATIENCE),
            producer.send_tracked(readings[1].clone(), PATIENCE)
        );
        let outcome = bad.expect("room").await.expect("the server is asked");
        assert!(matches!(outcome, Outcome::Quarantined(_)), "{outcome:?}");
        assert_eq!(good.expect("room").await.expect("known"), Outcome::Stored);
    }
    producer.flush(PATIENCE).await.expect("a server");
    let told: usize = so_far(&mut events)
        .await
        .iter()
        .map(|event| if let Event::Rejected { rejections, .. } = event { rejections.len() } else { 0 })
        .sum();
    assert_eq!(told, 5, "each is told of once");
    let counters = producer.counters();
    assert_eq!((counters.stored, counters.quarantined), (5, 5));
}

#[tokio::test]
async fn more_rejections_than_an_ack_holds_are_listed() {
    let server = TestServer::start().await;
    let config = config(server.endpoint()).linger(PATIENCE);
    let producer = Producer::open(config).await.expect("opens");
    let mut collar = Collar::of(&producer);
    // Something under way, so that the rest gathers in one batch.
    server.faults().stall(true);
    producer.send(collar.reading(), PATIENCE).await.expect("room");
    let mut receipts = Vec::new();
    for index in 0..700 {
        let value = if index == 699 { 1.0 } else { f64::NAN };
        let reading = Reading::new(collar.series, value);
        receipts.push(producer.send_tracked(reading, PATIENCE).await.expect("room"));
    }
    server.faults().stall(false);
    producer.flush(PATIENCE).await.expect("a server");
    for (index, receipt) in receipts.into_iter().enumerate() {
        let outcome = receipt.await.expect("the server is asked");
        assert_eq!(matches!(outcome, Outcome::Quarantined(_)), index != 699, "{index}: {outcome:?}");
    }
    assert_eq!(producer.counters().quarantined, 699);
}

#[tokio::test]
async fn a_full_buffer_gives_readings_back() {
    let mut server = TestServer::start().await;
    server.pause().await;
    for when_full in [WhenFull::Block, WhenFull::Reject] {
        let config = config(server.endpoint()).buffer_bytes(64 << 10).when_full(when_full);
        let producer = Producer::open(config).await.expect("opens");
        let mut collar = Collar::of(&producer);
        let sent = producer.send_many(collar.readings(10_000), Duration::from_millis(20)).await;
        let error = sent.expect_err("ten thousand readings are more than 64 KiB");
        assert!(matches!(error.reason, SendReason::Full { .. }), "{error}");
        let accepted = producer.counters().accepted;
        assert!(accepted > 1000, "{accepted}");
        assert_eq!(error.items.len() as u64 + accepted, 10_000);
        assert_eq!(error.items[0].value, accepted as f64 + 1.0, "what comes back is what was not taken");
        assert!(producer.counters().buffered_bytes <= 64 << 10);

        let single = producer.send(collar.reading(), Duration::from_millis(1)).await.expect_err("full");
        assert_eq!(single.into_item().value, 10_001.0);
    }
}

#[tokio::test]
async fn senders_wait_for_room_and_get_it() {
    let server = TestServer::start().await;
    let config = config(server.endpoint()).buffer_bytes(64 << 10);
    let producer = Producer::open(config).await.expect("opens");
    let mut collar = Collar::of(&producer);
    producer.send_many(collar.readings(50_000), Duration::MAX).await.expect("acks make room");
    producer.close(Duration::MAX).await.expect("a server");
    assert_holds(&server, 1..=50_000).await;
}

#[tokio::test]
async fn offline_the_oldest_is_evicted_and_counted() {
    let mut server = TestServer::start().await;
    let config =
        config(server.endpoint()).buffer_bytes(64 << 10).batch_readings(100).when_full(WhenFull::EvictOldest);
    let producer = Producer::open(config).await.expect("opens");
    let mut events = producer.events();
    let mut collar = Collar::of(&producer);
    connected(&mut events).await;
    // What is committed and evicted counts as stored, once the server says so.
    server.faults().drop_after_commit();
    producer.send_many(collar.readings(100), PATIENCE).await.expect("room");
    until(&mut events, "a cut", |event| matches!(event, Event::Disconnected { .. }).then_some(())).await;
    server.pause().await;
    producer.send_many(collar.readings(10_000), PATIENCE).await.expect("the oldest make room");
    server.resume().await;
    producer.flush(PATIENCE).await.expect("a server");
    let counters = producer.counters();
    assert_balanced(&counters);
    assert!(counters.evicted > 5000, "{counters:?}");
    let values = stored(server.endpoint()).await;
    assert_eq!(values.len() as u64, counters.stored, "{counters:?}");
    assert_eq!(values.last(), Some(&10_100), "the newest stays");
    assert!(so_far(&mut events).await.iter().any(|event| matches!(event, Event::Evicted { .. })));
}

#[tokio::test]
async fn what_is_too_old_is_not_sent() {
    let mut server = TestServer::start().await;
    server.pause().await;
    let producer =
        Producer::open(config(server.endpoint()).max_age(Duration::from_millis(300))).await.expect("opens");
    let mut events = producer.events();
    let mut collar = Collar::of(&producer);
    producer.send_many(collar.readings(2000), PATIENCE).await.expect("room");
    tokio::time::sleep(Duration::from_millis(400)).await;
    server.resume().await;
    producer.send_many(collar.readings(10), PATIENCE).await.expect("room");
    producer.flush(PATIENCE).await.expect("a server");
    let counters = producer.counters();
    assert_balanced(&counters);
    assert_eq!((counters.expired, counters.stored), (2000, 10), "{counters:?}");
    until(&mut events, "the expiry", |event| {
        matches!(event, Event::Expired { items: 2000, .. }).then_some(())
    })
    .await;
    assert_holds(&server, 2001..=2010).await;
}

#[tokio::test]
async fn a_failed_close_keeps_what_is_not_acknowledged() {
    let mut server = TestServer::start().await;
    server.pause().await;
    let producer = Producer::open(config(server.endpoint())).await.expect("opens");
    let mut collar = Collar::of(&producer);
    producer.send_many(collar.readings(10), PATIENCE).await.expect("room");
    let closed = producer.close(Duration::from_millis(50)).await;
    assert!(matches!(closed, Err(CloseError::Unacked { pending: 10, .. })), "{closed:?}");
    server.resume().await;
    assert_eq!(producer.close(PATIENCE).await.expect("a server").pending, 0);
    assert_holds(&server, 1..=10).await;
}

#[tokio::test]
async fn a_second_endpoint_takes_over() {
    let server = TestServer::start().await;
    let mut gone = TestServer::start().await;
    gone.pause().await;
    let config = config(gone.endpoint()).endpoint(server.endpoint());
    let producer = Producer::open(config).await.expect("opens");
    let mut collar = Collar::of(&producer);
    producer.send_many(collar.readings(10), PATIENCE).await.expect("room");
    producer.close(PATIENCE).await.expect("the second server");
    assert_holds(&server, 1..=10).await;
}

#[tokio::test]
async fn a_wrong_configuration_or_name_is_refused_with_the_way_out() {
    for (config, hint) in [
        (config("ftp://example.com"), "http://host:port"),
        (config("https://example.com"), "speaks no TLS"),
        (config("http://[::1]:7171").batch_readings(0), "1 to 10000"),
        (config("http://[::1]:7171").buffer_bytes(1), "65536"),
        (config("http://[::1]:7171").linger(Duration::MAX), "at most"),
        (config("http://[::1]:7171").token("a\nb"), "visible ASCII"),
    ] {
        let error = Producer::open(config).await.expect_err("refused");
        assert!(matches!(error, Error::Config(_)) && !error.is_retryable());
        assert!(error.to_string().contains(hint), "{error}");
    }
    let producer = Producer::open(config("http://127.0.0.1:1")).await.expect("opens");
    let long = herdstream_client::SeriesKey { device_uid: "x".repeat(65), ..key("") };
    let error = producer.series(long).expect_err("too long");
    assert!(error.to_string().contains("1 to 64"), "{error}");
    assert_eq!(producer.series(key("a")).expect("good"), producer.series(key("a")).expect("good"));
}
