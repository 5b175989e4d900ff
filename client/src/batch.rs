//! Batches: filled, sealed, encoded exactly once.
//!
//! A `Batch` on the wire is its offset, then the series it defines, then readings and milkings. The
//! last part (the body) is encoded as items arrive and never again. The series are kept apart: a
//! batch in the spool carries all it refers to, a batch on a stream only those that the stream does
//! not know yet. Protobuf lets the parts simply be put one after the other.

use bytes::{Buf, Bytes};
use prost::encoding::{WireType, decode_key, decode_varint};
use tokio::{sync::oneshot, time::Instant};

use herdstream_proto::v1::RejectionKind;

use crate::{
    encode::{Encode, OFFSET_TAG, SERIES_TAG, put_varint, varint_len},
    receipt::{Outcome, ReceiptError},
    spool::Frame,
};

/// Memory that a sealed batch takes beside its body, roughly.
const BATCH_OVERHEAD: usize = 256;
/// The most memory that one more item takes beside its encoded bytes.
pub(crate) const ITEM_OVERHEAD: usize = BATCH_OVERHEAD + TRACKED_BYTES + size_of::<u32>();
/// Bytes of a batch beside series and body: its offset.
pub(crate) const HEAD_BYTES: usize = 11;
/// Memory that a tracked item takes, roughly.
const TRACKED_BYTES: usize = 128;

/// Someone who waits for a batch to be on disk.
pub(crate) type SyncWaiter = oneshot::Sender<Result<(), SyncFailure>>;

/// Where to hear of it.
pub(crate) type SyncReceiver = oneshot::Receiver<Result<(), SyncFailure>>;

/// Why a batch did not get to disk.
#[derive(Clone, Debug)]
pub(crate) enum SyncFailure {
    /// The spool is full: try again when there is room.
    Full,
    /// The disk refused.
    Disk(std::sync::Arc<crate::spool::SpoolError>),
}

/// An item whose sender wants to know what became of it.
#[derive(Debug)]
pub(crate) struct Tracked {
    pub(crate) kind: RejectionKind,
    /// Position in the batch's list of that kind.
    pub(crate) index: u32,
    pub(crate) answer: oneshot::Sender<Result<Outcome, ReceiptError>>,
}

/// The batch that takes items.
#[derive(Debug, Default)]
pub(crate) struct OpenBatch {
    body: Vec<u8>,
    readings: u32,
    milkings: u32,
    refs: Vec<u32>,
    series_bytes: usize,
    /// When its first item came.
    pub(crate) since: Option<Instant>,
    /// Someone flushes: do not wait for more.
    pub(crate) urgent: bool,
    pub(crate) tracked: Vec<Tracked>,
    pub(crate) waiters: Vec<SyncWaiter>,
}

impl OpenBatch {
    pub(crate) fn items(&self) -> u32 {
        self.readings + self.milkings
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items() == 0
    }

    /// Encoded bytes with every series.
    pub(crate) fn bytes(&self) -> usize {
        HEAD_BYTES + self.series_bytes + self.body.len()
    }

    /// Memory it takes.
    pub(crate) fn held(&self) -> usize {
        if self.is_empty() { 0 } else { held(self.body.len(), &self.refs, &self.tracked) }
    }

    /// Adds an item whose series, if any, is in the table.
    #[inline]
    pub(crate) fn push<T: Encode>(&mut self, item: &T, now_us: i64, table: &mut SeriesTable) {
        match item.series() {
            Some(series) => {
                if let Some(bytes) = table.mark(series.0) {
                    self.refs.push(series.0);
                    self.series_bytes += bytes;
                }
                self.readings += 1;
            }
            None => self.milkings += 1,
        }
        item.encode(now_us, &mut self.body);
    }

    /// Wants to know what became of the item that was pushed last.
    pub(crate) fn track(&mut self, is_reading: bool, answer: oneshot::Sender<Result<Outcome, ReceiptError>>) {
        let (kind, count) = if is_reading {
            (RejectionKind::Reading, self.readings)
        } else {
            (RejectionKind::Milking, self.milkings)
        };
        self.tracked.push(Tracked { kind, index: count - 1, answer });
    }

    /// Seals it, and leaves an empty one that expects about as much.
    pub(crate) fn seal(&mut self, offset: u64, at_us: i64, table: &mut SeriesTable) -> Sealed {
        table.forget_marks();
        let next = Self {
            body: Vec::with_capacity(self.body.len() + self.body.len() / 8),
            refs: Vec::with_capacity(self.refs.len()),
            ..Self::default()
        };
        let mut full = std::mem::replace(self, next);
        if full.body.capacity() > full.body.len() + full.body.len() / 4 {
            full.body.shrink_to_fit();
        }
        Sealed {
            held: full.held(),
            offset,
            items: full.readings + full.milkings,
            at_us,
            series_bytes: full.series_bytes,
            refs: full.refs.into(),
            body: full.body.into(),
            tracked: full.tracked,
            waiters: full.waiters,
        }
    }
}

