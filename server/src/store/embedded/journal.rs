//! The end of fjall's journal, looked at before fjall does.
//!
//! A power cut tears only what no sync had covered: the end of the last journal. The disk writes its
//! sectors in any order, so that a torn batch may be cut off or have holes of zeros. fjall gives up on
//! such a hole, and silently drops everything after any other byte it does not understand. Here a torn end
//! is cut off, and other damage, which may lie before acknowledged commits, is reported.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use xxhash_rust::xxh3::Xxh3;

use crate::store::StoreError;

/// A disk writes this much or nothing of it.
const SECTOR: usize = 512;

/// What fjall writes first into a directory that it creates.
const VERSION_FILE: &str = "version";

const START: u8 = 1;
const ITEM: u8 = 2;
const END: u8 = 3;
const CLEAR: u8 = 4;
const TRAILER: [u8; 4] = *b"FJL\x03";

/// Cuts a torn batch off the last journal in the engine's directory.
///
/// # Errors
///
/// When the journal is damaged otherwise, or cannot be read or cut.
pub(super) fn settle(engine: &Path) -> Result<(), StoreError> {
    let unreadable = |source: io::Error| {
        let what = format!("the journal in {} cannot be read: {source}", engine.display());
        StoreError::Unavailable(what, Some(source.into()))
    };
    let Some(journal) = last_journal(engine).map_err(unreadable)? else {
        // fjall would begin another, without what was committed last.
        return if engine.join(VERSION_FILE).exists() {
            Err(StoreError::Damaged(format!("the journal in {} is missing", engine.display())))
        } else {
            Ok(())
        };
    };
    let mut file = OpenOptions::new().read(true).write(true).open(&journal).map_err(unreadable)?;
    let data_end = data_end(&mut file).map_err(unreadable)?;
    let Scan { valid_end, reached } = scan(&mut file).map_err(unreadable)?;
    if valid_end >= data_end {
        return Ok(());
    }
    if !is_torn(&mut file, valid_end, reached, data_end).map_err(unreadable)? {
        return Err(StoreError::Damaged(format!(
            "{} does not make sense from byte {valid_end} on",
            journal.display()
        )));
    }
    tracing::warn!(journal = %journal.display(), valid_end, data_end, "a commit that a crash interrupted is cut off");
    file.set_len(valid_end).and_then(|()| file.sync_all()).map_err(unreadable)
}

/// The journal that was written last.
fn last_journal(engine: &Path) -> io::Result<Option<PathBuf>> {
    let entries = match fs::read_dir(engine) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut last = None;
    for entry in entries {
        let path = entry?.path();
        let number =
            path.file_name().and_then(|name| name.to_str()?.strip_suffix(".jnl")?.parse::<u64>().ok());
        last = last.max(number.map(|number| (number, path)));
    }
    Ok(last.map(|(_, path)| path))
}

/// Where the zeros begin that the file was made of.
fn data_end(file: &mut File) -> io::Result<u64> {
    let mut end = file.metadata()?.len();
    let mut buffer = vec![0; 1 << 16];
    while end > 0 {
        let start = end.saturating_sub(buffer.len() as u64);
        let piece = &mut buffer[..(end - start) as usize];
        file.seek(SeekFrom::Start(start))?;
        file.read_exact(piece)?;
        if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
            return Ok(start + last as u64 + 1);
        }
        end = start;
    }
    Ok(0)
}

/// Whether what begins at `start` was written in part, rather than damaged: what leads beyond the end of the data is
/// cut off, unless a length in it is not true.
fn is_torn(file: &mut File, start: u64, reached: u64, data_end: u64) -> io::Result<bool> {
    Ok(has_hole(file, start, data_end)? || (reached > data_end && !has_end(file, start, data_end)?))
}

