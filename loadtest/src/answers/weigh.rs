//! Holds answers against a plain computation.
//!
//! Each function answers how many things agreed, or says what does not and how.

use std::collections::{BTreeMap, BTreeSet};

use herdstream_client::v1;

use super::{Level, Plain, Values};

/// Sums of the same values in another order differ by so much.
const NEAR: f64 = 1e-9;

/// A deviation that is computed from sums of squares loses half of the digits.
const NEAR_STDDEV: f64 = 1e-7;

/// What agreed, or what is wrong.
pub type Weighed = Result<usize, String>;

/// Every bucket of a series: which there are, and all that is told of each.
///
/// # Errors
///
/// What differs.
pub fn buckets(level: Level, known: &Values, found: &[v1::Bucket]) -> Weighed {
    let mut wanted: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
    for (time_us, values) in known {
        wanted.entry(level.start_us(*time_us)).or_default().extend(values);
    }
    let name = |start_us: i64| format!("the bucket of {start_us}");
    one_each(
        wanted.keys().copied().map(name).collect(),
        found.iter().map(|bucket| name(bucket.start_us)).collect(),
    )?;
    for bucket in found {
        let plain = wanted.get(&bucket.start_us).and_then(|values| Plain::of(values.iter().copied()));
        let plain = plain.ok_or_else(|| format!("{bucket:?} is of no readings"))?;
        let whole = bucket.end_us == bucket.start_us + level.width_us();
        let median = level.has_median().then_some(plain.median);
        let p95 = level.has_p95().then_some(plain.p95);
        let told = whole
            && bucket.count == plain.count
            && bucket.valid_count == Some(plain.count)
            && bucket.error_count == Some(0)
            && same(bucket.sum, Some(plain.sum))
            && same(bucket.avg, Some(plain.avg))
            && same(bucket.min, Some(plain.min))
            && same(bucket.max, Some(plain.max))
            && same_stddev(bucket.stddev, plain)
            && same(bucket.median, median)
            && same(bucket.p95, p95);
        if !told {
            return Err(format!("{bucket:?} instead of {plain:?}"));
        }
    }
    Ok(found.len())
}

/// Readings, all of them in the order of time; of equal times in any order.
///
/// # Errors
///
/// What differs.
pub fn readings(known: &Values, found: &[v1::StoredReading]) -> Weighed {
    let mut have = Values::new();
    let mut last_us = i64::MIN;
    for reading in found {
        if reading.time_us < last_us {
            return Err(format!("a reading of {} stands after one of {last_us}", reading.time_us));
        }
        last_us = reading.time_us;
        have.entry(reading.time_us).or_default().push(reading.value);
    }
    for time_us in known.keys().chain(have.keys()) {
        let sorted = |values: Option<&Vec<f64>>| {
            let mut values = values.cloned().unwrap_or_default();
            values.sort_by(f64::total_cmp);
            values
        };
        let (wanted, found) = (sorted(known.get(time_us)), sorted(have.get(time_us)));
        if wanted != found {
            return Err(format!("{found:?} instead of {wanted:?} at {time_us}"));
        }
    }
    Ok(found.len())
}

/// The newest reading of a series.
///
/// # Errors
///
/// It is another, or there is none where there should be one.
pub fn newest(known: &Values, found: Option<&v1::StoredReading>) -> Weighed {
    match (known.last_key_value(), found) {
        (None, None) => Ok(0),
        (Some((time_us, values)), Some(found))
            if *time_us == found.time_us && values.contains(&found.value) =>
        {
            Ok(1)
        }
        (wanted, found) => {
            let found = found.map(|found| (found.time_us, found.value));
            Err(format!("the newest is {found:?} instead of {wanted:?}"))
        }
    }
}

/// What a farm's day is of: date, kind of device, metric, unit.
pub type FarmDayKey = (String, String, String, String);

/// Every row of a farm's days: which there are, and all that is told of each. Known are the values of each device.
///
/// # Errors
///
/// What differs.
pub fn farm_days(known: &BTreeMap<FarmDayKey, BTreeMap<String, Vec<f64>>>, found: &[v1::FarmDay]) -> Weighed {
    let key = |day: &v1::FarmDay| {
        (day.date.clone(), day.device_type.clone(), day.metric_name.clone(), day.metric_unit.clone())
    };
    let name = |key: &FarmDayKey| format!("{} of {} on {}", key.2, key.1, key.0);
    one_each(known.keys().map(name).collect(), found.iter().map(|day| name(&key(day))).collect())?;
    for day in found {
        let devices = known.get(&key(day)).ok_or_else(|| format!("{day:?} is of no readings"))?;
        let plain = Plain::of(devices.values().flatten().copied());
        let plain = plain.ok_or_else(|| format!("{day:?} is of no readings"))?;
        let told = day.devices as usize == devices.len()
            && day.count == plain.count
            && same(Some(day.avg), Some(plain.avg))
            && same(Some(day.min), Some(plain.min))
            && same(Some(day.max), Some(plain.max))
            && same_stddev(day.stddev, plain);
        if !told {
            return Err(format!("{day:?} instead of {plain:?} of {} devices", devices.len()));
        }
    }
    Ok(found.len())
}

