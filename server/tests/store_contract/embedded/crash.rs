//! kill -9 at any moment: what was acknowledged is there, and the directory is free again.

use std::{
    env,
    io::{BufRead, BufReader, Write},
    process::{Child, Command, Stdio},
};

use herdstream_server::store::{
    Outcome, Store,
    embedded::{EmbeddedConfig, EmbeddedStore, OpenError},
};
use rand::{Rng, SeedableRng, rngs::StdRng};

use super::{config, open};
use crate::store_contract::rows::{
    HOUR, NOON, batches, commit_one, everything, milked, milking, opening, producer, reading, resolve,
};

/// Tells the test below that it is the child, and where to write.
const DIR: &str = "HERDSTREAM_TEST_CRASH_DIR";

/// Starts the test binary again, as the process that is going to be killed.
fn child(dir: &std::path::Path) -> (Child, impl Iterator<Item = String> + use<>) {
    let mut child = Command::new(env::current_exe().unwrap())
        .args([
            "store_contract::embedded::crash::commits_until_killed",
            "--exact",
            "--ignored",
            "--nocapture",
        ])
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
