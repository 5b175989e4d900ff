//! Whether the disk has room to write.

use std::sync::Arc;

use super::{
    super::{engine::Engine, spare::free_bytes},
    Writer,
};
use crate::store::StoreError;

impl Writer {
    /// Looks at the free space of the disk, notes whether it is enough to write, and sets some aside if there is plenty.
    pub(super) fn has_room(&mut self, engine: &Arc<Engine>) -> Result<bool, StoreError> {
        let free_bytes = self.free_bytes()?;
        let min_free_bytes = self.shared.config.min_free_bytes;
        self.shared.set_room(engine, free_bytes);
        self.spare.keep(free_bytes, min_free_bytes);
        Ok(free_bytes >= min_free_bytes)
    }

    /// Bytes that are free on the disk.
    fn free_bytes(&self) -> Result<u64, StoreError> {
        let dir = &self.shared.config.dir;
        free_bytes(dir).map_err(|source| {
            let what = format!("the free space of {} cannot be read", dir.display());
            StoreError::Unavailable(what, Some(source.into()))
        })
    }

    /// Makes what room there can be for what will make more.
    pub(super) fn make_room(&mut self) -> Result<(), StoreError> {
        let free_bytes = self.free_bytes()?;
        self.spare.give_up_below(free_bytes).map_err(|source| {
            let what = "the room set aside for a full disk cannot be used".to_owned();
            StoreError::Unavailable(what, Some(source.into()))
        })
    }
}
