//! Opening a log that an earlier opening left.

use std::{collections::VecDeque, fs::OpenOptions, sync::Arc};

use uuid::Uuid;

use super::{
    Gap, Log, Shared, SpoolError,
    acked::AckFile,
    durable::truncate,
    frame::Walk,
    gaps::{Gaps, merged},
    segment::{self, Piece, Place, Segment, Survey},
    state::State,
};

/// What an opening found damaged in a log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Recovered {
    /// Bytes at the end that are no whole frame: an append that a crash cut short, so that nothing
    /// of it was accepted. They are cut off.
    pub(crate) torn_bytes: u64,
    /// Offsets that an earlier opening did not know to be lost.
    pub(crate) lost: Vec<Gap>,
}

/// What was found in the segments.
struct Found {
    segments: VecDeque<Segment>,
    holes: Vec<(u64, u64, Option<u64>)>,
    /// Behind the last frame.
    place: Place,
    torn_bytes: u64,
    /// The disk failed, so that there may be more.
    failed: bool,
}

impl Log {
    /// Opens the log, or removes it if there is nothing in it to be sent or given up.
    pub(super) fn recover(shared: &Arc<Shared>, producer_id: Uuid) -> Result<Option<Self>, SpoolError> {
        let dir = shared.dir.join(producer_id.to_string());
        let names = segment::names(&dir)?;
        let gaps = Gaps::open(&dir, producer_id)?;
        let mut ack_file = AckFile::new(&dir, producer_id);
        let first_known = names.first().copied().into_iter().chain(gaps.from(0).map(|gap| gap.first)).min();
        // What is missing at the front was acked, as the record would say that is damaged.
        let acked = ack_file.read()?.unwrap_or(first_known.map_or(0, |first| first - 1));

        let start = first_known.map_or(acked + 1, |first| first.min(acked + 1));
        let start = Place { offset: start, items: (start == 1).then_some(0) };
        let Found { segments, mut holes, place, torn_bytes, failed } =
            survey(&dir, producer_id, &names, start)?;
        let next_offset = names
            .last()
            .copied()
            .into_iter()
            .chain(gaps.last().map(|last| last + 1))
            .fold(place.offset.max(acked + 1), u64::max);
        if place.offset < next_offset {
            holes.push((place.offset, next_offset - 1, None));
        }

        let items = place.items.unwrap_or(0);
        let mut state = State {
            segments,
            tail_open: false,
            gaps,
            ack_file,
            acked,
            intact_from: 1,
            next_offset,
            items,
            removed: false,
        };
        for &(first, last, _) in &holes {
            state.damaged(first, last);
        }
        let lost: Vec<_> =
            holes.into_iter().flat_map(|(first, last, items)| state.lost(first, last, items)).collect();
        let recorded = lost.is_empty() || state.gaps.record(&lost).is_ok();
        if recorded {
            state.trim(&dir)?;
        } else {
            // A full disk: the log can be drained all the same, and the next opening finds this again.
            state.gaps.remember(&lost);
        }
        let lost = merged(lost.iter().map(|(first, reason, runs)| runs.gap(*first, *reason)));
        let drained = acked + 1 == next_offset && !failed;
        let recovered = Recovered { torn_bytes, lost };
        let log = Self::new(shared, producer_id, dir, false, recovered, state);
        if drained {
            log.remove()?;
            return Ok(None);
        }
        Ok(Some(log))
    }
}

/// Goes through all segments from header to header. The payloads of the last one are checked, since
/// a crash may have cut it short anywhere.
fn survey(
    dir: &std::path::Path,
    producer_id: Uuid,
    names: &[u64],
    mut place: Place,
) -> Result<Found, SpoolError> {
    let mut segments = VecDeque::new();
    let mut holes = Vec::new();
    let (mut torn_bytes, mut failed) = (0, false);
    for (at, &name) in names.iter().enumerate() {
        let path = segment::path(dir, name);
        let file =
            OpenOptions::new().read(true).write(true).open(&path).map_err(SpoolError::io("open", &path))?;
        let len = file.metadata().map_err(SpoolError::io("look at", &path))?.len();
        let next = names.get(at + 1).copied();
        let mut segment =
            Segment { name, first: name, last: name - 1, items_before: 0, items_end: 0, bytes: 0 };
        let mut survey = Survey::new(Walk::new(producer_id, 0, len), place, next.unwrap_or(u64::MAX));
        while let Some(piece) = survey.next(&file) {
            match piece {
                Piece::Hole { first, last, items } => holes.push((first, last, items)),
                Piece::Frame(found) => {
                    let header = found.header;
                    if segment.last < segment.first {
                        segment.first = header.offset;
                        segment.items_before = header.items_before;
                    }
                    segment.last = header.offset;
                    segment.items_end = header.items_end();
                    if next.is_none() && !found.payload(&file).is_ok_and(|payload| payload.is_some()) {
                        holes.push((header.offset, header.offset, Some(u64::from(header.items))));
                    }
                }
            }
        }
        place = survey.place();
        segment.bytes = if next.is_some() { len } else { survey.pos() };
        if next.is_none() && !survey.failed() {
            torn_bytes = len - survey.pos();
            if torn_bytes > 0 {
                // If this fails the tail is found torn again: nothing is ever appended to it.
                let _ = truncate(&file, survey.pos());
            }
        }
        failed |= survey.failed();
        segments.push_back(segment);
    }
    Ok(Found { segments, holes, place, torn_bytes, failed })
}
