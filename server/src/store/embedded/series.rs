//! Series: new ones with their rows and those of their devices, and those that are asked for.

use std::collections::HashMap;

use super::{
    codec::Input,
    engine::{self, Engine, decode_series, undecodable},
    keys, rows,
    view::View,
};
use crate::{
    model::{SeriesId, SeriesKey},
    store::{SeriesFilter, StoreError},
};

/// Series with the numbers they were given.
pub(super) type Created = Vec<(SeriesId, SeriesKey)>;

/// The numbers of `keys`, and which of them are new: written, but not synced.
pub(super) fn resolve(engine: &Engine, keys: Vec<SeriesKey>) -> Result<(Vec<SeriesId>, Created), StoreError> {
    let view = engine.view();
    let mut created = HashMap::new();
    let mut ids = Vec::with_capacity(keys.len());
    let mut next = engine.catalogue.next();
    for key in keys {
        let known = match engine.catalogue.number(&key).or_else(|| created.get(&key).copied()) {
            Some(id) => Some(id),
            None => match view.get(keys::series(&key))? {
                Some(value) => Some(SeriesId(
                    rows::decode_number(&value).map_err(undecodable)?.try_into().map_err(|_| too_many())?,
                )),
                None => None,
            },
        };
        ids.push(match known {
            Some(id) => {
                engine.catalogue.cache(key, id);
                id
            }
            None => {
                // Others hear of the number once it is written: if that fails, the next key may get it.
                let id = SeriesId(next);
                next = next.checked_add(1).ok_or_else(too_many)?;
                created.insert(key, id);
                id
            }
        });
    }
    let mut created: Vec<_> = created.into_iter().map(|(key, id)| (id, key)).collect();
    created.sort_unstable_by_key(|&(id, _)| id);
    insert(engine, &created)?;
    Ok((ids, created))
}

/// Writes those of the `handed_out` again that a crash of the engine lost, under their numbers.
pub(super) fn restore(engine: &Engine, handed_out: &[(SeriesId, SeriesKey)]) -> Result<(), StoreError> {
    let view = engine.view();
    let mut lost = Vec::new();
    for (id, key) in handed_out {
        if view.get(keys::series_by_id(*id))?.is_none() {
            lost.push((*id, key.clone()));
        }
    }
    insert(engine, &lost)
}

fn insert(engine: &Engine, created: &[(SeriesId, SeriesKey)]) -> Result<(), StoreError> {
    if created.is_empty() {
        return Ok(());
    }
    let view = engine.view();
    let mut batch = engine.batch(created.len() * 3);
    let mut new_devices = HashMap::new();
    let mut next_device = engine.catalogue.next_device();
    let mut devices = Vec::with_capacity(created.len());
    for (id, key) in created {
        let row = keys::device(key.farm_id, &key.device_uid);
        let device = match new_devices.get(&row) {
            Some(&device) => device,
            None => match view.get(&row)? {
                Some(value) => rows::decode_device(&value).map_err(undecodable)?.0,
                None => {
                    let device = next_device;
                    next_device += 1;
                    batch.insert(engine.rows(), row.clone(), rows::encode_device(device, &key.device_type));
                    batch.insert(engine.rows(), keys::home(&key.device_uid, key.farm_id), []);
                    new_devices.insert(row, device);
                    device
                }
            },
        };
        devices.push(device);
        let tuple = keys::series(key);
        batch.insert(engine.rows(), keys::series_by_id(*id), engine::encode_series(device, &tuple));
        batch.insert(engine.rows(), tuple, rows::encode_number(id.0.into()));
    }
    engine::write(batch, false)?;
    for ((id, key), device) in created.iter().zip(devices) {
        engine.catalogue.add_new(*id, key, device);
    }
    Ok(())
}

impl View<'_> {
    pub(super) fn find_series(
        &self,
        filter: &SeriesFilter,
    ) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        let limit = filter.limit.unwrap_or(usize::MAX);
        let after = filter.after.map_or(0, |after| after.0);
        let mut found = Vec::new();
        let (Some(first), true) = (after.checked_add(1), limit > 0) else { return Ok(found) };
        let prefixes = match (filter.farm_id, &filter.device_uid) {
            (Some(farm_id), Some(device_uid)) => vec![keys::series_of_device(farm_id, device_uid)],
            (Some(farm_id), None) => vec![keys::series_of_farm(Some(farm_id))],
            (None, Some(device_uid)) => self.series_of_namesakes(device_uid)?,
            (None, None) => {
                // In the order in which they are answered.
                let last = keys::series_by_id(SeriesId(u32::MAX));
                self.scan_range(&keys::series_by_id(SeriesId(first)), &last, |id, row| {
                    let (_, key) = decode_series(row)?;
                    if filter.fits(&key) {
                        found.push((SeriesId(keys::parse_numbered(id)?), key));
                    }
                    Ok(found.len() < limit)
                })?;
                return Ok(found);
            }
        };
        for prefix in prefixes {
            self.scan(&prefix, |key, value| {
                let (key, id) = (keys::parse_series(key)?, SeriesId(Input(value).number()?));
                if id.0 > after && filter.fits(&key) {
                    found.push((id, key));
                }
                Ok(true)
            })?;
        }
        found.sort_unstable_by_key(|&(id, _)| id);
        found.truncate(limit);
        Ok(found)
    }

    /// As [`Self::find_series`]; those of one device are kept for the next time.
    pub(super) fn series_of_device(
        &self,
        filter: &SeriesFilter,
    ) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
        let catalogue = &self.engine.catalogue;
        if filter.device_uid.is_none() {
            return self.find_series(filter);
        }
        if let Some(series) = catalogue.of_device(filter) {
            return Ok(series);
        }
        let last = catalogue.next() - 1;
        let (farm_id, device_uid) = (filter.farm_id, filter.device_uid.clone());
        let all = self.find_series(&SeriesFilter { farm_id, device_uid, ..SeriesFilter::default() })?;
        // What is seen holds every series up to now.
        if last > 0 && self.get(keys::series_by_id(SeriesId(last)))?.is_some() {
            catalogue.cache_device(filter, &all, last);
        }
        Ok(filter.pick(&all))
    }

    /// Prefixes of the series of every farm's device of this name.
    fn series_of_namesakes(&self, device_uid: &str) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut prefixes = Vec::new();
        self.scan(&keys::homes(device_uid), |key, _| {
            prefixes.push(keys::series_of_device(keys::parse_home(key)?, device_uid));
            Ok(true)
        })?;
        Ok(prefixes)
    }
}

fn too_many() -> StoreError {
    StoreError::Damaged("a series number is beyond 32 bits".into())
}
