//! Messages to what the server works with, and back.

use std::time::Duration;

use herdstream_proto::v1;

use crate::{
    config::RetentionConfig,
    error::Error,
    ingest::{Ack, IncomingBatch, IncomingReading, IncomingSeries, Skip, SkipReason},
    model::{
        Content, Milking, ProducerId, Quality, Quarantined, Reading, Rejection, RejectionCode, RejectionKind,
        SeriesKey, Totals,
    },
    store::{Description, Device, Lifecycle},
};

/// Parses a producer id.
pub(super) fn producer_id(text: &str) -> Result<ProducerId, Error> {
    match ProducerId::try_parse(text) {
        Ok(id) if !id.is_nil() => Ok(id),
        _ => Err(Error::BadMessage(format!(
            "producer_id {}: a UUID other than nil is expected",
            crate::ingest::validate::quote(text)
        ))),
    }
}

pub(super) fn batch(batch: v1::Batch) -> IncomingBatch {
    IncomingBatch {
        offset: batch.offset,
        series: batch.series.into_iter().map(series).collect(),
        readings: batch.readings.into_iter().map(reading).collect(),
        milkings: batch.milkings.into_iter().map(milking).collect(),
    }
}

fn series(series: v1::Series) -> IncomingSeries {
    let v1::Series { r#ref: reference, farm_id, device_uid, device_type, metric_name, metric_unit } = series;
    IncomingSeries {
        reference,
        key: SeriesKey { farm_id, device_uid, device_type, metric_name, metric_unit },
    }
}

fn reading(reading: v1::Reading) -> IncomingReading {
    IncomingReading {
        series_ref: reading.series_ref,
        time_us: reading.time_us,
        value: reading.value,
        is_interpolated: reading.is_interpolated,
        animal_id: reading.animal_id,
        zone_id: reading.zone_id,
        battery_level: reading.battery_level,
        signal_strength: reading.signal_strength,
        session_id: reading.session_id,
        metadata: reading.metadata,
    }
}

fn milking(milking: v1::Milking) -> Milking {
    Milking {
        time_us: milking.time_us,
        milk_meter_id: milking.milk_meter_id,
        animal_id: milking.animal_id,
        farm_id: milking.farm_id,
        session_id: milking.session_id,
        yield_kg: milking.yield_kg,
        duration_seconds: milking.duration_seconds,
        flow_rate_kg_min: milking.flow_rate_kg_min,
        conductivity_ms: milking.conductivity_ms,
        temperature_c: milking.temperature_c,
        blood_detected: milking.blood_detected,
        fat_percent: milking.fat_percent,
        protein_percent: milking.protein_percent,
        lactose_percent: milking.lactose_percent,
        somatic_cell_count: milking.somatic_cell_count,
        mastitis_risk_score: milking.mastitis_risk_score,
        session_start_us: milking.session_start_us,
        session_end_us: milking.session_end_us,
        milking_type: milking.milking_type,
        meter_status: milking.meter_status,
    }
}

pub(super) fn skip(skip: v1::Skip) -> Result<Skip, Error> {
    let reason = match skip.reason() {
        v1::SkipReason::Acked => SkipReason::Acked,
        v1::SkipReason::Evicted => SkipReason::Evicted,
        v1::SkipReason::Expired => SkipReason::Expired,
        v1::SkipReason::Poisoned => SkipReason::Poisoned,
        v1::SkipReason::Lost => SkipReason::Lost,
        v1::SkipReason::Unspecified => {
            return Err(Error::BadMessage(format!("skip with reason {}: not a known one", skip.reason)));
        }
    };
    Ok(Skip { first: skip.first, last: skip.last, readings: skip.readings, reason })
}

pub(super) fn to_totals(totals: Totals) -> v1::Totals {
    v1::Totals {
        stored: totals.stored,
        duplicate: totals.duplicate,
        quarantined: totals.quarantined,
        skipped: totals.skipped,
    }
}

pub(super) fn to_credit(max_bytes: u64) -> v1::Credit {
    v1::Credit { max_bytes }
}

pub(super) fn to_ack(ack: Ack, credit: u64) -> v1::Ack {
    v1::Ack {
        committed_offset: ack.committed_offset,
        totals: Some(to_totals(ack.totals)),
        rejections: ack.rejections.into_iter().map(to_rejection).collect(),
        rejections_omitted: ack.rejections_omitted,
        credit: Some(to_credit(credit)),
    }
}

pub(super) fn to_rejection(rejection: Rejection) -> v1::Rejection {
    let kind = match rejection.kind {
        RejectionKind::Reading => v1::RejectionKind::Reading,
        RejectionKind::Milking => v1::RejectionKind::Milking,
        RejectionKind::Series => v1::RejectionKind::Series,
    };
    let code = match rejection.code {
        RejectionCode::Required => v1::RejectionCode::Required,
        RejectionCode::NotFinite => v1::RejectionCode::NotFinite,
        RejectionCode::OutOfRange => v1::RejectionCode::OutOfRange,
        RejectionCode::TimeInFuture => v1::RejectionCode::TimeInFuture,
        RejectionCode::TooLate => v1::RejectionCode::TooLate,
        RejectionCode::TextTooLong => v1::RejectionCode::TextTooLong,
        RejectionCode::TextInvalid => v1::RejectionCode::TextInvalid,
        RejectionCode::MetadataInvalid => v1::RejectionCode::MetadataInvalid,
        RejectionCode::SeriesRejected => v1::RejectionCode::SeriesRejected,
        RejectionCode::TooManySeries => v1::RejectionCode::TooManySeries,
        RejectionCode::StoreRefused => v1::RejectionCode::StoreRefused,
    };
    v1::Rejection {
        offset: rejection.offset,
        kind: kind.into(),
        index: rejection.index,
        code: code.into(),
        field: rejection.field.to_owned(),
        message: rejection.message,
    }
}

pub(super) fn to_quarantine_record(record: Quarantined) -> v1::QuarantineRecord {
    let content = record.content.map(|content| match content {
        Content::Reading(reading) => v1::quarantine_record::Content::Reading(to_reading(reading)),
        Content::Milking(milking) => v1::quarantine_record::Content::Milking(to_milking(*milking)),
    });
    v1::QuarantineRecord {
        rejection: Some(to_rejection(record.rejection)),
        received_us: record.received_us,
        series: record.series.map(to_series_key),
        content,
    }
}

pub(super) fn to_series_key(key: SeriesKey) -> v1::SeriesKey {
    let SeriesKey { farm_id, device_uid, device_type, metric_name, metric_unit } = key;
    v1::SeriesKey { farm_id, device_uid, device_type, metric_name, metric_unit }
}

fn to_reading(reading: Reading) -> v1::Reading {
    v1::Reading {
        series_ref: 0,
        time_us: reading.time_us,
        value: reading.value,
        is_interpolated: reading.is_interpolated,
        animal_id: reading.animal_id,
        zone_id: reading.zone_id,
        session_id: reading.session_id.map(String::from),
        battery_level: reading.battery_level.map(i32::from),
        signal_strength: reading.signal_strength.map(i32::from),
        metadata: reading.metadata.map(String::from),
    }
}

pub(super) fn to_stored_reading(reading: Reading) -> v1::StoredReading {
    let quality = match reading.quality {
        Quality::Valid => v1::Quality::Valid,
    };
    v1::StoredReading {
        time_us: reading.time_us,
        value: reading.value,
        quality: quality.into(),
        is_interpolated: reading.is_interpolated,
        animal_id: reading.animal_id,
        zone_id: reading.zone_id,
        session_id: reading.session_id.map(String::from),
        battery_level: reading.battery_level.map(i32::from),
        signal_strength: reading.signal_strength.map(i32::from),
        metadata: reading.metadata.map(String::from),
    }
}

pub(super) fn to_milking(milking: Milking) -> v1::Milking {
    v1::Milking {
        time_us: milking.time_us,
        milk_meter_id: milking.milk_meter_id,
        animal_id: milking.animal_id,
        farm_id: milking.farm_id,
        session_id: milking.session_id,
        yield_kg: milking.yield_kg,
        duration_seconds: milking.duration_seconds,
        flow_rate_kg_min: milking.flow_rate_kg_min,
        conductivity_ms: milking.conductivity_ms,
        temperature_c: milking.temperature_c,
        blood_detected: milking.blood_detected,
        fat_percent: milking.fat_percent,
        protein_percent: milking.protein_percent,
        lactose_percent: milking.lactose_percent,
        somatic_cell_count: milking.somatic_cell_count,
        mastitis_risk_score: milking.mastitis_risk_score,
        session_start_us: milking.session_start_us,
        session_end_us: milking.session_end_us,
        milking_type: milking.milking_type,
        meter_status: milking.meter_status,
    }
}

pub(super) fn to_device(device: Device, now_us: crate::model::Micros) -> v1::Device {
    let status = crate::query::DeviceStatus::at(device.last_seen_us, now_us);
    let status = match status {
        crate::query::DeviceStatus::Online => v1::DeviceStatus::Online,
        crate::query::DeviceStatus::Degraded => v1::DeviceStatus::Degraded,
        crate::query::DeviceStatus::Offline => v1::DeviceStatus::Offline,
    };
    v1::Device {
        farm_id: device.farm_id,
        device_uid: device.device_uid,
        device_type: device.device_type,
        last_seen_us: device.last_seen_us.unwrap_or_default(),
        battery_level: device.battery_level.map(i32::from),
        signal_strength: device.signal_strength.map(i32::from),
        status: status.into(),
    }
}

/// Leaves out where the data is: callers need not know.
/// What answers; `lifecycle` is how the store stands, if it tells.
pub(super) fn to_server_info(
    store: Description,
    retention: &RetentionConfig,
    lifecycle: Option<&Lifecycle>,
) -> v1::GetServerInfoResponse {
    let age = |age: Option<Duration>| age.map_or(0, |age| u64::try_from(age.as_micros()).unwrap_or(u64::MAX));
    let features = store.features.into_iter().map(|feature| v1::Feature {
        name: feature.name.to_owned(),
        enabled: feature.on,
        note: feature.note.to_owned(),
    });
    v1::GetServerInfoResponse {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        profile: store.profile.to_owned(),
        reason: store.reason,
        database_version: store.database_version,
        extension_version: store.extension_version,
        licence: store.licence,
        features: features.collect(),
        readings_kept_us: age(retention.readings),
        milkings_kept_us: age(retention.milkings),
        readings_kept_from_us: lifecycle.map(|state| state.raw_kept_from_us.unwrap_or_default()),
        milkings_kept_from_us: lifecycle.map(|state| state.milkings_kept_from_us.unwrap_or_default()),
    }
}
