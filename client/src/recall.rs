//! What a session needs of the spool: batches read back, and batches that are given up.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use uuid::Uuid;

use crate::{
    event::Event,
    outbox::{Outbox, now_us},
    spool::{GapReason, Log, SpoolError},
};

/// Bytes read from the spool at a time.
const READ_BYTES: usize = 1 << 20;

/// Runs what may block on the disk.
async fn on_disk<T: Send + 'static>(
    outbox: &Outbox,
    work: impl FnOnce(&Log) -> Result<T, SpoolError> + Send + 'static,
) -> Option<T> {
    let log = outbox.log()?;
    let done = tokio::task::spawn_blocking(move || work(&log)).await;
    match done {
        Ok(Ok(done)) => Some(done),
        Ok(Err(error)) => {
            failed(outbox, &error);
            None
        }
        // The runtime is shutting down.
        Err(_) => None,
    }
}

/// Tells of a failure of the spool.
pub(crate) fn failed(outbox: &Outbox, error: &SpoolError) {
    let mut message = error.to_string();
    if let Some(source) = std::error::Error::source(error) {
        message = format!("{message}: {source}");
    }
    let producer_id = outbox.producer_id;
    tracing::warn!(%producer_id, message, "spool failed");
    outbox.events.send(Event::SpoolFailed { producer_id, message });
}

/// Of what a server had acknowledged and no longer has: the batches that the spool still holds.
pub(crate) async fn unack(outbox: &Outbox, committed: u64) -> Vec<(u64, u32)> {
    let decided = outbox.lock().decided();
    if committed >= decided {
        return Vec::new();
    }
    on_disk(outbox, move |log| log.unack(committed, decided)).await.unwrap_or_default()
}

/// Takes the server's word for what it has, and gives up what is too old.
pub(crate) async fn begin(outbox: &Outbox, committed: u64) {
    let too_old = outbox.lock().too_old(now_us());
    let gaps = on_disk(outbox, move |log| {
        log.ack(committed)?;
        let mut expired = Vec::new();
        if let Some(too_old) = too_old {
            let mut last = None;
            let mut from = committed + 1;
            'reading: loop {
                let frames = log.read(from, READ_BYTES)?;
                if frames.is_empty() {
                    break;
                }
                for frame in frames {
                    if frame.sealed_us >= too_old {
                        break 'reading;
                    }
                    last = Some(frame.offset);
                    from = frame.offset + 1;
                }
            }
            if let Some(last) = last {
                expired = log.evict(u64::MAX, last, GapReason::Expired)?;
            }
        }
        Ok((expired, log.gaps()))
    });
    if let Some((expired, gaps)) = gaps.await {
        outbox.lock().absorb_gaps(&gaps);
        for gap in &expired {
            outbox.tell_of(gap);
        }
    }
}

/// Reads batches from the spool for the session to send. `false` if that failed: try again later.
pub(crate) async fn read(outbox: &Outbox, offset: u64) -> bool {
    let read = on_disk(outbox, move |log| Ok((log.read(offset, READ_BYTES)?, log.gaps(), log.acked())));
    let Some((frames, gaps, acked)) = read.await else { return false };
    let foreign = {
        let mut backlog = outbox.lock();
        backlog.absorb_gaps(&gaps);
        backlog.absorb_frames(&frames)
    };
    if let Some(foreign) = foreign {
        // Its checksum is right and its content is not: never sent by this version, for people to see.
        poison(outbox, None, foreign, "the spool holds a batch that this version did not write").await;
    }
    let held = frames.first().is_some_and(|frame| frame.offset == offset);
    if !held && offset <= acked {
        // It went from the spool when it was acked, just before the server turned out to have forgotten it.
        outbox.lock().forget(acked);
        let producer_id = outbox.producer_id;
        outbox.events.send(Event::Forgotten { producer_id, first: offset, last: acked });
        return true;
    }
    let known = held || gaps.iter().any(|gap| (gap.first..=gap.last).contains(&offset));
    if !known {
        tracing::error!(producer_id = %outbox.producer_id, offset, "the spool neither holds nor gave up a batch");
    }
    known
}

/// Sets a batch aside that the server refuses again and again.
pub(crate) async fn poison(outbox: &Outbox, dir: Option<&Path>, offset: u64, message: &str) {
    let producer_id = outbox.producer_id;
    let (items, file, batch) = if outbox.is_spooled() {
        let poisoned = on_disk(outbox, move |log| Ok((log.poison(offset)?, log.gaps()))).await;
        let Some((file, gaps)) = poisoned else { return };
        outbox.lock().absorb_gaps(&gaps);
        let items = gaps.iter().find(|gap| gap.first == offset).map_or(0, |gap| gap.items);
        (items, Some(file), None)
    } else {
        let Some((items, batch)) = outbox.lock().take_poisoned(offset) else { return };
        match keep(dir, producer_id, offset, batch.clone()).await {
            Ok(Some(file)) => (items, Some(file), None),
            Ok(None) => (items, None, Some(batch)),
            Err(error) => {
                tracing::warn!(%producer_id, offset, %error, "cannot keep a poisoned batch in its directory");
                (items, None, Some(batch))
            }
        }
    };
    tracing::warn!(%producer_id, offset, items, message, ?file, "batch set aside: the server refuses it");
    let message = message.to_owned();
    outbox.events.send(Event::Poisoned { producer_id, offset, items, file, batch, message });
}

async fn keep(
    dir: Option<&Path>,
    producer_id: Uuid,
    offset: u64,
    batch: Bytes,
) -> io::Result<Option<PathBuf>> {
    let Some(dir) = dir.map(Path::to_owned) else { return Ok(None) };
    let write = move || {
        fs::create_dir_all(&dir)?;
        let file = dir.join(format!("{producer_id}-{offset}.batch"));
        fs::write(&file, &batch)?;
        fs::File::open(&file)?.sync_all()?;
        Ok(Some(file))
    };
    tokio::task::spawn_blocking(write).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

/// Tells the spool what the server has, so that it can free room, until nothing more will be decided.
///
/// `live` is the producer that waits for room in the same spool.
pub(crate) async fn trim(outbox: Arc<Outbox>, live: Arc<Outbox>) {
    let mut progress = outbox.progress();
    loop {
        let now = *progress.borrow_and_update();
        on_disk(&outbox, move |log| log.ack(now.decided)).await;
        live.lock().spool_trimmed();
        live.made_room();
        if now.over || progress.changed().await.is_err() {
            return;
        }
    }
}

/// Gives up the oldest batches of the spool: those of earlier openings first. Blocks on the disk.
///
/// Answers whether anything went. Nothing of a log with an open session goes: it sends the oldest.
pub(crate) fn evict(outboxes: &[Arc<Outbox>], bytes: u64) -> bool {
    outboxes.iter().any(|outbox| {
        let Some(log) = outbox.log() else { return false };
        // Under the lock: no session may begin to send what is about to go.
        let mut backlog = outbox.lock();
        let not_after = backlog.evictable();
        if not_after <= log.acked() {
            return false;
        }
        let before = log.bytes();
        match log.evict(bytes, not_after, GapReason::Evicted) {
            Ok(gaps) => {
                backlog.absorb_gaps(&log.gaps());
                drop(backlog);
                for gap in &gaps {
                    outbox.tell_of(gap);
                }
            }
            Err(error) => {
                drop(backlog);
                failed(outbox, &error);
            }
        }
        log.bytes() < before
    })
}
