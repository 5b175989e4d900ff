//! Random histories against a model of the server, which checks every rule of the protocol that it
//! can see and keeps what it committed.

use std::collections::{BTreeMap, VecDeque};

use bytes::{Buf as _, Bytes};
use herdstream_proto::v1::{self, SkipReason};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::{
    encode,
    item::Reading,
    receipt::Outcome,
    series::{SeriesKey, SeriesRef},
};

/// The server: one producer's ledger, and the stream that is open.
#[derive(Clone, Debug, Default)]
struct Server {
    committed: u64,
    /// Values of the readings of every committed batch.
    stored: BTreeMap<u64, Vec<f64>>,
    stream: Option<Stream>,
}

#[derive(Clone, Debug, Default)]
struct Stream {
    expected: u64,
    announced: u64,
    granted: u64,
    received: u64,
    /// Received and not committed.
    queue: VecDeque<(u64, Option<Vec<f64>>, u64)>,
    settled: u64,
    series: Vec<u32>,
}

impl Server {
    fn open(&mut self, announced: u64, window: u64) -> v1::Opened {
        self.stream =
            Some(Stream { expected: self.committed + 1, announced, granted: window, ..Stream::default() });
        v1::Opened {
            epoch: 1,
            committed_offset: self.committed,
            totals: Some(v1::Totals::default()),
            credit: Some(v1::Credit { max_bytes: window }),
            limits: None,
            keepalive_ms: 1000,
        }
    }

    fn batch(&mut self, head: &Bytes, body: &Bytes) {
        let stream = self.stream.as_mut().expect("a stream is open");
        let bytes = (head.len() + body.len()) as u64;
        assert!(
            stream.received == stream.settled || stream.received + bytes <= stream.granted,
            "credit of {} ignored: {} + {bytes}",
            stream.granted,
            stream.received
        );
        stream.received += bytes;
        let batch = v1::Batch::decode(head.clone().chain(body.clone())).expect("a batch");
        stream.series.extend(batch.series.iter().map(|series| series.r#ref));
        assert_eq!(batch.offset, stream.expected, "no gap, and no duplicate within a session");
        for reading in &batch.readings {
            assert!(stream.series.contains(&reading.series_ref), "undefined ref");
        }
        let values = batch.readings.iter().map(|reading| reading.value).collect();
        stream.expected += 1;
        stream.announced = stream.announced.max(stream.expected);
        stream.queue.push_back((batch.offset, Some(values), bytes));
    }

    fn skip(&mut self, skip: v1::Skip) {
        let stream = self.stream.as_mut().expect("a stream is open");
        assert!(skip.first <= stream.expected && stream.expected <= skip.last, "{skip:?} {stream:?}");
        assert!(skip.last < stream.announced, "{skip:?} was never assigned: {stream:?}");
        assert_ne!(skip.reason(), SkipReason::Lost, "memory loses nothing");
        stream.expected = skip.last + 1;
        stream.queue.push_back((skip.last, None, 0));
    }

    /// Commits some of what was received, and answers with an ack.
    fn commit(&mut self, count: usize, window: u64) -> Option<v1::Ack> {
        let stream = self.stream.as_mut()?;
        let count = count.min(stream.queue.len());
        for (offset, values, bytes) in stream.queue.drain(..count) {
            self.committed = offset;
            stream.settled += bytes;
            if let Some(values) = values {
                assert!(self.stored.insert(offset, values).is_none(), "offset {offset} committed twice");
            }
        }
        stream.granted = stream.granted.max(stream.settled + window);
        Some(v1::Ack {
            committed_offset: self.committed,
            totals: Some(v1::Totals::default()),
            credit: Some(v1::Credit { max_bytes: stream.granted }),
            ..v1::Ack::default()
        })
    }
}

#[derive(Clone, Copy, Debug)]
enum Op {
    /// Items of a size; the last one tracked.
    Send {
        count: usize,
        text: usize,
        tracked: bool,
    },
    /// Opens a session with so many bytes of credit.
    Connect {
        window: u64,
        alone: bool,
    },
    /// Puts on the wire what there is, at most so many.
    Feed(usize),
    /// The server commits so many; whether the ack arrives.
    Commit {
        count: usize,
        ack: bool,
    },
    Disconnect,
    /// The linger, or the age of batches, passes.
    Wait(u64),
    Poison,
    Flush,
    /// The server is restored from the copy made last.
    Restore,
    Copy,
}

fn ops() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (0..12_usize, 0..3000_usize, any::<bool>())
            .prop_map(|(count, text, tracked)| Op::Send { count, text, tracked }),
        3 => (0..40_000_u64, any::<bool>()).prop_map(|(window, alone)| Op::Connect { window, alone }),
        6 => (1..6_usize).prop_map(Op::Feed),
        6 => (0..5_usize, any::<bool>()).prop_map(|(count, ack)| Op::Commit { count, ack }),
        2 => Just(Op::Disconnect),
        2 => (0..30_u64).prop_map(Op::Wait),
        1 => Just(Op::Poison),
        1 => Just(Op::Flush),
        1 => Just(Op::Restore),
        1 => Just(Op::Copy),
    ]
}

