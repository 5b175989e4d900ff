//! Series and their numbers, and which device each belongs to.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use sqlx::{PgPool, Row as _, postgres::PgRow};

use super::{
    error::unavailable,
    ledger::signed,
    reading::{Reader, Statement},
    tags, time,
};
use crate::{
    model::{Micros, SeriesId, SeriesKey},
    store::{SeriesFilter, StoreError, Tag, cache::Generations},
};

/// Tuples and numbers kept in memory, at most of each.
const CACHED: usize = 200_000;

/// Series at a time when new ones are made.
const AT_ONCE: usize = 5_000;

/// A device, as its status is kept under.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct DeviceKey {
    pub(super) farm_id: i32,
    pub(super) device_uid: String,
    pub(super) device_type: String,
}

/// What is known of series that are committed.
pub(super) struct Catalogue {
    numbers: Mutex<Generations<SeriesKey, SeriesId>>,
    devices: Mutex<Generations<SeriesId, Arc<DeviceKey>>>,
}

impl Catalogue {
    pub(super) fn new() -> Self {
        Self { numbers: Mutex::new(Generations::new(CACHED)), devices: Mutex::new(Generations::new(CACHED)) }
    }

    /// Finds the numbers of series, creating those that are new in a transaction of their own: inside a
    /// commit, two lanes would wait for each other, and a rollback would leave numbers that do not exist.
    pub(super) async fn resolve(
        &self,
        pool: &PgPool,
        keys: &[SeriesKey],
    ) -> Result<Vec<SeriesId>, sqlx::Error> {
        let mut ids: Vec<Option<SeriesId>> = {
            let mut numbers = self.numbers.lock();
            keys.iter().map(|key| numbers.get(key)).collect()
        };
        let missing: Vec<usize> = (0..keys.len()).filter(|&place| ids[place].is_none()).collect();
        for places in missing.chunks(AT_ONCE) {
            let wanted: Vec<&SeriesKey> = places.iter().map(|&place| &keys[place]).collect();
            let mut found = look_up(pool, &wanted).await?;
            if found.len() < wanted.len() {
                columns(sqlx::query(sql!("create_series")), &wanted).execute(pool).await?;
                found = look_up(pool, &wanted).await?;
            }
            let mut numbers = self.numbers.lock();
            for (place, id) in found {
                ids[places[place]] = Some(id);
                numbers.insert(wanted[place].clone(), id);
            }
        }
        ids.into_iter().map(|id| id.ok_or(sqlx::Error::RowNotFound)).collect()
    }

    /// The devices of series; those that do not exist are left out.
    pub(super) async fn devices(
        &self,
        pool: &PgPool,
        series: impl Iterator<Item = SeriesId>,
    ) -> Result<HashMap<SeriesId, Arc<DeviceKey>>, sqlx::Error> {
        let mut found = HashMap::new();
        let mut missing = Vec::new();
        {
            let mut devices = self.devices.lock();
            for id in series {
                match devices.get(&id) {
                    Some(device) => drop(found.insert(id, device)),
                    None => missing.push(id.0 as i32),
                }
            }
        }
        if !missing.is_empty() {
            let rows = sqlx::query(sql!("devices_of_series")).bind(missing).fetch_all(pool).await?;
            let mut devices = self.devices.lock();
            for row in rows {
                let device = Arc::new(DeviceKey {
                    farm_id: row.try_get("farm_id")?,
                    device_uid: row.try_get("device_uid")?,
                    device_type: row.try_get("device_type")?,
                });
                let id = SeriesId(row.try_get::<i32, _>("series_id")? as u32);
                devices.insert(id, Arc::clone(&device));
                found.insert(id, device);
            }
        }
        Ok(found)
    }
}

/// Places in `keys` with the numbers of those that exist.
async fn look_up(pool: &PgPool, keys: &[&SeriesKey]) -> Result<Vec<(usize, SeriesId)>, sqlx::Error> {
    let rows = columns(sqlx::query(sql!("resolve_series")), keys).fetch_all(pool).await?;
    rows.iter()
        .map(|row| {
            let place: i64 = row.try_get("place")?;
            Ok((place as usize - 1, SeriesId(row.try_get::<i32, _>("series_id")? as u32)))
        })
        .collect()
}

type Query = sqlx::query::Query<'static, sqlx::Postgres, sqlx::postgres::PgArguments>;

fn columns(query: Query, keys: &[&SeriesKey]) -> Query {
    let text = |get: fn(&SeriesKey) -> &String| keys.iter().map(|key| get(key).clone()).collect::<Vec<_>>();
    query
        .bind(keys.iter().map(|key| key.farm_id).collect::<Vec<_>>())
        .bind(text(|key| &key.device_uid))
        .bind(text(|key| &key.device_type))
        .bind(text(|key| &key.metric_name))
        .bind(text(|key| &key.metric_unit))
}

/// The series that match, by number.
pub(super) async fn find(
    reader: &mut Reader,
    filter: &SeriesFilter,
) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
    let rows = reader.all(sql!("find_series"), |query| matching(query, filter)).await?;
    rows.iter().map(series).collect::<Result<_, _>>().map_err(unavailable)
}

/// Binds what series are chosen by.
pub(super) fn matching(query: Statement, filter: &SeriesFilter) -> Statement {
    query
        .bind(filter.farm_id)
        .bind(filter.device_uid.clone())
        .bind(filter.metric_names.clone())
        .bind(filter.after.map(|id| id.0 as i32))
        .bind(filter.limit.map(|limit| signed(limit as u64)))
}

/// The series with a reading that carries `tag` on one of these days, by number.
pub(super) async fn tagged(
    reader: &mut Reader,
    tag: Tag,
    start_us: Micros,
    end_us: Micros,
) -> Result<Vec<(SeriesId, SeriesKey)>, StoreError> {
    let (kind, id) = tags::number(tag);
    let bind = |query: Statement| query.bind(kind).bind(id).bind(time::at(start_us)).bind(time::at(end_us));
    let rows = reader.all(sql!("tagged_series"), bind).await?;
    rows.iter().map(series).collect::<Result<_, _>>().map_err(unavailable)
}

pub(super) fn series(row: &PgRow) -> Result<(SeriesId, SeriesKey), sqlx::Error> {
    let key = SeriesKey {
        farm_id: row.try_get("farm_id")?,
        device_uid: row.try_get("device_uid")?,
        device_type: row.try_get("device_type")?,
        metric_name: row.try_get("metric_name")?,
        metric_unit: row.try_get("metric_unit")?,
    };
    Ok((SeriesId(row.try_get::<i32, _>("series_id")? as u32), key))
}
