//! The embedded store by itself: packing, committing, reading.
//!
//! ```text
//! cargo bench -p herdstream-server --bench embedded
//! ```
//! Commits are synced: their figures are those of the disk that holds the temporary directory.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    reason = "criterion's macros, and a benchmark stops by panicking"
)]

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    time::{Duration, Instant},
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use herdstream_server::{
    model::{Micros, Reading, SECOND_US, SeriesId, SeriesKey, Totals},
    store::{
        Batch, BucketRange, CommitGroup, Cut, Level, Look as _, ProducerCommit, Refresh, SeriesRange, Store,
        embedded::{EmbeddedConfig, EmbeddedStore, pack_block, unpack_block},
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use tokio::runtime::Runtime;
use uuid::Uuid;

/// 2026-03-01T12:00:00Z.
const NOON_US: Micros = 1_772_366_400 * SECOND_US;

const PRODUCERS: u32 = 20;
const SERIES_EACH: u32 = 150;

/// What a collar sends: a decimal, with battery, signal and animal.
fn reading(random: &mut StdRng, series: SeriesId, time_us: Micros) -> Reading {
    let value = f64::from(random.random_range(3000..4500)) / 100.0;
    Reading {
        animal_id: Some(series.0 as i32),
        battery_level: Some(87),
        signal_strength: Some(-60 - random.random_range(0..3)),
        ..Reading::new(series, time_us, value)
    }
}

fn blocks(criterion: &mut Criterion) {
    let mut random = StdRng::seed_from_u64(1);
    for count in [1, 7, 20, 100] {
        let readings: Vec<_> =
            (0..count).map(|n| reading(&mut random, SeriesId(1), NOON_US + n * SECOND_US)).collect();
        let run: Vec<_> = readings.iter().collect();
        let mut packed = Vec::new();
        pack_block(&mut packed, &run);
        println!("{count} readings: {:.1} bytes each", packed.len() as f64 / count as f64);

        let mut group = criterion.benchmark_group(format!("block of {count}"));
        group.throughput(Throughput::Elements(count as u64));
        let mut out = Vec::with_capacity(packed.len());
        group.bench_function("pack", |bencher| {
            bencher.iter(|| {
                out.clear();
                pack_block(&mut out, black_box(&run));
            });
        });
        let mut out = Vec::with_capacity(readings.len());
        group.bench_function("unpack", |bencher| {
            bencher.iter(|| {
                out.clear();
                assert!(unpack_block(SeriesId(1), NOON_US, black_box(&packed), &mut out));
            });
        });
        group.finish();
    }
}

/// A store with series, and groups to commit into it.
struct Bed {
    runtime: Runtime,
    store: Arc<EmbeddedStore>,
    series: Vec<SeriesId>,
    random: StdRng,
    time_us: Micros,
    _dir: tempfile::TempDir,
}

impl Bed {
    fn new() -> Self {
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let store = Arc::new(EmbeddedStore::open(EmbeddedConfig::new(dir.path())).unwrap());
        let key = |n: u32| SeriesKey {
            farm_id: (n / SERIES_EACH) as i32 + 1,
            device_uid: format!("collar-{}", n / 5),
            device_type: "collar".into(),
            metric_name: format!("metric_{}", n % 5),
            metric_unit: "Cel".into(),
        };
        let keys: Vec<_> = (0..PRODUCERS * SERIES_EACH).map(key).collect();
        let series = runtime.block_on(store.resolve_series(&keys)).unwrap();
        Self { runtime, store, series, random: StdRng::seed_from_u64(1), time_us: NOON_US, _dir: dir }
    }

    /// Batches of every producer, `per_series` readings of each series, as they come: by time.
    fn group(&mut self, per_series: i64) -> Arc<CommitGroup> {
        self.group_every(per_series, SECOND_US)
    }

    /// Likewise, so far apart.
    fn group_every(&mut self, per_series: i64, step_us: Micros) -> Arc<CommitGroup> {
        let mut producers = Vec::new();
        for series in self.series.chunks(SERIES_EACH as usize) {
            let mut readings = Vec::with_capacity(series.len() * per_series as usize);
            for n in 0..per_series {
                let time_us = self.time_us + n * step_us;
                readings.extend(series.iter().map(|&series| reading(&mut self.random, series, time_us)));
            }
            producers.push(ProducerCommit {
                producer: Uuid::from_u128(producers.len() as u128),
                guard: None,
                committed_offset: 0,
                totals: Totals::default(),
                open: None,
                batches: vec![Batch { offset: 1, readings, milkings: Vec::new() }],
                quarantined: Vec::new(),
            });
        }
        self.time_us += per_series * step_us;
        Arc::new(CommitGroup { producers })
    }
}

fn commits(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit");
    group.measurement_time(Duration::from_secs(15)).sample_size(20);
    for per_series in [2, 7, 20] {
        let mut bed = Bed::new();
        let readings = per_series * i64::from(PRODUCERS * SERIES_EACH);
        group.throughput(Throughput::Elements(readings as u64));
        group.bench_function(format!("{readings} readings, {per_series} of a series"), |bencher| {
            bencher.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    let readings = bed.group(per_series);
                    let start = Instant::now();
                    bed.runtime.block_on(bed.store.commit(readings)).unwrap();
                    spent += start.elapsed();
                }
                spent
            });
        });
        bed.runtime.block_on(bed.store.close());
    }
    group.finish();
}

