//! Several stores on one database, as several servers have.

use std::{collections::BTreeSet, sync::Arc};

use herdstream_server::{
    model::SeriesKey,
    store::{
        Outcome, Store,
        postgres::{PostgresConfig, PostgresStore},
    },
};
use herdstream_testkit::{Cut, Postgres, Proxy};
use secrecy::ExposeSecret as _;

use super::{super::laws::Fixture as _, Database, forever};
use crate::store_contract::rows::{
    NOON, batches, commit_one, everything, group, opening, producer, reading, resolve, series_key,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_that_start_together_make_one_schema() {
    let Some(server) = Postgres::shared() else { return };
    let config = PostgresConfig::new(server.create_database());
    let starts = (0..4).map(|_| tokio::spawn(PostgresStore::open(config.clone())));
    for start in starts.collect::<Vec<_>>() {
        start.await.unwrap().expect("every one of them opens");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_series_has_one_number_whoever_asks() {
    let Some(first) = Database::plain().await else { return };
    let second = first.beside().await;
    let keys: Vec<SeriesKey> = (0..500).map(series_key).collect();
    let mut reversed = keys.clone();
    reversed.reverse();
    let stores = [first.store(), Arc::clone(&second)];
    let (ours, theirs) = tokio::join!(stores[0].resolve_series(&keys), stores[1].resolve_series(&reversed));
    let (ours, mut theirs) = (ours.unwrap(), theirs.unwrap());
    theirs.reverse();
    assert_eq!(ours, theirs);
    assert_eq!(ours.iter().collect::<BTreeSet<_>>().len(), 500);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_moves_fences_the_server_it_left() {
    let Some(first) = Database::plain().await else { return };
    let second = first.beside().await;
    let first = first.store();
    let series = resolve(&*first, 0).await;
    commit_one(&*first, opening(producer(1), "a")).await;
    let one = |value| vec![reading(series, NOON, value)];
    commit_one(&*first, batches(producer(1), 1, 0, 1, one(1.0))).await;
    let Outcome::Committed(row, _) = commit_one(&*second, opening(producer(1), "b")).await else {
        panic!("an open is not fenced")
    };
    assert_eq!((row.epoch, row.committed_offset), (2, 1));
    let late = commit_one(&*first, batches(producer(1), 1, 1, 2, one(2.0))).await;
    assert!(matches!(&late, Outcome::Fenced(row) if row.instance_id == "b"), "{late:?}");
    commit_one(&*second, batches(producer(1), 2, 1, 2, one(3.0))).await;
    assert_eq!(everything(&*second, series).await.len(), 2);
}

/// The commit reached the database and its answer did not come back, or it never reached it: the same group
/// again tells what is true, and stores it once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_whose_answer_is_lost_is_found_in_the_ledger() {
    let Some(database) = Database::plain().await else { return };
    let proxy = Proxy::start(database.config.url.expose_secret()).await.expect("a proxy");
    let config = PostgresConfig { activity: forever(), pool_max: 2, ..PostgresConfig::new(proxy.url()) };
    let store = PostgresStore::open(config).await.unwrap();
    let series = resolve(&store, 0).await;
    commit_one(&store, opening(producer(1), "a")).await;
    for (offset, cut) in [Cut::BeforeCommit, Cut::AfterCommit].into_iter().cycle().take(10).enumerate() {
        let offset = offset as u64;
        let part = batches(producer(1), 1, offset, offset + 1, vec![reading(series, NOON, offset as f64)]);
        let group = group(vec![part]);
        proxy.arm(cut);
        let mut failures = 0;
        let outcomes = loop {
            match store.commit(Arc::clone(&group)).await {
                Ok(outcomes) => break outcomes,
                Err(error) => {
                    failures += 1;
                    assert!(failures < 20, "{error}");
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            }
        };
        assert!(failures > 0, "the cut was felt");
        let Outcome::Committed(row, _) = &outcomes[0] else { panic!("{outcomes:?}") };
        assert_eq!((row.committed_offset, row.totals.stored), (offset + 1, offset + 1));
    }
    assert_eq!(proxy.commits_cut(), 10);
    assert_eq!(everything(&store, series).await.len(), 10);
}
