//! Random operations on a spool, each compared with a model that keeps everything in memory.

use std::{collections::BTreeMap, fs::OpenOptions, os::unix::fs::FileExt};

use proptest::{collection::vec, prelude::*, sample::Index};

use super::*;
use crate::spool::{
    durable::faults::{self, Faults},
    frame::{HEADER, Header},
    segment,
};

const MAX_BYTES: u64 = 40_000;
const SEGMENT_BYTES: u64 = 1_500;

/// Items and bytes of batches.
type Batches = Vec<(u32, usize)>;

/// Batches of which a part reached the disk, that part, and whether as zeros.
type Torn = (Batches, Index, bool);

#[derive(Clone, Debug)]
enum Op {
    Append {
        batches: Batches,
        faults: Option<(u32, bool)>,
    },
    Ack {
        log: Index,
        to: Index,
        beyond: bool,
        failed_sync: bool,
    },
    Evict {
        log: Index,
        bytes: u64,
        not_after: Index,
        expired: bool,
        failed_sync: bool,
    },
    Poison {
        log: Index,
        offset: Index,
    },
    Read {
        log: Index,
        from: Index,
        max_bytes: usize,
    },
    Remove {
        log: Index,
    },
    /// The process ends, at times while it appends: the disk has a part of the last batches, or zeros.
    Restart {
        torn: Option<Torn>,
    },
    /// A bit changes on the disk, while the spool is open or while it is not.
    Flip {
        log: Index,
        frame: Index,
        bit: Index,
        open: bool,
    },
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let batches = || vec((1_u32..5, prop_oneof![0_usize..300, Just(2_000)]), 1..6);
    let any_index = any::<Index>;
    vec(
        prop_oneof![
            8 => (batches(), proptest::option::weighted(0.2, (0_u32..3, any::<bool>())))
                .prop_map(|(batches, faults)| Op::Append { batches, faults }),
            3 => (any_index(), any_index(), proptest::bool::weighted(0.05), proptest::bool::weighted(0.1))
                .prop_map(|(log, to, beyond, failed_sync)| Op::Ack { log, to, beyond, failed_sync }),
            3 => (any_index(), 0_u64..6_000, any_index(), any::<bool>(), proptest::bool::weighted(0.2))
                .prop_map(|(log, bytes, not_after, expired, failed_sync)|
                    Op::Evict { log, bytes, not_after, expired, failed_sync }),
            1 => (any_index(), any_index()).prop_map(|(log, offset)| Op::Poison { log, offset }),
            2 => (any_index(), any_index(), 0_usize..2_000)
                .prop_map(|(log, from, max_bytes)| Op::Read { log, from, max_bytes }),
            1 => any_index().prop_map(|log| Op::Remove { log }),
            2 => proptest::option::of((batches(), any_index(), any::<bool>()))
                .prop_map(|torn| Op::Restart { torn }),
            1 => (any_index(), any_index(), any_index(), any::<bool>())
                .prop_map(|(log, frame, bit, open)| Op::Flip { log, frame, bit, open }),
        ],
        1..50,
    )
}

/// What became of a batch, as far as the spool goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Held,
    Gone(GapReason),
}

#[derive(Debug)]
struct Batch {
    frame: Frame,
    fate: Fate,
}

#[derive(Debug, Default)]
struct ModelLog {
    batches: BTreeMap<u64, Batch>,
    acked: u64,
    /// A header was damaged: from then on the items of what is lost may be unknown.
    vague: bool,
}

impl ModelLog {
    fn next(&self) -> u64 {
        self.batches.last_key_value().map_or(1, |(last, _)| last + 1)
    }

    fn next_frames(&self, batches: &[(u32, usize)]) -> Vec<Frame> {
        let frame = |(offset, &(items, len)): (u64, &(u32, usize))| Frame {
            offset,
            items,
            sealed_us: offset as i64 * 1_000_000,
            batch: Bytes::from(vec![offset as u8; len]),
        };
        (self.next()..).zip(batches).map(frame).collect()
    }

    fn accept(&mut self, frames: Vec<Frame>) {
        self.batches
            .extend(frames.into_iter().map(|frame| (frame.offset, Batch { frame, fate: Fate::Held })));
    }

    fn items(&self) -> u64 {
        self.batches.values().map(|batch| u64::from(batch.frame.items)).sum()
    }

    fn give_up(&mut self, gaps: &[Gap]) {
        for gap in gaps {
            for (_, batch) in self.batches.range_mut(gap.first..=gap.last) {
                assert_eq!(batch.fate, Fate::Held, "{gap:?} gives up {} again", batch.frame.offset);
                batch.fate = Fate::Gone(gap.reason);
            }
        }
    }
}

