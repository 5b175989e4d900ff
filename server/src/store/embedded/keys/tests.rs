use proptest::prelude::*;

use super::*;

fn series_key() -> impl Strategy<Value = SeriesKey> {
    (any::<i32>(), "[\\x00ab\\u{ff}]{0,3}", "[\\x00a]{0,2}", "[\\x00a]{0,2}", "a?").prop_map(
        |(farm_id, device_uid, device_type, metric_name, metric_unit)| SeriesKey {
            farm_id,
            device_uid,
            device_type,
            metric_name,
            metric_unit,
        },
    )
}

fn block_key() -> impl Strategy<Value = BlockKey> {
    let time = prop_oneof![any::<i64>(), -2 * DAY_US..2 * DAY_US];
    (any::<u32>(), time, any::<u64>()).prop_map(|(series, first_us, stamp)| BlockKey {
        series: SeriesId(series),
        first_us,
        stamp,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys_sort_as_what_they_stand_for(a in series_key(), b in series_key()) {
        prop_assert_eq!(series(&a).cmp(&series(&b)), a.cmp(&b));
        let device_of = |key: &SeriesKey| device(key.farm_id, &key.device_uid);
        let devices = (a.farm_id, &a.device_uid).cmp(&(b.farm_id, &b.device_uid));
        prop_assert_eq!(device_of(&a).cmp(&device_of(&b)), devices);
        let is_below = series(&a).starts_with(&series_of_device(b.farm_id, &b.device_uid));
        prop_assert_eq!(is_below, (a.farm_id, &a.device_uid) == (b.farm_id, &b.device_uid));
    }

    #[test]
    fn keys_come_back(key in series_key(), time_us in any::<i64>()) {
        prop_assert_eq!(parse_series(&series(&key)), Ok(key.clone()));
        prop_assert_eq!(parse_device(&device(key.farm_id, &key.device_uid)), Ok((key.farm_id, key.device_uid)));
        prop_assert_eq!(parse_tombstone(&tombstone(time_us)), Ok(time_us));
        prop_assert_eq!(parse_chunk(&chunk(time_us)), Some(time_us));
    }

    #[test]
    fn blocks_of_a_day_sort_by_hour_series_and_time(a in block_key(), b in block_key()) {
        prop_assert_eq!(BlockKey::decode(a.day(), &a.encode()), Ok(a));
        prop_assert!(a.encode().starts_with(&blocks_of_hour(hour_of(a.first_us), a.series)));
        if a.day() == b.day() {
            let order = |key: BlockKey| (hour_of(key.first_us), key.series, key.first_us, key.stamp);
            prop_assert_eq!(a.encode().cmp(&b.encode()), order(a).cmp(&order(b)));
        }
    }

    #[test]
    fn any_bytes_are_a_key_or_an_error(bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let _ = parse_series(&bytes);
        let _ = parse_device(&bytes);
        let _ = parse_quarantine(&bytes);
        let _ = (parse_numbered(&bytes), parse_touches(&bytes), parse_tombstone(&bytes));
        if let Ok(key) = BlockKey::decode(0, &bytes) {
            prop_assert_eq!(key.encode().to_vec(), bytes);
        }
    }
}
