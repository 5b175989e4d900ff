//! A message that holds too much is refused before it takes memory. Alone in its process, since it
//! looks at the memory of the process.
#![cfg(target_os = "linux")]

use std::fs;

use herdstream_proto::{codec::decode_bounded, error::Reason, limits::MAX_MESSAGE_BYTES, v1};
use prost::encoding::{WireType, encode_key, encode_varint};

/// Most memory the process ever had, in KiB.
fn peak_kib() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("the state of this process");
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("a peak");
    peak.trim().trim_end_matches(" kB").parse().expect("a number")
}

#[test]
fn a_message_of_millions_of_empty_readings_takes_no_memory() {
    // Two bytes each on the wire, a hundred and more in memory.
    let elements = MAX_MESSAGE_BYTES / 2 - 16;
    let mut request = Vec::with_capacity(MAX_MESSAGE_BYTES);
    encode_key(2, WireType::LengthDelimited, &mut request);
    encode_varint(elements as u64 * 2, &mut request);
    for _ in 0..elements {
        encode_key(3, WireType::LengthDelimited, &mut request);
        encode_varint(0, &mut request);
    }
    let before = peak_kib();
    let status = decode_bounded::<v1::StreamRequest>(&request).expect_err("too many readings");
    assert_eq!(Reason::of(&status), Some(Reason::BatchTooLarge));
    let grown = peak_kib() - before;
    let decoded = elements * size_of::<v1::Reading>() / 1024;
    assert!(grown < 4 * 1024, "grew by {grown} KiB; decoding would have taken {decoded} KiB");
}
