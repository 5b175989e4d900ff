use std::{io, path::PathBuf};

/// Why the spool could not do what was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// Another process, or another producer of this one, has the directory.
    #[error("spool directory {} is in use: stop the other producer, or give this one a directory of its own", dir.display())]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// The directory holds something else. Nothing in it was touched.
    #[error("{} is no spool: it holds {found:?} but no mark of a spool; name a new or an empty directory", dir.display())]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// An entry that was found in it.
        found: String,
    },
    /// The directory has a format that this version does not know. Nothing in it was touched.
    #[error("spool {} has format {found:?}, this version knows format {known:?}: drain it with the version that wrote it", dir.display())]
    Format {
        /// The directory.
        dir: PathBuf,
        /// The format found.
        found: String,
        /// The only format that this version reads and writes.
        known: &'static str,
    },
    /// There is no room within the spool's bound. Nothing was written.
    #[error(
        "spool is full: {needed} bytes more on {held} held would exceed max_bytes = {max}; drain, evict, or raise it"
    )]
    Full {
        /// Bytes that were to be added.
        needed: u64,
        /// Bytes held by all logs of the spool.
        held: u64,
        /// The bound.
        max: u64,
    },
    /// A batch is not the next one of the log. Nothing was written.
    #[error("offset {given} cannot be appended: the next one is {expected}")]
    OutOfOrder {
        /// The next offset.
        expected: u64,
        /// The offset given.
        given: u64,
    },
    /// The log takes no more batches, since an earlier opening wrote it or it was removed: a producer
    /// continued from a restored copy would use an offset twice.
    #[error("log {producer_id} takes no more batches: append to the log of this opening")]
    Closed {
        /// The log's producer.
        producer_id: uuid::Uuid,
    },
    /// The batch is not, or no longer, in the log.
    #[error("log {producer_id} does not hold offset {offset}")]
    NotHeld {
        /// The log's producer.
        producer_id: uuid::Uuid,
        /// The offset.
        offset: u64,
    },
    /// The log cannot go: it has offsets that are not acked.
    #[error(
        "log {producer_id} holds offsets {first} to {last} that are not acked: drain it before removing it"
    )]
    NotDrained {
        /// The log's producer.
        producer_id: uuid::Uuid,
        /// First offset without an ack.
        first: u64,
        /// Last offset assigned.
        last: u64,
    },
    /// The disk or the file system refused.
    #[error("cannot {action} {}: check the disk's space and health and the directory's permissions", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl SpoolError {
    /// Names the action and the path for `map_err`.
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { action, path, source }
    }
}
