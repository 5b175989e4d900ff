//! The link between a client and the server: a TCP proxy that can be deaf in one direction, cut, and down.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

/// What a link does with what is sent over it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It carries everything.
    Open,
    /// What the client sends is swallowed.
    ServerDeaf,
    /// What the server sends is swallowed.
    ClientDeaf,
    /// There is no connection.
    Down,
}

/// Where the server is; it moves when it starts anew.
pub type Upstream = watch::Receiver<SocketAddr>;

/// A proxy with an address that stays.
#[derive(Debug)]
pub struct Link {
    address: SocketAddr,
    wire: Arc<Wire>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Wire {
    upstream: Upstream,
    mode: watch::Sender<Mode>,
    /// Changes to break every connection.
    cuts: watch::Sender<u64>,
    /// Bytes of the client that were swallowed.
    swallowed: AtomicU64,
}

impl Link {
    /// Opens one on the runtime of the caller.
    ///
    /// # Errors
    ///
    /// There is no free port.
    pub async fn new(upstream: Upstream) -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (mode, cuts) = (watch::Sender::new(Mode::Open), watch::Sender::new(0));
        let wire = Arc::new(Wire { upstream, mode, cuts, swallowed: AtomicU64::new(0) });
        let listening = tokio::spawn(listen(listener, Arc::clone(&wire)));
        Ok(Self { address, wire, listening })
    }

    /// Where clients of gRPC reach the server through it.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes what it does from here on.
    pub fn set(&self, mode: Mode) {
        self.wire.mode.send_replace(mode);
        if mode == Mode::Down {
            self.cut();
        }
    }

    /// Breaks every connection; what is under way is lost.
    pub fn cut(&self) {
        self.wire.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Bytes of the client that were swallowed so far.
    pub fn swallowed(&self) -> u64 {
        self.wire.swallowed.load(Ordering::Relaxed)
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.listening.abort();
        self.cut();
    }
}

async fn listen(listener: TcpListener, wire: Arc<Wire>) {
    while let Ok((client, _)) = listener.accept().await {
        tokio::spawn(carry(client, Arc::clone(&wire)));
    }
}

async fn carry(client: TcpStream, wire: Arc<Wire>) {
    let mut cuts = wire.cuts.subscribe();
    // After the subscription: a link that goes down from here on cuts this connection.
    if *wire.mode.borrow() == Mode::Down {
        return;
    }
    let upstream = *wire.upstream.borrow();
    let Ok(server) = TcpStream::connect(upstream).await else { return };
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    tokio::select! {
        biased;
        _ = cuts.changed() => {}
        () = pump(&mut from_client, &mut to_server, &wire, Mode::ServerDeaf) => {}
        () = pump(&mut from_server, &mut to_client, &wire, Mode::ClientDeaf) => {}
    }
}

/// Forwards bytes, or swallows them while the link is in mode `deaf`.
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    wire: &Wire,
    deaf: Mode,
) {
    let mut buffer = vec![0; 16 << 10];
    while let Ok(read) = from.read(&mut buffer).await
        && read > 0
    {
        let mode = *wire.mode.borrow();
        if mode != deaf {
            if to.write_all(&buffer[..read]).await.is_err() {
                return;
            }
        } else if deaf == Mode::ServerDeaf {
            wire.swallowed.fetch_add(read as u64, Ordering::Relaxed);
        }
    }
}
