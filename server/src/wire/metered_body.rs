//! Charges every message to the byte pool before it is taken in.
//!
//! The gRPC framing tells a message's length in its first five bytes. A message asks for its bytes once its
//! beginning has arrived, which for most messages is all of it, so that a slow or silent sender holds what it
//! sent and not what it announced. The body of an ingestion call is read no further until they are granted;
//! the rest waits in HTTP/2's flow-control window. So what is held for all streams together is the pool, as
//! much again for beginnings, and a window each.

use std::{
    collections::VecDeque,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use herdstream_proto::limits::MAX_MESSAGE_BYTES;
use http::Request;
use http_body::{Body as HttpBody, Frame, SizeHint};
use parking_lot::Mutex;
use tokio::time::Sleep;
use tonic::{Status, body::Body};
use tower::{Layer, Service};

use super::{auth::Gateways, status::to_status};
use crate::{
    error::Error,
    ingest::{BytePool, MessagePermit, Share},
};

/// Bytes of a gRPC message's prefix: a flag and the length, big-endian.
const PREFIX: usize = 5;

/// Start of the paths whose messages are charged.
const METERED: &str = "/herdstream.v1.IngestService/";

/// A message that has begun must go on by so many bytes, or end, within the message timeout.
const PROGRESS_BYTES: usize = 16 << 10;

/// Bytes of a message that arrive before it asks for its part of the pool.
const BEGINNING_BYTES: usize = 64 << 10;

/// What the meter tells the call whose messages it charges. An extension of its request.
#[derive(Clone, Debug, Default)]
pub(super) struct Metered(Arc<Progress>);

#[derive(Debug, Default)]
struct Progress {
    /// Permits of the messages taken in, in their order.
    permits: Mutex<VecDeque<MessagePermit>>,
    received_bytes: AtomicU64,
}

impl Metered {
    /// The permit of the message decoded next.
    pub(super) fn take(&self) -> Result<MessagePermit, Error> {
        self.0.permits.lock().pop_front().ok_or(Error::Internal("a message passed without a permit"))
    }

    /// Bytes that have arrived, of whole messages or not.
    pub(super) fn received_bytes(&self) -> u64 {
        self.0.received_bytes.load(Ordering::Relaxed)
    }
}

/// Puts the meter in front of the services.
#[derive(Clone, Debug)]
pub struct MeterLayer {
    pool: BytePool,
    message_timeout: Duration,
    gateways: Arc<Gateways>,
}

impl MeterLayer {
    /// Charges what `gateways` send to `pool`, and gives a message that has begun `message_timeout` to end, or
    /// to go on by 16 KiB.
    pub fn new(pool: BytePool, message_timeout: Duration, gateways: Arc<Gateways>) -> Self {
        Self { pool, message_timeout, gateways }
    }
}

impl<S> Layer<S> for MeterLayer {
    type Service = Meter<S>;

    fn layer(&self, inner: S) -> Meter<S> {
        Meter { inner, layer: self.clone() }
    }
}

/// Service of [`MeterLayer`].
#[derive(Clone, Debug)]
pub struct Meter<S> {
    inner: S,
    layer: MeterLayer,
}

impl<S: Service<Request<Body>>> Service<Request<Body>> for Meter<S> {
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Body>) -> S::Future {
        if request.uri().path().starts_with(METERED) {
            let metered = Metered::default();
            // A stranger is charged nothing: reading its body fails before anything of it is taken in.
            let refusal = self.layer.gateways.caller(request.headers()).err();
            request.extensions_mut().insert(metered.clone());
            request =
                request.map(|body| Body::new(MeteredBody::new(body, self.layer.clone(), metered, refusal)));
        }
        self.inner.call(request)
    }
}

type Granting = Pin<Box<dyn Future<Output = (MessagePermit, Option<Share>)> + Send>>;

/// Bytes that came and were not passed on.
#[derive(Default)]
struct Arrived {
    parts: VecDeque<Bytes>,
    bytes: usize,
}

impl Arrived {
    fn push(&mut self, part: Bytes) {
        if !part.is_empty() {
            self.bytes += part.len();
            self.parts.push_back(part);
        }
    }

    /// Takes at most `bytes` off the front; nothing when there is nothing.
    fn take(&mut self, bytes: usize) -> Bytes {
        let Some(front) = self.parts.front_mut() else { return Bytes::new() };
        let part = front.split_to(bytes.min(front.len()));
        if front.is_empty() {
            self.parts.pop_front();
        }
        self.bytes -= part.len();
        part
    }
}

struct MeteredBody {
    inner: Body,
    layer: MeterLayer,
    metered: Metered,
    refusal: Option<Error>,
    arrived: Arrived,
    /// The sender has said all.
    ended: bool,
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are known.
    prefix_len: usize,
    /// Room for what has arrived of the message of the prefix; Some until it asks for its bytes.
    beginning: Option<Vec<Share>>,
    /// Set while the message of the prefix waits for its bytes.
    granting: Option<Granting>,
    /// For the bytes of the current message that had not arrived when it was granted.
    to_come: Option<Share>,
    /// Bytes of the current message still to come.
    remaining: usize,
    /// Ends a message that does not go on, and what had come of it when this was set.
    deadline: Option<(Pin<Box<Sleep>>, u64)>,
}

