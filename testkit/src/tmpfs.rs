//! A small file system in memory, to be filled.

use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, ensure};

use crate::skip;

/// A file system of so many bytes; it goes when this is dropped.
#[derive(Debug)]
pub struct Tmpfs {
    directory: PathBuf,
    _parent: tempfile::TempDir,
}

impl Tmpfs {
    /// Mounts one. None, with the reason said, where that is not allowed: it needs root.
    ///
    /// # Panics
    ///
    /// It is not allowed, where `CI` is set.
    pub fn mount(bytes: u64) -> Option<Self> {
        match Self::try_mount(bytes) {
            Ok(mounted) => Some(mounted),
            Err(error) => skip(&format!("a tmpfs cannot be mounted: {error:#}")),
        }
    }

    fn try_mount(bytes: u64) -> Result<Self> {
        let parent = tempfile::Builder::new().prefix("herdstream-tmpfs-").tempdir()?;
        // Another user than the test's goes through it.
        fs::set_permissions(parent.path(), Permissions::from_mode(0o755))?;
        let directory = parent.path().join("disk");
        fs::create_dir(&directory)?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0755"), "herdstream-test"])
            .arg(&directory)
            .output()
            .context("running mount")?;
        ensure!(output.status.success(), "mount: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(Self { directory, _parent: parent })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.directory
    }

    /// Fills what is free with a file; gives it, to be removed. How much that was, too.
    ///
    /// # Errors
    ///
    /// The file cannot be made.
    pub fn fill(&self) -> Result<(PathBuf, u64)> {
        let path = self.directory.join("filler");
        let mut file = File::create(&path).context("making a file that fills the disk")?;
        let (mut bytes, block) = (0, [0; 4096]);
        while file.write_all(&block).is_ok() {
            bytes += block.len() as u64;
        }
        Ok((path, bytes))
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: whatever is still open there goes when it is closed.
        let _ = Command::new("umount").arg("--lazy").arg(&self.directory).output();
    }
}
