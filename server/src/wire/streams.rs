//! Answers that are streams: all readings of a range, and live values. Each is a task that waits for its caller.

use std::{pin::Pin, sync::Arc, time::Instant};

use futures::{Stream, StreamExt as _};
use herdstream_proto::v1;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::{
    questions::to_series_readings,
    status::{measure_stream, to_status},
};
use crate::{
    error::Error,
    ingest::Caller,
    ops::metrics::Rpc,
    query::{self, Scope, StreamQuery, WatchQuery},
    store::Store,
};

/// Streams of each kind at once. One holds a part of 5000 readings, or the newest of 1000 series.
const CONCURRENT: usize = 256;

/// Parts that wait for a caller.
const WAITING: usize = 1;

/// Carries streams of answers.
#[derive(Debug)]
pub(super) struct Streams {
    store: Arc<dyn Store>,
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
    pub(super) fn new(store: Arc<dyn Store>, stop: CancellationToken) -> Self {
        let places = || Arc::new(Semaphore::new(CONCURRENT));
        Self { store, stop, ranges: places(), watches: places() }
    }

    pub(super) fn range(&self, query: StreamQuery) -> Result<Answers<v1::StreamRangeResponse>, Error> {
        let store = Arc::clone(&self.store);
        let (parts, answers) = mpsc::channel(WAITING);
        let work = {
            let parts = parts.clone();
            async move { query::stream(store.as_ref(), query, &parts).await }
        };
        self.carry(Rpc::StreamRange, &self.ranges, parts, work)?;
        Ok(Box::pin(ReceiverStream::new(answers).map(|part| {
            let (key, readings) = part.map_err(to_status)?;
            Ok(v1::StreamRangeResponse { series: Some(to_series_readings(key, readings)) })
        })))
    }

    pub(super) fn watch(&self, query: WatchQuery) -> Result<Answers<v1::WatchReadingsResponse>, Error> {
        let store = Arc::clone(&self.store);
        let (parts, answers) = mpsc::channel(WAITING);
        let work = {
            let parts = parts.clone();
            async move { query::watch(store.as_ref(), query, &parts).await }
        };
        self.carry(Rpc::WatchReadings, &self.watches, parts, work)?;
        Ok(Box::pin(ReceiverStream::new(answers).map(|part| {
            let changed = part.map_err(to_status)?.into_iter();
            let changed = changed.map(|(key, reading)| to_series_readings(key, vec![reading])).collect();
            Ok(v1::WatchReadingsResponse { changed })
        })))
    }

    /// Runs `work` on a task until it ends, its caller is gone, or the server stops.
    fn carry<T: Send + 'static>(
        &self,
        rpc: Rpc,
        places: &Arc<Semaphore>,
        parts: mpsc::Sender<Result<T, Error>>,
        work: impl Future<Output = Result<(), Error>> + Send + 'static,
    ) -> Result<(), Error> {
        let place: OwnedSemaphorePermit =
            Arc::clone(places).try_acquire_owned().map_err(|_| Error::TooManyStreams(CONCURRENT))?;
        let (stop, began) = (self.stop.clone(), Instant::now());
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = work => ended,
                () = stop.cancelled() => Err(Error::Draining),
                // Whoever hangs up wants nothing more, not even what is being looked for.
                () = parts.closed() => Ok(()),
            };
            measure_stream(rpc, ended.as_ref().err(), began);
            if let Err(error) = ended {
                // A caller that takes nothing learns it when it does.
                let _ = parts.send(Err(error)).await;
            }
            drop(place);
        });
        Ok(())
    }
}
