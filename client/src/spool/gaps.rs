//! Offsets of a log that will never be sent, and why: the file `gaps` beside the segments.
//!
//! Each record is a frame (see `frame.rs`) whose offset is the first of the gap and whose payload is
//! the reason and the items of every offset, run by run. A record is synced before the bytes it speaks
//! of are removed, so that at any moment an offset is in a segment, in a gap, or acked.

use std::{
    fs::{File, OpenOptions},
    io,
    path::{Path, PathBuf},
};

use bytes::{Buf, Bytes};
use prost::encoding::{decode_varint, encode_varint};
use uuid::Uuid;

use super::{
    SpoolError,
    durable::{open_or_create, sync_data, sync_dir, truncate, write_at},
    frame::{Found, Frame, HEADER, Header, Walk},
};

/// Consecutive offsets that a log will never send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Gap {
    pub(crate) first: u64,
    pub(crate) last: u64,
    /// Readings and milkings in it, as far as known.
    pub(crate) items: u64,
    pub(crate) reason: GapReason,
}

/// Why a gap is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum GapReason {
    /// Removed to make room.
    Evicted = 1,
    /// Too old to be worth sending.
    Expired = 2,
    /// Refused by the server for good, and kept in the poison directory.
    Poisoned = 3,
    /// Unreadable on the disk.
    Lost = 4,
}

/// Offsets with the items of each, in runs of equal items: what a gap is made from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Runs(Vec<(u64, u64)>);

impl Runs {
    /// Adds `offsets` offsets of `items` items each.
    pub(super) fn push(&mut self, offsets: u64, items: u64) {
        match self.0.last_mut() {
            Some((run, each)) if *each == items => *run += offsets,
            _ if offsets > 0 => self.0.push((offsets, items)),
            _ => {}
        }
    }

    /// `offsets` offsets of which only the sum of the items is known: it counts for the last one, so
    /// that a gap that is cut from the front never shrinks below what may be missing.
    pub(super) fn sum(offsets: u64, items: u64) -> Self {
        let mut runs = Self::default();
        runs.push(offsets - 1, 0);
        runs.push(1, items);
        runs
    }

    /// How many offsets there are.
    pub(super) fn offsets(&self) -> u64 {
        self.0.iter().fold(0, |sum, (run, _)| sum.saturating_add(*run))
    }

    /// The gap that they make from `first` on.
    pub(super) fn gap(&self, first: u64, reason: GapReason) -> Gap {
        Gap { first, last: first.saturating_add(self.offsets() - 1), items: self.items_behind(0), reason }
    }

    /// Items of all offsets behind the first `skipped` ones.
    fn items_behind(&self, mut skipped: u64) -> u64 {
        let mut items = 0_u64;
        for &(run, each) in &self.0 {
            let passed = skipped.min(run);
            skipped -= passed;
            items = items.saturating_add((run - passed).saturating_mul(each));
        }
        items
    }

    fn encode(&self, reason: GapReason) -> Bytes {
        let mut bytes = vec![reason as u8];
        for &(run, each) in &self.0 {
            encode_varint(run, &mut bytes);
            encode_varint(each, &mut bytes);
        }
        bytes.into()
    }

    fn decode(mut bytes: Bytes) -> Option<(GapReason, Self)> {
        let reason = match bytes.try_get_u8().ok()? {
            1 => GapReason::Evicted,
            2 => GapReason::Expired,
            3 => GapReason::Poisoned,
            4 => GapReason::Lost,
            _ => return None,
        };
        let mut runs = Self::default();
        while bytes.has_remaining() {
            runs.push(decode_varint(&mut bytes).ok()?, decode_varint(&mut bytes).ok()?);
        }
        (!runs.0.is_empty()).then_some((reason, runs))
    }
}

/// Makes one of those that touch and have the same reason.
pub(super) fn merged(gaps: impl Iterator<Item = Gap>) -> Vec<Gap> {
    let mut merged: Vec<Gap> = Vec::new();
    for gap in gaps {
        match merged.last_mut() {
            Some(before) if before.last + 1 == gap.first && before.reason == gap.reason => {
                before.last = gap.last;
                before.items = before.items.saturating_add(gap.items);
            }
            _ => merged.push(gap),
        }
    }
    merged
}

