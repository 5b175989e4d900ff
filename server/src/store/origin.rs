//! Where a row of a group came from, for rows that the store itself refuses.

use crate::{
    model::{Content, DAY_US, Micros, Quarantined, Rejection, RejectionCode, RejectionKind, now_us},
    store::{Batch, ProducerCommit},
};

/// The position at which the `place`-th sound row of a batch arrived: those refused before it stand between.
pub(in crate::store) fn arrived_at(
    commit: &ProducerCommit,
    batch: &Batch,
    kind: RejectionKind,
    place: u32,
) -> u32 {
    let mut refused: Vec<u32> = (commit.quarantined.iter())
        .map(|kept| &kept.rejection)
        .filter(|rejection| rejection.offset == batch.offset && rejection.kind == kind)
        .map(|rejection| rejection.index)
        .collect();
    refused.sort_unstable();
    refused.into_iter().fold(place, |index, refused| if refused <= index { index + 1 } else { index })
}

/// The quarantine record of a row whose day retention has dropped.
pub(in crate::store) fn refused_as_dropped(
    commit: &ProducerCommit,
    batch: &Batch,
    kind: RejectionKind,
    place: u32,
    (time_us, content): (Micros, Content),
) -> Quarantined {
    let day = chrono::DateTime::from_timestamp(time_us.div_euclid(DAY_US) * 86_400, 0);
    let day = day.map_or_else(|| time_us.to_string(), |day| day.format("%Y-%m-%d").to_string());
    let rejection = Rejection {
        offset: batch.offset,
        kind,
        index: arrived_at(commit, batch, kind, place),
        code: RejectionCode::StoreRefused,
        field: "time_us",
        message: format!("its day {day} was dropped by retention, and its aggregates stand"),
    };
    Quarantined { rejection, received_us: now_us(), series: None, content: Some(content) }
}
