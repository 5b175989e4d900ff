use std::collections::BTreeSet;

use super::{
    Page, check_name, device_series, farm,
    known::check_farm,
    page::{Token, fitting, forged},
    page_size,
};
use crate::{
    error::Error,
    model::{Micros, SECOND_US},
    store::{Device, Look},
};

/// Farms whose devices of one name are told at once, at most.
const MAX_FARMS: usize = 100;

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
/// [`Error::NotFound`] for an unknown farm, [`Error::BadRequest`] for what is out of bounds.
pub async fn list_devices(look: &dyn Look, query: DevicesQuery) -> Result<Page<Device>, Error> {
    let farm_id = farm(query.farm_id)?;
    let limit = page_size(query.page_size, 1000, 10_000)?;
    let token = |device_uid: &str| Token::of(("devices", query.farm_id, device_uid));
    let after = after(token, &query.page_token)?;
    let mut items = look.devices(farm_id, after, limit + 1).await?;
    if let (true, true, Some(farm_id)) = (items.is_empty(), query.page_token.is_empty(), farm_id) {
        check_farm(look, farm_id).await?;
    }
    let fits = fitting(&items, bytes_of).min(limit);
    if items.len() <= fits {
        return Ok(Page::last(items));
    }
    items.truncate(fits);
    // Identifiers hold what they like, so they come last.
    let next_token = items.last().map_or(String::new(), |Device { farm_id, device_uid, .. }| {
        format!("{}:{device_uid}", token(device_uid).write([(*farm_id).into()]))
    });
    Ok(Page { items, next_token })
}

/// The last device of the page before.
fn after(token: impl Fn(&str) -> Token, text: &str) -> Result<Option<(i32, String)>, Error> {
    if text.is_empty() {
        return Ok(None);
    }
    let (position, device_uid) = text.split_once(':').ok_or_else(forged)?;
    check_name("page_token", device_uid).map_err(|_| forged())?;
    let [farm_id] = token(device_uid).read(position)?.ok_or_else(forged)?;
    Ok(Some((farm_id as i32, device_uid.to_owned())))
}

/// Encoded bytes of a device, at most.
fn bytes_of(device: &Device) -> usize {
    64 + device.device_uid.len() + device.device_type.len()
}

/// A device on each farm that knows one of this name, by farm.
///
/// # Errors
///
/// [`Error::NotFound`] for an unknown device, [`Error::BadRequest`] for what is out of bounds.
pub async fn device_status(look: &dyn Look, farm_id: i32, device_uid: &str) -> Result<Vec<Device>, Error> {
    check_name("device_uid", device_uid)?;
    let series = device_series(look, farm(farm_id)?, device_uid, ("metric_names", &[])).await?;
    let farms: BTreeSet<i32> = series.into_iter().map(|(_, key)| key.farm_id).collect();
    if farms.len() > MAX_FARMS {
        let message = format!("more than {MAX_FARMS} farms have such a device: name the farm");
        return Err(Error::BadRequest { field: "farm_id", message });
    }
    let mut devices = Vec::with_capacity(farms.len());
    for farm_id in farms {
        devices.extend(look.device(farm_id, device_uid).await?);
    }
    Ok(devices)
}
