//! Any bytes are answered with a message or a status; what is taken can be written and read again.
//!
//! `cargo +nightly fuzz run decode fuzz/corpus/decode proto/golden` starts from the golden messages.
#![no_main]

use herdstream_proto::{codec::decode_bounded, v1};
use libfuzzer_sys::fuzz_target;
use prost::{Message, Name};

fuzz_target!(|bytes: &[u8]| {
    decode_as::<v1::StreamRequest>(bytes);
    decode_as::<v1::StreamResponse>(bytes);
    decode_as::<v1::WriteRequest>(bytes);
    decode_as::<v1::WriteResponse>(bytes);
    decode_as::<v1::GetProducerRequest>(bytes);
    decode_as::<v1::ListRejectionsRequest>(bytes);
    decode_as::<v1::ListRejectionsResponse>(bytes);
    decode_as::<v1::GetLatestRequest>(bytes);
    decode_as::<v1::QueryRangeRequest>(bytes);
    decode_as::<v1::QueryRangeResponse>(bytes);
    decode_as::<v1::QueryMilkingsRequest>(bytes);
    decode_as::<v1::QueryMilkingsResponse>(bytes);
    decode_as::<v1::ListDevicesRequest>(bytes);
    decode_as::<v1::ListDevicesResponse>(bytes);
});

fn decode_as<M: Message + Name + Default>(bytes: &[u8]) {
    if let Ok(message) = decode_bounded::<M>(bytes) {
        let written = message.encode_to_vec();
        // Not bounded: written anew it may be so much smaller that it counts as holding nothing.
        let again = M::decode(written.as_slice()).expect("what was written can be read");
        assert_eq!(again.encode_to_vec(), written, "{}", M::NAME);
    }
}