struct World {
    backlog: Backlog,
    server: Server,
    copy: Server,
    /// Whether offsets were committed by a server that has been replaced.
    restored: bool,
    now: Instant,
    now_us: i64,
    next_value: u64,
    receipts: Vec<(f64, oneshot::Receiver<Result<Outcome, ReceiptError>>)>,
}

impl World {
    fn new(when_full: WhenFull, max_age: Option<Duration>) -> Self {
        let limits = Limits {
            batch_readings: 5,
            batch_bytes: 8 << 10,
            buffer_bytes: 64 << 10,
            linger: Duration::from_millis(5),
            max_age,
            when_full,
            spooled: false,
        };
        let mut backlog = Backlog::new(limits);
        for name in ["a", "b", "c"] {
            let key = SeriesKey {
                farm_id: 1,
                device_uid: name.into(),
                device_type: "collar".into(),
                metric_name: "temperature".into(),
                metric_unit: "Cel".into(),
            };
            backlog.add_series(|ref_| encode::series(ref_, &key)).expect("room for three");
        }
        Self {
            backlog,
            server: Server::default(),
            copy: Server::default(),
            restored: false,
            now: Instant::now(),
            now_us: 1_000_000,
            next_value: 0,
            receipts: Vec::new(),
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Send { count, text, tracked } => self.send(count, text, tracked),
            Op::Connect { window, alone } => self.connect(window, alone),
            Op::Feed(count) => {
                for _ in 0..count {
                    if !self.feed() {
                        break;
                    }
                }
            }
            Op::Commit { count, ack } => {
                let answer = self.server.commit(count, 20_000);
                if let Some(answer) = answer.filter(|_| ack) {
                    let settled = self.backlog.ack(&answer).expect("nothing beyond what was sent");
                    answer_receipts(settled);
                }
            }
            Op::Disconnect => self.disconnect(),
            Op::Wait(ms) => {
                self.now += Duration::from_millis(ms);
                self.now_us += ms as i64 * 1000;
            }
            Op::Poison => {
                if let Some(head) = self.backlog.head_in_flight() {
                    // The stream broke at it, and the next session finds it still missing.
                    self.disconnect();
                    self.connect(0, true);
                    if self.server.committed < head {
                        self.backlog.take_poisoned(head);
                    }
                }
            }
            Op::Flush => {
                self.backlog.flush();
            }
            Op::Restore => {
                self.disconnect();
                self.restored |= self.copy.committed < self.server.committed;
                self.server = self.copy.clone();
            }
            Op::Copy => self.copy = Server { stream: None, ..self.server.clone() },
        }
        let held: usize = self.backlog.sealed.iter().map(|sealed| sealed.held).sum();
        assert_eq!(held, self.backlog.held);
        assert!(held + self.backlog.open.held() <= 64 << 10, "above the bound of memory");
    }

    fn send(&mut self, count: usize, text: usize, tracked: bool) {
        let items: Vec<Reading> = (0..count)
            .map(|_| {
                self.next_value += 1;
                let series = SeriesRef(1 + (self.next_value % 3) as u32);
                Reading::new(series, self.next_value as f64).metadata("x".repeat(text))
            })
            .collect();
        let (answer, receiver) = oneshot::channel();
        let mut answer = tracked.then_some(answer);
        let accepted = self.backlog.accept(&items, self.now_us, self.now, Some(&mut answer));
        if let (Some(stream), Some(gap)) = (&self.server.stream, accepted.evicted.first()) {
            assert!(gap.first >= stream.expected, "{gap:?} was sent in this session: {stream:?}");
        }
        if tracked && accepted.taken > 0 {
            self.receipts.push((items[0].value, receiver));
        }
    }

    fn connect(&mut self, window: u64, alone: bool) {
        self.disconnect();
        let (first, next) = self.backlog.range();
        assert!(1 <= first && first <= next);
        let opened = self.server.open(next, window);
        let begun = self
            .backlog
            .begin(&opened, next, if alone { next } else { 0 }, self.now_us, &[])
            .expect("nobody else uses the id");
        answer_receipts(begun.settled);
    }

    fn disconnect(&mut self) {
        // What was received is committed or not, as Commit did; the rest is gone with the stream.
        self.server.stream = None;
        self.backlog.stop_sending();
    }

    fn feed(&mut self) -> bool {
        match self.backlog.next(self.now, self.now_us) {
            Next::Batch { head, body } => self.server.batch(&head, &body),
            Next::Skip(skip) => self.server.skip(skip),
            Next::Reopen => self.connect(20_000, false),
            Next::Wait(Some(until)) => {
                assert!(until > self.now);
                return false;
            }
            Next::Wait(None) => return false,
            Next::Read(_) | Next::Finish => panic!("there is no spool, and nobody closed"),
        }
        true
    }

