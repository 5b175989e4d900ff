//! What the embedded store can take alone: the same rows, as durable, in commits of the size it likes best.
//!
//! Nothing but the store is in the way: no network, no encoding, no validation. Rows are made on another
//! thread, as the server makes them on another thread than the one that commits.

use std::{
    path::Path,
    sync::{Arc, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use herdstream_server::{
    config::{Config, Flags},
    model::{Milking, Quality, Reading, SeriesId, SeriesKey, Totals},
    store::{
        Batch, CommitGroup, Guard, OpenSession, Outcome, ProducerCommit, Store,
        embedded::{EmbeddedConfig, EmbeddedStore},
    },
};
use uuid::Uuid;

use crate::{
    farm::{Delivery, Farm, MilkingRecord, Sample},
    report::{LimitRun, Way},
    workload::{Latencies, Load, history_start_us, now_us},
};

/// Groups that are ready before they are needed.
const READY: usize = 3;

/// Measures the store alone, each group size for `each` on an empty directory under `dir`.
///
/// The store is set up as the server would: from the environment (`HERDSTREAM_STORE__…`) and the defaults.
///
/// # Errors
///
/// The store cannot be opened, or a commit fails.
pub async fn measure(load: &Load, groups: &[usize], each: Duration, dir: &Path) -> Result<Vec<LimitRun>> {
    let mut runs = Vec::with_capacity(groups.len());
    for &group in groups {
        let dir = dir.join(format!("group-{group}"));
        let config = Config::load(&Flags { data_dir: Some(dir.display().to_string()), ..Flags::default() })?;
        let store: Arc<dyn Store> = Arc::new(EmbeddedStore::open(EmbeddedConfig::from(&config))?);
        let run = of_group(store.as_ref(), load, group, each).await;
        store.close().await;
        drop(store);
        std::fs::remove_dir_all(&dir).with_context(|| format!("removing {}", dir.display()))?;
        runs.push(run?);
    }
    Ok(runs)
}

async fn of_group(store: &dyn Store, load: &Load, group: usize, each: Duration) -> Result<LimitRun> {
    let start_us = history_start_us();
    let mut sources = Vec::with_capacity(load.producers);
    for number in 0..load.producers {
        sources.push(Source::open(store, load.farm(number, start_us)).await?);
    }
    let batch = load.batch.min(group);
    let (groups, ready) = mpsc::sync_channel(READY);
    let maker = thread::spawn(move || {
        let mut maker = Maker { sources, batch, next: 0 };
        while groups.send(maker.group(group)).is_ok() {}
    });

    let mut commits = Latencies::default();
    let mut readings = 0;
    let start = Instant::now();
    while start.elapsed() < each {
        let group = Arc::new(ready.recv().context("rows are no longer made")?);
        readings += group
            .producers
            .iter()
            .flat_map(|p| &p.batches)
            .map(|batch| batch.readings.len() as u64)
            .sum::<u64>();
        let begun = Instant::now();
        for outcome in store.commit(group).await? {
            if let Outcome::Fenced(row) = outcome {
                bail!("a commit was fenced by {row:?}: another process writes to this store");
            }
        }
        commits.record(begun.elapsed(), 1);
    }
    let seconds = start.elapsed().as_secs_f64();
    drop(ready);
    if maker.join().is_err() {
        bail!("making rows panicked");
    }
    let percentiles = commits.percentiles();
    Ok(LimitRun {
        way: Way::Store,
        connections: 1,
        group,
        readings_per_second: readings as f64 / seconds,
        commits: percentiles.samples,
        commit_ms_p50: percentiles.p50,
        commit_ms_p99: percentiles.p99,
    })
}

/// One producer as the store sees it.
struct Source {
    farm: Farm,
    series: Vec<SeriesId>,
    producer: Uuid,
    epoch: u64,
    committed_offset: u64,
}

impl Source {
    async fn open(store: &dyn Store, farm: Farm) -> Result<Self> {
        let keys = farm.series().iter().map(|name| SeriesKey {
            farm_id: name.farm_id,
            device_uid: name.device_uid.clone(),
            device_type: name.device_type.name().into(),
            metric_name: name.metric.name().into(),
            metric_unit: name.metric.unit().into(),
        });
        let series = store.resolve_series(&keys.collect::<Vec<_>>()).await?;
        let producer = Uuid::new_v4();
        let open = OpenSession { gateway_id: "limit".into(), instance_id: Uuid::new_v4().to_string() };
        let commit = ProducerCommit {
            producer,
            guard: None,
            committed_offset: 0,
            totals: Totals::default(),
            open: Some(open),
            batches: Vec::new(),
            quarantined: Vec::new(),
        };
        let outcomes = store.commit(Arc::new(CommitGroup { producers: vec![commit] })).await?;
        let Some(Outcome::Committed(row, _)) = outcomes.into_iter().next() else {
            bail!("a new producer was fenced");
        };
        Ok(Self { farm, series, producer, epoch: row.epoch, committed_offset: row.committed_offset })
    }
}

/// Makes groups, the producers in turn.
struct Maker {
    sources: Vec<Source>,
    batch: usize,
    next: usize,
}

impl Maker {
    fn group(&mut self, size: usize) -> CommitGroup {
        let mut commits: Vec<Option<ProducerCommit>> = Vec::new();
        commits.resize_with(self.sources.len(), || None);
        let limit_us = now_us();
        for _ in 0..size / self.batch {
            let source = &mut self.sources[self.next];
            let commit = commits[self.next].get_or_insert_with(|| ProducerCommit {
                producer: source.producer,
                guard: Some(Guard { epoch: source.epoch, committed_offset: source.committed_offset }),
                committed_offset: source.committed_offset,
                totals: Totals::default(),
                open: None,
                batches: Vec::new(),
                quarantined: Vec::new(),
            });
            let mut delivery = Delivery::default();
            source.farm.deliver(self.batch, limit_us, &mut delivery);
            source.committed_offset += 1;
            commit.committed_offset = source.committed_offset;
            commit.totals.stored += delivery.len() as u64;
            let readings = delivery.readings.into_iter();
            commit.batches.push(Batch {
                offset: source.committed_offset,
                readings: readings.map(|sample| reading(sample, &source.series)).collect(),
                milkings: delivery.milkings.iter().map(milking).collect(),
            });
            self.next = (self.next + 1) % self.sources.len();
        }
        let mut producers: Vec<_> = commits.into_iter().flatten().collect();
        producers.sort_unstable_by_key(|commit| commit.producer);
        CommitGroup { producers }
    }
}

fn reading(sample: Sample, series: &[SeriesId]) -> Reading {
    Reading {
        series: series[sample.series as usize],
        time_us: sample.time_us,
        value: sample.value,
        quality: Quality::Valid,
        is_interpolated: sample.is_interpolated,
        animal_id: sample.animal_id,
        zone_id: sample.zone_id,
        battery_level: Some(sample.battery_level),
        signal_strength: Some(sample.signal_strength),
        session_id: sample.session_id,
        metadata: sample.metadata.map(Into::into),
    }
}

fn milking(record: &MilkingRecord) -> Milking {
    Milking {
        time_us: record.time_us,
        milk_meter_id: record.milk_meter_id,
        animal_id: record.animal_id,
        farm_id: record.farm_id,
        session_id: record.session_id.clone(),
        yield_kg: record.yield_kg,
        duration_seconds: Some(record.duration_seconds),
        flow_rate_kg_min: Some(record.flow_rate_kg_min),
        conductivity_ms: Some(record.conductivity_ms),
        temperature_c: Some(record.temperature_c),
        blood_detected: record.blood_detected,
        fat_percent: record.fat_percent,
        protein_percent: record.protein_percent,
        lactose_percent: record.lactose_percent,
        somatic_cell_count: record.somatic_cell_count,
        mastitis_risk_score: Some(record.mastitis_risk_score),
        session_start_us: Some(record.session_start_us),
        session_end_us: None,
        milking_type: Some(record.milking_type.to_owned()),
        meter_status: None,
    }
}
