mod damage;
mod disk;
mod killed;
mod model;
mod opening;
mod unack;

use std::{sync::atomic::AtomicBool, thread};

use bytes::Bytes;

use super::*;

/// A batch whose content tells which one it is.
fn frame(offset: u64, len: usize) -> Frame {
    let items = (offset % 7 + 1) as u32;
    let batch = Bytes::from((0..len).map(|i| (offset as usize + i) as u8).collect::<Vec<_>>());
    Frame { offset, items, sealed_us: 1_000 + offset as i64, batch }
}

fn frames(offsets: std::ops::RangeInclusive<u64>, len: usize) -> Vec<Frame> {
    offsets.map(|offset| frame(offset, len)).collect()
}

/// A spool of small segments: ten batches of 52 bytes fill one.
fn config(dir: &Path) -> SpoolConfig {
    SpoolConfig { dir: dir.join("spool"), max_bytes: 1 << 20, segment_bytes: 1_000 }
}

/// A directory in memory where there is one: syncs cost nothing there.
fn memory_dir() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap()
}

/// Appends one by one, so that segments end where they are full.
fn append_each(log: &Log, frames: &[Frame]) {
    for frame in frames {
        log.append(std::slice::from_ref(frame)).unwrap();
    }
}

fn offsets(frames: &[Frame]) -> Vec<u64> {
    frames.iter().map(|frame| frame.offset).collect()
}

/// Runs an ignored test of this binary as a process of its own, through `shell` if something is to be
/// set up around it.
fn child(test: &str, dir: &Path, shell: Option<&str>) -> std::process::Command {
    let binary = std::env::current_exe().unwrap();
    let mut command = match shell {
        Some(script) => {
            let mut command = std::process::Command::new("sh");
            command.args(["-c", script]).arg(binary);
            command
        }
        None => std::process::Command::new(binary),
    };
    command.args(["--exact", "--ignored", "--nocapture", test]).env(CHILD_DIR, dir);
    command
}

/// Where a child process works.
const CHILD_DIR: &str = "HERDSTREAM_TEST_SPOOL";

/// The directory, in a child process; nothing when somebody runs all ignored tests.
fn child_dir() -> Option<PathBuf> {
    std::env::var_os(CHILD_DIR).map(PathBuf::from)
}

#[test]
fn reading_appending_and_acking_at_once_pass_every_batch_on_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let (_spool, log, _) = Spool::open(&config(dir.path())).unwrap();
    let count = 2_000;
    let failed = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = 1;
            while next <= count && !failed.load(Ordering::Relaxed) {
                let last = (next + next % 5).min(count);
                match log.append(&frames(next..=last, 50)) {
                    Ok(()) => next = last + 1,
                    Err(SpoolError::Full { .. }) => thread::yield_now(),
                    Err(error) => panic!("{error:?}"),
                }
            }
        });
        let mut next = 1;
        while next <= count {
            let read = log.read(next, 500).inspect_err(|_| failed.store(true, Ordering::Relaxed)).unwrap();
            let Some(last) = read.last() else {
                thread::yield_now();
                continue;
            };
            if read != frames(next..=last.offset, 50) {
                failed.store(true, Ordering::Relaxed);
                panic!("read {:?} from {next} on", offsets(&read));
            }
            next = last.offset + 1;
            log.ack(next - 3).unwrap();
        }
    });
    log.ack(count).unwrap();
    assert_eq!(log.gaps(), []);
    log.remove().unwrap();
    assert_eq!(log.shared.held(), 0);
}

/// Not a test: `cargo test --release -p herdstream-client -- --ignored --nocapture spool_append_rate`.
#[test]
#[ignore = "a measurement"]
fn spool_append_rate() {
    let dir = tempfile::tempdir_in(std::env::current_dir().unwrap()).unwrap();
    let config = SpoolConfig::new(dir.path().join("spool"));
    let (_spool, log, _) = Spool::open(&config).unwrap();
    let batch = frame(1, 35_000);
    for per_append in [1_u64, 4, 16] {
        let started = std::time::Instant::now();
        let first = log.next_offset();
        while log.next_offset() < first + 2_000 {
            let next = log.next_offset();
            let batches: Vec<_> =
                (next..next + per_append).map(|offset| Frame { offset, ..batch.clone() }).collect();
            log.append(&batches).unwrap();
            log.ack(next.saturating_sub(100)).unwrap();
        }
        let rate = (log.next_offset() - first) as f64 / started.elapsed().as_secs_f64();
        println!(
            "{per_append} batches of 35 kB a sync: {rate:.0} batches/s, {:.0} MB/s, {:.0} syncs/s",
            rate * 0.035,
            rate / per_append as f64
        );
    }
}
