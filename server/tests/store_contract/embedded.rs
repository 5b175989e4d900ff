//! The embedded profile: the contract, and what is its own.

use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use async_trait::async_trait;
use herdstream_server::store::{
    Store,
    embedded::{EmbeddedConfig, EmbeddedStore},
};
use tempfile::TempDir;

use super::{aggregates, laws::Fixture, model};

mod crash;
mod days;
mod directory;
mod full;
mod lifecycle;
mod rollups;

mod contract {
    crate::obeys_the_contract!(super::Embedded::new());
}

#[test]
fn random_histories_are_kept() {
    model::check(20, async || Embedded::new());
}

#[test]
fn random_aggregates_are_true() {
    aggregates::check(150, 25, async || Embedded::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn queries_see_whole_commits_beside_ingest() {
    aggregates::queries_see_whole_commits_beside_ingest(&mut Embedded::new()).await;
}

/// An embedded store in a directory of its own.
pub(super) struct Embedded {
    store: Option<Arc<EmbeddedStore>>,
    dir: TempDir,
}

impl Embedded {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory is made");
        Self { store: Some(Arc::new(open(dir.path()))), dir }
    }
}

#[async_trait]
impl Fixture for Embedded {
    fn store(&self) -> Arc<dyn Store> {
        self.store.clone().expect("it is open")
    }

    async fn reopen(&mut self) {
        if let Some(store) = self.store.take() {
            store.close().await;
        }
        self.store = Some(Arc::new(open(self.dir.path())));
    }
}

/// As a server does, on whatever disk the tests run.
fn config(dir: &Path) -> EmbeddedConfig {
    EmbeddedConfig { min_free_bytes: 0, ..EmbeddedConfig::new(dir) }
}

fn open(dir: &Path) -> EmbeddedStore {
    EmbeddedStore::open(config(dir)).expect("the store opens")
}

/// A file system of its own, of a given size.
struct Mount {
    dir: TempDir,
}

impl Mount {
    /// Says why if it cannot be had: the test is skipped then.
    fn new(size: &str) -> Option<Self> {
        let mount = Self { dir: tempfile::tempdir().expect("a temporary directory is made") };
        match mount.run("mount", &["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]) {
            Ok(()) => Some(mount),
            Err(why) => {
                println!("skipped: a file system cannot be mounted here ({why})");
                None
            }
        }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    fn read_only(&self, read_only: bool) {
        let mode = if read_only { "remount,ro" } else { "remount,rw" };
        self.run("mount", &["-o", mode]).expect("what is mounted can be mounted again");
    }

    fn run(&self, program: &str, arguments: &[&str]) -> Result<(), String> {
        let output = Command::new(program).args(arguments).arg(self.dir.path()).output();
        match output {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()),
            Err(error) => Err(format!("{program}: {error}")),
        }
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        if let Err(why) = self.run("umount", &["--lazy"]) {
            println!("{} stays mounted: {why}", self.dir.path().display());
        }
    }
}
