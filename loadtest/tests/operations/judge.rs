//! Reads everything back, and compares it with the model.

use std::collections::HashMap;

use anyhow::{Context as _, Result, bail};
use futures::TryStreamExt as _;
use herdstream_client::{Error, QueryClient, v1};
use tonic::Code;

use super::{
    content::{self, Content, Id, METRICS},
    model::{Fate, Log, Model},
    world::{Fates, World},
};

/// Faults that are listed; more say nothing new.
const LISTED: usize = 40;

/// What the server holds.
#[derive(Debug, Default)]
pub(crate) struct Found {
    /// How often an item is stored.
    stored: HashMap<Id, u64>,
    /// How often it is in quarantine.
    quarantined: HashMap<Id, u64>,
    /// The ledger, by log.
    totals: Vec<v1::Totals>,
    /// Rows that are not as they were sent.
    faults: Vec<String>,
}

impl Found {
    pub(crate) fn has(&self, id: Id) -> bool {
        self.stored.contains_key(&id) || self.quarantined.contains_key(&id)
    }
}

/// Reads every row, the quarantine and the ledger.
pub(crate) async fn read_back(
    query: &QueryClient,
    content: Content,
    sites: usize,
    model: &Model,
) -> Result<Found> {
    let mut found = Found::default();
    for site in 0..sites {
        for metric in METRICS {
            let rows = readings(query, content, site, metric.0).await?;
            for (key, row) in rows {
                found.reading(content, model, site, &key, &row);
            }
        }
        let (start_us, end_us) = content.span_us();
        let request = v1::QueryMilkingsRequest {
            farm_id: content::farm(site),
            start_us,
            end_us,
            page_size: 500,
            ..v1::QueryMilkingsRequest::default()
        };
        let milkings: Vec<_> = match query.query_milkings_all(request).try_collect().await {
            // Nothing of this farm has arrived.
            Err(error) if error.is_not_found() => Vec::new(),
            milkings => milkings?,
        };
        for milking in milkings {
            found.milking(content, model, site, &milking);
        }
    }
    for (number, log) in model.logs.iter().enumerate() {
        let producer_id = log.producer.to_string();
        let request = v1::ListRejectionsRequest { producer_id, page_size: 500, ..Default::default() };
        let records: Vec<_> = query.list_rejections_all(request).try_collect().await?;
        for record in records {
            found.rejection(content, model, number, &record);
        }
        found.totals.push(World::totals(query, log.producer).await?);
    }
    Ok(found)
}

async fn readings(
    query: &QueryClient,
    content: Content,
    site: usize,
    metric: &str,
) -> Result<Vec<(v1::SeriesKey, v1::StoredReading)>> {
    let (start_us, end_us) = content.span_us();
    let request = v1::QueryRangeRequest {
        device_uid: content::device(site),
        farm_id: content::farm(site),
        metric_name: metric.to_owned(),
        start_us,
        end_us,
        page_size: 500,
        page_token: String::new(),
        ..Default::default()
    };
    let pages: Vec<_> = match query.query_range_all(request).try_collect().await {
        Ok(pages) => pages,
        // Of this device, or of this metric, nothing has arrived.
        Err(Error::Refused { status, .. })
            if matches!(status.code(), Code::NotFound | Code::InvalidArgument) =>
        {
            return Ok(Vec::new());
        }
        Err(error) => return Err(error).with_context(|| format!("reading {metric} of site {site}")),
    };
    let rows = |series: v1::SeriesReadings| {
        let key = series.series.unwrap_or_default();
        series.readings.into_iter().map(move |row| (key.clone(), row))
    };
    Ok(pages.into_iter().flat_map(rows).collect())
}

impl Found {
    fn reading(
        &mut self,
        content: Content,
        model: &Model,
        site: usize,
        key: &v1::SeriesKey,
        row: &v1::StoredReading,
    ) {
        let Some(id) = self.known(content, model, site, row.time_us) else { return };
        let (metric, expected) = content.stored(id);
        if content::is_milking(id) || key.metric_name != metric || *row != expected {
            self.faults
                .push(format!("item {id} was sent as {metric} {expected:?}, stored as {key:?} {row:?}"));
        }
        *self.stored.entry(id).or_default() += 1;
    }

    fn milking(&mut self, content: Content, model: &Model, site: usize, row: &v1::Milking) {
        let Some(id) = self.known(content, model, site, row.time_us) else { return };
        let expected = content.milking(site, id);
        if !content::is_milking(id) || *row != expected {
            self.faults.push(format!("item {id} was sent as {expected:?}, stored as {row:?}"));
        }
        *self.stored.entry(id).or_default() += 1;
    }

