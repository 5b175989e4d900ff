//! A client without the SDK that opens a session of somebody else's producer.

use anyhow::{Context as _, Result, bail};
use futures::channel::mpsc;
use herdstream_client::v1::{
    self, StreamRequest, StreamResponse, ingest_service_client::IngestServiceClient,
    stream_request::Message as Sent, stream_response::Message as Received,
};
use tonic::{Code, Streaming};
use uuid::Uuid;

use super::world::PATIENCE;

/// A session that is open.
#[derive(Debug)]
pub(crate) struct SecondSession {
    requests: mpsc::UnboundedSender<StreamRequest>,
    responses: Streaming<StreamResponse>,
}

impl SecondSession {
    /// Opens a session of `producer`, and repeats its last committed offset with a batch that was never sent
    /// there, which the server has to drop and to count. None: the SDK was faster and took over again.
    pub(crate) async fn open(
        endpoint: String,
        producer: Uuid,
        next_offset: u64,
        repeat: v1::Batch,
    ) -> Result<Option<Self>> {
        let mut client = IngestServiceClient::connect(endpoint).await?;
        let (requests, stream) = mpsc::unbounded();
        let open = v1::Open {
            protocol_version: 1,
            producer_id: producer.to_string(),
            instance_id: Uuid::new_v4().to_string(),
            gateway_id: "another gateway".to_owned(),
            first_retained_offset: 1,
            next_offset,
            sdk: "none".to_owned(),
        };
        let mut session = {
            requests.unbounded_send(request(Sent::Open(open)))?;
            Self { responses: client.stream(stream).await?.into_inner(), requests }
        };
        let opened = match session.next().await? {
            Some(Received::Opened(opened)) => opened,
            Some(other) => bail!("instead of Opened: {other:?}"),
            None => return Ok(None),
        };
        if opened.committed_offset == 0 {
            return Ok(Some(session));
        }
        let before = opened.totals.unwrap_or_default();
        let count = repeat.readings.len() as u64;
        session
            .requests
            .unbounded_send(request(Sent::Batch(v1::Batch { offset: opened.committed_offset, ..repeat })))?;
        loop {
            match session.next().await? {
                Some(Received::Ack(ack)) => {
                    let totals = ack.totals.unwrap_or_default();
                    let expected = v1::Totals { duplicate: before.duplicate + count, ..before };
                    if totals != expected || ack.committed_offset != opened.committed_offset {
                        bail!("after {opened:?} and a repeated batch of {count}: {ack:?}");
                    }
                    return Ok(Some(session));
                }
                Some(_) => {}
                None => return Ok(None),
            }
        }
    }

    /// The next response. None: another session took over.
    async fn next(&mut self) -> Result<Option<Received>> {
        match tokio::time::timeout(PATIENCE, self.responses.message()).await.context("no answer")? {
            Ok(Some(response)) => Ok(Some(response.message.context("a response without a message")?)),
            Ok(None) => bail!("the server ended the second session"),
            Err(status) if status.code() == Code::Aborted => Ok(None),
            Err(status) => Err(status).context("the second session"),
        }
    }

    /// Waits until another session takes over.
    pub(crate) async fn taken_over(&mut self) -> Result<()> {
        while self.next().await?.is_some() {}
        Ok(())
    }
}

fn request(message: Sent) -> StreamRequest {
    StreamRequest { message: Some(message) }
}
