//! What retention leaves for a while, what it takes of quarantine, and what the lists of days and devices tell.

use std::time::{SystemTime, UNIX_EPOCH};

use herdstream_server::{
    model::{Micros, RejectionKind},
    store::{Chunk, Dropped, Look as _, ProducerCommit, QuarantineSpan, Refresh, Retention, Store},
};
use uuid::Uuid;

use super::open;
use crate::store_contract::rows::{
    DAY, HOUR, MINUTE, NOON, commit, commit_one, milked, milking, producer, quarantined, reading, resolve,
    series_key, write,
};

const MIDNIGHT: Micros = NOON - 12 * HOUR;

/// By the clock of the machine, which the store notes commits by.
fn now_us() -> Micros {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros() as Micros
}

async fn milk(store: &dyn Store, time_us: Micros) {
    let batches = vec![milked(vec![milking(1, 2, time_us)])];
    commit_one(store, ProducerCommit { batches, ..commit(Uuid::nil()) }).await;
}

async fn refresh(store: &dyn Store) {
    store.refresh(Refresh { close_before_us: NOON + 9 * DAY, span_us: None }).await.unwrap();
}

/// Table, day and reason, by table and day.
fn parts(dropped: &[Dropped]) -> Vec<(&str, i64, &str)> {
    let day = |part: &Dropped| (part.end_us - MIDNIGHT) / DAY - 1;
    dropped.iter().map(|part| (part.table, day(part), part.kept_because.as_str())).collect()
}

#[tokio::test]
async fn a_day_that_was_written_into_lately_stays_until_it_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let series = resolve(&store, 0).await;
    write(&store, vec![reading(series, NOON, 1.0), reading(series, NOON + DAY, 2.0)]).await;
    milk(&store, NOON).await;
    refresh(&store).await;
    let quiet_us = now_us();
    // Late for one of the days, and the first milking of the other.
    write(&store, vec![reading(series, NOON + 1, 3.0)]).await;
    milk(&store, NOON + DAY).await;
    let cutoff = Some(MIDNIGHT + 2 * DAY);
    let asked = Retention {
        readings_us: cutoff,
        milkings_us: cutoff,
        quiet_since_us: quiet_us,
        dry_run: true,
        ..Retention::default()
    };
    let lately = "something was written into it lately";
    let dirty = "late readings wait for a refresh";
    let told = store.retain(asked).await.unwrap();
    let milkings = [("milking", 0, ""), ("milking", 1, lately)];
    assert_eq!(parts(&told), [&[("reading", 0, dirty), ("reading", 1, "")][..], &milkings].concat());
    refresh(&store).await;
    let told = store.retain(asked).await.unwrap();
    assert_eq!(parts(&told), [&[("reading", 0, lately), ("reading", 1, "")][..], &milkings].concat());

    let dropped = store.retain(Retention { dry_run: false, ..asked }).await.unwrap();
    assert_eq!(dropped, told, "what was told is what is done");
    let left = [("reading", 0, lately), ("milking", 1, lately)];
    let asked = Retention { dry_run: false, ..asked };
    assert_eq!(parts(&store.retain(asked).await.unwrap()), left, "still");
    let later = Retention { quiet_since_us: now_us() + MINUTE, ..asked };
    assert_eq!(parts(&store.retain(later).await.unwrap()), [("reading", 0, ""), ("milking", 1, "")]);
    assert_eq!(store.retain(later).await.unwrap(), []);
}

#[tokio::test]
async fn quarantine_goes_by_when_it_was_received() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    // Received at noon and so many microseconds.
    for (number, indexes) in [(1, 0..1500), (2, 700..720)] {
        let refused = indexes.map(|index| quarantined(1, RejectionKind::Reading, index)).collect();
        commit_one(&store, ProducerCommit { quarantined: refused, ..commit(producer(number)) }).await;
    }
    let left = async |number| {
        let span = QuarantineSpan { first: (0, 0, 0), last: u64::MAX };
        let found = store.quarantine(producer(number), span, 9999).await.unwrap();
        found.iter().map(|refused| refused.received_us - NOON).collect::<Vec<_>>()
    };
    let before = |quarantine_us| Retention { quarantine_us: Some(quarantine_us), ..Retention::default() };
    assert_eq!(store.retain(Retention::default()).await.unwrap(), [], "kept for ever");
    assert_eq!(store.retain(before(NOON)).await.unwrap(), [], "nothing is so old");

    let told = store.retain(Retention { dry_run: true, ..before(NOON + 710) }).await.unwrap();
    assert_eq!((left(1).await.len(), left(2).await.len()), (1500, 20), "only told");
    let [part] = &told[..] else { panic!("{told:?}") };
    assert_eq!((part.table, part.rows, part.start_us), ("quarantine", 720, None));
    assert_eq!((part.end_us, part.kept_because.as_str()), (NOON + 710, ""));
    assert!(part.bytes > 720 * 30, "{}", part.bytes);

    assert_eq!(store.retain(before(NOON + 710)).await.unwrap(), told);
    assert_eq!(left(1).await, (710..1500).collect::<Vec<_>>());
    assert_eq!(left(2).await, (710..720).collect::<Vec<_>>());
    assert_eq!(store.retain(before(NOON + 710)).await.unwrap(), []);
    store.close().await;
    drop(store);
    let store = open(dir.path());
    assert_eq!(store.retain(before(Micros::MAX)).await.unwrap()[0].rows, 790 + 10);
}