impl MeteredBody {
    fn new(inner: Body, layer: MeterLayer, metered: Metered, refusal: Option<Error>) -> Self {
        Self {
            inner,
            layer,
            metered,
            refusal,
            arrived: Arrived::default(),
            ended: false,
            prefix: [0; PREFIX],
            prefix_len: 0,
            beginning: None,
            granting: None,
            to_come: None,
            remaining: 0,
            deadline: None,
        }
    }

    /// Takes from what has arrived: the next part of the current message, or more of the next prefix.
    fn advance(&mut self) -> Result<Option<Bytes>, Status> {
        if self.remaining > 0 {
            let part = self.arrived.take(self.remaining);
            self.remaining -= part.len();
            if self.remaining == 0 {
                self.to_come = None;
            }
            return Ok(Some(part));
        }
        let part = self.arrived.take(PREFIX - self.prefix_len);
        self.prefix[self.prefix_len..][..part.len()].copy_from_slice(&part);
        self.prefix_len += part.len();
        if self.prefix_len == PREFIX {
            let length = self.message_length();
            if length > MAX_MESSAGE_BYTES {
                return Err(to_status(Error::BatchTooLarge(format!(
                    "message of {length} bytes: at most {MAX_MESSAGE_BYTES}, send several"
                ))));
            }
            self.beginning = Some(Vec::new());
        }
        Ok(None)
    }

    /// Asks for the message's bytes once its beginning is there. Without room for more of it, at once.
    fn ask(&mut self, crowded: bool) {
        let length = self.message_length();
        let begun = self.arrived.bytes >= length.min(BEGINNING_BYTES);
        if self.beginning.is_some() && (begun || self.ended || crowded) {
            // A small one that is not all there need not queue behind large ones that never will be.
            let small = length <= BEGINNING_BYTES;
            let to_come = if small { 0 } else { length.saturating_sub(self.arrived.bytes) };
            self.granting = Some(Box::pin(self.layer.pool.clone().acquire_announced(length, to_come)));
        }
    }

    /// Takes in what came; whether there was room for it.
    fn arrive(&mut self, data: Bytes) -> bool {
        self.metered.0.received_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
        let share = self.layer.pool.early(data.len());
        self.arrived.push(data);
        match (&mut self.beginning, share) {
            (Some(beginning), Some(share)) => beginning.push(share),
            (Some(_), None) => return false,
            (None, _) => {}
        }
        true
    }

    fn message_length(&self) -> usize {
        let [_, length @ ..] = self.prefix;
        u32::from_be_bytes(length) as usize
    }

    /// The prefix, once its message has been granted its bytes.
    fn poll_granted(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(granting) = &mut self.granting else { return Poll::Ready(None) };
        let (permit, to_come) = ready!(granting.as_mut().poll(cx));
        self.metered.0.permits.lock().push_back(permit);
        (self.beginning, self.granting, self.deadline) = (None, None, None);
        self.to_come = to_come;
        self.remaining = self.message_length();
        self.prefix_len = 0;
        Poll::Ready(Some(Bytes::copy_from_slice(&self.prefix)))
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Status> {
        let received = self.metered.received_bytes();
        let inside = self.remaining > 0 || self.prefix_len > 0;
        let progress = |(_, since): &(_, u64)| received - since >= PROGRESS_BYTES as u64;
        if !inside || self.deadline.as_ref().is_some_and(progress) {
            self.deadline = None;
        }
        if !inside {
            return Poll::Pending;
        }
        let timeout = self.layer.message_timeout;
        let deadline = self.deadline.get_or_insert_with(|| (Box::pin(tokio::time::sleep(timeout)), received));
        ready!(deadline.0.as_mut().poll(cx));
        let text =
            format!("a message was begun and went on by less than {PROGRESS_BYTES} bytes in {timeout:?}");
        Poll::Ready(to_status(Error::Stalled(text)))
    }
}

impl HttpBody for MeteredBody {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = self.get_mut();
        if let Some(error) = this.refusal.take() {
            return Poll::Ready(Some(Err(to_status(error))));
        }
        let mut crowded = false;
        loop {
            if this.granting.is_none() {
                this.ask(crowded);
            }
            if let Some(prefix) = ready!(this.poll_granted(cx)) {
                return Poll::Ready(Some(Ok(Frame::data(prefix))));
            }
            if this.beginning.is_none() && this.arrived.bytes > 0 {
                match this.advance() {
                    Ok(Some(part)) => return Poll::Ready(Some(Ok(Frame::data(part)))),
                    Ok(None) => continue,
                    Err(status) => return Poll::Ready(Some(Err(status))),
                }
            }
            if this.ended {
                return Poll::Ready(None);
            }
            let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Pending => return this.poll_deadline(cx).map(|status| Some(Err(status))),
                Poll::Ready(frame) => frame,
            };
            match frame.transpose()?.map(Frame::into_data) {
                Some(Ok(data)) => crowded = !this.arrive(data),
                Some(Err(frame)) => return Poll::Ready(Some(Ok(frame))),
                None => this.ended = true,
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        let idle = self.beginning.is_none() && self.granting.is_none() && self.arrived.bytes == 0;
        idle && (self.ended || self.inner.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
