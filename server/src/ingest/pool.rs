use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Charged for every message on top of its bytes, so that many small ones are bounded too.
const MESSAGE_OVERHEAD: usize = 256;

/// Bytes that all streams together may hold between the wire and the commit.
///
/// What has arrived leaves with the next commits; what is only announced stays as long as its sender likes.
/// So bytes to come may hold half of the pool, and the other half goes on whatever slow senders do.
#[derive(Clone, Debug)]
pub struct BytePool {
    permits: Arc<Semaphore>,
    /// For bytes that a message has been granted and that have not arrived.
    announced: Arc<Semaphore>,
    /// For bytes that arrived before their message was granted its own.
    early: Arc<Semaphore>,
    capacity: usize,
}

/// Bytes counted in a part of the pool while it lives.
pub type Share = OwnedSemaphorePermit;

impl BytePool {
    /// A pool of `capacity` bytes; what is larger than all of it is charged as all of it.
    pub fn new(capacity: usize) -> Self {
        let part = |bytes| Arc::new(Semaphore::new(bytes));
        Self {
            permits: part(capacity),
            announced: part(announced_capacity(capacity)),
            early: part(capacity),
            capacity,
        }
    }

    /// Room for bytes of a message that is not granted yet; None when there is none at present.
    pub fn early(&self, bytes: usize) -> Option<Share> {
        Arc::clone(&self.early).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }

    /// As [`BytePool::acquire`], for a message of which `to_come` bytes have not arrived: the share is theirs.
    pub async fn acquire_announced(self, bytes: usize, to_come: usize) -> (MessagePermit, Option<Share>) {
        let announced = match to_come.min(announced_capacity(self.capacity)) {
            0 => None,
            charge => Arc::clone(&self.announced).acquire_many_owned(charge as u32).await.ok(),
        };
        (self.acquire(bytes).await, announced)
    }

    /// Waits, in order of arrival, until a message of `bytes` may be taken in.
    pub async fn acquire(self, bytes: usize) -> MessagePermit {
        let charge = (bytes + MESSAGE_OVERHEAD).min(self.capacity);
        // Fails only once the pool is closed, which it never is.
        let permit = self.permits.acquire_many_owned(charge as u32).await.ok();
        MessagePermit { bytes, permit }
    }

    /// Bytes that could be taken in at once.
    pub fn available(&self) -> usize {
        self.permits.available_permits()
    }

    /// Bytes taken in and not yet committed.
    pub fn held(&self) -> usize {
        self.capacity - self.available()
    }
}

fn announced_capacity(capacity: usize) -> usize {
    capacity / 2
}

/// One received message's part of the pool, given back when dropped.
#[derive(Debug)]
pub struct MessagePermit {
    /// Encoded size of the message.
    pub bytes: usize,
    permit: Option<OwnedSemaphorePermit>,
}

impl MessagePermit {
    /// A part of nothing.
    pub(super) fn none() -> Self {
        Self { bytes: 0, permit: None }
    }

    /// Gives back all but `bytes`.
    pub(super) fn shrink(&mut self, bytes: usize) {
        self.bytes = self.bytes.min(bytes);
        if let Some(permit) = &mut self.permit {
            drop(permit.split(permit.num_permits().saturating_sub(bytes)));
        }
    }
}
