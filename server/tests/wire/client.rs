//! A bare client: generated types, no SDK.

use std::time::Duration;

use herdstream_proto::{
    error::Reason,
    v1::{
        self, Batch, Open, Opened, Ping, Reading, Series, Skip, StreamRequest, StreamResponse,
        ingest_service_client::IngestServiceClient, query_service_client::QueryServiceClient,
        stream_request::Message as Sent, stream_response::Message as Received,
    },
};
use herdstream_server::{model::now_us, testing::TestServer};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use tonic_types::StatusExt as _;
use uuid::Uuid;

/// Longest wait for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) async fn ingest_client(server: &TestServer) -> IngestServiceClient<Channel> {
    IngestServiceClient::connect(server.endpoint()).await.expect("the server listens")
}

pub(crate) async fn query_client(server: &TestServer) -> QueryServiceClient<Channel> {
    QueryServiceClient::connect(server.endpoint()).await.expect("the server listens")
}

/// One stream.
pub(crate) struct RawStream {
    pub(crate) producer: Uuid,
    pub(crate) instance: Uuid,
    sender: Option<mpsc::Sender<StreamRequest>>,
    responses: Streaming<StreamResponse>,
}

impl RawStream {
    /// Connects and sends nothing.
    pub(crate) async fn connect(server: &TestServer) -> Result<Self, Status> {
        Self::connect_with(server, None).await
    }

    pub(crate) async fn connect_with(server: &TestServer, token: Option<&str>) -> Result<Self, Status> {
        let (sender, requests) = mpsc::channel(16);
        let mut request = tonic::Request::new(ReceiverStream::new(requests));
        if let Some(token) = token {
            request.metadata_mut().insert(
                "authorization",
                format!("Bearer {token}").parse().expect("a token of the test's own"),
            );
        }
        let responses = ingest_client(server).await.stream(request).await?.into_inner();
        Ok(Self { producer: Uuid::new_v4(), instance: Uuid::new_v4(), sender: Some(sender), responses })
    }

    /// Opens a session of a fresh producer.
    pub(crate) async fn open(server: &TestServer) -> (Self, Opened) {
        Self::reopen(server, Uuid::new_v4()).await
    }

    /// Opens a session of a producer that holds everything from offset 1.
    pub(crate) async fn reopen(server: &TestServer, producer: Uuid) -> (Self, Opened) {
        let mut stream = Self::connect(server).await.expect("the server takes streams");
        stream.producer = producer;
        stream.send(stream.open_message()).await;
        match stream.next().await.expect("the session opens") {
            Some(Received::Opened(opened)) => (stream, opened),
            other => panic!("instead of Opened: {other:?}"),
        }
    }

    pub(crate) fn open_message(&self) -> Sent {
        Sent::Open(Open {
            protocol_version: 1,
            producer_id: self.producer.to_string(),
            instance_id: self.instance.to_string(),
            gateway_id: "gateway".to_owned(),
            first_retained_offset: 1,
            next_offset: 1000,
            sdk: "raw".to_owned(),
        })
    }

    pub(crate) async fn send(&self, message: Sent) {
        let request = StreamRequest { message: Some(message) };
        self.sender.as_ref().expect("not finished").send(request).await.expect("the stream is open");
    }

    /// Sends what the server may not live to take.
    pub(crate) async fn try_send(&self, message: Sent) {
        let _ =
            self.sender.as_ref().expect("not finished").send(StreamRequest { message: Some(message) }).await;
    }

    pub(crate) async fn send_empty(&self) {
        let sender = self.sender.as_ref().expect("not finished");
        sender.send(StreamRequest { message: None }).await.expect("the stream is open");
    }

    pub(crate) fn finish(&mut self) {
        self.sender = None;
    }

    /// The next response; None at an orderly end.
    pub(crate) async fn next(&mut self) -> Result<Option<Received>, Status> {
        let response =
            tokio::time::timeout(PATIENCE, self.responses.message()).await.expect("an answer in time")?;
        Ok(response.map(|response| response.message.expect("every response holds a message")))
    }

