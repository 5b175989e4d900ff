//! What was last heard of each device, and how much arrived lately.
//!
//! Statuses are kept here and written every few seconds, outside of commits: thousands of gateways would
//! otherwise fight over the rows. An answer is the table's with what is here laid over it.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Duration, Utc};
use parking_lot::Mutex;
use sqlx::{PgPool, Row as _, postgres::PgRow};

use super::{
    error::unavailable,
    ledger::signed,
    reading::{Reader, Statement},
    series::DeviceKey,
    time,
};
use crate::{
    model::{Micros, SECOND_US},
    store::{
        Activity, Device, StoreError,
        heard::{Heard, Status},
    },
};

/// A device is active for this long after a reading.
const ACTIVE_US: Micros = 5 * 60 * SECOND_US;

/// Devices whose status is not in the table yet.
#[derive(Default)]
pub(super) struct Devices {
    unsaved: Mutex<HashMap<Arc<DeviceKey>, Status>>,
}

impl Devices {
    /// Takes over what a commit told.
    pub(super) fn heard(&self, heard: Heard<Arc<DeviceKey>>) {
        let mut unsaved = self.unsaved.lock();
        for (device, status) in heard.into_devices() {
            unsaved.entry(device).and_modify(|known| known.merge(&status)).or_insert(status);
        }
    }

    /// Writes what is not in the table yet.
    pub(super) async fn save(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        let saving: Vec<(Arc<DeviceKey>, Status)> =
            self.unsaved.lock().iter().map(|(device, status)| (Arc::clone(device), *status)).collect();
        for part in saving.chunks(5_000) {
            save(pool, part).await?;
            let mut unsaved = self.unsaved.lock();
            for (device, status) in part {
                // What came meanwhile stays for the next time.
                if unsaved.get(device) == Some(status) {
                    unsaved.remove(device);
                }
            }
        }
        Ok(())
    }

    /// Looks up what a server that was killed had heard and not written.
    pub(super) async fn rebuild(&self, pool: &PgPool) -> Result<(), sqlx::Error> {
        sqlx::query(sql!("rebuild_status")).execute(pool).await.map(drop)
    }

    /// Devices after `after`, by farm and identifier.
    pub(super) async fn list(
        &self,
        reader: &mut Reader,
        farm_id: Option<i32>,
        after: Option<(i32, String)>,
        limit: usize,
    ) -> Result<Vec<Device>, StoreError> {
        let (after_farm, after_uid) = after.unzip();
        let bind = |query: Statement| {
            query.bind(farm_id).bind(after_farm).bind(after_uid.clone()).bind(signed(limit as u64))
        };
        let rows = reader.all(sql!("list_devices"), bind).await?;
        rows.iter().map(|row| self.heard_of(row)).collect::<Result<_, _>>().map_err(unavailable)
    }

    /// One device.
    pub(super) async fn find(
        &self,
        reader: &mut Reader,
        farm_id: i32,
        device_uid: &str,
    ) -> Result<Option<Device>, StoreError> {
        let bind = |query: Statement| query.bind(farm_id).bind(device_uid.to_owned());
        let rows = reader.all(sql!("find_device"), bind).await?;
        rows.first().map(|row| self.heard_of(row)).transpose().map_err(unavailable)
    }

    fn heard_of(&self, row: &PgRow) -> Result<Device, sqlx::Error> {
        let key = DeviceKey {
            farm_id: row.try_get("farm_id")?,
            device_uid: row.try_get("device_uid")?,
            device_type: row.try_get("device_type")?,
        };
        let mut status = saved(row)?;
        if let Some(unsaved) = self.unsaved.lock().get(&key) {
            status = Some(status.map_or(*unsaved, |mut saved| {
                saved.merge(unsaved);
                saved
            }));
        }
        Ok(Device {
            farm_id: key.farm_id,
            device_uid: key.device_uid,
            device_type: key.device_type,
            last_seen_us: status.map(|status| status.last_seen_us),
            battery_level: status.and_then(|status| status.battery_level).map(|(_, level)| level),
            signal_strength: status.and_then(|status| status.signal_strength).map(|(_, signal)| signal),
        })
    }

    /// Readings by recency.
    pub(super) async fn activity(&self, reader: &mut Reader, now_us: Micros) -> Result<Activity, StoreError> {
        let since_us = now_us.saturating_sub(ACTIVE_US);
        let (farms, uids): (Vec<i32>, Vec<String>) = (self.unsaved.lock().iter())
            .filter(|(_, status)| status.last_seen_us >= since_us)
            .map(|(device, _)| (device.farm_id, device.device_uid.clone()))
            .unzip();
        let bind = |query: Statement| query.bind(time::at(since_us)).bind(farms.clone()).bind(uids.clone());
        let active = reader.all(sql!("count_active_devices"), bind).await?;
        let now = time::at(now_us);
        let bind =
            |query: Statement| query.bind(now - Duration::hours(1)).bind(now - Duration::hours(24)).bind(now);
        let counts = reader.all(sql!("count_activity"), bind).await?;
        let count = |rows: &[PgRow], column: &str| {
            let count = rows.first().map(|row| row.try_get::<i64, _>(column)).transpose();
            count.map(|count| count.unwrap_or_default() as u64).map_err(unavailable)
        };
        Ok(Activity {
            readings_last_hour: count(&counts, "last_hour")?,
            readings_last_24h: count(&counts, "last_24h")?,
            active_devices: count(&active, "count")?,
        })
    }
}

/// The status of a row; None: the device has no reading.
fn saved(row: &PgRow) -> Result<Option<Status>, sqlx::Error> {
    let Some(last_seen) = row.try_get::<Option<DateTime<Utc>>, _>("last_seen")? else { return Ok(None) };
    let told = |at, value| -> Result<Option<(Micros, i16)>, sqlx::Error> {
        let at: Option<DateTime<Utc>> = row.try_get(at)?;
        Ok(at.map(time::micros).zip(row.try_get(value)?))
    };
    Ok(Some(Status {
        last_seen_us: time::micros(last_seen),
        battery_level: told("battery_at", "battery_level")?,
        signal_strength: told("signal_at", "signal_strength")?,
    }))
}

async fn save(pool: &PgPool, statuses: &[(Arc<DeviceKey>, Status)]) -> Result<(), sqlx::Error> {
    let device = |get: fn(&DeviceKey) -> &String| -> Vec<String> {
        statuses.iter().map(|(device, _)| get(device).clone()).collect()
    };
    let level =
        |get: fn(&Status) -> Option<(Micros, i16)>| -> (Vec<Option<i16>>, Vec<Option<DateTime<Utc>>>) {
            let told = statuses.iter().map(|(_, status)| get(status));
            told.map(|told| (told.map(|(_, value)| value), told.map(|(at, _)| time::at(at)))).unzip()
        };
    let (batteries, battery_times) = level(|status| status.battery_level);
    let (signals, signal_times) = level(|status| status.signal_strength);
    sqlx::query(sql!("save_status"))
        .bind(statuses.iter().map(|(device, _)| device.farm_id).collect::<Vec<_>>())
        .bind(device(|device| &device.device_uid))
        .bind(device(|device| &device.device_type))
        .bind(statuses.iter().map(|(_, status)| time::at(status.last_seen_us)).collect::<Vec<_>>())
        .bind(batteries)
        .bind(battery_times)
        .bind(signals)
        .bind(signal_times)
        .execute(pool)
        .await?;
    Ok(())
}
