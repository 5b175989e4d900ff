//! Connections as they come in: those that cannot be taken and those that never say anything.

use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use futures::Stream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::Sleep,
};
use tonic::transport::server::{Connected, TcpConnectInfo, TcpIncoming};

use crate::ops::accept::Refusals;

/// Bytes with which every client of HTTP/2 begins (RFC 9113, section 3.4).
const PREFACE_BYTES: usize = 24;

/// The connections of a listener.
pub struct Incoming {
    tcp: TcpIncoming,
    patience: Duration,
    refusals: Refusals,
    pause: Option<Pin<Box<Sleep>>>,
}

impl Incoming {
    /// Those of `tcp`, for the server of this name; each has `patience` to begin with HTTP/2.
    pub fn new(server: &'static str, tcp: TcpIncoming, patience: Duration) -> Self {
        Self { tcp, patience, refusals: Refusals::new(server), pause: None }
    }
}

impl Stream for Incoming {
    type Item = io::Result<Link>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            match ready!(Pin::new(&mut self.tcp).poll_next(cx)) {
                Some(Ok(tcp)) => return Poll::Ready(Some(Ok(Link::new(tcp, self.patience)))),
                // It stays in the backlog: asked again at once, it would only be refused again.
                Some(Err(error)) => {
                    self.pause = self.refusals.pause(&error).map(|pause| Box::pin(tokio::time::sleep(pause)));
                }
                None => return Poll::Ready(None),
            }
        }
    }
}

/// A connection that is cut unless it begins in time.
pub struct Link {
    tcp: TcpStream,
    /// Until it has begun: how much of the preface is missing, and for how long.
    silence: Option<(usize, Pin<Box<Sleep>>)>,
}

impl Link {
    fn new(tcp: TcpStream, patience: Duration) -> Self {
        Self { tcp, silence: Some((PREFACE_BYTES, Box::pin(tokio::time::sleep(patience)))) }
    }
}

impl AsyncRead for Link {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.tcp).poll_read(cx, buf);
        let Some((missing, silence)) = &mut self.silence else { return read };
        if read.is_ready() {
            *missing = missing.saturating_sub(buf.filled().len() - before);
            if *missing == 0 {
                self.silence = None;
            }
            return read;
        }
        ready!(silence.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Link {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tcp).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tcp.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

impl Connected for Link {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        self.tcp.connect_info()
    }
}
