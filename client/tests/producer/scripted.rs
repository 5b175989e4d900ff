//! Against a server that follows a script: what the real one never does, or not on demand.

use std::{
    fs,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{FutureExt as _, future::BoxFuture};
use herdstream_client::{
    DisconnectReason, Event, FlushError, Outcome, Producer, Reading, SendReason, WhenFull,
};
use herdstream_proto::{
    error::Reason,
    v1::{
        self, SkipReason,
        ingest_service_server::{IngestService, IngestServiceServer},
        stream_request, stream_response,
    },
};
use prost::Message as _;
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use tempfile::TempDir;
use tokio::{
    net::TcpListener,
    sync::{Notify, mpsc},
};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap, transport::Server};

use crate::farm::{Collar, PATIENCE, assert_balanced, config, connected, so_far, until};

type Answer = Result<v1::StreamResponse, Status>;

/// One stream as the script sees it.
struct Link {
    inbound: Streaming<v1::StreamRequest>,
    outbound: mpsc::Sender<Answer>,
    metadata: MetadataMap,
    /// Which stream this is, from 0.
    number: usize,
}

impl Link {
    async fn hear(&mut self) -> Option<stream_request::Message> {
        self.inbound.message().await.ok()??.message
    }

    async fn say(&self, message: stream_response::Message) {
        let _ = self.outbound.send(Ok(v1::StreamResponse { message: Some(message) })).await;
    }

    async fn refuse(&self, status: Status) {
        let _ = self.outbound.send(Err(status)).await;
    }

    async fn open(&mut self, committed_offset: u64) {
        let first = self.hear().await;
        assert!(matches!(first, Some(stream_request::Message::Open(_))), "{first:?}");
        self.say(opened(committed_offset)).await;
    }

    /// Carries the stream as a server would, until `check` refuses a batch.
    async fn serve(&mut self, ledger: &Ledger, check: impl Fn(&v1::Batch) -> Result<(), Status>) {
        self.open(ledger.committed()).await;
        while let Some(message) = self.hear().await {
            match message {
                stream_request::Message::Batch(batch) => {
                    if let Err(status) = check(&batch) {
                        return self.refuse(status).await;
                    }
                    ledger.commit(&batch);
                }
                stream_request::Message::Skip(skip) => ledger.skip(skip),
                stream_request::Message::Ping(v1::Ping { nonce }) => {
                    self.say(stream_response::Message::Pong(v1::Pong { nonce })).await;
                }
                stream_request::Message::Open(_) => panic!("opened twice"),
            }
            self.say(ack(ledger.committed())).await;
        }
    }
}

fn opened(committed_offset: u64) -> stream_response::Message {
    stream_response::Message::Opened(v1::Opened {
        epoch: 1,
        committed_offset,
        totals: Some(v1::Totals::default()),
        credit: Some(v1::Credit { max_bytes: 1 << 30 }),
        limits: None,
        keepalive_ms: 1000,
    })
}

fn ack(committed_offset: u64) -> stream_response::Message {
    let credit = Some(v1::Credit { max_bytes: 1 << 30 });
    stream_response::Message::Ack(v1::Ack { committed_offset, credit, ..v1::Ack::default() })
}

/// What the scripted server holds.
#[derive(Clone, Default)]
struct Ledger(Arc<Mutex<Held>>);

#[derive(Default)]
struct Held {
    committed: u64,
    values: Vec<f64>,
    skips: Vec<v1::Skip>,
}

impl Ledger {
    fn committed(&self) -> u64 {
        self.0.lock().expect("no panic").committed
    }

    fn commit(&self, batch: &v1::Batch) {
        let mut ledger = self.0.lock().expect("no panic");
        assert_eq!(batch.offset, ledger.committed + 1, "in order");
        ledger.committed = batch.offset;
        ledger.values.extend(batch.readings.iter().map(|reading| reading.value));
    }

