use super::{check_name, device_series, farm, scope::check_metrics};
use crate::{
    error::Error,
    model::{Reading, SeriesKey},
    store::{SeriesFilter, Store},
};

/// Series one answer may hold: with the longest metadata they stay below 3 MiB.
const MAX_SERIES: usize = 256;

/// Asks for the newest reading of each series of a device.
#[derive(Clone, Debug)]
pub struct LatestQuery {
    /// The device.
    pub device_uid: String,
    /// Its farm; 0: any.
    pub farm_id: i32,
    /// Only these metrics; empty: all.
    pub metric_names: Vec<String>,
}

/// The newest reading of each series that has one, by series number.
///
/// # Errors
///
/// [`Error::NotFound`] for an unknown device, [`Error::BadRequest`] for a metric it does not have.
pub async fn latest(store: &dyn Store, query: LatestQuery) -> Result<Vec<(SeriesKey, Reading)>, Error> {
    let LatestQuery { device_uid, farm_id, metric_names } = query;
    check_name("device_uid", &device_uid)?;
    let farm_id = farm(farm_id)?;
    check_metrics("metric_names", &metric_names)?;
    let filter = SeriesFilter {
        farm_id,
        device_uid: Some(device_uid.clone()),
        metric_names: metric_names.clone(),
        limit: Some(MAX_SERIES + 1),
        ..SeriesFilter::default()
    };
    let found = store.find_latest(filter).await?;
    let has = |name: &String| found.iter().any(|(_, key, _)| key.metric_name == *name);
    if found.is_empty() || found.len() > MAX_SERIES || !metric_names.iter().all(has) {
        let series =
            device_series(&*store.look(), farm_id, &device_uid, ("metric_names", &metric_names)).await?;
        if series.len() > MAX_SERIES {
            let message =
                format!("the device has {} series, more than {MAX_SERIES}: name some metrics", series.len());
            return Err(Error::BadRequest { field: "metric_names", message });
        }
    }
    Ok(found.into_iter().filter_map(|(_, key, newest)| Some((key, newest?))).collect())
}
