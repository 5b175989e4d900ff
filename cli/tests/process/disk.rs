//! Disks that are full, small, read-only, and the ends that cannot be announced.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use rustix::process::{Resource, Rlimit, getrlimit, prlimit};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    gateway::{Working, gateways},
    history::History,
    server::{Server, Setup},
    skip, until,
};

/// Times a server is killed.
const KILLS: usize = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_stops_acks_and_loses_nothing() {
    let Some(disk) = SmallDisk::mount("size=160m") else { return };
    let setup = Setup::new(disk.path().join("data")).set("STORE__MIN_FREE", "16MiB");
    let mut server = setup.start().await;
    let working = gateways(&server, 3, false).await;
    // Faster than the server looks at its disk: it runs into the end.
    let ballast = fill(disk.path(), 0);
    stalled(&mut server, "the embedded store failed and is being reopened").await;
    fs::remove_file(ballast).unwrap();
    recovered(server, &setup, working).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_is_nearly_full_is_not_filled_up() {
    let Some(disk) = SmallDisk::mount("size=160m") else { return };
    let setup = Setup::new(disk.path().join("data")).set("STORE__MIN_FREE", "64MiB");
    let mut server = setup.start().await;
    let working = gateways(&server, 3, false).await;
    let ballast = fill(disk.path(), 60 << 20);
    stalled(&mut server, "the embedded store refuses writes").await;
    let output = server.output();
    assert!(!output.contains("is being reopened"), "it was to stop before the end of the disk:\n{output}");
    fs::remove_file(ballast).unwrap();
    recovered(server, &setup, working).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_makes_room_on_a_disk_that_is_nearly_full() {
    let Some(disk) = SmallDisk::mount("size=224m") else { return };
    let setup = with_retention(Setup::new(disk.path().join("data")).set("STORE__MIN_FREE", "64MiB"));
    let mut server = setup.start().await;
    let history = History::write(&server).await;
    let working = gateways(&server, 3, false).await;
    fill(disk.path(), 48 << 20);
    stalled(&mut server, "the embedded store refuses writes").await;
    history.drop_all(&server).await;
    let output = server.output();
    assert!(!output.contains("is being reopened"), "it was to stop before the end of the disk:\n{output}");
    history.check(&server).await;
    let server = recovered(server, &setup, working).await;
    history.check(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_makes_room_on_a_full_disk() {
    let Some(disk) = SmallDisk::mount("size=224m") else { return };
    let setup = with_retention(Setup::new(disk.path().join("data")).set("STORE__MIN_FREE", "16MiB"));
    let mut server = setup.start().await;
    let history = History::write(&server).await;
    let working = gateways(&server, 3, false).await;
    fill(disk.path(), 0);
    stalled(&mut server, "the embedded store failed and is being reopened").await;
    history.drop_all(&server).await;
    history.check(&server).await;
    let server = recovered(server, &setup, working).await;
    history.check(&server).await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn files_that_may_not_grow_stop_acks_and_lose_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path().join("data"));
    let mut server = setup.start().await;
    let working = gateways(&server, 3, false).await;
    limit_file_size(&server, Some(4096));
    stalled(&mut server, "the embedded store failed and is being reopened").await;
    limit_file_size(&server, None);
    recovered(server, &setup, working).await.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_keeps_what_it_acked() {
    let dir = tempfile::tempdir().unwrap();
    let mut setup = Setup::new(dir.path().join("data"));
    let mut server = setup.start().await;
    setup = setup.at(server.address());
    let working = gateways(&server, 4, false).await;
    for kill in 1..=KILLS {
        for gateway in &working {
            // A different distance every time, so that the kills meet different moments.
            gateway.progress(3 + 5 * kill as u64).await;
        }
        server.kill().await;
        server = setup.start().await;
    }
    for gateway in working {
        let gateway = gateway.stop().await;
        assert!(gateway.broken.len() >= KILLS, "only {} streams broke", gateway.broken.len());
        let committed = gateway.check(&server).await;
        assert_eq!(committed, gateway.acked());
    }
    server.stop().await;
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_named() {
    let Some(disk) = SmallDisk::mount("size=1m,ro") else { return };
    let ended = Setup::new(disk.path()).fail().await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
    let said = ended.output.trim_end().lines().last().unwrap_or_default();
    assert!(said.contains(&*disk.path().to_string_lossy()), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn data_on_a_disk_that_has_become_read_only_is_named_and_not_touched() {
    let Some(disk) = SmallDisk::mount("size=160m") else { return };
    let setup = Setup::new(disk.path().join("data")).set("STORE__MIN_FREE", "16MiB");
    let server = setup.start().await;
    let mut left = Vec::new();
    for working in gateways(&server, 2, false).await {
        left.push(working.stop().await);
    }
    server.stop().await;

    disk.remount("ro");
    let ended = setup.fail().await;
    assert_eq!(ended.status.code(), Some(1), "{}", ended.output);
    let said = ended.output.trim_end().lines().last().unwrap_or_default();
    assert!(said.contains(&*setup.data_dir().to_string_lossy()), "{said}");
    assert!(said.contains("Read-only file system"), "{said}");

    disk.remount("rw");
    let server = setup.start().await;
    for gateway in left {
        assert_eq!(gateway.check(&server).await, gateway.acked());
    }
    server.stop().await;
}

/// Waits until a server that cannot write says so to people and to health checks, and lives.
async fn stalled(server: &mut Server, why: &str) {
    server.says(why).await;
    server.says("not ready: the store is down").await;
    until("health checks hear it", || async { server.serving().await == Some(ServingStatus::NotServing) })
        .await;
    for service in ["herdstream.v1.IngestService", "herdstream.v1.QueryService"] {
        assert_eq!(server.service_serving(service).await, Some(ServingStatus::NotServing), "{service}");
    }
    let (status, reason) = server.get("/readyz").await;
    assert_eq!(status, 503, "{reason}");
    assert!(reason.starts_with("store down: "), "{reason}");
    assert_eq!(server.get("/healthz").await.0, 200, "alive all the same");
    assert!(server.lives());
}

/// Waits until a server that can write again does so, and weighs everything, before and after a restart.
async fn recovered(mut server: Server, setup: &Setup, working: Vec<Working>) -> Server {
    for gateway in &working {
        gateway.progress(10).await;
    }
    until("health checks hear it", || async { server.serving().await == Some(ServingStatus::Serving) }).await;
    let mut gateways = Vec::new();
    for gateway in working {
        let gateway = gateway.stop().await;
        assert_eq!(gateway.check(&server).await, gateway.acked());
        gateways.push(gateway);
    }
    assert!(server.lives());
    server.stop().await;
    let server = setup.start().await;
    for gateway in gateways {
        assert_eq!(gateway.check(&server).await, gateway.acked());
    }
    server
}

/// Drops readings after days, when it is asked; tables are written out early.
fn with_retention(setup: Setup) -> Setup {
    (setup
        .set("INGEST__ACCEPTED_LATENESS", "1d")
        .set("RETENTION__READINGS", "3d")
        .set("RETENTION__QUIET", "0s"))
    .set("STORE__MEMTABLE", "1MiB")
}

/// Bounds the size of any file that the server writes; None: lifts the bound.
pub(crate) fn limit_file_size(server: &Server, bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let limit = Rlimit { current: bytes.or(maximum), maximum };
    prlimit(Some(server.pid()), Resource::Fsize, limit).expect("a child's soft limit can be set");
}

/// Writes until only `spare` bytes are free.
fn fill(dir: &Path, spare: u64) -> PathBuf {
    let path = dir.join("ballast");
    let mut file = File::create_new(&path).expect("a file can be made");
    for chunk in [1 << 20, 4096, 1] {
        let zeroes = vec![0; chunk];
        loop {
            let stat = rustix::fs::statvfs(dir).expect("a file system");
            if stat.f_bavail * stat.f_frsize < spare + chunk as u64 && spare > 0 {
                break;
            }
            match file.write_all(&zeroes) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => panic!("{error}"),
            }
        }
    }
    path
}

/// A file system of its own in memory, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    /// None, with the reason told, where nothing can be mounted.
    fn mount(options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("a directory can be made");
        match Command::new("mount").args(["-t", "tmpfs", "-o", options, "tmpfs"]).arg(dir.path()).output() {
            Ok(output) if output.status.success() => Some(Self(dir)),
            Ok(output) => {
                skip(&format!("cannot mount a tmpfs: {}", String::from_utf8_lossy(&output.stderr).trim()));
                None
            }
            Err(error) => {
                skip(&format!("cannot run mount: {error}"));
                None
            }
        }
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, mode: &str) {
        let status = Command::new("mount").args(["-o", &format!("remount,{mode}")]).arg(self.path()).status();
        assert!(status.expect("mount can be run").success(), "remount {mode}");
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server may be on its way out. What stays behind is memory until the next start.
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}
