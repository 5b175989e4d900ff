//! The unary write.

use std::net::SocketAddr;

use herdstream_proto::{
    error::Reason,
    v1::{self, RejectionCode, RejectionKind, WriteRequest, ingest_service_client::IngestServiceClient},
};
use herdstream_server::{Server, config::Config, model::DAY_US, testing::TestServer};
use herdstream_testkit::Postgres;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::client::{RawStream, assert_reason, batch, ingest_client, sent, stored};

fn write(producer: Uuid, batch: v1::Batch) -> WriteRequest {
    WriteRequest {
        producer_id: producer.to_string(),
        instance_id: "i".to_owned(),
        gateway_id: "g".to_owned(),
        batch: Some(batch),
        backfill: false,
    }
}

#[tokio::test]
async fn with_an_offset_it_is_exactly_once_and_a_repeat_gets_the_first_outcome() {
    let server = TestServer::start().await;
    let mut client = ingest_client(&server).await;
    let producer = Uuid::new_v4();
    let mut first = batch(1, "d", 10);
    first.readings[3].value = f64::NAN;
    first.readings[4].value = 101.0;
    let once = client.write(write(producer, first.clone())).await.unwrap().into_inner();
    assert_eq!((once.offset, once.stored, once.quarantined, once.duplicate), (1, 8, 2, false));
    let again = client.write(write(producer, first)).await.unwrap().into_inner();
    assert_eq!(again, v1::WriteResponse { duplicate: true, ..once });
    let next = client.write(write(producer, batch(2, "d", 1))).await.unwrap().into_inner();
    assert_eq!((next.offset, next.duplicate), (2, false));
    assert_reason(&client.write(write(producer, batch(4, "d", 1))).await.unwrap_err(), Reason::OffsetGap);
    assert_eq!(stored(&server, "d").await.len(), 9);
    let row =
        client.get_producer(v1::GetProducerRequest { producer_id: producer.to_string() }).await.unwrap();
    let totals = row.into_inner().totals.unwrap();
    assert_eq!((totals.stored, totals.quarantined, totals.duplicate), (9, 2, 10));
    server.stop().await;
}