fn held(body: usize, refs: &[u32], tracked: &[Tracked]) -> usize {
    BATCH_OVERHEAD + body + size_of_val(refs) + tracked.len() * TRACKED_BYTES
}

/// A batch with its offset: nothing about it changes any more.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub(crate) offset: u64,
    pub(crate) items: u32,
    pub(crate) at_us: i64,
    refs: Box<[u32]>,
    series_bytes: usize,
    body: Bytes,
    /// Memory it takes, receipts included.
    pub(crate) held: usize,
    pub(crate) tracked: Vec<Tracked>,
    pub(crate) waiters: Vec<SyncWaiter>,
}

impl Sealed {
    /// Encoded bytes when every series in `known` is left out.
    pub(crate) fn wire_bytes(&self, table: &SeriesTable, known: &Known) -> usize {
        let series: usize =
            self.refs.iter().filter(|ref_| !known.has(**ref_)).map(|ref_| table.bytes(*ref_)).sum();
        1 + varint_len(self.offset) + series + self.body.len()
    }

    /// The encoded batch in two parts, without the series in `known`, which then knows them.
    pub(crate) fn parts(&self, table: &SeriesTable, known: &mut Known) -> (Bytes, Bytes) {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        self.put_head(&mut head, self.refs.iter().filter(|ref_| known.add(**ref_)), table);
        (head.into(), self.body.clone())
    }

    /// The whole encoded batch with every series it refers to.
    pub(crate) fn whole(&self, table: &SeriesTable) -> Bytes {
        let mut out = Vec::with_capacity(HEAD_BYTES + self.series_bytes + self.body.len());
        self.put_head(&mut out, self.refs.iter(), table);
        out.extend_from_slice(&self.body);
        out.into()
    }

    pub(crate) fn frame(&self, table: &SeriesTable) -> Frame {
        Frame { offset: self.offset, items: self.items, sealed_us: self.at_us, batch: self.whole(table) }
    }

    fn put_head<'a>(&self, out: &mut Vec<u8>, refs: impl Iterator<Item = &'a u32>, table: &SeriesTable) {
        out.push(OFFSET_TAG);
        put_varint(self.offset, out);
        for ref_ in refs {
            out.extend_from_slice(table.definition(*ref_));
        }
    }

    /// Takes a frame of the spool apart. The table learns its series.
    ///
    /// `None` when the frame does not hold what this crate writes.
    pub(crate) fn from_frame(frame: &Frame, table: &mut SeriesTable) -> Option<Self> {
        let mut rest = frame.batch.clone();
        if rest.try_get_u8().ok()? != OFFSET_TAG || decode_varint(&mut rest).ok()? != frame.offset {
            return None;
        }
        let (mut refs, mut series_bytes) = (Vec::new(), 0);
        while rest.first() == Some(&SERIES_TAG) {
            let start = rest.clone();
            rest.advance(1);
            let length = usize::try_from(decode_varint(&mut rest).ok()?).ok()?;
            if length > rest.len() {
                return None;
            }
            let content = rest.split_to(length);
            let definition = start.slice(..start.len() - rest.len());
            let number = series_ref(content)?;
            series_bytes += definition.len();
            table.learn(number, &definition)?;
            refs.push(number);
        }
        Some(Self {
            held: held(rest.len(), &refs, &[]),
            offset: frame.offset,
            items: frame.items,
            at_us: frame.sealed_us,
            refs: refs.into(),
            series_bytes,
            body: rest,
            tracked: Vec::new(),
            waiters: Vec::new(),
        })
    }
}

/// The ref in an encoded series: its first field.
fn series_ref(mut series: Bytes) -> Option<u32> {
    match decode_key(&mut series).ok()? {
        (1, WireType::Varint) => u32::try_from(decode_varint(&mut series).ok()?).ok(),
        _ => None,
    }
}

/// Refs above this are not ours: the protocol allows 100 000 a stream.
const MAX_REF: u32 = 1 << 20;

/// The encoded definition of every series of a producer, by ref. Refs start at 1.
#[derive(Debug)]
pub(crate) struct SeriesTable {
    series: Vec<Definition>,
    /// Number of the open batch, to tell whether it refers to a series already.
    open: u64,
}

#[derive(Clone, Debug, Default)]
struct Definition {
    encoded: Box<[u8]>,
    marked: u64,
}

impl SeriesTable {
    pub(crate) fn new() -> Self {
        Self { series: vec![Definition::default()], open: 1 }
    }

    /// Series in it.
    pub(crate) fn len(&self) -> usize {
        self.series.len() - 1
    }

    pub(crate) fn add(&mut self, encode: impl FnOnce(u32) -> Vec<u8>) -> u32 {
        let ref_ = self.series.len() as u32;
        self.series.push(Definition { encoded: encode(ref_).into(), marked: 0 });
        ref_
    }

    pub(crate) fn knows(&self, ref_: u32) -> bool {
        self.series.get(ref_ as usize).is_some_and(|series| !series.encoded.is_empty())
    }

    /// Encoded bytes of a series that the open batch does not refer to yet.
    pub(crate) fn unmarked_bytes(&self, ref_: u32) -> usize {
        let series = &self.series[ref_ as usize];
        if series.marked == self.open { 0 } else { series.encoded.len() }
    }

