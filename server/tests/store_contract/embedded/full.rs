//! A full disk: nothing acknowledged is lost, and writing goes on once there is space.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use herdstream_server::{
    model::{Reading, SeriesId},
    store::{
        BucketRange, CommitGroup, Cut, Dropped, Level, Look as _, Outcome, Refresh, Retention, SeriesRange,
        Store, StoreError,
        embedded::{EmbeddedConfig, EmbeddedStore},
    },
};

use super::{Mount, config};
use crate::store_contract::rows::{
    DAY, NOON, SECOND, batches, commit_one, everything, group, opening, producer, reading, resolve, write,
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

/// Reads everything; again where a table that was written in the background had no room, so that the store is
/// opened anew in between.
async fn until_read(store: &EmbeddedStore, series: SeriesId) -> Vec<Reading> {
    for _ in 0..2000 {
        let all = SeriesRange {
            series,
            tag: None,
            start_us: i64::MIN,
            end_us: i64::MAX,
            skip: 0,
            limit: usize::MAX,
            text_bytes: usize::MAX,
        };
        match store.range(all).await {
            Ok(found) => return found,
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
        let found = until_read(store, series).await;
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

/// Days of history, and commits of each.
const DAYS: i64 = 3;
const COMMITS: i64 = 60;

/// Writes days of about 5 MiB, and has their aggregates kept.
async fn write_history(store: &EmbeddedStore, series: SeriesId) {
    for day in 0..DAYS {
        for of_day in 0..COMMITS {
            let value = |n: i64| ((day * COMMITS + of_day) as f64 + 2.0 + n as f64 / 1e4).sqrt();
            let time_us = |n: i64| NOON + day * DAY + (of_day * READINGS + n) * SECOND / 50;
            let readings = (0..READINGS).map(|n| reading(series, time_us(n), value(n))).collect();
            write(store, readings).await;
        }
    }
    let close_before_us = NOON + DAYS * DAY - DAY / 2;
    store.refresh(Refresh { close_before_us, span_us: None }).await.unwrap();
}

/// Readings by day, as they are told.
async fn days(store: &EmbeddedStore, series: SeriesId) -> Vec<u64> {
    let (start_us, end_us) = (NOON - DAY / 2, NOON + (2 * DAYS + 1) * DAY / 2);
    let cut = Cut::Level { level: Level::Day, start_us, end_us };
    let range = BucketRange { series: vec![(series, 0)], tag: None, cut, percentiles: true };
    store.buckets(range).await.unwrap().iter().map(|(_, bucket)| bucket.count).collect()
}

/// Asks for retention until it runs: the store may be between two openings.
async fn drop_history(store: &EmbeddedStore) -> Vec<Dropped> {
    let cutoff_us = Some(NOON + DAYS * DAY);
    let retention = Retention { readings_us: cutoff_us, quiet_since_us: i64::MAX, ..Retention::default() };
    for _ in 0..2000 {
        match store.retain(retention).await {
            Ok(dropped) => return dropped,
            Err(error @ StoreError::Unavailable(..)) => println!("retention: {error}"),
            Err(other) => panic!("{other}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("retention never ran: {:?}", store.ready().await);
}

/// Fills the disk but for `spare` bytes, drops the history, and goes on without any other space made.
async fn drop_and_recover(spare: usize) {
    let Some(mount) = Mount::new("160m") else { return };
    let dir = mount.path().join("data");
    let config = EmbeddedConfig { memtable_bytes: 1 << 20, min_free_bytes: 12 << 20, ..config(&dir) };
    let store = EmbeddedStore::open(config.clone()).unwrap();
    let series = resolve(&store, 0).await;
    write_history(&store, series).await;
    let known = days(&store, series).await;
    assert_eq!(known, [(COMMITS * READINGS) as u64; DAYS as usize]);
    commit_one(&store, opening(producer(1), "a")).await;

    let filler = mount.path().join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    file.set_len(file.metadata().unwrap().len() - spare as u64).unwrap();
    let mut offset = 0;
    let refused = loop {
        // After the history, so that it does not become late.
        let first = DAYS * DAY + offset as i64 * READINGS * SECOND / 50;
        let readings =
            (0..READINGS).map(|n| reading(series, NOON + first + n * SECOND / 50, (n as f64).sqrt()));
        let next = group(vec![batches(producer(1), 1, offset, offset + 1, readings.collect())]);
        match store.commit(next.clone()).await {
            Ok(_) => offset += 1,
            Err(error @ StoreError::Unavailable(..)) => {
                println!("refused at offset {offset}: {error}");
                break next;
            }
            Err(other) => panic!("{other}"),
        }
    };
    let dropped = drop_history(&store).await;
    assert!(dropped.iter().all(|part| part.kept_because.is_empty()), "{dropped:?}");
    let outcome = until_known(&store, &refused).await;
    let Outcome::Committed(row, _) = outcome else { panic!("{outcome:?}") };
    assert_eq!(row.committed_offset, offset + 1, "committed once");
    store.ready().await.unwrap();
    let check = async |store: &EmbeddedStore| {
        assert_eq!(until_read(store, series).await.len() as u64, row.committed_offset * READINGS as u64);
        let told = days(store, series).await;
        assert_eq!(told[..known.len()], known, "what was dropped is kept as aggregates");
    };
    check(&store).await;
    store.close().await;
    check(&EmbeddedStore::open(config).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_days_go_from_a_full_disk_and_writing_goes_on() {
    drop_and_recover(0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn old_days_go_from_a_nearly_full_disk_and_writing_goes_on() {
    drop_and_recover(8 << 20).await;
}
