use std::sync::Arc;

use herdstream_proto::limits::{MAX_BATCH_BYTES, MAX_BATCH_READINGS};

use super::{
    Ingest,
    caller::Caller,
    group::Opening,
    incoming::{IncomingBatch, Open, Skip},
    lane::{Command, Entry, Pending},
    outbox::Outbox,
    pool::MessagePermit,
    rows::{Content, RowMaker},
};
use crate::{
    error::Error,
    model::{MAX_OFFSET, Offset, ProducerId, Totals},
    ops::metrics,
    store::OpenSession,
};

/// One session of one producer: checks order and credit, turns what arrives into rows, and hands them
/// to the lane that owns the producer.
#[derive(Debug)]
pub struct Session {
    ingest: Ingest,
    caller: Caller,
    producer: ProducerId,
    epoch: u64,
    outbox: Arc<Outbox>,
    rows: RowMaker,
    /// Next offset.
    expected: Offset,
    /// One past the highest offset known to be assigned.
    assigned_end: Offset,
    submitted: u64,
    received_bytes: u64,
    granted: u64,
}

/// Answer to an open.
#[derive(Clone, Copy, Debug)]
pub struct Opened {
    /// Number of the session.
    pub epoch: u64,
    /// Everything up to here is durable.
    pub committed_offset: Offset,
    /// Of the producer.
    pub totals: Totals,
    /// Cumulative bytes that may be sent.
    pub credit: u64,
}

impl Session {
    /// Opens a session and fences the earlier ones of the producer.
    ///
    /// # Errors
    ///
    /// [`Error::RateLimited`], [`Error::Draining`], [`Error::StoreDown`], [`Error::PermissionDenied`] when
    /// the caller is another gateway than the one named, or than the one that owns the producer.
    pub async fn open(ingest: &Ingest, caller: Caller, open: Open) -> Result<(Self, Opened), Error> {
        ingest.0.opens.check()?;
        ingest.refuse_while_draining()?;
        ingest.refuse_while_down()?;
        caller.check_name(&open.gateway_id)?;
        ingest.check_owner(&caller, open.producer).await?;
        let outbox = Arc::new(Outbox::default());
        let (reply, answer) = tokio::sync::oneshot::channel();
        let lane = ingest.lane_of(open.producer);
        lane.send(Command::Open {
            producer: open.producer,
            open: OpenSession { gateway_id: open.gateway_id, instance_id: open.instance_id },
            opening: Opening { outbox: Arc::clone(&outbox), reply },
        })
        .await?;
        let row = ingest.answer(answer).await.map_err(super::again)?;
        let mut session = Self {
            caller,
            producer: open.producer,
            epoch: row.epoch,
            outbox,
            rows: RowMaker::new(ingest),
            expected: row.committed_offset + 1,
            assigned_end: open.next_offset,
            submitted: 0,
            received_bytes: 0,
            granted: 0,
            ingest: ingest.clone(),
        };
        let credit = session.grant(0);
        Ok((
            session,
            Opened { epoch: row.epoch, committed_offset: row.committed_offset, totals: row.totals, credit },
        ))
    }

    /// Where the lane tells what became of what was sent.
    pub fn outbox(&self) -> &Arc<Outbox> {
        &self.outbox
    }

    /// The producer.
    pub fn producer(&self) -> ProducerId {
        self.producer
    }

    /// Whether everything handed in has been committed and told.
    pub fn is_settled(&self) -> bool {
        self.outbox.is_settled(self.submitted)
    }

    /// Raises the credit after `settled_bytes` were committed, as far as the pool allows; answers it.
    pub fn grant(&mut self, settled_bytes: u64) -> u64 {
        let before = self.granted;
        self.granted = before.max(settled_bytes + self.ingest.window());
        metrics::credit(self.granted - before);
        self.granted
    }

    /// Takes a batch.
    ///
    /// # Errors
    ///
    /// What ends the stream: [`Error::BadMessage`], [`Error::OffsetGap`], [`Error::BatchTooLarge`],
    /// [`Error::CreditExceeded`], [`Error::PermissionDenied`], [`Error::Draining`].
    pub async fn batch(&mut self, batch: IncomingBatch, permit: MessagePermit) -> Result<(), Error> {
        let batch_bytes = batch_bytes(permit.bytes);
        check_size(&batch, batch_bytes)?;
        self.charge(batch_bytes as u64)?;
        let offset = batch.offset;
        if offset == 0 {
            return Err(Error::BadMessage("batch with offset 0: offsets start at 1".to_owned()));
        }
        if offset > self.expected {
            return Err(Error::OffsetGap { expected: self.expected, got: offset });
        }
        if offset > MAX_OFFSET {
            return Err(Error::BadMessage(format!("batch {offset}: a log ends with offset {MAX_OFFSET}")));
        }
        self.caller.check_farms(&batch)?;
        let IncomingBatch { series, readings, milkings, .. } = batch;
        let refused =
            self.rows.define(&self.ingest, series).await.map_err(|error| at_offset(error, offset))?;
        let batch_bytes = batch_bytes as u64;
        let entry = if offset < self.expected {
            let duplicate = (readings.len() + milkings.len()) as u64;
            self.entry(Totals { duplicate, ..Totals::default() }, batch_bytes, permit)
        } else {
            let content = Content { offset, backfill: false, refused, readings, milkings };
            let entry = self.rows.entry(&self.ingest, content, permit, batch_bytes).await;
            let entry = entry.map_err(|error| at_offset(error, offset))?;
            self.expected += 1;
            self.assigned_end = self.assigned_end.max(self.expected);
            entry
        };
        self.append(entry).await
    }

