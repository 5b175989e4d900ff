//! kill -9 at any moment: what was acknowledged is there, and the directory is free again.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use herdstream_server::{
    model::{Micros, Milking, Reading, RejectionKind, SeriesId},
    store::{
        BucketRange, Cut, Level, Look as _, MilkRange, Outcome, QuarantineSpan, Refresh, Retention, Store,
        embedded::{EmbeddedConfig, EmbeddedStore, OpenError},
    },
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{config, open};
use crate::store_contract::rows::{
    DAY, HOUR, MINUTE, NOON, batches, commit_one, everything, milked, milking, opening, producer, reading,
    resolve,
};

/// Tells the test below that it is the child, and where to write.
const DIR: &str = "HERDSTREAM_TEST_CRASH_DIR";

/// Starts the test binary again, as the process that is going to be killed.
fn child(dir: &std::path::Path) -> (Child, impl Iterator<Item = String> + use<>) {
    child_that("commits_until_killed", dir)
}

fn child_that(does: &str, dir: &std::path::Path) -> (Child, impl Iterator<Item = String> + use<>) {
    let test = format!("store_contract::embedded::crash::{does}");
    let mut child = Command::new(env::current_exe().unwrap())
        .args([&test, "--exact", "--ignored", "--nocapture"])
        .env(DIR, dir)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the test binary starts");
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
    (child, lines)
}

/// Offset in a line of the child.
fn offset_in(line: &str) -> Option<u64> {
    // The harness prints in front of the first line.
    line.rsplit_once("acked ")?.1.parse().ok()
}

