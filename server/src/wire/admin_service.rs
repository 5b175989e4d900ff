use std::time::{Duration, Instant};

use herdstream_proto::v1::{self, admin_service_server::AdminService, explain_query_request::Query};
use tonic::{Request, Response, Status};

use super::{
    deadline,
    questions::{self, to_level},
    status::{measure, to_status},
    streams,
};
use crate::{
    error::Error,
    ingest::Caller,
    lifecycle::Keeper,
    model::{DAY_US, Micros, now_us},
    ops::metrics::Rpc,
    query::{self, Taker},
    store::{Chunk, Dropped, Level, Look as _, Steps, Store},
};

/// Age from which chunks are compressed, as the policy of the schema has it.
const COMPRESS_AFTER_US: Micros = 7 * DAY_US;

/// Time that a question to be explained may take.
const LONGEST: Duration = Duration::from_mins(5);

/// `herdstream.v1.AdminService`: for callers on this machine, who may do everything.
#[derive(Debug)]
pub struct AdminGrpc {
    pub(super) keeper: Keeper,
}

impl AdminGrpc {
    fn store(&self) -> &dyn Store {
        self.keeper.store().as_ref()
    }

    async fn lifecycle(&self) -> Result<v1::GetLifecycleResponse, Error> {
        let state = self.store().lifecycle().await?;
        let levels = Level::ALL.map(|level| {
            let time = |time: Option<Micros>| time.map_or(0, |time| level.floor(time));
            v1::RollupLevel {
                resolution: to_level(level).into(),
                closed_before_us: time(state.closed_before_us),
                stored_before_us: time(state.stored_before_us),
                kept_from_us: state.kept_from_us(level).unwrap_or_default(),
            }
        });
        Ok(v1::GetLifecycleResponse {
            levels: levels.into(),
            dirty_hours: self.store().dirty_hours().await?,
            raw_kept_from_us: state.raw_kept_from_us.unwrap_or_default(),
            refreshed_us: self.keeper.refreshed_us().unwrap_or_default(),
        })
    }

    async fn refresh(&self, request: v1::RefreshRollupsRequest) -> Result<v1::RefreshRollupsResponse, Error> {
        let v1::RefreshRollupsRequest { start_us, end_us, rebuild } = request;
        let missing =
            [("start_us", start_us), ("end_us", end_us)].into_iter().find(|(_, time_us)| *time_us == 0);
        if let (true, Some((field, _))) = (rebuild, missing) {
            let message = "missing: say from when until when to rebuild".to_owned();
            return Err(Error::BadRequest { field, message });
        }
        let span = match (start_us, end_us) {
            (0, 0) => None,
            _ if start_us < end_us => Some((start_us, end_us)),
            _ => {
                let message = format!("{end_us} is not after start_us {start_us}");
                return Err(Error::BadRequest { field: "end_us", message });
            }
        };
        let done = match span {
            Some(span) if rebuild => self.keeper.rebuild(span).await?,
            span => self.keeper.refresh(span).await?,
        };
        if done.elsewhere {
            return Err(Error::Unsupported("another server is refreshing: try again when it is done"));
        }
        let lifecycle = Some(self.lifecycle().await?);
        let (buckets, dirty_hours) = (done.buckets, done.dirty_hours);
        Ok(v1::RefreshRollupsResponse { buckets, dirty_hours, lifecycle })
    }

    async fn explain(
        &self,
        query: Query,
        metadata: &tonic::metadata::MetadataMap,
    ) -> Result<v1::ExplainQueryResponse, Error> {
        let (steps, began) = (Steps::default(), Instant::now());
        deadline::within(metadata, LONGEST, Some(steps.clone()), self.run(query)).await?;
        let duration_us = micros(began.elapsed());
        let steps = steps.take().into_iter().map(|step| v1::ExplainStep {
            statement: step.statement,
            plan: step.plan,
            duration_us: micros(step.took),
        });
        Ok(v1::ExplainQueryResponse { steps: steps.collect(), duration_us })
    }

    /// Answers a question for its own sake.
    async fn run(&self, query: Query) -> Result<(), Error> {
        let (look, all) = (&*self.store().look(), &Caller::default());
        match query {
            Query::GetLatest(request) => questions::latest(self.store(), all, request).await.map(drop),
            Query::QueryRange(request) => questions::range(look, all, request).await.map(drop),
            Query::BatchQueryRange(request) => questions::batch(look, all, request).await.map(drop),
            Query::QueryMilkings(request) => questions::milkings(look, all, request).await.map(drop),
            Query::ListSeries(request) => questions::series(look, all, request).await.map(drop),
            Query::ListDevices(request) => questions::devices(look, all, request).await.map(drop),
            Query::GetDeviceStatus(request) => questions::device_status(look, all, request).await.map(drop),
            Query::GetFarmDailySummary(request) => {
                questions::farm_summary(look, all, request).await.map(drop)
            }
            Query::GetMilkProductionDaily(request) => {
                questions::milk_days(look, all, request).await.map(drop)
            }
            Query::GetAnimalMetrics(request) => questions::animal_metrics(look, all, request).await.map(drop),
            Query::StreamRange(request) => {
                let query = streams::stream_query(all, request)?;
                let (mut parts, taker) = query::parts(LONGEST, |_| ());
                first(query::stream(self.store(), query, &mut parts), taker).await
            }
            Query::WatchReadings(request) => {
                let query = streams::watch_query(all, request)?;
                let (mut parts, taker) = query::parts(LONGEST, |_| ());
                first(query::watch(self.store(), query, &mut parts), taker).await
            }
            Query::GetIngestionStats(v1::GetIngestionStatsRequest {}) => {
                look.activity(now_us()).await.map(drop).map_err(Error::Store)
            }
        }
    }
}

