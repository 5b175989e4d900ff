//! Appending to the log of this opening.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
};

use uuid::Uuid;

use super::{
    Frame, Log, SpoolError,
    durable::{create_new, make_dir, sync_data, sync_dir, truncate, write_at},
    frame::Header,
    segment::{self, Segment},
};

/// The segment that grows.
#[derive(Debug)]
pub(super) struct Active {
    file: File,
    path: PathBuf,
    name: u64,
    /// End of the last frame that was accepted.
    len: u64,
}

/// Bytes gathered before they are written: several small frames in one call to the system.
const GATHER: usize = 256 << 10;

impl Log {
    /// Appends batches; when it returns they are on the disk, written and synced.
    ///
    /// All of them go into one segment. One call costs one sync, whatever their number.
    ///
    /// # Errors
    ///
    /// `Full` if they do not fit, `OutOfOrder` if they are not the next ones, `Closed` if an earlier
    /// opening wrote this log, `Io` if the disk refuses. None of them is accepted then, and the same
    /// offsets may be appended later.
    pub(crate) fn append(&self, frames: &[Frame]) -> Result<(), SpoolError> {
        let mut writer = self.writer.lock();
        let (expected, items_before) = {
            let state = self.state.lock();
            if !self.fresh || state.removed {
                return Err(SpoolError::Closed { producer_id: self.producer_id });
            }
            (state.next_offset, state.items)
        };
        for (frame, expected) in frames.iter().zip(expected..) {
            if frame.offset != expected {
                return Err(SpoolError::OutOfOrder { expected, given: frame.offset });
            }
        }
        let needed: u64 = frames.iter().map(Frame::size).sum();
        let (held, max) = (self.shared.held(), self.shared.max_bytes);
        if held.saturating_add(needed) > max {
            return Err(SpoolError::Full { needed, held, max });
        }
        if frames.is_empty() {
            return Ok(());
        }

        let mut active = match writer.take() {
            Some(active) if active.len + needed <= self.shared.segment_bytes => active,
            _ => self.start_segment(expected)?,
        };
        let started = active.len == 0;
        active
            .append(self.producer_id, frames, items_before)
            .map_err(SpoolError::io("write", &active.path))?;

        let items_end = frames.iter().fold(items_before, |items, frame| items + u64::from(frame.items));
        let mut state = self.state.lock();
        self.changing(&mut state, |state| {
            let last = expected + frames.len() as u64 - 1;
            let bytes = active.len;
            match state.segments.back_mut() {
                Some(tail) if !started => *tail = Segment { last, items_end, bytes, ..*tail },
                _ => state.segments.push_back(Segment {
                    name: active.name,
                    first: expected,
                    last,
                    items_before,
                    items_end,
                    bytes,
                }),
            }
            state.tail_open = true;
            state.next_offset = last + 1;
            state.items = items_end;
            Ok(())
        })?;
        *writer = Some(active);
        Ok(())
    }

    fn start_segment(&self, first: u64) -> Result<Active, SpoolError> {
        if !self.dir.is_dir() {
            make_dir(&self.dir)?;
            // Now, so that neither acks nor evictions need room on a disk that has become full.
            let mut state = self.state.lock();
            self.changing(&mut state, |state| {
                state.ack_file.write(0, true)?;
                state.gaps.reserve()
            })?;
        }
        let path = segment::path(&self.dir, first);
        // A file of this name is the rest of an append that failed: nothing in it was accepted.
        let file = match create_new(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                fs::remove_file(&path).and_then(|()| create_new(&path))
            }
            created => created,
        }
        .map_err(SpoolError::io("create", &path))?;
        sync_dir(&self.dir)?;
        Ok(Active { file, path, name: first, len: 0 })
    }
}

impl Active {
    /// Writes and syncs frames, or takes back what was written of them.
    ///
    /// After an error the segment takes no more: when a sync failed, the system may take pages for clean
    /// that never reached the disk, and a second sync of the same file would succeed without them.
    /// Should the cut fail as well, the name of the next segment tells where this one ends.
    fn append(&mut self, producer: Uuid, frames: &[Frame], items_before: u64) -> io::Result<()> {
        let written = self.write(producer, frames, items_before);
        match written.and_then(|end| sync_data(&self.file).map(|()| end)) {
            Ok(end) => self.len = end,
            Err(error) => {
                let _ = truncate(&self.file, self.len);
                if self.len == 0 {
                    let _ = fs::remove_file(&self.path);
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// Writes the frames behind the accepted ones and answers with their end.
    fn write(&self, producer: Uuid, frames: &[Frame], mut items: u64) -> io::Result<u64> {
        let mut at = self.len;
        let mut gathered = Vec::new();
        for frame in frames {
            let header = Header::of(frame, items);
            items = header.items_end();
            gathered.extend_from_slice(&header.encode(producer));
            gathered.extend_from_slice(&frame.batch);
            if gathered.len() >= GATHER {
                write_at(&self.file, &gathered, at)?;
                at += gathered.len() as u64;
                gathered.clear();
            }
        }
        write_at(&self.file, &gathered, at)?;
        Ok(at + gathered.len() as u64)
    }
}
