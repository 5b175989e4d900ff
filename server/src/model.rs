//! What Herdstream is about: plain types, no I/O.

mod json_number;
mod milking;
mod producer;
mod reading;
mod rejection;
mod series;

pub use milking::Milking;
pub use producer::{MAX_OFFSET, Offset, ProducerId, ProducerRow, Totals};
pub use reading::{Quality, Reading};
pub use rejection::{Content, Quarantined, Rejection, RejectionCode, RejectionKind, field_name};
pub use series::{SeriesId, SeriesKey};

/// Microseconds since 1970-01-01T00:00:00Z.
pub type Micros = i64;

/// Microseconds in a second.
pub const SECOND_US: Micros = 1_000_000;

/// Microseconds in a UTC day: the width of a chunk.
pub const DAY_US: Micros = 86_400 * SECOND_US;

/// The present, in microseconds since 1970. Before 1970 or beyond the year 200 000: the nearest bound.
pub fn now_us() -> Micros {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    Micros::try_from(since.as_micros()).unwrap_or(Micros::MAX)
}
