//! The server that an import writes to; waited for while it cannot be reached.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use herdstream_client::{Error, QueryClient, QueryConfig, WriteClient, v1};

use super::{Args, columns::Kind, row::Row};
use crate::connect::reach;

/// Longest wait before a call is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// Longest patience, some ten years: a clock cannot be set to the end of a much longer one.
const LONGEST_PATIENCE: Duration = Duration::from_hours(100_000);

/// A server, and for how long it is waited for.
pub(super) struct Server {
    config: QueryConfig,
    writer: WriteClient,
    patience: Duration,
}

/// What a server has of a file.
#[derive(Default)]
pub(super) struct Earlier {
    /// Blocks, from the first.
    pub(super) committed: u64,
    /// Rows of these that it stored.
    pub(super) stored: u64,
    /// Rows of these that it refused.
    pub(super) refused: u64,
}

/// How long it keeps readings, or milkings. What it does not tell is None.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Kept {
    /// Age at which they are dropped, microseconds.
    pub(super) age_us: Option<i64>,
    /// End of the newest day that was dropped, microseconds since 1970.
    pub(super) from_us: Option<i64>,
}

/// What it refused of a file, block after block, as far as it is kept.
pub(super) struct Refusals {
    next: Option<v1::ListRejectionsRequest>,
    found: VecDeque<v1::Rejection>,
}

impl Refusals {
    /// From a block on, up to another; 0: to the end.
    pub(super) fn of(producer: &str, first_offset: u64, last_offset: u64) -> Self {
        let next = v1::ListRejectionsRequest {
            producer_id: producer.to_owned(),
            first_offset,
            last_offset,
            page_size: 1000,
            page_token: String::new(),
        };
        Self { next: Some(next), found: VecDeque::new() }
    }
}

impl Server {
    pub(super) async fn connect(args: &Args) -> Result<Self> {
        let (config, patience) = (args.server.config()?, args.patience.min(LONGEST_PATIENCE));
        let connected = patiently(patience, tell, || WriteClient::connect(config.clone())).await;
        let writer = reach(&args.server.endpoint, "--endpoint", connected)?;
        Ok(Self { config, writer, patience })
    }

    /// What it has of a producer.
    pub(super) async fn earlier(&self, producer: &str) -> Result<Earlier> {
        let asking = || self.writer.producer(producer);
        let known = patiently(self.patience, tell, asking).await.context("asking what was stored before")?;
        let Some(known) = known else { return Ok(Earlier::default()) };
        let v1::Totals { stored, quarantined, .. } = known.totals.unwrap_or_default();
        Ok(Earlier { committed: known.committed_offset, stored, refused: quarantined })
    }

    /// What it refused of a block, which is beyond that of the last call.
    pub(super) async fn refused(&self, refusals: &mut Refusals, offset: u64) -> Result<Vec<v1::Rejection>> {
        let mut of_block = Vec::new();
        loop {
            while let Some(one) = refusals.found.pop_front_if(|one| one.offset <= offset) {
                if one.offset == offset {
                    of_block.push(one);
                }
            }
            let Some(mut request) = refusals.next.take_if(|_| refusals.found.is_empty()) else {
                return Ok(of_block);
            };
            let asking = async || self.queries().await?.list_rejections(request.clone()).await;
            let page = patiently(self.patience, tell, asking).await.context("asking what was refused")?;
            refusals.found.extend(page.records.into_iter().filter_map(|record| record.rejection));
            request.page_token = page.next_page_token;
            refusals.next = Some(request).filter(|request| !request.page_token.is_empty());
        }
    }

    /// How long it keeps what a file holds.
    pub(super) async fn kept(&self, kind: Kind) -> Result<Kept> {
        let asking = async || self.queries().await?.get_server_info().await;
        let info = match patiently(self.patience, tell, asking).await {
            // It tells nobody, or not this caller.
            Err(Error::Refused { .. }) => return Ok(Kept::default()),
            info => info.context("asking how long it keeps what it has")?,
        };
        let (age_us, from_us) = match kind {
            Kind::Readings => (info.readings_kept_us, info.readings_kept_from_us),
            Kind::Milkings => (info.milkings_kept_us, info.milkings_kept_from_us),
        };
        let age_us = i64::try_from(age_us).ok().filter(|age_us| *age_us > 0);
        Ok(Kept { age_us, from_us: from_us.filter(|from_us| *from_us != 0) })
    }

    /// Whether it has what a row says, from wherever; what cannot be asked is not there.
    pub(super) async fn has(&self, row: &Row) -> Result<bool> {
        let (start_us, end_us) = (row.time_us(), row.time_us().saturating_add(1));
        let found = match row {
            Row::Reading(key, reading) => {
                let request = v1::QueryRangeRequest {
                    device_uid: key.device_uid.clone(),
                    farm_id: key.farm_id,
                    metric_name: key.metric_name.clone(),
                    start_us,
                    end_us,
                    ..v1::QueryRangeRequest::default()
                };
                let asking = async || self.queries().await?.query_range(request.clone()).await;
                patiently(self.patience, tell, asking).await.map(|found| {
                    let of_series = found.series.iter().filter(|part| part.series.as_ref() == Some(key));
                    let value = reading.value.to_bits();
                    of_series.flat_map(|part| &part.readings).any(|there| there.value.to_bits() == value)
                })
            }
            Row::Milking(milking) => {
                let request = v1::QueryMilkingsRequest {
                    farm_id: milking.farm_id,
                    animal_id: milking.animal_id,
                    start_us,
                    end_us,
                    ..v1::QueryMilkingsRequest::default()
                };
                let asking = async || self.queries().await?.query_milkings(request.clone()).await;
                patiently(self.patience, tell, asking).await.map(|found| {
                    let session = (milking.milk_meter_id, &milking.session_id);
                    found.milkings.iter().any(|there| (there.milk_meter_id, &there.session_id) == session)
                })
            }
        };
        match found {
            // Not known there, or not for this caller to read, or no name at all: that is told when it is stored.
            Err(Error::Refused { .. }) => Ok(false),
            found => found.context("asking what is stored already"),
        }
    }

    async fn queries(&self) -> Result<QueryClient, Error> {
        QueryClient::connect(self.config.clone()).await
    }

    /// Stores a block.
    pub(super) async fn write(
        &self,
        request: &v1::WriteRequest,
        told: impl FnMut(&Error) + Send,
    ) -> Result<v1::WriteResponse, Error> {
        self.writer.write_patiently(request, self.patience, told).await
    }
}

fn tell(error: &Error) {
    tell!("herdstream: waiting for the server, as long as --patience says: {error}");
}

/// Tries again for `patience`, at least once; `wait` hears of each failure.
async fn patiently<T>(
    patience: Duration,
    wait: impl Fn(&Error),
    attempt: impl AsyncFn() -> Result<T, Error>,
) -> Result<T, Error> {
    let began = Instant::now();
    let mut pause = Duration::from_millis(100);
    loop {
        match attempt().await {
            Err(error) if error.is_retryable() && began.elapsed() < patience => {
                wait(&error);
                // The last attempt comes when patience ends, and not before.
                tokio::time::sleep(pause.min(patience.saturating_sub(began.elapsed()))).await;
                pause = (2 * pause).min(LONGEST_PAUSE);
            }
            done => return done,
        }
    }
}
