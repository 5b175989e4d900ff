//! What the store itself refuses: readings and milkings of days that retention has dropped.

use super::{
    super::{keys::Kind, late::Late, view::View},
    Draft,
};
use crate::{
    model::{Content, Milking, Quarantined, Reading, Rejection, RejectionCode, RejectionKind},
    store::{Outcome, ProducerCommit, QuarantineSpan, StoreError, origin::Refusal},
};

/// Tells the sound rows of a producer from those of dropped days, and answers the latter.
pub(super) fn sort_out<'a>(
    view: &View<'_>,
    commit: &'a ProducerCommit,
    late: &Late,
    readings: &mut Vec<&'a Reading>,
    milkings: &mut Vec<&'a Milking>,
) -> Result<Vec<Quarantined>, StoreError> {
    let mut refused = Vec::new();
    for batch in &commit.batches {
        // Nearly always nothing is that old.
        if late.may_be_dropped(batch.readings.iter().map(|reading| reading.time_us)) {
            let mut refusal = Refusal::new(commit, batch, RejectionKind::Reading);
            for (place, reading) in (0..).zip(&batch.readings) {
                if late.is_dropped(Kind::Reading, reading.time_us) {
                    let content = Content::Reading(reading.clone());
                    let series = view.series(reading.series)?;
                    refused.push(Quarantined { series, ..refusal.of(place, reading.time_us, content) });
                } else {
                    readings.push(reading);
                }
            }
        } else {
            readings.extend(&batch.readings);
        }
        if late.may_be_dropped(batch.milkings.iter().map(|milking| milking.time_us)) {
            let mut refusal = Refusal::new(commit, batch, RejectionKind::Milking);
            for (place, milking) in (0..).zip(&batch.milkings) {
                if late.is_dropped(Kind::Milking, milking.time_us) {
                    let content = Content::Milking(Box::new(milking.clone()));
                    refused.push(refusal.of(place, milking.time_us, content));
                } else {
                    milkings.push(milking);
                }
            }
        } else {
            milkings.extend(&batch.milkings);
        }
    }
    Ok(refused)
}

/// Counts what was refused as quarantined instead of stored, and tells it with the producer's outcome.
pub(super) fn note(draft: &mut Draft, commit: &ProducerCommit, refused: &[Quarantined]) {
    let Some(Outcome::Committed(row, rejections)) = draft.outcomes.last_mut() else { return };
    if refused.is_empty() {
        return;
    }
    rejections.extend(refused.iter().map(|record| record.rejection.clone()));
    if commit.has_ledger() {
        let count = refused.len() as u64;
        row.totals.stored = row.totals.stored.saturating_sub(count);
        row.totals.quarantined += count;
        if let Some((_, written)) = draft.producers.last_mut() {
            written.clone_from(row);
        }
    }
}

/// What an earlier attempt at the same batches refused.
pub(super) fn of_before(view: &View<'_>, commit: &ProducerCommit) -> Result<Vec<Rejection>, StoreError> {
    let Some(guard) = commit.guard else { return Ok(Vec::new()) };
    let first = (guard.committed_offset + 1, RejectionKind::Reading as u8, 0);
    let span = QuarantineSpan { first, last: commit.committed_offset };
    let records = view.quarantine(commit.producer, span, usize::MAX)?;
    let refused = records.into_iter().map(|record| record.rejection);
    Ok(refused.filter(|rejection| rejection.code == RejectionCode::StoreRefused).collect())
}
