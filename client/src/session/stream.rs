//! One session: one stream, from the connection to its end.

use std::{pin::pin, sync::Arc, time::Duration};

use herdstream_proto::{
    PROTOCOL_VERSION,
    v1::{self, stream_request, stream_response},
};
use tokio::{
    sync::mpsc,
    time::{Instant, timeout, timeout_at},
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{
    Request, Status, Streaming,
    client::Grpc,
    codegen::http::uri::PathAndQuery,
    transport::{Channel, Endpoint},
};

use super::{
    Attempt, End, Link, Strikes, rejections, sdk,
    wire::{Outgoing, StreamCodec},
};
use crate::{
    backlog::{Next, Violation},
    connection::authorize,
    event::Event,
    outbox::{Outbox, now_us},
    recall,
};

const PATH: PathAndQuery = PathAndQuery::from_static("/herdstream.v1.IngestService/Stream");

/// Largest answer that is accepted: an ack with 500 rejections is far below.
const MAX_ANSWER_BYTES: usize = 4 << 20;
/// Messages between the backlog and the connection.
const QUEUE: usize = 4;
/// Shortest silence after which the server is asked whether it is there.
const MIN_KEEPALIVE: Duration = Duration::from_secs(1);
/// Longest time that a server which stops is given to acknowledge what it has.
const MAX_DRAIN: Duration = Duration::from_mins(1);
/// Pause before the spool is read again after a failure.
const READ_AGAIN: Duration = Duration::from_secs(1);

/// Opens a session and carries it to its end.
pub(super) async fn run(
    outbox: &Arc<Outbox>,
    link: &Arc<Link>,
    endpoint: &str,
    strikes: &Strikes,
) -> Attempt {
    let mut progressed = false;
    let end = match Session::open(outbox, link, endpoint, strikes).await {
        Ok(mut session) => {
            let end = session.carry().await;
            progressed = session.progressed;
            end
        }
        Err(end) => end,
    };
    let (head, was_open) = {
        let mut backlog = outbox.lock();
        (backlog.head_in_flight(), backlog.stop_sending())
    };
    if was_open {
        outbox.may_evict();
    }
    Attempt { end, progressed, head }
}

struct Session<'a> {
    outbox: &'a Arc<Outbox>,
    link: &'a Arc<Link>,
    endpoint: &'a str,
    channel: Channel,
    inbound: Streaming<v1::StreamResponse>,
    outbound: Option<mpsc::Sender<Outgoing>>,
    keepalive: Duration,
    progressed: bool,
}

impl<'a> Session<'a> {
    async fn open(
        outbox: &'a Arc<Outbox>,
        link: &'a Arc<Link>,
        endpoint: &'a str,
        strikes: &Strikes,
    ) -> Result<Self, End> {
        let config = &link.config;
        let channel = connect(link, endpoint).await?;
        let (outbound, requests) = mpsc::channel(QUEUE);
        let (retained, next_offset) = outbox.lock().range();
        let first_retained_offset = outbox.log().map_or(retained, |log| log.first_retained().min(retained));
        let open = v1::Open {
            protocol_version: PROTOCOL_VERSION,
            producer_id: outbox.producer_id.to_string(),
            instance_id: link.instance_id.clone(),
            gateway_id: config.gateway_id.clone(),
            first_retained_offset,
            next_offset,
            sdk: sdk(),
        };
        // The queue is empty and open, so there is room.
        let _ = outbound.try_send(Outgoing::Message(stream_request::Message::Open(open)));
        let mut request = Request::new(ReceiverStream::new(requests));
        authorize(&mut request, link.token.as_ref());

        let mut grpc = Grpc::new(channel.clone()).max_decoding_message_size(MAX_ANSWER_BYTES);
        let opening = async {
            grpc.ready().await.map_err(|error| End::Unreachable(causes(&error)))?;
            let response = grpc.streaming(request, PATH, StreamCodec).await.map_err(End::Refused)?;
            let mut inbound = response.into_inner();
            let first = inbound.message().await.map_err(End::Refused)?.ok_or(End::Closed)?;
            match first.message {
                Some(stream_response::Message::Opened(opened)) => Ok((inbound, opened)),
                other => Err(End::Refused(Status::internal(format!("the server did not open: {other:?}")))),
            }
        };
        let (inbound, opened) = timeout(config.open_timeout, opening).await.map_err(|_| {
            End::Timeout(format!("the session did not open within {:?}", config.open_timeout))
        })??;
        let keepalive = Duration::from_millis(u64::from(opened.keepalive_ms)).max(MIN_KEEPALIVE);
        let session = Self {
            outbox,
            link,
            endpoint,
            channel,
            inbound,
            outbound: Some(outbound),
            keepalive,
            progressed: false,
        };
        session.begin(&opened, next_offset, strikes).await?;
        Ok(session)
    }

