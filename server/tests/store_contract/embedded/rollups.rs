//! Rollups and retention where the laws of all profiles do not reach: everything at once, dropped levels, what a
//! call may know.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use herdstream_server::{
    model::{Micros, Milking, Reading, RejectionKind, SeriesId, now_us},
    store::{
        Bucket, BucketRange, Call, Cut, Level, Look as _, MilkRange, Outcome, ProducerCommit, Refresh,
        Retention, SeriesFilter, Steps, Store, StoreError, Tag,
        embedded::{EmbeddedConfig, EmbeddedStore},
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};
use uuid::Uuid;

use super::{config, open};
use crate::store_contract::rows::{
    DAY, HOUR, MINUTE, NOON, batch, commit, commit_one, milking, reading, resolve, series_key, write,
};

const MIDNIGHT: Micros = NOON - 12 * HOUR;

/// With percentiles, what is not kept is computed from readings; without, from open buckets where it can be.
const LOOKS: [(Level, bool); 5] = [
    (Level::QuarterHour, false),
    (Level::Hour, false),
    (Level::Hour, true),
    (Level::Day, false),
    (Level::Day, true),
];

fn all(series: &[SeriesId], level: Level) -> BucketRange {
    BucketRange {
        series: (0..).zip(series).map(|(line, id)| (*id, line)).collect(),
        tag: None,
        cut: Cut::Level { level, start_us: MIDNIGHT - 20 * DAY, end_us: MIDNIGHT + 20 * DAY },
        percentiles: true,
    }
}

fn count(buckets: &[(u32, Bucket)]) -> u64 {
    buckets.iter().map(|(_, bucket)| bucket.count).sum()
}

async fn refresh(store: &dyn Store, close_before_us: Micros) {
    store.refresh(Refresh { close_before_us, span_us: None }).await.unwrap();
}

async fn milkings_of(store: &dyn Store, farm_id: i32) -> u64 {
    let cut = Cut::Level { level: Level::Day, start_us: MIDNIGHT - 20 * DAY, end_us: MIDNIGHT + 20 * DAY };
    let found = store.milk(MilkRange { farm_id, animal_id: None, cut }).await.unwrap();
    found.iter().map(|milk| milk.milkings).sum()
}

/// What was committed, and what of that the store took.
#[derive(Default)]
struct Taken {
    begun: AtomicU64,
    taken: AtomicU64,
    milkings_begun: AtomicU64,
    milkings_taken: AtomicU64,
}

