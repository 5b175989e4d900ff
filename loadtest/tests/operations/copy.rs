//! Copies of directories, as a backup or a cloned card makes them.

use std::{fs, io, path::Path};

use anyhow::{Context as _, Result};

/// Copies a directory to a place where nothing is. Files that go meanwhile are left out.
pub(crate) fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("creating {}", to.display()))?;
    let entries = match fs::read_dir(from) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries.with_context(|| format!("listing {}", from.display()))?,
    };
    for entry in entries {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_dir(&entry.path(), &target)?;
        } else {
            match fs::copy(entry.path(), &target) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                copied => {
                    copied.with_context(|| format!("copying {}", entry.path().display()))?;
                }
            }
        }
    }
    Ok(())
}

/// Puts a copy in the place of a directory.
pub(crate) fn replace_dir(dir: &Path, copy: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("removing {}", dir.display()))?;
        }
        _ => {}
    }
    copy_dir(copy, dir)
}
