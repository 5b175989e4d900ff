//! Acked means durable, seen from outside: the server runs under `strace`, and every answer that promises
//! something must have left after a sync of the journal that holds it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use herdstream_proto::v1::{
    Batch, Open, StreamRequest, StreamResponse, WriteRequest, WriteResponse,
    ingest_service_client::IngestServiceClient, stream_request::Message as Sent,
    stream_response::Message as Received,
};
use prost::Message as _;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::{
    http2::{Message, messages},
    server::{Server, Setup},
    skip,
    stream::{Stream, an_hour_ago, batch},
    trace::{Call, can_trace, is_complete, parse},
    until,
};

const STREAMS: u64 = 4;
const BATCHES: u64 = 25;
const WRITES: u64 = 15;

/// Ends every entry of the engine's journal.
const TRAILER: &[u8] = b"FJL\x03";

#[tokio::test(flavor = "multi_thread")]
async fn every_promise_leaves_after_the_sync_of_what_it_promises() {
    if !can_trace() {
        return skip("there is no strace, or it may not trace");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("trace");
    let setup = Setup::new(dir.path().join("data")).under(strace(&file));
    let server = setup.start().await;
    let pid = server.pid().as_raw_nonzero().get();
    load(&server).await;
    server.stop().await;
    until("strace has written everything", || async {
        is_complete(&fs::read_to_string(&file).unwrap_or_default(), pid)
    })
    .await;

    let calls = parse(&fs::read_to_string(&file).unwrap());
    let found = check(&calls);
    assert_eq!(found.broken, [""; 0], "{}", found.broken.join("\n"));
    assert_eq!(found.opened, STREAMS);
    assert_eq!(found.batches, STREAMS * BATCHES, "every batch is covered by an ack");
    assert_eq!(found.written, 2 * WRITES);

    // The check is worth nothing if it cannot fail: here is the same run with its syncs taken out, and
    // with each of them begun too early or over too late.
    let promises = (STREAMS + STREAMS * BATCHES + 2 * WRITES) as usize;
    let unsynced: Vec<_> = calls.iter().filter(|call| !call.is_sync()).cloned().collect();
    assert_eq!(check(&unsynced).broken.len(), promises);
    for (began, ended) in [(Some(0), None), (None, Some(usize::MAX))] {
        let mut moved = calls.clone();
        for sync in moved.iter_mut().filter(|call| call.is_sync()) {
            (sync.began, sync.ended) = (began.unwrap_or(sync.began), ended.unwrap_or(sync.ended));
        }
        assert_eq!(check(&moved).broken.len(), promises);
    }
}

/// The command before the server's: follows all threads, writes what passes in full.
fn strace(file: &Path) -> Vec<PathBuf> {
    let calls =
        "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,read,readv,recvfrom,recvmsg,fsync,fdatasync";
    let mut line: Vec<PathBuf> = ["strace", "-D", "-f", "--seccomp-bpf", "-yy", "-xx", "-s", "4194304"]
        .into_iter()
        .map(Into::into)
        .collect();
    line.extend(["-e".into(), calls.into(), "-o".into(), file.to_owned(), "--".into()]);
    line
}

/// Streams in lock-step and writes, beside each other so that commits are shared. Each batch carries a
/// text of its own that can be found again in the journal.
async fn load(server: &Server) {
    let mut tasks = JoinSet::new();
    for _ in 0..STREAMS {
        let channel = server.connect().await;
        tasks.spawn(async move {
            let (mut stream, _) = Stream::open(channel, Uuid::new_v4()).await.expect("a session");
            let device = Uuid::new_v4().to_string();
            for offset in 1..=BATCHES {
                assert!(stream.send(marked(offset, &device)).await);
                stream.acked(offset).await.expect("an ack");
            }
            stream.close().await.expect("an orderly end");
        });
    }
    for named in [true, false] {
        let mut client = IngestServiceClient::new(server.connect().await);
        tasks.spawn(async move {
            let producer_id = if named { Uuid::new_v4().to_string() } else { String::new() };
            let device = Uuid::new_v4().to_string();
            for offset in 1..=WRITES {
                let batch = Some(marked(if named { offset } else { 0 }, &device));
                let request =
                    WriteRequest { producer_id: producer_id.clone(), batch, ..WriteRequest::default() };
                let answer = client.write(request).await.expect("it is stored").into_inner();
                assert_eq!((answer.stored, answer.duplicate), (5, false));
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no client fails");
    }
}

fn marked(offset: u64, device: &str) -> Batch {
    let mut batch = batch(offset, device, an_hour_ago(), 5);
    batch.readings[2].session_id = Some(format!("<{}>", Uuid::new_v4()));
    batch
}

/// What a trace shows.
#[derive(Default)]
struct Findings {
    opened: u64,
    /// Batches of streams that were acked.
    batches: u64,
    written: u64,
    /// Promises that left too early.
    broken: Vec<String>,
}

fn check(calls: &[Call]) -> Findings {
    let journal = Journal::of(calls);
    let received = messages(calls, Call::is_read);
    let mut findings = Findings::default();
    for (stream, answers) in messages(calls, Call::is_write) {
        // A health check of the whole server is empty.
        let Some(requests) = received.get(&stream).filter(|requests| !requests[0].bytes.is_empty()) else {
            continue;
        };
        match opening(&requests[0]) {
            Some(open) => findings.stream(&journal, &open, requests, &answers),
            None => findings.write(&journal, &requests[0], &answers[0]),
        }
    }
    findings
}

/// The Open of a stream; None for what begins no stream.
fn opening(first: &Message) -> Option<Open> {
    match StreamRequest::decode(&*first.bytes).ok()?.message? {
        Sent::Open(open) if Uuid::try_parse(&open.producer_id).is_ok() => Some(open),
        _ => None,
    }
}

impl Findings {
    fn stream(&mut self, journal: &Journal, open: &Open, requests: &[Message], answers: &[Message]) {
        let mut batches: BTreeMap<u64, String> = BTreeMap::new();
        for request in requests {
            let request = StreamRequest::decode(&*request.bytes).expect("a request");
            if let Some(Sent::Batch(batch)) = request.message {
                batches.insert(batch.offset, mark(&batch));
            }
        }
        for answer in answers {
            match StreamResponse::decode(&*answer.bytes).expect("a response").message {
                Some(Received::Opened(_)) => {
                    self.opened += 1;
                    self.promise(journal, &open.instance_id, answer);
                }
                Some(Received::Ack(ack)) => {
                    let rest = batches.split_off(&(ack.committed_offset + 1));
                    for mark in std::mem::replace(&mut batches, rest).into_values() {
                        self.batches += 1;
                        self.promise(journal, &mark, answer);
                    }
                }
                _ => {}
            }
        }
    }

    fn write(&mut self, journal: &Journal, request: &Message, answer: &Message) {
        let request = WriteRequest::decode(&*request.bytes).expect("a write");
        WriteResponse::decode(&*answer.bytes).expect("its answer");
        self.written += 1;
        self.promise(journal, &mark(&request.batch.expect("a batch")), answer);
    }

    fn promise(&mut self, journal: &Journal, mark: &str, answer: &Message) {
        match journal.durable_at(mark.as_bytes()) {
            Ok(durable) if durable < answer.began => {}
            Ok(durable) => {
                self.broken.push(format!("{mark} was durable at {durable} and promised at {}", answer.began));
            }
            Err(why) => self.broken.push(format!("{mark} was promised at {}: {why}", answer.began)),
        }
    }
}

/// The text by which a batch is recognised.
fn mark(batch: &Batch) -> String {
    batch.readings.iter().find_map(|reading| reading.session_id.clone()).expect("a marked batch")
}

/// What was written to the engine's journal files, and when they were synced.
#[derive(Default)]
struct Journal(BTreeMap<String, JournalFile>);

#[derive(Default)]
struct JournalFile {
    bytes: Vec<u8>,
    /// Ends of what was written, and when the call was over.
    writes: Vec<(usize, usize)>,
    /// When syncs began and were over.
    syncs: Vec<(usize, usize)>,
}

impl Journal {
    fn of(calls: &[Call]) -> Self {
        let mut journal = Self::default();
        for call in calls.iter().filter(|call| call.is_on("jnl")) {
            let file = journal.0.entry(call.target.clone()).or_default();
            if call.is_sync() {
                file.syncs.push((call.began, call.ended));
            } else if call.is_write() {
                assert_eq!(call.name, "write", "a journal is written from front to back");
                file.bytes.extend_from_slice(&call.bytes);
                file.writes.push((file.bytes.len(), call.ended));
            }
        }
        journal
    }

    /// When the first sync was over that began after the whole journal entry with `mark` was written.
    fn durable_at(&self, mark: &[u8]) -> Result<usize, String> {
        let mut why = String::from("it is in no journal");
        for (name, file) in &self.0 {
            let Some(at) = find(&file.bytes, mark) else { continue };
            let Some(end) = find(&file.bytes[at..], TRAILER).map(|end| at + end + TRAILER.len()) else {
                why = format!("its entry in {name} has no end");
                continue;
            };
            let (_, written) = *file.writes.iter().find(|(upto, _)| *upto >= end).expect("bytes are written");
            match file.syncs.iter().find(|(began, _)| *began > written) {
                Some((_, ended)) => return Ok(*ended),
                None => why = format!("written to {name} at {written} and never synced"),
            }
        }
        Err(why)
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}