/// Every row of a farm's milk by day and animal.
///
/// # Errors
///
/// What differs.
pub fn milk_days(known: &[v1::Milking], found: &[v1::MilkDay]) -> Weighed {
    let mut wanted: BTreeMap<(String, i32), Vec<&v1::Milking>> = BTreeMap::new();
    for milking in known {
        wanted.entry((super::date(milking.time_us), milking.animal_id)).or_default().push(milking);
    }
    let name = |(date, animal): &(String, i32)| format!("milk of animal {animal} on {date}");
    let key = |day: &v1::MilkDay| (day.date.clone(), day.animal_id);
    one_each(wanted.keys().map(name).collect(), found.iter().map(|day| name(&key(day))).collect())?;
    for day in found {
        let milkings = wanted.get(&key(day)).map_or(&[][..], Vec::as_slice);
        let yields = Plain::of(milkings.iter().map(|milking| milking.yield_kg));
        let yields = yields.ok_or_else(|| format!("{day:?} is of no milkings"))?;
        let of = |value: fn(&v1::Milking) -> Option<f64>| {
            Plain::of(milkings.iter().filter_map(|milking| value(milking)))
        };
        let mean = |value| of(value).map(|plain| plain.avg);
        let told = u64::from(day.milking_count) == yields.count
            && same(Some(day.total_yield_kg), Some(yields.sum))
            && same(Some(day.avg_yield_per_session), Some(yields.avg))
            && same(day.avg_conductivity, mean(|milking| milking.conductivity_ms))
            && same(day.avg_scc, mean(|milking| milking.somatic_cell_count.map(f64::from)))
            && same(day.max_mastitis_risk, of(|milking| milking.mastitis_risk_score).map(|risk| risk.max))
            && same(day.avg_fat, mean(|milking| milking.fat_percent))
            && same(day.avg_protein, mean(|milking| milking.protein_percent));
        if !told {
            return Err(format!("{day:?} instead of {yields:?}"));
        }
    }
    Ok(found.len())
}

/// A metric of an animal in a range of time.
///
/// # Errors
///
/// What differs.
pub fn animal(known: &Values, found: Option<&v1::AnimalMetric>) -> Weighed {
    let Some(found) = found else { return Err("the metric is not there".to_owned()) };
    newest(known, found.latest.as_ref())?;
    let (plain, told) = (Plain::of(known.values().flatten().copied()), found.statistics.as_ref());
    match (plain, told) {
        (Some(plain), Some(told))
            if told.count == plain.count
                && same(told.avg, Some(plain.avg))
                && same(told.min, Some(plain.min))
                && same(told.max, Some(plain.max))
                && same_stddev(told.stddev, plain) =>
        {
            Ok(1)
        }
        (plain, told) => Err(format!("{told:?} instead of {plain:?}")),
    }
}

/// When a device was last heard.
///
/// # Errors
///
/// At another time, or the device is not there.
pub fn last_seen(known: &Values, found: Option<&v1::Device>) -> Weighed {
    let wanted = known.last_key_value().map(|(time_us, _)| *time_us);
    let found = found.map(|device| device.last_seen_us);
    if found == wanted { Ok(1) } else { Err(format!("last seen at {found:?} instead of {wanted:?}")) }
}

/// Whether each thing that should be there is, once, and no other.
fn one_each(wanted: BTreeSet<String>, found: Vec<String>) -> Result<(), String> {
    let mut left = wanted;
    for name in found {
        if !left.remove(&name) {
            return Err(format!("{name} is there twice, or should not be there"));
        }
    }
    left.pop_first().map_or(Ok(()), |name| Err(format!("{name} is missing, and {} more", left.len())))
}

fn same(found: Option<f64>, wanted: Option<f64>) -> bool {
    match (found, wanted) {
        (Some(found), Some(wanted)) => (found - wanted).abs() <= NEAR * wanted.abs().max(1.0),
        (found, wanted) => found == wanted,
    }
}

fn same_stddev(found: Option<f64>, plain: Plain) -> bool {
    match (found, plain.stddev) {
        (Some(found), Some(wanted)) => {
            (found - wanted).abs() <= NEAR_STDDEV * plain.min.abs().max(plain.max.abs()).max(1.0)
        }
        (found, wanted) => found == wanted,
    }
}

#[cfg(test)]
mod tests;
