//! Devices: when they report, and what.

use std::{f64::consts::TAU, mem};

use rand::{Rng, RngCore};

use super::{
    DeviceType, Metric, MilkingRecord, Sample,
    clock::{Clock, DAY_US, SECOND_US},
};

/// Slots of a day in which the daily curves are constant: five minutes each.
const SLOTS: usize = 288;

/// Milking times of the parlour, as hours of the day.
const MILKINGS: [(f64, f64, &str); 2] = [(5.0, 8.0, "morning"), (16.5, 19.5, "evening")];

/// Ticks between two signs of life of a meter that does not milk. A power of two.
const HEARTBEAT: u32 = 64;

/// What all devices of a farm share at one moment of its day.
#[derive(Debug)]
pub(super) struct Plan {
    run: String,
    farm_id: i32,
    /// By slot and metric, 0 to 1: where in its range the metric lies.
    curves: Vec<[f32; Metric::ALL.len()]>,
    slot: usize,
    session: Option<Session>,
}

/// One milking time of one day.
#[derive(Debug)]
struct Session {
    id: Box<str>,
    start_us: i64,
    milking_type: &'static str,
}

impl Plan {
    pub(super) fn new(run: &str, farm_id: i32) -> Self {
        let curves =
            (0..SLOTS).map(|slot| Metric::ALL.map(|metric| daily(metric, hour_of(slot)) as f32)).collect();
        Self { run: run.to_owned(), farm_id, curves, slot: usize::MAX, session: None }
    }

    pub(super) fn session_prefix(&self) -> String {
        format!("{}-f{}-", self.run, self.farm_id)
    }

    /// Brings it to the clock's tick.
    pub(super) fn at(&mut self, clock: &Clock) {
        let slot = (clock.time_of_day_us() / (DAY_US / SLOTS as i64)) as usize;
        if slot == self.slot {
            return;
        }
        self.slot = slot;
        let hour = hour_of(slot);
        let Some((start, _, milking_type)) =
            MILKINGS.into_iter().find(|(start, end, _)| (*start..*end).contains(&hour))
        else {
            self.session = None;
            return;
        };
        if self.session.is_none() {
            let midnight_us = clock.now_us() - clock.time_of_day_us();
            let day = midnight_us / DAY_US;
            self.session = Some(Session {
                id: format!("{}{day}-{milking_type}", self.session_prefix()).into(),
                start_us: midnight_us + (start * 3600.0) as i64 * SECOND_US,
                milking_type,
            });
        }
    }

    fn level(&self, metric: Metric) -> f32 {
        self.curves[self.slot][metric as usize]
    }
}

/// Whether a device is heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// Reports.
    Online,
    /// Reports nothing, or is out of reach and does not buffer.
    Silent,
    /// Out of reach of its gateway: keeps what it measures.
    Holding,
}

/// One device.
#[derive(Debug)]
pub(super) struct Device {
    number: i32,
    kind: DeviceType,
    presence: Presence,
    /// Tick at which the presence changes back.
    until: u32,
    /// Its own level within the herd, −1 to 1.
    bias: f32,
    /// Slow wandering about it.
    drift: f32,
    /// When in a tick it reports, in parts of the tick.
    part: i64,
    battery_phase: u32,
    signal_base: i16,
    /// The animal that wears it, or that is being milked.
    animal_id: Option<i32>,
    battery_level: i16,
    milking: Option<MilkingState>,
    held: Vec<Sample>,
}

/// An animal in the parlour.
#[derive(Clone, Copy, Debug)]
struct MilkingState {
    start_tick: u32,
    end_tick: u32,
    start_us: i64,
    ticks_left: u32,
    yield_kg: f64,
}

impl Device {
    pub(super) fn new(number: usize, kind: DeviceType, rng: &mut impl RngCore) -> Self {
        let number = number as i32 + 1;
        Self {
            number,
            kind,
            presence: Presence::Online,
            until: 0,
            bias: rng.random_range(-1.0..1.0),
            drift: 0.0,
            part: rng.random_range(0..9_000),
            battery_phase: rng.random_range(0..1 << 20),
            signal_base: rng.random_range(-92..-38),
            animal_id: (kind == DeviceType::Collar).then_some(1_000 + number),
            battery_level: 0,
            milking: None,
            held: Vec::new(),
        }
    }

