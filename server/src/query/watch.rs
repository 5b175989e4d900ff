//! Live values: the newest reading of each series, again whenever there is a newer one.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash as _, Hasher as _},
    time::{Duration, Instant},
};

use super::{
    Parts,
    scope::{Scope, check_metrics},
};
use crate::{
    error::Error,
    model::{Micros, Reading, SeriesId, SeriesKey},
    store::{Look as _, Store},
};

/// Series that one caller may watch.
const MAX_SERIES: usize = 1000;

/// Series that are looked at together: what a caller that takes nothing keeps waiting is below 600 KB.
const AT_ONCE: usize = 64;

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
    let mut known: HashMap<SeriesId, u64> = HashMap::new();
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut first = true;
    loop {
        ticks.tick().await;
        if looked.elapsed() >= LOOK_FOR_SERIES {
            series = find(store, &query).await?;
            looked = Instant::now();
        }
        for some in series.chunks(AT_ONCE) {
            let ids: Vec<SeriesId> = some.iter().map(|(id, _)| *id).collect();
            let mut changed = Vec::new();
            for reading in parts.look(store.latest(&ids)).await? {
                let told = fingerprint(&reading);
                if known.insert(reading.series, told) != Some(told)
                    && let Some((_, key)) = some.iter().find(|(id, _)| *id == reading.series)
                {
                    changed.push((key.clone(), reading));
                }
            }
            if !changed.is_empty() {
                first = false;
                if !parts.give(changed).await? {
                    return Ok(());
                }
            }
        }
        // The first tells a caller that it is watching, even if there is nothing yet.
        if std::mem::take(&mut first) && !parts.give(Vec::new()).await? {
            return Ok(());
        }
    }
}

/// Tells a reading from the one before: thousands of callers may watch, and readings may be long.
fn fingerprint(reading: &Reading) -> u64 {
    let mut hasher = DefaultHasher::new();
    let Reading { time_us, value, quality, is_interpolated, animal_id, zone_id, .. } = reading;
    (time_us, value.to_bits(), *quality as u8, is_interpolated, animal_id, zone_id).hash(&mut hasher);
    (reading.battery_level, reading.signal_strength, &reading.session_id, &reading.metadata)
        .hash(&mut hasher);
    hasher.finish()
}

/// The series that are meant, in the order in which they are told.
async fn find(store: &dyn Store, query: &WatchQuery) -> Result<Vec<(SeriesId, SeriesKey)>, Error> {
    let metrics = ("metric_names", &query.metric_names[..]);
    let subject = query.scope.find(&*store.look(), metrics, (Micros::MIN, Micros::MAX)).await?;
    if subject.series.len() > MAX_SERIES {
        let message = format!(
            "{} series are meant, and at most {MAX_SERIES} can be watched: name metrics or a device",
            subject.series.len()
        );
        return Err(Error::BadRequest { field: "metric_names", message });
    }
    let mut series = subject.series;
    series.sort_unstable_by(|(_, a), (_, b)| a.cmp(b));
    Ok(series)
}
