use super::*;

const HOUR_US: i64 = 3_600_000_000;

fn known() -> Values {
    let times = [0, 10, 900_000_000, HOUR_US, HOUR_US + 5, 30 * HOUR_US];
    (0..).zip(times).map(|(n, time_us)| (time_us, vec![10.0 + f64::from(n * n)])).collect()
}

/// What a server must answer.
fn answer(level: Level, known: &Values) -> Vec<v1::Bucket> {
    let starts: BTreeSet<i64> = known.keys().map(|time_us| level.start_us(*time_us)).collect();
    let bucket = |start_us: i64| {
        let end_us = start_us + level.width_us();
        let plain = Plain::of(known.range(start_us..end_us).flat_map(|(_, values)| values.clone()));
        let plain = plain.expect("a reading each");
        v1::Bucket {
            start_us,
            end_us,
            count: plain.count,
            sum: Some(plain.sum),
            avg: Some(plain.avg),
            min: Some(plain.min),
            max: Some(plain.max),
            stddev: plain.stddev,
            median: matches!(level, Level::Hour | Level::Day).then_some(plain.median),
            p95: (level == Level::Hour).then_some(plain.p95),
            valid_count: Some(plain.count),
            error_count: Some(0),
        }
    };
    starts.into_iter().map(bucket).collect()
}

#[test]
fn buckets_agree_until_one_is_changed() {
    let known = known();
    for (level, count) in Level::ALL.into_iter().zip([4, 3, 2, 2]) {
        let right = answer(level, &known);
        assert_eq!(buckets(level, &known, &right), Ok(count), "{level:?}");
        let wrongs: [fn(&mut Vec<v1::Bucket>); 13] = [
            |found| found.truncate(1),
            |found| found.push(found[0]),
            |found| found[1].start_us += 1,
            |found| found[0].end_us += 1,
            |found| found[0].count += 1,
            |found| found[0].sum = Some(0.0),
            |found| found[0].avg = found[0].avg.map(|avg| avg * (1.0 + 1e-8)),
            |found| found[1].min = None,
            |found| found[1].max = Some(99.0),
            |found| found[0].stddev = found[0].stddev.map_or(Some(0.0), |stddev| Some(stddev + 0.01)),
            |found| found[0].median = found[0].median.map_or(Some(1.0), |_| None),
            |found| found[0].p95 = found[0].p95.map_or(Some(1.0), |p95| Some(p95 - 0.1)),
            |found| found[0].valid_count = Some(0),
        ];
        for (n, wrong) in wrongs.into_iter().enumerate() {
            let mut found = right.clone();
            wrong(&mut found);
            assert!(buckets(level, &known, &found).is_err(), "{level:?}: change {n} was not seen");
        }
    }
}

#[test]
fn a_reading_that_is_missing_is_seen() {
    let mut known = known();
    let right: Vec<_> = known
        .iter()
        .map(|(time_us, values)| v1::StoredReading {
            time_us: *time_us,
            value: values[0],
            ..v1::StoredReading::default()
        })
        .collect();
    assert_eq!(readings(&known, &right), Ok(6));
    assert_eq!(newest(&known, right.last()), Ok(1));
    assert!(newest(&known, right.first()).is_err() && newest(&known, None).is_err());
    let mut turned = right.clone();
    turned.swap(0, 1);
    assert!(readings(&known, &turned).is_err(), "not in order");
    assert!(readings(&known, &[&right[..], &right[5..]].concat()).is_err(), "one is there twice");
    known.insert(31 * HOUR_US, vec![1.0]);
    assert!(readings(&known, &right).is_err() && newest(&known, right.last()).is_err());
}

