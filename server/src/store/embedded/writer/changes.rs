//! What is written beside commits: watermarks, rollups, and days that go.

use std::sync::{Arc, Weak};

use super::{
    super::{
        changes::{Changes, OldDay},
        engine::{self, Engine},
        keys::{self, Kind},
        late::{Watermarks, Written, encode_floors},
    },
    Failure, Writer, wait_for_flush,
};
use crate::{
    model::{DAY_US, Micros, now_us},
    store::StoreError,
};

impl Writer {
    /// Every commit from now on marks what it writes before `time_us`.
    ///
    /// Not synced, like everything here that need not be: the journal keeps the order, so that what a crash of the
    /// machine leaves is what was there at some moment.
    pub(super) fn close_before(&mut self, time_us: Micros) -> Result<(), Failure> {
        let engine = self.engine()?;
        wait_for_flush(&engine)?;
        let watermarks = self.committed.late.watermarks;
        if watermarks.closed_before_us.is_none_or(|closed| closed < time_us) {
            let watermarks = Watermarks { closed_before_us: Some(time_us), ..watermarks };
            let mut batch = engine.batch(1);
            batch.insert(engine.rows(), keys::WATERMARKS, watermarks.encode());
            engine::write(batch, false)?;
            self.committed.late.watermarks = watermarks;
        }
        Ok(())
    }

    /// Creates the chunk of a day, from 1970, before the commit that brings its first readings: that takes as long as
    /// many commits, which have their turn between two days.
    pub(super) fn prepare_day(&mut self, day: i64) -> Result<(), Failure> {
        let engine = self.engine()?;
        // What comes for a day that was dropped is refused.
        let dropped = self.committed.late.is_dropped(Kind::Reading, day.saturating_mul(DAY_US));
        if dropped || engine.chunks().contains_key(&day) {
            return Ok(());
        }
        wait_for_flush(&engine)?;
        // As if written into, so that it is not dropped before anything is.
        self.last_commit += 1;
        let written = Written { commit: self.last_commit, at_us: now_us(), ..Written::default() };
        let mut batch = engine.batch(1);
        batch.insert(engine.rows(), keys::written(Kind::Reading, day), written.encode());
        engine::write(batch, false)?;
        engine.chunk_or_create(day)?;
        Ok(())
    }

    pub(super) fn change(&mut self, of: &Weak<Engine>, changes: Changes) -> Result<(), Failure> {
        let engine = self.same_engine(of, changes.frees)?;
        wait_for_flush(&engine)?;
        let mut batch =
            engine.batch(changes.rollups.len() + changes.rows.len() + changes.gone_rows.len() + 2);
        for (key, row) in changes.rollups {
            batch.insert(engine.rollups(), key, row);
        }
        for key in changes.gone_rollups {
            batch.remove(engine.rollups(), key);
        }
        for (key, row) in changes.rows {
            batch.insert(engine.rows(), key, row);
        }
        for key in changes.gone_rows {
            batch.remove(engine.rows(), key);
        }
        let chunks = engine.chunks();
        for (day, key) in changes.tagged {
            if let Some(chunk) = chunks.get(&day) {
                batch.insert(chunk, key, []);
            }
        }
        let mut watermarks = self.committed.late.watermarks;
        if let Some(stored_us) = changes.stored_before_us {
            watermarks.stored_before_us = watermarks.stored_before_us.max(Some(stored_us));
            batch.insert(engine.rows(), keys::WATERMARKS, watermarks.encode());
        }
        if let Some(floors) = changes.floors {
            batch.insert(engine.rows(), keys::ROLLUP_FLOORS, encode_floors(floors));
        }
        if !batch.is_empty() {
            engine::write(batch, false)?;
            self.committed.late.watermarks = watermarks;
            if let Some(stored_us) = watermarks.stored_before_us {
                engine.open.stored_before(stored_us);
            }
            engine.rotate()?;
        }
        Ok(())
    }

    /// Drops a day of readings, or says that a day of milkings is dropped; false: something has come for it.
    pub(super) fn drop_day(&mut self, of: &Weak<Engine>, old: OldDay) -> Result<bool, Failure> {
        let engine = self.same_engine(of, true)?;
        wait_for_flush(&engine)?;
        if engine.view().written(old.kind, old.day)?.commit != old.commit {
            return Ok(false);
        }
        let mut batch = engine.batch(3);
        batch.insert(engine.rows(), keys::dropped(old.kind, old.day), []);
        if old.kind == Kind::Reading {
            batch.remove(engine.rows(), keys::written(old.kind, old.day));
            // The next start finishes what a crash interrupts.
            batch.insert(engine.rows(), keys::tombstone(old.day), []);
        }
        // Synced: files go next.
        engine::write(batch, true)?;
        self.committed.late.add_dropped(old.kind, old.day);
        if old.kind == Kind::Reading {
            self.committed.forget_minutes();
            engine.finish_drop(old.day)?;
        }
        Ok(true)
    }

    /// The engine, if it is the one of which something was seen: another may have lost what was not synced.
    fn same_engine(&mut self, of: &Weak<Engine>, frees: bool) -> Result<Arc<Engine>, Failure> {
        let engine = if frees { self.shared.engine().map_err(Failure::Refused)? } else { self.engine()? };
        if Arc::as_ptr(&engine) != of.as_ptr() {
            let what = "the embedded store was reopened in between".to_owned();
            return Err(Failure::Refused(StoreError::Unavailable(what, None)));
        }
        if frees {
            self.make_room()?;
        }
        Ok(engine)
    }
}