struct World {
    config: SpoolConfig,
    spool: Option<Spool>,
    /// The logs left by earlier openings in their order, then the fresh one.
    logs: Vec<(Log, ModelLog)>,
    _dir: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let dir = memory_dir();
        let config =
            SpoolConfig { dir: dir.path().join("spool"), max_bytes: MAX_BYTES, segment_bytes: SEGMENT_BYTES };
        let mut world = Self { config, spool: None, logs: Vec::new(), _dir: dir };
        world.restart();
        world
    }

    /// Ends the process, as far as the disk can see, and starts it again.
    fn restart(&mut self) {
        // The lock is shared with the logs: all must be gone before the next opening.
        self.spool = None;
        let before = self.logs.drain(..).map(|(log, model)| (log.producer_id(), model));
        let mut before: BTreeMap<_, _> = before.collect();
        let (spool, fresh, left) = Spool::open(&self.config).unwrap();
        for log in left {
            let model = before.remove(&log.producer_id()).expect("a log out of nothing");
            self.logs.push((log, model));
        }
        for (id, model) in before {
            assert_eq!(model.acked + 1, model.next(), "log {id} was not drained and is gone");
        }
        self.logs.push((fresh, ModelLog::default()));
        self.spool = Some(spool);
    }

    fn path_of(&self, log: usize, name: u64) -> PathBuf {
        segment::path(&self.logs[log].0.dir, name)
    }

    /// Where a batch lies: the segment's name, the place in it, and whether it is the last segment.
    fn find(&self, log: usize, offset: u64) -> Option<(u64, u64, bool)> {
        let (log, model) = &self.logs[log];
        let names = if log.dir.is_dir() { segment::names(&log.dir).unwrap() } else { Vec::new() };
        let name = *names.iter().rfind(|name| **name <= offset)?;
        let before: u64 = model.batches.range(name..offset).map(|(_, batch)| batch.frame.size()).sum();
        Some((name, before, names.last() == Some(&name)))
    }

    fn run(&mut self, op: &Op) {
        let count = self.logs.len();
        match op {
            Op::Append { batches, faults } => self.append(batches, *faults),
            Op::Ack { log, to, beyond, failed_sync } => {
                let (log, model) = &mut self.logs[log.index(count)];
                let to = if *beyond { u64::MAX } else { to.index(model.next() as usize) as u64 };
                faults::order(Faults { failed_sync_after: failed_sync.then_some(0), ..Faults::default() });
                // An ack holds whatever the disk says.
                let acked = log.ack(to);
                assert!(acked.is_ok() || faults::spent(), "{acked:?}");
                model.acked = model.acked.max(to.min(model.next() - 1));
            }
            Op::Evict { log, bytes, not_after, expired, failed_sync } => {
                let (log, model) = &mut self.logs[log.index(count)];
                let not_after = not_after.index(model.next() as usize + 1) as u64;
                let reason = if *expired { GapReason::Expired } else { GapReason::Evicted };
                faults::order(Faults { failed_sync_after: failed_sync.then_some(0), ..Faults::default() });
                evict(log, model, *bytes, not_after, reason);
            }
            Op::Poison { log, offset } => {
                let (log, model) = &mut self.logs[log.index(count)];
                let offset = offset.index(model.next() as usize + 1) as u64;
                let held = model.batches.get_mut(&offset).filter(|batch| batch.fate == Fate::Held);
                match held.filter(|_| offset > model.acked) {
                    Some(batch) => {
                        let path = log.poison(offset).unwrap();
                        assert_eq!(fs::read(path).unwrap(), batch.frame.batch);
                        batch.fate = Fate::Gone(GapReason::Poisoned);
                    }
                    None => assert!(matches!(log.poison(offset), Err(SpoolError::NotHeld { .. }))),
                }
            }
            Op::Read { log, from, max_bytes } => {
                let (log, model) = &self.logs[log.index(count)];
                let from = from.index(model.next() as usize + 1) as u64;
                let frames = log.read(from, *max_bytes).unwrap();
                let bytes: usize = frames.iter().map(|frame| frame.batch.len()).sum();
                assert!(frames.len() <= 1 || bytes <= *max_bytes, "{bytes} of {max_bytes}");
                let whole = log.read(from, usize::MAX).unwrap();
                assert_eq!(frames, whole[..frames.len()]);
                assert_eq!(frames.is_empty(), whole.is_empty());
            }
            Op::Remove { log } => {
                let at = log.index(count);
                let (log, model) = &self.logs[at];
                if model.acked + 1 == model.next() {
                    log.remove().unwrap();
                    assert!(!log.dir.exists());
                    // The last one is the log of this opening: a producer that removed it is done.
                    if at + 1 == count { self.restart() } else { drop(self.logs.remove(at)) }
                } else {
                    assert!(matches!(log.remove(), Err(SpoolError::NotDrained { .. })));
                }
            }
            Op::Restart { torn: None } => self.restart(),
            Op::Restart { torn: Some((batches, cut, zeros)) } => self.tear(batches, *cut, *zeros),
            Op::Flip { log, frame, bit, open } => self.flip(log.index(count), *frame, *bit, *open),
        }
        faults::order(Faults::default());
        self.check();
    }

    fn append(&mut self, batches: &[(u32, usize)], faults: Option<(u32, bool)>) {
        let (log, model) = self.logs.last_mut().unwrap();
        let held = log.shared.held();
        let frames = model.next_frames(batches);
        let needed: u64 = frames.iter().map(Frame::size).sum();
        if let Some((after, sync)) = faults {
            faults::order(Faults {
                short_write_after: (!sync).then_some(after),
                failed_sync_after: sync.then_some(after),
                ..Faults::default()
            });
        }
        match log.append(&frames) {
            Ok(()) => {
                assert!(held + needed <= MAX_BYTES);
                model.accept(frames);
            }
            Err(SpoolError::Full { .. }) => assert!(held + needed > MAX_BYTES),
            Err(error) => assert!(faults.is_some() && faults::spent(), "{error:?}"),
        }
    }

    /// Ends in the middle of an append.
    fn tear(&mut self, batches: &[(u32, usize)], cut: Index, zeros: bool) {
        let (log, model) = self.logs.last_mut().unwrap();
        let frames = model.next_frames(batches);
        if !log.dir.is_dir() {
            return self.restart();
        }
        let mut items = model.items();
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for frame in &frames {
            let header = Header::of(frame, items);
            items = header.items_end();
            bytes.extend_from_slice(&header.encode(log.producer_id()));
            bytes.extend_from_slice(&frame.batch);
            ends.push(bytes.len());
        }
        bytes.truncate(cut.index(bytes.len() + 1));
        // All zeros: the length of the file reached the disk, its data did not.
        let whole = if zeros { 0 } else { ends.iter().filter(|end| **end <= bytes.len()).count() };
        if zeros {
            bytes.fill(0);
        }
        let name = segment::names(&log.dir).unwrap().last().copied().unwrap_or(model.next());
        let path = segment::path(&log.dir, name);
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
        let len = file.metadata().unwrap().len();
        file.write_all_at(&bytes, len).unwrap();
        let torn = (bytes.len() - whole.checked_sub(1).map_or(0, |last| ends[last])) as u64;
        model.accept(frames.into_iter().take(whole).collect());
        let (id, vague, drained) = (log.producer_id(), model.vague, model.acked + 1 == model.next());
        self.restart();
        match self.logs.iter().find(|(log, _)| log.producer_id() == id) {
            // A batch at the end whose header is damaged is cut off with the rest.
            Some((log, _)) => {
                let found = log.recovered().torn_bytes;
                assert!(found == torn || vague && found > torn, "{found} torn, not {torn}");
            }
            None => assert!(drained),
        }
    }

    fn flip(&mut self, at: usize, frame: Index, bit: Index, open: bool) {
        let model = &self.logs[at].1;
        if model.batches.is_empty() {
            return;
        }
        let offset = 1 + frame.index(model.batches.len()) as u64;
        let Some((name, place, last_segment)) = self.find(at, offset) else { return };
        let path = self.path_of(at, name);
        let size = model.batches[&offset].frame.size();
        let bit = bit.index(size as usize * 8);
        let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
        let mut byte = [0];
        if file.read_exact_at(&mut byte, place + bit as u64 / 8).is_err() {
            // It was damaged before and cut off with the end.
            return;
        }
        byte[0] ^= 1 << (bit % 8);
        file.write_all_at(&byte, place + bit as u64 / 8).unwrap();

        let header = bit / 8 < HEADER;
        let model = &mut self.logs[at].1;
        model.vague |= header;
        // A last frame without a header is taken for a torn one when the log is opened.
        let tail = model.next() - 1 == offset && header && last_segment && !open;
        let batch = model.batches.get_mut(&offset).unwrap();
        let known = matches!(batch.fate, Fate::Gone(_));
        if !known {
            batch.fate = Fate::Gone(GapReason::Lost);
        }
        if tail && !known && offset > model.acked {
            model.batches.remove(&offset);
        }
        if !open {
            self.restart();
        }
    }

    fn check(&self) {
        let mut on_disk = 0;
        for (log, model) in &self.logs {
            assert_eq!(log.next_offset(), model.next());
            assert_eq!(log.acked(), model.acked);
            let mut read = Vec::new();
            loop {
                let from = read.last().map_or(1, |last: &Frame| last.offset + 1);
                let frames = log.read(from, 700).unwrap();
                if frames.is_empty() {
                    break;
                }
                read.extend(frames);
            }
            for pair in read.windows(2) {
                assert!(pair[0].offset < pair[1].offset);
            }
            for frame in &read {
                let batch = &model.batches[&frame.offset];
                assert_eq!(frame, &batch.frame);
                assert_eq!(batch.fate, Fate::Held, "offset {} can be read", frame.offset);
            }
            let unacked = model.batches.range(model.acked + 1..);
            let held: Vec<_> =
                unacked.filter(|(_, batch)| batch.fate == Fate::Held).map(|(offset, _)| *offset).collect();
            let readable: Vec<_> =
                read.iter().map(|frame| frame.offset).filter(|offset| *offset > model.acked).collect();
            assert_eq!(readable, held);
            check_gaps(&log.gaps(), model);
            // From the first retained offset on there is nothing that is neither readable nor in a gap.
            let first = log.first_retained();
            let mut known: Vec<_> = log.gaps().iter().flat_map(|gap| gap.first..=gap.last).collect();
            known.extend(read.iter().map(|frame| frame.offset));
            known.sort_unstable();
            known.retain(|offset| *offset >= first);
            assert!(
                known.is_empty() || known == (first..model.next()).collect::<Vec<_>>(),
                "{known:?} from {first}"
            );
            assert!(first == model.next() || read.iter().any(|frame| frame.offset == first), "{first}");
            assert_eq!(log.bytes(), bytes_in(&log.dir));
            on_disk += log.bytes();
        }
        assert_eq!(self.logs[0].0.shared.held(), on_disk);
    }
}

