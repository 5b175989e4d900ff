//! Herdstream: takes sensor readings from dairy-farm gateways over gRPC, stores each exactly once,
//! and answers queries.
//!
//! The modules follow a reading's path: [`wire`] decodes it, [`ingest`] admits, validates and groups
//! it, [`store`] commits it, [`query`] finds it again, [`lifecycle`] keeps aggregates fresh and drops what is
//! too old; [`ops`] is what an operator sees.

pub mod config;
pub mod ingest;
pub mod lifecycle;
pub mod model;
pub mod ops;
pub mod query;
pub mod store;
pub mod testing;
pub mod wire;

mod clock;
mod error;
mod serve;

pub use error::Error;
pub use serve::{ServeError, Server, serve};
