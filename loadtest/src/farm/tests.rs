use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::{
    clock::{DAY_US, SECOND_US},
    *,
};

const START_US: i64 = 20_000 * DAY_US;
const FAR_US: i64 = START_US + 60 * DAY_US;

fn config(seed: u64, series: usize) -> FarmConfig {
    FarmConfig { seed, run: "test".into(), farm_id: 7, series, start_us: START_US, bad_per_million: 0 }
}

fn deliver(config: &FarmConfig, items: usize, limit_us: i64) -> Delivery {
    let mut delivery = Delivery::default();
    Farm::new(config).deliver(items, limit_us, &mut delivery);
    delivery
}

#[test]
fn names_are_unique_and_follow_the_seed() {
    let farm = Farm::new(&config(1, 150));
    assert_eq!(farm.series().len(), 150);
    assert_eq!(farm.series().iter().collect::<HashSet<_>>().len(), 150);
    let types: HashSet<_> = farm.series().iter().map(|name| name.device_type.name()).collect();
    assert_eq!(types, HashSet::from(["temp_sensor", "milk_meter", "collar", "dispenser"]));
    for name in farm.series() {
        assert!(name.device_type.metrics().contains(&name.metric));
        assert!(name.device_uid.len() <= 64 && name.device_uid.starts_with("test-f7-"), "{name:?}");
        assert!(name.metric.unit().len() <= 16);
    }
}

#[test]
fn a_device_keeps_its_type_whatever_the_number_of_series() {
    let farm = Farm::new(&config(1, 4));
    let devices: HashSet<_> = farm.series().iter().map(|name| &name.device_uid).collect();
    assert_eq!((farm.series().len(), devices.len()), (4, 2));
}

#[test]
fn a_day_on_the_farm_has_milkings_gaps_and_late_bursts() {
    let mut farm = Farm::new(&config(42, 150));
    let mut delivery = Delivery::default();
    while farm.now_us() < START_US + DAY_US {
        farm.deliver(1_000, FAR_US, &mut delivery);
    }
    let ticks = 8_640.0;
    let collars = farm.series().iter().filter(|name| name.device_type == DeviceType::Collar).count() as f64;
    let of_collars = delivery
        .readings
        .iter()
        .filter(|s| farm.series()[s.series as usize].device_type == DeviceType::Collar);
    let heard = of_collars.count() as f64 / (collars * ticks);
    assert!((0.9..1.0).contains(&heard), "collars are heard {heard} of the time");

    let sessions: HashSet<_> = delivery.milkings.iter().map(|m| (&m.session_id, m.milking_type)).collect();
    assert_eq!(sessions.len(), 2, "one morning and one evening: {sessions:?}");
    assert!(delivery.milkings.len() > 200, "{} milkings", delivery.milkings.len());
    for milking in &delivery.milkings {
        let hour = (milking.time_us - START_US) as f64 / (3_600 * SECOND_US) as f64;
        assert!((5.0..8.0).contains(&hour) || (16.5..19.5).contains(&hour), "{milking:?}");
        assert!((4.0..=15.0).contains(&milking.yield_kg), "{milking:?}");
        assert!(milking.duration_seconds > 0 && milking.session_id.len() <= 64, "{milking:?}");
    }
    assert!(delivery.readings.iter().any(|s| s.session_id.is_some()));
    assert!(delivery.readings.iter().any(|s| s.is_interpolated));

    let mut newest = BTreeMap::new();
    let mut late = 0;
    let mut seen = HashSet::new();
    for sample in &delivery.readings {
        let newest = newest.entry(sample.series).or_insert(sample.time_us);
        late += u32::from(sample.time_us < *newest);
        *newest = sample.time_us.max(*newest);
        assert!(seen.insert((sample.series, sample.time_us)), "a device reports once at a time: {sample:?}");
    }
    assert!(late > 1_000, "{late} readings are older than one of their series before them");
}

#[test]
fn the_clock_never_passes_the_present_nor_stops_short_of_it() {
    let limit_us = START_US + DAY_US;
    let mut farm = Farm::new(&config(3, 10));
    let mut delivery = Delivery::default();
    for _ in 0..2_000 {
        delivery.clear();
        farm.deliver(1_000, limit_us, &mut delivery);
        assert!(delivery.readings.iter().all(|sample| sample.time_us <= limit_us));
    }
    assert!(farm.now_us() > limit_us - DAY_US / 24, "{} µs left", limit_us - farm.now_us());
}

#[test]
fn nonsense_comes_as_often_as_asked() {
    let delivery = deliver(&FarmConfig { bad_per_million: 10_000, ..config(5, 150) }, 500_000, FAR_US);
    let farm = Farm::new(&config(5, 150));
    let bad = delivery.readings.iter().filter(|sample| !in_range(farm.series(), sample)).count();
    // Three metrics of ten can be nonsense, a third of the series.
    assert!((1_000..4_000).contains(&bad), "{bad} of 500000");
}

fn in_range(series: &[SeriesName], sample: &Sample) -> bool {
    let (low, high) = series[sample.series as usize].metric.range();
    (low..=high).contains(&sample.value)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn values_and_times_stay_in_bounds(seed: u64, series in 1_usize..200, items in 1_usize..20_000) {
        let delivery = deliver(&config(seed, series), items, FAR_US);
        prop_assert_eq!(delivery.len(), items);
        let farm = Farm::new(&config(seed, series));
        for sample in &delivery.readings {
            prop_assert!(in_range(farm.series(), sample), "{sample:?}");
            prop_assert!((START_US..=FAR_US).contains(&sample.time_us));
            prop_assert!((10..=100).contains(&sample.battery_level));
            prop_assert!((-100..=-30).contains(&sample.signal_strength));
            prop_assert!(sample.animal_id.is_none_or(|id| id > 0) && sample.zone_id.is_none_or(|id| id > 0));
        }
    }

    #[test]
    fn equal_seeds_make_equal_farms_however_they_are_asked(seed: u64, first in 1_usize..3_000) {
        let whole = deliver(&config(seed, 60), 5_000, FAR_US);
        let mut parts = Delivery::default();
        let mut farm = Farm::new(&config(seed, 60));
        farm.deliver(first, FAR_US, &mut parts);
        farm.deliver(5_000 - first, FAR_US, &mut parts);
        prop_assert_eq!(&whole.readings, &parts.readings);
        prop_assert_eq!(&whole.milkings, &parts.milkings);
        let other = deliver(&config(seed.wrapping_add(1), 60), 5_000, FAR_US);
        prop_assert_ne!(&whole.readings, &other.readings);
    }
}
