//! What a log knows of itself: its segments, its gaps, and how far it is acked.

use std::{collections::VecDeque, fs, io, path::Path};

use super::{
    GapReason, SpoolError,
    acked::AckFile,
    gaps::{Gaps, Runs},
    segment::Segment,
};

#[derive(Debug)]
pub(super) struct State {
    /// In order of offsets, disjoint.
    pub(super) segments: VecDeque<Segment>,
    /// The last segment may still grow.
    pub(super) tail_open: bool,
    pub(super) gaps: Gaps,
    pub(super) ack_file: AckFile,
    pub(super) acked: u64,
    /// Below this, batches that were acked may be unreadable.
    pub(super) intact_from: u64,
    /// One past the highest offset ever assigned.
    pub(super) next_offset: u64,
    /// Items of all frames ever appended.
    pub(super) items: u64,
    pub(super) removed: bool,
}

impl State {
    /// Bytes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.segments.iter().map(|segment| segment.bytes).sum::<u64>() + self.gaps.bytes()
    }

    /// The first segment with an offset from `from` on.
    pub(super) fn segment_from(&self, from: u64) -> Option<Segment> {
        let at = self.segments.partition_point(|segment| segment.last < from);
        self.segments.range(at..).find(|segment| segment.first <= segment.last).copied()
    }

    pub(super) fn in_gap(&self, offset: u64) -> bool {
        self.gaps.from(offset).is_some_and(|gap| gap.first <= offset)
    }

    /// Lowest offset from which on every batch is on the disk, acked or not, or in a gap behind the ack.
    pub(super) fn first_retained(&self) -> u64 {
        let mut offset = self.intact_from;
        if let Some(gap) = self.gaps.before(self.acked + 1) {
            offset = offset.max(gap.last.min(self.acked) + 1);
        }
        while let Some(segment) = self.segment_from(offset) {
            offset = offset.max(segment.first);
            match self.gaps.from(offset).filter(|gap| gap.first <= offset) {
                Some(gap) => offset = gap.last + 1,
                None => return offset,
            }
        }
        self.next_offset
    }

    /// Notes that acked batches cannot be read.
    pub(super) fn damaged(&mut self, first: u64, last: u64) {
        if first <= self.acked {
            self.intact_from = self.intact_from.max(last.min(self.acked) + 1);
        }
    }

    /// The part of a hole that is neither acked nor in a gap, as gaps to be recorded. All its items are
    /// counted for the first of them.
    pub(super) fn lost(&self, first: u64, last: u64, items: Option<u64>) -> Vec<(u64, GapReason, Runs)> {
        let mut parts = Vec::new();
        let mut elsewhere = 0_u64;
        let mut at = first.max(self.acked + 1);
        while at <= last {
            match self.gaps.from(at).filter(|gap| gap.first <= last) {
                Some(gap) if gap.first <= at => {
                    elsewhere = elsewhere.saturating_add(gap.items);
                    at = gap.last + 1;
                }
                Some(gap) => {
                    parts.push((at, gap.first - 1));
                    at = gap.first;
                }
                None => {
                    parts.push((at, last));
                    break;
                }
            }
        }
        // What an acked part of the hole held is not known.
        let mut items = if first > self.acked { items.unwrap_or(0).saturating_sub(elsewhere) } else { 0 };
        let runs =
            |(first, last)| (first, GapReason::Lost, Runs::sum(last - first + 1, std::mem::take(&mut items)));
        parts.into_iter().map(runs).collect()
    }

    /// Records that offsets are lost. The record is also the proof that the disk works: one that is
    /// gone altogether loses nothing, it only fails.
    pub(super) fn lose(&mut self, first: u64, last: u64, items: Option<u64>) -> Result<(), SpoolError> {
        self.damaged(first, last);
        let gaps = self.lost(first, last, items);
        if gaps.is_empty() { Ok(()) } else { self.gaps.record(&gaps) }
    }

    /// Writes the ack down and removes the segments, from the front, that hold nothing but what is
    /// acked or in a gap.
    ///
    /// The removal of a name is not synced: a file that comes back after a power cut is found acked
    /// or in a gap again.
    pub(super) fn trim(&mut self, log: &Path) -> Result<(), SpoolError> {
        let dead = self.segments.iter().take_while(|segment| self.is_dead(segment)).count();
        let dead = dead.min(self.segments.len() - usize::from(self.tail_open));
        self.gaps.cut(self.acked, self.held());
        // What is acked must not look lost after it was removed.
        let removing = dead > 0 || self.gaps.last().is_some_and(|last| last <= self.acked);
        match self.ack_file.write(self.acked, removing) {
            // Removing is what helps a full disk. At worst the next opening takes for lost, until the
            // server tells better, what was acked.
            Err(SpoolError::Io { source, .. }) if is_out_of_space(&source) => {}
            Err(error) if removing => return Err(error),
            // Otherwise a missing record only sends batches again.
            Err(_) | Ok(()) => {}
        }
        for _ in 0..dead {
            let path = self.segments[0].path(log);
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(SpoolError::io("remove", &path)(error));
                }
                _ => self.segments.pop_front(),
            };
        }
        self.gaps.cut(self.acked, self.held());
        self.gaps.compact()
    }

    /// Offsets below this are in no segment.
    fn held(&self) -> u64 {
        self.segments.front().map_or(self.next_offset, |segment| segment.first)
    }

    fn is_dead(&self, segment: &Segment) -> bool {
        let mut at = segment.first.max(self.acked + 1);
        while at <= segment.last {
            match self.gaps.from(at).filter(|gap| gap.first <= at) {
                Some(gap) => at = gap.last + 1,
                None => return false,
            }
        }
        true
    }
}

fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
