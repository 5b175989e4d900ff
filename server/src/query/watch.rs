//! Live values: the newest reading of each series, again whenever there is a newer one.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use super::{
    Parts,
    page::fitting,
    readings,
    scope::{Scope, check_metrics},
    series,
};
use crate::{
    error::Error,
    model::{Micros, Reading, SeriesId, SeriesKey},
    store::Store,
};

/// Series that one caller may watch.
const MAX_SERIES: usize = 1000;

/// How often new series are looked for.
const LOOK_FOR_SERIES: Duration = Duration::from_secs(10);

/// Asks for live values.
#[derive(Clone, Debug)]
pub struct WatchQuery {
    /// A device, or a farm.
    pub scope: Scope,
    /// Empty: all.
    pub metric_names: Vec<String>,
    /// Milliseconds between two looks: 100 to 60 000; 0: 1000.
    pub interval_ms: u32,
}

/// Hands out what has changed until nobody takes more. What changes while a caller is slow is handed out later, the
/// newest only.
///
/// # Errors
///
/// [`Error::NotFound`] for an unknown device or farm, [`Error::BadRequest`] for what is out of bounds,
/// [`Error::Stalled`] for a change that is not taken in time.
pub async fn watch(
    store: &dyn Store,
    query: WatchQuery,
    parts: &mut Parts<Vec<(SeriesKey, Reading)>>,
) -> Result<(), Error> {
    let interval = match query.interval_ms {
        0 => Duration::from_secs(1),
        ms @ 100..=60_000 => Duration::from_millis(ms.into()),
        ms => {
            let message = format!("{ms} ms: 100 to 60000 are expected");
            return Err(Error::BadRequest { field: "interval_ms", message });
        }
    };
    check_metrics("metric_names", &query.metric_names)?;
    let mut series = find(store, &query).await?;
    let mut looked = Instant::now();
    let mut known: HashMap<SeriesId, Reading> = HashMap::new();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut first = true;
    loop {
        ticks.tick().await;
        if looked.elapsed() >= LOOK_FOR_SERIES {
            series = find(store, &query).await?;
            looked = Instant::now();
        }
        let ids: Vec<SeriesId> = series.keys().copied().collect();
        let mut changed = Vec::new();
        for reading in store.latest(&ids).await? {
            if known.get(&reading.series) != Some(&reading)
                && let Some(key) = series.get(&reading.series)
            {
                known.insert(reading.series, reading.clone());
                changed.push((key.clone(), reading));
            }
        }
        changed.sort_by(|(a, _), (b, _)| a.cmp(b));
        // The first tells a caller that it is watching, even if there is nothing yet.
        while first || !changed.is_empty() {
            let rest = changed.split_off(fitting(&changed, bytes_of));
            if !parts.give(std::mem::replace(&mut changed, rest)).await? {
                return Ok(());
            }
            first = false;
        }
    }
}

/// Encoded bytes of a series with a reading, at most.
fn bytes_of((key, reading): &(SeriesKey, Reading)) -> usize {
    series::bytes_of(key) + readings::bytes_of(reading)
}

async fn find(store: &dyn Store, query: &WatchQuery) -> Result<HashMap<SeriesId, SeriesKey>, Error> {
    let metrics = ("metric_names", &query.metric_names[..]);
    let subject = query.scope.find(store, metrics, (Micros::MIN, Micros::MAX)).await?;
    if subject.series.len() > MAX_SERIES {
        let message = format!(
            "{} series are meant, and at most {MAX_SERIES} can be watched: name metrics or a device",
            subject.series.len()
        );
        return Err(Error::BadRequest { field: "metric_names", message });
    }
    Ok(subject.series.into_iter().collect())
}
