//! Where a row of a group came from, for rows that the store itself refuses.

use crate::{
    model::{Content, DAY_US, Micros, Quarantined, Rejection, RejectionCode, RejectionKind, now_us},
    store::{Batch, ProducerCommit},
};

/// Refuses rows of one kind of a batch, in the order in which they arrived.
pub(in crate::store) struct Refusal<'a> {
    batch: &'a Batch,
    kind: RejectionKind,
    /// Places at which validation had refused rows of the kind, in order: those do not count among the sound ones.
    refused: Vec<u32>,
    /// How many of them lie before the row that was asked about last.
    passed: usize,
}

impl<'a> Refusal<'a> {
    pub(in crate::store) fn new(commit: &ProducerCommit, batch: &'a Batch, kind: RejectionKind) -> Self {
        let mut refused: Vec<u32> = (commit.quarantined.iter())
            .map(|kept| &kept.rejection)
            .filter(|rejection| rejection.offset == batch.offset && rejection.kind == kind)
            .map(|rejection| rejection.index)
            .collect();
        refused.sort_unstable();
        Self { batch, kind, refused, passed: 0 }
    }

    /// The position at which the `place`-th sound row arrived; to be asked in order.
    pub(in crate::store) fn arrived_at(&mut self, place: u32) -> u32 {
        while self.refused.get(self.passed).is_some_and(|&refused| refused <= place + self.passed as u32) {
            self.passed += 1;
        }
        place + self.passed as u32
    }

    /// The quarantine record of the `place`-th sound row, whose day retention has dropped; to be asked in order.
    pub(in crate::store) fn of(&mut self, place: u32, time_us: Micros, content: Content) -> Quarantined {
        let day = chrono::DateTime::from_timestamp(time_us.div_euclid(DAY_US) * 86_400, 0);
        let day = day.map_or_else(|| time_us.to_string(), |day| day.format("%Y-%m-%d").to_string());
        let rejection = Rejection {
            offset: self.batch.offset,
            kind: self.kind,
            index: self.arrived_at(place),
            code: RejectionCode::StoreRefused,
            field: "time_us",
            message: format!("its day {day} was dropped by retention, and its aggregates stand"),
        };
        Quarantined { rejection, received_us: now_us(), series: None, content: Some(content) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_are_told_by_where_they_arrived(sound in prop::collection::vec(any::<bool>(), 1..60)) {
            let arrived = |is_sound: bool| {
                (0_u32..).zip(&sound).filter(move |(_, of)| **of == is_sound).map(|(index, _)| index)
            };
            let batch = Batch { offset: 3, ..Batch::default() };
            let mut refusal =
                Refusal { batch: &batch, kind: RejectionKind::Reading, refused: arrived(false).collect(), passed: 0 };
            let found: Vec<_> = (0..arrived(true).count() as u32).map(|place| refusal.arrived_at(place)).collect();
            prop_assert_eq!(found, arrived(true).collect::<Vec<_>>());
        }
    }
}