#[tokio::test]
async fn chunks_are_the_days_of_readings_and_milkings() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    assert_eq!(store.chunks().await.unwrap(), []);
    let series = resolve(&store, 0).await;
    let times = [MIDNIGHT + 2 * DAY - 1, MIDNIGHT, MIDNIGHT - DAY];
    write(&store, times.map(|time_us| reading(series, time_us, 1.0)).to_vec()).await;
    milk(&store, MIDNIGHT).await;
    milk(&store, MIDNIGHT + 5 * DAY).await;
    milk(&store, MIDNIGHT + 6 * DAY - 1).await;
    let days = |chunks: &[Chunk]| -> Vec<_> {
        assert!(chunks.iter().all(|chunk| chunk.end_us == chunk.start_us + DAY), "{chunks:?}");
        assert!(chunks.iter().all(|chunk| !chunk.compressed && chunk.uncompressed_bytes.is_none()));
        chunks.iter().map(|chunk| (chunk.table, (chunk.start_us - MIDNIGHT) / DAY)).collect()
    };
    let chunks = store.chunks().await.unwrap();
    let expected = [("reading", -1), ("reading", 0), ("milking", 0), ("reading", 1), ("milking", 5)];
    assert_eq!(days(&chunks), expected, "oldest first");
    let of_milkings: Vec<_> = chunks.iter().filter(|chunk| chunk.table == "milking").collect();
    assert!(of_milkings[0].bytes > 50, "{chunks:?}");
    assert_eq!(of_milkings[1].bytes, 2 * of_milkings[0].bytes, "two as large as the one");
    let mut names: Vec<_> = chunks.iter().map(|chunk| &chunk.name).collect();
    names.sort();
    names.dedup();
    assert_eq!(names.len(), chunks.len(), "each has a name of its own");

    refresh(&store).await;
    let cutoff = Some(MIDNIGHT + DAY);
    let retention = Retention {
        readings_us: cutoff,
        milkings_us: cutoff,
        quiet_since_us: Micros::MAX,
        ..Retention::default()
    };
    store.retain(retention).await.unwrap();
    assert_eq!(days(&store.chunks().await.unwrap()), expected[3..]);
    store.close().await;
    drop(store);
    let store = open(dir.path());
    let again = store.chunks().await.unwrap();
    assert_eq!(days(&again), expected[3..]);
    let of_readings = again.iter().find(|chunk| chunk.table == "reading");
    assert!(of_readings.is_some_and(|chunk| chunk.name == chunks[3].name), "{again:?}");
}

#[tokio::test]
async fn a_device_is_found_by_farm_and_identifier() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let keys: Vec<_> = (0..12).map(series_key).collect();
    let ids = store.resolve_series(&keys).await.unwrap();
    write(&store, vec![reading(ids[3], NOON, 1.0), reading(ids[5], NOON + 1, 2.0)]).await;
    let listed = store.devices(None, None, 100).await.unwrap();
    assert!(listed.len() > 1, "{listed:?}");
    for device in &listed {
        let found = store.device(device.farm_id, &device.device_uid).await.unwrap();
        assert_eq!(found.as_ref(), Some(device));
    }
    assert_eq!(listed.iter().filter_map(|device| device.last_seen_us).max(), Some(NOON + 1));
    let known = &listed[0];
    for (farm_id, uid) in [
        (known.farm_id + 1000, known.device_uid.clone()),
        (known.farm_id, format!("{}x", known.device_uid)),
        (known.farm_id, known.device_uid[..known.device_uid.len() - 1].to_owned()),
        (known.farm_id, String::new()),
    ] {
        assert_eq!(store.device(farm_id, &uid).await.unwrap(), None, "{farm_id} {uid:?}");
    }
}