/// Commits readings and milkings of now and of the days before, as time goes by.
async fn feed(store: &dyn Store, ids: &[SeriesId], taken: &Taken, present: &AtomicU64, seed: u64) {
    let mut random = StdRng::seed_from_u64(seed);
    for _ in 0..100 {
        let now_us = MIDNIGHT + present.fetch_add(1, SeqCst) as Micros * 25 * MINUTE;
        let mut time = || match random.random_range(0..4) {
            0 => now_us - random.random_range(0..4 * DAY),
            _ => now_us + random.random_range(0..30 * MINUTE),
        };
        let readings: Vec<Reading> =
            (0..40).map(|n| reading(ids[n % ids.len()], time(), f64::from(n as u32))).collect();
        let milkings: Vec<Milking> = (0..3).map(|n| milking(1 + n % 2, n, time())).collect();
        let (count, milkings_count) = (readings.len() as u64, milkings.len() as u64);
        let mut mixed = batch(readings);
        mixed.milkings = milkings;
        let anonymous = ProducerCommit { batches: vec![mixed], ..commit(Uuid::new_v4()) };
        taken.begun.fetch_add(count, SeqCst);
        taken.milkings_begun.fetch_add(milkings_count, SeqCst);
        let Outcome::Committed(_, refused) = commit_one(store, anonymous).await else {
            panic!("nobody is fenced")
        };
        let refused_milkings =
            refused.iter().filter(|rejection| rejection.kind == RejectionKind::Milking).count() as u64;
        taken.taken.fetch_add(count - (refused.len() as u64 - refused_milkings), SeqCst);
        taken.milkings_taken.fetch_add(milkings_count - refused_milkings, SeqCst);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_lost_or_told_twice_while_everything_happens_at_once() {
    let seed: u64 = std::env::var("HERDSTREAM_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or_else(rand::random);
    println!("seed {seed} (set HERDSTREAM_TEST_SEED to repeat)");
    let dir = tempfile::tempdir().unwrap();
    let config = EmbeddedConfig { memtable_bytes: 64 << 10, ..config(dir.path()) };
    let store = Arc::new(EmbeddedStore::open(config).unwrap());
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(resolve(&*store, n).await);
    }
    let (taken, present) = (Arc::new(Taken::default()), Arc::new(AtomicU64::new(0)));
    let over = Arc::new(AtomicBool::new(false));
    let now_us = |present: &AtomicU64| MIDNIGHT + present.load(SeqCst) as Micros * 25 * MINUTE;

    let refresher = {
        let (store, present, over) = (store.clone(), present.clone(), over.clone());
        tokio::spawn(async move {
            while !over.load(SeqCst) {
                refresh(&*store, now_us(&present) - 20 * MINUTE).await;
            }
        })
    };
    let dropper = {
        let (store, present, over) = (store.clone(), present.clone(), over.clone());
        tokio::spawn(async move {
            let mut days = 0;
            while !over.load(SeqCst) {
                let cutoff = Some(now_us(&present) - 2 * DAY);
                let retention = Retention {
                    readings_us: cutoff,
                    milkings_us: cutoff,
                    quiet_since_us: Micros::MAX,
                    ..Retention::default()
                };
                let dropped = store.retain(retention).await.unwrap();
                days += dropped.iter().filter(|part| part.kept_because.is_empty()).count();
                tokio::task::yield_now().await;
            }
            days
        })
    };
    let asker = {
        let (store, taken, over, ids) = (store.clone(), taken.clone(), over.clone(), ids.clone());
        tokio::spawn(async move {
            while !over.load(SeqCst) {
                for (level, percentiles) in LOOKS {
                    let known = taken.taken.load(SeqCst);
                    let range = BucketRange { percentiles, ..all(&ids, level) };
                    let found = count(&store.buckets(range).await.unwrap());
                    let most = taken.begun.load(SeqCst);
                    assert!((known..=most).contains(&found), "{level:?}: {known} <= {found} <= {most}");
                }
                let known = taken.milkings_taken.load(SeqCst);
                let found = milkings_of(&*store, 1).await + milkings_of(&*store, 2).await;
                let most = taken.milkings_begun.load(SeqCst);
                assert!((known..=most).contains(&found), "milkings: {known} <= {found} <= {most}");
            }
        })
    };
    tokio::join!(
        feed(&*store, &ids, &taken, &present, seed),
        feed(&*store, &ids, &taken, &present, seed.wrapping_add(1)),
    );
    over.store(true, SeqCst);
    refresher.await.unwrap();
    asker.await.unwrap();
    let days = dropper.await.unwrap();
    println!("{days} days were dropped");
    assert!(days > 0, "nothing was dropped: the test says nothing");

    for reopened in [false, true] {
        let store = if reopened {
            store.close().await;
            Arc::new(open(dir.path()))
        } else {
            store.clone()
        };
        for (level, percentiles) in LOOKS {
            let range = BucketRange { percentiles, ..all(&ids, level) };
            let found = count(&store.buckets(range).await.unwrap());
            assert_eq!(found, taken.taken.load(SeqCst), "{level:?}, reopened: {reopened}");
        }
        let found = milkings_of(&*store, 1).await + milkings_of(&*store, 2).await;
        assert_eq!(found, taken.milkings_taken.load(SeqCst), "reopened: {reopened}");
    }
}

/// Readings of some days, early and late, of three series.
async fn three_series(store: &dyn Store) -> Vec<SeriesId> {
    let mut ids = Vec::new();
    for n in 0..3 {
        ids.push(resolve(store, n).await);
    }
    for (round, close_before_us) in [(0, MIDNIGHT), (1, NOON), (2, NOON + DAY)] {
        let at =
            |n: i64| reading(ids[n as usize % 3], MIDNIGHT - 3 * DAY + n * 31 * MINUTE + round, n as f64);
        write(store, (0..300).map(at).collect()).await;
        refresh(store, close_before_us).await;
    }
    write(store, vec![reading(ids[0], MIDNIGHT - 2 * DAY, 0.5)]).await;
    ids
}

async fn every_level(store: &dyn Store, ids: &[SeriesId]) -> Vec<Vec<(u32, Bucket)>> {
    let mut levels = Vec::new();
    for level in Level::ALL {
        levels.push(store.buckets(all(ids, level)).await.unwrap());
    }
    levels
}

#[tokio::test]
async fn dropped_rollups_are_computed_from_readings_as_long_as_those_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ids = three_series(&store).await;
    let before = every_level(&store, &ids).await;
    let cutoffs = [Some(MIDNIGHT), Some(MIDNIGHT - DAY), None];
    let retention = Retention { rollups_us: cutoffs, ..Retention::default() };
    let told = store.retain(Retention { dry_run: true, ..retention }).await.unwrap();
    assert_eq!(store.lifecycle().await.unwrap().rollups_kept_from_us, [None; 3], "only told");
    assert_eq!(store.retain(retention).await.unwrap(), told);
    let tables: Vec<_> = told.iter().map(|part| (part.table, part.rows)).collect();
    assert_eq!(tables, [("rollup_15min", 9), ("rollup_hourly", 6)], "a row of a series is a day");
    assert_eq!(store.lifecycle().await.unwrap().rollups_kept_from_us, cutoffs);
    assert_eq!(store.retain(retention).await.unwrap(), [], "they are gone");
    assert_eq!(every_level(&store, &ids).await, before);
    // What comes late there is not kept again, and told all the same.
    write(&store, vec![reading(ids[1], MIDNIGHT - 2 * DAY + 1, 7.0)]).await;
    let marked = every_level(&store, &ids).await;
    refresh(&store, NOON + DAY).await;
    assert_eq!(every_level(&store, &ids).await, marked);
    assert_eq!(store.retain(retention).await.unwrap(), []);
    for (before, after) in before.iter().zip(&marked) {
        assert_eq!(count(after), count(before) + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_that_is_given_up_leaves_truth() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ids = three_series(&store).await;
    let mut random = StdRng::seed_from_u64(7);
    for round in 0..30 {
        let late = |n: usize| reading(ids[n % 3], MIDNIGHT - random.random_range(0..5 * DAY), 1.0);
        write(&store, (0..50).map(late).collect()).await;
        let before = every_level(&store, &ids).await;
        let close_before_us = NOON + DAY + round * HOUR;
        let given_up = tokio::time::timeout(
            Duration::from_micros(random.random_range(0..3000)),
            store.refresh(Refresh { close_before_us, span_us: None }),
        );
        let _ = given_up.await;
        assert_eq!(every_level(&store, &ids).await, before);
    }
    let before = every_level(&store, &ids).await;
    refresh(&store, NOON + 3 * DAY).await;
    assert_eq!(store.dirty_hours().await.unwrap(), 0);
    assert_eq!(every_level(&store, &ids).await, before);
}

#[tokio::test]
async fn what_is_closed_and_clean_is_answered_from_rollups() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ids = three_series(&store).await;
    let read = async || plan(&store, all(&ids, Level::Day)).await;
    let dirty = read().await;
    assert!(dirty.contains("blocks") && dirty.contains("rows of rollups"), "{dirty}");
    refresh(&store, NOON + 9 * DAY).await;
    let clean = read().await;
    assert!(!clean.contains("blocks") && clean.contains("rows of rollups"), "{clean}");
}

/// How a question was answered.
async fn plan(store: &EmbeddedStore, range: BucketRange) -> String {
    let call = Call { deadline: None, steps: Some(Steps::default()) };
    let steps = call.steps.clone().unwrap();
    call.run(store.buckets(range)).await.unwrap();
    steps.take().remove(0).plan
}

#[tokio::test]
async fn open_quarters_are_held_again_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let now_us = now_us();
    let quarter_us = Level::QuarterHour.floor(now_us);
    let ids = [resolve(&store, 0).await, resolve(&store, 1).await];
    refresh(&store, quarter_us - 15 * MINUTE).await;
    let of = |n: i64| {
        // Before what is stored, not stored, of now, and of a clock that is ahead.
        let times = [quarter_us - 20 * MINUTE, quarter_us - n, quarter_us + n, now_us + HOUR];
        times
            .into_iter()
            .zip(ids.into_iter().cycle())
            .map(move |(time_us, id)| reading(id, time_us, n as f64))
    };
    write(&store, (1..50).flat_map(of).collect()).await;
    let since = |start_us: Micros| BucketRange {
        series: vec![(ids[0], 0), (ids[1], 1)],
        tag: None,
        cut: Cut::Level { level: Level::QuarterHour, start_us, end_us: quarter_us + 2 * HOUR },
        percentiles: false,
    };
    let before = store.buckets(since(quarter_us - HOUR)).await.unwrap();
    store.close().await;
    drop(store);

    let store = open(dir.path());
    assert_eq!(store.buckets(since(quarter_us - HOUR)).await.unwrap(), before);
    write(&store, (50..60).flat_map(of).collect()).await;
    // They are read beside everything else.
    let began = Instant::now();
    loop {
        let told = plan(&store, since(quarter_us - 15 * MINUTE)).await;
        if told.contains("open buckets") && !told.contains("blocks") {
            break;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "{told}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let counted = store.buckets(since(quarter_us - HOUR)).await.unwrap();
    assert_eq!(counted.iter().map(|(_, bucket)| bucket.count).sum::<u64>(), 59 * 4);
}

#[tokio::test]
async fn a_read_ends_at_its_deadline() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ids = three_series(&store).await;
    let call = Call { deadline: Some(Instant::now()), steps: None };
    let late = call.clone().run(store.buckets(all(&ids, Level::Hour))).await.unwrap_err();
    assert!(matches!(late, StoreError::Deadline), "{late:?}");
    let late = call.run(store.latest(&ids)).await.unwrap_err();
    assert!(matches!(late, StoreError::Deadline), "{late:?}");
}

#[tokio::test]
async fn series_are_paged_by_number() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Numbers in another order than names.
    for n in [7, 3, 12, 0, 5, 9] {
        resolve(&store, n).await;
    }
    for farm_id in [None, Some(1)] {
        let (mut after, mut found) = (None, Vec::new());
        loop {
            let metric_names = vec!["metric_0".into(), "metric_2".into(), "metric_3".into()];
            let filter =
                SeriesFilter { farm_id, metric_names, after, limit: Some(2), ..SeriesFilter::default() };
            let page = store.find_series(filter).await.unwrap();
            after = page.last().map(|(id, _)| *id);
            found.extend(page.iter().map(|(_, key)| key.clone()));
            if page.len() < 2 {
                break;
            }
        }
        assert_eq!(found, [7, 3, 12, 0, 5].map(series_key), "{farm_id:?}");
    }
    let filter = SeriesFilter { limit: Some(0), ..SeriesFilter::default() };
    assert_eq!(store.find_series(filter).await.unwrap(), []);
}

#[tokio::test]
async fn a_full_disk_takes_no_rollups_and_lets_days_go() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let ids = three_series(&store).await;
    refresh(&store, NOON + DAY).await;
    let before = every_level(&store, &ids).await;
    store.close().await;
    drop(store);
    let full = EmbeddedConfig { min_free_bytes: u64::MAX, ..config(dir.path()) };
    let store = EmbeddedStore::open(full).unwrap();
    assert!(store.ready().await.is_err(), "it counts as full");
    let refreshed = store.refresh(Refresh { close_before_us: NOON + 2 * DAY, span_us: None }).await;
    assert!(matches!(refreshed, Err(StoreError::Unavailable(..))), "{refreshed:?}");
    let retention =
        Retention { readings_us: Some(MIDNIGHT), quiet_since_us: Micros::MAX, ..Retention::default() };
    let dropped = store.retain(retention).await.unwrap();
    assert!(dropped.len() > 1 && dropped.iter().all(|part| part.kept_because.is_empty()), "{dropped:?}");
    assert_eq!(every_level(&store, &ids).await, before);
}

#[tokio::test]
async fn a_stall_that_many_animals_pass_is_found_by_each() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let series = resolve(&store, 0).await;
    let passed = |n: i64| Reading {
        animal_id: Some(n as i32 % 50 + 1),
        zone_id: (n % 7 == 0).then_some(3),
        ..reading(series, NOON + n * MINUTE, 1.0)
    };
    write(&store, (0..200).map(passed).collect()).await;
    write(&store, (200..400).map(passed).collect()).await;
    for animal_id in 1..=50 {
        let found = store.tagged_series(Tag::Animal(animal_id), NOON, NOON + DAY).await.unwrap();
        assert_eq!(found, [(series, series_key(0))], "animal {animal_id}");
    }
    assert_eq!(store.tagged_series(Tag::Zone(3), NOON, NOON + HOUR).await.unwrap().len(), 1);
    assert_eq!(store.tagged_series(Tag::Animal(51), NOON, NOON + DAY).await.unwrap(), []);
    assert_eq!(store.tagged_series(Tag::Animal(1), NOON + DAY, NOON + 2 * DAY).await.unwrap(), []);
}
