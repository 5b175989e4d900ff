//! A TCP proxy in front of PostgreSQL whose connections can be cut: at once, or around a COMMIT.

mod commits;

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result};
use parking_lot::Mutex;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
};

use commits::{Answers, Messages, Part};

/// Where the next commit is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cut {
    /// The server never sees the COMMIT.
    BeforeCommit,
    /// The server answers the COMMIT, and the client never sees that.
    AfterCommit,
}

/// A proxy before one PostgreSQL server, on a port of its own.
#[derive(Debug)]
pub struct Proxy {
    url: String,
    wire: Arc<Wire>,
    listening: JoinHandle<()>,
}

#[derive(Debug)]
struct Wire {
    upstream: SocketAddr,
    down: AtomicBool,
    /// Changes to break every connection.
    breaks: watch::Sender<u64>,
    armed: Mutex<Option<Cut>>,
    made: AtomicU64,
}

impl Proxy {
    /// Starts one before the server of a URL with a port on 127.0.0.1 and without TLS, on the runtime of
    /// the caller.
    ///
    /// # Errors
    ///
    /// The URL is another one, or there is no free port.
    pub async fn start(upstream: &str) -> Result<Self> {
        const HOST: &str = "127.0.0.1:";
        let at = upstream.find(HOST).with_context(|| format!("no {HOST}port in {upstream}"))? + HOST.len();
        let end = upstream[at..].find(|c: char| !c.is_ascii_digit()).map_or(upstream.len(), |end| at + end);
        let port = upstream[at..end].parse().with_context(|| format!("no port in {upstream}"))?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("listening")?;
        let own = listener.local_addr().context("listening")?.port();
        let wire = Arc::new(Wire {
            upstream: (Ipv4Addr::LOCALHOST, port).into(),
            down: AtomicBool::new(false),
            breaks: watch::Sender::new(0),
            armed: Mutex::new(None),
            made: AtomicU64::new(0),
        });
        let listening = tokio::spawn(listen(listener, Arc::clone(&wire)));
        Ok(Self { url: format!("{}{own}{}", &upstream[..at], &upstream[end..]), wire, listening })
    }

    /// The URL that it was started with, through it.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Breaks every connection at once; what is under way is lost.
    pub fn cut(&self) {
        self.wire.breaks.send_modify(|breaks| *breaks += 1);
    }

    /// Whether there is nobody: connections break, and new ones with them.
    pub fn set_down(&self, down: bool) {
        self.wire.down.store(down, Ordering::SeqCst);
        if down {
            self.cut();
        }
    }

    /// Has the connection of the next COMMIT cut, whichever connection that is.
    pub fn arm(&self, cut: Cut) {
        *self.wire.armed.lock() = Some(cut);
    }

    /// Commits that were cut so far.
    pub fn commits_cut(&self) -> u64 {
        self.wire.made.load(Ordering::SeqCst)
    }
}

impl Drop for Proxy {
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
    let mut breaks = wire.breaks.subscribe();
    // After the subscription: what goes down from here on breaks this connection.
    if wire.down.load(Ordering::SeqCst) {
        return;
    }
    let Ok(server) = TcpStream::connect(wire.upstream).await else { return };
    if client.set_nodelay(true).is_err() || server.set_nodelay(true).is_err() {
        return;
    }
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let swallow = AtomicBool::new(false);
    tokio::select! {
        biased;
        _ = breaks.changed() => {}
        _ = ask(&mut from_client, &mut to_server, &wire, &swallow) => {}
        _ = answer(&mut from_server, &mut to_client, &wire, &swallow) => {}
    }
}

/// Forwards what the client says, up to a COMMIT that is not to arrive.
async fn ask(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    wire: &Wire,
    swallow: &AtomicBool,
) -> std::io::Result<()> {
    let mut messages = Messages::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        messages.push(&buffer[..read]);
        while let Some(part) = messages.next() {
            let cut = if let Part::Commit(_) = part { wire.armed.lock().take() } else { None };
            match cut {
                Some(Cut::BeforeCommit) => {
                    wire.made.fetch_add(1, Ordering::SeqCst);
                    return Ok(());
                }
                // Before it is forwarded: the answer may be quick.
                Some(Cut::AfterCommit) => swallow.store(true, Ordering::SeqCst),
                None => {}
            }
            to.write_all(part.bytes()).await?;
        }
    }
}

/// Forwards what the server says, up to the answer to a COMMIT that is not to arrive.
async fn answer(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    wire: &Wire,
    swallow: &AtomicBool,
) -> std::io::Result<()> {
    let mut answers = Answers::default();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        if !swallow.load(Ordering::SeqCst) {
            to.write_all(&buffer[..read]).await?;
        } else if answers.complete(&buffer[..read]) {
            wire.made.fetch_add(1, Ordering::SeqCst);
            return Ok(());
        }
    }
}
