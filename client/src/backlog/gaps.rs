//! Offsets that will never be sent.

use std::collections::VecDeque;

pub(crate) use crate::spool::Gap;
use crate::spool::GapReason;

/// Adds a gap to a list, to the last one if it continues it.
pub(crate) fn push(gaps: &mut Vec<Gap>, gap: Gap) {
    match gaps.last_mut() {
        Some(last) if last.last + 1 == gap.first && last.reason == gap.reason => {
            last.last = gap.last;
            last.items += gap.items;
        }
        _ => gaps.push(gap),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    gap: Gap,
    /// A Skip of it was sent: what it holds is counted.
    counted: bool,
}

/// The gaps of one log, disjoint, in order of offsets.
#[derive(Debug, Default)]
pub(super) struct Gaps(VecDeque<Entry>);

impl Gaps {
    /// Adds a gap, to the one before it where it continues that one and both lie behind `apart`.
    pub(super) fn insert(&mut self, gap: Gap, apart: u64) {
        let at = self.0.partition_point(|entry| entry.gap.last < gap.first);
        if let Some(before) = at.checked_sub(1).and_then(|at| self.0.get_mut(at))
            && before.gap.first > apart
            && !before.counted
            && before.gap.last + 1 == gap.first
            && before.gap.reason == gap.reason
        {
            before.gap.last = gap.last;
            before.gap.items += gap.items;
            return;
        }
        self.0.insert(at, Entry { gap, counted: false });
    }

    /// The gap that an offset is in.
    pub(super) fn at(&self, offset: u64) -> Option<Gap> {
        let at = self.0.partition_point(|entry| entry.gap.last < offset);
        self.0.get(at).map(|entry| entry.gap).filter(|gap| gap.first <= offset)
    }

    /// Remembers that a gap is counted. Answers whether that is new.
    pub(super) fn count(&mut self, offset: u64) -> bool {
        let at = self.0.partition_point(|entry| entry.gap.last < offset);
        self.0.get_mut(at).is_some_and(|entry| !std::mem::replace(&mut entry.counted, true))
    }

    /// Forgets what is decided.
    pub(super) fn cut(&mut self, decided: u64) {
        while let Some(front) = self.0.front_mut().filter(|entry| entry.gap.first <= decided) {
            if front.gap.last > decided && front.counted {
                front.gap.first = decided + 1;
                break;
            }
            // With a spool, the rest of a gap that the server had a part of comes back from there,
            // with its true number of items.
            self.0.pop_front();
        }
    }

    /// Takes from the spool's gaps what is not known here.
    pub(super) fn absorb(&mut self, gaps: &[Gap]) {
        for gap in gaps {
            let mut items = gap.items;
            let mut missing = Vec::new();
            let mut at = gap.first;
            for Entry { gap: known, .. } in &self.0 {
                if known.last < gap.first || known.first > gap.last {
                    continue;
                }
                if at < known.first {
                    missing.push((at, known.first - 1));
                }
                items = items.saturating_sub(known.items);
                at = known.last + 1;
            }
            if at <= gap.last {
                missing.push((at, gap.last));
            }
            for (first, last) in missing {
                self.insert(Gap { first, last, items: std::mem::take(&mut items), ..*gap }, u64::MAX);
            }
        }
    }
}

/// The counter of a reason, as the wire names it.
pub(super) fn skip_reason(reason: GapReason) -> herdstream_proto::v1::SkipReason {
    use herdstream_proto::v1::SkipReason;
    match reason {
        GapReason::Evicted => SkipReason::Evicted,
        GapReason::Expired => SkipReason::Expired,
        GapReason::Poisoned => SkipReason::Poisoned,
        GapReason::Lost => SkipReason::Lost,
    }
}
