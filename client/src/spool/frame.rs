//! How a batch lies on the disk: a header of [`HEADER`] bytes, then the payload.
//!
//! ```text
//!  0  magic "HsF1"          16  items_before u64     40  items u32
//!  4  crc of 8..48  u32     24  sealed_us    i64     44  crc of the payload u32
//!  8  offset        u64     32  payload_len  u64     48  payload
//! ```
//!
//! Little endian, crc32c. The header has a checksum of its own, so that behind a damaged payload the
//! offset, the items and the place of the next frame are still known. `items_before` counts the items
//! of all earlier frames of the log: what a hole held is the difference of its neighbours. The
//! header's checksum starts from the producer id, so that bytes inside a payload, or a file that was
//! put into the wrong log, are never taken for a frame.

use std::{fs::File, io, os::unix::fs::FileExt};

use bytes::Bytes;
use uuid::Uuid;

/// A batch in a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) offset: u64,
    /// Readings and milkings in the batch.
    pub(crate) items: u32,
    /// When the batch was sealed, microseconds since 1970 UTC.
    pub(crate) sealed_us: i64,
    /// An encoded `Batch` that carries every series it refers to.
    pub(crate) batch: Bytes,
}

impl Frame {
    /// Bytes on the disk.
    pub(super) fn size(&self) -> u64 {
        (HEADER + self.batch.len()) as u64
    }
}

/// Bytes of a frame's header.
pub(super) const HEADER: usize = 48;

const MAGIC: [u8; 4] = *b"HsF1";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) offset: u64,
    pub(super) items_before: u64,
    pub(super) sealed_us: i64,
    pub(super) payload_len: u64,
    pub(super) items: u32,
    pub(super) payload_crc: u32,
}

impl Header {
    pub(super) fn of(frame: &Frame, items_before: u64) -> Self {
        Self {
            offset: frame.offset,
            items_before,
            sealed_us: frame.sealed_us,
            payload_len: frame.batch.len() as u64,
            items: frame.items,
            payload_crc: crc32c::crc32c(&frame.batch),
        }
    }

    pub(super) fn encode(&self, producer: Uuid) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..4].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.offset.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.items_before.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.sealed_us.to_le_bytes());
        bytes[32..40].copy_from_slice(&self.payload_len.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.items.to_le_bytes());
        bytes[44..48].copy_from_slice(&self.payload_crc.to_le_bytes());
        let crc = checksum(producer, &bytes[8..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// The header in the first bytes of `bytes`, if they are one of this producer.
    fn decode(producer: Uuid, bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.first_chunk::<HEADER>()?;
        if bytes[..4] != MAGIC || u32_at(bytes, 4) != checksum(producer, &bytes[8..]) {
            return None;
        }
        Some(Self {
            offset: u64_at(bytes, 8),
            items_before: u64_at(bytes, 16),
            sealed_us: u64_at(bytes, 24).cast_signed(),
            payload_len: u64_at(bytes, 32),
            items: u32_at(bytes, 40),
            payload_crc: u32_at(bytes, 44),
        })
    }

    /// Items of the log up to and including this frame.
    pub(super) fn items_end(&self) -> u64 {
        self.items_before.saturating_add(u64::from(self.items))
    }
}

/// A checksum that only holds within one producer's log.
pub(super) fn checksum(producer: Uuid, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(producer.as_bytes()), bytes)
}