    /// Starts the device's tick: is it heard, and what goes on.
    pub(super) fn wake(&mut self, clock: &Clock, plan: &Plan, random: u64) {
        let ticks = clock.ticks();
        // A battery lasts three months of ten-second ticks and is then replaced.
        self.battery_level = 100 - ((ticks.wrapping_add(self.battery_phase) / 8_192) % 91) as i16;
        self.drift = self.drift * 0.98 + (f32::from(random as u8) - 127.5) * 0.0002;
        let random = random >> 8;
        match self.presence {
            Presence::Online => match random & 0xffff {
                // A gap every two hours or so of ticks, up to ten minutes.
                0..64 => self.leave(Presence::Silent, ticks + 1 + ((random >> 16) % 60) as u32),
                // Out of reach, up to a quarter of an hour.
                64..80 => self.leave(Presence::Holding, ticks + 6 + ((random >> 16) % 84) as u32),
                _ => {}
            },
            Presence::Silent | Presence::Holding if ticks >= self.until => self.presence = Presence::Online,
            Presence::Silent | Presence::Holding => {}
        }
        if self.kind == DeviceType::MilkMeter {
            self.milk(clock, plan, random >> 24);
        }
    }

    pub(super) fn presence(&self) -> Presence {
        self.presence
    }

    /// Where a reading goes while the device is out of reach.
    pub(super) fn hold(&mut self) -> Option<&mut Vec<Sample>> {
        (self.presence == Presence::Holding).then_some(&mut self.held)
    }

    /// What was held, once the device is back.
    pub(super) fn burst(&mut self) -> Option<&mut Vec<Sample>> {
        (self.presence == Presence::Online && !self.held.is_empty()).then_some(&mut self.held)
    }