    fn rejection(&mut self, content: Content, model: &Model, log: usize, record: &v1::QuarantineRecord) {
        use v1::quarantine_record::Content as Refused;
        let time_us = match &record.content {
            Some(Refused::Reading(reading)) => reading.time_us,
            Some(Refused::Milking(milking)) => milking.time_us,
            None => return self.faults.push(format!("in quarantine without content: {record:?}")),
        };
        let Some(id) = content.id(time_us).filter(|id| *id < model.items.len() as u64) else {
            return self.faults.push(format!("never sent, but in quarantine: {record:?}"));
        };
        let entry = &model.items[id as usize];
        let same = match &record.content {
            Some(Refused::Reading(reading)) => {
                let (metric, expected) = content.refused(id);
                record.series.as_ref().is_some_and(|key| key.metric_name == metric)
                    && v1::Reading { series_ref: 0, ..reading.clone() } == expected
            }
            Some(Refused::Milking(milking)) => *milking == content.milking(entry.site, id),
            None => false,
        };
        let offset = record.rejection.as_ref().map(|rejection| rejection.offset);
        if !same || entry.log != log || entry.offset.is_some_and(|expected| offset != Some(expected)) {
            self.faults.push(format!("item {id} of {entry:?} is in quarantine of log {log} as {record:?}"));
        }
        *self.quarantined.entry(id).or_default() += 1;
    }

    fn known(&mut self, content: Content, model: &Model, site: usize, time_us: i64) -> Option<Id> {
        let id =
            content.id(time_us).filter(|id| model.items.get(*id as usize).is_some_and(|it| it.site == site));
        if id.is_none() {
            self.faults.push(format!("stored at {time_us} for site {site}, but nobody sent it"));
        }
        id
    }

    fn count(map: &HashMap<Id, u64>, log: &Log) -> u64 {
        log.ids.iter().map(|id| map.get(id).copied().unwrap_or(0)).sum()
    }
}

/// Gives every item its fate.
pub(crate) fn judge(model: &Model, found: &Found) -> Result<Fates> {
    let mut faults = found.faults.clone();
    let mut fates = Fates::default();
    let mut evicted = vec![0; model.logs.len()];
    for (id, entry) in model.items.iter().enumerate() {
        let id = id as Id;
        let stored = found.stored.get(&id).copied().unwrap_or(0);
        let quarantined = found.quarantined.get(&id).copied().unwrap_or(0);
        fates.stored += stored;
        fates.quarantined += quarantined;
        match (stored + quarantined, entry.fate) {
            (2.., _) => {
                faults.push(format!("doubled: item {id}, {stored} stored, {quarantined} refused: {entry:?}"));
            }
            (1, Fate::NotTaken) => faults.push(format!("there, though never taken: item {id}, {entry:?}")),
            (1, _) if content::is_bad(id) != (quarantined == 1) => {
                faults.push(format!("wrongly judged by the server: item {id}, {entry:?}"));
            }
            (1, _) | (0, Fate::NotTaken) => {}
            (0, Fate::Doubtful) => fates.gone += 1,
            (0, Fate::Taken) if model.is_evicted(entry) => {
                fates.evicted += 1;
                evicted[entry.log] += 1;
            }
            // A producer that lived to hear of it has to tell.
            (0, Fate::Taken)
                if entry.forgettable
                    && (model.logs[entry.log].counters.is_none() || model.is_forgotten(entry)) =>
            {
                fates.forgotten += 1;
            }
            (0, Fate::Taken) => faults.push(format!("lost: item {id}, {entry:?}")),
        }
    }
    for (number, log) in model.logs.iter().enumerate() {
        let totals = found.totals[number];
        let stored = Found::count(&found.stored, log);
        let quarantined = Found::count(&found.quarantined, log);
        if (totals.stored, totals.quarantined) != (stored, quarantined) {
            faults.push(format!(
                "log {number}: {stored} stored, {quarantined} refused, the ledger says {totals:?}"
            ));
        }
        if !log.exact {
            continue;
        }
        if (totals.skipped, totals.duplicate) != (evicted[number], 0) {
            faults.push(format!(
                "log {number}: {} evicted, none repeated, the ledger says {totals:?}",
                evicted[number]
            ));
        }
        if let Some(counters) = &log.counters
            && (counters.stored, counters.quarantined, counters.evicted)
                != (stored, quarantined, evicted[number])
        {
            let evicted = evicted[number];
            faults.push(format!(
                "log {number}: {stored} stored, {quarantined} refused, {evicted} evicted; {counters:?}"
            ));
        }
    }
    if faults.is_empty() {
        return Ok(fates);
    }
    let more = faults.len().saturating_sub(LISTED);
    faults.truncate(LISTED);
    for (number, log) in model.logs.iter().enumerate() {
        let Log { producer, site, exact, evicted, forgotten, .. } = log;
        let items = (log.ids.first(), log.ids.last());
        faults.push(format!(
            "(log {number} of site {site}, {producer}: items {items:?}, exact {exact}, evicted {evicted:?}, forgotten {forgotten:?})"
        ));
    }
    bail!("{}\n… and {more} more", faults.join("\n"))
}
