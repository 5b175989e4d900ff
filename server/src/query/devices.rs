use std::collections::BTreeSet;

use super::{Page, check_name, device_series, farm, page::forged, page_size};
use crate::{
    error::Error,
    model::{Micros, SECOND_US},
    store::{Device, Store},
};

/// Asks for devices.
#[derive(Clone, Debug)]
pub struct DevicesQuery {
    /// Only this farm; 0: all.
    pub farm_id: i32,
    /// At most 10 000; 0: 1000.
    pub page_size: u32,
    /// Empty: the first page.
    pub page_token: String,
}

/// Whether a device is heard: seed, section 7.1 (`device_current_status`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceStatus {
    /// Within five minutes.
    Online,
    /// Within an hour.
    Degraded,
    /// Not for an hour.
    Offline,
}

impl DeviceStatus {
    /// The status at `now_us` of a device last heard at `last_seen_us`.
    pub fn at(last_seen_us: Option<Micros>, now_us: Micros) -> Self {
        match last_seen_us {
            Some(seen) if seen > now_us - 5 * 60 * SECOND_US => Self::Online,
            Some(seen) if seen > now_us - 3600 * SECOND_US => Self::Degraded,
            _ => Self::Offline,
        }
    }
}

/// Devices by farm and identifier.
///
/// # Errors
///
/// [`Error::BadRequest`] for what is out of bounds.
pub async fn list_devices(store: &dyn Store, query: DevicesQuery) -> Result<Page<Device>, Error> {
    let farm_id = farm(query.farm_id)?;
    let limit = page_size(query.page_size, 1000, 10_000)?;
    // The last device of the page before: identifiers hold what they like, so the farm comes first.
    let after = match query.page_token.split_once(':') {
        Some((farm, device_uid)) => match farm.parse() {
            Ok(farm) if farm_id.is_none_or(|only| only == farm) => Some((farm, device_uid.to_owned())),
            _ => return Err(forged()),
        },
        None if query.page_token.is_empty() => None,
        None => return Err(forged()),
    };
    let mut items = store.devices(farm_id, after, limit + 1).await?;
    if items.len() <= limit {
        return Ok(Page::last(items));
    }
    items.truncate(limit);
    let next_token =
        items.last().map_or(String::new(), |last| format!("{}:{}", last.farm_id, last.device_uid));
    Ok(Page { items, next_token })
}

/// A device on each farm that knows one of this name, by farm.
///
/// # Errors
///
/// [`Error::NotFound`] for an unknown device, [`Error::BadRequest`] for what is out of bounds.
pub async fn device_status(store: &dyn Store, farm_id: i32, device_uid: &str) -> Result<Vec<Device>, Error> {
    check_name("device_uid", device_uid)?;
    let series = device_series(store, farm(farm_id)?, device_uid, ("metric_names", &[])).await?;
    let farms: BTreeSet<i32> = series.into_iter().map(|(_, key)| key.farm_id).collect();
    let mut devices = Vec::with_capacity(farms.len());
    for farm_id in farms {
        devices.extend(store.device(farm_id, device_uid).await?);
    }
    Ok(devices)
}
