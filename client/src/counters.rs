//! Counters: what became of everything a producer accepted.

/// Counts since the producer was opened.
///
/// `accepted` = `stored` + `quarantined` + `evicted` + `expired` + `poisoned` + `lost` + `pending`, at any
/// moment. Logs left by earlier openings are not part of it: see `recovered_logs`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Readings and milkings taken.
    pub accepted: u64,
    /// Acknowledged and stored.
    pub stored: u64,
    /// Acknowledged and kept in the server's quarantine.
    pub quarantined: u64,
    /// Given up to make room.
    pub evicted: u64,
    /// Given up because they were too old.
    pub expired: u64,
    /// In batches that the server refused again and again.
    pub poisoned: u64,
    /// Unreadable in the spool.
    pub lost: u64,
    /// Accepted, their fate not yet known.
    pub pending: u64,
    /// Extra transmissions that the server dropped. Not part of the sum.
    pub duplicate: u64,
    /// Bytes of encoded batches held in memory.
    pub buffered_bytes: u64,
    /// Batches put on the wire, repeats included.
    pub batches_sent: u64,
    /// Their encoded bytes.
    pub bytes_sent: u64,
    /// Acks received.
    pub acks: u64,
    /// Sessions opened.
    pub sessions: u64,
    /// Sessions, or attempts to open one, that ended.
    pub disconnects: u64,
    /// Groups of batches that the spool synced to disk.
    pub syncs: u64,
    /// Logs left by earlier openings that are still being sent.
    pub recovered_logs: u64,
    /// Batches in them that are not yet acknowledged.
    pub recovered_batches: u64,
}

impl Counters {
    /// Acknowledged: stored or in quarantine.
    pub fn acked(&self) -> u64 {
        self.stored + self.quarantined
    }
}