/// A gap, and where its record lies.
#[derive(Clone, Copy, Debug)]
struct Record {
    /// As it was recorded, but for the items: those up to the offset `cut` are taken off.
    gap: Gap,
    cut: u64,
    /// The frame in the file; nothing when it could not be written.
    found: Option<Found>,
}

/// Bytes of zeros kept behind the last record: room for dozens of records.
const RESERVE: u64 = 4096;

/// The gaps of one log.
#[derive(Debug)]
pub(super) struct Gaps {
    path: PathBuf,
    producer: Uuid,
    file: Option<File>,
    /// Length of the file up to the end of the last whole record.
    len: u64,
    /// Length of the file with the zeros behind it.
    reserved: u64,
    /// Disjoint, in order of offsets. Those that are acked are kept while a segment may still hold their frames.
    records: Vec<Record>,
}

impl Gaps {
    /// No gaps, in a log that may not even have a directory.
    pub(super) fn new(log: &Path, producer: Uuid) -> Self {
        Self { path: log.join("gaps"), producer, file: None, len: 0, reserved: 0, records: Vec::new() }
    }

    /// Reads what was recorded. A record that is torn or damaged is passed: its bytes are then missing
    /// without a reason and count as lost, unless they are still there.
    pub(super) fn open(log: &Path, producer: Uuid) -> Result<Self, SpoolError> {
        let mut gaps = Self::new(log, producer);
        match OpenOptions::new().read(true).write(true).open(&gaps.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(gaps),
            Err(error) => Err(SpoolError::io("open", &gaps.path)(error)),
            Ok(file) => {
                gaps.load(&file).map_err(SpoolError::io("read", &gaps.path))?;
                gaps.file = Some(file);
                Ok(gaps)
            }
        }
    }

    fn load(&mut self, file: &File) -> io::Result<()> {
        self.reserved = file.metadata()?.len();
        let mut walk = Walk::new(self.producer, 0, self.reserved);
        while let Some(found) = walk.next(file)? {
            self.len = found.end();
            if let Some((reason, runs)) = found.payload(file)?.and_then(Runs::decode) {
                self.insert(found.header.offset, reason, &runs, Some(found));
            }
        }
        Ok(())
    }

    /// Bytes on the disk.
    pub(super) fn bytes(&self) -> u64 {
        self.reserved
    }

    /// Takes room for the next records, so that batches can be given up when the disk is full.
    pub(super) fn reserve(&mut self) -> Result<(), SpoolError> {
        if self.reserved < self.len + RESERVE / 2 { self.put(&[0; RESERVE as usize]) } else { Ok(()) }
    }

    /// Records gaps, and returns when they are durable. Nothing has changed after an error.
    pub(super) fn record(&mut self, gaps: &[(u64, GapReason, Runs)]) -> Result<(), SpoolError> {
        let mut bytes = Vec::new();
        let mut found = Vec::with_capacity(gaps.len());
        for (first, reason, runs) in gaps {
            let batch = runs.encode(*reason);
            let header =
                Header::of(&Frame { offset: *first, items: 0, sealed_us: 0, batch: batch.clone() }, 0);
            found.push(Found { at: self.len + bytes.len() as u64, header });
            bytes.reserve(HEADER + batch.len());
            bytes.extend_from_slice(&header.encode(self.producer));
            bytes.extend_from_slice(&batch);
        }
        self.write(&bytes)?;
        for ((first, reason, runs), found) in gaps.iter().zip(found) {
            self.insert(*first, *reason, runs, Some(found));
        }
        Ok(())
    }