    /// Reads acks up to one that covers `offset`.
    pub(crate) async fn acked(&mut self, offset: u64) -> v1::Ack {
        loop {
            match self.next().await.expect("the stream goes on") {
                Some(Received::Ack(ack)) if ack.committed_offset >= offset => return ack,
                Some(Received::Ack(_) | Received::Credit(_) | Received::Pong(_)) => {}
                other => panic!("instead of an ack of {offset}: {other:?}"),
            }
        }
    }

    /// Reads to the end, which is an error.
    pub(crate) async fn refused(&mut self) -> Status {
        loop {
            match self.next().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("the stream ended with OK"),
                Err(status) => return status,
            }
        }
    }

    /// Reads to the end, which is OK; answers the last ack.
    pub(crate) async fn ended(&mut self) -> Option<v1::Ack> {
        let mut last = None;
        while let Some(message) = self.next().await.expect("an orderly end") {
            if let Received::Ack(ack) = message {
                last = Some(ack);
            }
        }
        last
    }

    pub(crate) async fn ping(&mut self, nonce: u64) {
        self.send(Sent::Ping(Ping { nonce })).await;
        loop {
            match self.next().await.expect("the stream goes on") {
                Some(Received::Pong(pong)) => return assert_eq!(pong.nonce, nonce),
                Some(_) => {}
                None => panic!("the stream ended"),
            }
        }
    }
}

/// A batch of `count` readings of temperature by one device, a microsecond apart.
pub(crate) fn batch(offset: u64, device: &str, count: usize) -> Batch {
    let start = now_us() - 60_000_000;
    let reading = |index| Reading {
        series_ref: 1,
        time_us: start + offset as i64 * 100_000 + index as i64,
        value: index as f64 % 40.0,
        ..Reading::default()
    };
    Batch {
        offset,
        series: vec![series(1, device, "temperature")],
        readings: (0..count).map(reading).collect(),
        milkings: vec![],
    }
}

pub(crate) fn series(reference: u32, device: &str, metric: &str) -> Series {
    Series {
        r#ref: reference,
        farm_id: 1,
        device_uid: device.to_owned(),
        device_type: "temp_sensor".to_owned(),
        metric_name: metric.to_owned(),
        metric_unit: "Cel".to_owned(),
    }
}

pub(crate) fn sent(batch: Batch) -> Sent {
    Sent::Batch(batch)
}

pub(crate) fn skip(first: u64, last: u64, readings: u64, reason: v1::SkipReason) -> Sent {
    Sent::Skip(Skip { first, last, readings, reason: reason.into() })
}

/// Checks a status: its code and its reason.
#[track_caller]
pub(crate) fn assert_reason(status: &Status, reason: Reason) {
    assert_eq!(Reason::of(status), Some(reason), "{status:?}");
    assert_eq!(status.code(), reason.code(), "{status:?}");
}

/// Checks that an argument was refused by name.
#[track_caller]
pub(crate) fn assert_field(status: &Status, field: &str, about: &str) {
    assert_reason(status, Reason::BadRequest);
    let info = status.get_details_error_info().expect("it carries a reason");
    assert_eq!(info.metadata["field"], field, "{about}: {status:?}");
}

/// Waits until everything that was taken in has left the pool. A batch stays in it until its commit, which is later
/// than the end of a stream that was refused for a message after it.
pub(crate) async fn pool_is_whole(server: &TestServer) {
    // What is larger than the pool is charged as all of it.
    let all = server.ingest().pool().clone().acquire(usize::MAX / 2);
    tokio::time::timeout(PATIENCE, all).await.expect("nothing stays in the pool");
}

/// Every reading of temperature of a device.
pub(crate) async fn stored(server: &TestServer, device: &str) -> Vec<v1::StoredReading> {
    let mut client = query_client(server).await;
    let mut readings = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::QueryRangeRequest {
            device_uid: device.to_owned(),
            metric_name: "temperature".to_owned(),
            start_us: 0,
            end_us: i64::MAX,
            page_size: 10_000,
            page_token,
            ..v1::QueryRangeRequest::default()
        };
        let page = match client.query_range(request).await {
            Ok(page) => page.into_inner(),
            Err(status) if status.code() == Code::NotFound => return readings,
            Err(status) => panic!("query failed: {status:?}"),
        };
        readings.extend(page.series.into_iter().flat_map(|series| series.readings));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return readings;
        }
    }
}