/// As behind a load balancer.
#[tokio::test]
async fn a_producer_may_write_over_two_servers_in_turn() {
    let Some(database) = Postgres::shared() else { return };
    let url = database.create_database();
    let shutdown = CancellationToken::new();
    let start = async || {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let mut config = Config { listen, http_listen: None, admin_listen: None, ..Config::default() };
        config.database.url = Some(url.clone().into());
        let server = Server::bind(config).await.expect("the server binds");
        let endpoint = format!("http://{}", server.local_addr());
        let running = tokio::spawn(server.run(shutdown.clone()));
        (IngestServiceClient::connect(endpoint).await.expect("it answers"), running)
    };
    let ((first_client, first_server), (second_client, second_server)) = (start().await, start().await);
    let mut clients = [first_client, second_client];
    let producer = Uuid::new_v4();
    let mut first = None;
    for (offset, over) in [(1, 0), (2, 1), (3, 1), (4, 0), (5, 1)] {
        let answer = clients[over].write(write(producer, batch(offset, "d", 2))).await.unwrap().into_inner();
        assert_eq!((answer.offset, answer.stored, answer.duplicate), (offset, 2, false));
        first.get_or_insert(answer);
    }
    // The first server has not heard of what was last written; repeats get their first outcome all the same.
    let repeated = v1::WriteResponse { duplicate: true, ..first.expect("one was written") };
    for offset in [5, 1, 4] {
        let answer = clients[0].write(write(producer, batch(offset, "d", 2))).await.unwrap().into_inner();
        assert_eq!(answer, v1::WriteResponse { offset, ..repeated.clone() });
    }
    assert_reason(&clients[0].write(write(producer, batch(7, "d", 1))).await.unwrap_err(), Reason::OffsetGap);
    let asked = v1::GetProducerRequest { producer_id: producer.to_string() };
    let row = clients[1].get_producer(asked).await.unwrap().into_inner();
    assert_eq!((row.committed_offset, row.totals.unwrap().stored), (5, 10));
    shutdown.cancel();
    for server in [first_server, second_server] {
        server.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn it_fences_a_stream_and_goes_on_where_that_left_off() {
    let server = TestServer::start().await;
    let (mut stream, _) = RawStream::open(&server).await;
    stream.send(sent(batch(1, "d", 5))).await;
    stream.acked(1).await;
    let mut client = ingest_client(&server).await;
    let outcome = client.write(write(stream.producer, batch(2, "d", 5))).await.unwrap().into_inner();
    assert_eq!((outcome.stored, outcome.duplicate), (5, false));
    assert_reason(&stream.refused().await, Reason::Fenced);
    let (_, opened) = RawStream::reopen(&server, stream.producer).await;
    assert_eq!(opened.committed_offset, 2);
    assert_eq!(stored(&server, "d").await.len(), 10);
    server.stop().await;
}

#[tokio::test]
async fn without_a_producer_it_stores_twice_and_stamps_what_has_no_time() {
    let server = TestServer::start().await;
    let mut client = ingest_client(&server).await;
    let mut one = batch(0, "d", 2);
    one.readings[0].time_us = 0;
    one.readings[0].metadata = Some("{\"a\":1}".to_owned());
    let request = WriteRequest { batch: Some(one), ..WriteRequest::default() };
    let outcome = client.write(request.clone()).await.unwrap().into_inner();
    assert_eq!((outcome.offset, outcome.stored), (1, 2));
    client.write(request).await.unwrap();
    let readings = stored(&server, "d").await;
    assert_eq!(readings.len(), 4);
    let stamped: Vec<_> = readings.iter().filter_map(|reading| reading.metadata.clone()).collect();
    assert_eq!(stamped, [r#"{"a":1,"time_source":"server"}"#; 2]);
    server.stop().await;
}

#[tokio::test]
async fn a_bad_reading_is_kept_in_quarantine_and_the_rest_is_stored() {
    let server = TestServer::start().await;
    let mut client = ingest_client(&server).await;
    let mut mixed = batch(0, "d", 3);
    mixed.series.push(v1::Series { r#ref: 2, ..v1::Series::default() });
    mixed.readings[0].battery_level = Some(300_000);
    mixed.readings[1].metadata = Some("{\"a\":\"\\u0000\"}".to_owned());
    mixed.readings.push(v1::Reading { series_ref: 2, ..mixed.readings[2].clone() });
    mixed.milkings.push(v1::Milking { yield_kg: 200.0, ..milking() });
    mixed.milkings.push(milking());
    let request = WriteRequest { batch: Some(mixed), ..WriteRequest::default() };
    let outcome = client.write(request).await.unwrap().into_inner();
    assert_eq!((outcome.stored, outcome.quarantined, outcome.rejections.len()), (2, 4, 5));
    let request =
        v1::ListRejectionsRequest { producer_id: outcome.producer_id, page_size: 2, ..Default::default() };
    let mut records = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListRejectionsRequest { page_token, ..request.clone() };
        let page = client.list_rejections(request).await.unwrap().into_inner();
        records.extend(page.records);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let codes: Vec<_> = records
        .iter()
        .map(|record| record.rejection.as_ref().unwrap())
        .map(|rejection| (rejection.kind(), rejection.index, rejection.code(), rejection.field.as_str()))
        .collect();
    assert_eq!(
        codes,
        [
            (RejectionKind::Reading, 0, RejectionCode::OutOfRange, "battery_level"),
            (RejectionKind::Reading, 1, RejectionCode::MetadataInvalid, "metadata"),
            (RejectionKind::Reading, 3, RejectionCode::SeriesRejected, "series_ref"),
            (RejectionKind::Milking, 0, RejectionCode::OutOfRange, "yield_kg"),
            (RejectionKind::Series, 1, RejectionCode::Required, "farm_id"),
        ]
    );
    assert!(records[0].rejection.as_ref().unwrap().message.contains("300000"));
    assert_eq!(records[0].series.as_ref().unwrap().device_uid, "d");
    assert!(
        matches!(&records[3].content, Some(v1::quarantine_record::Content::Milking(m)) if m.yield_kg > 199.0)
    );
    assert!(records.iter().all(|record| record.received_us > 0));
    server.stop().await;
}

#[tokio::test]
async fn offset_and_producer_come_together() {
    let server = TestServer::start().await;
    let mut client = ingest_client(&server).await;
    let without_offset = client.write(write(Uuid::new_v4(), batch(0, "d", 1))).await.unwrap_err();
    assert_reason(&without_offset, Reason::BadMessage);
    let request = WriteRequest { batch: Some(batch(1, "d", 1)), ..WriteRequest::default() };
    assert_reason(&client.write(request).await.unwrap_err(), Reason::BadMessage);
    assert_reason(&client.write(WriteRequest::default()).await.unwrap_err(), Reason::BadMessage);
    server.stop().await;
}

fn milking() -> v1::Milking {
    v1::Milking {
        time_us: herdstream_server::model::now_us(),
        milk_meter_id: 1,
        animal_id: 1,
        farm_id: 1,
        session_id: "s".to_owned(),
        yield_kg: 12.5,
        ..v1::Milking::default()
    }
}

#[tokio::test]
async fn a_repeat_leaves_the_stream_of_its_producer_alone() {
    let server = TestServer::start().await;
    let (mut stream, _) = RawStream::open(&server).await;
    stream.send(sent(batch(1, "d", 5))).await;
    stream.acked(1).await;
    let mut client = ingest_client(&server).await;
    let outcome = client.write(write(stream.producer, batch(1, "d", 5))).await.unwrap().into_inner();
    assert!(outcome.duplicate);
    stream.send(sent(batch(2, "d", 5))).await;
    let totals = stream.acked(2).await.totals.unwrap();
    assert_eq!((totals.stored, totals.duplicate), (10, 5));
    server.stop().await;
}

#[tokio::test]
async fn an_import_of_many_new_days_holds_up_nobody() {
    const DAYS: i64 = 200;
    let server = TestServer::start().await;
    let mut client = ingest_client(&server).await;
    let producer = Uuid::new_v4();
    client.write(write(producer, batch(1, "live", 1))).await.unwrap();
    let mut history = batch(1, "old", DAYS as usize);
    for (days_ago, reading) in (1..).zip(&mut history.readings) {
        reading.time_us -= days_ago * DAY_US;
    }
    let newest = history.readings[0].time_us.div_euclid(DAY_US);
    server.faults().stall_day(Some(newest));
    let import = WriteRequest { backfill: true, ..write(Uuid::new_v4(), history) };
    let importing = tokio::spawn({
        let (mut client, import) = (client.clone(), import.clone());
        async move { client.write(import).await }
    });
    // All days of it but the last are there or on their way, and it is not stored before that last one is.
    while server.ingest().store().chunks().await.unwrap().len() < 10 {
        tokio::task::yield_now().await;
    }
    for offset in 2..10 {
        client.write(write(producer, batch(offset, "live", 1))).await.unwrap();
    }
    assert!(stored(&server, "old").await.is_empty() && !importing.is_finished());
    server.faults().stall_day(None);
    assert_eq!(importing.await.unwrap().unwrap().into_inner().stored, DAYS as u32);
    assert!(client.write(import).await.unwrap().into_inner().duplicate);
    assert_eq!(stored(&server, "live").await.len(), 9);
    server.stop().await;
}
