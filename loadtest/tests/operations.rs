//! Generated lists of operations against a model.
//!
//! Gateways send through the SDK, each over a proxy of its own, to the real server binary, while an
//! operation list cuts links, kills, drains, copies, clones and restores. The model notes what each
//! opening of the SDK accepted, item by item; every item carries a number of its own in its time. In the
//! end everything is drained, all rows are read back, and each item must have exactly one fate.
//!
//! What the protocol promises, and so what the model demands:
//!
//! - **Cuts, a killed server, a drained one**: nothing. Whatever was accepted is there once: stored, or
//!   in quarantine if it is a bad reading. Without another session of the same producer, nothing is even
//!   transmitted twice.
//! - **A killed client** with a spool: the same, under the id of the log that it left. Without a spool: what
//!   was not acknowledged when it died may be missing. A call that was cut short may have sent, or not.
//! - **A second session** ends the SDK's, for good: it takes nothing more and says so (`Fenced`). What it had
//!   accepted stays in its spool, and the next opening sends it. What the second session repeats, at
//!   offsets that are committed, is dropped whatever it holds.
//! - **A spool restored from an old copy** doubles nothing. What was accepted after the copy and was not
//!   acknowledged went with the files that were replaced; what the copy held arrives.
//! - **A cloned spool**: both copies send the same log. Nothing is doubled, nothing is missing, though one of
//!   them may hear that it is fenced, or that the server holds what it never sent, and is then opened anew.
//! - **A server restored from an old copy** lacks what was committed later. Clients tell which of it they had
//!   seen acknowledged and no longer hold (`Forgotten`, `Skip(ACKED)`): that may be missing, and nothing
//!   else. What they still hold arrives: whatever was not acknowledged, and what was but lies in the
//!   spool, which frees whole files only.
//! - **Eviction while offline** gives up whole batches, the oldest first, and says which (`Evicted`). It is
//!   final only for those that the server turns out not to have.
//!
//! Always: nothing is stored twice, nothing that was given back or never sent is there, every row has
//! the content that was sent, the ledger's totals are those of the rows found, and the SDK's counters those
//! of the model.
//!
//! `HERDSTREAM_TEST_SEED` repeats a run, `HERDSTREAM_TEST_CASES` says how many lists it has.

mod operations {
    pub(crate) mod content;
    pub(crate) mod copy;
    pub(crate) mod execute;
    pub(crate) mod judge;
    pub(crate) mod list;
    pub(crate) mod model;
    pub(crate) mod second_session;
    pub(crate) mod settle;
    pub(crate) mod shrink;
    pub(crate) mod site;
    pub(crate) mod world;
}

use std::{collections::BTreeMap, env};

use anyhow::Result;
use operations::{
    list::{Kind, generate},
    shrink::shrink,
    world::World,
};

/// Lists of a run, unless told otherwise.
const CASES: u64 = 10;

#[tokio::test(flavor = "multi_thread")]
async fn every_list_of_operations_leaves_everything_its_one_fate() -> Result<()> {
    let seed = variable("HERDSTREAM_TEST_SEED").unwrap_or_else(|| u64::from(rand::random::<u32>()));
    let cases = variable("HERDSTREAM_TEST_CASES").unwrap_or(CASES);
    println!("repeat with HERDSTREAM_TEST_SEED={seed} cargo test -p herdstream-loadtest --test operations");
    let mut executed = BTreeMap::<Kind, u64>::new();
    for case in seed..seed.saturating_add(cases) {
        let list = generate(case);
        match World::run(&list).await {
            Ok(tally) => {
                println!("seed {case}: {} operations, {}", list.len(), tally.fates);
                for (kind, times) in tally.executed {
                    *executed.entry(kind).or_default() += times;
                }
            }
            Err(failure) => {
                println!("seed {case} fails: {failure:?}\nlooking for a shorter list …");
                let (list, failure) = shrink(list, failure).await;
                let repeat = format!("HERDSTREAM_TEST_SEED={case} HERDSTREAM_TEST_CASES=1");
                panic!("repeat with {repeat}\n{list:#?}\n{failure:?}");
            }
        }
    }
    println!("{executed:?}");
    let missed: Vec<_> = Kind::ALL.iter().filter(|kind| !executed.contains_key(kind)).collect();
    assert!(missed.is_empty() || cases < CASES, "never really executed in {cases} lists: {missed:?}");
    Ok(())
}

fn variable(name: &str) -> Option<u64> {
    env::var(name).ok().and_then(|value| value.parse().ok())
}
