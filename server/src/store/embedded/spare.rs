//! Room that is set aside while there is plenty, and given up when there is none: on a disk that others have
//! filled to its end, not even the note that a day is dropped could be written.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use rustix::fs::{FallocateFlags, fallocate};

use super::EmbeddedConfig;

const FILE: &str = "SPARE";

/// What notes, and tables of what has not been written out yet, may take besides a memtable.
const MARGIN_BYTES: u64 = 4 << 20;

/// A file in the store's directory that holds nothing.
pub(super) struct Spare {
    path: PathBuf,
    /// Part of the free space below which nothing is written; 0: none is kept.
    bytes: u64,
    is_kept: bool,
}

impl Spare {
    pub(super) fn new(config: &EmbeddedConfig) -> Self {
        let path = config.dir.join(FILE);
        let bytes = (config.memtable_bytes + MARGIN_BYTES).min(config.min_free_bytes / 2);
        let is_kept = fs::metadata(&path).is_ok_and(|file| file.len() == bytes);
        Self { path, bytes, is_kept }
    }

    /// Sets it aside if so much more than `min_free_bytes` is free; not at all where a file system cannot promise
    /// room.
    pub(super) fn keep(&mut self, free_bytes: u64, min_free_bytes: u64) {
        if self.is_kept || self.bytes == 0 || free_bytes < min_free_bytes.saturating_add(self.bytes) {
            return;
        }
        self.is_kept = true;
        let set_aside = || -> io::Result<()> {
            Ok(fallocate(File::create(&self.path)?, FallocateFlags::empty(), 0, self.bytes)?)
        };
        if let Err(error) = set_aside() {
            tracing::debug!(%error, path = %self.path.display(), "no room is set aside");
            let _ = fs::remove_file(&self.path);
        }
    }

    /// Gives it up if less is free.
    ///
    /// # Errors
    ///
    /// When the file cannot be removed.
    pub(super) fn give_up_below(&mut self, free_bytes: u64) -> io::Result<()> {
        if free_bytes >= self.bytes {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Ok(()) => tracing::warn!(bytes = self.bytes, "the disk is full: the room set aside is used now"),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        self.is_kept = false;
        Ok(())
    }
}

/// Bytes that the file system of `dir` would still give us.
pub(super) fn free_bytes(dir: &Path) -> io::Result<u64> {
    let stat = rustix::fs::statvfs(dir)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
