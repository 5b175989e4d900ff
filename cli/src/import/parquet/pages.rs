//! A Parquet file that gives no page that is too long.

use std::{
    fs::File,
    io::{BufRead as _, BufReader},
};

use bytes::Bytes;
use parquet::{
    errors::{ParquetError, Result},
    file::{
        FOOTER_SIZE,
        reader::{ChunkReader, Length},
    },
};

/// A file whose pages have a bound.
pub(super) struct Pages {
    file: File,
    /// Bytes that one may have, packed and unpacked.
    most: u64,
}

impl Pages {
    pub(super) fn of(file: File, most: u64) -> Self {
        Self { file, most }
    }
}

impl Length for Pages {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl ChunkReader for Pages {
    type T = BufReader<File>;

    /// From a page on, whose header tells how long it is, or from the footer on.
    fn get_read(&self, start: u64) -> Result<Self::T> {
        let mut reader = self.file.get_read(start)?;
        if start + FOOTER_SIZE as u64 != self.len() {
            let bytes = page_bytes(reader.fill_buf()?)
                .ok_or_else(|| ParquetError::General(format!("there is no page at byte {start}")))?;
            if bytes > self.most {
                return Err(ParquetError::General(format!(
                    "a page of a column has {bytes} bytes, and none may have more than {}: write the file with smaller \
                     pages or fewer rows in a group",
                    self.most
                )));
            }
        }
        Ok(reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes> {
        self.file.get_bytes(start, length)
    }
}

/// Bytes of a page, from its header: the larger of packed and unpacked. None: it is no header.
///
/// It begins with the kind of the page, its bytes unpacked and packed, each a 32-bit number in Thrift's compact
/// protocol.
fn page_bytes(header: &[u8]) -> Option<u64> {
    const NEXT_I32: u8 = 0x15;
    let mut header = header.iter();
    let mut number = || {
        if *header.next()? != NEXT_I32 {
            return None;
        }
        let mut zigzag = 0;
        for shift in (0..35).step_by(7) {
            let byte = u64::from(*header.next()?);
            zigzag |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                // The reader refuses what is negative.
                return Some(if zigzag & 1 == 0 { zigzag >> 1 } else { 0 });
            }
        }
        None
    };
    let (_kind, unpacked, packed) = (number()?, number()?, number()?);
    Some(unpacked.max(packed))
}
