//! Simulated farms: devices that report over simulated time, like a farm does.
//!
//! One [`Farm`] stands behind one gateway. It knows the seed's device types, metrics and value ranges
//! (section 8.1), runs a clock of its own from some weeks ago towards the present, and is the same for
//! the same seed. Made to be cheap: the load tester shares its cores with the server it measures.

mod catalogue;
mod clock;
mod device;

use rand::{RngCore, SeedableRng, rngs::SmallRng};

use self::{
    clock::Clock,
    device::{Device, Plan, Presence},
};

pub use catalogue::{DeviceType, Metric};

/// What a farm is made from.
#[derive(Clone, Debug)]
pub struct FarmConfig {
    /// Equal seeds make equal farms.
    pub seed: u64,
    /// Part of every device identifier and session, so that runs on one database never meet.
    /// At most 20 characters.
    pub run: String,
    /// Number of the farm, 1 or more.
    pub farm_id: i32,
    /// Series, 1 or more.
    pub series: usize,
    /// When simulated time starts, microseconds since 1970.
    pub start_us: i64,
    /// How many readings in a million are broken sensors' nonsense that the server must refuse.
    pub bad_per_million: u32,
}

/// What a series is called.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeriesName {
    /// Number of the farm.
    pub farm_id: i32,
    /// Device, unique to the run, the farm and the device.
    pub device_uid: String,
    /// Kind of device.
    pub device_type: DeviceType,
    /// What is measured.
    pub metric: Metric,
}

/// One reading as a device hands it to its gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// Position of its series in [`Farm::series`].
    pub series: u32,
    /// When it was measured, microseconds since 1970.
    pub time_us: i64,
    /// In the unit of its metric.
    pub value: f64,
    /// Animal, on collars and meters at work.
    pub animal_id: Option<i32>,
    /// Zone, on temperature sensors.
    pub zone_id: Option<i32>,
    /// Percent, 10 to 100.
    pub battery_level: i16,
    /// dBm, −100 to −30.
    pub signal_strength: i16,
    /// Computed instead of measured.
    pub is_interpolated: bool,
    /// Milking session, on the last yield of a milking.
    pub session_id: Option<Box<str>>,
    /// A JSON object, now and then.
    pub metadata: Option<&'static str>,
}

/// One milking as a meter hands it to its gateway.
#[derive(Clone, Debug, PartialEq)]
pub struct MilkingRecord {
    /// When it ended, microseconds since 1970.
    pub time_us: i64,
    /// Meter.
    pub milk_meter_id: i32,
    /// Animal.
    pub animal_id: i32,
    /// Number of the farm.
    pub farm_id: i32,
    /// Milking session; carries the run.
    pub session_id: String,
    /// Kilograms.
    pub yield_kg: f64,
    /// Seconds.
    pub duration_seconds: i32,
    /// Kilograms per minute.
    pub flow_rate_kg_min: f64,
    /// mS/cm at 25 °C.
    pub conductivity_ms: f64,
    /// Degrees Celsius.
    pub temperature_c: f64,
    /// Blood was seen.
    pub blood_detected: bool,
    /// Percent of mass; meters with a milk analyser only.
    pub fat_percent: Option<f64>,
    /// Percent of mass; meters with a milk analyser only.
    pub protein_percent: Option<f64>,
    /// Percent of mass; meters with a milk analyser only.
    pub lactose_percent: Option<f64>,
    /// Cells per millilitre; meters with a milk analyser only.
    pub somatic_cell_count: Option<i32>,
    /// 0 to 1.
    pub mastitis_risk_score: f64,
    /// Start of the session.
    pub session_start_us: i64,
    /// `morning` or `evening`.
    pub milking_type: &'static str,
}

/// What a farm delivered, in the order in which its gateway got it.
#[derive(Debug, Default)]
pub struct Delivery {
    /// Readings.
    pub readings: Vec<Sample>,
    /// Milkings.
    pub milkings: Vec<MilkingRecord>,
}

impl Delivery {
    /// Readings and milkings together.
    pub fn len(&self) -> usize {
        self.readings.len() + self.milkings.len()
    }

    /// Whether there is neither a reading nor a milking.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        self.readings.clear();
        self.milkings.clear();
    }
}

