//! Dropping a day of readings.

use herdstream_server::store::{Look as _, Refresh, Retention, Store, StoreError, embedded::EmbeddedStore};

use super::open;
use crate::store_contract::rows::{DAY, HOUR, NOON, everything, reading, resolve, values, write};

/// Drops the readings before a time.
async fn drop_before(store: &EmbeddedStore, time_us: i64) {
    store.refresh(Refresh { close_before_us: NOON + 3 * DAY, span_us: None }).await.unwrap();
    let retention =
        Retention { readings_us: Some(time_us), quiet_since_us: i64::MAX, ..Retention::default() };
    let dropped = store.retain(retention).await.unwrap();
    assert!(dropped.iter().all(|part| part.kept_because.is_empty()), "{dropped:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_day_is_gone_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let series = resolve(&store, 0).await;
    let midnight = NOON.div_euclid(DAY) * DAY;
    let times = [midnight - 1, midnight, NOON, midnight + DAY - 1, midnight + DAY];
    write(
        &store,
        times.iter().zip(1..).map(|(time_us, n)| reading(series, *time_us, f64::from(n))).collect(),
    )
    .await;
    assert_eq!(store.latest(&[series]).await.unwrap()[0].value, 5.0);

    drop_before(&store, midnight).await;
    assert_eq!(values(&everything(&store, series).await), [2.0, 3.0, 4.0, 5.0]);
    drop_before(&store, midnight + DAY).await;
    assert_eq!(values(&everything(&store, series).await), [5.0]);
    assert_eq!(store.latest(&[series]).await.unwrap()[0].value, 5.0);
    assert_eq!(store.activity(midnight + HOUR).await.unwrap().readings_last_hour, 0);
    assert_eq!(store.activity(midnight).await.unwrap().readings_last_24h, 0);
    drop_before(&store, midnight + 2 * DAY).await;
    assert!(store.latest(&[series]).await.unwrap().is_empty());
    let last_seen = store.devices(None, None, 1).await.unwrap()[0].last_seen_us;
    assert_eq!(last_seen, Some(midnight + DAY), "what was heard stays known");

    // A day that was never dropped can begin, however old.
    write(&store, vec![reading(series, NOON - 9 * DAY, 6.0)]).await;
    assert_eq!(store.activity(NOON - 9 * DAY).await.unwrap().readings_last_hour, 1);
    store.close().await;
    let store = open(dir.path());
    assert_eq!(values(&everything(&store, series).await), [6.0]);
    assert_eq!(store.latest(&[series]).await.unwrap()[0].value, 6.0);
}

/// Day of [`NOON`], from 1970.
const TODAY: i64 = NOON / DAY;

/// Prepares hundreds of days before today, the newest first.
async fn prepare(store: &EmbeddedStore) -> Result<(), StoreError> {
    for day in 1..=300 {
        store.prepare_day(TODAY - day).await?;
    }
    Ok(())
}

#[tokio::test]
async fn a_commit_has_its_turn_between_two_new_days() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let series = resolve(&store, 0).await;
    write(&store, vec![reading(series, NOON, 1.0)]).await;
    // What is asked for first is polled first: the commit comes behind the first day, and before the second.
    tokio::select! {
        biased;
        prepared = prepare(&store) => panic!("the commit waited for hundreds of days: {prepared:?}"),
        () = write(&store, vec![reading(series, NOON + 1, 2.0)]) => {}
    }
    let days = store.chunks().await.unwrap().len();
    assert!(
        (2..=4).contains(&days),
        "{days} days are there: today, and those that were asked for before the commit"
    );

    // What is under way when it is closed is done or refused, and what comes later is for the commit to refuse.
    let (prepared, ()) = tokio::join!(prepare(&store), store.close());
    assert!(matches!(prepared, Ok(()) | Err(StoreError::Closed)), "{prepared:?}");
    drop(store);
    let store = open(dir.path());
    assert!(store.chunks().await.unwrap().len() < 10, "the rest was not waited for");
    prepare(&store).await.unwrap();
    prepare(&store).await.unwrap();
    assert_eq!(store.chunks().await.unwrap().len(), 301);
    write(&store, (1..=300).map(|day| reading(series, NOON - day * DAY, 0.5)).collect()).await;
    assert_eq!(store.chunks().await.unwrap().len(), 301);
    store.close().await;
    let store = open(dir.path());
    assert_eq!(everything(&store, series).await.len(), 302);
}

#[tokio::test]
async fn a_prepared_day_is_kept_for_its_readings_and_a_dropped_one_is_not_prepared() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let series = resolve(&store, 0).await;
    write(&store, vec![reading(series, NOON, 1.0)]).await;
    let old = TODAY - 9;
    store.prepare_day(old).await.unwrap();
    store.refresh(Refresh { close_before_us: NOON, span_us: None }).await.unwrap();
    let midnight = NOON.div_euclid(DAY) * DAY;
    let retention =
        Retention { readings_us: Some(midnight - DAY), quiet_since_us: NOON, ..Retention::default() };
    let kept = store.retain(retention).await.unwrap();
    let [part] = &kept[..] else { panic!("{kept:?}") };
    assert_eq!((part.end_us, part.rows), (midnight - 8 * DAY, 0));
    assert_eq!(part.kept_because, "something was written into it lately");
    write(&store, vec![reading(series, NOON - 9 * DAY, 2.0)]).await;
    assert_eq!(values(&everything(&store, series).await), [2.0, 1.0]);

    drop_before(&store, midnight - DAY).await;
    assert_eq!(values(&everything(&store, series).await), [1.0]);
    store.prepare_day(old).await.unwrap();
    assert_eq!(store.chunks().await.unwrap().len(), 1, "nothing can come for it any more");
}
