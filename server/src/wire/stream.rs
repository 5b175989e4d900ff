//! Carries one stream: reads requests into a session, writes what its outbox tells.

use herdstream_proto::{
    PROTOCOL_VERSION,
    limits::{MAX_BATCH_BYTES, MAX_BATCH_READINGS, MAX_NAME_CHARS},
    v1::{self, stream_request, stream_response},
};
use tokio::{
    sync::{
        mpsc::{self, error::SendTimeoutError},
        oneshot,
    },
    time::Instant,
};
use tonic::{Status, Streaming};

use super::{
    convert,
    metered_body::Metered,
    status::{from_inbound, to_status},
};
use crate::{
    error::Error,
    ingest::{Caller, Ingest, Notice, Open, Session, validate::quote},
    model::MAX_OFFSET,
};

/// What is sent back while the stream lasts.
pub(super) type Outbound = mpsc::Sender<Result<v1::StreamResponse, Status>>;

/// How the stream ended. It has a way of its own, so that a client that reads late still learns it, and so
/// that a stream that nobody ended cannot pass for one that ended well.
pub(super) type Ended = oneshot::Sender<Result<(), Status>>;

/// Carries one stream to its end.
pub(super) struct Carrier {
    pub(super) ingest: Ingest,
    pub(super) caller: Caller,
    pub(super) inbound: Streaming<v1::StreamRequest>,
    pub(super) metered: Metered,
    pub(super) outbound: Outbound,
    pub(super) ended: Ended,
}

/// Why a stream ended.
enum End {
    /// The link is gone: there is nobody to tell.
    Gone,
    /// A status to tell.
    Refused(Box<Status>),
}

impl From<Error> for End {
    fn from(error: Error) -> Self {
        Self::Refused(Box::new(to_status(error)))
    }
}

impl Carrier {
    /// Carries the stream to its end.
    pub(super) async fn run(mut self) {
        let end = self.carry().await;
        let ended = match end {
            Ok(()) => Ok(()),
            Err(End::Gone) => Err(Status::cancelled("the link broke")),
            Err(End::Refused(status)) => {
                tracing::debug!(code = ?status.code(), message = status.message(), "stream refused");
                Err(*status)
            }
        };
        // Whoever hung up does not want to know.
        let _ = self.ended.send(ended);
    }

    async fn carry(&mut self) -> Result<(), End> {
        let mut session = self.open().await?;
        self.serve(&mut session).await
    }

    async fn open(&mut self) -> Result<Session, End> {
        let config = self.ingest.config();
        let (patience, keepalive) = (config.open_timeout, config.keepalive);
        let first = tokio::time::timeout(patience, self.inbound.message())
            .await
            .map_err(|_| Error::Stalled(format!("no Open within {patience:?}")))?;
        let Some(stream_request::Message::Open(open)) = Self::message(first)? else {
            return Err(Error::BadMessage("the first message of a stream must be Open".to_owned()).into());
        };
        drop(self.metered.take()?);
        let open = check_open(open)?;
        let mut cut = self.ingest.cut_signal();
        let (session, opened) = tokio::select! {
            biased;
            _ = cut.changed() => return Err(cut_off()),
            opened = Session::open(&self.ingest, self.caller.clone(), open) => opened?,
        };
        self.send(stream_response::Message::Opened(v1::Opened {
            epoch: opened.epoch,
            committed_offset: opened.committed_offset,
            totals: Some(convert::to_totals(opened.totals)),
            credit: Some(convert::to_credit(opened.credit)),
            limits: Some(v1::Limits {
                max_batch_readings: MAX_BATCH_READINGS as u32,
                max_batch_bytes: MAX_BATCH_BYTES as u32,
            }),
            keepalive_ms: keepalive.as_millis() as u32,
        }))
        .await?;
        Ok(session)
    }

    async fn serve(&mut self, session: &mut Session) -> Result<(), End> {
        let outbox = std::sync::Arc::clone(session.outbox());
        let idle = self.ingest.config().idle_timeout;
        let mut drain = self.ingest.drain_signal();
        let mut cut = self.ingest.cut_signal();
        let mut reading = true;
        let mut draining = false;
        let mut silence = Box::pin(tokio::time::sleep(idle));
        let mut heard = 0;
        loop {
            if !reading && session.is_settled() {
                return Ok(());
            }
            tokio::select! {
                biased;
                _ = cut.changed() => return Err(cut_off()),
                notice = outbox.next() => match notice {
                    Notice::Ack(ack) => {
                        let credit = session.grant(ack.settled_bytes);
                        self.send(stream_response::Message::Ack(convert::to_ack(ack, credit))).await?;
                    }
                    Notice::End(error) => return Err(error.into()),
                },
                deadline = wait_for_drain(&mut drain), if !draining => {
                    (draining, reading) = (true, false);
                    let deadline = deadline.saturating_duration_since(Instant::now());
                    let endpoints = self.ingest.drain_endpoints().to_vec();
                    let drain = v1::Drain { deadline_ms: deadline.as_millis() as u32, endpoints };
                    self.send(stream_response::Message::Drain(drain)).await?;
                }
                message = self.inbound.message(), if reading => {
                    silence.as_mut().reset(Instant::now() + idle);
                    heard = self.metered.received_bytes();
                    match Self::message(message)? {
                        Some(message) => self.take(session, message).await?,
                        None => reading = false,
                    }
                }
                () = &mut silence, if reading => {
                    // A message that takes long is no silence; the meter bounds how long.
                    let received = self.metered.received_bytes();
                    if received == heard {
                        return Err(Error::Stalled(format!("nothing was sent for {idle:?}: ping in time")).into());
                    }
                    heard = received;
                    silence.as_mut().reset(Instant::now() + idle);
                }
            }
        }
    }

