//! Order, duplicates, fencing, skips, drain and resume.

use herdstream_proto::{
    error::Reason,
    v1::{self, SkipReason, stream_request::Message as Sent, stream_response::Message as Received},
};
use herdstream_server::testing::TestServer;
use tonic_types::StatusExt as _;

use crate::client::{RawStream, assert_reason, batch, ingest_client, sent, skip, stored};

#[tokio::test]
async fn acks_are_cumulative_and_what_they_cover_is_stored() {
    let server = TestServer::start().await;
    let (mut stream, opened) = RawStream::open(&server).await;
    assert_eq!((opened.epoch, opened.committed_offset), (1, 0));
    for offset in 1..=20 {
        stream.send(sent(batch(offset, "d", 50))).await;
    }
    stream.finish();
    let last = stream.ended().await.expect("acks came");
    assert_eq!(last.committed_offset, 20);
    assert_eq!(last.totals.unwrap().stored, 1000);
    assert_eq!(stored(&server, "d").await.len(), 1000);
    server.stop().await;
}

#[tokio::test]
async fn what_was_committed_is_dropped_and_counted_when_it_comes_again() {
    let server = TestServer::start().await;
    let (mut stream, _) = RawStream::open(&server).await;
    let first = batch(1, "d", 10);
    stream.send(sent(first.clone())).await;
    stream.send(sent(first.clone())).await;
    stream.send(sent(batch(2, "d", 10))).await;
    let ack = stream.acked(2).await;
    assert_eq!(ack.totals.unwrap().duplicate, 10);
    drop(stream);
    // In a later session it is the ledger that knows.
    let producer = {
        let (mut again, opened) = RawStream::open(&server).await;
        assert_eq!(opened.committed_offset, 0);
        again.send(sent(batch(1, "e", 1))).await;
        again.acked(1).await;
        again.producer
    };
    let (mut later, opened) = RawStream::reopen(&server, producer).await;
    assert_eq!((opened.epoch, opened.committed_offset), (2, 1));
    later.send(sent(batch(1, "e", 1))).await;
    later.send(sent(batch(2, "e", 1))).await;
    let totals = later.acked(2).await.totals.unwrap();
    assert_eq!((totals.stored, totals.duplicate), (2, 1));
    assert_eq!(stored(&server, "d").await.len(), 20);
    assert_eq!(stored(&server, "e").await.len(), 2);
    server.stop().await;
}

#[tokio::test]
async fn a_later_session_fences_the_earlier_one_and_tells_who_it_is() {
    let server = TestServer::start().await;
    let (mut old, _) = RawStream::open(&server).await;
    old.send(sent(batch(1, "d", 5))).await;
    old.acked(1).await;
    let (mut new, opened) = RawStream::reopen(&server, old.producer).await;
    assert_eq!((opened.epoch, opened.committed_offset), (2, 1));
    let status = old.refused().await;
    assert_reason(&status, Reason::Fenced);
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["instance_id"], new.instance.to_string());
    new.send(sent(batch(2, "d", 5))).await;
    new.acked(2).await;
    assert_eq!(stored(&server, "d").await.len(), 10);
    server.stop().await;
}

#[tokio::test]
async fn batches_of_a_fenced_session_that_are_still_queued_change_nothing() {
    let server = TestServer::start().await;
    let (mut old, _) = RawStream::open(&server).await;
    old.send(sent(batch(1, "d", 5))).await;
    old.acked(1).await;
    server.faults().stall(true);
    // The first occupies the lane; the open and the second batch queue up behind it.
    old.send(sent(batch(2, "d", 5))).await;
    old.ping(1).await;
    let producer = old.producer;
    let (opened, ()) = tokio::join!(RawStream::reopen(&server, producer), async {
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        old.try_send(sent(batch(3, "d", 5))).await;
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        server.faults().stall(false);
    });
    let (mut new, opened) = opened;
    assert_eq!(opened.committed_offset, 2);
    assert_reason(&old.refused().await, Reason::Fenced);
    new.send(sent(batch(3, "d", 7))).await;
    new.acked(3).await;
    assert_eq!(stored(&server, "d").await.len(), 17);
    server.stop().await;
}

