use std::{sync::Arc, time::Instant};

use herdstream_proto::v1::{self, query_service_server::QueryService};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status};

use super::{
    auth::Gateways,
    convert,
    status::{measure, to_status},
};
use crate::{
    error::Error,
    ingest::{Caller, Ingest},
    model::now_us,
    ops::metrics::Rpc,
    query::{self, DevicesQuery, LatestQuery, MilkingsQuery, RangeQuery},
    store::Store,
};

/// Queries answered at once; more wait. Each may hold a page and what it is made from.
pub(super) const CONCURRENT: usize = 64;

/// `herdstream.v1.QueryService`.
#[derive(Debug)]
pub struct QueryGrpc {
    pub(super) store: Arc<dyn Store>,
    pub(super) ingest: Ingest,
    pub(super) gateways: Arc<Gateways>,
    pub(super) places: Semaphore,
}

impl QueryGrpc {
    /// Checks the caller, answers, measures.
    async fn answer<Q, A>(
        &self,
        rpc: Rpc,
        request: Request<Q>,
        answer: impl AsyncFnOnce(Caller, Q) -> Result<A, Error>,
    ) -> Result<Response<A>, Status> {
        let began = Instant::now();
        let answered = match self.gateways.caller(request.metadata().as_ref()) {
            Ok(caller) => {
                // Never closed, so there is a place in the end.
                let _place = self.places.acquire().await;
                answer(caller, request.into_inner()).await
            }
            Err(error) => Err(error),
        };
        let status = answered.map_err(to_status);
        measure(rpc, &status, began);
        status.map(Response::new)
    }
}

#[tonic::async_trait]
impl QueryService for QueryGrpc {
    async fn get_latest(
        &self,
        request: Request<v1::GetLatestRequest>,
    ) -> Result<Response<v1::GetLatestResponse>, Status> {
        self.answer(Rpc::GetLatest, request, async |caller, request| {
            let v1::GetLatestRequest { device_uid, farm_id, metric_names } = request;
            let query = LatestQuery { device_uid, farm_id: caller.farm(farm_id)?, metric_names };
            let latest = query::latest(self.store.as_ref(), query).await?;
            let latest = latest.into_iter().map(|(key, reading)| to_series_readings(key, vec![reading]));
            Ok(v1::GetLatestResponse { latest: latest.collect() })
        })
        .await
    }

    async fn query_range(
        &self,
        request: Request<v1::QueryRangeRequest>,
    ) -> Result<Response<v1::QueryRangeResponse>, Status> {
        self.answer(Rpc::QueryRange, request, async |caller, request| {
            let query = RangeQuery {
                device_uid: request.device_uid,
                farm_id: caller.farm(request.farm_id)?,
                metric_name: request.metric_name,
                start_us: request.start_us,
                end_us: request.end_us,
                page_size: request.page_size,
                page_token: request.page_token,
            };
            let page = query::range(self.store.as_ref(), query).await?;
            let series = page.items.into_iter().map(|(key, readings)| to_series_readings(key, readings));
            Ok(v1::QueryRangeResponse {
                series: series.collect(),
                next_page_token: page.next_token,
                ..Default::default()
            })
        })
        .await
    }

    async fn query_milkings(
        &self,
        request: Request<v1::QueryMilkingsRequest>,
    ) -> Result<Response<v1::QueryMilkingsResponse>, Status> {
        self.answer(Rpc::QueryMilkings, request, async |caller, request| {
            let query = MilkingsQuery {
                farm_id: caller.farm(request.farm_id)?,
                animal_id: request.animal_id,
                start_us: request.start_us,
                end_us: request.end_us,
                page_size: request.page_size,
                page_token: request.page_token,
            };
            let page = query::milkings(self.store.as_ref(), query).await?;
            let milkings = page.items.into_iter().map(convert::to_milking).collect();
            Ok(v1::QueryMilkingsResponse { milkings, next_page_token: page.next_token })
        })
        .await
    }

    async fn list_devices(
        &self,
        request: Request<v1::ListDevicesRequest>,
    ) -> Result<Response<v1::ListDevicesResponse>, Status> {
        self.answer(Rpc::ListDevices, request, async |caller, request| {
            let v1::ListDevicesRequest { farm_id, page_size, page_token } = request;
            let query = DevicesQuery { farm_id: caller.farm(farm_id)?, page_size, page_token };
            let page = query::list_devices(self.store.as_ref(), query).await?;
            let now_us = now_us();
            let devices = page.items.into_iter().map(|device| convert::to_device(device, now_us)).collect();
            Ok(v1::ListDevicesResponse { devices, next_page_token: page.next_token })
        })
        .await
    }

    async fn batch_query_range(
        &self,
        _request: Request<v1::BatchQueryRangeRequest>,
    ) -> Result<Response<v1::BatchQueryRangeResponse>, Status> {
        todo!()
    }

    async fn list_series(
        &self,
        _request: Request<v1::ListSeriesRequest>,
    ) -> Result<Response<v1::ListSeriesResponse>, Status> {
        todo!()
    }

    async fn get_device_status(
        &self,
        _request: Request<v1::GetDeviceStatusRequest>,
    ) -> Result<Response<v1::GetDeviceStatusResponse>, Status> {
        todo!()
    }

    async fn get_farm_daily_summary(
        &self,
        _request: Request<v1::GetFarmDailySummaryRequest>,
    ) -> Result<Response<v1::GetFarmDailySummaryResponse>, Status> {
        todo!()
    }

    async fn get_milk_production_daily(
        &self,
        _request: Request<v1::GetMilkProductionDailyRequest>,
    ) -> Result<Response<v1::GetMilkProductionDailyResponse>, Status> {
        todo!()
    }

    async fn get_animal_metrics(
        &self,
        _request: Request<v1::GetAnimalMetricsRequest>,
    ) -> Result<Response<v1::GetAnimalMetricsResponse>, Status> {
        todo!()
    }

    type StreamRangeStream =
        std::pin::Pin<Box<dyn futures::Stream<Item = Result<v1::StreamRangeResponse, Status>> + Send>>;

    async fn stream_range(
        &self,
        _request: Request<v1::StreamRangeRequest>,
    ) -> Result<Response<Self::StreamRangeStream>, Status> {
        todo!()
    }

    type WatchReadingsStream =
        std::pin::Pin<Box<dyn futures::Stream<Item = Result<v1::WatchReadingsResponse, Status>> + Send>>;

    async fn watch_readings(
        &self,
        _request: Request<v1::WatchReadingsRequest>,
    ) -> Result<Response<Self::WatchReadingsStream>, Status> {
        todo!()
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
            Ok(convert::to_server_info(self.store.describe()))
        })
        .await
    }
}

fn to_series_readings(
    key: crate::model::SeriesKey,
    readings: Vec<crate::model::Reading>,
) -> v1::SeriesReadings {
    v1::SeriesReadings {
        series: Some(convert::to_series_key(key)),
        readings: readings.into_iter().map(convert::to_stored_reading).collect(),
    }
}
