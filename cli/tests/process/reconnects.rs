//! What ten thousand connections leave behind: nothing.

use std::{io, net::SocketAddr};

use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, task::JoinSet};
use tonic::transport::{Channel, Endpoint, Uri};
use uuid::Uuid;

use crate::{
    gateway::{gateways, no_streams},
    server::{Server, Setup},
    stream::{Stream, an_hour_ago, batch, stored},
    until,
};

const WORKERS: usize = 16;
const FIRST: usize = 1_000;
const ALL: usize = 10_000;

#[derive(Debug)]
struct Level {
    descriptors: usize,
    threads: u64,
    resident_kib: u64,
}

impl Level {
    fn of(server: &Server) -> Self {
        Self {
            descriptors: server.descriptors(),
            threads: server.figure("Threads"),
            resident_kib: server.figure("VmRSS"),
        }
    }

    /// Whether it is at most a tenth above another, tables apart that the store has open at the moment.
    fn is_back_to(&self, before: &Self) -> bool {
        const TABLES: usize = 4;
        self.descriptors * 10 <= before.descriptors * 11 + TABLES * 10
            && self.threads * 10 <= before.threads * 11
            && self.resident_kib * 10 <= before.resident_kib * 11
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_reconnects_leave_nothing_behind() {
    let dir = tempfile::tempdir().unwrap();
    let setup =
        Setup::new(dir.path().join("data")).set("STORE__MEMTABLE", "1MiB").set("STORE__CACHE", "1MiB");
    let server = setup.start().await;
    // The store has filled its buffers and been through all it does: what grows later is a leak.
    for gateway in gateways(&server, 4, false).await {
        gateway.progress(300).await;
        gateway.stop().await.check(&server).await;
    }
    let before_any = server.metric("herdstream_sessions_opened_total").await;
    let mut workers: Vec<_> = (0..WORKERS).map(|_| Worker::new(server.address())).collect();

    workers = reconnect(workers, FIRST / WORKERS).await;
    no_streams(&server).await;
    let before = Level::of(&server);
    workers = reconnect(workers, (ALL - FIRST) / WORKERS).await;
    no_streams(&server).await;
    println!("after {FIRST}: {before:?}; after {ALL}: {:?}", Level::of(&server));
    // Idle threads of the runtime's pool go after a while.
    let mut last = Level::of(&server);
    until("descriptors, threads and memory are back", || {
        last = Level::of(&server);
        let back = last.is_back_to(&before);
        async move { back }
    })
    .await;
    println!("in the end: {last:?}");

    let opened = server.metric("herdstream_sessions_opened_total").await - before_any;
    let sessions: u64 = workers.iter().map(|worker| worker.offset).sum();
    assert_eq!(opened, sessions);
    assert!(sessions as usize > ALL - 2 * WORKERS, "{sessions} sessions");
    for worker in workers {
        let readings = stored(server.connect().await, &worker.device).await;
        assert_eq!(readings.len() as u64, worker.offset, "one reading a session");
    }
    server.stop().await;
}

async fn reconnect(workers: Vec<Worker>, times: usize) -> Vec<Worker> {
    let mut tasks = JoinSet::new();
    for mut worker in workers {
        tasks.spawn(async move {
            for _ in 0..times {
                worker.reconnect().await;
            }
            worker
        });
    }
    tasks.join_all().await
}

/// A producer that comes again and again, each time for one batch.
struct Worker {
    server: SocketAddr,
    producer: Uuid,
    device: String,
    start_us: i64,
    offset: u64,
}

impl Worker {
    fn new(server: SocketAddr) -> Self {
        let producer = Uuid::new_v4();
        let device = format!("device-{}", producer.simple());
        Self { server, producer, device, start_us: an_hour_ago(), offset: 0 }
    }

    /// Connects, opens, sends, is acked, and goes: in good order, or with a reset.
    async fn reconnect(&mut self) {
        self.offset += 1;
        let abrupt = self.offset.is_multiple_of(2);
        let channel = connect(self.server, abrupt).await;
        let (mut stream, _) = Stream::open(channel, self.producer).await.expect("a session");
        assert!(stream.send(batch(self.offset, &self.device, self.start_us, 1)).await);
        stream.acked(self.offset).await.expect("an ack");
        if !abrupt {
            stream.close().await.expect("an orderly end");
        }
    }
}

/// A connection of its own; an abrupt one is reset when it is dropped.
async fn connect(server: SocketAddr, abrupt: bool) -> Channel {
    let connector = tower::service_fn(move |_: Uri| async move {
        let link = TcpStream::connect(server).await?;
        if abrupt {
            link.set_zero_linger()?;
        }
        Ok::<_, io::Error>(TokioIo::new(link))
    });
    let endpoint = Endpoint::new(format!("http://{server}")).expect("an address makes a URL");
    endpoint.connect_with_connector(connector).await.expect("the server listens")
}
