use std::{fmt::Debug, pin::Pin, sync::Arc, time::Instant};

use futures::Stream;
use herdstream_proto::v1::{self, query_service_server::QueryService};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use super::{
    auth::Gateways,
    convert, deadline, questions,
    slow::Slow,
    status::{measure, measure_stream, to_status},
    streams::{self, Streams},
};
use crate::{
    config::{QueryConfig, RetentionConfig},
    error::Error,
    ingest::{Caller, Ingest},
    model::now_us,
    ops::metrics::Rpc,
    store::{Look as _, Store},
};

/// Queries answered at once; more wait. Each may hold a page and what it is made from.
const CONCURRENT: usize = 64;

/// Queries that wait, at most: each holds its request.
const WAITING: usize = 256;

/// `herdstream.v1.QueryService`.
#[derive(Debug)]
pub struct QueryGrpc {
    store: Arc<dyn Store>,
    ingest: Ingest,
    gateways: Arc<Gateways>,
    places: Semaphore,
    /// Places of those who are answered and those who wait.
    queue: Semaphore,
    config: QueryConfig,
    retention: RetentionConfig,
    streams: Streams,
}

impl QueryGrpc {
    /// Answers from `store`; streams end with `stop`.
    pub(super) fn new(
        store: Arc<dyn Store>,
        ingest: Ingest,
        gateways: Arc<Gateways>,
        (config, retention): (QueryConfig, RetentionConfig),
        stop: CancellationToken,
    ) -> Self {
        let streams = Streams::new(Arc::clone(&store), &config, stop);
        let (places, queue) = (Semaphore::new(CONCURRENT), Semaphore::new(CONCURRENT + WAITING));
        Self { store, ingest, gateways, places, queue, config, retention, streams }
    }

    /// Checks the caller, answers, measures.
    async fn answer<Q: Debug, A>(
        &self,
        rpc: Rpc,
        request: Request<Q>,
        answer: impl AsyncFnOnce(Caller, Q) -> Result<A, Error>,
    ) -> Result<Response<A>, Status> {
        self.answer_if(rpc, request, |_| Ok(()), answer).await
    }

    /// As [`Self::answer`]; what `check` refuses does not wait for a place.
    async fn answer_if<Q: Debug, A>(
        &self,
        rpc: Rpc,
        request: Request<Q>,
        check: impl FnOnce(&Q) -> Result<(), Error>,
        answer: impl AsyncFnOnce(Caller, Q) -> Result<A, Error>,
    ) -> Result<Response<A>, Status> {
        let began = Instant::now();
        let caller = self.gateways.caller(request.metadata().as_ref());
        let answered = match caller.and_then(|caller| check(request.get_ref()).map(|()| caller)) {
            Ok(caller) => {
                let (metadata, _, request) = request.into_parts();
                let slow = Slow::new(rpc, &request, self.config.slow);
                let answered = deadline::within(&metadata, self.config.timeout, None, async {
                    let _waits = self.queue.try_acquire().map_err(|_| Error::TooManyQueries(WAITING))?;
                    // Never closed, so there is a place in the end.
                    let _place = self.places.acquire().await;
                    answer(caller, request).await
                });
                let answered = answered.await;
                slow.tell(began.elapsed());
                answered
            }
            Err(error) => Err(error),
        };
        let status = answered.map_err(to_status);
        measure(rpc, &status, began);
        status.map(Response::new)
    }

