//! Whose directory it is, and what is left alone.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use herdstream_server::{
    model::SeriesId,
    store::{
        Look as _, SeriesRange, Store, StoreError,
        embedded::{EmbeddedConfig, EmbeddedStore, OpenError},
    },
};

use super::{Mount, config, open};
use crate::store_contract::rows::{DAY, NOON, everything, producer, reading, resolve, values, write};

/// Everything below a directory: kind, time of change and bytes.
fn contents(dir: &Path) -> BTreeMap<PathBuf, (SystemTime, Option<Vec<u8>>)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let changed = path.metadata().unwrap().modified().unwrap();
        if path.is_dir() {
            found.extend(contents(&path));
            found.insert(path, (changed, None));
        } else {
            let bytes = fs::read(&path).unwrap();
            found.insert(path, (changed, Some(bytes)));
        }
    }
    found
}

/// Fails to open, and leaves everything as it is.
fn refused(dir: &Path) -> OpenError {
    let before = contents(dir);
    let error = EmbeddedStore::open(config(dir)).expect_err("it is refused");
    assert_eq!(contents(dir), before, "after '{error}'");
    assert!(error.to_string().contains(&*dir.to_string_lossy()), "'{error}' does not name the directory");
    error
}

#[test]
fn an_absent_directory_is_created_for_its_owner_alone() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("farm/data");
    drop(open(&dir));
    assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
    drop(open(&dir));
}

#[test]
fn an_empty_volume_is_taken() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("lost+found")).unwrap();
    drop(open(dir.path()));
    drop(open(dir.path()));
}

#[test]
fn a_directory_in_use_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let error = EmbeddedStore::open(config(dir.path())).unwrap_err();
    assert!(matches!(error, OpenError::InUse { .. }), "{error:?}");
    assert!(error.to_string().contains(&*dir.path().to_string_lossy()), "{error}");
    drop(store);
    drop(open(dir.path()));
}

#[test]
fn a_foreign_directory_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("photo.jpg"), "a cow").unwrap();
    let error = refused(dir.path());
    assert!(matches!(&error, OpenError::Foreign { entry, .. } if entry == "photo.jpg"), "{error:?}");
}

#[test]
fn a_file_is_no_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("data");
    fs::write(&file, "a cow").unwrap();
    let error = EmbeddedStore::open(config(&file)).unwrap_err();
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    assert_eq!(fs::read(&file).unwrap(), b"a cow");
}

#[test]
fn a_newer_or_damaged_format_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let file = dir.path().join("FORMAT");
    fs::write(&file, "herdstream embedded store 4\n").unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::Newer { found: 4, known: 3, .. }), "{error:?}");
    for damage in
        [&b""[..], b"\0\0\0\0", b"\xff\xfe", b"herdstream embedded store", b"herdstream embedded store 1 x"]
    {
        fs::write(&file, damage).unwrap();
        let error = refused(dir.path());
        assert!(matches!(error, OpenError::Damaged { .. }), "{damage:?}: {error:?}");
    }
}

#[test]
fn a_missing_engine_is_damage_and_not_a_beginning() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    fs::remove_dir_all(dir.path().join("engine")).unwrap();
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_that_goes_away_while_open_is_waited_for_and_not_begun_anew() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, aside) = (parent.path().join("data"), parent.path().join("aside"));
    let mut expected = Vec::new();
    // What takes its place may be nothing, or what an unmounted volume leaves.
    for left in [None, Some(&dir)] {
        let store = open(&dir);
        let series = resolve(&store, 0).await;
        write_next(&store, series, &mut expected).await;

        fs::rename(&dir, &aside).unwrap();
        left.map(fs::create_dir).transpose().unwrap();
        until_ready_is(&store, |ready| ready.contains("is no longer the directory")).await;
        assert!(store.producer(producer(1)).await.is_err(), "an empty ledger is none");
        if left.is_some() {
            assert_eq!(contents(&dir), BTreeMap::new());
            fs::remove_dir(&dir).unwrap();
        }
        fs::rename(&aside, &dir).expect("nothing was begun in its place");

        until_ready_is(&store, str::is_empty).await;
        write_next(&store, series, &mut expected).await;
        assert_eq!(values(&everything(&store, series).await), expected);
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_engine_that_lost_what_was_acknowledged_is_not_taken_for_the_same() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("data");
    let store = open(&dir);
    let series = resolve(&store, 0).await;
    let mut expected = Vec::new();
    write_next(&store, series, &mut expected).await;
    let (engine, older, aside) =
        (dir.join("engine"), parent.path().join("older"), parent.path().join("aside"));
    copy_all(&engine, &older);
    write_next(&store, series, &mut expected).await;
    fs::rename(&engine, &aside).unwrap();
    until_ready_is(&store, |ready| ready.contains("is damaged")).await;
    fs::rename(&older, &engine).unwrap();
    until_ready_is(&store, |ready| ready.contains("was acknowledged")).await;
    fs::remove_dir_all(&engine).unwrap();
    fs::rename(&aside, &engine).unwrap();
    until_ready_is(&store, str::is_empty).await;
    assert_eq!(values(&everything(&store, series).await), expected);
    store.close().await;
}

