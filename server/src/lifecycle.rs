//! Looks after what is stored: keeps rollups fresh, drops what is too old.
//!
//! The work is the store's ([`Store::refresh`], [`Store::retain`]); here it is decided when, and up to which age.
//! Every server of a database runs this; the store lets one of them work.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    config::{Config, RetentionConfig, RollupConfig},
    model::{DAY_US, Micros, now_us},
    ops::metrics,
    store::{Chunk, Dropped, Level, Look as _, Refresh, Refreshed, Retention, Store, StoreError},
};

/// Between two looks whether another server is done. Retention runs at least this far apart.
const AGAIN: Duration = Duration::from_mins(1);

/// Where so many readings or more come into open buckets within this time, these are summed up as they are written. Of
/// fewer, a question reads those of a quarter of an hour in less time than it would save.
const BUSY: (u64, Duration) = (5_000, Duration::from_secs(10));

/// Looks after one store. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Keeper(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Arc<dyn Store>,
    rollups: RollupConfig,
    retention: RetentionConfig,
    clock: Clock,
    /// Held by the one of this server that refreshes or drops: whoever asks meanwhile waits, and is not told that another
    /// server is at it.
    turn: tokio::sync::Mutex<()>,
    /// End of the last refresh.
    refreshed_us: Mutex<Option<Micros>>,
}

impl Keeper {
    /// Looks after `store` as `config` says.
    pub fn new(store: Arc<dyn Store>, config: &Config) -> Self {
        Self(Arc::new(Inner {
            store,
            rollups: config.rollups.clone(),
            retention: config.retention.clone(),
            clock: Clock::start(),
            turn: tokio::sync::Mutex::default(),
            refreshed_us: Mutex::new(None),
        }))
    }

    /// The store.
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.0.store
    }

    /// End of this server's last refresh.
    pub fn refreshed_us(&self) -> Option<Micros> {
        *self.0.refreshed_us.lock()
    }

    /// Closes what is due, and mends what is dirty: everywhere, or within a span of time.
    ///
    /// # Errors
    ///
    /// As [`Store::refresh`].
    pub async fn refresh(&self, span_us: Option<(Micros, Micros)>) -> Result<Refreshed, StoreError> {
        let _turn = self.0.turn.lock().await;
        self.refresh_now(span_us).await
    }

    async fn refresh_now(&self, span_us: Option<(Micros, Micros)>) -> Result<Refreshed, StoreError> {
        let began = std::time::Instant::now();
        let close_before_us = self.present_us().saturating_sub(micros(self.0.rollups.close_after));
        let refresh = Refresh { close_before_us: Level::QuarterHour.floor(close_before_us), span_us };
        let refreshed = self.0.store.refresh(refresh).await.inspect_err(|_| metrics::refresh_failed())?;
        if !refreshed.elsewhere {
            *self.0.refreshed_us.lock() = Some(now_us());
            metrics::refreshed(began.elapsed(), refreshed.buckets, refreshed.dirty_hours);
        }
        Ok(refreshed)
    }

    /// Computes what is kept within a span again, as far as its readings are kept, whether anything came late or not.
    ///
    /// # Errors
    ///
    /// As [`Store::doubt`] and [`Store::refresh`].
    pub async fn rebuild(&self, span_us: (Micros, Micros)) -> Result<Refreshed, StoreError> {
        let _turn = self.0.turn.lock().await;
        let buckets = self.0.store.doubt(span_us).await?;
        let refreshed = self.refresh_now(Some(span_us)).await?;
        Ok(Refreshed { buckets: refreshed.buckets + buckets, ..refreshed })
    }

    /// Drops what is older than the configuration keeps, or with `dry_run` only tells what that is.
    ///
    /// # Errors
    ///
    /// As [`Store::retain`].
    pub async fn retain(&self, dry_run: bool) -> Result<Vec<Dropped>, StoreError> {
        let config = &self.0.retention;
        let _turn = if dry_run { None } else { Some(self.0.turn.lock().await) };
        let present_us = self.present_us();
        let counted_us = newest(&self.0.store.chunks().await?).map(|newest_us| newest_us.min(present_us));
        let before = |age: Option<Duration>| Some(counted_us?.saturating_sub(micros(age?)));
        let retention = Retention {
            readings_us: before(config.readings),
            milkings_us: before(config.milkings),
            rollups_us: [config.rollup_15min, config.rollup_hourly, config.rollup_daily].map(before),
            quarantine_us: config.quarantine.map(|age| present_us.saturating_sub(micros(age))),
            quiet_since_us: present_us.saturating_sub(micros(config.quiet)),
            dry_run,
        };
        let dropped = self.0.store.retain(retention).await?;
        if !dry_run {
            for part in &dropped {
                tell(part);
            }
        }
        Ok(dropped)
    }

    /// Runs until `stop`. A run under way is left where it is: the store is built to be killed.
    pub async fn run(self, stop: CancellationToken) {
        if let Some(warning) = contradiction(&self.0.rollups, &self.0.retention) {
            tracing::warn!("{warning}");
        }
        let work = async {
            tokio::join!(self.keep_rollups(), self.keep_sums(), self.keep_retention());
        };
        stop.run_until_cancelled(work).await;
    }

    async fn keep_rollups(&self) {
        if !self.0.rollups.enabled {
            return;
        }
        let mut ticks = interval(self.0.rollups.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let refreshed = self.refresh(None).await.map(drop);
            // How far they lag matters most where they are not refreshed.
            let observed = self.observe().await;
            failing = report("aggregates were not refreshed", &refreshed.and(observed), failing);
        }
    }

    async fn keep_sums(&self) {
        if !self.0.rollups.enabled {
            return;
        }
        let (least, time) = BUSY;
        let mut ticks = interval(time);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let done = self.0.store.sum_from(Level::QuarterHour.floor(self.present_us()), least).await;
            failing = report("open buckets are not summed up", &done, failing);
        }
    }

    async fn keep_retention(&self) {
        let mut ticks = interval(self.0.retention.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut failing = false;
        loop {
            ticks.tick().await;
            let done = until_here(AGAIN, || self.retain(false)).await;
            failing = report("retention did not run", &done.map(drop), failing);
        }
    }

    async fn observe(&self) -> Result<(), StoreError> {
        let state = self.0.store.lifecycle().await?;
        let due_us = self.present_us().saturating_sub(micros(self.0.rollups.close_after));
        let lag_us = state
            .stored_before_us
            .map_or(0, |stored| Level::QuarterHour.floor(due_us).saturating_sub(stored));
        let dirty_hours = self.0.store.dirty_hours().await?;
        metrics::rollups(Duration::from_micros(u64::try_from(lag_us).unwrap_or(0)), dirty_hours);
        Ok(())
    }

    /// The present, or what it was before the clock jumped ahead: nothing is dropped or closed for a jump.
    fn present_us(&self) -> Micros {
        self.0.clock.present().earliest_us
    }
}