#[tokio::test]
#[ignore = "started by the tests below"]
async fn commits_until_killed() {
    let Some(dir) = env::var_os(DIR) else { return };
    // Small, so that flushing and compacting are interrupted too.
    let config = EmbeddedConfig { memtable_bytes: 64 << 10, ..config(dir.as_ref()) };
    let store = EmbeddedStore::open(config).unwrap();
    let Outcome::Committed(row, _) = commit_one(&store, opening(producer(1), "a")).await else {
        panic!("an open is not fenced");
    };
    let mut n = row.committed_offset;
    // New series all along.
    loop {
        let series = [resolve(&store, 0).await, resolve(&store, 100 + n as u32 / 3).await];
        let time_us = NOON + n as i64 * HOUR / 7;
        let readings = series.map(|series| reading(series, time_us, n as f64));
        let mut batch = batches(producer(1), row.epoch, n, n + 1, readings.into());
        batch.batches.push(milked(vec![milking(1, 1, time_us)]));
        let outcome = commit_one(&store, batch).await;
        assert!(matches!(outcome, Outcome::Committed(..)), "{outcome:?}");
        n += 1;
        let mut out = std::io::stdout();
        writeln!(out, "acked {n}").and_then(|()| out.flush()).expect("the parent listens");
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill() {
    let seed =
        env::var("HERDSTREAM_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed} (set HERDSTREAM_TEST_SEED to repeat)");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut known = 0;
    for round in 0..8 {
        let (mut victim, lines) = child(dir.path());
        let patience = random.random_range(1..120);
        let mut acks = lines.filter_map(|line| offset_in(&line));
        known = acks.by_ref().take(patience).last().expect("the child commits");
        victim.kill().unwrap();
        victim.wait().unwrap();
        // What it said before it died.
        known = acks.last().unwrap_or(known);

        let store = open(dir.path());
        let row = store.producer(producer(1)).await.unwrap().unwrap();
        assert_eq!(row.epoch, round + 1);
        assert!(
            (known..=known + 1).contains(&row.committed_offset),
            "{known} was acknowledged, {row:?} is there"
        );
        let found = everything(&store, resolve(&store, 0).await).await;
        let expected: Vec<_> = (0..row.committed_offset).map(|n| n as f64).collect();
        assert_eq!(super::super::rows::values(&found), expected, "each once");
        for n in (0..row.committed_offset).step_by(3) {
            let series = resolve(&store, 100 + n as u32 / 3).await;
            let found = everything(&store, series).await;
            let own = (n..row.committed_offset.min(n + 3)).map(|n| n as f64);
            assert!(found.iter().map(|reading| reading.value).eq(own), "series of {n}: {found:?}");
        }
        assert_eq!(row.totals.stored, row.committed_offset * 2);
        let devices = store.devices(None, None, 1).await.unwrap();
        assert_eq!(
            devices[0].last_seen_us,
            found.last().map(|reading| reading.time_us),
            "statuses are rebuilt"
        );
        known = row.committed_offset;
        store.close().await;
    }
    println!("{known} commits survived");
}

#[test]
fn another_process_keeps_the_directory_until_it_dies() {
    let dir = tempfile::tempdir().unwrap();
    let (mut child, mut lines) = child(dir.path());
    lines.find_map(|line| offset_in(&line)).expect("the child commits");
    let error = EmbeddedStore::open(config(dir.path())).unwrap_err();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    drop(open(dir.path()));
}

/// Readings of a batch, all of the same offset.
const EACH: u64 = 12;

/// Where time has come to at an offset.
fn present(offset: u64) -> Micros {
    NOON - 12 * HOUR + offset as Micros * 40 * MINUTE
}

/// The `place`-th reading of a batch: every third one is late, up to four days.
fn nth(series: &[SeriesId], offset: u64, place: u64) -> Reading {
    let n = offset * EACH + place;
    let mixed = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
    let late_us = if n.is_multiple_of(3) { (mixed % (4 * DAY as u64)) as Micros } else { 0 };
    let time_us = present(offset) + place as Micros * 3 * MINUTE - late_us;
    reading(series[mixed as usize % series.len()], time_us, (mixed % 1000) as f64 / 4.0)
}

fn milked_at(offset: u64) -> Milking {
    let late_us = if offset.is_multiple_of(4) { (offset % 5) as Micros * 20 * HOUR } else { 0 };
    milking(1, (offset % 3) as i32, present(offset) - late_us)
}

async fn three(store: &dyn Store) -> Vec<SeriesId> {
    let mut series = Vec::new();
    for n in 0..3 {
        series.push(resolve(store, n).await);
    }
    series
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "started by the test below"]
async fn keeps_until_killed() {
    let Some(dir) = env::var_os(DIR) else { return };
    let config = EmbeddedConfig { memtable_bytes: 64 << 10, ..config(dir.as_ref()) };
    let store = Arc::new(EmbeddedStore::open(config).unwrap());
    let Outcome::Committed(row, _) = commit_one(&*store, opening(producer(1), "a")).await else {
        panic!("an open is not fenced");
    };
    let series = three(&*store).await;
    let reached = Arc::new(AtomicU64::new(row.committed_offset));
    let (keeping, kept) = (store.clone(), reached.clone());
    tokio::spawn(async move {
        loop {
            let now_us = present(kept.load(Ordering::SeqCst));
            keeping.refresh(Refresh { close_before_us: now_us - 20 * MINUTE, span_us: None }).await.unwrap();
        }
    });
    let (keeping, kept) = (store.clone(), reached.clone());
    tokio::spawn(async move {
        loop {
            let cutoff = Some(present(kept.load(Ordering::SeqCst)) - 2 * DAY);
            let quiet_since_us = Micros::MAX;
            let retention = Retention {
                readings_us: cutoff,
                milkings_us: cutoff,
                quiet_since_us,
                ..Retention::default()
            };
            for part in keeping.retain(retention).await.unwrap() {
                if part.kept_because.is_empty() {
                    println!("dropped");
                }
            }
        }
    });
    let mut n = row.committed_offset;
    loop {
        let readings = (0..EACH).map(|place| nth(&series, n, place)).collect();
        let mut commit = batches(producer(1), row.epoch, n, n + 1, readings);
        commit.totals.stored += 1;
        commit.batches[0].offset = n + 1;
        commit.batches[0].milkings.push(milked_at(n));
        let outcome = commit_one(&*store, commit).await;
        assert!(matches!(outcome, Outcome::Committed(..)), "{outcome:?}");
        n += 1;
        reached.store(n, Ordering::SeqCst);
        let mut out = std::io::stdout();
        writeln!(out, "acked {n}").and_then(|()| out.flush()).expect("the parent listens");
    }
}

/// Every bucket of a level, computed from what was committed and not refused.
fn expected(
    series: &[SeriesId],
    level: Level,
    offsets: u64,
    refused: &BTreeSet<(u64, RejectionKind, u32)>,
) -> BTreeMap<(u32, Micros), Vec<f64>> {
    let mut values: BTreeMap<(u32, Micros), Vec<f64>> = BTreeMap::new();
    for offset in 0..offsets {
        for place in 0..EACH {
            if !refused.contains(&(offset + 1, RejectionKind::Reading, place as u32)) {
                let reading = nth(series, offset, place);
                let line = series.iter().position(|id| *id == reading.series).unwrap() as u32;
                values.entry((line, level.floor(reading.time_us))).or_default().push(reading.value);
            }
        }
    }
    values
}

#[tokio::test]
async fn aggregates_are_true_after_a_kill_in_the_middle_of_refreshes_and_retention() {
    let seed =
        env::var("HERDSTREAM_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed} (set HERDSTREAM_TEST_SEED to repeat)");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut days = 0;
    for _ in 0..8 {
        let (mut victim, lines) = child_that("keeps_until_killed", dir.path());
        let patience = random.random_range(40..120);
        let mut lines = lines.inspect(|line| days += usize::from(line.ends_with("dropped")));
        let mut acks = lines.by_ref().filter_map(|line| offset_in(&line));
        let mut known = acks.by_ref().take(patience).last().expect("the child commits");
        victim.kill().unwrap();
        victim.wait().unwrap();
        known = acks.last().unwrap_or(known);

        let store = open(dir.path());
        let row = store.producer(producer(1)).await.unwrap().unwrap();
        assert!(
            (known..=known + 1).contains(&row.committed_offset),
            "{known} was acknowledged, {row:?} is there"
        );
        let series = three(&store).await;
        let span = QuarantineSpan { first: (0, 0, 0), last: u64::MAX };
        let refused = store.quarantine(producer(1), span, usize::MAX).await.unwrap();
        let refused: BTreeSet<_> = (refused.iter().map(|record| &record.rejection))
            .map(|rejection| (rejection.offset, rejection.kind, rejection.index))
            .collect();
        assert_eq!(row.totals.quarantined, refused.len() as u64);
        assert_eq!(row.totals.stored, row.committed_offset * (EACH + 1) - refused.len() as u64);
        check_aggregates(&store, &series, row.committed_offset, &refused).await;
        // And once it has gone on from there.
        let close_before_us = present(row.committed_offset);
        store.refresh(Refresh { close_before_us, span_us: None }).await.unwrap();
        check_aggregates(&store, &series, row.committed_offset, &refused).await;
        store.close().await;
    }
    println!("{days} days were dropped");
    assert!(days > 0, "nothing was dropped: the test says nothing");
}

async fn check_aggregates(
    store: &dyn Store,
    series: &[SeriesId],
    offsets: u64,
    refused: &BTreeSet<(u64, RejectionKind, u32)>,
) {
    let cut = |level| Cut::Level {
        level,
        start_us: NOON - 60 * DAY - 12 * HOUR,
        end_us: NOON + 500 * DAY + 12 * HOUR,
    };
    for level in Level::ALL {
        let range = BucketRange {
            series: (0..).zip(series).map(|(line, id)| (*id, line)).collect(),
            tag: None,
            cut: cut(level),
            percentiles: true,
        };
        let found = store.buckets(range).await.unwrap();
        let mut wanted = expected(series, level, offsets, refused);
        let places: Vec<_> = found.iter().map(|(line, bucket)| (*line, bucket.start_us)).collect();
        assert!(places.iter().eq(wanted.keys()), "{level:?}");
        for ((_, bucket), values) in found.iter().zip(wanted.values_mut()) {
            values.sort_by(f64::total_cmp);
            let sum: f64 = values.iter().sum();
            let (min, max) = (values[0], values[values.len() - 1]);
            let told = (bucket.count, bucket.sum, bucket.min, bucket.max);
            assert_eq!(told, (values.len() as u64, sum, min, max), "{level:?} {bucket:?}");
            let middle = f64::midpoint(values[(values.len() - 1) / 2], values[values.len() / 2]);
            assert_eq!(
                bucket.median,
                (level != Level::QuarterHour).then_some(middle),
                "{level:?} {bucket:?}"
            );
        }
    }
    let mut wanted: BTreeMap<(Micros, i32), u64> = BTreeMap::new();
    for offset in 0..offsets {
        if !refused.contains(&(offset + 1, RejectionKind::Milking, 0)) {
            let milking = milked_at(offset);
            *wanted.entry((Level::Day.floor(milking.time_us), milking.animal_id)).or_default() += 1;
        }
    }
    let found = store.milk(MilkRange { farm_id: 1, animal_id: None, cut: cut(Level::Day) }).await.unwrap();
    let found: BTreeMap<_, _> =
        found.iter().map(|milk| ((milk.start_us, milk.animal_id), milk.milkings)).collect();
    assert_eq!(found, wanted);
}
