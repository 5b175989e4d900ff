//! A dairy's history: devices, animals and days of readings, as live data would have brought them.

use std::collections::HashMap;

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use herdstream_client::{SeriesKey, WriteClient, v1};
use uuid::Uuid;

use crate::farm::{DeviceType, Metric};

const DAY_US: i64 = 86_400_000_000;
const HOUR_US: i64 = 3_600_000_000;

/// Readings of a batch.
const BATCH: usize = 10_000;

/// Bound on how long a write is tried.
const PATIENCE: std::time::Duration = std::time::Duration::from_mins(5);

/// Devices of one farm, at most: their animals get numbers of their own.
pub const MAX_FARM_DEVICES: usize = 9_000;

/// How large a history is.
#[derive(Clone, Copy, Debug)]
pub struct HistoryConfig {
    /// Readings in all, about; each series has one at least. 1 to 10 000 000 000.
    pub readings: u64,
    /// Farms, 1 to 10 000.
    pub farms: i32,
    /// Devices of all farms, at least one and at most [`MAX_FARM_DEVICES`] a farm.
    pub devices: usize,
    /// Days until `end_us`, 1 to 3650.
    pub days: i64,
    /// End, exclusive, microseconds since 1970.
    pub end_us: i64,
}

/// One device.
#[derive(Clone, Debug)]
pub struct Device {
    /// Its farm.
    pub farm_id: i32,
    /// Its identifier.
    pub uid: String,
    /// Its kind.
    pub kind: DeviceType,
    /// The animal that carries it.
    pub animal_id: Option<i32>,
}

/// The devices of a history.
#[derive(Clone, Debug)]
pub struct Dairy {
    config: HistoryConfig,
    /// All devices, farm by farm.
    pub devices: Vec<Device>,
}

impl Dairy {
    /// The devices that a configuration asks for, shared out evenly among the farms.
    ///
    /// # Errors
    ///
    /// Fewer devices than farms, or more than fit.
    pub fn new(config: HistoryConfig) -> Result<Self> {
        let HistoryConfig { farms, devices: count, .. } = config;
        let of_all = usize::try_from(farms).unwrap_or(0).max(1);
        ensure!(count >= of_all, "{count} devices on {farms} farms: each farm needs one at least");
        ensure!(
            count.div_ceil(of_all) <= MAX_FARM_DEVICES,
            "{count} devices on {farms} farms: a farm has {MAX_FARM_DEVICES} at most, so give more farms"
        );
        let mut devices = Vec::with_capacity(count);
        for (farm_id, before) in (1..).zip(0..of_all) {
            let share = count / of_all + usize::from(before < count % of_all);
            devices.extend(DeviceType::herd_of(share).enumerate().map(|(n, kind)| Device {
                farm_id,
                uid: format!("{}_{farm_id:02}_{n:04}", kind.name()),
                kind,
                animal_id: (kind == DeviceType::Collar).then_some(farm_id * 10_000 + n as i32),
            }));
        }
        Ok(Self { config, devices })
    }

    /// What carries a collar.
    pub fn animals(&self) -> impl Iterator<Item = i32> {
        self.devices.iter().filter_map(|device| device.animal_id)
    }

    /// The series of a device.
    pub fn key(device: &Device, metric: Metric) -> SeriesKey {
        SeriesKey {
            farm_id: device.farm_id,
            device_uid: device.uid.clone(),
            device_type: device.kind.name().to_owned(),
            metric_name: metric.name().to_owned(),
            metric_unit: metric.unit().to_owned(),
        }
    }

    /// Time between two readings of a series, microseconds.
    pub fn interval_us(&self) -> i64 {
        let series: usize = self.devices.iter().map(|device| device.kind.metrics().len()).sum();
        let of_each = (self.config.readings / series.max(1) as u64).max(1);
        (self.config.days * DAY_US / i64::try_from(of_each).unwrap_or(i64::MAX)).max(1)
    }

    /// Writes everything, each farm by a producer of its own, in the order of time; tells of each batch how many
    /// readings and milkings it had. Answers how many there were.
    ///
    /// # Errors
    ///
    /// The server cannot be written, or refuses something.
    pub async fn write(&self, client: &WriteClient, told: impl Fn(u64) + Sync) -> Result<u64> {
        let farms = 1..=self.config.farms.max(1);
        let written =
            stream::iter(farms).map(|farm_id| self.write_farm(client, farm_id, &told)).buffer_unordered(4);
        written.try_fold(0, |all, of_farm| async move { Ok(all + of_farm) }).await
    }