fn check_gaps(gaps: &[Gap], model: &ModelLog) {
    let mut fates = BTreeMap::new();
    for gap in gaps {
        assert!(gap.first > model.acked && gap.first <= gap.last && gap.last < model.next(), "{gap:?}");
        fates.extend((gap.first..=gap.last).map(|offset| (offset, gap.reason)));
        let batches = model.batches.range(gap.first..=gap.last);
        let items: u64 = batches.map(|(_, batch)| u64::from(batch.frame.items)).sum();
        let vague = gap.reason == GapReason::Lost && model.vague;
        assert!(gap.items == items || vague && gap.items < items, "{gap:?} held {items} items");
    }
    let gone = model.batches.range(model.acked + 1..).filter_map(|(offset, batch)| match batch.fate {
        Fate::Gone(reason) => Some((*offset, reason)),
        Fate::Held => None,
    });
    assert_eq!(fates, gone.collect());
}

fn evict(log: &Log, model: &mut ModelLog, bytes: u64, not_after: u64, reason: GapReason) {
    let (before, gaps_before) = (log.bytes(), log.gaps());
    let gaps = match log.evict(bytes, not_after, reason) {
        Ok(gaps) => gaps,
        Err(error) => {
            assert!(faults::spent(), "{error:?}");
            // Either nothing was recorded, or it was and only the trimming failed: acked segments stay.
            let gaps = log.gaps();
            if gaps == gaps_before {
                return;
            }
            // Those that touch older ones of their reason are made one: only the new part counts.
            let old = |offset| gaps_before.iter().any(|gap| (gap.first..=gap.last).contains(&offset));
            for offset in gaps.iter().flat_map(|gap| gap.first..=gap.last).filter(|offset| !old(*offset)) {
                model.batches.get_mut(&offset).unwrap().fate = Fate::Gone(reason);
            }
            return;
        }
    };
    assert!(gaps.iter().all(|gap| gap.reason == reason && gap.first > model.acked && gap.last <= not_after));
    model.give_up(&gaps);
    // The oldest went first.
    if let Some(last) = gaps.last() {
        let left =
            model.batches.range(model.acked + 1..last.last).find(|(_, batch)| batch.fate == Fate::Held);
        assert!(left.is_none(), "{left:?} was passed");
    }
    // Enough went, or the next segment may not go.
    let freed = before.saturating_sub(log.bytes());
    let state = log.state.lock();
    let next = state.segment_from(state.first_retained());
    let stuck = match reason {
        GapReason::Expired => next.is_none_or(|_| {
            model
                .batches
                .range(model.acked + 1..=not_after.max(model.acked + 1))
                .all(|(offset, batch)| *offset > not_after || batch.fate != Fate::Held)
        }),
        _ => next.is_none_or(|segment| segment.last > not_after),
    };
    // Records of gaps take some room of what was freed.
    assert!(freed + 8_192 >= bytes || stuck, "freed {freed} of {bytes}, and {next:?} could go");
}

fn bytes_in(dir: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(dir) else { return 0 };
    let entries = entries.map(Result::unwrap).filter(|entry| entry.file_name() != "acked");
    entries.map(|entry| entry.metadata().unwrap().len()).sum()
}

proptest! {
    #[test]
    fn random_operations_keep_every_batch_or_name_its_fate(ops in ops()) {
        let mut world = World::new();
        for op in &ops {
            world.run(op);
        }
        world.restart();
        world.check();
    }
}
