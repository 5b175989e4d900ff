//! What the laws store.

use std::sync::Arc;

use herdstream_server::{
    model::{
        Content, Micros, Milking, Offset, ProducerId, Quarantined, Reading, Rejection, RejectionCode,
        RejectionKind, SeriesId, SeriesKey, Totals,
    },
    store::{Batch, CommitGroup, Guard, Look, OpenSession, Outcome, ProducerCommit, SeriesRange, Store},
};
use uuid::Uuid;

pub(super) const SECOND: Micros = 1_000_000;
pub(super) const MINUTE: Micros = 60 * SECOND;
pub(super) const HOUR: Micros = 60 * MINUTE;
pub(super) const DAY: Micros = 24 * HOUR;

/// 2026-03-01T12:00:00Z.
pub(super) const NOON: Micros = 1_772_366_400 * SECOND;

/// Series of farm 1; five of a device.
pub(super) fn series_key(n: u32) -> SeriesKey {
    SeriesKey {
        farm_id: 1,
        device_uid: format!("collar-{}", n / 5),
        device_type: "collar".into(),
        metric_name: format!("metric_{}", n % 5),
        metric_unit: "Cel".into(),
    }
}

pub(super) fn producer(n: u128) -> ProducerId {
    Uuid::from_u128(n)
}

pub(super) fn reading(series: SeriesId, time_us: Micros, value: f64) -> Reading {
    Reading::new(series, time_us, value)
}

pub(super) fn milking(farm_id: i32, animal_id: i32, time_us: Micros) -> Milking {
    Milking {
        time_us,
        milk_meter_id: 3,
        animal_id,
        farm_id,
        session_id: "morning".into(),
        yield_kg: 12.5,
        duration_seconds: Some(300),
        fat_percent: Some(4.1),
        somatic_cell_count: Some(150_000),
        session_start_us: Some(time_us - HOUR),
        milking_type: Some("robot".into()),
        ..Milking::default()
    }
}

pub(super) fn quarantined(offset: Offset, kind: RejectionKind, index: u32) -> Quarantined {
    Quarantined {
        rejection: Rejection {
            offset,
            kind,
            index,
            code: RejectionCode::OutOfRange,
            field: "value",
            message: format!("{index} is not a temperature"),
        },
        received_us: NOON + i64::from(index),
        series: Some(series_key(index)),
        content: match kind {
            RejectionKind::Reading => Some(Content::Reading(reading(SeriesId(0), NOON, f64::INFINITY))),
            RejectionKind::Milking => Some(Content::Milking(Box::new(milking(1, 2, NOON)))),
            RejectionKind::Series => None,
        },
    }
}

/// Readings of one batch.
pub(super) fn batch(readings: Vec<Reading>) -> Batch {
    Batch { offset: 1, readings, milkings: Vec::new() }
}

/// Milkings of one batch.
pub(super) fn milked(milkings: Vec<Milking>) -> Batch {
    Batch { offset: 1, readings: Vec::new(), milkings }
}

/// A commit of nothing.
pub(super) fn commit(producer: ProducerId) -> ProducerCommit {
    ProducerCommit {
        producer,
        guard: None,
        committed_offset: 0,
        totals: Totals::default(),
        open: None,
        batches: Vec::new(),
        quarantined: Vec::new(),
    }
}

pub(super) fn opening(producer: ProducerId, instance: &str) -> ProducerCommit {
    let open = OpenSession { gateway_id: "barn".into(), instance_id: instance.into() };
    ProducerCommit { open: Some(open), ..commit(producer) }
}

/// Batches that move a producer's offset from `from` to `to`.
pub(super) fn batches(
    producer: ProducerId,
    epoch: u64,
    from: Offset,
    to: Offset,
    readings: Vec<Reading>,
) -> ProducerCommit {
    ProducerCommit {
        guard: Some(Guard { epoch, committed_offset: from }),
        committed_offset: to,
        totals: Totals { stored: readings.len() as u64, ..Totals::default() },
        batches: vec![batch(readings)],
        ..commit(producer)
    }
}

pub(super) fn group(producers: Vec<ProducerCommit>) -> Arc<CommitGroup> {
    Arc::new(CommitGroup { producers })
}

pub(super) async fn commit_one(store: &dyn Store, commit: ProducerCommit) -> Outcome {
    let mut outcomes = store.commit(group(vec![commit])).await.expect("the commit succeeds");
    assert_eq!(outcomes.len(), 1, "one outcome for one producer");
    outcomes.remove(0)
}

/// Stores readings of no producer.
pub(super) async fn write(store: &dyn Store, readings: Vec<Reading>) {
    let anonymous = ProducerCommit { batches: vec![batch(readings)], ..commit(Uuid::new_v4()) };
    let outcome = commit_one(store, anonymous).await;
    assert!(matches!(outcome, Outcome::Committed(..)), "{outcome:?}");
}

pub(super) async fn resolve(store: &dyn Store, n: u32) -> SeriesId {
    store.resolve_series(&[series_key(n)]).await.expect("the series is resolved")[0]
}

pub(super) async fn range(
    look: &(impl Look + ?Sized),
    series: SeriesId,
    start_us: Micros,
    end_us: Micros,
) -> Vec<Reading> {
    let range = SeriesRange {
        series,
        start_us,
        end_us,
        skip: 0,
        limit: usize::MAX,
        text_bytes: usize::MAX,
        tag: None,
    };
    look.range(range).await.expect("the range is read")
}

pub(super) async fn everything(look: &(impl Look + ?Sized), series: SeriesId) -> Vec<Reading> {
    range(look, series, NOON - 1000 * DAY, NOON + 1000 * DAY).await
}

/// Values in the order of the answer.
pub(super) fn values(readings: &[Reading]) -> Vec<f64> {
    readings.iter().map(|reading| reading.value).collect()
}

/// Values in the order of the numbers, for answers whose order is free.
pub(super) fn sorted_values(readings: &[Reading]) -> Vec<f64> {
    let mut values = values(readings);
    values.sort_by(f64::total_cmp);
    values
}
