//! The few file operations on which durability rests, each with its errors named.

use std::{
    fs::{DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::Path,
};

use super::SpoolError;

/// Makes the entries of a directory durable: a file that was synced can still vanish in a power cut
/// as long as its name was not.
pub(super) fn sync_dir(dir: &Path) -> Result<(), SpoolError> {
    #[cfg(test)]
    faults::sync().map_err(SpoolError::io("sync directory", dir))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(SpoolError::io("sync directory", dir))
}

/// Makes a directory, and those above it that are missing, readable by the owner only.
pub(super) fn make_dir(dir: &Path) -> Result<(), SpoolError> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = match dir.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    make_dir(parent)?;
    match DirBuilder::new().mode(0o700).create(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        made => made.map_err(SpoolError::io("create directory", dir))?,
    }
    sync_dir(parent)
}

/// Creates a file that must not exist, readable by the owner only. Its name is not durable yet.
pub(super) fn create_new(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path)
}

/// Opens a file for reading and writing, and creates it if it is missing, readable by the owner only.
pub(super) fn open_or_create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(path)
}

pub(super) fn write_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    #[cfg(test)]
    let bytes = match faults::short_write(bytes.len()) {
        Some(written) => {
            file.write_all_at(&bytes[..written], at)?;
            return Err(io::ErrorKind::StorageFull.into());
        }
        None => bytes,
    };
    file.write_all_at(bytes, at)
}

/// Syncs a file's data, and what of its metadata is needed to read them back, to the disk.
pub(super) fn sync_data(file: &File) -> io::Result<()> {
    #[cfg(test)]
    faults::sync()?;
    file.sync_data()
}

pub(super) fn truncate(file: &File, len: u64) -> io::Result<()> {
    #[cfg(test)]
    faults::truncate()?;
    file.set_len(len)
}

/// Faults of the disk that a test orders for its own thread.
#[cfg(test)]
pub(super) mod faults {
    use std::{cell::RefCell, io};

    #[derive(Clone, Copy, Debug, Default)]
    pub(in crate::spool) struct Faults {
        /// The write after so many good ones stops after half its bytes, as on a full disk.
        pub(in crate::spool) short_write_after: Option<u32>,
        /// The sync after so many good ones fails.
        pub(in crate::spool) failed_sync_after: Option<u32>,
        /// No file can be cut while set.
        pub(in crate::spool) no_truncate: bool,
    }

    thread_local!(static FAULTS: RefCell<Faults> = RefCell::default());

    pub(in crate::spool) fn order(faults: Faults) {
        FAULTS.with_borrow_mut(|now| *now = faults);
    }

    /// Whether everything ordered has happened.
    pub(in crate::spool) fn spent() -> bool {
        FAULTS.with_borrow(|now| now.short_write_after.is_none() && now.failed_sync_after.is_none())
    }

    fn due(left: &mut Option<u32>) -> bool {
        match left {
            Some(0) => {
                *left = None;
                true
            }
            Some(n) => {
                *n -= 1;
                false
            }
            None => false,
        }
    }

    pub(super) fn short_write(len: usize) -> Option<usize> {
        FAULTS.with_borrow_mut(|now| due(&mut now.short_write_after)).then_some(len / 2)
    }

    pub(super) fn sync() -> io::Result<()> {
        let failed = FAULTS.with_borrow_mut(|now| due(&mut now.failed_sync_after));
        if failed { Err(io::Error::other("ordered failure of a sync")) } else { Ok(()) }
    }

    pub(super) fn truncate() -> io::Result<()> {
        if FAULTS.with_borrow(|now| now.no_truncate) {
            return Err(io::Error::other("ordered failure of a truncation"));
        }
        Ok(())
    }
}