#[test]
fn a_missing_journal_is_damage_and_not_a_beginning() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    let engine = dir.path().join("engine");
    let journals = fs::read_dir(&engine).unwrap().map(|entry| entry.unwrap().path());
    for journal in journals.filter(|path| path.extension().is_some_and(|extension| extension == "jnl")) {
        fs::remove_file(journal).unwrap();
    }
    let error = refused(dir.path());
    assert!(matches!(error, OpenError::Engine { .. }), "{error:?}");
}

fn copy_all(from: &Path, to: &Path) {
    let status = Command::new("cp").args(["-r", "--sparse=always"]).arg(from).arg(to).status();
    assert!(status.expect("cp runs").success());
}

async fn write_next(store: &EmbeddedStore, series: SeriesId, written: &mut Vec<f64>) {
    let n = written.len();
    write(store, vec![reading(series, NOON + n as i64, n as f64)]).await;
    written.push(n as f64);
}

/// Waits until what the store says of its readiness, nothing when it is ready, is what is waited for.
async fn until_ready_is(store: &EmbeddedStore, expected: impl Fn(&str) -> bool) {
    let mut said = String::new();
    for _ in 0..2000 {
        said = store.ready().await.err().map(|error| error.to_string()).unwrap_or_default();
        if expected(&said) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the store says {said:?}");
}

#[test]
fn a_creation_that_was_interrupted_is_begun_again() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("FORMAT.new"), "herds").unwrap();
    fs::write(dir.path().join("LOCK"), "").unwrap();
    drop(open(dir.path()));
    fs::write(dir.path().join("FORMAT"), "herdstream embedded store 1 creating\n").unwrap();
    for half in ["0.jnl", "version"] {
        fs::write(dir.path().join("engine").join(half), "torn").unwrap();
    }
    drop(open(dir.path()));
}

const EVERYTHING: SeriesRange = SeriesRange {
    series: SeriesId(0),
    start_us: NOON,
    end_us: NOON + DAY,
    skip: 0,
    limit: usize::MAX,
    text_bytes: usize::MAX,
    tag: None,
};

/// The engine's tables, with their bytes.
fn tables(dir: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut tables = Vec::new();
    for keyspace in fs::read_dir(dir.join("engine/keyspaces")).unwrap() {
        let dir = keyspace.unwrap().path().join("tables");
        // A table may go while it is looked at: it was compacted away.
        let files = fs::read_dir(dir).into_iter().flatten().flatten();
        tables.extend(files.filter_map(|file| Some((file.path(), fs::read(file.path()).ok()?))));
    }
    tables
}

#[tokio::test(flavor = "multi_thread")]
async fn damaged_files_are_reported() {
    let dir = tempfile::tempdir().unwrap();
    // Every commit has a table written.
    let config = EmbeddedConfig { memtable_bytes: 0, ..config(dir.path()) };
    let store = EmbeddedStore::open(config.clone()).unwrap();
    let series = resolve(&store, 0).await;
    // They are written in the background.
    let mut expected = Vec::new();
    while tables(dir.path()).len() < 3 {
        assert!(expected.len() < 10_000, "no tables are written");
        let n = expected.len() as f64;
        write(&store, vec![reading(series, NOON + expected.len() as i64, n)]).await;
        expected.push(n);
    }
    store.close().await;
    // Some bytes keep it from opening, some from being read; none gives another answer. Each is tried on a
    // copy, since opening rewrites tables.
    let (mut refused_to_open, mut refused_to_read) = (0, 0);
    for (path, bytes) in tables(dir.path()) {
        for position in (0..bytes.len()).step_by(131) {
            let copy = tempfile::tempdir().unwrap();
            let copied = copy.path().join("data");
            copy_all(dir.path(), &copied);
            let mut damaged = bytes.clone();
            damaged[position] ^= 0x10;
            fs::write(copied.join(path.strip_prefix(dir.path()).unwrap()), &damaged).unwrap();
            match EmbeddedStore::open(EmbeddedConfig { dir: copied, ..config.clone() }) {
                Err(OpenError::Engine { .. }) => refused_to_open += 1,
                Err(other) => panic!("{other:?} for byte {position} of {}", path.display()),
                Ok(store) => match store.range(SeriesRange { series, ..EVERYTHING }).await {
                    Err(StoreError::Damaged(_) | StoreError::Unavailable(..)) => refused_to_read += 1,
                    Err(other) => panic!("{other:?}"),
                    Ok(found) => {
                        assert_eq!(values(&found), expected, "byte {position} of {}", path.display());
                    }
                },
            }
        }
    }
    println!("{refused_to_open} refused to open, {refused_to_read} to be read");
    assert!(refused_to_open + refused_to_read > 0, "no damage was noticed");
    let store = EmbeddedStore::open(config).unwrap();
    assert_eq!(values(&everything(&store, series).await), expected);
}

#[tokio::test]
async fn a_read_only_directory_is_refused() {
    let Some(mount) = Mount::new("200m") else { return };
    let dir = mount.path().join("data");
    open(&dir).close().await;
    mount.read_only(true);
    let error = refused(&dir);
    assert!(matches!(error, OpenError::Io { .. }), "{error:?}");
    mount.read_only(false);
    open(&dir).close().await;
}