    /// Takes a skip.
    ///
    /// # Errors
    ///
    /// [`Error::OffsetGap`] when it starts beyond the next offset, [`Error::BadMessage`] when it is no
    /// range or names offsets that were never assigned.
    pub async fn skip(&mut self, skip: Skip, permit: MessagePermit) -> Result<(), Error> {
        let Skip { first, last, readings, reason } = skip;
        if first == 0 || first > last {
            return Err(Error::BadMessage(format!("skip of offsets {first} to {last}: no range")));
        }
        if first > self.expected {
            return Err(Error::OffsetGap { expected: self.expected, got: first });
        }
        if last >= self.assigned_end {
            return Err(Error::BadMessage(format!(
                "skip up to offset {last}: the highest one assigned is {}",
                self.assigned_end - 1
            )));
        }
        let all_committed = last < self.expected;
        self.expected = self.expected.max(last + 1);
        tracing::info!(producer = %self.producer, first, last, readings, %reason, "offsets skipped");
        let skipped = if all_committed { 0 } else { readings };
        let entry = self.entry(Totals { skipped, ..Totals::default() }, 0, permit);
        self.append(entry).await
    }

    /// An entry without rows.
    fn entry(&self, totals: Totals, batch_bytes: u64, permit: MessagePermit) -> Entry {
        Entry {
            committed_offset: self.expected - 1,
            totals,
            readings: Vec::new(),
            milkings: Vec::new(),
            quarantined: Vec::new(),
            batch_bytes,
            permit,
            rows_permit: MessagePermit::none(),
            pending: Pending::new(&self.ingest.0.status, 0),
        }
    }

    async fn append(&mut self, entry: Entry) -> Result<(), Error> {
        self.submitted += 1;
        let lane = self.ingest.lane_of(self.producer);
        let outbox = Arc::clone(&self.outbox);
        lane.send(Command::Append { producer: self.producer, epoch: self.epoch, outbox, entry }).await
    }

    /// Charges a batch to the credit. One is always allowed when nothing is in flight.
    fn charge(&mut self, bytes: u64) -> Result<(), Error> {
        let in_flight = self.received_bytes > self.outbox.settled_bytes();
        self.received_bytes += bytes;
        if in_flight && self.received_bytes > self.granted {
            return Err(Error::CreditExceeded { sent: self.received_bytes, credit: self.granted });
        }
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.ingest.lane_of(self.producer).close(self.producer, self.epoch);
    }
}

pub(super) fn check_size(batch: &IncomingBatch, bytes: usize) -> Result<(), Error> {
    if bytes > MAX_BATCH_BYTES {
        return Err(Error::BatchTooLarge(format!(
            "batch {} of {bytes} bytes: at most {MAX_BATCH_BYTES}, send several",
            batch.offset
        )));
    }
    if batch.len() > MAX_BATCH_READINGS {
        return Err(Error::BatchTooLarge(format!(
            "batch {} of {} readings and milkings: at most {MAX_BATCH_READINGS}, send several",
            batch.offset,
            batch.len()
        )));
    }
    Ok(())
}

/// Encoded size of a `Batch` that alone fills a `StreamRequest` of `message` bytes: without tag and length.
pub(super) fn batch_bytes(message: usize) -> usize {
    let length_bytes = |n: usize| (usize::BITS - (n | 1).leading_zeros()).div_ceil(7) as usize;
    // The length takes 1 to 5 bytes, and how many depends on the rest.
    let rest =
        |bytes: &usize| message.checked_sub(1 + bytes).is_some_and(|body| length_bytes(body) == *bytes);
    (1..=5).find(rest).map_or(0, |bytes| message - 1 - bytes)
}

pub(super) fn at_offset(error: Error, offset: Offset) -> Error {
    match error {
        Error::BadMessage(text) => Error::BadMessage(format!("batch {offset}: {text}")),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use herdstream_proto::v1;
    use prost::Message as _;

    #[test]
    fn the_size_of_a_batch_follows_from_that_of_its_request() {
        for bytes in (0..300).chain(16_370..16_400).chain(2_097_140..2_097_160) {
            let session_id = Some("x".repeat(bytes));
            let reading = v1::Reading { session_id, ..v1::Reading::default() };
            let batch = v1::Batch { offset: 1, readings: vec![reading], ..v1::Batch::default() };
            let size = batch.encoded_len();
            let message = Some(v1::stream_request::Message::Batch(batch));
            let request = v1::StreamRequest { message }.encoded_len();
            assert_eq!(super::batch_bytes(request), size);
        }
    }
}
