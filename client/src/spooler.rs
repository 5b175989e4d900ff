//! The thread that brings batches to disk: one sync for all who wait for one.

use std::sync::Arc;

use crate::{
    backlog::disk_failure,
    batch::SyncFailure,
    config::WhenFull,
    outbox::{Outbox, now_us},
    recall,
    spool::{Frame, SpoolError},
};

/// Starts the thread for a producer with a spool. It ends, with everything on disk, when the producer
/// takes nothing more.
///
/// `all` are the outboxes of the spool, those of earlier openings first.
pub(crate) fn start(
    outbox: Arc<Outbox>,
    all: Vec<Arc<Outbox>>,
    when_full: WhenFull,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    std::thread::Builder::new().name("herdstream-spool".to_owned()).spawn(move || {
        while let Some(frames) = next_group(&outbox) {
            sync(&outbox, &all, when_full, &frames);
        }
    })
}

/// Waits for batches. While a group is being synced, the next one gathers.
fn next_group(outbox: &Outbox) -> Option<Vec<Frame>> {
    let mut backlog = outbox.lock();
    while !backlog.has_unsynced() {
        if backlog.ended().is_some() {
            return None;
        }
        outbox.wait_unsynced(&mut backlog);
    }
    Some(backlog.unsynced(now_us()))
}

fn sync(outbox: &Outbox, all: &[Arc<Outbox>], when_full: WhenFull, frames: &[Frame]) {
    let (Some(log), Some(last)) = (outbox.log(), frames.last()) else { return };
    let appended = loop {
        match log.append(frames) {
            Err(SpoolError::Full { needed, held, max })
                if when_full == WhenFull::EvictOldest
                    && recall::evict(all, (held + needed).saturating_sub(max)) => {}
            appended => break appended,
        }
    };
    let (waiters, answer) = match appended {
        Ok(()) => (outbox.lock().synced(last.offset), Ok(())),
        Err(SpoolError::Full { .. }) => (outbox.lock().unsynced_failed(true), Err(SyncFailure::Full)),
        Err(error) => {
            recall::failed(outbox, &error);
            (outbox.lock().unsynced_failed(false), Err(disk_failure(error)))
        }
    };
    for waiter in waiters {
        // Whoever stopped waiting does not want to know.
        let _ = waiter.send(answer.clone());
    }
    outbox.wake();
    outbox.made_room();
}
