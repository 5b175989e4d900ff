//! Real database servers for tests: PostgreSQL clusters that are thrown away, PostgreSQL with TimescaleDB,
//! and proxies that cut connections at the worst moment.
//!
//! Everything runs on 127.0.0.1 on ports of its own and ends with the test process, however that ends.
//! What is not installed makes a test skip, with the reason on standard error; where `CI` is set, it
//! makes the test fail.

mod account;
mod link;
mod pglite;
mod postgres;
mod process;
mod proxy;
mod timescale;
mod tmpfs;

use std::env;

pub use link::{Link, Mode, Upstream};
pub use pglite::Pglite;
pub use postgres::{Options, Postgres};
pub use proxy::{Cut, Proxy};
pub use timescale::{TIMESCALE_VARIABLE, Timescale};
pub use tmpfs::Tmpfs;

/// Says that a test cannot run here; always None.
///
/// # Panics
///
/// Where `CI` is set: there, nothing may be skipped.
pub fn skip<T>(reason: &str) -> Option<T> {
    let ci = env::var_os("CI").is_some_and(|value| !value.is_empty() && value != "0" && value != "false");
    assert!(!ci, "a test would be skipped, and CI is set: {reason}");
    eprintln!("SKIPPED: {reason}");
    None
}
