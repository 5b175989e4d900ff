//! Client SDK of Herdstream.
//!
//! A [`Producer`] takes readings and milkings, batches them, keeps them (in memory, or in a disk
//! spool that survives power cuts) until the server says they are durable, and gets them there
//! exactly once through any number of reconnects. A [`QueryClient`] reads back what is stored, a [`WriteClient`]
//! stores single batches, an [`AdminClient`] looks after a server.
//!
//! ```no_run
//! use std::time::Duration;
//! use herdstream_client::{Producer, ProducerConfig, Reading, SeriesKey};
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let config = ProducerConfig::new("http://127.0.0.1:7171", "barn-3").spool("/var/lib/barn-3/spool");
//! let producer = Producer::open(config).await?;
//! let temperature = producer.series(SeriesKey {
//!     farm_id: 1,
//!     device_uid: "collar-17".into(),
//!     device_type: "collar".into(),
//!     metric_name: "temperature".into(),
//!     metric_unit: "Cel".into(),
//! })?;
//! producer.send(Reading::new(temperature, 38.6).animal(17), Duration::from_secs(5)).await?;
//! producer.close(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```

mod admin;
mod backlog;
mod backoff;
mod batch;
mod config;
mod connection;
mod counters;
mod encode;
mod error;
mod event;
mod item;
mod opening;
mod outbox;
mod producer;
mod query;
mod recall;
mod receipt;
mod series;
mod session;
mod spool;
mod spooler;
mod write;

pub use admin::AdminClient;
pub use config::{ProducerConfig, Token, WhenFull};
pub use connection::QueryConfig;
pub use counters::Counters;
pub use error::{CloseError, Error, FlushError, SendError, SendManyError, SendReason, SendSliceError};
pub use event::{DisconnectReason, Event, EventStream};
pub use herdstream_proto::v1;
pub use item::{Item, Milking, Reading, Sendable};
pub use producer::{CloseReport, Producer};
pub use query::QueryClient;
pub use receipt::{Outcome, Receipt, ReceiptError, Rejection};
pub use series::{SeriesKey, SeriesRef};
pub use spool::{SpoolConfig, SpoolError};
pub use write::WriteClient;