    /// The device's reading of one of its metrics in this tick.
    pub(super) fn sample(
        &self,
        series: u32,
        metric: Metric,
        clock: &Clock,
        plan: &Plan,
        random: u64,
    ) -> Sample {
        let noise = f32::from(random as u8) / 127.5 - 1.0;
        let jitter = (random >> 8 & 0x3ff) as i64;
        let rare = random >> 18 & 0x3fff;
        Sample {
            series,
            time_us: clock.moment(self.part + jitter.min(999)),
            value: self.value(metric, clock, plan, noise),
            animal_id: self.animal_id,
            zone_id: (self.kind == DeviceType::TempSensor).then_some(self.number),
            battery_level: self.battery_level,
            signal_strength: self.signal_base + (random >> 56 & 0xf) as i16 - 8,
            is_interpolated: rare < 16,
            session_id: match (&plan.session, self.milking) {
                (Some(session), Some(state)) if metric == Metric::Yield && state.ticks_left == 0 => {
                    Some(session.id.clone())
                }
                _ => None,
            },
            metadata: (rare == 16).then_some(r#"{"firmware":"2.4.1","event":"self_test"}"#),
        }
    }

    /// The milking that ends with this tick, if one does; call it once a tick.
    pub(super) fn milked(&mut self, plan: &Plan, time_us: i64, random: u64) -> Option<MilkingRecord> {
        let state = self.milking.take_if(|state| state.ticks_left == 0)?;
        let session = plan.session.as_ref()?;
        let animal_id = mem::take(&mut self.animal_id)?;
        let minutes = f64::from(state.end_tick - state.start_tick) / 6.0;
        let noise = |shift: u32| f64::from((random >> shift) as u8) / 255.0;
        // Every second meter has an analyser.
        let analysed = |value: f64| (self.number % 2 == 0).then_some(value);
        Some(MilkingRecord {
            time_us,
            milk_meter_id: self.number,
            animal_id,
            farm_id: plan.farm_id,
            session_id: session.id.to_string(),
            yield_kg: rounded(state.yield_kg, 100.0),
            duration_seconds: ((time_us - state.start_us) / SECOND_US) as i32,
            flow_rate_kg_min: rounded(state.yield_kg / minutes, 100.0),
            conductivity_ms: rounded(4.0 + 4.0 * noise(0) * noise(8), 100.0),
            temperature_c: rounded(36.5 + 2.0 * noise(16), 10.0),
            blood_detected: (random >> 24).is_multiple_of(1_024),
            fat_percent: analysed(rounded(3.2 + 1.8 * noise(24), 100.0)),
            protein_percent: analysed(rounded(2.9 + 0.9 * noise(32), 100.0)),
            lactose_percent: analysed(rounded(4.5 + 0.5 * noise(40), 100.0)),
            somatic_cell_count: analysed(noise(48).powi(4)).map(|part| 20_000 + (part * 900_000.0) as i32),
            mastitis_risk_score: rounded(noise(8) * noise(48), 1000.0),
            session_start_us: session.start_us,
            milking_type: session.milking_type,
        })
    }

    fn leave(&mut self, presence: Presence, until: u32) {
        self.presence = presence;
        self.until = until;
    }

    /// Brings animals in, one after the other, while it is milking time.
    fn milk(&mut self, clock: &Clock, plan: &Plan, random: u64) {
        if let Some(state) = &mut self.milking {
            state.ticks_left = state.end_tick.saturating_sub(clock.ticks());
        } else if plan.session.is_some() && self.presence == Presence::Online && random.is_multiple_of(8) {
            let ticks = 24 + (random >> 3 & 0x1f) as u32;
            let yield_kg = 4.0 + 11.0 * f64::from((random >> 8) as u8) / 255.0;
            self.animal_id = Some(1_000 + (random >> 16 & 0x1ff) as i32);
            self.milking = Some(MilkingState {
                start_tick: clock.ticks(),
                end_tick: clock.ticks() + ticks,
                start_us: clock.now_us(),
                ticks_left: ticks,
                yield_kg,
            });
        }
        if plan.session.is_none() {
            self.milking = None;
            self.animal_id = None;
        }
        let awake = self.milking.is_some() || clock.ticks() % HEARTBEAT == self.number as u32 % HEARTBEAT;
        match self.presence {
            Presence::Online if !awake => self.leave(Presence::Silent, clock.ticks() + 1),
            _ => {}
        }
    }

    fn value(&self, metric: Metric, clock: &Clock, plan: &Plan, noise: f32) -> f64 {
        let (low, high) = metric.range();
        let part = match (metric, self.milking) {
            (Metric::Yield, Some(state)) => {
                let done = 1.0 - f64::from(state.ticks_left) / f64::from(state.end_tick - state.start_tick);
                return rounded(state.yield_kg * done, metric.steps());
            }
            (Metric::Yield | Metric::FlowRate, None) => 0.0,
            // A hopper runs empty and is filled again.
            (Metric::HopperLevel, _) => {
                let period = 2_048.0 + f64::from(self.bias) * 512.0;
                1.0 - (f64::from(clock.ticks().wrapping_add(self.battery_phase)) / period).fract()
            }
            _ => f64::from(plan.level(metric) + self.bias * 0.12 + self.drift + noise * 0.03).clamp(0.0, 1.0),
        };
        rounded(low + (high - low) * part, metric.steps())
    }
}

/// As a display shows it. For values of 0 and more.
fn rounded(value: f64, steps: f64) -> f64 {
    f64::from((value * steps + 0.5) as u32) / steps
}

fn hour_of(slot: usize) -> f64 {
    slot as f64 * 24.0 / SLOTS as f64
}

/// Where in its range a metric lies at an hour of the day, 0 to 1.
fn daily(metric: Metric, hour: f64) -> f64 {
    // Warmest at three in the afternoon.
    let warmth = 0.5 + 0.5 * ((hour - 15.0) / 24.0 * TAU).cos();
    let day = if (5.0..21.0).contains(&hour) { 1.0 } else { 0.0 };
    let milking =
        MILKINGS.iter().map(|(start, end, _)| bump(hour, f64::midpoint(*start, *end), 1.5)).sum::<f64>();
    match metric {
        Metric::Temperature => 0.25 + 0.4 * warmth,
        Metric::Humidity => 0.8 - 0.45 * warmth,
        Metric::Activity => 0.12 + 0.18 * day + 0.5 * milking,
        Metric::Rumination => 0.75 - 0.3 * day - 0.25 * milking,
        // Hours lain since midnight.
        Metric::Rest => 0.15 + 0.75 * (hour - 2.0 * milking).max(0.0) / 24.0,
        Metric::DispensedAmount => 0.2 + 0.6 * milking,
        Metric::Conductivity => 0.4,
        Metric::FlowRate => 0.6,
        Metric::Yield | Metric::HopperLevel => 0.0,
    }
}

fn bump(x: f64, centre: f64, width: f64) -> f64 {
    (-((x - centre) / width).powi(2)).exp()
}
