use super::*;

const ID: SeriesId = SeriesId(1);

fn catalogue(newest_hour: Option<i64>) -> Catalogue {
    let catalogue = Catalogue::new();
    catalogue.add(ID, 0, newest_hour);
    catalogue
}

fn hour(catalogue: &Catalogue) -> Option<i64> {
    catalogue.newest(ID).expect("it is there").hour()
}

#[test]
fn a_search_lowers_the_hour_and_a_commit_raises_it() {
    let catalogue = catalogue(Some(100));
    let known = catalogue.newest(ID).unwrap();
    catalogue.learn(ID, known, Some(-7));
    assert_eq!(hour(&catalogue), Some(-7));
    assert_eq!(catalogue.begin(ID, 3), Some(0));
    assert_eq!(hour(&catalogue), Some(3), "before it can be seen");
    catalogue.end([ID].into_iter());
    assert_eq!(hour(&catalogue), Some(3));
    catalogue.begin(ID, -100);
    catalogue.end([ID].into_iter());
    assert_eq!(hour(&catalogue), Some(3));
    let known = catalogue.newest(ID).unwrap();
    catalogue.learn(ID, known, None);
    assert_eq!(hour(&catalogue), None);
}

/// What a search found is not news if a commit was under way at any moment of it.
#[test]
fn a_search_during_a_commit_teaches_nothing() {
    let catalogue = catalogue(Some(100));
    // From before the commit to its middle, then to its end.
    let before = catalogue.newest(ID).unwrap();
    catalogue.begin(ID, 50);
    catalogue.learn(ID, before, Some(10));
    assert_eq!(hour(&catalogue), Some(100));
    let within = catalogue.newest(ID).unwrap();
    catalogue.learn(ID, within, Some(10));
    assert_eq!(hour(&catalogue), Some(100));
    catalogue.end([ID].into_iter());
    catalogue.learn(ID, before, Some(10));
    catalogue.learn(ID, within, Some(10));
    assert_eq!(hour(&catalogue), Some(100));
    let after = catalogue.newest(ID).unwrap();
    catalogue.learn(ID, after, Some(50));
    assert_eq!(hour(&catalogue), Some(50));
}

#[test]
fn a_count_that_wraps_keeps_the_hour() {
    let catalogue = catalogue(None);
    let series = catalogue.series.read();
    let newest = &series[1].as_ref().unwrap().newest;
    newest.store(NewestHour { hour: -5, raised: (1 << 24) - 1 }.pack(), Ordering::Release);
    drop(series);
    catalogue.end([ID].into_iter());
    assert_eq!(catalogue.newest(ID), Some(NewestHour { hour: -5, raised: 0 }));
}

#[test]
fn unknown_series_have_no_device() {
    let catalogue = catalogue(None);
    assert_eq!(catalogue.begin(SeriesId(0), 1), None);
    assert_eq!(catalogue.begin(SeriesId(2), 1), None);
    assert_eq!(catalogue.newest(SeriesId(u32::MAX)), None);
    assert_eq!((catalogue.next(), catalogue.next_device()), (2, 1));
}

#[test]
fn series_of_a_device_are_cached_until_there_is_a_new_one() {
    let catalogue = catalogue(None);
    let key_of = |device_uid: &str, metric_name: &str| SeriesKey {
        farm_id: 1,
        device_uid: device_uid.into(),
        device_type: "collar".into(),
        metric_name: metric_name.into(),
        metric_unit: "1".into(),
    };
    let key = |metric_name| key_of("collar-1", metric_name);
    let device = SeriesFilter { device_uid: Some("collar-1".into()), ..SeriesFilter::default() };
    let one = vec![(ID, key("activity"))];
    assert_eq!(catalogue.of_device(&device), None);
    catalogue.cache_device(&device, &one, 1);
    assert_eq!(catalogue.of_device(&device), Some(one.clone()));
    let of_farm = SeriesFilter { farm_id: Some(1), ..device.clone() };
    assert_eq!(catalogue.of_device(&of_farm), None, "another farm may have a device of that name");
    let other_metric = SeriesFilter { metric_names: vec!["rumination".into()], ..device.clone() };
    assert_eq!(catalogue.of_device(&other_metric), Some(Vec::new()));
    assert_eq!(catalogue.of_device(&SeriesFilter { after: Some(ID), ..device.clone() }), Some(Vec::new()));

    catalogue.cache_device(&of_farm, &one, 1);
    catalogue.add_new(SeriesId(2), &key_of("collar-2", "activity"), 1);
    assert_eq!(catalogue.of_device(&device), Some(one.clone()), "it is another device's");
    catalogue.add_new(SeriesId(3), &key("rumination"), 0);
    assert_eq!((catalogue.of_device(&device), catalogue.of_device(&of_farm)), (None, None));
    catalogue.cache_device(&device, &one, 2);
    assert_eq!(catalogue.of_device(&device), None, "it was looked for before there were three");
    let many: Vec<_> = (0..=MOST_OF_DEVICE as u32).map(|n| (SeriesId(n), key("activity"))).collect();
    catalogue.cache_device(&device, &many, 3);
    assert_eq!(catalogue.of_device(&device), None, "too many");
}
