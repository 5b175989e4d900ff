//! Messages as other implementations write them stay readable, and are written the same.
//!
//! `golden/*.bin` come from protobufjs (`npm run golden`), their values from `golden/cases.json`,
//! which is written by hand. Nothing here writes either of them.

use std::{collections::BTreeSet, fs, path::PathBuf};

use herdstream_proto::{FILE_DESCRIPTOR_SET, codec::decode_bounded, v1};
use prost_reflect::{
    DescriptorPool, DeserializeOptions, DynamicMessage, Kind, MessageDescriptor, ReflectMessage as _, Value,
    prost::{Message, Name},
};
use serde_json::Value as Json;

const PACKAGE: &str = "herdstream.v1";

/// A golden message.
struct Golden {
    message: String,
    case: String,
    value: DynamicMessage,
    bytes: Vec<u8>,
}

fn directory() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("golden")
}

fn pool() -> DescriptorPool {
    DescriptorPool::decode(FILE_DESCRIPTOR_SET).expect("the compiled definitions")
}

fn messages(pool: &DescriptorPool) -> impl Iterator<Item = MessageDescriptor> {
    pool.all_messages().filter(|message| message.package_name() == PACKAGE)
}

fn goldens() -> Vec<Golden> {
    let pool = pool();
    let cases = fs::read_to_string(directory().join("cases.json")).expect("cases.json");
    let cases: Json = serde_json::from_str(&cases).expect("cases.json is JSON");
    let mut goldens = Vec::new();
    for (message, values) in cases.as_object().expect("an object of messages") {
        let descriptor = pool.get_message_by_name(&format!("{PACKAGE}.{message}"));
        let descriptor =
            descriptor.unwrap_or_else(|| panic!("cases.json: no message {message} in {PACKAGE}"));
        for (case, value) in values.as_object().expect("an object of cases") {
            let file = format!("{message}.{case}.bin");
            let value = DynamicMessage::deserialize_with_options(
                descriptor.clone(),
                value,
                &DeserializeOptions::new().deny_unknown_fields(true),
            );
            goldens.push(Golden {
                value: value.unwrap_or_else(|error| panic!("cases.json, {message}.{case}: {error}")),
                bytes: fs::read(directory().join(&file)).unwrap_or_else(|error| panic!("{file}: {error}")),
                message: message.clone(),
                case: case.clone(),
            });
        }
    }
    goldens
}

/// A form in which NaN equals NaN, which it must here.
fn comparable(message: &DynamicMessage) -> Json {
    serde_json::to_value(message).expect("every message has a form in JSON")
}

/// Decodes as the server and the SDK do, and encodes again; none for an unknown message.
fn through_generated_types(message: &str, bytes: &[u8]) -> Option<Vec<u8>> {
    fn through<M: Message + Name + Default>(bytes: &[u8]) -> Vec<u8> {
        decode_bounded::<M>(bytes).expect("a valid message").encode_to_vec()
    }
    macro_rules! by_name {
        ($($name:ident)*) => {
            match message {
                $(stringify!($name) => Some(through::<v1::$name>(bytes)),)*
                _ => None,
            }
        };
    }
    by_name! {
        SeriesKey Milking
        StreamRequest StreamResponse Open Opened Limits Batch Series Reading Skip Ping Pong Ack Totals
        Rejection Credit Drain WriteRequest WriteResponse GetProducerRequest GetProducerResponse
        ListRejectionsRequest ListRejectionsResponse QuarantineRecord
        StoredReading SeriesReadings GetLatestRequest GetLatestResponse QueryRangeRequest QueryRangeResponse
        QueryMilkingsRequest QueryMilkingsResponse ListDevicesRequest ListDevicesResponse Device
        GetIngestionStatsRequest GetIngestionStatsResponse
        GetServerInfoRequest GetServerInfoResponse Feature
        AnimalMetric BatchQueryRangeRequest BatchQueryRangeResponse
        Bucket Chunk CompressChunksRequest
        CompressChunksResponse Dropped ExplainQueryRequest
        ExplainQueryResponse ExplainStep FarmDay
        GetAnimalMetricsRequest GetAnimalMetricsResponse GetDeviceStatusRequest
        GetDeviceStatusResponse GetFarmDailySummaryRequest GetFarmDailySummaryResponse
        GetLifecycleRequest GetLifecycleResponse GetMilkProductionDailyRequest
        GetMilkProductionDailyResponse ListChunksRequest ListChunksResponse
        ListSeriesRequest ListSeriesResponse MilkDay
        RefreshRollupsRequest RefreshRollupsResponse RollupLevel
        RunRetentionRequest RunRetentionResponse SeriesBuckets
        StreamRangeRequest StreamRangeResponse WatchReadingsRequest
        WatchReadingsResponse
    }
}

#[test]
fn golden_bytes_decode_to_their_values() {
    for Golden { message, case, value, bytes } in goldens() {
        let decoded = DynamicMessage::decode(value.descriptor(), bytes.as_slice())
            .unwrap_or_else(|error| panic!("{message}.{case}: {error}"));
        assert_eq!(comparable(&decoded), comparable(&value), "{message}.{case}");
        assert_eq!(decoded.unknown_fields().count(), 0, "{message}.{case}");
    }
}

#[test]
fn generated_types_write_the_same_bytes() {
    for Golden { message, case, bytes, .. } in goldens() {
        let again = through_generated_types(&message, &bytes)
            .unwrap_or_else(|| panic!("{message} is not in the list of this test: add it"));
        assert_eq!(again, bytes, "{message}.{case}");
    }
}

