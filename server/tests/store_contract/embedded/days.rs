//! Dropping a day of readings.

use herdstream_server::store::Store;

use super::open;
use crate::store_contract::rows::{DAY, HOUR, NOON, everything, reading, resolve, values, write};

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_day_is_gone_and_the_others_stay() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let series = resolve(&store, 0).await;
    let day = NOON.div_euclid(DAY);
    let midnight = day * DAY;
    let times = [midnight - 1, midnight, NOON, midnight + DAY - 1, midnight + DAY];
    write(
        &store,
        times.iter().zip(1..).map(|(time_us, n)| reading(series, *time_us, f64::from(n))).collect(),
    )
    .await;
    assert_eq!(store.latest(&[series]).await.unwrap()[0].value, 5.0);

    store.drop_day(day + 1).await.unwrap();
    assert_eq!(values(&everything(&store, series).await), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(store.latest(&[series]).await.unwrap()[0].value, 4.0);
    store.drop_day(day).await.unwrap();
    store.drop_day(day + 7).await.unwrap();
    assert_eq!(values(&everything(&store, series).await), [1.0]);
    assert_eq!(store.activity(midnight + HOUR).await.unwrap().readings_last_hour, 0);
    assert_eq!(store.activity(midnight).await.unwrap().readings_last_24h, 1);
    let last_seen = store.devices(None, None, 1).await.unwrap()[0].last_seen_us;
    assert_eq!(last_seen, Some(midnight + DAY), "what was heard stays known");

    // A day that was dropped can begin again.
    write(&store, vec![reading(series, NOON, 6.0)]).await;
    assert_eq!(store.activity(NOON).await.unwrap().readings_last_hour, 1);
    store.close().await;
    let store = open(dir.path());
    assert_eq!(values(&everything(&store, series).await), [1.0, 6.0]);
    assert_eq!(store.latest(&[series]).await.unwrap()[0].value, 6.0);
}
