//! gRPC messages in what a connection carried one way (RFC 9113, sections 4.1 and 6.1).

use std::collections::BTreeMap;

use crate::trace::Call;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const DATA: u8 = 0;
const PADDED: u8 = 8;

/// A message, and when it passed.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    /// When the call that carried its first byte was entered.
    pub(crate) began: usize,
    pub(crate) bytes: Vec<u8>,
}

/// The messages of one direction of every stream in `calls`, in order; by connection and number.
pub(crate) fn messages(
    calls: &[Call],
    direction: impl Fn(&Call) -> bool,
) -> BTreeMap<(String, u32), Vec<Message>> {
    let mut connections: BTreeMap<String, Flow> = BTreeMap::new();
    for call in calls.iter().filter(|call| call.is_tcp() && direction(call)) {
        let flow = connections.entry(call.target.clone()).or_default();
        flow.marks.push((flow.bytes.len(), call.began));
        flow.bytes.extend_from_slice(&call.bytes);
    }
    let mut streams: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (connection, flow) in connections {
        for (stream, message) in flow.messages() {
            streams.entry((connection.clone(), stream)).or_default().push(message);
        }
    }
    streams
}

/// What one direction carried.
#[derive(Default)]
struct Flow {
    bytes: Vec<u8>,
    /// Positions, and when the call was entered that carried what begins there.
    marks: Vec<(usize, usize)>,
}

impl Flow {
    fn messages(&self) -> Vec<(u32, Message)> {
        let mut messages = Vec::new();
        // Of each stream: bytes of DATA with their positions in the flow.
        let mut streams: BTreeMap<u32, Vec<(u8, usize)>> = BTreeMap::new();
        let mut at = if self.bytes.starts_with(PREFACE) { PREFACE.len() } else { 0 };
        while let Some([a, b, c, kind, flags, stream @ ..]) = self.bytes.get(at..at + 9) {
            let len = u32::from_be_bytes([0, *a, *b, *c]) as usize;
            let stream = u32::from_be_bytes(stream.try_into().expect("four bytes")) & (u32::MAX >> 1);
            let Some(mut payload) = self.bytes.get(at + 9..at + 9 + len) else { break };
            let mut from = at + 9;
            at = from + len;
            if *kind != DATA {
                continue;
            }
            if flags & PADDED != 0 {
                payload = &payload[1..payload.len() - usize::from(payload[0])];
                from += 1;
            }
            let data = streams.entry(stream).or_default();
            data.extend(payload.iter().copied().zip(from..));
            while let Some((bytes, first, rest)) = split(data) {
                messages.push((stream, Message { began: self.began(first), bytes }));
                data.drain(..rest);
            }
        }
        messages
    }

    fn began(&self, position: usize) -> usize {
        let next = self.marks.partition_point(|(start, _)| *start <= position);
        self.marks[next - 1].1
    }
}

/// The first message in the data of a stream, where it begins in the flow, and how long it is here.
fn split(data: &[(u8, usize)]) -> Option<(Vec<u8>, usize, usize)> {
    let [(compressed, first), a, b, c, d, ..] = data else { return None };
    assert_eq!(*compressed, 0, "nobody asked for compression");
    let end = 5 + u32::from_be_bytes([a.0, b.0, c.0, d.0]) as usize;
    Some((data.get(5..end)?.iter().map(|(byte, _)| *byte).collect(), *first, end))
}
