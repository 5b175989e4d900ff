//! Whatever arrives, decoding answers with a message or a status, and never with a panic.

use std::{fs, path::Path};

use herdstream_proto::{
    codec::decode_bounded,
    error::Reason,
    limits::{MAX_BATCH_READINGS, MAX_BATCH_SERIES},
    v1::{self, stream_request},
};
use proptest::prelude::*;
use prost::{Message, Name};
use tonic::Code;

/// Decodes as a peer of the contract does. What is taken must mean the same when it is written again.
fn decode_as<M: Message + Name + Default>(bytes: &[u8]) {
    match decode_bounded::<M>(bytes) {
        Ok(message) => {
            let written = message.encode_to_vec();
            // Not bounded: written anew it may be so much smaller that it counts as holding nothing.
            let again = M::decode(written.as_slice()).expect("what was written can be read");
            // Written forms are compared: NaN is a value here, and never equal to itself.
            assert_eq!(again.encode_to_vec(), written, "{}", M::NAME);
        }
        Err(status) => {
            let reason = Reason::of(&status);
            assert!(matches!(reason, Some(Reason::BadMessage | Reason::BatchTooLarge)), "{status:?}");
            assert_eq!(status.code(), Code::InvalidArgument);
        }
    }
}

/// Everything that a server or a client decodes from the network.
fn decode_as_everything(bytes: &[u8]) {
    decode_as::<v1::StreamRequest>(bytes);
    decode_as::<v1::StreamResponse>(bytes);
    decode_as::<v1::WriteRequest>(bytes);
    decode_as::<v1::WriteResponse>(bytes);
    decode_as::<v1::GetProducerRequest>(bytes);
    decode_as::<v1::GetProducerResponse>(bytes);
    decode_as::<v1::ListRejectionsRequest>(bytes);
    decode_as::<v1::ListRejectionsResponse>(bytes);
    decode_as::<v1::GetLatestRequest>(bytes);
    decode_as::<v1::GetLatestResponse>(bytes);
    decode_as::<v1::QueryRangeRequest>(bytes);
    decode_as::<v1::QueryRangeResponse>(bytes);
    decode_as::<v1::QueryMilkingsRequest>(bytes);
    decode_as::<v1::QueryMilkingsResponse>(bytes);
    decode_as::<v1::ListDevicesRequest>(bytes);
    decode_as::<v1::ListDevicesResponse>(bytes);
    decode_as::<v1::GetIngestionStatsRequest>(bytes);
    decode_as::<v1::GetIngestionStatsResponse>(bytes);
    decode_as::<v1::GetServerInfoRequest>(bytes);
    decode_as::<v1::GetServerInfoResponse>(bytes);
}

/// Valid messages to start from.
fn seeds() -> Vec<Vec<u8>> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden");
    let mut paths: Vec<_> = fs::read_dir(directory)
        .expect("proto/golden")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "bin"))
        .collect();
    paths.sort();
    assert!(!paths.is_empty());
    paths.into_iter().map(|path| fs::read(path).expect("a golden file")).collect()
}

/// One change to a message.
#[derive(Clone, Debug)]
enum Change {
    Set(prop::sample::Index, u8),
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
    Remove(prop::sample::Index),
    Repeat,
}

impl Change {
    fn any() -> impl Strategy<Value = Self> {
        let place = any::<prop::sample::Index>;
        prop_oneof![
            (place(), any::<u8>()).prop_map(|(at, byte)| Self::Set(at, byte)),
            (place(), 0_u8..8).prop_map(|(at, bit)| Self::Flip(at, bit)),
            place().prop_map(Self::Cut),
            (place(), prop::collection::vec(any::<u8>(), 1..12))
                .prop_map(|(at, bytes)| Self::Insert(at, bytes)),
            place().prop_map(Self::Remove),
            Just(Self::Repeat),
        ]
    }

    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Self::Insert(at, new) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, new);
            }
            _ if bytes.is_empty() => {}
            Self::Set(at, byte) => {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            Self::Flip(at, bit) => {
                let at = at.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Self::Cut(at) => bytes.truncate(at.index(bytes.len())),
            Self::Remove(at) => {
                bytes.remove(at.index(bytes.len()));
            }
            Self::Repeat => bytes.extend_from_within(..),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn random_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        decode_as_everything(&bytes);
    }

    #[test]
    fn changed_messages_are_answered(
        mut bytes in prop::sample::select(seeds()),
        changes in prop::collection::vec(Change::any(), 1..8),
    ) {
        for change in changes {
            change.apply(&mut bytes);
        }
        decode_as_everything(&bytes);
    }

    #[test]
    fn batches_are_counted_across_repeated_fields(
        parts in prop::collection::vec((0_usize..6_000, 0_usize..6_000, 0_usize..6_000), 1..4),
    ) {
        let (mut request, mut readings, mut series) = (Vec::new(), 0, 0);
        for (in_series, in_readings, in_milkings) in parts {
            let batch = v1::Batch {
                offset: 1,
                series: vec![v1::Series::default(); in_series],
                readings: vec![reading(); in_readings],
                milkings: vec![milking(); in_milkings],
            };
            let message = stream_request::Message::Batch(batch);
            v1::StreamRequest { message: Some(message) }.encode(&mut request).expect("a Vec grows");
            readings += in_readings + in_milkings;
            series += in_series;
        }
        let decoded = decode_bounded::<v1::StreamRequest>(&request);
        if readings > MAX_BATCH_READINGS || series > MAX_BATCH_SERIES {
            prop_assert_eq!(Reason::of(&decoded.expect_err("too many")), Some(Reason::BatchTooLarge));
        } else {
            let Some(stream_request::Message::Batch(batch)) = decoded.expect("not too many").message else {
                panic!("no batch");
            };
            prop_assert_eq!(batch.readings.len() + batch.milkings.len(), readings);
            prop_assert_eq!(batch.series.len(), series);
        }
    }
}

/// The least that a reading holds: its series and a time.
fn reading() -> v1::Reading {
    v1::Reading { series_ref: 1, time_us: 1, ..v1::Reading::default() }
}

fn milking() -> v1::Milking {
    v1::Milking { time_us: 1, animal_id: 1, ..v1::Milking::default() }
}

#[test]
fn many_elements_that_hold_nothing_are_refused_and_a_few_are_not() {
    let request = |count| {
        let batch = v1::Batch { readings: vec![v1::Reading::default(); count], ..v1::Batch::default() };
        v1::WriteRequest { batch: Some(batch), ..v1::WriteRequest::default() }.encode_to_vec()
    };
    decode_bounded::<v1::WriteRequest>(&request(100)).expect("a few");
    let refused = decode_bounded::<v1::WriteRequest>(&request(101)).expect_err("many");
    assert_eq!(Reason::of(&refused), Some(Reason::BadMessage));
}

#[test]
fn a_full_batch_is_taken_and_one_more_is_not() {
    let write = |readings: usize, milkings: usize| {
        let batch = v1::Batch {
            readings: vec![reading(); readings],
            milkings: vec![milking(); milkings],
            ..v1::Batch::default()
        };
        v1::WriteRequest { batch: Some(batch), ..v1::WriteRequest::default() }.encode_to_vec()
    };
    decode_bounded::<v1::WriteRequest>(&write(MAX_BATCH_READINGS - 1, 1)).expect("a full batch");
    let status = decode_bounded::<v1::WriteRequest>(&write(MAX_BATCH_READINGS, 1)).expect_err("one too many");
    assert_eq!(Reason::of(&status), Some(Reason::BatchTooLarge));
    assert_eq!(status.message(), "batch of 10001 readings and milkings: at most 10000, send several");
}
