//! Where data of a run lies.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use tempfile::TempDir;

/// A directory for a run: the user's, which stays, or one that goes with it.
#[derive(Debug)]
pub(crate) enum Place {
    Given(PathBuf),
    Temporary(TempDir),
}

impl Place {
    /// Takes the directory that is given, or makes one on a disk: in memory, a sync costs nothing and
    /// the figures would mean nothing.
    pub(crate) fn choose(given: Option<&Path>) -> Result<Self> {
        if let Some(given) = given {
            fs::create_dir_all(given).with_context(|| format!("creating {}", given.display()))?;
            return Ok(Self::Given(
                fs::canonicalize(given).with_context(|| format!("resolving {}", given.display()))?,
            ));
        }
        let places = [PathBuf::from("/var/tmp"), env::temp_dir(), env::current_dir().unwrap_or_default()];
        let on_disk = places.iter().find(|dir| dir.is_dir() && !in_memory(dir));
        let dir = on_disk.unwrap_or(&places[1]);
        let made = tempfile::Builder::new().prefix("herdstream-loadtest-").tempdir_in(dir);
        Ok(Self::Temporary(made.with_context(|| format!("creating a directory in {}", dir.display()))?))
    }

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Given(path) => path,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

/// Whether what is written there only goes to memory.
#[cfg(target_os = "linux")]
pub(crate) fn in_memory(dir: &Path) -> bool {
    /// What statfs(2) calls a file system that lives in memory.
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    rustix::fs::statfs(dir).is_ok_and(|stat| stat.f_type == TMPFS_MAGIC)
}

/// Whether what is written there only goes to memory: not known here.
#[cfg(not(target_os = "linux"))]
pub(crate) fn in_memory(_dir: &Path) -> bool {
    false
}
