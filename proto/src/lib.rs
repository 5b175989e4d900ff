//! The wire contract of Herdstream: messages and services of `herdstream.v1`,
//! their bounds, and the reasons an error can carry. No logic beyond that.

pub mod codec;
pub mod error;
pub mod limits;

/// Messages, clients and servers of the package `herdstream.v1`.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::pedantic)]
pub mod v1 {
    tonic::include_proto!("herdstream.v1");
}

/// The compiled definitions, as server reflection serves them.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/herdstream.bin"));

/// Version of the ingestion protocol that `Open` carries.
pub const PROTOCOL_VERSION: u32 = 1;
