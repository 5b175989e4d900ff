//! Dropping a day of readings.

use herdstream_server::store::{Look as _, Refresh, Retention, Store, embedded::EmbeddedStore};

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
