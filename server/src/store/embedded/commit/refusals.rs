//! What the store itself refuses: readings and milkings of days that retention has dropped.

use super::{
    super::{engine::View, keys::Kind, late::Late},
    Draft,
};
use crate::{
    model::{Content, Milking, Quarantined, Reading, Rejection, RejectionCode, RejectionKind},
    store::{Outcome, ProducerCommit, QuarantineSpan, StoreError, origin::refused_as_dropped},
};

/// The rows of a producer, told apart.
#[derive(Default)]
pub(super) struct Sound<'a> {
    pub(super) readings: Vec<&'a Reading>,
    pub(super) milkings: Vec<&'a Milking>,
    pub(super) refused: Vec<Quarantined>,
}

impl<'a> Sound<'a> {
    pub(super) fn of(commit: &'a ProducerCommit, late: &Late) -> Self {
        let mut sound = Self::default();
        for batch in &commit.batches {
            // Nearly always nothing is that old.
            if !batch.readings.iter().any(|reading| late.may_be_dropped(reading.time_us)) {
                sound.readings.extend(&batch.readings);
            } else {
                for (place, reading) in batch.readings.iter().enumerate() {
                    if late.is_dropped(Kind::Reading, reading.time_us) {
                        let what = (reading.time_us, Content::Reading(reading.clone()));
                        let kind = RejectionKind::Reading;
                        sound.refused.push(refused_as_dropped(commit, batch, kind, place as u32, what));
                    } else {
                        sound.readings.push(reading);
                    }
                }
            }
            for (place, milking) in batch.milkings.iter().enumerate() {
                if late.is_dropped(Kind::Milking, milking.time_us) {
                    let what = (milking.time_us, Content::Milking(Box::new(milking.clone())));
                    let kind = RejectionKind::Milking;
                    sound.refused.push(refused_as_dropped(commit, batch, kind, place as u32, what));
                } else {
                    sound.milkings.push(milking);
                }
            }
        }
        sound
    }
}

/// Counts what was refused as quarantined instead of stored, and tells it with the producer's outcome.
pub(super) fn note(draft: &mut Draft, commit: &ProducerCommit, sound: &Sound<'_>) {
    let refused = sound.refused.len() as u64;
    let Some(Outcome::Committed(row, rejections)) = draft.outcomes.last_mut().filter(|_| refused > 0) else {
        return;
    };
    rejections.extend(sound.refused.iter().map(|record| record.rejection.clone()));
    if commit.has_ledger() {
        row.totals.stored = row.totals.stored.saturating_sub(refused);
        row.totals.quarantined += refused;
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
