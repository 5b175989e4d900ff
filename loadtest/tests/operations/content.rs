//! What an item holds: all of it follows from its number, so that any row found tells whether it is right.

use herdstream_client::{Item, Milking, Producer, Reading, SeriesKey, SeriesRef, v1};

/// Metrics of a site; the first has a valid range.
pub(crate) const METRICS: [(&str, &str); 3] = [("temperature", "Cel"), ("pressure", "kPa"), ("voltage", "V")];

/// Number of an item, unique in a run.
pub(crate) type Id = u64;

/// The instant of item 0, and by it of all others.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Content {
    pub(crate) start_us: i64,
}

/// Numbers are milliseconds apart.
const STEP_US: i64 = 1_000;

pub(crate) fn is_milking(id: Id) -> bool {
    id.is_multiple_of(13)
}

/// Whether the server has to refuse it.
pub(crate) fn is_bad(id: Id) -> bool {
    id % 11 == 7
}

pub(crate) fn device(site: usize) -> String {
    format!("device-{site}")
}

pub(crate) fn farm(site: usize) -> i32 {
    site as i32 + 1
}

pub(crate) fn key(site: usize, (metric, unit): (&str, &str)) -> SeriesKey {
    SeriesKey {
        farm_id: farm(site),
        device_uid: device(site),
        device_type: "test_device".to_owned(),
        metric_name: metric.to_owned(),
        metric_unit: unit.to_owned(),
    }
}

pub(crate) fn series(site: usize, producer: &Producer) -> anyhow::Result<[SeriesRef; 3]> {
    let [first, second, third] = METRICS.map(|metric| producer.series(key(site, metric)));
    Ok([first?, second?, third?])
}

fn metric(id: Id) -> usize {
    (id % 3) as usize
}

fn value(id: Id) -> f64 {
    let value = (id % 1000) as f64 / 100.0;
    if is_bad(id) && metric(id) == 0 { value + 1e3 } else { value }
}

fn battery(id: Id) -> i16 {
    if is_bad(id) && metric(id) != 0 { 101 } else { (id % 100) as i16 }
}

fn metadata(id: Id) -> Option<String> {
    id.is_multiple_of(7).then(|| format!("{{\"id\":{id}}}"))
}

impl Content {
    /// The item to be sent.
    pub(crate) fn item(self, site: usize, id: Id, series: &[SeriesRef; 3]) -> Item {
        if is_milking(id) {
            let milking = self.milking(site, id);
            return Item::from(Milking {
                time_us: Some(milking.time_us),
                milk_meter_id: milking.milk_meter_id,
                animal_id: milking.animal_id,
                farm_id: milking.farm_id,
                session_id: milking.session_id,
                yield_kg: milking.yield_kg,
                duration_seconds: milking.duration_seconds,
                blood_detected: milking.blood_detected,
                ..Milking::default()
            });
        }
        let mut reading =
            Reading::new(series[metric(id)], value(id)).at(self.time_us(id)).battery(battery(id));
        if let Some(metadata) = metadata(id) {
            reading = reading.metadata(metadata);
        }
        Item::from(reading.animal(animal(id)))
    }

    /// The number of a row, if it can be one of ours.
    pub(crate) fn id(self, time_us: i64) -> Option<Id> {
        let since = time_us.checked_sub(self.start_us)?;
        (since >= 0 && since % STEP_US == 0).then_some((since / STEP_US) as u64)
    }

    /// All times of a run.
    pub(crate) fn span_us(self) -> (i64, i64) {
        (self.start_us, self.start_us + 1_000_000 * STEP_US)
    }

    fn time_us(self, id: Id) -> i64 {
        self.start_us + id as i64 * STEP_US
    }

    /// The row that a milking becomes.
    pub(crate) fn milking(self, site: usize, id: Id) -> v1::Milking {
        v1::Milking {
            time_us: self.time_us(id),
            milk_meter_id: 1 + (id % 9) as i32,
            animal_id: animal(id),
            farm_id: farm(site),
            session_id: format!("session-{id}"),
            yield_kg: if is_bad(id) { 101.0 } else { (id % 100) as f64 },
            duration_seconds: Some((id % 600) as i32),
            blood_detected: id.is_multiple_of(2),
            ..v1::Milking::default()
        }
    }

    /// The row that a reading becomes, and the metric it belongs to.
    pub(crate) fn stored(self, id: Id) -> (&'static str, v1::StoredReading) {
        let stored = v1::StoredReading {
            time_us: self.time_us(id),
            value: value(id),
            quality: v1::Quality::Valid.into(),
            animal_id: Some(animal(id)),
            battery_level: Some(battery(id).into()),
            metadata: metadata(id),
            ..v1::StoredReading::default()
        };
        (METRICS[metric(id)].0, stored)
    }

    /// What the quarantine keeps of a reading, its series ref aside.
    pub(crate) fn refused(self, id: Id) -> (&'static str, v1::Reading) {
        let (metric, stored) = self.stored(id);
        let refused = v1::Reading {
            time_us: stored.time_us,
            value: stored.value,
            animal_id: stored.animal_id,
            battery_level: stored.battery_level,
            metadata: stored.metadata,
            ..v1::Reading::default()
        };
        (metric, refused)
    }

    /// A reading on the wire, as a client without the SDK sends it.
    pub(crate) fn raw(self, id: Id, series_ref: u32) -> v1::Reading {
        v1::Reading { series_ref, ..self.refused(id).1 }
    }
}

fn animal(id: Id) -> i32 {
    1 + (id % 500) as i32
}
