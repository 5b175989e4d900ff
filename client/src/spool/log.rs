//! A log: the batches of one producer.

use std::{
    fs,
    path::PathBuf,
    sync::{Arc, atomic::Ordering},
};

use parking_lot::{Mutex, MutexGuard};
use uuid::Uuid;

use super::{
    Gap, GapReason, Recovered, Shared, SpoolError,
    acked::AckFile,
    append::Active,
    durable::{create_new, make_dir, sync_dir, write_at},
    gaps::{Gaps, Runs, merged},
    read::Cursor,
    segment::{Piece, Survey},
    state::State,
};

/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// Ending of a log's directory while it is being removed.
pub(super) const REMOVED: &str = ".removed";

/// The batches of one producer on the disk. Every call may block on the disk.
#[derive(Debug)]
pub(crate) struct Log {
    pub(super) shared: Arc<Shared>,
    pub(super) producer_id: Uuid,
    pub(super) dir: PathBuf,
    /// Written by this opening, and so open for more.
    pub(super) fresh: bool,
    pub(super) recovered: Recovered,
    /// Taken before `state` where both are needed, and held while the disk syncs: reading goes on.
    pub(super) writer: Mutex<Option<Active>>,
    pub(super) cursor: Mutex<Option<Cursor>>,
    pub(super) state: Mutex<State>,
}

impl Log {
    /// An empty log. Its directory is made by the first append, so that openings that send nothing
    /// leave nothing, and a spool on a full disk can still be opened and drained.
    pub(super) fn fresh(shared: &Arc<Shared>, producer_id: Uuid) -> Self {
        let dir = shared.dir.join(producer_id.to_string());
        let state = State {
            segments: [].into(),
            tail_open: false,
            gaps: Gaps::new(&dir, producer_id),
            ack_file: AckFile::new(&dir, producer_id),
            acked: 0,
            intact_from: 1,
            next_offset: 1,
            items: 0,
            removed: false,
        };
        Self::new(shared, producer_id, dir, true, Recovered::default(), state)
    }

    pub(super) fn new(
        shared: &Arc<Shared>,
        producer_id: Uuid,
        dir: PathBuf,
        fresh: bool,
        recovered: Recovered,
        state: State,
    ) -> Self {
        shared.held.fetch_add(state.bytes(), Ordering::Relaxed);
        Self {
            shared: shared.clone(),
            producer_id,
            dir,
            fresh,
            recovered,
            writer: Mutex::default(),
            cursor: Mutex::default(),
            state: Mutex::new(state),
        }
    }

    /// The producer whose batches these are.
    pub(crate) fn producer_id(&self) -> Uuid {
        self.producer_id
    }

    /// Lowest offset from which on every batch can be read, or is in one of the `gaps`; `next_offset`
    /// if none can be read.
    ///
    /// Batches that are acked stay readable until their segment goes, for a server that was restored
    /// from an older state.
    pub(crate) fn first_retained(&self) -> u64 {
        self.state.lock().first_retained()
    }

    /// One past the highest offset ever assigned, whatever became of it.
    pub(crate) fn next_offset(&self) -> u64 {
        self.state.lock().next_offset
    }

    /// The highest ack recorded. 0: none.
    pub(crate) fn acked(&self) -> u64 {
        self.state.lock().acked
    }

    /// Offsets behind the last ack that will never be sent, in order. May grow while reading, when
    /// damage is found.
    pub(crate) fn gaps(&self) -> Vec<Gap> {
        let state = self.state.lock();
        state.gaps.after(state.acked)
    }