    /// Compares what the server has with what is here.
    async fn begin(&self, opened: &v1::Opened, announced: u64, strikes: &Strikes) -> Result<(), End> {
        let Self { outbox, .. } = self;
        let producer_id = outbox.producer_id;
        let committed = opened.committed_offset;
        let held = recall::unack(outbox, committed).await;
        let begun =
            outbox.lock().begin(opened, announced, strikes.offset, now_us(), &held).map_err(End::Conflict)?;
        outbox.settled(&begun.settled);
        if let Some((first, _)) = held.first() {
            outbox.set_back(first - 1);
        }
        tracing::info!(%producer_id, endpoint = self.endpoint, epoch = opened.epoch, committed, "session open");
        outbox.events.send(Event::Connected {
            producer_id,
            endpoint: self.endpoint.to_owned(),
            epoch: opened.epoch,
            committed_offset: committed,
        });
        if let Some((first, last)) = begun.forgotten {
            tracing::warn!(%producer_id, first, last, "the server lost what it had acknowledged");
            outbox.events.send(Event::Forgotten { producer_id, first, last });
        }
        for gap in &begun.expired {
            outbox.tell_of(gap);
        }
        rejections::after_opening(self.link, &self.channel, self.endpoint, outbox, begun.settled);
        recall::begin(outbox, committed).await;
        if let Some(offset) = strikes.condemned(committed) {
            recall::poison(outbox, self.link.config.poison_dir.as_deref(), offset, &strikes.message).await;
        }
        Ok(())
    }

    async fn carry(&mut self) -> End {
        let outbox = self.outbox.clone();
        let Some(outbound) = self.outbound.take() else { return End::Closed };
        let pings = outbound.downgrade();
        let mut feed = pin!(feed(&outbox, outbound));
        let mut receive = pin!(self.receive(pings));
        tokio::select! {
            end = &mut feed => match end {
                Some(end) => end,
                // The request side is done; the last acks are still to come.
                None => match receive.await {
                    End::Closed => End::Finished,
                    end => end,
                },
            },
            end = &mut receive => end,
        }
    }