/// The devices behind one gateway and the clock they live by.
#[derive(Debug)]
pub struct Farm {
    names: Vec<SeriesName>,
    plan: Plan,
    devices: Vec<Device>,
    /// Device and position within it, by series.
    owners: Vec<(u32, u32)>,
    clock: Clock,
    /// The series that reports next; 0 is the start of a tick.
    cursor: usize,
    /// Readings that were held back and now come in between those of the present, newest first.
    late: Vec<Sample>,
    turn: bool,
    milked: Option<MilkingRecord>,
    rng: SmallRng,
    bad_below: u32,
}

impl Farm {
    /// Builds the farm; its first delivery starts at `start_us`.
    pub fn new(config: &FarmConfig) -> Self {
        let mut rng = SmallRng::seed_from_u64(config.seed);
        let mut names = Vec::with_capacity(config.series);
        let mut owners = Vec::with_capacity(config.series);
        let mut devices = Vec::new();
        for (number, device_type) in DeviceType::herd().enumerate() {
            let left = config.series - names.len();
            if left == 0 {
                break;
            }
            let device_uid = format!("{}-f{}-{}-{number:04}", config.run, config.farm_id, device_type.name());
            for (position, &metric) in device_type.metrics().iter().take(left).enumerate() {
                owners.push((number as u32, position as u32));
                names.push(SeriesName {
                    farm_id: config.farm_id,
                    device_uid: device_uid.clone(),
                    device_type,
                    metric,
                });
            }
            devices.push(Device::new(number, device_type, &mut rng));
        }
        Self {
            names,
            plan: Plan::new(&config.run, config.farm_id),
            devices,
            owners,
            clock: Clock::starting_at(config.start_us),
            cursor: 0,
            late: Vec::new(),
            turn: false,
            milked: None,
            rng,
            bad_below: (u64::from(config.bad_per_million) * (1 << 32) / 1_000_000) as u32,
        }
    }

    /// Names of the series, by their number in [`Sample::series`].
    pub fn series(&self) -> &[SeriesName] {
        &self.names
    }

    /// How the names of its milking sessions begin.
    pub fn session_prefix(&self) -> String {
        self.plan.session_prefix()
    }

    /// Simulated time, microseconds since 1970.
    pub fn now_us(&self) -> i64 {
        self.clock.now_us()
    }

    /// Adds exactly `items` readings and milkings to `out`.
    ///
    /// No time is later than `limit_us`, the present of the caller: the simulated clock runs as fast as
    /// readings are asked for, and slower the closer it comes.
    pub fn deliver(&mut self, items: usize, limit_us: i64, out: &mut Delivery) {
        let target = out.len() + items;
        while out.len() < target {
            if let Some(milking) = self.milked.take() {
                out.milkings.push(milking);
                continue;
            }
            self.turn = !self.turn;
            match self.late.pop_if(|_| self.turn) {
                Some(sample) => out.readings.push(sample),
                None => self.step(limit_us, &mut out.readings),
            }
        }
    }

    /// Lets the next series report, which most do.
    fn step(&mut self, limit_us: i64, out: &mut Vec<Sample>) {
        let series = self.cursor;
        if series == 0 {
            self.clock.tick(limit_us);
            self.plan.at(&self.clock);
        }
        self.cursor = if series + 1 == self.names.len() { 0 } else { series + 1 };

        let (device, position) = self.owners[series];
        let device = &mut self.devices[device as usize];
        if position == 0 {
            device.wake(&self.clock, &self.plan, self.rng.next_u64());
            if let Some(held) = device.burst() {
                self.late.extend(held.drain(..).rev());
            }
        }
        if device.presence() == Presence::Silent {
            return;
        }
        let random = self.rng.next_u64();
        let metric = self.names[series].metric;
        let mut sample = device.sample(series as u32, metric, &self.clock, &self.plan, random);
        if ((random >> 32) as u32) < self.bad_below
            && let Some(nonsense) = metric.nonsense()
        {
            sample.value = nonsense;
        }
        if position == 0 {
            self.milked = device.milked(&self.plan, sample.time_us, random);
        }
        match device.hold() {
            Some(held) => held.push(sample),
            None => out.push(sample),
        }
    }
}

#[cfg(test)]
mod tests;