    /// Bytes on the disk.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.lock().bytes()
    }

    /// What the opening found damaged.
    pub(crate) fn recovered(&self) -> &Recovered {
        &self.recovered
    }

    /// Takes the server's word that everything up to `committed_offset` has its fate. Segments that
    /// hold nothing else are removed, and gaps are cut: what the server had was stored, not given up.
    ///
    /// Returns before this is durable. An offset never assigned counts as the last one that was.
    ///
    /// # Errors
    ///
    /// `Io` if a segment cannot be removed. The ack holds all the same, and the next one tries again.
    pub(crate) fn ack(&self, committed_offset: u64) -> Result<(), SpoolError> {
        let mut state = self.state.lock();
        let acked = committed_offset.min(state.next_offset - 1);
        if acked <= state.acked || state.removed {
            return Ok(());
        }
        state.acked = acked;
        self.changing(&mut state, |state| state.trim(&self.dir))
    }

    /// Takes acks back, of a server that has nothing behind `committed_offset` any more: of the batches up
    /// to `acked`, those at the end that are all still held are as if never acked. Answers with them,
    /// their items beside their offsets, once that is durable.
    ///
    /// # Errors
    ///
    /// `Io` if the disk refuses; some of them may be as before then.
    pub(crate) fn unack(&self, committed_offset: u64, acked: u64) -> Result<Vec<(u64, u32)>, SpoolError> {
        let mut held: Vec<(u64, u32)> = Vec::new();
        let mut from = self.first_retained().max(committed_offset + 1);
        while from <= acked {
            let frames = self.read(from, READ_BYTES)?;
            let Some(last) = frames.last() else { break };
            let next = last.offset + 1;
            for frame in frames.iter().filter(|frame| frame.offset <= acked) {
                if held.last().is_some_and(|(before, _)| before + 1 != frame.offset) {
                    held.clear();
                }
                held.push((frame.offset, frame.items));
            }
            from = next;
        }
        if held.last().is_none_or(|(last, _)| *last != acked) {
            return Ok(Vec::new());
        }
        let mut state = self.state.lock();
        if held[0].0 <= state.acked {
            state.acked = held[0].0 - 1;
            let acked = state.acked;
            state.ack_file.write(acked, true)?;
        }
        Ok(held)
    }

    /// Gives up the oldest batches that are not acked, none after `not_after`, and answers with the new
    /// gaps, once they are recorded durably.
    ///
    /// Whole segments go until `bytes` are freed or `not_after` is reached: somewhat more than `bytes`
    /// may go, and nothing if not even one segment ends before `not_after`. Batches that are `Expired`
    /// are given up one by one, whether or not that frees anything. The room counts for the whole
    /// spool, but only this log is touched: evict from older logs first. The answer may contain gaps of
    /// reason `Lost`, where damage is found on the way.
    ///
    /// # Errors
    ///
    /// `Io` if the gaps cannot be recorded, and nothing has changed; or if a segment cannot be removed.
    pub(crate) fn evict(
        &self,
        bytes: u64,
        not_after: u64,
        reason: GapReason,
    ) -> Result<Vec<Gap>, SpoolError> {
        let mut writer = self.writer.lock();
        let mut state = self.state.lock();
        let (mut freed, mut tail_goes) = (0, false);
        let mut records = Vec::new();
        for segment in &state.segments {
            let whole = segment.last <= not_after;
            let some = reason == GapReason::Expired && segment.first <= not_after;
            if freed >= bytes || !(whole || some) {
                break;
            }
            freed += segment.bytes;
            tail_goes = whole && state.segments.back().is_some_and(|tail| tail.name == segment.name);
            let path = segment.path(&self.dir);
            let file = fs::File::open(&path).map_err(SpoolError::io("open", &path))?;
            let mut survey = Survey::of(self.producer_id, segment);
            while let Some(piece) = survey.next(&file) {
                match piece {
                    Piece::Frame(found) => {
                        let (offset, items) = (found.header.offset, u64::from(found.header.items));
                        if offset > not_after {
                            break;
                        }
                        if offset > state.acked && !state.in_gap(offset) {
                            push(&mut records, offset, reason, items);
                        }
                    }
                    Piece::Hole { last, .. } if last > not_after => break,
                    Piece::Hole { first, last, items } => records.extend(state.lost(first, last, items)),
                }
            }
        }
        self.changing(&mut state, |state| {
            if !records.is_empty() {
                state.gaps.record(&records)?;
            }
            if tail_goes && state.tail_open {
                // The file goes with its segment: the next append starts a new one.
                *writer = None;
                state.tail_open = false;
            }
            state.trim(&self.dir)
        })?;
        Ok(merged(records.iter().map(|(first, reason, runs)| runs.gap(*first, *reason))))
    }

    /// Moves a batch that the server refuses for good out of the log, into a file of its own, and
    /// answers with its path. The file holds the encoded `Batch`; it is kept until somebody removes it.
    ///
    /// # Errors
    ///
    /// `NotHeld` if the batch is acked, given up or unreadable; `Io` if the disk refuses: the batch is
    /// then still in the log.
    pub(crate) fn poison(&self, offset: u64) -> Result<PathBuf, SpoolError> {
        let not_held = || SpoolError::NotHeld { producer_id: self.producer_id, offset };
        let frame = self.read(offset, 0)?.into_iter().next();
        let frame = frame.filter(|frame| frame.offset == offset).ok_or_else(not_held)?;

        let dir = self.shared.dir.join("poison");
        make_dir(&dir)?;
        let path = dir.join(format!("{}-{offset}.batch", self.producer_id));
        let part = path.with_extension("part");
        // Under its name only when whole: a crash on the way leaves a part that the next try replaces.
        let _ = fs::remove_file(&part);
        create_new(&part)
            .and_then(|file| write_at(&file, &frame.batch, 0).and_then(|()| file.sync_all()))
            .map_err(SpoolError::io("write", &part))?;
        fs::rename(&part, &path).map_err(SpoolError::io("create", &path))?;
        sync_dir(&dir)?;

        let mut state = self.state.lock();
        if offset <= state.acked || state.in_gap(offset) {
            return Err(not_held());
        }
        let mut runs = Runs::default();
        runs.push(1, u64::from(frame.items));
        self.changing(&mut state, |state| state.gaps.record(&[(offset, GapReason::Poisoned, runs)]))?;
        Ok(path)
    }

    /// Removes the log from the disk. It takes no more batches.
    ///
    /// # Errors
    ///
    /// `NotDrained` if an offset is not acked; `Io` if the disk refuses: the next opening goes on.
    pub(crate) fn remove(&self) -> Result<(), SpoolError> {
        let mut writer = self.writer.lock();
        *self.cursor.lock() = None;
        let mut state = self.state.lock();
        if state.acked + 1 < state.next_offset {
            let (producer_id, first, last) = (self.producer_id, state.acked + 1, state.next_offset - 1);
            return Err(SpoolError::NotDrained { producer_id, first, last });
        }
        *writer = None;
        if state.removed {
            return Ok(());
        }
        self.changing(&mut state, |state| {
            state.removed = true;
            state.segments.clear();
            state.gaps = Gaps::new(&self.dir, self.producer_id);
            Ok(())
        })?;
        if self.dir.is_dir() {
            // Renamed first: a directory that lost some of its files would look like a damaged log.
            let removed = self.shared.dir.join(format!("{}{REMOVED}", self.producer_id));
            fs::rename(&self.dir, &removed).map_err(SpoolError::io("rename", &self.dir))?;
            sync_dir(&self.shared.dir)?;
            fs::remove_dir_all(&removed).map_err(SpoolError::io("remove", &removed))?;
        }
        Ok(())
    }

    /// Makes a change and books its bytes, also when it fails half-way.
    pub(super) fn changing<T>(
        &self,
        state: &mut MutexGuard<'_, State>,
        change: impl FnOnce(&mut State) -> Result<T, SpoolError>,
    ) -> Result<T, SpoolError> {
        let before = state.bytes();
        let changed = change(state);
        // Wrapping: the difference may be negative, the sum is not.
        self.shared.held.fetch_add(state.bytes().wrapping_sub(before), Ordering::Relaxed);
        changed
    }
}

/// Adds an offset to the last of the gaps if it continues it, else as a new one.
fn push(records: &mut Vec<(u64, GapReason, Runs)>, offset: u64, reason: GapReason, items: u64) {
    if let Some((first, last_reason, runs)) = records.last_mut()
        && *last_reason == reason
        && *first + runs.offsets() == offset
    {
        runs.push(1, items);
        return;
    }
    let mut runs = Runs::default();
    runs.push(1, items);
    records.push((offset, reason, runs));
}
