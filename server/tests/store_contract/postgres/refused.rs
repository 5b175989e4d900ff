//! Rows that the database refuses although validation let them pass.

use herdstream_server::{
    model::{Content, Offset, RejectionCode, RejectionKind, Totals},
    store::{Batch, Look as _, Outcome, ProducerCommit, QuarantineSpan, SeriesRange, Store},
};

use super::{super::laws::Fixture as _, Database};
use crate::store_contract::rows::{
    NOON, batches, commit_one, everything, group, milking, opening, producer, quarantined, reading, resolve,
    values,
};

/// An operator's own rule stands for whatever a database may refuse.
const RULES: &str = "ALTER TABLE iot.reading ADD CHECK (value <> 13); \
     ALTER TABLE iot.milk_production_realtime ADD CHECK (yield_kg <> 13)";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_row_is_quarantined_and_the_rest_is_stored() {
    if let Some(database) = Database::plain().await {
        refuses_rows_by_rules(&database).await;
    }
    if let Some(database) = Database::timescale().await {
        refuses_rows_by_rules(&database).await;
    }
}

async fn refuses_rows_by_rules(database: &Database) {
    database.run(RULES).await;
    let store = database.store();
    let series = resolve(&*store, 0).await;
    commit_one(&*store, opening(producer(1), "a")).await;
    commit_one(&*store, opening(producer(2), "a")).await;
    let bad = |n: i64| n == 0 || n == 57 || n == 99;
    let readings = |from: i64| {
        (0..100)
            .map(|n| reading(series, NOON + from + n, if bad(n) { 13.0 } else { 100.0 + n as f64 }))
            .collect::<Vec<_>>()
    };
    let mut unlucky = milking(1, 2, NOON);
    unlucky.yield_kg = 13.0;
    let mut part = batches(producer(1), 1, 0, 2, readings(0));
    // The third reading of the batch was refused before: it stands between the second and what follows.
    part.quarantined = vec![quarantined(1, RejectionKind::Reading, 2)];
    part.batches.push(Batch {
        offset: 2,
        readings: Vec::new(),
        milkings: vec![milking(1, 1, NOON), unlucky],
    });
    part.totals = Totals { stored: 102, quarantined: 1, ..Totals::default() };
    let good = batches(producer(2), 1, 0, 1, vec![reading(series, NOON + 1000, 7.0)]);
    let outcomes = store.commit(group(vec![part, good])).await.unwrap();
    let Outcome::Committed(row, rejections) = &outcomes[0] else { panic!("{outcomes:?}") };
    assert_eq!(row.totals, Totals { stored: 98, quarantined: 5, ..Totals::default() });
    let places: Vec<_> =
        rejections.iter().map(|rejection| (rejection.offset, rejection.kind, rejection.index)).collect();
    let reading_at = |index| (1, RejectionKind::Reading, index);
    assert_eq!(places, [reading_at(0), reading_at(58), reading_at(100), (2, RejectionKind::Milking, 1)]);
    assert!(rejections.iter().all(|rejection| rejection.code == RejectionCode::StoreRefused));
    assert!(rejections[0].message.contains("23514"), "{:?}", rejections[0]);
    assert!(matches!(&outcomes[1], Outcome::Committed(_, rejections) if rejections.is_empty()));
    let stored = values(&everything(&*store, series).await);
    assert_eq!(stored.len(), 98);
    assert!(!stored.contains(&13.0));
    let span = QuarantineSpan { first: (0, 0, 0), last: Offset::MAX };
    assert_eq!(store.quarantine(producer(1), span, 100).await.unwrap().len(), 5);
}

/// What validation refuses already: should it ever come through, it takes nothing with it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_postgresql_cannot_hold_is_quarantined() {
    if let Some(database) = Database::plain().await {
        refuses_what_it_cannot_hold(&*database.store()).await;
    }
    if let Some(database) = Database::without_copy().await {
        refuses_what_it_cannot_hold(&*database.store()).await;
    }
    if let Some(database) = Database::timescale().await {
        refuses_what_it_cannot_hold(&*database.store()).await;
    }
}

async fn refuses_what_it_cannot_hold(store: &dyn Store) {
    let series = resolve(store, 0).await;
    commit_one(store, opening(producer(1), "a")).await;
    let plain = |n: i64| reading(series, NOON + n, n as f64);
    let mut nul = plain(1);
    nul.session_id = Some("a\0b".into());
    let mut not_json = plain(3);
    not_json.metadata = Some("{\"a\":".into());
    let mut nul_in_json = plain(4);
    nul_in_json.metadata = Some(r#"{"a":"\u0000"}"#.into());
    let readings = vec![plain(0), nul, plain(2), not_json, nul_in_json, plain(5)];
    let outcome = commit_one(store, batches(producer(1), 1, 0, 1, readings)).await;
    let Outcome::Committed(row, rejections) = &outcome else { panic!("{outcome:?}") };
    let places: Vec<_> = rejections.iter().map(|rejection| (rejection.index, rejection.code)).collect();
    assert_eq!(places, [1, 3, 4].map(|index| (index, RejectionCode::StoreRefused)));
    assert_eq!(row.totals, Totals { stored: 3, quarantined: 3, ..Totals::default() });
    assert_eq!(values(&everything(store, series).await), [0.0, 2.0, 5.0]);
    let span = QuarantineSpan { first: (0, 0, 0), last: Offset::MAX };
    let kept = store.quarantine(producer(1), span, 10).await.unwrap();
    let Some(Content::Reading(kept)) = &kept[0].content else { panic!("{kept:?}") };
    assert_eq!(kept.session_id.as_deref(), Some("a\u{fffd}b"), "JSONB holds no U+0000");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_was_dropped_is_made_again() {
    let Some(database) = Database::plain().await else { return };
    let store = database.store();
    let series = resolve(&*store, 0).await;
    let write =
        |value| ProducerCommit { batches: vec![batch_of(series, value)], ..opening(producer(1), "a") };
    commit_one(&*store, write(1.0)).await;
    database.run("DROP TABLE iot.reading_20260301").await;
    let outcome = commit_one(&*store, write(2.0)).await;
    assert!(matches!(&outcome, Outcome::Committed(_, rejections) if rejections.is_empty()), "{outcome:?}");
    let range = SeriesRange {
        series,
        start_us: NOON,
        end_us: NOON + 1,
        skip: 0,
        limit: 10,
        text_bytes: usize::MAX,
        tag: None,
    };
    assert_eq!(values(&store.range(range).await.unwrap()), [2.0]);
}

fn batch_of(series: herdstream_server::model::SeriesId, value: f64) -> Batch {
    Batch { offset: 1, readings: vec![reading(series, NOON, value)], milkings: Vec::new() }
}
