use std::ops::AddAssign;

use uuid::Uuid;

/// One ordered log of batches that a gateway writes.
pub type ProducerId = Uuid;

/// A batch's position in its producer's log, from 1; as a bound, 0 means none yet.
pub type Offset = u64;

/// The highest offset there is: what follows it must fit a signed number, as databases have them.
pub const MAX_OFFSET: Offset = i64::MAX as u64 - 1;

/// A producer's row in the ledger.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProducerRow {
    /// Number of the last session; 0 before the first.
    pub epoch: u64,
    /// Everything up to here is durable.
    pub committed_offset: Offset,
    /// Cumulative fates.
    pub totals: Totals,
    /// Gateway that opened the last session.
    pub gateway_id: String,
    /// Client process that opened the last session.
    pub instance_id: String,
}

/// Cumulative fates of readings and milkings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Stored.
    pub stored: u64,
    /// Extra transmissions, dropped.
    pub duplicate: u64,
    /// Refused and kept in quarantine.
    pub quarantined: u64,
    /// Given up by the client.
    pub skipped: u64,
}

impl AddAssign for Totals {
    /// Saturating: `skipped` is whatever a client says.
    fn add_assign(&mut self, other: Self) {
        self.stored = self.stored.saturating_add(other.stored);
        self.duplicate = self.duplicate.saturating_add(other.duplicate);
        self.quarantined = self.quarantined.saturating_add(other.quarantined);
        self.skipped = self.skipped.saturating_add(other.skipped);
    }
}
