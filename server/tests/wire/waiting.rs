//! Whoever waits: for a place, for a store that is silent, for a client that never begins.

use std::time::Duration;

use herdstream_proto::{
    error::Reason,
    v1::{self, admin_service_client::AdminServiceClient},
};
use herdstream_server::{config::Config, testing::TestServer};
use tokio::{io::AsyncReadExt as _, net::TcpStream, task::JoinSet};
use tonic::{Code, Response, Status};

use crate::{
    answers::{Measured, START, request, store},
    client::{PATIENCE, assert_field, assert_reason, batch, ingest_client, query_client, stored},
};

#[tokio::test(flavor = "multi_thread")]
async fn queries_wait_for_a_place_and_only_so_many() {
    let mut config = Config::default();
    config.query.timeout = PATIENCE;
    let server = TestServer::start_with(config).await;
    store(&server, &[Measured { farm: 1, device: 0, time_us: START, quarters: 4, animal: None }]).await;
    server.faults().stall_reads(true);
    let client = query_client(&server).await;
    let ask = || {
        let mut client = client.clone();
        async move { client.query_range(request()).await.map(Response::into_inner) }
    };
    let mut asking = JoinSet::new();
    for _ in 0..64 + 256 {
        asking.spawn(ask());
    }
    // They come in as they like; of one more, some are refused.
    let refused = tokio::time::timeout(PATIENCE, async {
        loop {
            asking.spawn(ask());
            let early = tokio::time::timeout(Duration::from_millis(50), asking.join_next()).await;
            if let Ok(Some(Ok(Err(status)))) = early {
                return status;
            }
        }
    });
    let status = refused.await.expect("a refusal");
    assert_reason(&status, Reason::RateLimited);
    assert!(status.message().contains("256 queries wait"), "{status:?}");
    // What cannot be answered does not wait.
    let too_many = v1::BatchQueryRangeRequest { requests: vec![request(); 51] };
    assert_field(&client.clone().batch_query_range(too_many).await.unwrap_err(), "requests", "51 of them");
    server.faults().stall_reads(false);
    let mut answered = 0;
    while let Some(answer) = asking.join_next().await {
        match answer.expect("no panic") {
            Ok(_) => answered += 1,
            Err(status) => assert_reason(&status, Reason::RateLimited),
        }
    }
    assert_eq!(answered, 64 + 256);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_is_not_answered_in_time_says_what_may_become_of_it() {
    let mut config = Config::default();
    config.ingest.open_timeout = Duration::from_millis(200);
    let server = TestServer::start_with(config).await;
    server.faults().stall(true);
    let mut client = ingest_client(&server).await;
    let anonymous = v1::WriteRequest { batch: Some(batch(0, "d", 10)), ..v1::WriteRequest::default() };
    let status: Status = client.write(anonymous).await.unwrap_err();
    // Not UNAVAILABLE, after which many a client sends it again by itself.
    assert_eq!(status.code(), Code::DeadlineExceeded);
    assert_reason(&status, Reason::TimedOut);
    assert!(status.message().contains("may still be stored"), "{status:?}");
    let known = v1::WriteRequest {
        producer_id: uuid::Uuid::from_u128(7).to_string(),
        batch: Some(batch(1, "e", 10)),
        ..v1::WriteRequest::default()
    };
    assert_reason(&client.write(known.clone()).await.unwrap_err(), Reason::StoreDown);
    server.faults().stall(false);
    let written = tokio::time::timeout(PATIENCE, async {
        loop {
            match client.write(known.clone()).await {
                Ok(written) => return written.into_inner(),
                Err(status) => assert_reason(&status, Reason::StoreDown),
            }
        }
    });
    assert_eq!(written.await.expect("an answer").stored, 10);
    assert_eq!((stored(&server, "d").await.len(), stored(&server, "e").await.len()), (10, 10));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_to_administration_that_never_begin_are_cut() {
    let mut config = Config::default();
    config.ingest.open_timeout = Duration::from_millis(200);
    let server = TestServer::start_with(config).await;
    let endpoint = server.admin_endpoint().expect("it is on unless switched off");
    let mut silent = TcpStream::connect(endpoint.trim_start_matches("http://")).await.expect("it listens");
    let mut told = Vec::new();
    // What the server says by itself, then the end.
    let end = tokio::time::timeout(PATIENCE, silent.read_to_end(&mut told)).await;
    end.expect("it is cut").ok();
    let mut admin = AdminServiceClient::connect(endpoint).await.expect("administration is served");
    admin.get_lifecycle(v1::GetLifecycleRequest {}).await.expect("others are served");
    server.stop().await;
}
