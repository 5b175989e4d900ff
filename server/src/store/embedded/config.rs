use std::path::PathBuf;

use crate::config::Config;

/// How the embedded store is set up.
#[derive(Clone, Debug)]
pub struct EmbeddedConfig {
    /// Its directory, created if absent.
    pub dir: PathBuf,
    /// Bytes of readings held in memory before they are written out as a table. While that goes on, two
    /// times as much may be held besides.
    pub memtable_bytes: u64,
    /// Bytes of the journal on disk, at least 64 MiB: what a start after a crash reads at most.
    pub journal_bytes: u64,
    /// Bytes of blocks read from disk and kept.
    pub cache_bytes: u64,
    /// With less free space than this, nothing is written. Up to half of it is set aside in a file, and used to drop
    /// what is too old when the disk is full to its end. 0: no bound, and nothing is set aside.
    pub min_free_bytes: u64,
}

impl EmbeddedConfig {
    /// The defaults, in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            memtable_bytes: 16 << 20,
            journal_bytes: 128 << 20,
            cache_bytes: 16 << 20,
            min_free_bytes: 256 << 20,
        }
    }
}

impl From<&Config> for EmbeddedConfig {
    fn from(config: &Config) -> Self {
        let store = &config.store;
        Self {
            dir: store.data_dir.clone(),
            memtable_bytes: store.memtable.as_u64(),
            journal_bytes: store.journal.as_u64(),
            cache_bytes: store.cache.as_u64(),
            min_free_bytes: store.min_free.as_u64(),
        }
    }
}
