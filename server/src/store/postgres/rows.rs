//! A group's rows in the order in which they are written, and where each came from.

use std::collections::BTreeSet;

use super::chunks;
use crate::{
    model::{Milking, Offset, ProducerId, Reading, RejectionKind},
    store::{Batch, CommitGroup, ProducerCommit, order::sort, origin::Refusal},
};

/// A commit's number takes the upper bits of a stamp, the place among equal times the lower.
const PLACE_BITS: u32 = 16;

/// A reading and what orders it among equal times.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub(super) stamp: i64,
    pub(super) reading: &'a Reading,
}

/// A milking likewise.
#[derive(Clone, Copy)]
pub(super) struct MilkingRow<'a> {
    pub(super) stamp: i64,
    pub(super) milking: &'a Milking,
}

/// Where a row came from.
#[derive(Clone, Copy)]
pub(super) struct Origin {
    /// Place of the producer in the group.
    pub(super) producer: usize,
    pub(super) id: ProducerId,
    pub(super) offset: Offset,
    /// Position in the batch as it arrived.
    pub(super) index: u32,
}

/// The readings of what was let in, by series and time.
pub(super) fn readings<'a>(admitted: impl Iterator<Item = &'a ProducerCommit>, number: i64) -> Vec<Row<'a>> {
    let unsorted: Vec<&Reading> =
        admitted.flat_map(|commit| &commit.batches).flat_map(|batch| &batch.readings).collect();
    let first = number << PLACE_BITS;
    let mut stamp = first;
    let mut previous = None;
    (sort(&unsorted).into_iter())
        .map(|reading| {
            let key = (reading.series, reading.time_us);
            stamp = if previous == Some(key) { stamp + 1 } else { first };
            previous = Some(key);
            Row { stamp, reading }
        })
        .collect()
}

/// The milkings of what was let in, in the order of their arrival.
pub(super) fn milkings<'a>(
    admitted: impl Iterator<Item = &'a ProducerCommit>,
    number: i64,
) -> Vec<MilkingRow<'a>> {
    let milkings = admitted.flat_map(|commit| &commit.batches).flat_map(|batch| &batch.milkings);
    (number << PLACE_BITS..).zip(milkings).map(|(stamp, milking)| MilkingRow { stamp, milking }).collect()
}

/// The days that get readings, since 1970.
pub(super) fn days<'a>(commits: impl IntoIterator<Item = &'a ProducerCommit>) -> BTreeSet<i64> {
    let readings = commits.into_iter().flat_map(|commit| &commit.batches).flat_map(|batch| &batch.readings);
    let mut days = BTreeSet::new();
    let mut last = None;
    for reading in readings {
        let day = chunks::day(reading.time_us);
        if last != Some(day) {
            days.insert(day);
            last = Some(day);
        }
    }
    days
}

/// Where a row of `group` came from: the row is found by its address.
pub(super) fn origin<T>(
    group: &CommitGroup,
    kind: RejectionKind,
    row: &T,
    rows: fn(&Batch) -> &[T],
) -> Option<Origin> {
    for (producer, commit) in group.producers.iter().enumerate() {
        for batch in &commit.batches {
            if let Some(place) = place(rows(batch), row) {
                let index = Refusal::new(commit, batch, kind).arrived_at(place as u32);
                return Some(Origin { producer, id: commit.producer, offset: batch.offset, index });
            }
        }
    }
    None
}

/// The place of a row in `rows`, if it is one of them.
fn place<T>(rows: &[T], row: &T) -> Option<usize> {
    let bytes = std::ptr::from_ref(row).addr().checked_sub(rows.as_ptr().addr())?;
    Some(bytes / size_of::<T>()).filter(|place| *place < rows.len())
}
