//! A process that uses the spool is killed again and again.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Write},
    process::Stdio,
};

use rand::{Rng, SeedableRng, rngs::StdRng};

use super::*;

const ROUNDS: usize = 20;

#[test]
fn whatever_a_killed_process_was_told_to_be_accepted_is_there_afterwards() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let dir = memory_dir();
    let config = config(dir.path());
    // By producer: the last offset accepted, the last ack that may have reached the spool.
    let mut told: BTreeMap<Uuid, (u64, u64)> = BTreeMap::new();
    for round in 0..ROUNDS {
        let mut process = child("spool::tests::killed::child_until_killed", dir.path(), None)
            .env("HERDSTREAM_TEST_SEED", random.random::<u32>().to_string())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut listen = |line: String| {
            let words: Vec<_> = line.split(' ').collect();
            if let ["told", id, accepted, acked] = words[..] {
                let last = (accepted.parse().unwrap(), acked.parse().unwrap());
                told.insert(id.parse().unwrap(), last);
            }
        };
        lines.by_ref().take(random.random_range(1..120)).for_each(&mut listen);
        process.kill().unwrap();
        process.wait().unwrap();
        // What it said before it died counts as well.
        lines.for_each(&mut listen);

        let (_spool, _fresh, left) = Spool::open(&config).unwrap();
        let mut left: BTreeMap<_, _> = left.into_iter().map(|log| (log.producer_id(), log)).collect();
        told.retain(|id, (accepted, acked)| {
            let Some(log) = left.remove(id) else {
                assert_eq!(*accepted, 0, "round {round}: log {id} is gone");
                return false;
            };
            // One more call may have been under way than it could tell of.
            assert!(log.acked() >= *acked && log.next_offset() > *accepted, "round {round}: {log:?}");
            assert_eq!(log.recovered().lost, []);
            let read = log.read(1, usize::MAX).unwrap();
            for read in &read {
                assert_eq!(*read, frame(read.offset, 52));
            }
            let mut known = offsets(&read);
            known.extend(log.gaps().iter().flat_map(|gap| gap.first..=gap.last));
            known.retain(|offset| *offset > log.acked());
            known.sort_unstable();
            assert_eq!(known, (log.acked() + 1..log.next_offset()).collect::<Vec<_>>(), "round {round}");
            let keep = random.random_bool(0.5);
            if !keep {
                log.ack(u64::MAX).unwrap();
                log.remove().unwrap();
            }
            keep
        });
        for log in left.values() {
            // It died before it could tell.
            log.ack(u64::MAX).unwrap();
            log.remove().unwrap();
        }
    }
}

#[test]
#[ignore = "a child process of another test"]
fn child_until_killed() {
    let Some(dir) = child_dir() else { return };
    let seed: u64 = std::env::var("HERDSTREAM_TEST_SEED").unwrap().parse().unwrap();
    let mut random = StdRng::seed_from_u64(seed);
    let (_spool, log, _) = Spool::open(&config(&dir)).unwrap();
    println!();
    loop {
        let next = log.next_offset();
        match random.random_range(0..10) {
            // Never all: a log that is drained goes.
            0 => log.ack(random.random_range(0..next).min(next.saturating_sub(2))).unwrap(),
            1 => drop(log.evict(1_000, next, GapReason::Evicted).unwrap()),
            2 => drop(log.evict(u64::MAX, log.acked() + 2, GapReason::Expired).unwrap()),
            3 => drop(log.poison(random.random_range(0..next))),
            _ => log.append(&frames(next..=next + random.random_range(0..4), 52)).unwrap(),
        }
        // The parent reads slowly, or not any more.
        let line = format!("told {} {} {}", log.producer_id(), log.next_offset() - 1, log.acked());
        writeln!(io::stdout(), "{line}").unwrap();
    }
}
