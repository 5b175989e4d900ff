//! What an operator sees: health, metrics, the status page, logs, and how the process stops.

pub mod accept;
pub mod health;
pub mod http;
pub mod metrics;
pub mod shutdown;
pub mod telemetry;

mod board;
mod page;
mod pulse;

pub use board::{Board, Facts};
pub use pulse::Pulse;
