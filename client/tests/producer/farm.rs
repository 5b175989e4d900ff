//! What the tests send, and how they read it back.

use std::{
    ops::RangeInclusive,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use futures::{StreamExt as _, TryStreamExt as _, pin_mut};
use herdstream_client::{
    Counters, Event, EventStream, Producer, ProducerConfig, QueryClient, Reading, SeriesKey, SeriesRef, v1,
};
use herdstream_server::testing::TestServer;

/// Longer than anything takes, so that only what hangs fails.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

fn now_us() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_micros() as i64
}

pub(crate) fn key(device: &str) -> SeriesKey {
    SeriesKey {
        farm_id: 1,
        device_uid: device.into(),
        device_type: "collar".into(),
        metric_name: "rumination".into(),
        metric_unit: "min".into(),
    }
}

/// A configuration that reconnects fast.
pub(crate) fn config(endpoint: impl Into<String>) -> ProducerConfig {
    ProducerConfig::new(endpoint, "barn").backoff(Duration::from_millis(1), Duration::from_millis(50))
}

/// Numbers its readings, so that each can be found again, a microsecond apart.
pub(crate) struct Collar {
    pub(crate) series: SeriesRef,
    next: u32,
    start_us: i64,
}

impl Collar {
    pub(crate) fn of(producer: &Producer) -> Self {
        let series = producer.series(key("collar-1")).expect("a good key");
        Self { series, next: 0, start_us: now_us() - 600_000_000 }
    }

    /// A collar that goes on numbering where another stopped.
    pub(crate) fn after(producer: &Producer, other: &Self) -> Self {
        Self { next: other.next, start_us: other.start_us, ..Self::of(producer) }
    }

    pub(crate) fn sent(&self) -> u32 {
        self.next
    }

    pub(crate) fn reading(&mut self) -> Reading {
        self.next += 1;
        Reading::new(self.series, f64::from(self.next)).at(self.start_us + i64::from(self.next))
    }

    pub(crate) fn readings(&mut self, count: usize) -> Vec<Reading> {
        (0..count).map(|_| self.reading()).collect()
    }
}

/// Values of everything the server holds of the collar, in ascending order.
pub(crate) async fn stored(endpoint: String) -> Vec<u32> {
    let client = QueryClient::connect(endpoint).await.expect("the server is there");
    let now_us = now_us();
    let readings = client.query_range_all(v1::QueryRangeRequest {
        device_uid: "collar-1".into(),
        metric_name: "rumination".into(),
        start_us: now_us - 3_600_000_000,
        end_us: now_us + 60_000_000,
        page_size: 10_000,
        ..Default::default()
    });
    pin_mut!(readings);
    let mut values = Vec::new();
    while let Some(series) = readings.try_next().await.expect("a page") {
        values.extend(series.readings.iter().map(|reading| reading.value as u32));
    }
    values.sort_unstable();
    values
}

/// Checks that the server holds each of these values once, and nothing else.
pub(crate) async fn assert_holds(server: &TestServer, expected: RangeInclusive<u32>) {
    let values = stored(server.endpoint()).await;
    let missing: Vec<u32> =
        expected.clone().filter(|value| values.binary_search(value).is_err()).take(20).collect();
    let twice: Vec<u32> =
        values.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).take(20).collect();
    let foreign: Vec<u32> =
        values.iter().copied().filter(|value| !expected.contains(value)).take(20).collect();
    assert!(
        missing.is_empty() && twice.is_empty() && foreign.is_empty(),
        "{} values of {expected:?}; missing {missing:?}, twice {twice:?}, foreign {foreign:?} (20 of each at most)",
        values.len()
    );
}

/// Waits for an event.
pub(crate) async fn until<T>(
    events: &mut EventStream,
    what: &str,
    mut is: impl FnMut(Event) -> Option<T>,
) -> T {
    let mut seen = Vec::new();
    let waiting = async {
        while let Some(event) = events.next().await {
            seen.push(format!("{event:?}"));
            if let Some(found) = is(event) {
                return found;
            }
        }
        panic!("the events ended before {what}")
    };
    let found = tokio::time::timeout(PATIENCE, waiting).await;
    found.unwrap_or_else(|_| panic!("{what} did not happen; what did: {seen:#?}"))
}

pub(crate) async fn connected(events: &mut EventStream) {
    until(events, "a session", |event| matches!(event, Event::Connected { .. }).then_some(())).await;
}

/// Checks the balance of everything that was accepted.
pub(crate) fn assert_balanced(counters: &Counters) {
    let Counters { accepted, stored, quarantined, evicted, expired, poisoned, lost, pending, .. } = *counters;
    assert_eq!(
        accepted,
        stored + quarantined + evicted + expired + poisoned + lost + pending,
        "{counters:?}"
    );
}

/// Everything that has happened so far.
pub(crate) async fn so_far(events: &mut EventStream) -> Vec<Event> {
    futures::stream::unfold(events, |events| async move { Some((events.try_next()?, events)) })
        .collect()
        .await
}