    /// Hears what the server says until the stream ends.
    async fn receive(&mut self, pings: mpsc::WeakSender<Outgoing>) -> End {
        let patience = self.link.config.keepalive_timeout;
        let mut silent_until = Instant::now() + self.keepalive;
        let mut asked = false;
        let mut drain: Option<(Instant, Vec<String>)> = None;
        loop {
            let until = drain.as_ref().map_or(silent_until, |(deadline, _)| *deadline);
            let message = match timeout_at(until, self.inbound.message()).await {
                Ok(Ok(Some(v1::StreamResponse { message: Some(message) }))) => message,
                Ok(Ok(Some(v1::StreamResponse { message: None }))) => continue,
                Ok(Ok(None)) => return drain.map_or(End::Closed, |(_, hints)| End::Drained(hints)),
                Ok(Err(status)) => {
                    return drain.map_or(End::Refused(status), |(_, hints)| End::Drained(hints));
                }
                Err(_) => match drain {
                    Some((_, hints)) => return End::Drained(hints),
                    None if asked => {
                        return End::Timeout(format!("nothing heard for {:?}", self.keepalive + patience));
                    }
                    None => {
                        // If it finds no room, the connection takes nothing: as telling as no answer.
                        if let Some(outbound) = pings.upgrade() {
                            let ping = v1::Ping { nonce: rand::random() };
                            let _ = outbound.try_send(Outgoing::Message(stream_request::Message::Ping(ping)));
                        }
                        asked = true;
                        silent_until = Instant::now() + patience;
                        continue;
                    }
                },
            };
            asked = false;
            silent_until = Instant::now() + self.keepalive;
            match message {
                stream_response::Message::Ack(ack) => {
                    if let Err(violation) = self.ack(ack) {
                        return End::Violation(violation);
                    }
                }
                stream_response::Message::Credit(credit) => {
                    self.outbox.lock().allow(credit.max_bytes);
                    self.outbox.wake();
                }
                stream_response::Message::Drain(v1::Drain { deadline_ms, endpoints }) => {
                    let deadline = Duration::from_millis(u64::from(deadline_ms)).min(MAX_DRAIN);
                    drain.get_or_insert((Instant::now() + deadline, endpoints));
                    self.outbox.lock().drain();
                    self.outbox.wake();
                }
                stream_response::Message::Pong(_) => {}
                stream_response::Message::Opened(_) => {
                    return End::Refused(Status::internal("the server opened the session twice"));
                }
            }
        }
    }

    fn ack(&mut self, ack: v1::Ack) -> Result<(), Violation> {
        let settled = self.outbox.lock().ack(&ack)?;
        self.progressed |= settled.offsets.is_some();
        self.outbox.settled(&settled);
        self.outbox.wake();
        rejections::after_ack(self.link, &self.channel, self.endpoint, self.outbox, settled, ack);
        Ok(())
    }
}

pub(super) async fn connect(link: &Link, endpoint: &str) -> Result<Channel, End> {
    let config = &link.config;
    let unreachable = |error: tonic::transport::Error| End::Unreachable(causes(&error));
    let server = Endpoint::from_shared(endpoint.to_owned())
        .map_err(unreachable)?
        .connect_timeout(config.connect_timeout)
        .http2_keep_alive_interval(config.keepalive)
        .keep_alive_timeout(config.keepalive_timeout)
        .keep_alive_while_idle(true)
        .tcp_nodelay(true);
    timeout(config.connect_timeout, server.connect())
        .await
        .map_err(|_| End::Timeout(format!("no connection within {:?}", config.connect_timeout)))?
        .map_err(unreachable)
}

/// Puts on the wire whatever is next. `None` when nothing more comes.
async fn feed(outbox: &Outbox, outbound: mpsc::Sender<Outgoing>) -> Option<End> {
    loop {
        let next = outbox.lock().next(Instant::now(), now_us());
        let outgoing = match next {
            Next::Batch { head, body } => Outgoing::Batch { head, body },
            Next::Skip(skip) => Outgoing::Message(stream_request::Message::Skip(skip)),
            Next::Read(offset) => {
                if !recall::read(outbox, offset).await {
                    tokio::time::sleep(READ_AGAIN).await;
                }
                continue;
            }
            Next::Wait(None) => {
                outbox.woken().await;
                continue;
            }
            Next::Wait(Some(until)) => {
                let _ = timeout_at(until, outbox.woken()).await;
                continue;
            }
            Next::Finish => return None,
            Next::Reopen => return Some(End::Reopen),
        };
        if outbound.send(outgoing).await.is_err() {
            // The connection is gone; the other direction learns why.
            std::future::pending::<()>().await;
        }
    }
}

/// An error with all that caused it, each said once: transports say little in their first line.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let cause = error.to_string();
        if !text.contains(&cause) {
            text = format!("{text}: {cause}");
        }
        source = error.source();
    }
    text
}