    fn skip(&self, skip: v1::Skip) {
        let mut ledger = self.0.lock().expect("no panic");
        assert!(skip.first <= ledger.committed + 1 && ledger.committed < skip.last, "{skip:?}");
        ledger.committed = skip.last;
        ledger.skips.push(skip);
    }

    fn values(&self) -> Vec<f64> {
        self.0.lock().expect("no panic").values.clone()
    }

    fn skips(&self) -> Vec<v1::Skip> {
        self.0.lock().expect("no panic").skips.clone()
    }
}

type Script = Arc<dyn Fn(Link) -> BoxFuture<'static, ()> + Send + Sync>;

struct Scripted {
    script: Script,
    streams: AtomicUsize,
}

#[tonic::async_trait]
impl IngestService for Scripted {
    type StreamStream = Pin<Box<dyn futures::Stream<Item = Answer> + Send>>;

    async fn stream(
        &self,
        request: Request<Streaming<v1::StreamRequest>>,
    ) -> Result<Response<Self::StreamStream>, Status> {
        let (outbound, answers) = mpsc::channel(100);
        let number = self.streams.fetch_add(1, Ordering::SeqCst);
        let (metadata, _, inbound) = request.into_parts();
        tokio::spawn((self.script)(Link { inbound, outbound, metadata, number }));
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }

    async fn write(&self, _: Request<v1::WriteRequest>) -> Result<Response<v1::WriteResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn get_producer(
        &self,
        _: Request<v1::GetProducerRequest>,
    ) -> Result<Response<v1::GetProducerResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }

    async fn list_rejections(
        &self,
        _: Request<v1::ListRejectionsRequest>,
    ) -> Result<Response<v1::ListRejectionsResponse>, Status> {
        Err(Status::unimplemented("not in the script"))
    }
}

/// Starts a server that runs `script` for every stream; answers with its URL.
async fn serve<F>(script: impl Fn(Link) -> F + Send + Sync + 'static) -> String
where
    F: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let script: Script = Arc::new(move |link| script(link).boxed());
    let service = IngestServiceServer::new(Scripted { script, streams: AtomicUsize::new(0) });
    let incoming = TcpListenerStream::new(listener);
    tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    format!("http://{address}")
}

#[tokio::test]
async fn a_batch_refused_three_times_is_set_aside_and_the_rest_goes_on() {
    for reason in [Reason::BadMessage, Reason::BatchTooLarge] {
        for spooled in [false, true] {
            poison(reason, spooled).await;
        }
    }
}

async fn poison(reason: Reason, spooled: bool) {
    let (ledger, dir) = (Ledger::default(), TempDir::new().expect("a directory"));
    let held = ledger.clone();
    let refusals = Arc::new(AtomicUsize::new(0));
    let counted = refusals.clone();
    let endpoint = serve(move |mut link| {
        let (ledger, refusals) = (held.clone(), counted.clone());
        async move {
            link.serve(&ledger, |batch| {
                if batch.readings.iter().any(|reading| reading.value == 13.0) {
                    refusals.fetch_add(1, Ordering::SeqCst);
                    return Err(reason.status("thirteen", [], None));
                }
                Ok(())
            })
            .await;
        }
    })
    .await;
    let mut config = config(endpoint).batch_readings(5);
    config.poison_dir = Some(dir.path().to_owned());
    if spooled {
        config = config.spool(dir.path().join("spool"));
    }
    let producer = Producer::open(config).await.expect("opens");
    let mut events = producer.events();
    let mut collar = Collar::of(&producer);
    let mut receipts = Vec::new();
    for reading in collar.readings(30) {
        receipts.push(producer.send_tracked(reading, PATIENCE).await.expect("room"));
    }
    producer.flush(PATIENCE).await.expect("one bad batch does not block the rest");
    let counters = producer.counters();
    assert_balanced(&counters);
    assert_eq!(refusals.load(Ordering::SeqCst), 3);
    let (file, items) = until(&mut events, "the poison", |event| match event {
        Event::Poisoned { file, items, .. } => Some((file.expect("there is a directory for it"), items)),
        _ => None,
    })
    .await;
    let batch = v1::Batch::decode(fs::read(file).expect("readable").as_slice()).expect("a batch");
    let poisoned: Vec<f64> = batch.readings.iter().map(|reading| reading.value).collect();
    assert!(poisoned.contains(&13.0) && !batch.series.is_empty());
    assert_eq!((counters.poisoned, items), (poisoned.len() as u64, poisoned.len() as u64));
    let skips = ledger.skips();
    assert_eq!(skips.len(), 1, "{skips:?}");
    assert_eq!((skips[0].reason(), skips[0].readings), (SkipReason::Poisoned, counters.poisoned));
    let expected: Vec<f64> = (1..=30).map(f64::from).filter(|value| !poisoned.contains(value)).collect();
    assert_eq!(ledger.values(), expected);
    for (value, receipt) in (1..=30).map(f64::from).zip(receipts) {
        let expected = if poisoned.contains(&value) { Outcome::Poisoned } else { Outcome::Stored };
        assert_eq!(receipt.await.expect("known"), expected, "{value}");
    }
    producer.close(PATIENCE).await.expect("closes");
}

