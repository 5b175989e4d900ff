//! The disk spool: batches that were accepted and are not acked yet, kept over crashes and power cuts.
//!
//! ```text
//! <dir>/herdstream-spool              mark with the format's version, and the lock
//! <dir>/<producer id>/<offset>.segment   frames, from that offset on (`frame.rs`, `segment.rs`)
//! <dir>/<producer id>/gaps            offsets that will never be sent, and why (`gaps.rs`)
//! <dir>/<producer id>/acked           the highest ack seen (`acked.rs`)
//! <dir>/poison/<producer id>-<offset>.batch   batches that the server refused for good
//! ```
//!
//! Every opening writes a log of its own under a fresh producer id and never adds to an older one: a
//! batch keeps its identity even if the directory is restored from a backup or cloned.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use uuid::Uuid;

mod acked;
mod append;
mod durable;
mod error;
mod frame;
mod gaps;
mod log;
mod read;
mod recover;
mod segment;
mod state;
#[cfg(test)]
mod tests;

pub use error::SpoolError;
pub(crate) use frame::Frame;
pub(crate) use gaps::{Gap, GapReason};
pub(crate) use log::Log;
pub(crate) use recover::Recovered;

/// Where a producer keeps what is not acked yet, and how much of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpoolConfig {
    /// Directory of this producer alone. Created, readable by the owner only, if it is missing.
    pub dir: PathBuf,
    /// Bytes that all logs in the directory may hold together. Poisoned batches do not count.
    pub max_bytes: u64,
    /// Bytes after which a log goes on in a new file; acks and evictions free whole files. At most an
    /// eighth of `max_bytes` is used.
    pub segment_bytes: u64,
}

impl SpoolConfig {
    /// A spool in `dir` of at most 1 GiB, in segments of 8 MiB.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into(), max_bytes: 1 << 30, segment_bytes: 8 << 20 }
    }
}

/// An open, locked spool directory. The lock is held until this and all its logs are gone.
#[derive(Debug)]
pub(crate) struct Spool {
    _shared: Arc<Shared>,
}

impl Spool {
    /// Opens the directory and locks it; answers with a log for new batches and those that earlier
    /// openings left, oldest first. Logs that were wholly acked are removed.
    ///
    /// Reads the headers of all frames and the payloads of each log's last segment only: damage
    /// elsewhere is found when it is read, and reported as a gap then.
    ///
    /// # Errors
    ///
    /// `InUse` if the directory is locked, `Foreign` or `Format` if it holds something else (which is
    /// then left untouched), `Io` if the disk refuses.
    pub(crate) fn open(config: &SpoolConfig) -> Result<(Self, Log, Vec<Log>), SpoolError> {
        durable::make_dir(&config.dir)?;
        let lock = lock(&config.dir)?;
        let shared = Arc::new(Shared {
            dir: config.dir.clone(),
            max_bytes: config.max_bytes,
            segment_bytes: config.segment_bytes.min(config.max_bytes / 8),
            held: AtomicU64::new(0),
            lock,
        });
        let mut left = Vec::new();
        for producer_id in logs(&config.dir)? {
            left.extend(Log::recover(&shared, producer_id)?);
        }
        // Version 7: ids sort by the time of their opening.
        let fresh = Log::fresh(&shared, Uuid::now_v7());
        Ok((Self { _shared: shared }, fresh, left))
    }
}

/// What the logs of a spool have in common.
#[derive(Debug)]
struct Shared {
    dir: PathBuf,
    max_bytes: u64,
    segment_bytes: u64,
    /// Bytes held by all logs.
    held: AtomicU64,
    lock: File,
}

impl Shared {
    fn held(&self) -> u64 {
        self.held.load(Ordering::Relaxed)
    }
}

impl Drop for Shared {
    /// Closing the file is not enough: a process that is being started at this moment has a copy of it.
    fn drop(&mut self) {
        let _ = self.lock.unlock();
    }
}

const MARK: &str = "herdstream-spool";
const FORMAT: &str = "herdstream spool 1\n";

/// Locks the directory through its mark, and gives a new directory its mark.
fn lock(dir: &Path) -> Result<File, SpoolError> {
    let path = dir.join(MARK);
    let unmarked = !path.try_exists().map_err(SpoolError::io("look for", &path))?;
    if unmarked && let Some(found) = foreign(dir)? {
        return Err(SpoolError::Foreign { dir: dir.to_owned(), found });
    }
    let mut file = durable::open_or_create(&path).map_err(SpoolError::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(SpoolError::InUse { dir: dir.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(SpoolError::io("lock", &path)(error)),
    }
    let mut format = String::new();
    let read = file.by_ref().take(256).read_to_string(&mut format);
    match read {
        Ok(_) if format == FORMAT => return Ok(file),
        // A crash while the mark was made leaves a part of it, and nothing beside it.
        Ok(_) if FORMAT.starts_with(&format) && foreign(dir)?.is_none() => {}
        Err(error) if error.kind() != io::ErrorKind::InvalidData => {
            return Err(SpoolError::io("read", &path)(error));
        }
        _ => {
            let (found, known) = (format.trim_end().to_owned(), FORMAT.trim_end());
            return Err(SpoolError::Format { dir: dir.to_owned(), found, known });
        }
    }
    durable::write_at(&file, FORMAT.as_bytes(), 0)
        .and_then(|()| durable::sync_data(&file))
        .map_err(SpoolError::io("write", &path))?;
    durable::sync_dir(dir)?;
    Ok(file)
}

/// An entry that a directory without a mark should not have. A fresh file system has `lost+found`.
fn foreign(dir: &Path) -> Result<Option<String>, SpoolError> {
    for entry in fs::read_dir(dir).map_err(SpoolError::io("list", dir))? {
        let name = entry.map_err(SpoolError::io("list", dir))?.file_name();
        if name != MARK && name != "lost+found" {
            return Ok(Some(name.to_string_lossy().into_owned()));
        }
    }
    Ok(None)
}

/// The logs in a directory, oldest first. What is neither a log nor a rest of one is left alone.
fn logs(dir: &Path) -> Result<Vec<Uuid>, SpoolError> {
    let mut logs = Vec::new();
    for entry in fs::read_dir(dir).map_err(SpoolError::io("list", dir))? {
        let entry = entry.map_err(SpoolError::io("list", dir))?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let (id, removed) = name.strip_suffix(log::REMOVED).map_or((&*name, false), |id| (id, true));
        let Some(producer_id) = Uuid::try_parse(id).ok().filter(|parsed| parsed.to_string() == id) else {
            continue;
        };
        if removed {
            fs::remove_dir_all(entry.path()).map_err(SpoolError::io("remove", entry.path()))?;
        } else {
            logs.push(producer_id);
        }
    }
    logs.sort_unstable();
    Ok(logs)
}
