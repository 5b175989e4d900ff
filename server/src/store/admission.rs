//! What the ledger says to a producer's part of a group.

use super::ProducerCommit;
use crate::model::ProducerRow;

/// A part held against its producer's row.
pub(in crate::store) struct Admission {
    /// The row after the commit.
    pub(in crate::store) row: ProducerRow,
    /// Its readings, milkings and quarantine are to be written.
    pub(in crate::store) writes: bool,
    /// Its batches are in the ledger after the commit; if not, another session took over.
    pub(in crate::store) known: bool,
}

impl Admission {
    /// Holds `commit` against the row that stands.
    pub(in crate::store) fn of(commit: &ProducerCommit, mut row: ProducerRow) -> Self {
        let fits = commit
            .guard
            .is_none_or(|guard| guard.epoch == row.epoch && guard.committed_offset == row.committed_offset);
        // The same batches once more, in a group built anew: their offsets say that they are in.
        let again = commit
            .guard
            .is_some_and(|guard| guard.epoch == row.epoch && guard.committed_offset < row.committed_offset)
            && row.committed_offset == commit.committed_offset
            && commit.open.is_none();
        if fits && commit.guard.is_some() {
            row.committed_offset = commit.committed_offset;
            row.totals += commit.totals;
        }
        if let Some(open) = &commit.open {
            row.epoch += 1;
            row.gateway_id.clone_from(&open.gateway_id);
            row.instance_id.clone_from(&open.instance_id);
        }
        Self { row, writes: fits, known: fits || again }
    }
}
