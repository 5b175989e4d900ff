//! The gRPC surface: services, authentication, conversion, admission of messages, statuses. The only
//! code that knows tonic and prost.

mod admin_service;
mod auth;
mod convert;
mod deadline;
mod incoming;
mod ingest_service;
mod metered_body;
mod query_service;
mod questions;
mod slow;
mod status;
mod stream;
mod streams;

use std::sync::Arc;

use herdstream_proto::v1::{
    admin_service_server::AdminServiceServer, ingest_service_server::IngestServiceServer,
    query_service_server::QueryServiceServer,
};

pub use auth::Gateways;
pub use incoming::Incoming;
pub use metered_body::MeterLayer;

use tokio_util::sync::CancellationToken;

use crate::{config::Config, ingest::Ingest, lifecycle::Keeper, store::Store};

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

/// The query service over `store` and what `ingest` holds back; its streams end with `stop`.
pub fn query_service(
    store: Arc<dyn Store>,
    ingest: Ingest,
    gateways: Arc<Gateways>,
    config: &Config,
    stop: CancellationToken,
) -> QueryServiceServer<query_service::QueryGrpc> {
    let (query, retention) = (config.query.clone(), config.retention.clone());
    let service = query_service::QueryGrpc::new(store, ingest, gateways, (query, retention), stop);
    QueryServiceServer::new(service).max_decoding_message_size(MAX_QUERY_BYTES)
}

/// The administration of what `keeper` looks after: for callers on this machine.
pub fn admin_service(keeper: Keeper) -> AdminServiceServer<admin_service::AdminGrpc> {
    AdminServiceServer::new(admin_service::AdminGrpc { keeper }).max_decoding_message_size(MAX_QUERY_BYTES)
}
