//! Reading a log.

use std::{fs::File, io};

use super::{
    Frame, Log, SpoolError,
    frame::{Header, Walk},
    segment::{Piece, Place, Segment, Survey},
};

/// Where the last read ended, so that reading on does not search the segment from its start.
#[derive(Debug)]
pub(super) struct Cursor {
    file: File,
    name: u64,
    pos: u64,
    place: Place,
}

impl Log {
    /// Reads batches in order from `from_offset` on: as many as stay below `max_bytes`, but one at
    /// least if there is one. None at all means the end.
    ///
    /// Offsets that are passed are acked, or in a gap: a batch that turns out unreadable before it is
    /// acked becomes one of reason `Lost`.
    ///
    /// # Errors
    ///
    /// `Io` if the disk refuses; a batch counts as lost only if that can be recorded, so that a disk
    /// that is gone altogether loses nothing.
    pub(crate) fn read(&self, from_offset: u64, max_bytes: usize) -> Result<Vec<Frame>, SpoolError> {
        let mut cursor = self.cursor.lock();
        let mut from = from_offset;
        let mut frames = Vec::new();
        let mut bytes = 0;
        loop {
            let Some(segment) = self.state.lock().segment_from(from) else { return Ok(frames) };
            let Some(reading) = self.resume(cursor.take(), &segment, from)? else { continue };
            let Cursor { file, name, pos, place } = reading;
            let walk = Walk::new(self.producer_id, pos, segment.bytes);
            let mut survey = Survey::within(walk, place, &segment);
            while let Some(piece) = survey.next(&file) {
                let found = match piece {
                    Piece::Frame(found) => found,
                    Piece::Hole { first, last, items } => {
                        self.lose(first, last, items)?;
                        continue;
                    }
                };
                let header = found.header;
                if header.offset < from || self.state.lock().in_gap(header.offset) {
                    continue;
                }
                if !frames.is_empty() && bytes + header.payload_len > max_bytes as u64 {
                    let place = Place { offset: header.offset, items: Some(header.items_before) };
                    *cursor = Some(Cursor { file, name, pos: found.at, place });
                    return Ok(frames);
                }
                let Header { offset, items, sealed_us, .. } = header;
                match found.payload(&file) {
                    Ok(Some(batch)) => {
                        bytes += header.payload_len;
                        frames.push(Frame { offset, items, sealed_us, batch });
                    }
                    Ok(None) | Err(_) => self.lose(offset, offset, Some(u64::from(items)))?,
                }
            }
            from = segment.last + 1;
            *cursor = Some(Cursor { file, name, pos: survey.pos(), place: survey.place() });
            if bytes >= max_bytes as u64 && !frames.is_empty() {
                return Ok(frames);
            }
        }
    }

    /// The cursor if it stands before `from` in this segment, else a new one at the segment's start;
    /// nothing if the segment has gone in the meantime.
    fn resume(
        &self,
        cursor: Option<Cursor>,
        segment: &Segment,
        from: u64,
    ) -> Result<Option<Cursor>, SpoolError> {
        if let Some(cursor) = cursor.filter(|it| it.name == segment.name && it.place.offset <= from) {
            return Ok(Some(cursor));
        }
        let path = segment.path(&self.dir);
        match File::open(&path) {
            Ok(file) => {
                let place = Place { offset: segment.first, items: Some(segment.items_before) };
                Ok(Some(Cursor { file, name: segment.name, pos: 0, place }))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.forget(segment)?;
                Ok(None)
            }
            Err(error) => Err(SpoolError::io("open", &path)(error)),
        }
    }

    /// Gives up a segment whose file is not there, unless it was trimmed while we looked.
    fn forget(&self, segment: &Segment) -> Result<(), SpoolError> {
        let mut state = self.state.lock();
        let Some(at) = state.segments.iter().position(|other| other.name == segment.name) else {
            return Ok(());
        };
        let items = segment.items_end - segment.items_before;
        self.changing(&mut state, |state| {
            state.lose(segment.first, segment.last, Some(items))?;
            state.segments.remove(at);
            Ok(())
        })
    }

    fn lose(&self, first: u64, last: u64, items: Option<u64>) -> Result<(), SpoolError> {
        self.changing(&mut self.state.lock(), |state| state.lose(first, last, items))
    }
}