    /// Checks the caller and begins to answer; whoever is refused is measured here, and a stream where it ends.
    fn stream<Q, A>(
        &self,
        rpc: Rpc,
        request: Request<Q>,
        begin: impl FnOnce(Caller, Q) -> Result<A, Error>,
    ) -> Result<Response<A>, Status> {
        let began = Instant::now();
        let caller = self.gateways.caller(request.metadata().as_ref());
        let begun = caller.and_then(|caller| begin(caller, request.into_inner()));
        begun.map(Response::new).map_err(|error| {
            measure_stream(rpc, Some(&error), began);
            to_status(error)
        })
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl QueryService for QueryGrpc {
    type StreamRangeStream = Answers<v1::StreamRangeResponse>;
    type WatchReadingsStream = Answers<v1::WatchReadingsResponse>;

    async fn get_latest(
        &self,
        request: Request<v1::GetLatestRequest>,
    ) -> Result<Response<v1::GetLatestResponse>, Status> {
        self.answer(Rpc::GetLatest, request, async |caller, request| {
            questions::latest(&*self.store, &caller, request).await
        })
        .await
    }

    async fn query_range(
        &self,
        request: Request<v1::QueryRangeRequest>,
    ) -> Result<Response<v1::QueryRangeResponse>, Status> {
        self.answer(Rpc::QueryRange, request, async |caller, request| {
            questions::range(&*self.store.look(), &caller, request).await
        })
        .await
    }

    async fn batch_query_range(
        &self,
        request: Request<v1::BatchQueryRangeRequest>,
    ) -> Result<Response<v1::BatchQueryRangeResponse>, Status> {
        let answer =
            async |caller: Caller, request| questions::batch(&*self.store.look(), &caller, request).await;
        self.answer_if(Rpc::BatchQueryRange, request, questions::check_batch, answer).await
    }

    async fn stream_range(
        &self,
        request: Request<v1::StreamRangeRequest>,
    ) -> Result<Response<Self::StreamRangeStream>, Status> {
        self.stream(Rpc::StreamRange, request, |caller, request| {
            self.streams.range(streams::stream_query(&caller, request)?)
        })
    }

    async fn watch_readings(
        &self,
        request: Request<v1::WatchReadingsRequest>,
    ) -> Result<Response<Self::WatchReadingsStream>, Status> {
        self.stream(Rpc::WatchReadings, request, |caller, request| {
            self.streams.watch(streams::watch_query(&caller, request)?)
        })
    }

    async fn query_milkings(
        &self,
        request: Request<v1::QueryMilkingsRequest>,
    ) -> Result<Response<v1::QueryMilkingsResponse>, Status> {
        self.answer(Rpc::QueryMilkings, request, async |caller, request| {
            questions::milkings(&*self.store.look(), &caller, request).await
        })
        .await
    }

    async fn list_series(
        &self,
        request: Request<v1::ListSeriesRequest>,
    ) -> Result<Response<v1::ListSeriesResponse>, Status> {
        self.answer(Rpc::ListSeries, request, async |caller, request| {
            questions::series(&*self.store.look(), &caller, request).await
        })
        .await
    }

    async fn list_devices(
        &self,
        request: Request<v1::ListDevicesRequest>,
    ) -> Result<Response<v1::ListDevicesResponse>, Status> {
        self.answer(Rpc::ListDevices, request, async |caller, request| {
            questions::devices(&*self.store.look(), &caller, request).await
        })
        .await
    }

    async fn get_device_status(
        &self,
        request: Request<v1::GetDeviceStatusRequest>,
    ) -> Result<Response<v1::GetDeviceStatusResponse>, Status> {
        self.answer(Rpc::GetDeviceStatus, request, async |caller, request| {
            questions::device_status(&*self.store.look(), &caller, request).await
        })
        .await
    }

    async fn get_farm_daily_summary(
        &self,
        request: Request<v1::GetFarmDailySummaryRequest>,
    ) -> Result<Response<v1::GetFarmDailySummaryResponse>, Status> {
        self.answer(Rpc::GetFarmDailySummary, request, async |caller, request| {
            questions::farm_summary(&*self.store.look(), &caller, request).await
        })
        .await
    }

    async fn get_milk_production_daily(
        &self,
        request: Request<v1::GetMilkProductionDailyRequest>,
    ) -> Result<Response<v1::GetMilkProductionDailyResponse>, Status> {
        self.answer(Rpc::GetMilkProductionDaily, request, async |caller, request| {
            questions::milk_days(&*self.store.look(), &caller, request).await
        })
        .await
    }

    async fn get_animal_metrics(
        &self,
        request: Request<v1::GetAnimalMetricsRequest>,
    ) -> Result<Response<v1::GetAnimalMetricsResponse>, Status> {
        self.answer(Rpc::GetAnimalMetrics, request, async |caller, request| {
            questions::animal_metrics(&*self.store.look(), &caller, request).await
        })
        .await
    }

    async fn get_ingestion_stats(
        &self,
        request: Request<v1::GetIngestionStatsRequest>,
    ) -> Result<Response<v1::GetIngestionStatsResponse>, Status> {
        self.answer(Rpc::GetIngestionStats, request, async |_, v1::GetIngestionStatsRequest {}| {
            let activity = self.store.activity(now_us()).await?;
            Ok(v1::GetIngestionStatsResponse {
                readings_last_hour: activity.readings_last_hour,
                readings_last_24h: activity.readings_last_24h,
                active_devices: activity.active_devices,
                buffer_size: self.ingest.pending(),
            })
        })
        .await
    }

    async fn get_server_info(
        &self,
        request: Request<v1::GetServerInfoRequest>,
    ) -> Result<Response<v1::GetServerInfoResponse>, Status> {
        self.answer(Rpc::GetServerInfo, request, async |_, v1::GetServerInfoRequest {}| {
            // A server whose store is down says that it is there.
            let lifecycle = self.store.lifecycle().await.ok();
            Ok(convert::to_server_info(self.store.describe(), &self.retention, lifecycle.as_ref()))
        })
        .await
    }
}