#[test]
fn a_farms_day_with_another_figure_is_seen() {
    let key = ("2026-11-24".to_owned(), "collar".to_owned(), "rest".to_owned(), "h/d".to_owned());
    let devices = [("a".to_owned(), vec![1.0, 2.0]), ("b".to_owned(), vec![6.0])];
    let known = BTreeMap::from([(key, BTreeMap::from(devices))]);
    let right = v1::FarmDay {
        date: "2026-11-24".to_owned(),
        device_type: "collar".to_owned(),
        metric_name: "rest".to_owned(),
        metric_unit: "h/d".to_owned(),
        devices: 2,
        count: 3,
        avg: 3.0,
        min: 1.0,
        max: 6.0,
        stddev: Some(7.0_f64.sqrt()),
    };
    assert_eq!(farm_days(&known, std::slice::from_ref(&right)), Ok(1));
    assert!(farm_days(&known, &[]).is_err() && farm_days(&known, &[right.clone(), right.clone()]).is_err());
    let wrongs: [fn(&mut v1::FarmDay); 7] = [
        |day| day.date = "2026-11-25".to_owned(),
        |day| day.devices = 1,
        |day| day.count = 2,
        |day| day.avg = 3.1,
        |day| day.min = 2.0,
        |day| day.max = 5.0,
        |day| day.stddev = None,
    ];
    for (n, wrong) in wrongs.into_iter().enumerate() {
        let mut found = right.clone();
        wrong(&mut found);
        assert!(farm_days(&known, &[found]).is_err(), "change {n} was not seen");
    }
}

#[test]
fn milk_with_another_figure_is_seen() {
    let milking = |hour: i64, yield_kg| v1::Milking {
        time_us: hour * HOUR_US,
        animal_id: 17,
        yield_kg,
        conductivity_ms: (hour == 5).then_some(4.5),
        ..v1::Milking::default()
    };
    let known = [milking(5, 12.0), milking(17, 14.0), milking(29, 9.0)];
    let day = |date: &str, count, total, conductivity| v1::MilkDay {
        date: date.to_owned(),
        animal_id: 17,
        total_yield_kg: total,
        avg_yield_per_session: total / f64::from(count),
        milking_count: count,
        avg_conductivity: conductivity,
        ..v1::MilkDay::default()
    };
    let right = [day("1970-01-01", 2, 26.0, Some(4.5)), day("1970-01-02", 1, 9.0, None)];
    assert_eq!(milk_days(&known, &right), Ok(2));
    assert!(milk_days(&known, &right[..1]).is_err() && milk_days(&known[..2], &right).is_err());
    let wrongs: [fn(&mut v1::MilkDay); 5] = [
        |day| day.animal_id = 18,
        |day| day.milking_count = 3,
        |day| day.total_yield_kg = 27.0,
        |day| day.avg_conductivity = None,
        |day| day.avg_fat = Some(0.0),
    ];
    for (n, wrong) in wrongs.into_iter().enumerate() {
        let mut found = right.clone();
        wrong(&mut found[0]);
        assert!(milk_days(&known, &found).is_err(), "change {n} was not seen");
    }
}

#[test]
fn an_animal_and_a_device_of_another_time_are_seen() {
    let known = known();
    let (time_us, value) = (30 * HOUR_US, 35.0);
    let right = v1::AnimalMetric {
        latest: Some(v1::StoredReading { time_us, value, ..v1::StoredReading::default() }),
        statistics: Some(v1::Bucket {
            count: 6,
            avg: Some(115.0 / 6.0),
            min: Some(10.0),
            max: Some(35.0),
            stddev: Plain::of(known.values().flatten().copied()).and_then(|plain| plain.stddev),
            ..v1::Bucket::default()
        }),
        ..v1::AnimalMetric::default()
    };
    assert_eq!(animal(&known, Some(&right)), Ok(1));
    assert!(animal(&known, None).is_err());
    let statistics = right.statistics.map(|statistics| v1::Bucket { count: 5, ..statistics });
    assert!(animal(&known, Some(&v1::AnimalMetric { statistics, ..right.clone() })).is_err());
    assert!(animal(&known, Some(&v1::AnimalMetric { latest: None, ..right })).is_err());

    let device = v1::Device { last_seen_us: time_us, ..v1::Device::default() };
    assert_eq!(last_seen(&known, Some(&device)), Ok(1));
    assert!(last_seen(&known, None).is_err());
    assert!(last_seen(&known, Some(&v1::Device { last_seen_us: time_us - 1, ..device })).is_err());
}