/// Time runs as fast as it is committed: every reading is read back for its quarter of an hour, its hour, its day.
fn commits_beside_refreshes(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("commit 60000 readings");
    group.measurement_time(Duration::from_secs(15)).sample_size(20).throughput(Throughput::Elements(60_000));
    for (name, late, refreshes) in
        [("alone", false, false), ("beside refreshes", false, true), ("late", true, false)]
    {
        let mut bed = Bed::new();
        let presents = Arc::new(AtomicI64::new(bed.time_us));
        let (store, present) = (bed.store.clone(), presents.clone());
        let close = async move |close_before_us| {
            store.refresh(Refresh { close_before_us, span_us: None }).await.unwrap();
        };
        if late {
            bed.runtime.block_on(close(i64::MAX / 2));
        } else if refreshes {
            bed.runtime.spawn(async move {
                loop {
                    close(present.load(Ordering::Relaxed) - 60 * SECOND_US).await;
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
        }
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|times| {
                let mut spent = Duration::ZERO;
                for _ in 0..times {
                    let readings = bed.group(20);
                    let start = Instant::now();
                    bed.runtime.block_on(bed.store.commit(readings)).unwrap();
                    spent += start.elapsed();
                    presents.store(bed.time_us, Ordering::Relaxed);
                }
                spent
            });
        });
        bed.runtime.shutdown_background();
    }
    group.finish();
}

/// Days of 3000 series, four readings an hour.
const DAYS: i64 = 30;

/// Time that their rollups take.
fn rollups(criterion: &mut Criterion) {
    let mut bed = Bed::new();
    let start_us = NOON_US - NOON_US % (86_400 * SECOND_US);
    bed.time_us = start_us;
    for _ in 0..DAYS * 4 {
        let group = bed.group_every(24, 900 * SECOND_US);
        bed.runtime.block_on(bed.store.commit(group)).unwrap();
    }
    let refresh = Refresh { close_before_us: bed.time_us, span_us: None };
    let start = Instant::now();
    let done = bed.runtime.block_on(bed.store.refresh(refresh)).unwrap();
    println!("{} buckets of {} readings took {:?}", done.buckets, DAYS * 96 * 3000, start.elapsed());

    let mut group = criterion.benchmark_group("buckets");
    let days_us = 86_400 * SECOND_US;
    for (name, series, level, days) in [
        ("30 days of a series", 1, Level::Day, 30),
        ("30 days of 100 series in one line", 100, Level::Day, 30),
        ("720 hours of a series", 1, Level::Hour, 30),
        ("672 quarters of an hour of a series", 1, Level::QuarterHour, 7),
    ] {
        let cut = Cut::Level { level, start_us, end_us: start_us + days * days_us };
        let series = bed.series.iter().take(series).map(|id| (*id, 0)).collect();
        let range = BucketRange { series, tag: None, cut, percentiles: true };
        let expected = days * days_us / level.width_us();
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                let buckets = bed.runtime.block_on(bed.store.buckets(range.clone())).unwrap();
                assert_eq!(buckets.len() as i64, expected);
            });
        });
    }
    group.finish();
    bed.runtime.block_on(bed.store.close());
}

fn reads(criterion: &mut Criterion) {
    let mut bed = Bed::new();
    // 24 hours at one reading a minute would take long to fill; an hour at one a second reads the same.
    while bed.time_us < NOON_US + 3600 * SECOND_US {
        let group = bed.group(60);
        bed.runtime.block_on(bed.store.commit(group)).unwrap();
    }
    let mut group = criterion.benchmark_group("read");
    let series = bed.series[1234];
    let range = SeriesRange {
        series,
        start_us: NOON_US,
        end_us: bed.time_us,
        skip: 0,
        limit: usize::MAX,
        text_bytes: usize::MAX,
        tag: None,
    };
    group.throughput(Throughput::Elements(3600));
    group.bench_function("an hour of a series, 3600 readings", |bencher| {
        bencher.iter(|| assert_eq!(bed.runtime.block_on(bed.store.range(range)).unwrap().len(), 3600));
    });
    group.throughput(Throughput::Elements(100));
    group.bench_function("the latest of 100 series", |bencher| {
        bencher.iter_batched(
            || &bed.series[..100],
            |series| assert_eq!(bed.runtime.block_on(bed.store.latest(series)).unwrap().len(), 100),
            BatchSize::SmallInput,
        );
    });
    group.finish();
    bed.runtime.block_on(bed.store.close());
}

criterion_group!(benches, blocks, commits, commits_beside_refreshes, reads, rollups);
criterion_main!(benches);
