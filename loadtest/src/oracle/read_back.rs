//! Reads back what became of everything.

use std::collections::HashMap;

use anyhow::{Context as _, Result};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use herdstream_client::{QueryClient, v1};

use super::{Doubt, Facts, Log, Tally, milking_mark};
use crate::farm::SeriesName;

/// Readings of a page: the most that a server gives.
const READINGS_A_PAGE: u32 = 50_000;
/// Milkings of a page: the most that a server gives.
const MILKINGS_A_PAGE: u32 = 10_000;
/// Series read at a time: enough to keep the server busy while an answer is decoded.
const PARALLEL: usize = 6;

/// What the server holds of one gateway.
#[derive(Clone, Debug, Default)]
pub struct ReadBack {
    /// By series, as in [`Log::taken`]; the last one is milkings.
    pub rows: Vec<Found>,
    /// The ledger's totals of all its producers.
    pub ledger: Ledger,
}

/// What the server holds of one series.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// In the store.
    pub stored: Portion,
    /// In quarantine.
    pub quarantined: Portion,
}

/// Rows that were found, those aside whose fate was unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Portion {
    /// Rows that must be there.
    pub sure: Tally,
    /// Rows that might have been there, and are.
    pub doubtful: u64,
}

/// Cumulative fates as the server counts them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs, reason = "the words of the protocol")]
pub struct Ledger {
    pub stored: u64,
    pub duplicate: u64,
    pub quarantined: u64,
    pub skipped: u64,
}

impl Portion {
    fn add(&mut self, mark: u64, doubt: &mut Doubt) {
        if doubt.remove(mark) {
            self.doubtful += 1;
        } else {
            self.sure.add(mark);
        }
    }

    /// All rows.
    pub fn count(&self) -> u64 {
        self.sure.count + self.doubtful
    }
}

/// Reads back every row of a gateway, its quarantine and its producers' rows in the ledger.
///
/// `span_us` is the range of times in which to look, half-open. `progress` is called with every number
/// of rows that came in.
///
/// # Errors
///
/// What the query client says; the balance is unknown then.
pub async fn read_back(
    client: &QueryClient,
    log: &Log,
    span_us: (i64, i64),
    progress: impl Fn(u64) + Sync,
) -> Result<ReadBack> {
    let (client, progress) = (&client, &progress);
    let series = stream::iter(log.names.iter().zip(&log.doubt)).map(|(name, doubt)| async move {
        let mut doubt = doubt.clone();
        let stored = stored_readings(client, name, span_us, &mut doubt, progress)
            .await
            .with_context(|| format!("reading back {} of {}", name.metric.name(), name.device_uid))?;
        anyhow::Ok((Found { stored, ..Found::default() }, doubt))
    });
    let (mut rows, mut doubts): (Vec<_>, Vec<_>) =
        series.buffered(PARALLEL).try_collect::<Vec<_>>().await?.into_iter().unzip();

    let mut doubt = log.doubt.last().cloned().unwrap_or_default();
    let stored = stored_milkings(client, log, span_us, &mut doubt, progress)
        .await
        .with_context(|| format!("reading back the milkings of {}", log.gateway_id))?;
    rows.push(Found { stored, ..Found::default() });
    doubts.push(doubt);

    let mut ledger = Ledger::default();
    for producer in &log.producers {
        let producer = producer.to_string();
        quarantined(client, &producer, log, &mut rows, &mut doubts)
            .await
            .with_context(|| format!("reading the quarantine of producer {producer}"))?;
        let row = match client.get_producer(producer.clone()).await {
            Ok(row) => row,
            // A producer that never reached the server.
            Err(error) if error.is_not_found() => continue,
            Err(error) => {
                return Err(error).with_context(|| format!("asking the ledger for producer {producer}"));
            }
        };
        let totals = row.totals.unwrap_or_default();
        ledger.stored += totals.stored;
        ledger.duplicate += totals.duplicate;
        ledger.quarantined += totals.quarantined;
        ledger.skipped += totals.skipped;
    }
    Ok(ReadBack { rows, ledger })
}