/// Runs a stream until its first part is taken: the others are looked for in the same way.
async fn first<T>(stream: impl Future<Output = Result<(), Error>>, mut taker: Taker<T>) -> Result<(), Error> {
    tokio::select! {
        biased;
        _ = taker.take() => Ok(()),
        ended = stream => ended,
    }
}

/// Answers, measures.
async fn answered<T>(
    rpc: Rpc,
    answer: impl Future<Output = Result<T, Error>>,
) -> Result<Response<T>, Status> {
    let began = Instant::now();
    let status = answer.await.map_err(to_status);
    measure(rpc, &status, began);
    status.map(Response::new)
}

#[tonic::async_trait]
impl AdminService for AdminGrpc {
    async fn get_lifecycle(
        &self,
        _: Request<v1::GetLifecycleRequest>,
    ) -> Result<Response<v1::GetLifecycleResponse>, Status> {
        answered(Rpc::GetLifecycle, self.lifecycle()).await
    }

    async fn refresh_rollups(
        &self,
        request: Request<v1::RefreshRollupsRequest>,
    ) -> Result<Response<v1::RefreshRollupsResponse>, Status> {
        answered(Rpc::RefreshRollups, self.refresh(request.into_inner())).await
    }

    async fn run_retention(
        &self,
        request: Request<v1::RunRetentionRequest>,
    ) -> Result<Response<v1::RunRetentionResponse>, Status> {
        answered(Rpc::RunRetention, async {
            let dropped = self.keeper.retain(request.into_inner().dry_run).await?;
            Ok(v1::RunRetentionResponse { dropped: dropped.into_iter().map(to_dropped).collect() })
        })
        .await
    }

    async fn compress_chunks(
        &self,
        request: Request<v1::CompressChunksRequest>,
    ) -> Result<Response<v1::CompressChunksResponse>, Status> {
        answered(Rpc::CompressChunks, async {
            let v1::CompressChunksRequest { before_us, dry_run } = request.into_inner();
            let before_us = if before_us == 0 { now_us() - COMPRESS_AFTER_US } else { before_us };
            let chunks = self.store().compress(before_us, dry_run).await?.ok_or(Error::Unsupported(
                "this store does not compress by chunks: the embedded one packs readings as they come, plain \
                 PostgreSQL has no compression",
            ))?;
            Ok(v1::CompressChunksResponse { chunks: chunks.into_iter().map(to_chunk).collect() })
        })
        .await
    }

    async fn list_chunks(
        &self,
        request: Request<v1::ListChunksRequest>,
    ) -> Result<Response<v1::ListChunksResponse>, Status> {
        answered(Rpc::ListChunks, async {
            let table = request.into_inner().table;
            if !["", "reading", "milking"].contains(&&*table) {
                let message = format!("{table:?} is none: \"reading\" and \"milking\" are");
                return Err(Error::BadRequest { field: "table", message });
            }
            let chunks = self.store().chunks().await?.into_iter();
            let chunks = chunks.filter(|chunk| table.is_empty() || chunk.table == table).map(to_chunk);
            Ok(v1::ListChunksResponse { chunks: chunks.collect() })
        })
        .await
    }

    async fn explain_query(
        &self,
        request: Request<v1::ExplainQueryRequest>,
    ) -> Result<Response<v1::ExplainQueryResponse>, Status> {
        let (metadata, _, request) = request.into_parts();
        answered(
            Rpc::ExplainQuery,
            Box::pin(async {
                let missing =
                    || Error::BadRequest { field: "query", message: "name a query to explain".to_owned() };
                self.explain(request.query.ok_or_else(missing)?, &metadata).await
            }),
        )
        .await
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn to_dropped(dropped: Dropped) -> v1::Dropped {
    let Dropped { table, start_us, end_us, rows, bytes, kept_because } = dropped;
    let (table, start_us) = (table.to_owned(), start_us.unwrap_or_default());
    v1::Dropped { table, start_us, end_us, rows, bytes, kept_because }
}

fn to_chunk(chunk: Chunk) -> v1::Chunk {
    let Chunk { table, name, start_us, end_us, bytes, uncompressed_bytes, compressed } = chunk;
    let (table, uncompressed_bytes) = (table.to_owned(), uncompressed_bytes.unwrap_or_default());
    v1::Chunk { table, name, start_us, end_us, bytes, uncompressed_bytes, compressed }
}