/// Does what another server may be in the way of, once it can be done here.
async fn until_here<T, F>(pause: Duration, work: impl Fn() -> F) -> Result<T, StoreError>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match work().await {
            Err(error @ StoreError::Elsewhere) => tracing::debug!(%error, "it is tried again soon"),
            done => return done,
        }
        tokio::time::sleep(pause).await;
    }
}

/// What is configured and has no effect.
fn contradiction(rollups: &RollupConfig, retention: &RetentionConfig) -> Option<&'static str> {
    let wants_to_drop = retention.readings.is_some()
        || [retention.rollup_15min, retention.rollup_hourly, retention.rollup_daily]
            .iter()
            .any(Option::is_some);
    (!rollups.enabled && wants_to_drop).then_some(
        "rollups.enabled is false: readings and aggregates are dropped only once their aggregates are kept, so that \
         nothing goes unless another server of this database keeps them; switch rollups on, or retention off",
    )
}

/// From when ages count at the latest: a day after the newest chunk. A clock that is wrong from the start drops
/// nothing either. An empty store has no age: the first thing imported may be a history.
fn newest(chunks: &[Chunk]) -> Option<Micros> {
    chunks.iter().map(|chunk| chunk.end_us.saturating_add(DAY_US)).max()
}

fn micros(duration: Duration) -> Micros {
    Micros::try_from(duration.as_micros()).unwrap_or(Micros::MAX)
}

/// Logs the first of several failures in a row, and the end of them.
fn report(what: &'static str, done: &Result<(), impl std::fmt::Display>, failing: bool) -> bool {
    match done {
        Err(error) if !failing => tracing::warn!(%error, "{what}; it is tried again"),
        Err(error) => tracing::debug!(%error, "{what}"),
        Ok(()) if failing => tracing::info!("works again after: {what}"),
        Ok(()) => {}
    }
    done.is_err()
}

/// Every deletion is logged and counted.
fn tell(part: &Dropped) {
    let Dropped { table, start_us, end_us, rows, bytes, kept_because } = part;
    let time = |us: Micros| chrono::DateTime::from_timestamp_micros(us).map(|time| time.to_rfc3339());
    let (from, to) = (start_us.and_then(time), time(*end_us));
    if kept_because.is_empty() {
        tracing::info!(table, ?from, ?to, rows, bytes, "dropped by retention");
        metrics::dropped(table, *bytes);
    } else {
        tracing::debug!(table, ?from, ?to, kept_because, "old, and kept for now");
    }
}

#[cfg(test)]
mod tests;
