//! New series: their rows, and those of their devices.

use std::collections::HashMap;

use super::{
    engine::{self, Engine, undecodable},
    keys, rows,
};
use crate::{
    model::{SeriesId, SeriesKey},
    store::StoreError,
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
        engine.catalogue.add(*id, device, None);
        engine.catalogue.cache(key.clone(), *id);
    }
    Ok(())
}

fn too_many() -> StoreError {
    StoreError::Damaged("a series number is beyond 32 bits".into())
}
