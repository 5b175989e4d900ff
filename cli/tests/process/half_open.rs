//! Links that carry nothing any more and do not say so.

use std::{io::ErrorKind, net::SocketAddr, sync::Arc, time::Instant};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tonic::transport::Endpoint;
use uuid::Uuid;

use crate::{
    PATIENCE,
    server::Setup,
    stream::{Stream, an_hour_ago, batch, stored},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_went_silent_is_cut_and_a_quiet_one_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path().join("data"))
        .set("INGEST__KEEPALIVE", "1s")
        // Only HTTP/2's pings can tell within the patience of this test.
        .set("INGEST__IDLE_TIMEOUT", "1h")
        .set("INGEST__MESSAGE_TIMEOUT", "1h")
        .set("INGEST__MAX_STREAMS", "2");
    let server = setup.start().await;
    let link = Link::to(server.address()).await;
    let through = Endpoint::new(format!("http://{}", link.address)).unwrap().connect().await.unwrap();
    let producer = Uuid::new_v4();
    let start_us = an_hour_ago();
    let (mut silent, _) = Stream::open(through, producer).await.unwrap();
    assert!(silent.send(batch(1, "silent", start_us, 10)).await);
    silent.acked(1).await.unwrap();
    let (mut quiet, _) = Stream::open(server.connect().await, Uuid::new_v4()).await.unwrap();
    assert_eq!(server.metric("herdstream_streams_open").await, 2);

    link.break_silently();
    // On its way for ever: the server must not wait for it.
    assert!(silent.send(batch(2, "silent", start_us, 10)).await);
    until("the server has cut one stream", || async { server.metric("herdstream_streams_open").await == 1 })
        .await;
    // Its place is free, its producer goes on, and the other stream, as quiet, lives.
    let (mut again, opened) = Stream::open(server.connect().await, producer).await.unwrap();
    assert_eq!(opened.committed_offset, 1);
    assert!(again.send(batch(2, "silent", start_us, 10)).await);
    again.acked(2).await.unwrap();
    assert!(quiet.send(batch(1, "quiet", start_us, 10)).await);
    quiet.acked(1).await.unwrap();
    assert_eq!(stored(server.connect().await, "silent").await.len(), 20);
    again.close().await.unwrap();
    quiet.close().await.unwrap();
    drop(silent);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_on_which_nobody_begins_are_cut() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::new(dir.path().join("data")).set("INGEST__OPEN_TIMEOUT", "1s").start().await;
    // Nothing, part of the preface, all of it but the last byte.
    for said in [&b""[..], b"PRI * HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r"] {
        let mut link = TcpStream::connect(server.address()).await.unwrap();
        link.write_all(said).await.unwrap();
        let mut answer = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, link.read_to_end(&mut answer)).await;
        assert!(ended.is_ok(), "still open after {said:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_descriptors_a_server_keeps_its_streams_and_rests() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::new(dir.path().join("data"))
        .set("INGEST__OPEN_TIMEOUT", "1h")
        .under(["prlimit", "--nofile=64"])
        .start()
        .await;
    let (mut stream, _) = Stream::open(server.connect().await, Uuid::new_v4()).await.unwrap();
    // Once the day's files are there, a commit opens none.
    let start_us = an_hour_ago();
    assert!(stream.send(batch(1, "d", start_us, 10)).await);
    stream.acked(1).await.unwrap();
    let began = Instant::now();
    let mut links = Vec::new();
    while links.len() < 100 {
        links.push(TcpStream::connect(server.address()).await.unwrap());
    }
    server.says("no connections are accepted").await;
    for offset in 2..=3 {
        assert!(stream.send(batch(offset, "d", start_us, 10)).await);
        stream.acked(offset).await.unwrap();
    }
    // It complains now and then, not at every try.
    let complaints = server.output().matches("no connections are accepted").count() as u64;
    assert!(complaints <= 1 + began.elapsed().as_secs() / 10, "{complaints} complaints");
    drop(links);
    assert_eq!(stored(server.connect().await, "d").await.len(), 30);
    stream.close().await.unwrap();
    server.stop().await;
}

/// A TCP proxy that can stop to forward without closing anything.
struct Link {
    address: SocketAddr,
    broken: watch::Sender<bool>,
}

impl Link {
    async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("a bound socket");
        let broken = watch::Sender::new(false);
        let watch = broken.subscribe();
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(server).await.expect("the server listens");
                let (near, far) = (Arc::new(near), Arc::new(far));
                tokio::spawn(carry(Arc::clone(&near), Arc::clone(&far), watch.clone()));
                tokio::spawn(carry(far, near, watch.clone()));
            }
        });
        Self { address, broken }
    }

    fn break_silently(&self) {
        self.broken.send_replace(true);
    }
}

/// Carries bytes one way until the link breaks; then holds both ends open and reads nothing.
async fn carry(from: Arc<TcpStream>, to: Arc<TcpStream>, mut broken: watch::Receiver<bool>) {
    let mut buffer = vec![0; 16 << 10];
    loop {
        tokio::select! {
            biased;
            _ = broken.wait_for(|broken| *broken) => break,
            ready = from.readable() => ready.expect("a socket"),
        }
        let read = match from.try_read(&mut buffer) {
            Ok(0) => return,
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
            Err(_) => return,
        };
        let mut left = &buffer[..read];
        while !left.is_empty() {
            to.writable().await.expect("a socket");
            match to.try_write(left) {
                Ok(written) => left = &left[written..],
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => return,
            }
        }
    }
    std::future::pending::<()>().await;
}