    /// Everything gets through in the end, and every item has exactly one fate.
    fn finish(mut self) {
        self.connect(1 << 20, false);
        for _ in 0..10_000 {
            self.backlog.flush();
            while self.feed() {}
            self.apply(Op::Commit { count: usize::MAX, ack: true });
            if self.backlog.is_drained() {
                break;
            }
        }
        assert!(self.backlog.is_drained(), "stuck: {:?}", self.backlog);
        let counters = self.backlog.counters();
        let Counters { accepted, stored, quarantined, evicted, expired, poisoned, .. } = counters;
        assert_eq!(accepted, stored + quarantined + evicted + expired + poisoned, "{counters:?}");
        assert_eq!(counters.pending, 0, "{counters:?}");
        let stored: Vec<f64> = self.server.stored.values().flatten().copied().collect();
        let mut unique = stored.clone();
        unique.sort_unstable_by(f64::total_cmp);
        unique.dedup();
        assert_eq!(unique.len(), stored.len(), "no reading is stored twice");
        if !self.restored {
            assert_eq!(counters.stored, stored.len() as u64, "{counters:?}");
        }
        assert!(counters.stored >= stored.len() as u64);
        for (value, mut receipt) in self.receipts {
            let outcome = receipt.try_recv().expect("resolved").expect("an outcome");
            let is_stored = stored.contains(&value);
            if !self.restored || outcome != Outcome::Stored {
                assert_eq!(outcome == Outcome::Stored, is_stored, "{value}: {outcome:?}");
            }
        }
    }
}

fn answer_receipts(settled: Settled) {
    for tracked in settled.receipts.into_iter().flat_map(|(_, tracked)| tracked) {
        tracked.answer.send(Ok(Outcome::Stored)).expect("the test keeps its receipts");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn every_item_has_one_fate(
        ops in prop::collection::vec(ops(), 1..80),
        evict in any::<bool>(),
        expire in any::<bool>(),
    ) {
        let when_full = if evict { WhenFull::EvictOldest } else { WhenFull::Block };
        let mut world = World::new(when_full, expire.then_some(Duration::from_millis(20)));
        for op in ops {
            world.apply(op);
        }
        world.finish();
    }
}

#[test]
fn an_ack_of_what_was_not_sent_is_refused() {
    let mut world = World::new(WhenFull::Block, None);
    world.connect(1 << 20, false);
    world.send(1, 0, false);
    assert!(world.feed());
    let ack = v1::Ack { committed_offset: 2, ..v1::Ack::default() };
    assert_eq!(world.backlog.ack(&ack).expect_err("one was sent"), Violation { committed: 2, sent: 1 });
    let opened = v1::Opened { committed_offset: 2, ..v1::Opened::default() };
    let conflict = world.backlog.begin(&opened, 2, 0, 0, &[]).expect_err("one was ever sent");
    assert_eq!(conflict, Violation { committed: 2, sent: 1 });
}

#[test]
fn a_lone_item_leaves_at_once_and_the_next_ones_gather() {
    let mut world = World::new(WhenFull::Block, None);
    world.connect(1 << 20, false);
    world.send(1, 0, false);
    assert!(world.feed(), "nothing is under way");
    world.send(2, 0, false);
    assert!(!world.feed(), "one is under way");
    world.apply(Op::Wait(5));
    assert!(world.feed(), "the linger is over");
    world.send(5, 0, false);
    assert!(world.feed(), "full");
    world.send(1, 0, false);
    world.backlog.flush();
    assert!(world.feed(), "flushed");
    let sizes: Vec<usize> = world
        .server
        .stream
        .expect("open")
        .queue
        .iter()
        .map(|(_, values, _)| values.as_ref().map_or(0, Vec::len))
        .collect();
    assert_eq!(sizes, [1, 2, 5, 1]);
}

#[test]
fn what_can_never_fit_is_refused_and_stops_nothing() {
    let mut world = World::new(WhenFull::Block, None);
    let series = SeriesRef(1);
    let items = [
        Reading::new(series, 1.0),
        Reading::new(series, 2.0).metadata("x".repeat(40 << 10)),
        Reading::new(SeriesRef(9), 3.0),
    ];
    let accepted = world.backlog.accept(&items, 0, world.now, None);
    assert_eq!(accepted.taken, 1);
    assert!(matches!(accepted.stopped, Some(Stop::Refused(SendReason::TooLarge { .. }))));
    let accepted = world.backlog.accept(&items[2..], 0, world.now, None);
    assert!(matches!(accepted.stopped, Some(Stop::Refused(SendReason::UnknownSeries(9)))));
    world.finish();
}
