//! One simulated gateway: a farm, the SDK's producer, and the oracle's log of what it took.

use std::time::Duration;

use anyhow::{Context as _, Result};
use herdstream_client::{
    Counters, Milking, Producer, ProducerConfig, Reading, Receipt, SendReason, SeriesKey, SeriesRef,
};

use crate::{
    farm::{Delivery, Farm, MilkingRecord, Sample},
    oracle::{Gone, Log},
};

/// Sends what a farm delivers and keeps the books for the oracle.
#[derive(Debug)]
pub struct Gateway {
    producer: Producer,
    farm: Farm,
    refs: Vec<SeriesRef>,
    delivery: Delivery,
    readings: Vec<Reading>,
    milkings: Vec<Milking>,
    /// Of the delivery, already taken.
    taken: (usize, usize),
    log: Log,
}

impl Gateway {
    /// Opens a producer and names the farm's series to it.
    ///
    /// # Errors
    ///
    /// A wrong configuration, or a spool that cannot be opened.
    pub async fn open(config: ProducerConfig, farm: Farm) -> Result<Self> {
        let gateway_id = config.gateway_id.clone();
        let producer =
            Producer::open(config).await.with_context(|| format!("opening producer {gateway_id}"))?;
        let refs = farm
            .series()
            .iter()
            .map(|name| {
                producer.series(SeriesKey {
                    farm_id: name.farm_id,
                    device_uid: name.device_uid.clone(),
                    device_type: name.device_type.name().into(),
                    metric_name: name.metric.name().into(),
                    metric_unit: name.metric.unit().into(),
                })
            })
            .collect::<Result<_, _>>()?;
        let mut log = Log::new(gateway_id, farm.series().to_vec(), farm.session_prefix());
        log.producers.push(producer.producer_id());
        Ok(Self {
            producer,
            farm,
            refs,
            delivery: Delivery::default(),
            readings: Vec::new(),
            milkings: Vec::new(),
            taken: (0, 0),
            log,
        })
    }

    /// Lets the farm deliver so many items, to be sent next. What was prepared before is forgotten.
    pub fn prepare(&mut self, items: usize, limit_us: i64) {
        self.delivery.clear();
        self.farm.deliver(items, limit_us, &mut self.delivery);
        self.readings.clear();
        self.readings.extend(self.delivery.readings.iter().map(|sample| reading(sample, &self.refs)));
        self.milkings.clear();
        self.milkings.extend(self.delivery.milkings.iter().map(milking));
        self.taken = (0, 0);
    }

    /// Items prepared and not yet taken.
    pub fn left(&self) -> usize {
        self.delivery.len() - self.taken.0 - self.taken.1
    }

    /// Hands over what is prepared, and logs what is taken. Call it again after an error that
    /// [is retryable](SendReason::is_retryable) to hand over the rest.
    ///
    /// # Errors
    ///
    /// Why the rest was not taken.
    pub async fn send(&mut self, timeout: Duration) -> Result<(), SendReason> {
        let before = self.taken;
        let outcome = self.send_rest(timeout).await;
        self.log.take(&self.delivery, before, self.taken);
        if let Err(SendReason::Unconfirmed(_)) = outcome {
            self.log.doubt(&self.delivery, self.taken);
            self.taken = (self.delivery.readings.len(), self.delivery.milkings.len());
        }
        outcome
    }

    /// Hands over the one reading that is prepared, and asks for a receipt.
    ///
    /// # Errors
    ///
    /// Why it was not taken.
    pub async fn send_tracked(&mut self, timeout: Duration) -> Result<Receipt, SendReason> {
        let reading = self.readings[0].clone();
        let outcome = self.producer.send_tracked(reading, timeout).await.map_err(|error| error.reason);
        match &outcome {
            Ok(_) => self.log.take(&self.delivery, (0, 0), (1, 0)),
            Err(SendReason::Unconfirmed(_)) => self.log.doubt(&self.delivery, (0, 0)),
            Err(_) => {}
        }
        self.taken = (1, 0);
        outcome
    }

    async fn send_rest(&mut self, timeout: Duration) -> Result<(), SendReason> {
        let (readings, milkings) = self.taken;
        match self.producer.send_slice(&self.readings[readings..], timeout).await {
            Ok(()) => self.taken.0 = self.readings.len(),
            Err(error) => {
                self.taken.0 += error.taken;
                return Err(error.reason);
            }
        }
        if self.milkings.len() > milkings {
            match self.producer.send_slice(&self.milkings[milkings..], timeout).await {
                Ok(()) => self.taken.1 = self.milkings.len(),
                Err(error) => {
                    self.taken.1 += error.taken;
                    return Err(error.reason);
                }
            }
        }
        Ok(())
    }

    /// The SDK's producer.
    pub fn producer(&self) -> &Producer {
        &self.producer
    }

    /// The oracle's log, with what the SDK says is given up or still under way.
    pub fn into_log(mut self) -> Log {
        self.log.gone = gone(&self.producer.counters());
        self.log
    }
}

/// The part of the counters that the oracle takes from the SDK.
fn gone(counters: &Counters) -> Gone {
    Gone {
        evicted: counters.evicted,
        expired: counters.expired,
        poisoned: counters.poisoned,
        lost: counters.lost,
        pending: counters.pending,
    }
}

fn reading(sample: &Sample, refs: &[SeriesRef]) -> Reading {
    Reading {
        series: refs[sample.series as usize],
        time_us: Some(sample.time_us),
        value: sample.value,
        is_interpolated: sample.is_interpolated,
        animal_id: sample.animal_id,
        zone_id: sample.zone_id,
        battery_level: Some(sample.battery_level),
        signal_strength: Some(sample.signal_strength),
        session_id: sample.session_id.clone(),
        metadata: sample.metadata.map(Into::into),
    }
}

fn milking(record: &MilkingRecord) -> Milking {
    Milking {
        time_us: Some(record.time_us),
        milk_meter_id: record.milk_meter_id,
        animal_id: record.animal_id,
        farm_id: record.farm_id,
        session_id: record.session_id.clone(),
        yield_kg: record.yield_kg,
        duration_seconds: Some(record.duration_seconds),
        flow_rate_kg_min: Some(record.flow_rate_kg_min),
        conductivity_ms: Some(record.conductivity_ms),
        temperature_c: Some(record.temperature_c),
        blood_detected: record.blood_detected,
        fat_percent: record.fat_percent,
        protein_percent: record.protein_percent,
        lactose_percent: record.lactose_percent,
        somatic_cell_count: record.somatic_cell_count,
        mastitis_risk_score: Some(record.mastitis_risk_score),
        session_start_us: Some(record.session_start_us),
        session_end_us: None,
        milking_type: Some(record.milking_type.into()),
        meter_status: None,
    }
}