    /// Marks a series as used by the open batch: its encoded bytes when that is new.
    #[inline]
    fn mark(&mut self, ref_: u32) -> Option<usize> {
        let series = &mut self.series[ref_ as usize];
        if series.marked == self.open {
            return None;
        }
        series.marked = self.open;
        Some(series.encoded.len())
    }

    fn forget_marks(&mut self) {
        self.open += 1;
    }

    fn learn(&mut self, ref_: u32, definition: &[u8]) -> Option<()> {
        if ref_ > MAX_REF {
            return None;
        }
        let index = ref_ as usize;
        if self.series.len() <= index {
            self.series.resize(index + 1, Definition::default());
        }
        if self.series[index].encoded.is_empty() {
            self.series[index].encoded = definition.into();
        }
        // A log never uses a ref for two series; a damaged one is not ours to send.
        (*self.series[index].encoded == *definition).then_some(())
    }

    fn definition(&self, ref_: u32) -> &[u8] {
        &self.series[ref_ as usize].encoded
    }

    fn bytes(&self, ref_: u32) -> usize {
        self.definition(ref_).len()
    }
}

/// Series that a stream knows.
#[derive(Debug, Default)]
pub(crate) struct Known(Vec<bool>);

impl Known {
    fn has(&self, ref_: u32) -> bool {
        self.0.get(ref_ as usize).copied().unwrap_or(false)
    }

    /// Whether it was new.
    fn add(&mut self, ref_: u32) -> bool {
        let index = ref_ as usize;
        if self.0.len() <= index {
            self.0.resize(index + 1, false);
        }
        !std::mem::replace(&mut self.0[index], true)
    }
}

#[cfg(test)]
mod tests {
    use herdstream_proto::v1;
    use prost::Message as _;

    use super::*;
    use crate::{
        encode,
        item::{Item, Milking, Reading},
        series::{SeriesKey, SeriesRef},
    };

    fn key(name: &str) -> SeriesKey {
        SeriesKey {
            farm_id: 1,
            device_uid: name.into(),
            device_type: "collar".into(),
            metric_name: "temperature".into(),
            metric_unit: "Cel".into(),
        }
    }

    fn batch(table: &mut SeriesTable, refs: &[u32], offset: u64) -> Sealed {
        let mut open = OpenBatch::default();
        for ref_ in refs {
            open.push(&Item::from(Reading::new(SeriesRef(*ref_), 1.5)), 7, table);
            open.push(&Milking { session_id: "s".into(), ..Milking::default() }, 7, table);
        }
        let bytes = open.bytes();
        let sealed = open.seal(offset, 9, table);
        assert!(open.is_empty());
        assert!(sealed.whole(table).len() <= bytes);
        sealed
    }

    #[test]
    fn a_stream_hears_of_a_series_once_and_a_frame_holds_all() {
        let mut table = SeriesTable::new();
        let refs: Vec<u32> =
            ["a", "b"].iter().map(|name| table.add(|ref_| encode::series(ref_, &key(name)))).collect();
        let first = batch(&mut table, &[refs[0], refs[0]], 1);
        let second = batch(&mut table, &[refs[0], refs[1]], 300);
        let mut known = Known::default();
        for (sealed, defined, all) in [(&first, vec!["a"], vec!["a"]), (&second, vec!["b"], vec!["a", "b"])] {
            let expected = sealed.wire_bytes(&table, &known);
            let (head, body) = sealed.parts(&table, &mut known);
            assert_eq!(head.len() + body.len(), expected);
            let wire = v1::Batch::decode([head, body].concat().as_slice()).expect("a batch");
            assert_eq!(wire.encoded_len(), expected, "credit counts the canonical length");
            assert_eq!((wire.offset, wire.readings.len(), wire.milkings.len()), (sealed.offset, 2, 2));
            let names: Vec<_> = wire.series.iter().map(|series| series.device_uid.as_str()).collect();
            assert_eq!(names, defined);

            let frame = sealed.frame(&table);
            let whole = v1::Batch::decode(frame.batch.clone()).expect("a batch");
            let names: Vec<_> = whole.series.iter().map(|series| series.device_uid.as_str()).collect();
            assert_eq!(names, all);

            let mut other = SeriesTable::new();
            let again = Sealed::from_frame(&frame, &mut other).expect("our own frame");
            assert_eq!(again.whole(&other), frame.batch);
            assert_eq!((again.items, again.at_us, again.body), (4, 9, sealed.body.clone()));
        }
    }

    #[test]
    fn a_foreign_frame_is_refused() {
        let mut table = SeriesTable::new();
        for batch in
            [&b""[..], b"\x08", b"\x08\x02", b"\x08\x01\x12\x05", b"\x08\x01\x12\x01\x10", b"\x12\x00"]
        {
            let frame = Frame { offset: 1, items: 1, sealed_us: 0, batch: Bytes::from_static(batch) };
            assert!(Sealed::from_frame(&frame, &mut table).is_none(), "{batch:?}");
        }
    }
}
