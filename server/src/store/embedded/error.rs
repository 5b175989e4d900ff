//! Why a directory cannot be opened.

use std::{io, path::PathBuf};

use crate::store::StoreError;

/// Why a directory cannot be opened. Unless it says otherwise, nothing in it was touched.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error(
        "{dir} is in use by another herdstream process: stop that one, or give this one a directory of its own"
    )]
    InUse {
        /// The directory.
        dir: PathBuf,
    },
    /// It holds something else.
    #[error(
        "{dir} holds '{entry}', which is not herdstream's: choose an empty directory, or one that does not exist"
    )]
    Foreign {
        /// The directory.
        dir: PathBuf,
        /// What was found.
        entry: String,
    },
    /// A later version wrote it.
    #[error(
        "{dir} has format {found}, and this version knows up to {known}: use the version that wrote it, or a later one"
    )]
    Newer {
        /// The directory.
        dir: PathBuf,
        /// Its format.
        found: u32,
        /// Ours.
        known: u32,
    },
    /// It is ours and cannot be read.
    #[error("{dir} is damaged ({what}): restore it from a backup, or move it away to start empty")]
    Damaged {
        /// The directory.
        dir: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// It was removed, moved away, unmounted or replaced while it was open.
    #[error(
        "{dir} is no longer the directory that was opened: put that back, or restart to use what is there"
    )]
    Gone {
        /// The directory.
        dir: PathBuf,
    },
    /// The file system refused.
    #[error("{dir} cannot be opened: check that it is a directory, can be written and has space")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The engine could not start.
    #[error("{dir} cannot be opened")]
    Engine {
        /// The directory.
        dir: PathBuf,
        /// Why.
        source: StoreError,
    },
}
