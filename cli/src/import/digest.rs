//! Who a file is: its content, and what changes its rows.

use std::{fs, io::Read as _, os::unix::fs::MetadataExt as _, path::Path};

use anyhow::{Context as _, Result};
use uuid::Uuid;
use xxhash_rust::xxh3::Xxh3;

use super::{Reading, source::open_file};

/// The producer of a file's log.
pub(super) fn producer(file: &Path, reading: &Reading, delimiter: u8) -> Result<Uuid> {
    let mut hasher = Xxh3::new();
    let mut content = open_file(file)?;
    let mut piece = vec![0; 1 << 20];
    loop {
        let len = content.read(&mut piece).with_context(|| format!("cannot read {}", file.display()))?;
        if len == 0 {
            break;
        }
        hasher.update(&piece[..len]);
    }
    // Not whether bad rows are skipped: an import that stopped at one goes on with the flag, and up to there its blocks
    // are the same.
    let reading = Reading { skip_bad_rows: false, ..reading.clone() };
    // The way a file is cut into blocks belongs to it, too.
    hasher.update(format!("{reading:?} {} {}", super::run::BLOCK_ROWS, super::run::BLOCK_BYTES).as_bytes());
    // Commas are not told, as they were not before there was a choice.
    if delimiter != b',' {
        hasher.update(&[delimiter]);
    }
    Ok(Uuid::new_v8(hasher.digest128().to_be_bytes()))
}

/// What is another as soon as somebody writes to a file, or puts another in its place.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Version {
    place: (u64, u64),
    bytes: u64,
    modified: (i64, i64),
}

impl Version {
    pub(super) fn of(file: &Path) -> Result<Self> {
        let now = fs::metadata(file).with_context(|| format!("cannot look at {}", file.display()))?;
        Ok(Self {
            place: (now.dev(), now.ino()),
            bytes: now.len(),
            modified: (now.mtime(), now.mtime_nsec()),
        })
    }
}