#[test]
fn a_batch_arrives_with_every_value_in_its_field() {
    let bytes = fs::read(directory().join("Batch.full.bin")).expect("a golden batch");
    let collar = v1::Series {
        r#ref: 1,
        farm_id: 7,
        device_uid: "collar-0007".to_owned(),
        device_type: "collar".to_owned(),
        metric_name: "temperature".to_owned(),
        metric_unit: "Cel".to_owned(),
    };
    let meter = v1::Series {
        r#ref: 2,
        device_uid: "meter-12".to_owned(),
        device_type: "milk_meter".to_owned(),
        metric_name: "yield".to_owned(),
        metric_unit: String::new(),
        ..collar.clone()
    };
    let time_us = 1_795_464_000_000_000;
    let expected = v1::Batch {
        offset: 41,
        series: vec![collar, meter],
        readings: vec![
            v1::Reading {
                series_ref: 1,
                time_us,
                value: 38.6,
                is_interpolated: true,
                animal_id: Some(1042),
                zone_id: Some(3),
                session_id: Some("m-2026-11-23".to_owned()),
                battery_level: Some(87),
                signal_strength: Some(-71),
                metadata: Some("{\"barn\":\"north\"}".to_owned()),
            },
            v1::Reading {
                series_ref: 2,
                time_us,
                value: 0.5,
                is_interpolated: false,
                animal_id: Some(0),
                zone_id: Some(0),
                session_id: Some(String::new()),
                battery_level: Some(0),
                signal_strength: Some(0),
                metadata: Some(String::new()),
            },
            v1::Reading { series_ref: 1, time_us: time_us + 1, value: -40.0, ..v1::Reading::default() },
        ],
        milkings: vec![v1::Milking {
            time_us,
            milk_meter_id: 12,
            animal_id: 1042,
            farm_id: 7,
            session_id: "m-2026-11-23".to_owned(),
            yield_kg: 13.25,
            duration_seconds: Some(412),
            flow_rate_kg_min: Some(2.5),
            conductivity_ms: Some(4.75),
            temperature_c: Some(38.25),
            blood_detected: true,
            fat_percent: Some(4.125),
            protein_percent: Some(3.375),
            lactose_percent: Some(4.75),
            somatic_cell_count: Some(180_000),
            mastitis_risk_score: Some(0.0625),
            session_start_us: Some(time_us),
            session_end_us: Some(1_795_471_200_000_000),
            milking_type: Some("morning".to_owned()),
            meter_status: Some("ok".to_owned()),
        }],
    };
    assert_eq!(decode_bounded::<v1::Batch>(&bytes).expect("a valid batch"), expected);
}

#[test]
fn every_field_arm_and_enum_value_has_a_case() {
    let pool = pool();
    let goldens = goldens();
    let mut missing = Vec::new();
    for message in messages(&pool) {
        let name = message.name();
        let cases: Vec<_> = goldens.iter().filter(|golden| golden.message == name).collect();
        if cases.is_empty() {
            missing.push(format!("{name}: no case at all"));
            continue;
        }
        for field in message.fields() {
            let set = |golden: &&Golden| golden.value.has_field(&field);
            if !cases.iter().any(set) {
                missing.push(format!("{name}.{}: never set", field.name()));
            }
            if cases.iter().all(set) {
                missing.push(format!("{name}.{}: never unset", field.name()));
            }
            let zero =
                |golden: &&Golden| set(golden) && golden.value.get_field(&field).is_default(&field.kind());
            if field.supports_presence()
                && !matches!(field.kind(), Kind::Message(_))
                && !cases.iter().any(zero)
            {
                missing.push(format!("{name}.{}: never set to its default", field.name()));
            }
            if field.is_list() && !cases.iter().any(|golden| longest(golden, field.name()) > 1) {
                missing.push(format!("{name}.{}: never holds two", field.name()));
            }
        }
    }
    let mut seen = BTreeSet::new();
    for golden in &goldens {
        enum_values(&golden.value, &mut seen);
    }
    for kind in pool.all_enums().filter(|kind| kind.package_name() == PACKAGE) {
        for value in kind.values().filter(|value| value.number() != 0) {
            if !seen.contains(value.full_name()) {
                missing.push(format!("{}: never used", value.full_name()));
            }
        }
    }
    assert!(missing.is_empty(), "add cases to golden/cases.json:\n{}", missing.join("\n"));
}

#[test]
fn every_golden_file_belongs_to_a_case() {
    let cases: BTreeSet<_> = goldens().into_iter().map(|golden| (golden.message, golden.case)).collect();
    for entry in fs::read_dir(directory()).expect("proto/golden") {
        let name = entry.expect("an entry").file_name().into_string().expect("a plain name");
        if let Some((message, case)) = name.strip_suffix(".bin").and_then(|stem| stem.split_once('.')) {
            assert!(cases.contains(&(message.to_owned(), case.to_owned())), "{name} belongs to no case");
        }
    }
}

fn longest(golden: &Golden, field: &str) -> usize {
    golden.value.get_field_by_name(field).and_then(|value| value.as_list().map(<[Value]>::len)).unwrap_or(0)
}

fn enum_values(message: &DynamicMessage, seen: &mut BTreeSet<String>) {
    for (field, value) in message.fields() {
        let values = value.as_list().unwrap_or(std::slice::from_ref(value));
        for value in values {
            match (field.kind(), value) {
                (Kind::Message(_), Value::Message(inner)) => enum_values(inner, seen),
                (Kind::Enum(kind), Value::EnumNumber(number)) => {
                    seen.extend(kind.get_value(*number).map(|value| value.full_name().to_owned()));
                }
                _ => {}
            }
        }
    }
}
