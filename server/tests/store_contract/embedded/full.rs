//! A full disk: nothing acknowledged is lost, and writing goes on once there is space.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use herdstream_server::{
    model::SeriesId,
    store::{
        CommitGroup, Outcome, Store, StoreError,
        embedded::{EmbeddedConfig, EmbeddedStore},
    },
};

use super::{Mount, config};
use crate::store_contract::rows::{
    NOON, SECOND, batches, commit_one, everything, group, opening, producer, reading, resolve,
};

/// Readings of one commit: values that do not pack.
const READINGS: i64 = 10_000;

fn next_group(series: SeriesId, offset: u64) -> Arc<CommitGroup> {
    let first = offset as i64 * READINGS;
    let readings =
        (first..first + READINGS).map(|n| reading(series, NOON + n * SECOND / 50, (n as f64).sqrt()));
    group(vec![batches(producer(1), 1, offset, offset + 1, readings.collect())])
}

/// Tries a group until its outcome is known.
async fn until_known(store: &EmbeddedStore, group: &Arc<CommitGroup>) -> Outcome {
    for _ in 0..2000 {
        match store.commit(group.clone()).await {
            Ok(mut outcomes) => return outcomes.remove(0),
            Err(StoreError::Unavailable(..)) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(other) => panic!("{other}"),
        }
    }
    panic!("the store did not recover: {:?}", store.ready().await);
}

/// Takes 15 MiB, or what there is.
fn fill(filler: &Path) {
    let mut file = fs::File::create(filler).expect("the filler is created");
    for _ in 0..15 {
        if let Err(error) = file.write_all(&vec![1; 1 << 20]) {
            println!("the filler is cut: {error}");
            break;
        }
    }
}

/// Fills the disk, makes space, and goes on.
async fn fill_and_recover(config: EmbeddedConfig, filler: PathBuf) {
    let store = EmbeddedStore::open(config.clone()).unwrap();
    let series = resolve(&store, 0).await;
    commit_one(&store, opening(producer(1), "a")).await;
    for round in 0..2 {
        fill(&filler);
        let mut offset = store.producer(producer(1)).await.unwrap().unwrap().committed_offset;
        let refused = loop {
            let next = next_group(series, offset);
            match store.commit(next.clone()).await {
                Ok(outcomes) => {
                    assert!(matches!(&outcomes[0], Outcome::Committed(..)), "{outcomes:?}");
                    offset += 1;
                }
                Err(error @ StoreError::Unavailable(..)) => {
                    println!("round {round}: refused at offset {offset}: {error}");
                    break next;
                }
                Err(other) => panic!("{other}"),
            }
        };
        // Full for some attempts more.
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            if let Err(error) = store.commit(refused.clone()).await {
                assert!(matches!(error, StoreError::Unavailable(..)), "{error}");
            }
        }
        fs::remove_file(&filler).unwrap();
        let outcome = until_known(&store, &refused).await;
        let Outcome::Committed(row, _) = outcome else { panic!("{outcome:?}") };
        assert_eq!(row.committed_offset, offset + 1, "committed once");
        store.ready().await.unwrap();
    }
    let row = store.producer(producer(1)).await.unwrap().unwrap();
    let check = async |store: &EmbeddedStore| {
        let found = everything(store, series).await;
        assert_eq!(found.len() as u64, row.committed_offset * READINGS as u64);
        assert!(found.iter().zip(0..).all(|(reading, n)| reading.value == f64::from(n).sqrt()), "each once");
    };
    check(&store).await;
    store.close().await;
    check(&EmbeddedStore::open(config).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_loses_nothing() {
    let Some(mount) = Mount::new("40m") else { return };
    let dir = mount.path().join("data");
    let config = EmbeddedConfig { memtable_bytes: 1 << 20, ..config(&dir) };
    fill_and_recover(config, mount.path().join("filler")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writing_stops_before_the_disk_is_full() {
    let Some(mount) = Mount::new("160m") else { return };
    let dir = mount.path().join("data");
    let config = EmbeddedConfig { min_free_bytes: 30 << 20, ..config(&dir) };
    let store = EmbeddedStore::open(config.clone()).unwrap();
    let series = resolve(&store, 0).await;
    commit_one(&store, opening(producer(1), "a")).await;
    commit_one(&store, batches(producer(1), 1, 0, 1, vec![reading(series, NOON, 1.0)])).await;
    let filler = mount.path().join("filler");
    fs::write(&filler, vec![1; 132 << 20]).unwrap();

    // The space is looked at once a second.
    let mut looks = 0;
    let error = loop {
        match store.ready().await {
            Ok(()) if looks < 1000 => tokio::time::sleep(Duration::from_millis(10)).await,
            Ok(()) => panic!("the store still takes writes"),
            Err(error) => break error,
        }
        looks += 1;
    };
    assert!(matches!(error, StoreError::Unavailable(..)), "{error:?}");
    assert!(error.to_string().contains(&*dir.to_string_lossy()), "'{error}' does not name the directory");
    let refused = group(vec![batches(producer(1), 1, 1, 2, vec![reading(series, NOON, 2.0)])]);
    store.commit(refused.clone()).await.unwrap_err();
    assert_eq!(everything(&store, series).await.len(), 1, "it can be read all the same");

    fs::remove_file(&filler).unwrap();
    let outcome = until_known(&store, &refused).await;
    assert!(matches!(outcome, Outcome::Committed(..)), "{outcome:?}");
    assert_eq!(everything(&store, series).await.len(), 2);
    store.close().await;
}
