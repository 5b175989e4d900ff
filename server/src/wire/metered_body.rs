//! Charges every message to the byte pool before it is taken in.
//!
//! The gRPC framing tells a message's length in its first five bytes. The body of an ingestion call is
//! read only while its next message has been granted its bytes; until then it waits in HTTP/2's
//! flow-control window. So what is held for all streams together is the pool, plus a window each.

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

use bytes::{Buf, Bytes};
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
    ingest::{BytePool, MessagePermit},
};

/// Bytes of a gRPC message's prefix: a flag and the length, big-endian.
const PREFIX: usize = 5;

/// Start of the paths whose messages are charged.
const METERED: &str = "/herdstream.v1.IngestService/";

/// A message that has begun must go on by so many bytes, or end, within the message timeout.
const PROGRESS_BYTES: usize = 16 << 10;

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

type Granting = Pin<Box<dyn Future<Output = MessagePermit> + Send>>;

struct MeteredBody {
    inner: Body,
    layer: MeterLayer,
    metered: Metered,
    refusal: Option<Error>,
    /// What came and was not passed on.
    pending: Bytes,
    prefix: [u8; PREFIX],
    /// Bytes of the prefix that are known.
    prefix_len: usize,
    /// Set while the message of the prefix waits for its bytes.
    granting: Option<Granting>,
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
            pending: Bytes::new(),
            prefix: [0; PREFIX],
            prefix_len: 0,
            granting: None,
            remaining: 0,
            deadline: None,
        }
    }

    /// Takes from what is pending: the next part of the current message, or more of the next prefix.
    fn advance(&mut self) -> Result<Option<Bytes>, Status> {
        if self.remaining > 0 {
            let part = self.pending.split_to(self.remaining.min(self.pending.len()));
            self.remaining -= part.len();
            return Ok(Some(part));
        }
        let step = (PREFIX - self.prefix_len).min(self.pending.len());
        self.prefix[self.prefix_len..][..step].copy_from_slice(&self.pending[..step]);
        self.pending.advance(step);
        self.prefix_len += step;
        if self.prefix_len == PREFIX {
            let length = self.message_length();
            if length > MAX_MESSAGE_BYTES {
                return Err(to_status(Error::BatchTooLarge(format!(
                    "message of {length} bytes: at most {MAX_MESSAGE_BYTES}, send several"
                ))));
            }
            self.granting = Some(Box::pin(self.layer.pool.clone().acquire(length)));
        }
        Ok(None)
    }

    fn message_length(&self) -> usize {
        let [_, length @ ..] = self.prefix;
        u32::from_be_bytes(length) as usize
    }

    /// The prefix, once its message has been granted its bytes.
    fn poll_granted(&mut self, cx: &mut Context<'_>) -> Poll<Option<Bytes>> {
        let Some(granting) = &mut self.granting else { return Poll::Ready(None) };
        let permit = ready!(granting.as_mut().poll(cx));
        self.metered.0.permits.lock().push_back(permit);
        (self.granting, self.deadline) = (None, None);
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
        loop {
            if let Some(prefix) = ready!(this.poll_granted(cx)) {
                return Poll::Ready(Some(Ok(Frame::data(prefix))));
            }
            if !this.pending.is_empty() {
                match this.advance() {
                    Ok(Some(part)) => return Poll::Ready(Some(Ok(Frame::data(part)))),
                    Ok(None) => continue,
                    Err(status) => return Poll::Ready(Some(Err(status))),
                }
            }
            let frame = match Pin::new(&mut this.inner).poll_frame(cx) {
                Poll::Pending => return this.poll_deadline(cx).map(|status| Some(Err(status))),
                Poll::Ready(frame) => frame,
            };
            let Some(frame) = frame.transpose()? else { return Poll::Ready(None) };
            match frame.into_data() {
                Ok(data) => {
                    this.metered.0.received_bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
                    this.pending = data;
                }
                Err(frame) => return Poll::Ready(Some(Ok(frame))),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.pending.is_empty() && self.granting.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