    /// Takes gaps that could not be recorded: the next opening finds them again.
    pub(super) fn remember(&mut self, gaps: &[(u64, GapReason, Runs)]) {
        for (first, reason, runs) in gaps {
            self.insert(*first, *reason, runs, None);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.put(bytes)?;
        self.len += bytes.len() as u64;
        // Should this fail, the next record finds its room or does not.
        let _ = self.reserve();
        Ok(())
    }

    /// Writes behind the last record and syncs.
    ///
    /// What could not be synced is cut off and written again with the next record, so that a page that
    /// the system took for clean after the failure is dirty again.
    fn put(&mut self, bytes: &[u8]) -> Result<(), SpoolError> {
        let len = self.len;
        let file = self.file()?;
        if let Err(error) = write_at(file, bytes, len).and_then(|()| sync_data(file)) {
            if truncate(file, len).is_ok() {
                self.reserved = len;
            }
            return Err(SpoolError::io("write", &self.path)(error));
        }
        self.reserved = self.reserved.max(len + bytes.len() as u64);
        Ok(())
    }

    fn file(&mut self) -> Result<&File, SpoolError> {
        if self.file.is_none() {
            let file = open_or_create(&self.path).map_err(SpoolError::io("create", &self.path))?;
            sync_dir(self.path.parent().expect("the file lies in its log's directory"))?;
            self.file = Some(file);
        }
        Ok(self.file.as_ref().expect("set above"))
    }

    fn insert(&mut self, first: u64, reason: GapReason, runs: &Runs, found: Option<Found>) {
        let gap = runs.gap(first, reason);
        let at = self.records.partition_point(|record| record.gap.last < first);
        // Only a file that was put together from two copies has overlapping records.
        if self.records.get(at).is_none_or(|next| next.gap.first > gap.last) {
            self.records.insert(at, Record { gap, cut: first.saturating_sub(1), found });
        }
    }

    /// The gaps behind `acked`, up to which they have been cut, in order.
    pub(super) fn after(&self, acked: u64) -> Vec<Gap> {
        let gaps = self.records.iter().map(|record| record.gap).filter(|gap| gap.last > acked);
        merged(gaps.map(|gap| Gap { first: gap.first.max(acked + 1), ..gap }))
    }

    /// The gap that holds `offset`, else the next one.
    pub(super) fn from(&self, offset: u64) -> Option<Gap> {
        let at = self.records.partition_point(|record| record.gap.last < offset);
        self.records.get(at).map(|record| record.gap)
    }

    /// The last gap that starts before `offset`.
    pub(super) fn before(&self, offset: u64) -> Option<Gap> {
        let at = self.records.partition_point(|record| record.gap.first < offset);
        self.records[..at].last().map(|record| record.gap)
    }

    /// The last offset that is in a gap.
    pub(super) fn last(&self) -> Option<u64> {
        self.records.last().map(|record| record.gap.last)
    }

    /// Takes off what is acked, so that a gap tells only of what the server did not have. Gaps below
    /// `held` are forgotten: no segment holds their frames any more.
    pub(super) fn cut(&mut self, acked: u64, held: u64) {
        self.records.retain(|record| record.gap.last > acked || record.gap.last >= held);
        for at in 0..self.records.len() {
            let record = self.records[at];
            if (record.cut + 1..record.gap.last).contains(&acked) {
                self.records[at].gap.items = self.items_after(&record, acked);
                self.records[at].cut = acked;
            }
        }
    }

    /// Items of the offsets behind `acked`, read from the record: memory holds only the sum.
    fn items_after(&self, record: &Record, acked: u64) -> u64 {
        let Record { gap, cut, found } = record;
        let payload = found.zip(self.file.as_ref()).and_then(|(found, file)| found.payload(file).ok()?);
        if let Some((_, runs)) = payload.and_then(Runs::decode) {
            return runs.items_behind(acked + 1 - gap.first);
        }
        // The record is damaged: assume that the offsets held the same each.
        let share = u128::from(gap.items) * u128::from(gap.last - acked) / u128::from(gap.last - cut);
        u64::try_from(share).expect("a share of a u64")
    }

    /// Empties the file once no gap is left, but for the room that it keeps.
    ///
    /// Nothing is synced: records that come back after a power cut tell of what is acked.
    pub(super) fn compact(&mut self) -> Result<(), SpoolError> {
        if let Some(file) = self.file.as_ref().filter(|_| self.records.is_empty() && self.len > 0) {
            write_at(file, &[0; RESERVE as usize], 0)
                .and_then(|()| truncate(file, RESERVE))
                .map_err(SpoolError::io("empty", &self.path))?;
            (self.len, self.reserved) = (0, RESERVE);
        }
        Ok(())
    }
}