/// Whether a sector between two positions was not written: it holds nothing, or nothing from `start` on.
fn has_hole(file: &mut File, start: u64, end: u64) -> io::Result<bool> {
    file.seek(SeekFrom::Start(start))?;
    let mut reader = BufReader::with_capacity(1 << 16, file.take(end - start));
    let mut sector = [0; SECTOR];
    let rest = &mut sector[..(start.next_multiple_of(SECTOR as u64) - start).min(end - start) as usize];
    reader.read_exact(rest)?;
    if !rest.is_empty() && rest.iter().all(|byte| *byte == 0) {
        return Ok(true);
    }
    loop {
        match reader.read_exact(&mut sector) {
            Ok(()) if sector == [0; SECTOR] => return Ok(true),
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

/// Whether a batch that begins at `start` was written to its end: that of the data, or where a whole one follows.
fn has_end(file: &mut File, start: u64, end: u64) -> io::Result<bool> {
    let mut data = Vec::new();
    file.seek(SeekFrom::Start(start))?;
    file.by_ref().take(end - start).read_to_end(&mut data)?;
    let is_end = |at: usize| {
        let rest = &data[at..];
        let mut batches = Batches { reader: rest, position: 0, bytes: Vec::new() };
        rest.is_empty() || batches.next().is_ok_and(|is_whole| is_whole)
    };
    let mut trailers =
        data.windows(TRAILER.len()).zip(TRAILER.len()..).filter(|(bytes, _)| *bytes == TRAILER);
    Ok(trailers.any(|(_, at)| is_end(at)))
}

struct Scan {
    /// End of the last batch that is complete and matches its checksum.
    valid_end: u64,
    /// How far the one after it could be followed.
    reached: u64,
}

fn scan(file: &mut File) -> io::Result<Scan> {
    file.seek(SeekFrom::Start(0))?;
    let mut batches =
        Batches { reader: BufReader::with_capacity(1 << 16, file), position: 0, bytes: Vec::new() };
    let mut valid_end = 0;
    loop {
        match batches.next() {
            Ok(true) => valid_end = batches.position,
            Ok(false) => return Ok(Scan { valid_end, reached: batches.position }),
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Ok(Scan { valid_end, reached: u64::MAX });
            }
            Err(error) => return Err(error),
        }
    }
}

/// Follows batches: a start with a count, that many items, an end with their checksum.
struct Batches<R> {
    reader: R,
    position: u64,
    bytes: Vec<u8>,
}

impl<R: Read> Batches<R> {
    /// Passes one batch; false if it is none.
    fn next(&mut self) -> io::Result<bool> {
        let [START, count @ .., _, _, _, _, _, _, _, _] = self.array::<13>()? else { return Ok(false) };
        let mut hasher = Xxh3::new();
        for _ in 0..u32::from_le_bytes(count) {
            self.bytes.clear();
            match self.array()? {
                [ITEM] => {
                    self.bytes.push(ITEM);
                    let header: [u8; 20] = self.array()?;
                    let [_, _, _, _, _, _, _, _, _, _, key @ .., _, _, _, _, v0, v1, v2, v3] = header;
                    let len =
                        usize::from(u16::from_le_bytes(key)) + u32::from_le_bytes([v0, v1, v2, v3]) as usize;
                    self.bytes.extend(header);
                    self.take(len)?;
                }
                [CLEAR] => {
                    self.bytes.push(CLEAR);
                    self.take(8)?;
                }
                _ => return Ok(false),
            }
            hasher.update(&self.bytes);
        }
        let [END, checksum @ .., t0, t1, t2, t3] = self.array::<13>()? else { return Ok(false) };
        Ok([t0, t1, t2, t3] == TRAILER && u64::from_le_bytes(checksum) == hasher.digest())
    }

    fn array<const N: usize>(&mut self) -> io::Result<[u8; N]> {
        let mut array = [0; N];
        self.reader.read_exact(&mut array)?;
        self.position += N as u64;
        Ok(array)
    }

    /// Reads on into `bytes`; a length that is not true costs no more memory than there is file.
    fn take(&mut self, len: usize) -> io::Result<()> {
        let read = self.reader.by_ref().take(len as u64).read_to_end(&mut self.bytes)?;
        self.position += read as u64;
        if read == len { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

#[cfg(test)]
mod tests;
