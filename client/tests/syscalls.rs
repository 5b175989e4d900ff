//! The spool's promises, seen from outside: a program that uses the SDK runs under `strace`. What a send
//! answered for, and what leaves for the server, must have been synced to the disk before.

use std::{
    collections::BTreeMap,
    env, fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::Duration,
};

use herdstream_client::{Producer, ProducerConfig, Reading, SeriesKey, v1::StreamRequest};
use herdstream_proto::v1::stream_request::Message as Sent;
use herdstream_server::testing::TestServer;
use prost::Message as _;
use tokio::task::JoinSet;
use uuid::Uuid;

use http2::messages;
use trace::{Call, can_trace, is_complete, parse};

#[path = "../../cli/tests/process/http2.rs"]
mod http2;
#[path = "../../cli/tests/process/trace.rs"]
mod trace;

const PATIENCE: Duration = Duration::from_secs(60);
const SENDERS: usize = 4;
const SENDS: usize = 25;
/// Variables that make this test binary the program that is traced: where the server is, and the spool.
const SERVER: &str = "HERDSTREAM_TEST_SERVER";
const SPOOL: &str = "HERDSTREAM_TEST_SPOOL";
/// What the program writes, before a mark, once the send of it has returned.
const RETURNED: &str = "returned:";

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_answered_or_sent_before_it_is_on_disk() {
    if !can_trace() {
        println!("skipped: there is no strace, or it may not trace");
        assert!(env::var_os("CI").is_none(), "nothing is skipped on CI");
        return;
    }
    let server = TestServer::start().await;
    let dir = tempfile::tempdir().unwrap();
    let (file, spool) = (dir.path().join("trace"), dir.path().join("spool"));
    let mut program = Command::new("strace");
    program
        .args(["-D", "-f", "--seccomp-bpf", "-yy", "-xx", "-s", "4194304", "-o"])
        .arg(&file)
        .args(["-e", "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync,openat,mkdir", "--"])
        .arg(env::current_exe().unwrap())
        .args(["--exact", "program", "--ignored", "--nocapture"])
        .env(SERVER, server.endpoint())
        .env(SPOOL, &spool);
    let child = program.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = child.id() as i32;
    let ended = tokio::task::spawn_blocking(|| child.wait_with_output());
    let Output { status, stdout, stderr } =
        tokio::time::timeout(PATIENCE, ended).await.expect("it ends in time").unwrap().unwrap();
    let said = String::from_utf8_lossy(&stdout);
    assert!(
        status.success() && said.contains("1 passed"),
        "{status}: {said}{}",
        String::from_utf8_lossy(&stderr)
    );
    let traced = async {
        while !is_complete(&fs::read_to_string(&file).unwrap(), pid) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, traced).await.expect("strace writes everything in time");
    server.stop().await;

    let calls = parse(&fs::read_to_string(&file).unwrap());
    let marks: Vec<&str> = said.lines().filter_map(|line| Some(line.split_once(RETURNED)?.1)).collect();
    assert_eq!(marks.len(), SENDERS * SENDS);
    let broken = check(&calls, &marks);
    assert!(broken.is_empty(), "{}", broken.join("\n"));

    // The check is worth nothing if it cannot fail: here is the same run without its syncs, of files
    // and of directories.
    let without = |name: &str| -> Vec<_> { calls.iter().filter(|call| call.name != name).cloned().collect() };
    let promises = 2 * marks.len();
    assert_eq!(check(&without("fdatasync"), &marks).len(), promises);
    assert_eq!(check(&without("fsync"), &marks).len(), promises);
}

