//! The directory: whose it is, which version, and that only one process uses it.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, TryLockError},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use super::OpenError;

const MAGIC: &str = "herdstream embedded store";
/// 2: rollups. 3: marks of what is late by day. Binaries of before would not see or set them.
const VERSION: u32 = 3;

const FORMAT_FILE: &str = "FORMAT";
const NEW_FORMAT_FILE: &str = "FORMAT.new";
const LOCK_FILE: &str = "LOCK";
const ENGINE_DIR: &str = "engine";

/// What a fresh file system may hold beside what we put there.
const HARMLESS: [&str; 3] = ["lost+found", LOCK_FILE, NEW_FORMAT_FILE];

/// A directory that this process holds until it is dropped.
pub(super) struct Directory {
    dir: PathBuf,
    lock: File,
}

/// What the format file says.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    /// There is none, and nothing else either.
    Absent,
    /// The engine has not been created completely: nothing was ever committed.
    Creating,
    /// Ready, in a format of before that is brought up to date.
    Older,
    Ready,
}

impl Directory {
    /// Takes hold of `dir`, creating it if it is absent. Touches nothing unless it is ours or empty.
    ///
    /// # Errors
    ///
    /// When it is another program's, of a newer version, damaged, used by another process, or not writable.
    pub(super) fn take(dir: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
        inspect(dir)?;
        if !dir.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
            // The entry of the directory itself must survive a power cut, too.
            let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
            sync_dir(parent.unwrap_or(Path::new("."))).map_err(failed)?;
        }
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(dir.join(LOCK_FILE));
        let lock = lock.map_err(failed)?;
        match take_lock(&lock) {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse { dir: dir.to_owned() }),
            Err(TryLockError::Error(source)) => return Err(failed(source)),
        }
        // Now that it is ours alone: another process may have been creating it before.
        match inspect(dir)? {
            Format::Ready => {}
            // Before anything is written in a way that binaries of before do not know.
            Format::Older => write_format(dir, Format::Ready).map_err(failed)?,
            Format::Absent => write_format(dir, Format::Creating).map_err(failed)?,
            Format::Creating => match fs::remove_dir_all(dir.join(ENGINE_DIR)) {
                Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(failed(source)),
                _ => {}
            },
        }
        Ok(Self { dir: dir.to_owned(), lock })
    }

    pub(super) fn engine(&self) -> PathBuf {
        self.dir.join(ENGINE_DIR)
    }

    /// Looks whether it is still there: not removed, moved away, unmounted or replaced while it was held.
    /// Beginning anew in what has taken its place would forget everything that was acknowledged.
    ///
    /// # Errors
    ///
    /// [`OpenError::Gone`] when it is not; when its engine is missing; when it cannot be looked at.
    pub(super) fn check(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Io { dir: self.dir.clone(), source };
        let held = self.lock.metadata().map_err(failed)?;
        let same = match fs::metadata(self.dir.join(LOCK_FILE)) {
            Ok(there) => (there.dev(), there.ino()) == (held.dev(), held.ino()),
            Err(source) if source.kind() == io::ErrorKind::NotFound => false,
            Err(source) => return Err(failed(source)),
        };
        if same && inspect(&self.dir)? == Format::Ready {
            return Ok(());
        }
        Err(OpenError::Gone { dir: self.dir.clone() })
    }

    /// Says that the engine exists from now on: one that is missing later is damage, not a beginning.
    pub(super) fn created(&self) -> Result<(), OpenError> {
        let failed = |source| OpenError::Io { dir: self.dir.clone(), source };
        if inspect(&self.dir)? == Format::Creating {
            sync_dir(&self.engine()).and_then(|()| write_format(&self.dir, Format::Ready)).map_err(failed)?;
        }
        Ok(())
    }
}

/// Takes the lock, waiting a moment for a process that is just going away, or for a child that it was just
/// starting: until that runs its own program, it holds what its parent held.
fn take_lock(lock: &File) -> Result<(), TryLockError> {
    const TRIES: u32 = 20;
    for _ in 1..TRIES {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(25)),
            answer => return answer,
        }
    }
    lock.try_lock()
}

/// Syncs the entries of a directory.
pub(super) fn sync_dir(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn inspect(dir: &Path) -> Result<Format, OpenError> {
    let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
    let entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(Format::Absent),
        Err(source) => return Err(failed(source)),
    };
    let mut foreign = None;
    for entry in entries {
        let name = entry.map_err(failed)?.file_name();
        if name == FORMAT_FILE {
            return read_format(dir);
        }
        if !HARMLESS.iter().any(|harmless| name == *harmless) {
            foreign = Some(name);
        }
    }
    match foreign {
        None => Ok(Format::Absent),
        Some(entry) => {
            Err(OpenError::Foreign { dir: dir.to_owned(), entry: entry.to_string_lossy().into_owned() })
        }
    }
}

fn read_format(dir: &Path) -> Result<Format, OpenError> {
    let damaged = |what: String| OpenError::Damaged { dir: dir.to_owned(), what };
    let text = match fs::read_to_string(dir.join(FORMAT_FILE)) {
        Ok(text) => text,
        Err(source) if source.kind() == io::ErrorKind::InvalidData => {
            return Err(damaged(format!("its file {FORMAT_FILE} is not text")));
        }
        Err(source) => return Err(OpenError::Io { dir: dir.to_owned(), source }),
    };
    let unknown = || damaged(format!("its file {FORMAT_FILE} does not say '{MAGIC} {VERSION}'"));
    let mut words = text.trim_end().strip_prefix(MAGIC).ok_or_else(unknown)?.split_whitespace();
    let found: u32 = words.next().and_then(|word| word.parse().ok()).ok_or_else(unknown)?;
    if found > VERSION {
        return Err(OpenError::Newer { dir: dir.to_owned(), found, known: VERSION });
    }
    match (found, words.next()) {
        (1..=VERSION, Some("creating")) => Ok(Format::Creating),
        (1..=VERSION, None) if dir.join(ENGINE_DIR).is_dir() => {
            Ok(if found == VERSION { Format::Ready } else { Format::Older })
        }
        (1..=VERSION, None) => Err(damaged(format!("its directory {ENGINE_DIR} is missing"))),
        _ => Err(unknown()),
    }
}

fn write_format(dir: &Path, format: Format) -> io::Result<()> {
    let state = if format == Format::Creating { " creating" } else { "" };
    let path = dir.join(NEW_FORMAT_FILE);
    let mut file = File::create(&path)?;
    writeln!(file, "{MAGIC} {VERSION}{state}")?;
    file.sync_all()?;
    fs::rename(path, dir.join(FORMAT_FILE))?;
    sync_dir(dir)
}
