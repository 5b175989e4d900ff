//! The gRPC surface: services, authentication, conversion, admission of messages, statuses. The only
//! code that knows tonic and prost.

mod auth;
mod convert;
mod incoming;
mod ingest_service;
mod metered_body;
mod query_service;
mod status;
mod stream;

use std::sync::Arc;

use herdstream_proto::v1::{
    ingest_service_server::IngestServiceServer, query_service_server::QueryServiceServer,
};

pub use auth::Gateways;
pub use incoming::Incoming;
pub use metered_body::MeterLayer;

use crate::{ingest::Ingest, store::Store};

/// Largest request of a query, in bytes.
const MAX_QUERY_BYTES: usize = 64 << 10;

/// The ingestion service over `ingest`.
pub fn ingest_service(
    ingest: Ingest,
    gateways: Arc<Gateways>,
) -> IngestServiceServer<ingest_service::IngestGrpc> {
    // The meter refuses what is larger, with a reason; this is the bound on what passes it.
    IngestServiceServer::new(ingest_service::IngestGrpc { ingest, gateways })
        .max_decoding_message_size(herdstream_proto::limits::MAX_MESSAGE_BYTES)
}

/// The query service over `store` and what `ingest` holds back.
pub fn query_service(
    store: Arc<dyn Store>,
    ingest: Ingest,
    gateways: Arc<Gateways>,
) -> QueryServiceServer<query_service::QueryGrpc> {
    let places = tokio::sync::Semaphore::new(query_service::CONCURRENT);
    QueryServiceServer::new(query_service::QueryGrpc { store, ingest, gateways, places })
        .max_decoding_message_size(MAX_QUERY_BYTES)
}