fn u32_at(bytes: &[u8; HEADER], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u64_at(bytes: &[u8; HEADER], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// A header in a file, with the whole payload behind it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    /// Where the header starts.
    pub(super) at: u64,
    pub(super) header: Header,
}

impl Found {
    /// Where the next frame starts.
    pub(super) fn end(&self) -> u64 {
        self.at + HEADER as u64 + self.header.payload_len
    }

    /// The payload, or nothing when its checksum does not hold.
    pub(super) fn payload(&self, file: &File) -> io::Result<Option<Bytes>> {
        let mut payload = vec![0; self.header.payload_len as usize];
        file.read_exact_at(&mut payload, self.at + HEADER as u64)?;
        Ok((crc32c::crc32c(&payload) == self.header.payload_crc).then(|| payload.into()))
    }
}

/// Goes through the frames of a file from header to header, and past damage to the next header that
/// holds. Reads payloads only as far as its window reaches, and never holds more than the window.
#[derive(Debug)]
pub(super) struct Walk {
    producer: Uuid,
    pos: u64,
    end: u64,
    window: Vec<u8>,
    window_at: u64,
}

/// Small, since frames are usually larger and only their headers are wanted.
const WINDOW: usize = 8 << 10;

impl Walk {
    /// A walk over the bytes from `pos` to `end`.
    pub(super) fn new(producer: Uuid, pos: u64, end: u64) -> Self {
        Self { producer, pos, end, window: Vec::new(), window_at: 0 }
    }

    /// End of the last frame found: what follows is no frame.
    pub(super) fn pos(&self) -> u64 {
        self.pos
    }

    /// The next frame whose header holds and whose payload ends within the file.
    pub(super) fn next(&mut self, file: &File) -> io::Result<Option<Found>> {
        let (producer, end) = (self.producer, self.end);
        let mut at = self.pos;
        while let Some(bytes) = self.look(file, at)? {
            if let Some(header) = Header::decode(producer, bytes) {
                let whole = (at + HEADER as u64)
                    .checked_add(header.payload_len)
                    .is_some_and(|frame_end| frame_end <= end);
                if whole {
                    let found = Found { at, header };
                    self.pos = found.end();
                    return Ok(Some(found));
                }
            }
            // The last three bytes may be the start of a magic that goes on behind the window.
            let skip = bytes[1..].windows(4).position(|four| four == MAGIC);
            at += skip.map_or(bytes.len() - 3, |i| i + 1) as u64;
        }
        Ok(None)
    }

    /// The bytes from `at` as far as the window goes: a header's worth at least, else nothing.
    fn look(&mut self, file: &File, at: u64) -> io::Result<Option<&[u8]>> {
        if at + HEADER as u64 > self.end {
            return Ok(None);
        }
        let covered = at >= self.window_at && at + HEADER as u64 <= self.window_at + self.window.len() as u64;
        if !covered {
            self.window.resize((self.end - at).min(WINDOW as u64) as usize, 0);
            self.window_at = at;
            if let Err(error) = file.read_exact_at(&mut self.window, at) {
                self.window.clear();
                return Err(error);
            }
        }
        Ok(Some(&self.window[(at - self.window_at) as usize..]))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use proptest::prelude::*;

    use super::*;

    fn file_of(bytes: &[u8]) -> File {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    fn encoded(producer: Uuid, offset: u64, payload: &[u8]) -> Vec<u8> {
        let frame = Frame { offset, items: 3, sealed_us: -1, batch: Bytes::copy_from_slice(payload) };
        let mut bytes = Header::of(&frame, 3 * (offset - 1)).encode(producer).to_vec();
        bytes.extend_from_slice(payload);
        bytes
    }

    fn offsets(producer: Uuid, bytes: &[u8]) -> Vec<u64> {
        let file = file_of(bytes);
        let mut walk = Walk::new(producer, 0, bytes.len() as u64);
        std::iter::from_fn(|| walk.next(&file).unwrap()).map(|found| found.header.offset).collect()
    }

    /// The bytes were worked out by hand from the table above, the checksum by another implementation,
    /// so that a change of the code cannot change the format unseen.
    #[test]
    fn header_has_its_documented_bytes() {
        let header = Header {
            offset: 0x0102_0304_0506_0708,
            items_before: 9,
            sealed_us: -2,
            payload_len: 10,
            items: 11,
            payload_crc: 0xdead_beef,
        };
        let producer = Uuid::from_bytes(*b"0123456789abcdef");
        let bytes = header.encode(producer);
        let mut expected = Vec::new();
        expected.extend_from_slice(b"HsF1");
        expected.extend_from_slice(&[0xef, 0xba, 0xb2, 0x52]);
        expected.extend_from_slice(&[8, 7, 6, 5, 4, 3, 2, 1]);
        expected.extend_from_slice(&[9, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        expected.extend_from_slice(&[10, 0, 0, 0, 0, 0, 0, 0]);
        expected.extend_from_slice(&[11, 0, 0, 0, 0xef, 0xbe, 0xad, 0xde]);
        assert_eq!(bytes.as_slice(), expected.as_slice());
        assert_eq!(Header::decode(producer, &bytes), Some(header));
        assert_eq!(Header::decode(Uuid::nil(), &bytes), None, "another producer's frame");
    }

    #[test]
    fn a_frame_inside_a_payload_of_another_log_is_no_frame() {
        let (ours, theirs) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let mut bytes = encoded(ours, 1, &encoded(theirs, 7, b"inner"));
        bytes[10] ^= 1; // our header is damaged: the walk searches the payload
        bytes.extend(encoded(ours, 2, b"next"));
        assert_eq!(offsets(ours, &bytes), [2]);
    }

    proptest! {
        #[test]
        fn random_bytes_hold_no_frame_and_end(bytes in proptest::collection::vec(any::<u8>(), 0..40_000)) {
            prop_assert_eq!(offsets(Uuid::from_u128(5), &bytes), Vec::<u64>::new());
        }

        /// Magic everywhere is the worst case of the search.
        #[test]
        fn damage_between_frames_is_passed(
            junk in proptest::collection::vec(proptest::sample::select(b"HsF1\0".to_vec()), 0..20_000),
            payload in proptest::collection::vec(any::<u8>(), 0..20_000),
        ) {
            let producer = Uuid::from_u128(5);
            let mut bytes = encoded(producer, 1, &payload);
            bytes.extend(&junk);
            bytes.extend(encoded(producer, 2, &payload));
            bytes.extend(&junk);
            prop_assert_eq!(offsets(producer, &bytes), [1, 2]);
        }
    }
}