#[tokio::test]
async fn an_ack_of_what_was_not_sent_is_told_and_believed_by_nobody() {
    let ledger = Ledger::default();
    let held = ledger.clone();
    let endpoint = serve(move |mut link| {
        let ledger = held.clone();
        async move {
            if link.number == 0 {
                link.open(0).await;
                link.hear().await;
                link.say(ack(1000)).await;
                link.hear().await;
            } else {
                link.serve(&ledger, |_| Ok(())).await;
            }
        }
    })
    .await;
    let producer = Producer::open(config(endpoint)).await.expect("opens");
    let mut events = producer.events();
    let mut collar = Collar::of(&producer);
    producer.send(collar.reading(), PATIENCE).await.expect("room");
    producer.flush(PATIENCE).await.expect("the second session is honest");
    assert_eq!(ledger.values(), [1.0]);
    until(&mut events, "the violation", |event| {
        matches!(event, Event::Disconnected { reason: DisconnectReason::ProtocolViolation, .. }).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_server_that_holds_what_was_never_sent_stops_the_producer() {
    let endpoint = serve(|mut link| async move {
        link.open(7).await;
        link.hear().await;
    })
    .await;
    let producer = Producer::open(config(endpoint)).await.expect("opens");
    let mut events = producer.events();
    let mut collar = Collar::of(&producer);
    producer.send(collar.reading(), PATIENCE).await.expect("room");
    let flushed = producer.flush(PATIENCE).await;
    assert!(matches!(flushed, Err(FlushError::Ended(SendReason::Conflict))), "{flushed:?}");
    until(&mut events, "the conflict", |event| {
        matches!(event, Event::Conflict { committed_offset: 7, .. }).then_some(())
    })
    .await;
    assert_eq!(producer.counters().pending, 1, "nothing is counted as stored");
}

#[tokio::test]
async fn what_a_server_forgot_is_told_and_skipped() {
    let ledger = Ledger::default();
    let held = ledger.clone();
    let endpoint = serve(move |mut link| {
        let ledger = held.clone();
        async move {
            if link.number == 0 {
                link.serve(&ledger, |batch| {
                    if batch.offset == 3 {
                        Err(Status::unavailable("restored from a backup"))
                    } else {
                        Ok(())
                    }
                })
                .await;
                *ledger.0.lock().expect("no panic") = Held::default();
            } else {
                link.serve(&ledger, |_| Ok(())).await;
            }
        }
    })
    .await;
    let producer = Producer::open(config(endpoint)).await.expect("opens");
    let mut events = producer.events();
    let mut collar = Collar::of(&producer);
    for _ in 0..2 {
        producer.send(collar.reading(), PATIENCE).await.expect("room");
        producer.flush(PATIENCE).await.expect("acknowledged");
    }
    producer.send(collar.reading(), PATIENCE).await.expect("room");
    producer.flush(PATIENCE).await.expect("acknowledged");
    until(&mut events, "the loss", |event| {
        matches!(event, Event::Forgotten { first: 1, last: 2, .. }).then_some(())
    })
    .await;
    let skips = ledger.skips();
    assert_eq!((skips[0].first, skips[0].last, skips[0].reason()), (1, 2, SkipReason::Acked));
    assert_eq!(ledger.values(), [3.0]);
}

#[tokio::test]
async fn credit_is_kept_to() {
    let most = Arc::new(Mutex::new((0_u64, 0_u64)));
    let seen = most.clone();
    let endpoint = serve(move |mut link| {
        let seen = seen.clone();
        async move {
            let open = link.hear().await;
            assert!(matches!(open, Some(stream_request::Message::Open(_))));
            let stream_response::Message::Opened(mut first) = opened(0) else { return };
            let mut granted = 20_000;
            first.credit = Some(v1::Credit { max_bytes: granted });
            link.say(stream_response::Message::Opened(first)).await;
            let (mut received, mut settled) = (0, 0);
            while let Some(message) = link.hear().await {
                let stream_request::Message::Batch(batch) = message else { continue };
                let bytes = batch.encoded_len() as u64;
                received += bytes;
                assert!(received <= granted || received - bytes == settled, "{received} of {granted} bytes");
                {
                    let mut seen = seen.lock().expect("no panic");
                    *seen = (seen.0 + batch.readings.len() as u64, granted);
                }
                if received + 5000 > granted {
                    // Everything so far is acknowledged, with more credit.
                    settled = received;
                    granted = received + 20_000;
                    let credit = Some(v1::Credit { max_bytes: granted });
                    let ack = v1::Ack { committed_offset: batch.offset, credit, ..v1::Ack::default() };
                    link.say(stream_response::Message::Ack(ack)).await;
                }
            }
        }
    })
    .await;
    let producer = Producer::open(config(endpoint).batch_readings(100)).await.expect("opens");
    let mut collar = Collar::of(&producer);
    producer.send_many(collar.readings(20_000), PATIENCE).await.expect("room");
    let arrived = async {
        while most.lock().expect("no panic").0 < 20_000 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, arrived).await.expect("everything arrives within the credit");
}

#[tokio::test]
async fn what_waits_for_credit_is_evicted_and_the_server_hears_of_it() {
    let ledger = Ledger::default();
    let (held, evicted) = (ledger.clone(), Arc::new(Notify::new()));
    let go_on = evicted.clone();
    let endpoint = serve(move |mut link| {
        let (ledger, go_on) = (held.clone(), go_on.clone());
        async move {
            if link.number > 0 {
                return link.serve(&ledger, |_| Ok(())).await;
            }
            let Some(stream_request::Message::Open(open)) = link.hear().await else { panic!("no Open") };
            assert_eq!(open.next_offset, 1, "nothing was assigned yet");
            let stream_response::Message::Opened(mut first) = opened(0) else { return };
            first.credit = Some(v1::Credit { max_bytes: 20_000 });
            link.say(stream_response::Message::Opened(first)).await;
            go_on.notified().await;
            // What is on the wire by now was allowed; what comes after it is gone.
            while ledger.values().len() < 100 {
                let Some(stream_request::Message::Batch(batch)) = link.hear().await else {
                    panic!("no Batch")
                };
                ledger.commit(&batch);
            }
            link.say(ack(ledger.committed())).await;
            while let Some(message) = link.hear().await {
                match message {
                    stream_request::Message::Batch(batch) => ledger.commit(&batch),
                    // Only an Open can tell of offsets that were never sent.
                    other => panic!("{other:?} names offsets that this session has not heard of"),
                }
                link.say(ack(ledger.committed())).await;
            }
        }
    })
    .await;
    let config = config(endpoint).batch_readings(100).buffer_bytes(64 << 10).when_full(WhenFull::EvictOldest);
    let producer = Producer::open(config).await.expect("opens");
    let mut events = producer.events();
    let mut collar = Collar::of(&producer);
    connected(&mut events).await;
    producer.send_many(collar.readings(100), PATIENCE).await.expect("room");
    while producer.counters().batches_sent == 0 {
        tokio::task::yield_now().await;
    }
    producer.send_many(collar.readings(19_900), PATIENCE).await.expect("the oldest make room");
    evicted.notify_one();
    producer.flush(PATIENCE).await.expect("a second session");
    let counters = producer.counters();
    assert_balanced(&counters);
    assert!(counters.evicted > 10_000 && counters.poisoned == 0, "{counters:?}");
    assert_eq!(counters.sessions, 2, "{counters:?}");
    let values = ledger.values();
    assert_eq!(values.len() as u64, counters.stored);
    assert_eq!((values[0], values[values.len() - 1]), (1.0, 20_000.0), "what was sent stays, and the newest");
    let skipped: u64 = ledger.skips().iter().map(|skip| skip.readings).sum();
    assert_eq!(skipped, counters.evicted);
}

#[tokio::test]
async fn a_server_that_says_when_to_come_back_is_heeded() {
    let told = Duration::from_secs(3);
    let endpoint = serve(move |mut link| async move {
        link.hear().await;
        link.refuse(Reason::TooManyStreams.status("full", [], Some(told))).await;
    })
    .await;
    let producer = Producer::open(config(endpoint)).await.expect("opens");
    let mut events = producer.events();
    let retry_in = until(&mut events, "the refusal", |event| match event {
        Event::Disconnected { reason: DisconnectReason::Busy, retry_in, .. } => Some(retry_in),
        _ => None,
    })
    .await;
    assert!(retry_in >= told, "{retry_in:?}");
}

#[tokio::test]
async fn without_credentials_readings_are_kept_and_the_token_is_not_shown() {
    let ledger = Ledger::default();
    let held = ledger.clone();
    let endpoint = serve(move |mut link| {
        let ledger = held.clone();
        async move {
            let token = link.metadata.get("authorization").and_then(|value| value.to_str().ok());
            assert_eq!(token, Some("Bearer hush"));
            if link.number == 0 {
                link.hear().await;
                link.refuse(Reason::Unauthenticated.status("who are you", [], None)).await;
            } else {
                link.serve(&ledger, |_| Ok(())).await;
            }
        }
    })
    .await;
    let config = config(endpoint).token("hush");
    assert!(!format!("{config:?}").contains("hush"));
    let producer = Producer::open(config).await.expect("opens");
    assert!(!format!("{producer:?}").contains("hush"));
    let mut events = producer.events();
    let mut collar = Collar::of(&producer);
    producer.send(collar.reading(), PATIENCE).await.expect("room");
    until(&mut events, "the refusal", |event| {
        matches!(event, Event::Disconnected { reason: DisconnectReason::Unauthorized, .. }).then_some(())
    })
    .await;
    producer.flush(PATIENCE).await.expect("kept until the server knows it");
    assert_eq!(ledger.values(), [1.0]);
}

#[tokio::test]
async fn a_link_that_falls_silent_is_cut() {
    let ledger = Ledger::default();
    let held = ledger.clone();
    let endpoint = serve(move |mut link| {
        let ledger = held.clone();
        async move {
            match link.number {
                // Never opens.
                0 => {
                    link.hear().await;
                    tokio::time::sleep(PATIENCE).await;
                }
                // Opens, and says nothing more, not even to a ping.
                1 => {
                    link.open(0).await;
                    tokio::time::sleep(PATIENCE).await;
                }
                _ => link.serve(&ledger, |_| Ok(())).await,
            }
        }
    })
    .await;
    let mut config = config(endpoint);
    config.open_timeout = Duration::from_millis(100);
    config.keepalive_timeout = Duration::from_millis(100);
    let producer = Producer::open(config).await.expect("opens");
    let mut events = producer.events();
    let mut collar = Collar::of(&producer);
    producer.send(collar.reading(), PATIENCE).await.expect("room");
    for what in ["no Opened", "no Pong"] {
        until(&mut events, what, |event| {
            matches!(event, Event::Disconnected { reason: DisconnectReason::Timeout, .. }).then_some(())
        })
        .await;
    }
    producer.flush(PATIENCE).await.expect("the third session works");
    assert_eq!(ledger.values(), [1.0]);
    // A silence that a Pong ends is none.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let ended = so_far(&mut events).await;
    assert!(!ended.iter().any(|event| matches!(event, Event::Disconnected { .. })), "{ended:?}");
}

#[tokio::test]
async fn a_drain_sends_its_clients_where_it_says() {
    let ledger = Ledger::default();
    let held = ledger.clone();
    let other = serve(move |mut link| {
        let ledger = held.clone();
        async move { link.serve(&ledger, |_| Ok(())).await }
    })
    .await;
    let hint = other.clone();
    let endpoint = serve(move |mut link| {
        let endpoints = vec!["nonsense".to_owned(), hint.clone()];
        async move {
            link.open(0).await;
            link.say(stream_response::Message::Drain(v1::Drain { deadline_ms: 5000, endpoints })).await;
            while link.hear().await.is_some() {}
        }
    })
    .await;
    let producer = Producer::open(config(endpoint)).await.expect("opens");
    let mut events = producer.events();
    until(&mut events, "the drain", |event| matches!(event, Event::Drained { .. }).then_some(())).await;
    let mut collar = Collar::of(&producer);
    producer.send(collar.reading(), PATIENCE).await.expect("room");
    producer.flush(PATIENCE).await.expect("the other server");
    assert_eq!(ledger.values(), [1.0]);
}

#[tokio::test]
async fn nothing_that_a_server_says_makes_the_producer_panic_or_believe_it() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let ledger = Ledger::default();
    let held = ledger.clone();
    let endpoint = serve(move |mut link| {
        let ledger = held.clone();
        let mut random = StdRng::seed_from_u64(seed.wrapping_add(link.number as u64));
        async move {
            if link.number >= 100 {
                return link.serve(&ledger, |_| Ok(())).await;
            }
            if random.random_bool(0.8) {
                link.open(0).await;
            }
            for _ in 0..random.random_range(0..6) {
                link.say(nonsense(&mut random)).await;
            }
            if random.random_bool(0.5) {
                let reason = Reason::ALL[random.random_range(0..Reason::ALL.len())];
                // These end a producer, or set a batch aside, as they should.
                if !matches!(reason, Reason::Fenced | Reason::BadMessage | Reason::BatchTooLarge) {
                    link.refuse(reason.status("nonsense", [], None)).await;
                }
            }
        }
    })
    .await;
    let producer = Producer::open(config(endpoint)).await.expect("opens");
    let mut collar = Collar::of(&producer);
    let reading: Reading = collar.reading();
    producer.send(reading, PATIENCE).await.expect("room");
    producer.flush(PATIENCE).await.expect("an honest session in the end");
    let counters = producer.counters();
    assert_balanced(&counters);
    assert_eq!(counters.accepted, 1);
    producer.close(PATIENCE).await.expect("closes");
}

/// Anything but an ack of what was sent, which nobody could tell from the truth.
fn nonsense(random: &mut StdRng) -> stream_response::Message {
    match random.random_range(0..5) {
        0 => ack([0, 1 << 40, u64::MAX][random.random_range(0..3)]),
        1 => stream_response::Message::Credit(v1::Credit { max_bytes: random.random() }),
        2 => stream_response::Message::Pong(v1::Pong { nonce: random.random() }),
        3 => opened(0),
        _ => {
            let rejection =
                v1::Rejection { offset: random.random(), kind: random.random(), ..Default::default() };
            stream_response::Message::Ack(v1::Ack {
                rejections: vec![rejection],
                rejections_omitted: random.random(),
                totals: Some(v1::Totals {
                    duplicate: random.random(),
                    quarantined: random.random(),
                    ..Default::default()
                }),
                ..Default::default()
            })
        }
    }
}
