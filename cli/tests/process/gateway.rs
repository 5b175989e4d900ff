//! A simulated gateway: streams without a pause, comes back when the stream breaks, and knows exactly what
//! the server must hold in the end.

use herdstream_proto::v1::{
    GetProducerRequest, ingest_service_client::IngestServiceClient, stream_response::Message as Received,
};
use tokio::{sync::watch, task::JoinHandle, time::Duration};
use tokio_util::sync::CancellationToken;
use tonic::{Status, transport::Endpoint};
use uuid::Uuid;

use crate::{
    PATIENCE,
    server::Server,
    stream::{Stream, an_hour_ago, batch, stored},
    until,
};

/// Batches sent and not acked, at most.
const WINDOW: u64 = 4;

/// What there is to know about a gateway.
pub(crate) struct Gateway {
    producer: Uuid,
    device: String,
    start_us: i64,
    readings: usize,
    /// Highest offset that the server called durable.
    acked: watch::Sender<u64>,
    /// How its streams broke.
    pub(crate) broken: Vec<Status>,
    /// Streams that ended with OK after a Drain.
    pub(crate) drained: u64,
}

/// A gateway at work.
pub(crate) struct Working {
    acked: watch::Receiver<u64>,
    stop: CancellationToken,
    task: JoinHandle<Gateway>,
}

enum End {
    /// All that was sent is acked.
    Finished,
    /// The server asked to go.
    Drained,
}

impl Gateway {
    /// A gateway that sends `readings` a batch.
    pub(crate) fn new(readings: usize) -> Self {
        let producer = Uuid::new_v4();
        Self {
            producer,
            device: format!("device-{}", producer.simple()),
            start_us: an_hour_ago(),
            readings,
            acked: watch::Sender::new(0),
            broken: Vec::new(),
            drained: 0,
        }
    }

    /// Streams to `endpoint` until it is stopped; for ever, or until the first drain.
    pub(crate) fn start(mut self, endpoint: Endpoint, until_drained: bool) -> Working {
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let acked = self.acked.subscribe();
        let task = tokio::spawn(async move {
            loop {
                match self.session(&endpoint, &stopped).await {
                    Ok(End::Finished) => return self,
                    Ok(End::Drained) => {
                        self.drained += 1;
                        if until_drained {
                            return self;
                        }
                    }
                    Err(status) => self.broken.push(status),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Working { acked, stop, task }
    }

    /// One stream from its opening to its end.
    async fn session(&mut self, endpoint: &Endpoint, stop: &CancellationToken) -> Result<End, Status> {
        let channel =
            endpoint.connect().await.map_err(|error| Status::unavailable(format!("connect: {error}")))?;
        let (mut stream, opened) = Stream::open(channel, self.producer).await?;
        self.told(opened.committed_offset);
        let mut offset = opened.committed_offset;
        let (mut finishing, mut drained) = (false, false);
        loop {
            while !finishing && stream.in_flight() < WINDOW {
                let batch = batch(offset + 1, &self.device, self.start_us, self.readings);
                if !stream.may_send(&batch) || !stream.send(batch).await {
                    break;
                }
                offset += 1;
            }
            tokio::select! {
                () = stop.cancelled(), if !finishing => {
                    finishing = true;
                    stream.finish();
                }
                received = stream.next() => match received? {
                    Some(Received::Ack(ack)) => self.told(ack.committed_offset),
                    Some(Received::Credit(_)) => {}
                    // The request side stays open: it is the server that ends the stream.
                    Some(Received::Drain(_)) => (finishing, drained) = (true, true),
                    Some(other) => panic!("unasked for: {other:?}"),
                    None if drained => return Ok(End::Drained),
                    None => {
                        assert_eq!(stream.in_flight(), 0, "an orderly end without all acks");
                        return Ok(End::Finished);
                    }
                }
            }
        }
    }

    fn told(&self, committed_offset: u64) {
        let acked = *self.acked.borrow();
        assert!(committed_offset >= acked, "{acked} was acked, and now only {committed_offset} is committed");
        self.acked.send_replace(committed_offset);
    }

    /// Highest offset that the server called durable.
    pub(crate) fn acked(&self) -> u64 {
        *self.acked.borrow()
    }

    /// Holds what the server has against what it acked: every reading once, and no other. Answers the
    /// committed offset.
    pub(crate) async fn check(&self, server: &Server) -> u64 {
        let channel = server.connect().await;
        let request = GetProducerRequest { producer_id: self.producer.to_string() };
        let row = IngestServiceClient::new(channel.clone()).get_producer(request).await;
        let row = row.expect("the ledger has the producer").into_inner();
        assert!(row.committed_offset >= self.acked(), "acked {} and lost: {row:?}", self.acked());

        let found = stored(channel, &self.device).await;
        let expected = (1..=row.committed_offset)
            .flat_map(|offset| batch(offset, &self.device, self.start_us, self.readings).readings);
        let mut count = 0;
        for (index, expected) in expected.enumerate() {
            let found = found.get(index);
            assert_eq!(
                found.map(|found| (found.time_us, found.value)),
                Some((expected.time_us, expected.value)),
                "reading {index} of {}; {row:?}",
                self.device
            );
            count += 1;
        }
        assert_eq!(found.len(), count, "more than was sent; {row:?}");
        assert_eq!(row.totals.expect("totals").stored, count as u64);
        row.committed_offset
    }
}

impl Working {
    /// Waits until `more` batches beyond now are acked.
    pub(crate) async fn progress(&self, more: u64) {
        let mut acked = self.acked.clone();
        let goal = *acked.borrow() + more;
        let reached = tokio::time::timeout(PATIENCE, acked.wait_for(|acked| *acked >= goal)).await;
        assert!(
            reached.is_ok_and(|reached| reached.is_ok()),
            "no acks up to {goal}: {}",
            *self.acked.borrow()
        );
    }

    /// Lets it finish; answers it once all it sent is acked.
    pub(crate) async fn stop(self) -> Gateway {
        self.stop.cancel();
        self.ended().await
    }

    /// Waits until it ends by itself.
    pub(crate) async fn ended(self) -> Gateway {
        tokio::time::timeout(PATIENCE, self.task).await.expect("it ends in time").expect("it does not panic")
    }
}

/// Gateways at work, all over their first batches.
pub(crate) async fn gateways(server: &Server, count: usize, until_drained: bool) -> Vec<Working> {
    let working: Vec<_> =
        (0..count).map(|_| Gateway::new(100).start(server.endpoint(), until_drained)).collect();
    for gateway in &working {
        gateway.progress(3).await;
    }
    working
}

/// Waits for the end of the streams that were cut.
pub(crate) async fn no_streams(server: &Server) {
    until("no stream is open", || async { server.metric("herdstream_streams_open").await == 0 }).await;
}
