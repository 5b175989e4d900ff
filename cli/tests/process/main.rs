//! The real binary as a process of its own: signals, system calls, memory, descriptors, disks, broken links,
//! and clients that others wrote.

mod disk;
mod foreign;
mod gateway;
mod half_open;
mod history;
mod http2;
mod lifecycle;
mod memory;
mod reconnects;
mod server;
mod slow;
mod stream;
mod syscalls;
mod trace;

use std::{env, future::Future, time::Duration};

/// Longest wait for anything: more than enough for whatever works at all.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `done` answers true.
///
/// # Panics
///
/// When that takes longer than [`PATIENCE`].
async fn until<F: Future<Output = bool>>(what: &str, mut done: impl FnMut() -> F) {
    let waited = tokio::time::timeout(PATIENCE, async {
        while !done().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(waited.await.is_ok(), "not within {PATIENCE:?}: {what}");
}

/// Says why a test cannot be made here.
///
/// # Panics
///
/// On CI, where everything must be there.
fn skip(reason: &str) {
    println!("skipped: {reason}");
    assert!(env::var_os("CI").is_none(), "nothing is skipped on CI: {reason}");
}
