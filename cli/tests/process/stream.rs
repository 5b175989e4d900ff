//! One stream of a bare client: generated types, no SDK.

use herdstream_proto::v1::{
    Batch, Credit, Open, Opened, QueryRangeRequest, Reading, Series, StoredReading, StreamRequest,
    StreamResponse, ingest_service_client::IngestServiceClient, query_service_client::QueryServiceClient,
    stream_request::Message as Sent, stream_response::Message as Received,
};
use herdstream_server::model::now_us;
use prost::Message as _;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming, transport::Channel};
use uuid::Uuid;

use crate::PATIENCE;

pub(crate) struct Stream {
    requests: Option<mpsc::Sender<StreamRequest>>,
    responses: Streaming<StreamResponse>,
    /// Encoded bytes of batches that may be sent, and that were.
    credit: u64,
    sent_bytes: u64,
    /// Highest offsets sent and acked.
    sent: u64,
    acked: u64,
}

impl Stream {
    /// Opens a session of a producer that holds everything from offset 1.
    pub(crate) async fn open(channel: Channel, producer: Uuid) -> Result<(Self, Opened), Status> {
        let (requests, outgoing) = mpsc::channel(4);
        let open = Sent::Open(Open {
            protocol_version: 1,
            producer_id: producer.to_string(),
            instance_id: Uuid::new_v4().to_string(),
            gateway_id: "gateway".to_owned(),
            first_retained_offset: 1,
            next_offset: 1_000_000,
            sdk: "raw".to_owned(),
        });
        requests.try_send(StreamRequest { message: Some(open) }).expect("an empty queue has room");
        let call = async { IngestServiceClient::new(channel).stream(ReceiverStream::new(outgoing)).await };
        let responses = timeout(PATIENCE, call).await.expect("an answer in time")?.into_inner();
        let requests = Some(requests);
        let mut stream = Self { requests, responses, credit: 0, sent_bytes: 0, sent: 0, acked: 0 };
        match stream.next().await? {
            Some(Received::Opened(opened)) => {
                (stream.sent, stream.acked) = (opened.committed_offset, opened.committed_offset);
                Ok((stream, opened))
            }
            other => panic!("instead of Opened: {other:?}"),
        }
    }

    /// Whether credit allows the batch: one always may be sent when none is in flight.
    pub(crate) fn may_send(&self, batch: &Batch) -> bool {
        self.in_flight() == 0 || self.sent_bytes + batch.encoded_len() as u64 <= self.credit
    }

    /// Batches sent and not acked.
    pub(crate) fn in_flight(&self) -> u64 {
        self.sent - self.acked
    }

    /// Hands the next batch to the transport; false when the stream is over.
    pub(crate) async fn send(&mut self, batch: Batch) -> bool {
        assert_eq!(batch.offset, self.sent + 1, "batches have consecutive offsets");
        self.sent = batch.offset;
        self.sent_bytes += batch.encoded_len() as u64;
        let request = StreamRequest { message: Some(Sent::Batch(batch)) };
        let requests = self.requests.as_ref().expect("not finished");
        timeout(PATIENCE, requests.send(request)).await.expect("taken in time").is_ok()
    }

    /// Half-closes.
    pub(crate) fn finish(&mut self) {
        self.requests = None;
    }

    /// The next response; None at an orderly end.
    pub(crate) async fn next(&mut self) -> Result<Option<Received>, Status> {
        let response = timeout(PATIENCE, self.responses.message()).await.expect("an answer in time")?;
        let message = response.map(|response| response.message.expect("every response holds a message"));
        match &message {
            Some(Received::Opened(opened)) => self.allow(opened.credit),
            Some(Received::Credit(credit)) => self.allow(Some(*credit)),
            Some(Received::Ack(ack)) => {
                self.acked = ack.committed_offset;
                self.allow(ack.credit);
            }
            _ => {}
        }
        Ok(message)
    }

    fn allow(&mut self, credit: Option<Credit>) {
        self.credit = credit.map_or(self.credit, |credit| credit.max_bytes);
    }

    /// Waits until `offset` is acked.
    pub(crate) async fn acked(&mut self, offset: u64) -> Result<(), Status> {
        loop {
            match self.next().await? {
                Some(Received::Ack(ack)) if ack.committed_offset >= offset => return Ok(()),
                Some(Received::Ack(_) | Received::Credit(_)) => {}
                other => panic!("instead of an ack of {offset}: {other:?}"),
            }
        }
    }

    /// Half-closes and reads to the orderly end.
    pub(crate) async fn close(mut self) -> Result<(), Status> {
        self.finish();
        while self.next().await?.is_some() {}
        Ok(())
    }
}

/// The readings of a batch of temperature: known from its offset alone, so that it can be sent again and
/// recognised when it is read back.
pub(crate) fn batch(offset: u64, device: &str, start_us: i64, readings: usize) -> Batch {
    let reading = |index| Reading {
        series_ref: 1,
        time_us: start_us + offset as i64 * 10_000 + index as i64,
        value: (offset as i64 * 31 + index as i64).rem_euclid(400) as f64 / 10.0,
        ..Reading::default()
    };
    let series = Series {
        r#ref: 1,
        farm_id: 1,
        device_uid: device.to_owned(),
        device_type: "temp_sensor".to_owned(),
        metric_name: "temperature".to_owned(),
        metric_unit: "Cel".to_owned(),
    };
    Batch { offset, series: vec![series], readings: (0..readings).map(reading).collect(), ..Batch::default() }
}

/// A start for batches whose readings are neither too old nor ahead.
pub(crate) fn an_hour_ago() -> i64 {
    now_us() - 3_600_000_000
}

/// Every reading of temperature of a device, by time.
pub(crate) async fn stored(channel: Channel, device: &str) -> Vec<StoredReading> {
    let mut client = QueryServiceClient::new(channel);
    let mut readings = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = QueryRangeRequest {
            device_uid: device.to_owned(),
            metric_name: "temperature".to_owned(),
            start_us: 0,
            end_us: i64::MAX,
            page_size: 50_000,
            page_token,
            ..QueryRangeRequest::default()
        };
        let page = timeout(PATIENCE, client.query_range(request)).await.expect("an answer in time");
        let page = match page {
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