async fn stored_readings(
    client: &QueryClient,
    name: &SeriesName,
    (start_us, end_us): (i64, i64),
    doubt: &mut Doubt,
    progress: &(impl Fn(u64) + Sync),
) -> Result<Portion> {
    let mut request = v1::QueryRangeRequest {
        device_uid: name.device_uid.clone(),
        farm_id: name.farm_id,
        metric_name: name.metric.name().into(),
        start_us,
        end_us,
        page_size: READINGS_A_PAGE,
        page_token: String::new(),
        ..Default::default()
    };
    let mut portion = Portion::default();
    loop {
        let page = match client.query_range(request.clone()).await {
            Ok(page) => page,
            // A device of which nothing arrived.
            Err(error) if error.is_not_found() => return Ok(portion),
            Err(error) => return Err(error.into()),
        };
        for series in &page.series {
            let key = series.series.clone().unwrap_or_default();
            anyhow::ensure!(is(name, &key), "asked for {name:?}, got {key:?}");
            for reading in &series.readings {
                portion.add(Facts::from(reading).mark(), doubt);
            }
            progress(series.readings.len() as u64);
        }
        if page.next_page_token.is_empty() {
            return Ok(portion);
        }
        request.page_token = page.next_page_token;
    }
}

async fn stored_milkings(
    client: &QueryClient,
    log: &Log,
    (start_us, end_us): (i64, i64),
    doubt: &mut Doubt,
    progress: &(impl Fn(u64) + Sync),
) -> Result<Portion> {
    let mut portion = Portion::default();
    let Some(name) = log.names.first() else { return Ok(portion) };
    let mut request = v1::QueryMilkingsRequest {
        farm_id: name.farm_id,
        animal_id: 0,
        start_us,
        end_us,
        page_size: MILKINGS_A_PAGE,
        page_token: String::new(),
    };
    loop {
        let page = match client.query_milkings(request.clone()).await {
            // Nothing of the farm has arrived.
            Err(error) if error.is_not_found() => return Ok(portion),
            page => page?,
        };
        // Other runs on this database milk the same farms.
        let own = page.milkings.iter().filter(|milking| milking.session_id.starts_with(&log.session_prefix));
        let before = portion.count();
        own.for_each(|milking| portion.add(milking_mark(milking), doubt));
        progress(portion.count() - before);
        if page.next_page_token.is_empty() {
            return Ok(portion);
        }
        request.page_token = page.next_page_token;
    }
}

async fn quarantined(
    client: &QueryClient,
    producer_id: &str,
    log: &Log,
    rows: &mut [Found],
    doubts: &mut [Doubt],
) -> Result<()> {
    let by_name: HashMap<_, _> = log
        .names
        .iter()
        .enumerate()
        .map(|(n, name)| ((name.device_uid.as_str(), name.metric.name()), n))
        .collect();
    let mut request = v1::ListRejectionsRequest {
        producer_id: producer_id.to_owned(),
        page_size: 1_000,
        ..v1::ListRejectionsRequest::default()
    };
    loop {
        let page = match client.list_rejections(request.clone()).await {
            Ok(page) => page,
            Err(error) if error.is_not_found() => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        for record in &page.records {
            let (row, mark) = match &record.content {
                Some(v1::quarantine_record::Content::Reading(reading)) => {
                    let key = record.series.clone().unwrap_or_default();
                    let row = by_name.get(&(key.device_uid.as_str(), key.metric_name.as_str()));
                    let row = *row.with_context(|| format!("in quarantine, but never sent: {record:?}"))?;
                    (row, Facts::from(reading).mark())
                }
                Some(v1::quarantine_record::Content::Milking(milking)) => {
                    (log.names.len(), milking_mark(milking))
                }
                None => anyhow::bail!("in quarantine without content: {record:?}"),
            };
            rows[row].quarantined.add(mark, &mut doubts[row]);
        }
        if page.next_page_token.is_empty() {
            return Ok(());
        }
        request.page_token = page.next_page_token;
    }
}

fn is(name: &SeriesName, key: &v1::SeriesKey) -> bool {
    key.farm_id == name.farm_id
        && key.device_uid == name.device_uid
        && key.device_type == name.device_type.name()
        && key.metric_name == name.metric.name()
        && key.metric_unit == name.metric.unit()
}