/// What the traced program does: several tasks send readings, each with a text of its own, and it says
/// when a send has returned.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a child process of another test"]
async fn program() {
    let (Ok(server), Some(spool)) = (env::var(SERVER), env::var_os(SPOOL)) else { return };
    let config = ProducerConfig::new(server, "gateway").spool(PathBuf::from(spool));
    let producer = Producer::open(config).await.unwrap();
    let series = producer.series(SeriesKey {
        farm_id: 1,
        device_uid: "collar-17".into(),
        device_type: "collar".into(),
        metric_name: "temperature".into(),
        metric_unit: "Cel".into(),
    });
    let series = series.unwrap();
    let mut senders = JoinSet::new();
    for _ in 0..SENDERS {
        let producer = producer.clone();
        senders.spawn(async move {
            for _ in 0..SENDS {
                let mark = Uuid::new_v4().to_string();
                let mut reading = Reading::new(series, 38.6);
                reading.session_id = Some(mark.as_str().into());
                producer.send(reading, PATIENCE).await.unwrap();
                let line = format!("{RETURNED}{mark}\n");
                io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        });
    }
    senders.join_all().await;
    let report = producer.close(PATIENCE).await.unwrap();
    assert_eq!(report.counters.acked(), (SENDERS * SENDS) as u64);
}

/// The promises that were made too early: for each mark, that its send returned, and that it was sent.
fn check(calls: &[Call], marks: &[&str]) -> Vec<String> {
    let sent = sent(calls);
    let returned = returned(calls);
    let mut broken = Vec::new();
    for &mark in marks {
        let durable = durable_at(calls, mark);
        for (what, promised) in [("returned", returned.get(mark)), ("was sent", sent.get(mark))] {
            match (&durable, promised) {
                (Ok(durable), Some(promised)) if durable < promised => {}
                (durable, promised) => {
                    broken.push(format!("{mark} {what} at {promised:?}, and was durable at {durable:?}"));
                }
            }
        }
    }
    broken
}

/// When a mark first left for the server.
fn sent(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut sent = BTreeMap::new();
    for message in messages(calls, Call::is_write).into_values().flatten() {
        let request = StreamRequest::decode(&*message.bytes).expect("only streams are opened");
        let Some(Sent::Batch(batch)) = request.message else { continue };
        for mark in batch.readings.into_iter().filter_map(|reading| reading.session_id) {
            sent.entry(mark).or_insert(message.began);
        }
    }
    sent
}

/// When the program said that the send of a mark had returned.
fn returned(calls: &[Call]) -> BTreeMap<String, usize> {
    let mut returned = BTreeMap::new();
    for call in calls.iter().filter(|call| call.name == "write" && !call.is_tcp()) {
        for line in String::from_utf8_lossy(&call.bytes).lines() {
            if let Some((_, mark)) = line.split_once(RETURNED) {
                returned.insert(mark.to_owned(), call.began);
            }
        }
    }
    returned
}

/// When a mark, the file that holds it and the directories above were on disk.
fn durable_at(calls: &[Call], mark: &str) -> Result<usize, String> {
    let holds = |call: &&Call| {
        call.is_write()
            && call.is_on("segment")
            && call.bytes.windows(mark.len()).any(|window| window == mark.as_bytes())
    };
    let written = calls.iter().find(holds).ok_or("it is not in the spool")?;
    let synced = synced_at(calls, &written.target, written.ended)?;
    let segment = Path::new(&written.target);
    let named = named_at(calls, segment)?;
    let log_named = named_at(calls, segment.parent().expect("a file lies in a directory"))?;
    Ok(synced.max(named).max(log_named))
}

/// When the entry of a new file or directory was on disk.
fn named_at(calls: &[Call], path: &Path) -> Result<usize, String> {
    let makes = |call: &&Call| {
        matches!(&*call.name, "openat" | "mkdir")
            && call.result >= 0
            && call.bytes == path.as_os_str().as_encoded_bytes()
    };
    let made = calls.iter().find(makes).ok_or_else(|| format!("{} was not made", path.display()))?;
    synced_at(calls, &path.parent().expect("not the root").to_string_lossy(), made.ended)
}

/// When the first sync of `path` was over that began after `moment`.
fn synced_at(calls: &[Call], path: &str, moment: usize) -> Result<usize, String> {
    let sync = calls.iter().find(|call| call.is_sync() && call.target == path && call.began > moment);
    Ok(sync.ok_or_else(|| format!("{path} was not synced after {moment}"))?.ended)
}