    async fn write_farm(
        &self,
        client: &WriteClient,
        farm_id: i32,
        told: &(impl Fn(u64) + Sync),
    ) -> Result<u64> {
        let devices: Vec<&Device> = self.devices.iter().filter(|device| device.farm_id == farm_id).collect();
        let mut log = Log {
            client,
            producer: Uuid::new_v4(),
            offset: 0,
            batch: v1::Batch::default(),
            refs: HashMap::new(),
            written: 0,
        };
        let (interval_us, start_us) = (self.interval_us(), self.config.end_us - self.config.days * DAY_US);
        let mut time_us = start_us;
        let mut milked = 0;
        while time_us < self.config.end_us {
            for (n, device) in (0..).zip(&devices) {
                // Devices of a farm do not report at the same instant.
                let at_us = time_us + interval_us * n / devices.len().max(1) as i64;
                for &metric in device.kind.metrics().iter().filter(|_| at_us < self.config.end_us) {
                    log.reading(device, metric, at_us);
                }
                if log.is_full() {
                    told(log.send().await?);
                }
            }
            let shift = (time_us - start_us) / (12 * HOUR_US);
            if shift >= milked {
                milked = shift + 1;
                for (n, device) in (0..).zip(&devices) {
                    let at_us = time_us + n * 60_000_000;
                    if let Some(animal_id) = device.animal_id.filter(|_| at_us < self.config.end_us) {
                        log.milking(farm_id, animal_id, at_us, shift);
                    }
                    if log.is_full() {
                        told(log.send().await?);
                    }
                }
            }
            time_us += interval_us;
        }
        told(log.send().await?);
        Ok(log.written)
    }
}

/// A plausible value: a day's rhythm, and a little noise that is the same in every run.
pub fn value(metric: Metric, seed: u64, time_us: i64) -> f64 {
    let (low, high) = metric.range();
    let hour = time_us.rem_euclid(DAY_US) as f64 / HOUR_US as f64;
    let rhythm = ((hour - 9.0) / 24.0 * std::f64::consts::TAU).sin();
    let mut noise = seed ^ (time_us as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    noise = (noise ^ (noise >> 31)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let noise = (noise >> 40) as f64 / f64::from(1 << 24) - 0.5;
    let share = 0.5 + 0.3 * rhythm + 0.3 * noise;
    ((low + share * (high - low)) * 10.0).round() / 10.0
}

/// One producer's log.
struct Log<'a> {
    client: &'a WriteClient,
    producer: Uuid,
    offset: u64,
    batch: v1::Batch,
    refs: HashMap<(String, Metric), u32>,
    written: u64,
}

impl Log<'_> {
    fn reading(&mut self, device: &Device, metric: Metric, time_us: i64) {
        let next = self.refs.len() as u32 + 1;
        let series_ref = *self.refs.entry((device.uid.clone(), metric)).or_insert(next);
        if series_ref == next {
            let SeriesKey { farm_id, device_uid, device_type, metric_name, metric_unit } =
                Dairy::key(device, metric);
            let r#ref = series_ref;
            self.batch.series.push(v1::Series {
                r#ref,
                farm_id,
                device_uid,
                device_type,
                metric_name,
                metric_unit,
            });
        }
        self.batch.readings.push(v1::Reading {
            series_ref,
            time_us,
            value: value(metric, u64::from(series_ref), time_us),
            animal_id: device.animal_id,
            battery_level: Some(80),
            ..v1::Reading::default()
        });
    }

    fn milking(&mut self, farm_id: i32, animal_id: i32, time_us: i64, shift: i64) {
        self.batch.milkings.push(v1::Milking {
            time_us,
            milk_meter_id: 1,
            animal_id,
            farm_id,
            session_id: format!("shift-{shift}"),
            yield_kg: value(Metric::Yield, animal_id as u64, time_us),
            conductivity_ms: Some(value(Metric::Conductivity, animal_id as u64, time_us)),
            ..v1::Milking::default()
        });
    }

    fn is_full(&self) -> bool {
        self.batch.readings.len() + self.batch.milkings.len() + 500 > BATCH
    }

    /// Stores the batch; answers how many it had.
    async fn send(&mut self) -> Result<u64> {
        let mut batch = std::mem::take(&mut self.batch);
        // Refs hold for one write only.
        self.refs.clear();
        let count = (batch.readings.len() + batch.milkings.len()) as u64;
        if count == 0 {
            return Ok(0);
        }
        self.offset += 1;
        batch.offset = self.offset;
        let request = v1::WriteRequest {
            producer_id: self.producer.to_string(),
            instance_id: String::new(),
            gateway_id: "history".to_owned(),
            batch: Some(batch),
            backfill: true,
        };
        let answer =
            self.client.write_patiently(&request, PATIENCE, |_| {}).await.context("writing history")?;
        ensure!(
            u64::from(answer.stored) == count,
            "{} of {count} were stored: {:?}",
            answer.stored,
            answer.rejections.first()
        );
        self.written += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dairy(farms: i32, devices: usize) -> Result<Dairy> {
        Dairy::new(HistoryConfig { readings: 1, farms, devices, days: 1, end_us: 10 * DAY_US })
    }

    #[test]
    fn every_device_is_on_a_farm_and_every_farm_has_one() -> Result<()> {
        for (farms, devices) in [(1, 1), (3, 3), (3, 10), (7, 1_000), (1, MAX_FARM_DEVICES)] {
            let dairy = dairy(farms, devices)?;
            assert_eq!(dairy.devices.len(), devices);
            for farm_id in 1..=farms {
                let here = dairy.devices.iter().filter(|device| device.farm_id == farm_id).count();
                assert!(here == devices / farms as usize || here == devices / farms as usize + 1);
            }
            let animals: std::collections::BTreeSet<i32> = dairy.animals().collect();
            assert_eq!(animals.len(), dairy.animals().count(), "two animals have one number");
        }
        Ok(())
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (farms, devices, said) in
            [(10, 9, "each farm needs one"), (1, 0, "each farm needs one"), (2, 18_001, "give more farms")]
        {
            let error = dairy(farms, devices).expect_err("it does not fit").to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}
