//! What is written beside commits: watermarks, rollups, and days that go.

use super::{
    super::{
        engine,
        keys::{self, Kind},
        late::{Watermarks, encode_floors},
        refresh::Changes,
        retain::OldDay,
    },
    Failure, Writer, wait_for_flush,
};
use crate::model::Micros;

impl Writer {
    /// Every commit from now on marks what it writes before `time_us`.
    pub(super) fn close_before(&mut self, time_us: Micros) -> Result<(), Failure> {
        let engine = self.engine()?;
        let watermarks = self.committed.late.watermarks;
        if watermarks.closed_before_us.is_none_or(|closed| closed < time_us) {
            let watermarks = Watermarks { closed_before_us: Some(time_us), ..watermarks };
            let mut batch = engine.batch(1);
            batch.insert(engine.rows(), keys::WATERMARKS, watermarks.encode());
            engine::write(batch, true)?;
            self.committed.late.watermarks = watermarks;
        }
        Ok(())
    }

    pub(super) fn change(&mut self, changes: Changes) -> Result<(), Failure> {
        let engine = self.engine()?;
        wait_for_flush(&engine)?;
        let mut batch = engine.batch(changes.rollups.len() + changes.mended.len());
        for (key, row) in changes.rollups {
            batch.insert(engine.rollups(), key, row);
        }
        for key in changes.gone_rollups {
            batch.remove(engine.rollups(), key);
        }
        for key in changes.gone_rows {
            batch.remove(engine.rows(), key);
        }
        let view = engine.view();
        for (key, seen) in changes.mended {
            if view.number(key)? == seen {
                batch.remove(engine.rows(), key);
            }
        }
        drop(view);
        let mut watermarks = self.committed.late.watermarks;
        if let Some(stored_us) = changes.stored_before_us {
            watermarks.stored_before_us = watermarks.stored_before_us.max(Some(stored_us));
            batch.insert(engine.rows(), keys::WATERMARKS, watermarks.encode());
        }
        if let Some(floors) = changes.floors {
            batch.insert(engine.rows(), keys::ROLLUP_FLOORS, encode_floors(floors));
        }
        if !batch.is_empty() {
            // Synced: a mark must not vanish from the disk before what it stood for is there.
            engine::write(batch, true)?;
            self.committed.late.watermarks = watermarks;
            engine.rotate()?;
        }
        Ok(())
    }

    pub(super) fn drop_day(&mut self, old: &OldDay) -> Result<bool, Failure> {
        let engine = self.engine()?;
        wait_for_flush(&engine)?;
        if engine.view().written(old.kind, old.day)? != old.written_us {
            return Ok(false);
        }
        let mut batch = engine.batch(old.kept.len() + old.gone.len() + 2);
        batch.insert(engine.rows(), keys::dropped(old.kind, old.day), []);
        batch.remove(engine.rows(), keys::written(old.kind, old.day));
        for (key, row) in &old.kept {
            batch.insert(engine.rows(), &key[..], &row[..]);
        }
        for key in &old.gone {
            batch.remove(engine.rows(), &key[..]);
        }
        if old.kind == Kind::Reading {
            // The next start finishes what a crash interrupts.
            batch.insert(engine.rows(), keys::tombstone(old.day), []);
        }
        engine::write(batch, true)?;
        self.committed.late.add_dropped(old.kind, old.day);
        if old.kind == Kind::Reading {
            self.committed.forget_minutes();
            engine.finish_drop(old.day)?;
        }
        Ok(true)
    }
}
