use herdstream_proto::limits::MAX_METADATA_BYTES;
use uuid::Uuid;

use super::{
    Caller, IncomingBatch, Ingest, MessagePermit,
    group::{Rejections, Reply, refused_rows},
    lane::{Command, Entry},
    rows::{Content, RowMaker},
    session::{at_offset, check_size},
};
use crate::{
    error::Error,
    model::{MAX_OFFSET, Offset, ProducerId, Rejection, RejectionKind, now_us},
    store::{OpenSession, QuarantineSpan},
};

/// Mark of a reading whose time the server stamped; the same in every store.
const SERVER_TIME: (&str, &str) = ("time_source", "server");

/// The producer that a unary write speaks for.
#[derive(Clone, Debug)]
pub struct WriteSession {
    /// The producer.
    pub producer: ProducerId,
    /// The client process.
    pub instance_id: String,
    /// The gateway.
    pub gateway_id: String,
}

/// What became of a unary write.
#[derive(Clone, Debug)]
pub struct WriteOutcome {
    /// The producer, or the id under which an anonymous batch is quarantined.
    pub producer: ProducerId,
    /// Offset of the batch.
    pub offset: Offset,
    /// Readings and milkings stored.
    pub stored: u64,
    /// Readings and milkings refused.
    pub quarantined: u64,
    /// It had been committed before.
    pub duplicate: bool,
    /// What was refused, at most 500.
    pub rejections: Vec<Rejection>,
    /// What was refused beyond those.
    pub rejections_omitted: u32,
}

/// A lane's answer to a write.
#[derive(Debug, Default)]
pub(super) struct WriteReply {
    /// It had been committed before: what follows is not the outcome.
    pub(super) repeated: bool,
    pub(super) stored: u64,
    pub(super) quarantined: u64,
    pub(super) rejections: Rejections,
}

impl Ingest {
    /// Stores one batch and answers when it is durable: exactly once with a session, else at least once.
    /// With `backfill` it is history, which may be of any age.
    ///
    /// # Errors
    ///
    /// As [`super::Session::open`] and [`super::Session::batch`]; [`Error::Fenced`] when another server
    /// took the producer over meanwhile.
    pub async fn write(
        &self,
        caller: &Caller,
        session: Option<WriteSession>,
        mut batch: IncomingBatch,
        backfill: bool,
        permit: MessagePermit,
    ) -> Result<WriteOutcome, Error> {
        self.0.writes.check()?;
        self.refuse_while_draining()?;
        self.refuse_while_down()?;
        check_size(&batch, permit.bytes)?;
        caller.check_farms(&batch)?;
        if let Some(session) = &session {
            caller.check_name(&session.gateway_id)?;
            self.check_owner(caller, session.producer).await?;
        }
        if session.is_some() == (batch.offset == 0) {
            let text = "a write has a producer and an offset from 1, or neither";
            return Err(Error::BadMessage(text.to_owned()));
        }
        let offset = batch.offset.max(1);
        if offset > MAX_OFFSET {
            return Err(Error::BadMessage(format!("batch {offset}: a log ends with offset {MAX_OFFSET}")));
        }
        let rows = batch.len() as u64;
        stamp(&mut batch);
        let mut maker = RowMaker::new(self);
        let refused = maker
            .define(self, std::mem::take(&mut batch.series))
            .await
            .map_err(|error| at_offset(error, offset))?;
        let IncomingBatch { readings, milkings, .. } = batch;
        let content = Content { offset, backfill, refused, readings, milkings };
        let entry = maker.entry(self, content, permit, 0).await.map_err(|error| at_offset(error, offset))?;
        let is_session = session.is_some();
        let producer = session.as_ref().map_or_else(Uuid::now_v7, |session| session.producer);
        let (reply, answer) = tokio::sync::oneshot::channel();
        self.lane_of(producer).send(write_command(producer, session, entry, reply)).await?;
        let mut answered = self.answer(answer).await;
        if is_session && matches!(answered, Err(Error::Fenced { .. })) {
            // The session that took over may be that of this very batch, sent over another server.
            let row = self.0.store.producer(producer).await?.unwrap_or_default();
            if row.committed_offset >= offset {
                answered = Ok(WriteReply { repeated: true, ..WriteReply::default() });
            }
        }
        let mut reply = if is_session { answered.map_err(super::again)? } else { answered? };
        if reply.repeated {
            let first = self.first_rejections(producer, offset).await?;
            reply.quarantined = refused_rows(&first);
            reply.stored = rows.saturating_sub(reply.quarantined);
            reply.rejections = Rejections::default();
            reply.rejections.extend(&first);
        }
        Ok(WriteOutcome {
            producer,
            offset,
            stored: reply.stored,
            quarantined: reply.quarantined,
            duplicate: reply.repeated,
            rejections: reply.rejections.told,
            rejections_omitted: reply.rejections.omitted,
        })
    }

    /// What was refused of a batch when it was committed.
    async fn first_rejections(&self, producer: ProducerId, offset: Offset) -> Result<Vec<Rejection>, Error> {
        let span = QuarantineSpan { first: (offset, RejectionKind::Reading as u8, 0), last: offset };
        let records = self.0.store.quarantine(producer, span, usize::MAX).await?;
        Ok(records.into_iter().map(|record| record.rejection).collect())
    }
}

fn write_command(
    producer: ProducerId,
    session: Option<WriteSession>,
    entry: Entry,
    reply: Reply<WriteReply>,
) -> Command {
    match session {
        Some(WriteSession { instance_id, gateway_id, .. }) => {
            Command::Write { producer, open: OpenSession { gateway_id, instance_id }, entry, reply }
        }
        None => Command::WriteOnce { producer, entry, reply },
    }
}

/// Gives what came without a time the present, and marks the readings among it.
fn stamp(batch: &mut IncomingBatch) {
    let now = now_us();
    for milking in batch.milkings.iter_mut().filter(|milking| milking.time_us == 0) {
        milking.time_us = now;
    }
    for reading in batch.readings.iter_mut().filter(|reading| reading.time_us == 0) {
        reading.time_us = now;
        reading.metadata = Some(mark(reading.metadata.take()));
    }
}

/// Adds the mark to a JSON object, unless that would make it too long; anything else is left for validation.
fn mark(metadata: Option<String>) -> String {
    let text = metadata.unwrap_or_else(|| "{}".to_owned());
    match serde_json::from_str(&text) {
        Ok(serde_json::Value::Object(mut fields)) => {
            fields.insert(SERVER_TIME.0.to_owned(), SERVER_TIME.1.into());
            let marked = serde_json::Value::Object(fields).to_string();
            if marked.len() > MAX_METADATA_BYTES { text } else { marked }
        }
        _ => text,
    }
}