#[tokio::test]
async fn skips_close_gaps_and_are_counted() {
    let server = TestServer::start().await;
    let (mut stream, _) = RawStream::open(&server).await;
    stream.send(skip(1, 4, 123, SkipReason::Evicted)).await;
    stream.send(sent(batch(5, "d", 5))).await;
    let totals = stream.acked(5).await.totals.unwrap();
    assert_eq!((totals.stored, totals.skipped), (5, 123));
    // What is committed already is ignored.
    stream.send(skip(2, 5, 9, SkipReason::Acked)).await;
    stream.send(skip(5, 6, 1, SkipReason::Lost)).await;
    let ack = stream.acked(6).await;
    assert_eq!(ack.totals.unwrap().skipped, 124);
    stream.send(skip(9, 9, 1, SkipReason::Lost)).await;
    assert_reason(&stream.refused().await, Reason::OffsetGap);
    server.stop().await;
}

#[tokio::test]
async fn a_skip_beyond_what_was_assigned_is_refused() {
    let server = TestServer::start().await;
    for message in [
        skip(1, 1000, 1, SkipReason::Lost),
        skip(1, u64::MAX, 1, SkipReason::Lost),
        skip(0, 1, 1, SkipReason::Lost),
        skip(3, 2, 1, SkipReason::Lost),
        skip(1, 1, 1, SkipReason::Unspecified),
    ] {
        let (mut stream, _) = RawStream::open(&server).await;
        stream.send(message).await;
        assert_reason(&stream.refused().await, Reason::BadMessage);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_log_ends_before_its_offsets_stop_fitting() {
    let server = TestServer::start().await;
    let mut stream = RawStream::connect(&server).await.unwrap();
    let Sent::Open(open) = stream.open_message() else { panic!("an Open") };
    stream.send(Sent::Open(v1::Open { next_offset: i64::MAX as u64, ..open })).await;
    stream.next().await.unwrap();
    let last = i64::MAX as u64 - 1;
    stream.send(skip(1, last - 1, 1, SkipReason::Lost)).await;
    stream.send(sent(v1::Batch { offset: last, ..batch(1, "d", 1) })).await;
    assert_eq!(stream.acked(last).await.committed_offset, last);
    stream.send(sent(v1::Batch { offset: last + 1, ..batch(1, "d", 1) })).await;
    assert_reason(&stream.refused().await, Reason::BadMessage);
    // Its session can still be opened, and a write refused.
    let producer = stream.producer;
    let (_, opened) = RawStream::reopen(&server, producer).await;
    assert_eq!(opened.committed_offset, last);
    let write = v1::WriteRequest {
        producer_id: producer.to_string(),
        instance_id: "i".to_owned(),
        gateway_id: "gateway".to_owned(),
        batch: Some(v1::Batch { offset: last + 1, ..batch(1, "d", 1) }),
        backfill: false,
    };
    assert_reason(&ingest_client(&server).await.write(write).await.unwrap_err(), Reason::BadMessage);
    assert_eq!(stored(&server, "d").await.len(), 1);
    server.stop().await;
}

#[tokio::test]
async fn drain_commits_what_was_received_and_ends_with_ok() {
    let mut server = TestServer::start().await;
    let (mut stream, _) = RawStream::open(&server).await;
    server.faults().stall(true);
    stream.send(sent(batch(1, "d", 5))).await;
    stream.ping(7).await;
    let faults = server.faults().clone();
    let ((), last) = tokio::join!(server.pause(), async {
        let Ok(Some(Received::Drain(drain))) = stream.next().await else { panic!("no Drain") };
        assert!(drain.deadline_ms > 0 && drain.deadline_ms <= 25_000, "{drain:?}");
        faults.stall(false);
        stream.ended().await
    });
    assert_eq!(last.expect("the last ack").committed_offset, 1);
    server.resume().await;
    let (_, opened) = RawStream::reopen(&server, stream.producer).await;
    assert_eq!(opened.committed_offset, 1);
    assert_eq!(stored(&server, "d").await.len(), 5);
    server.stop().await;
}

#[tokio::test]
async fn the_ledger_answers_for_a_producer() {
    let server = TestServer::start().await;
    let (mut stream, _) = RawStream::open(&server).await;
    stream.send(sent(batch(1, "d", 5))).await;
    stream.acked(1).await;
    let mut client = ingest_client(&server).await;
    let request = v1::GetProducerRequest { producer_id: stream.producer.to_string() };
    let row = client.get_producer(request).await.unwrap().into_inner();
    assert_eq!((row.epoch, row.committed_offset, row.totals.unwrap().stored), (1, 1, 5));
    assert_eq!((row.gateway_id.as_str(), row.instance_id), ("gateway", stream.instance.to_string()));
    let unknown = v1::GetProducerRequest { producer_id: uuid::Uuid::new_v4().to_string() };
    assert_reason(&client.get_producer(unknown).await.unwrap_err(), Reason::NotFound);
    server.stop().await;
}
