//! Answers that are streams: all readings of a range, and live values. Each is a task that waits for its caller, as long
//! as that takes something now and then.

use std::{
    fmt::Debug,
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use futures::{Stream, StreamExt as _, stream};
use herdstream_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    questions::to_series_readings,
    slow::Slow,
    status::{measure_stream, to_status},
};
use crate::{
    config::QueryConfig,
    error::Error,
    ingest::Caller,
    ops::metrics::Rpc,
    query::{self, Parts, Scope, StreamPart, StreamQuery, Taker, WatchQuery},
    store::Store,
};

/// Streams of each kind at once. One holds a part of a range, 256 KiB, or the newest of 64 series.
const CONCURRENT: usize = 256;

/// Carries streams of answers.
#[derive(Debug)]
pub(super) struct Streams {
    store: Arc<dyn Store>,
    patience: Duration,
    /// From when on a part is slow.
    slow: Duration,
    stop: CancellationToken,
    ranges: Arc<Semaphore>,
    watches: Arc<Semaphore>,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

pub(super) fn stream_query(caller: &Caller, request: v1::StreamRangeRequest) -> Result<StreamQuery, Error> {
    let v1::StreamRangeRequest { device_uid, farm_id, metric_names, start_us, end_us, animal_id, zone_id } =
        request;
    let scope = Scope { device_uid, animal_id, zone_id, farm_id: caller.farm(farm_id)? };
    Ok(StreamQuery { scope, metric_names, start_us, end_us })
}

pub(super) fn watch_query(caller: &Caller, request: v1::WatchReadingsRequest) -> Result<WatchQuery, Error> {
    let v1::WatchReadingsRequest { device_uid, farm_id, metric_names, interval_ms } = request;
    let scope = Scope { device_uid, farm_id: caller.farm(farm_id)?, ..Scope::default() };
    Ok(WatchQuery { scope, metric_names, interval_ms })
}

impl Streams {
    /// Streams that end with `stop`, or when their caller takes nothing for a while.
    pub(super) fn new(store: Arc<dyn Store>, config: &QueryConfig, stop: CancellationToken) -> Self {
        let places = || Arc::new(Semaphore::new(CONCURRENT));
        let QueryConfig { stall_timeout: patience, slow, .. } = *config;
        Self { store, patience, slow, stop, ranges: places(), watches: places() }
    }

    /// A way for the parts of an answer; slow ones are logged.
    fn parts<T>(&self, rpc: Rpc, query: &impl Debug) -> (Parts<T>, Taker<T>) {
        let slow = Slow::new(rpc, query, self.slow);
        query::parts(self.patience, move |took| slow.tell(took))
    }

    pub(super) fn range(&self, query: StreamQuery) -> Result<Answers<v1::StreamRangeResponse>, Error> {
        let (mut parts, taker) = self.parts(Rpc::StreamRange, &query);
        let (store, left) = (Arc::clone(&self.store), parts.left().clone());
        let work = async move { query::stream(store.as_ref(), query, &mut parts).await };
        let end = self.carry(Rpc::StreamRange, &self.ranges, left, work)?;
        Ok(answers(taker, end, |StreamPart { series, kept_from_us }| v1::StreamRangeResponse {
            series: series.map(|(key, readings)| to_series_readings(key, readings)),
            kept_from_us: kept_from_us.unwrap_or_default(),
        }))
    }

    pub(super) fn watch(&self, query: WatchQuery) -> Result<Answers<v1::WatchReadingsResponse>, Error> {
        let (mut parts, taker) = self.parts(Rpc::WatchReadings, &query);
        let (store, left) = (Arc::clone(&self.store), parts.left().clone());
        let work = async move { query::watch(store.as_ref(), query, &mut parts).await };
        let end = self.carry(Rpc::WatchReadings, &self.watches, left, work)?;
        Ok(answers(taker, end, |changed| {
            let changed = changed.into_iter();
            let changed = changed.map(|(key, reading)| to_series_readings(key, vec![reading])).collect();
            v1::WatchReadingsResponse { changed }
        }))
    }

    /// Runs `work` on a task until it ends, its caller has `left`, or the server stops; tells how it ended.
    fn carry(
        &self,
        rpc: Rpc,
        places: &Arc<Semaphore>,
        left: CancellationToken,
        work: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<(), Status>>, Error> {
        let place: OwnedSemaphorePermit =
            Arc::clone(places).try_acquire_owned().map_err(|_| Error::TooManyStreams(CONCURRENT))?;
        let (stop, began) = (self.stop.clone(), Instant::now());
        let (ended, end) = oneshot::channel();
        tokio::spawn(async move {
            let result = tokio::select! {
                result = work => result,
                () = stop.cancelled() => Err(Error::Draining),
                // Whoever hangs up wants nothing more, not even what is being looked for.
                () = left.cancelled() => Ok(()),
            };
            measure_stream(rpc, result.as_ref().err(), began);
            drop(place);
            // A caller that takes nothing learns it when it does.
            let _ = ended.send(result.map_err(to_status));
        });
        Ok(end)
    }
}

/// What `taker` gets, as messages, then how it ended. That has a way of its own, so that nobody has to wait until a
/// slow caller takes it.
fn answers<T: Send + 'static, A: Send + 'static>(
    taker: Taker<T>,
    end: oneshot::Receiver<Result<(), Status>>,
    tell: impl Fn(T) -> A + Send + 'static,
) -> Answers<A> {
    let parts =
        stream::unfold(taker, async |mut taker: Taker<T>| taker.take().await.map(|part| (part, taker)));
    let end = stream::once(end).filter_map(|end| {
        let bug = |_| Err(to_status(Error::Internal("a stream of answers was not carried to its end")));
        std::future::ready(end.unwrap_or_else(bug).err().map(Err))
    });
    Box::pin(parts.map(move |part| Ok(tell(part))).chain(end))
}
