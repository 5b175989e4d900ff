//! The highest ack seen, in a file of twelve bytes: the offset and a checksum.
//!
//! Written at every ack and synced only before anything is removed because of it: after a power cut an
//! older ack merely sends batches again, which the server drops as duplicates.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use uuid::Uuid;

use super::{
    SpoolError,
    durable::{open_or_create, sync_data, write_at},
    frame::checksum,
};

#[derive(Debug)]
pub(super) struct AckFile {
    path: PathBuf,
    producer: Uuid,
    file: Option<File>,
    /// Offset that was synced last.
    durable: Option<u64>,
}

impl AckFile {
    pub(super) fn new(log: &Path, producer: Uuid) -> Self {
        Self { path: log.join("acked"), producer, file: None, durable: None }
    }

    /// What the file says; nothing if there is none or it is damaged.
    pub(super) fn read(&mut self) -> Result<Option<u64>, SpoolError> {
        let bytes = match fs::read(&self.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read.map_err(SpoolError::io("read", &self.path))?,
        };
        let Some((offset, crc)) = bytes.split_first_chunk::<8>() else { return Ok(None) };
        Ok((crc == checksum(self.producer, offset).to_le_bytes()).then(|| u64::from_le_bytes(*offset)))
    }

    /// Writes an ack, and syncs it if `sync`.
    pub(super) fn write(&mut self, acked: u64, sync: bool) -> Result<(), SpoolError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => open_or_create(&self.path).map_err(SpoolError::io("create", &self.path))?,
        };
        let file = self.file.insert(file);
        let offset = acked.to_le_bytes();
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&offset);
        bytes[8..].copy_from_slice(&checksum(self.producer, &offset).to_le_bytes());
        write_at(file, &bytes, 0).map_err(SpoolError::io("write", &self.path))?;
        if sync && self.durable != Some(acked) {
            sync_data(file).map_err(SpoolError::io("sync", &self.path))?;
            self.durable = Some(acked);
        }
        Ok(())
    }
}
