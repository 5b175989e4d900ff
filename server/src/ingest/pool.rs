use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Charged for every message on top of its bytes, so that many small ones are bounded too.
const MESSAGE_OVERHEAD: usize = 256;

/// Bytes that all streams together may hold between the wire and the commit.
#[derive(Clone, Debug)]
pub struct BytePool {
    permits: Arc<Semaphore>,
    capacity: usize,
}

impl BytePool {
    /// A pool of `capacity` bytes; what is larger than all of it is charged as all of it.
    pub fn new(capacity: usize) -> Self {
        Self { permits: Arc::new(Semaphore::new(capacity)), capacity }
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