    async fn take(&mut self, session: &mut Session, message: stream_request::Message) -> Result<(), End> {
        let permit = self.metered.take()?;
        match message {
            stream_request::Message::Batch(batch) => session.batch(convert::batch(batch), permit).await?,
            stream_request::Message::Skip(skip) => session.skip(convert::skip(skip)?, permit).await?,
            stream_request::Message::Ping(v1::Ping { nonce }) => {
                self.send(stream_response::Message::Pong(v1::Pong { nonce })).await?;
            }
            stream_request::Message::Open(_) => {
                return Err(Error::BadMessage("Open twice on one stream: open another".to_owned()).into());
            }
        }
        Ok(())
    }

    /// What the client sent; None when it is done sending.
    fn message(
        received: Result<Option<v1::StreamRequest>, Status>,
    ) -> Result<Option<stream_request::Message>, End> {
        match received {
            Ok(None) => Ok(None),
            Ok(Some(v1::StreamRequest { message: Some(message) })) => Ok(Some(message)),
            Ok(Some(v1::StreamRequest { message: None })) => {
                Err(Error::BadMessage("a request without a message".to_owned()).into())
            }
            Err(status) => {
                Err(from_inbound(status).map_or(End::Gone, |status| End::Refused(Box::new(status))))
            }
        }
    }

    /// Sends a message; a client that does not read for too long is cut.
    async fn send(&self, message: stream_response::Message) -> Result<(), End> {
        let patience = self.ingest.config().idle_timeout;
        match self.outbound.send_timeout(Ok(v1::StreamResponse { message: Some(message) }), patience).await {
            Ok(()) => Ok(()),
            Err(SendTimeoutError::Timeout(_)) => {
                Err(Error::Stalled(format!("nothing was read for {patience:?}: read in time")).into())
            }
            Err(SendTimeoutError::Closed(_)) => Err(End::Gone),
        }
    }
}

/// What a client sees of a stream that is cut: what a broken link looks like, and no reason.
fn cut_off() -> End {
    End::Refused(Box::new(Status::unavailable("the stream was cut")))
}

async fn wait_for_drain(drain: &mut tokio::sync::watch::Receiver<Option<Instant>>) -> Instant {
    match drain.wait_for(Option::is_some).await.map(|deadline| *deadline) {
        Ok(Some(deadline)) => deadline,
        // The sender lives as long as the server.
        _ => std::future::pending().await,
    }
}

fn check_open(open: v1::Open) -> Result<Open, Error> {
    if open.protocol_version != PROTOCOL_VERSION {
        return Err(Error::UnsupportedVersion(open.protocol_version));
    }
    let producer = convert::producer_id(&open.producer_id)?;
    check_name("gateway_id", &open.gateway_id, 1)?;
    check_name("instance_id", &open.instance_id, 1)?;
    check_name("sdk", &open.sdk, 0)?;
    if open.first_retained_offset == 0 || open.first_retained_offset > open.next_offset {
        return Err(Error::BadMessage(format!(
            "first_retained_offset {} and next_offset {}: 1 ≤ first ≤ next is expected",
            open.first_retained_offset, open.next_offset
        )));
    }
    if open.next_offset > MAX_OFFSET + 1 {
        return Err(Error::BadMessage(format!(
            "next_offset {} is beyond {}",
            open.next_offset,
            MAX_OFFSET + 1
        )));
    }
    Ok(Open {
        producer,
        instance_id: open.instance_id,
        gateway_id: open.gateway_id,
        first_retained_offset: open.first_retained_offset,
        next_offset: open.next_offset,
    })
}

/// Checks a name of at most 64 characters.
pub(super) fn check_name(field: &str, text: &str, min: usize) -> Result<(), Error> {
    let chars = text.chars().count();
    if (min..=MAX_NAME_CHARS).contains(&chars) && !text.contains('\0') {
        return Ok(());
    }
    Err(Error::BadMessage(format!(
        "{field} {}: {min} to {MAX_NAME_CHARS} characters without U+0000 are expected",
        quote(text)
    )))
}
