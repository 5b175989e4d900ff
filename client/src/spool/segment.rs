//! Segments: the files of a log, each named by the first offset that may lie in it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    SpoolError,
    frame::{Found, Walk},
};

/// What is known of a segment without reading it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Segment {
    /// The offset in the file's name.
    pub(super) name: u64,
    /// First and last offset of the frames in it; `last < first` when there are none.
    pub(super) first: u64,
    pub(super) last: u64,
    /// Items of the log before the first frame and after the last one.
    pub(super) items_before: u64,
    pub(super) items_end: u64,
    /// Length of the file, without what a failed append left behind.
    pub(super) bytes: u64,
}

impl Segment {
    pub(super) fn path(&self, log: &Path) -> PathBuf {
        path(log, self.name)
    }
}

pub(super) fn path(log: &Path, name: u64) -> PathBuf {
    log.join(format!("{name:020}.segment"))
}

/// The names of the segments in a log's directory, in order.
pub(super) fn names(log: &Path) -> Result<Vec<u64>, SpoolError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(log).map_err(SpoolError::io("list", log))? {
        let entry = entry.map_err(SpoolError::io("list", log))?;
        let name = entry.file_name();
        let offset = name.to_str().and_then(|name| name.strip_suffix(".segment")?.parse().ok());
        // What has another name is not ours: it is left alone.
        names.extend(offset.filter(|&offset| offset > 0 && path(log, offset).file_name() == Some(&name)));
    }
    names.sort_unstable();
    Ok(names)
}

/// What a segment holds, in order of offsets.
#[derive(Clone, Copy, Debug)]
pub(super) enum Piece {
    /// A frame whose header holds.
    Frame(Found),
    /// Offsets that were assigned and cannot be found.
    Hole { first: u64, last: u64, items: Option<u64> },
}

/// Goes through a segment and names every offset between the place where it starts and the place
/// where it ends: as a frame or as part of a hole.
#[derive(Debug)]
pub(super) struct Survey {
    walk: Walk,
    place: Place,
    /// Frames from this offset on are not of this segment: a later one has them.
    limit: u64,
    /// Where the segment is known to end.
    end: Option<Place>,
    /// A frame that waits behind the hole before it.
    found: Option<Found>,
    over: bool,
    failed: bool,
}

/// An offset that is still to come, with the items of the log before it as far as they are known.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) items: Option<u64>,
}

impl Place {
    /// The hole from here to `to`.
    pub(super) fn hole_to(self, to: Place) -> Option<Piece> {
        let items = self.items.zip(to.items).map(|(from, to)| to.saturating_sub(from));
        (self.offset < to.offset).then(|| Piece::Hole { first: self.offset, last: to.offset - 1, items })
    }
}

impl Survey {
    /// Goes on with `walk` from `place`; stops before the offset `limit`.
    pub(super) fn new(walk: Walk, place: Place, limit: u64) -> Self {
        Self { walk, place, limit, end: None, found: None, over: false, failed: false }
    }

    /// A survey of a segment whose extent is known.
    pub(super) fn of(producer: Uuid, segment: &Segment) -> Self {
        let start = Place { offset: segment.first, items: Some(segment.items_before) };
        Self::within(Walk::new(producer, 0, segment.bytes), start, segment)
    }

    /// The same, from a place inside it.
    pub(super) fn within(walk: Walk, place: Place, segment: &Segment) -> Self {
        let end = Place { offset: segment.last + 1, items: Some(segment.items_end) };
        Self { end: Some(end), ..Self::new(walk, place, segment.last + 1) }
    }

    /// The place behind the last piece.
    pub(super) fn place(&self) -> Place {
        self.place
    }

    /// Whether the disk failed before the end.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    /// End of the last frame found.
    pub(super) fn pos(&self) -> u64 {
        self.walk.pos()
    }

    /// The next piece.
    ///
    /// An error of the disk ends the survey; what it could not reach is its last hole, if its end is known.
    pub(super) fn next(&mut self, file: &File) -> Option<Piece> {
        let found = match self.found.take() {
            Some(found) => Some(found),
            None => self.find(file).unwrap_or_else(|error| {
                tracing::warn!(%error, "a spool segment cannot be read to its end");
                self.failed = true;
                None
            }),
        };
        let Some(found) = found else {
            self.over = true;
            let end = self.end?;
            let hole = self.place.hole_to(end);
            self.place = end;
            return hole;
        };
        let start = Place { offset: found.header.offset, items: Some(found.header.items_before) };
        if let Some(hole) = self.place.hole_to(start) {
            self.place = start;
            self.found = Some(found);
            return Some(hole);
        }
        self.place = Place { offset: found.header.offset + 1, items: Some(found.header.items_end()) };
        Some(Piece::Frame(found))
    }

    /// The next frame that is in its place: left-overs of a failed append are passed.
    fn find(&mut self, file: &File) -> io::Result<Option<Found>> {
        while !self.over {
            match self.walk.next(file)? {
                Some(found) if (self.place.offset..self.limit).contains(&found.header.offset) => {
                    return Ok(Some(found));
                }
                Some(_) => {}
                None => break,
            }
        }
        Ok(None)
    }
}
