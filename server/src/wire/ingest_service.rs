use std::{pin::Pin, sync::Arc, time::Instant};

use futures::{Stream, StreamExt as _, stream};

use herdstream_proto::v1::{self, ingest_service_server::IngestService};
use tokio::sync::{mpsc, oneshot};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    auth::Gateways,
    convert,
    metered_body::Metered,
    status::{measure, to_status},
    stream::{Carrier, check_name},
};
use crate::{
    error::Error,
    ingest::{Caller, Ingest, WriteSession},
    ops::metrics::Rpc,
    query::rejections,
};

/// Responses that wait for HTTP/2; acks beyond them are merged in the outbox.
const OUTBOUND: usize = 4;

/// Responses of a stream, then how it ended.
type Responses = Pin<Box<dyn Stream<Item = Result<v1::StreamResponse, Status>> + Send>>;

/// `herdstream.v1.IngestService`.
#[derive(Debug)]
pub struct IngestGrpc {
    pub(super) ingest: Ingest,
    pub(super) gateways: Arc<Gateways>,
}

#[tonic::async_trait]
impl IngestService for IngestGrpc {
    type StreamStream = Responses;

    async fn stream(
        &self,
        request: Request<Streaming<v1::StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let caller = self.gateways.caller(request.metadata().as_ref()).map_err(to_status)?;
        let place = self.ingest.admit_stream().map_err(to_status)?;
        let metered = metered(&request)?;
        let (outbound, responses) = mpsc::channel(OUTBOUND);
        let (ended, end) = oneshot::channel();
        let carrier = Carrier {
            ingest: self.ingest.clone(),
            caller,
            inbound: request.into_inner(),
            metered,
            outbound,
            ended,
        };
        self.ingest.sessions().spawn(async move {
            carrier.run().await;
            drop(place);
        });
        let end = stream::once(end).filter_map(|end| {
            let bug = |_| Err(to_status(Error::Internal("a stream was not carried to its end")));
            std::future::ready(end.unwrap_or_else(bug).err().map(Err))
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(responses).chain(end))))
    }

    async fn write(&self, request: Request<v1::WriteRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        let began = Instant::now();
        let caller = self.gateways.caller(request.metadata().as_ref()).map_err(to_status)?;
        let permit = metered(&request)?.take().map_err(to_status)?;
        let ingest = self.ingest.clone();
        // On a task of its own: a caller that goes away must not tear a session between open and append.
        let write = self.ingest.sessions().spawn(async move {
            let v1::WriteRequest { producer_id, instance_id, gateway_id, batch, backfill } =
                request.into_inner();
            let session = write_session(&producer_id, instance_id, gateway_id)?;
            let batch = batch.ok_or_else(|| Error::BadMessage("a write without a batch".to_owned()))?;
            ingest.write(&caller, session, convert::batch(batch), backfill, permit).await
        });
        let outcome = write.await.unwrap_or(Err(Error::Internal("a write panicked"))).map_err(to_status);
        measure(Rpc::Write, &outcome, began);
        let outcome = outcome?;
        Ok(Response::new(v1::WriteResponse {
            producer_id: outcome.producer.to_string(),
            offset: outcome.offset,
            stored: outcome.stored as u32,
            quarantined: outcome.quarantined as u32,
            duplicate: outcome.duplicate,
            rejections: outcome.rejections.into_iter().map(convert::to_rejection).collect(),
            rejections_omitted: outcome.rejections_omitted,
        }))
    }

    async fn get_producer(
        &self,
        request: Request<v1::GetProducerRequest>,
    ) -> Result<Response<v1::GetProducerResponse>, Status> {
        self.answer(Rpc::GetProducer, request, async |caller, request| {
            let id = convert::producer_id(&request.producer_id)?;
            self.ingest.check_owner(&caller, id).await?;
            let row = self.ingest.store().producer(id).await?;
            let row = row.ok_or_else(|| Error::NotFound(format!("producer {id} never opened a session")))?;
            Ok(v1::GetProducerResponse {
                producer_id: id.to_string(),
                gateway_id: row.gateway_id,
                instance_id: row.instance_id,
                epoch: row.epoch,
                committed_offset: row.committed_offset,
                totals: Some(convert::to_totals(row.totals)),
            })
        })
        .await
    }

    async fn list_rejections(
        &self,
        request: Request<v1::ListRejectionsRequest>,
    ) -> Result<Response<v1::ListRejectionsResponse>, Status> {
        self.answer(Rpc::ListRejections, request, async |caller, request| {
            let producer = convert::producer_id(&request.producer_id)?;
            self.ingest.check_owner(&caller, producer).await?;
            let query = rejections::Query {
                producer,
                first_offset: request.first_offset,
                last_offset: request.last_offset,
                page_size: request.page_size,
                page_token: request.page_token,
            };
            let page = rejections::list(self.ingest.store().as_ref(), query).await?;
            Ok(v1::ListRejectionsResponse {
                records: page.items.into_iter().map(convert::to_quarantine_record).collect(),
                next_page_token: page.next_token,
            })
        })
        .await
    }
}

impl IngestGrpc {
    /// Checks the caller of a look into the ledger or quarantine, answers, measures.
    async fn answer<Q, A>(
        &self,
        rpc: Rpc,
        request: Request<Q>,
        answer: impl AsyncFnOnce(Caller, Q) -> Result<A, Error>,
    ) -> Result<Response<A>, Status> {
        let began = Instant::now();
        let answered = match self.gateways.caller(request.metadata().as_ref()) {
            Ok(caller) => answer(caller, request.into_inner()).await,
            Err(error) => Err(error),
        };
        let status = answered.map_err(to_status);
        measure(rpc, &status, began);
        status.map(Response::new)
    }
}

fn metered<T>(request: &Request<T>) -> Result<Metered, Status> {
    let metered = request.extensions().get::<Metered>().cloned();
    metered.ok_or_else(|| to_status(Error::Internal("the meter is not in front of the service")))
}

fn write_session(
    producer_id: &str,
    instance_id: String,
    gateway_id: String,
) -> Result<Option<WriteSession>, Error> {
    check_name("gateway_id", &gateway_id, 0)?;
    check_name("instance_id", &instance_id, 0)?;
    if producer_id.is_empty() {
        return Ok(None);
    }
    Ok(Some(WriteSession { producer: convert::producer_id(producer_id)?, instance_id, gateway_id }))
}
