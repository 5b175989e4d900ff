//! What every store does.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, Ordering},
};

use async_trait::async_trait;
use herdstream_server::{
    model::{
        Micros, Offset, ProducerRow, Quarantined, Reading, RejectionKind, SeriesId, SeriesKey, Totals, now_us,
    },
    store::{
        Batch, Bucket, BucketRange, Cut, Device, Guard, Level, Look, MilkRange, MilkingRange, Outcome,
        ProducerCommit, QuarantineSpan, Refresh, Retention, SeriesFilter, SeriesRange, Store, StoreError,
        Tag,
    },
};
use tokio::task::JoinHandle;

use super::rows::{
    DAY, HOUR, MINUTE, NOON, SECOND, batch, batches, commit, commit_one, everything, group, milked, milking,
    opening, producer, quarantined, range, reading, resolve, series_key, sorted_values, values, write,
};

/// An empty store of some profile.
#[async_trait]
pub(crate) trait Fixture: Send {
    fn store(&self) -> Arc<dyn Store>;

    /// Whether it has a connection for commits while another one looks; a database in this process has one in all.
    fn looks_beside_commits(&self) -> bool {
        true
    }

    /// Closes the store and opens it again, as after a restart.
    async fn reopen(&mut self);
}

/// Has a profile, given by an expression that makes a [`Fixture`], obey every law.
#[macro_export]
macro_rules! obeys_the_contract {
    ($fixture:expr) => {
        $crate::obeys_the_contract! { $fixture =>
            series_keep_their_numbers,
            find_series_by_farm_device_and_metric,
            readings_come_back_as_they_went_in,
            a_range_is_half_open_and_in_order_of_time,
            late_and_equal_readings_are_all_kept,
            pages_of_a_range_make_up_the_whole,
            a_range_ends_once_its_texts_are_long,
            the_latest_is_the_newest_and_among_equals_the_last_committed,
            milkings_by_farm_animal_and_time,
            devices_tell_what_was_last_heard,
            devices_are_paged_in_order,
            activity_counts_by_recency,
            quarantine_is_listed_by_offset_kind_and_index,
            an_open_raises_the_epoch,
            a_fenced_producer_leaves_the_group_and_the_rest_commits,
            an_open_takes_effect_although_its_batches_are_fenced,
            a_commit_moves_the_offset_and_adds_the_totals,
            a_retried_group_counts_once,
            a_group_built_anew_counts_once,
            a_group_built_anew_tells_the_same_refusals,
            anonymous_writes_have_no_ledger_row,
            readers_see_whole_commits,
            newest_values_are_of_the_same_commits,
            a_look_sees_one_moment,
            all_questions_of_a_look_see_the_same_commits,
            a_question_that_cannot_be_stored_is_no_failure,
            a_restart_keeps_everything,
            a_closed_store_refuses,
        }
    };
    ($fixture:expr => $($law:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $law() {
                let mut fixture = $fixture;
                $crate::store_contract::laws::$law(&mut fixture).await;
            }
        )*
    };
}

fn committed(outcome: &Outcome) -> &ProducerRow {
    match outcome {
        Outcome::Committed(row, rejections) => {
            assert!(rejections.is_empty(), "{rejections:?}");
            row
        }
        Outcome::Fenced(row) => panic!("fenced by {row:?}"),
    }
}

fn fenced(outcome: &Outcome) -> &ProducerRow {
    match outcome {
        Outcome::Fenced(row) => row,
        Outcome::Committed(row, _) => panic!("committed as {row:?}"),
    }
}

pub(crate) async fn series_keep_their_numbers(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let keys: Vec<_> = [4, 2, 4, 7].map(series_key).into();
    let first = store.resolve_series(&keys).await.unwrap();
    assert_eq!(first[0], first[2]);
    assert_ne!(first[0], first[1]);
    assert_ne!(first[1], first[3]);
    let near = SeriesKey { metric_unit: String::new(), ..series_key(4) };
    let other = store.resolve_series(&[near]).await.unwrap()[0];
    assert!(!first.contains(&other), "another unit is another series");
    assert_eq!(store.resolve_series(&keys).await.unwrap(), first);
    assert!(store.resolve_series(&[]).await.unwrap().is_empty());

    fixture.reopen().await;
    let store = fixture.store();
    assert_eq!(store.resolve_series(&keys).await.unwrap(), first);
    let fresh = resolve(&*store, 9).await;
    assert!(!first.contains(&fresh) && fresh != other, "{fresh:?} was given before");
}

pub(crate) async fn find_series_by_farm_device_and_metric(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let key = |farm_id, uid: &str, metric: &str| SeriesKey {
        farm_id,
        device_uid: uid.into(),
        metric_name: metric.into(),
        ..series_key(0)
    };
    let keys = [key(2, "b", "yield"), key(1, "a", "rumination"), key(1, "ab", "yield"), key(1, "a", "yield")];
    let ids = store.resolve_series(&keys).await.unwrap();
    let find = async |farm_id, uid: Option<&str>, metrics: &[&str]| {
        let filter = SeriesFilter {
            farm_id,
            device_uid: uid.map(Into::into),
            metric_names: metrics.iter().map(ToString::to_string).collect(),
            ..SeriesFilter::default()
        };
        let found = store.find_series(filter).await.unwrap();
        assert!(found.is_sorted_by_key(|(id, _)| *id), "{found:?}");
        let positions = found.into_iter().map(|(id, key)| {
            let position = ids.iter().position(|known| *known == id).expect("it is one of ours");
            assert_eq!(key, keys[position]);
            position
        });
        let mut positions: Vec<_> = positions.collect();
        positions.sort_unstable();
        positions
    };
    assert_eq!(find(None, None, &[]).await, [0, 1, 2, 3]);
    assert_eq!(find(Some(1), None, &[]).await, [1, 2, 3]);
    assert_eq!(find(Some(1), Some("a"), &[]).await, [1, 3]);
    assert_eq!(find(None, Some("b"), &[]).await, [0]);
    assert_eq!(find(None, None, &["yield"]).await, [0, 2, 3]);
    assert_eq!(find(Some(1), Some("a"), &["yield", "rumination"]).await, [1, 3]);
    assert_eq!(find(Some(3), None, &[]).await, [0; 0]);
}

pub(crate) async fn readings_come_back_as_they_went_in(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    let mut full = reading(series, NOON, -0.0);
    full.is_interpolated = true;
    full.animal_id = Some(i32::MAX);
    full.zone_id = Some(1);
    full.battery_level = Some(100);
    full.signal_strength = Some(-120);
    full.session_id = Some("früh".into());
    full.metadata = Some(r#"{"firmware": "2.1"}"#.into());
    let odd = [f64::MIN_POSITIVE, f64::MAX, 0.1 + 0.2, 38.6, 1e15, 12.345_678_9, -273.15];
    let mut stored = vec![full];
    stored.extend((1..).zip(odd).map(|(n, value)| reading(series, NOON + n * 250_001, value)));
    write(&*store, stored.clone()).await;
    let found = everything(&*store, series).await;
    assert_eq!(found, stored);
    assert!(found[0].value.is_sign_negative(), "-0.0 keeps its sign");
}

pub(crate) async fn a_range_is_half_open_and_in_order_of_time(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let [series, other] = [resolve(&*store, 0).await, resolve(&*store, 1).await];
    // Around midnight, an hour and the start of 1970.
    let times = [-DAY, -1, 0, NOON - HOUR, NOON - 1, NOON, NOON + 1, NOON + 12 * HOUR - 1, NOON + 12 * HOUR];
    let mut readings: Vec<_> = times.iter().map(|&time_us| reading(series, time_us, 1.0)).collect();
    readings.reverse();
    readings.extend(times.map(|time_us| reading(other, time_us, 2.0)));
    write(&*store, readings).await;
    for &start_us in &times {
        for end_us in times.iter().flat_map(|time_us| [*time_us, time_us + 1]) {
            let found = range(&*store, series, start_us, end_us).await;
            let expected: Vec<_> =
                times.into_iter().filter(|time_us| (start_us..end_us).contains(time_us)).collect();
            let found: Vec<_> = found.iter().map(|reading| reading.time_us).collect();
            assert_eq!(found, expected, "from {start_us} to {end_us}");
        }
    }
}

pub(crate) async fn late_and_equal_readings_are_all_kept(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    // Blocks that overlap: a wide one, one inside it, equal times in one commit and across commits.
    let wide = (0..10).map(|n| reading(series, NOON + n * MINUTE, f64::from(n as i32)));
    write(&*store, wide.collect()).await;
    write(
        &*store,
        vec![reading(series, NOON + 3 * MINUTE, 30.0), reading(series, NOON + 3 * MINUTE + 1, 31.0)],
    )
    .await;
    write(
        &*store,
        vec![reading(series, NOON, 40.0), reading(series, NOON, 41.0), reading(series, NOON, 40.0)],
    )
    .await;
    write(&*store, vec![reading(series, NOON - 5 * DAY, 50.0)]).await;

    let found = everything(&*store, series).await;
    assert!(found.is_sorted_by_key(|reading| reading.time_us), "{found:?}");
    let expected = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 30.0, 31.0, 40.0, 40.0, 41.0, 50.0];
    assert_eq!(sorted_values(&found), expected);
    let again = everything(&*store, series).await;
    assert_eq!(found, again, "equal times have a fixed order");
    let middle = range(&*store, series, NOON + 3 * MINUTE, NOON + 4 * MINUTE).await;
    assert_eq!(sorted_values(&middle), [3.0, 30.0, 31.0]);

    // More equal times in one commit than any block holds.
    let many: Vec<_> = (0..3000).map(|n| reading(series, NOON + DAY, f64::from(n))).collect();
    let expected = values(&many);
    write(&*store, many).await;
    assert_eq!(sorted_values(&range(&*store, series, NOON + DAY, NOON + DAY + 1).await), expected);
}

pub(crate) async fn pages_of_a_range_make_up_the_whole(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    for commit in 0..4 {
        let readings =
            (0..50).map(|n| reading(series, NOON + n % 7 * HOUR + commit % 2, (commit * 100 + n) as f64));
        write(&*store, readings.collect()).await;
    }
    let whole = everything(&*store, series).await;
    assert_eq!(whole.len(), 200);
    for limit in [1, 7, 64, 200, 1000] {
        let mut pages = Vec::new();
        loop {
            let bounds = SeriesRange {
                series,
                start_us: NOON,
                end_us: NOON + DAY,
                skip: pages.len(),
                limit,
                text_bytes: usize::MAX,
                tag: None,
            };
            let page = store.range(bounds).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            pages.extend(page);
        }
        assert_eq!(values(&pages), values(&whole), "in pages of {limit}");
    }
    let none = SeriesRange {
        series,
        start_us: NOON,
        end_us: NOON + DAY,
        skip: 0,
        limit: 0,
        text_bytes: usize::MAX,
        tag: None,
    };
    assert!(store.range(none).await.unwrap().is_empty());
}

pub(crate) async fn a_range_ends_once_its_texts_are_long(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    let readings = (0..10).map(|n| {
        let mut reading = reading(series, NOON + n, n as f64);
        reading.session_id = Some("12345".into());
        reading.metadata = (n % 2 == 0).then(|| r#"{"a": "1234567"}"#.into());
        reading
    });
    write(&*store, readings.collect()).await;
    // 21, 5, 21, 5 … bytes, counted from the first that is not skipped.
    for (skip, text_bytes, expected) in
        [(0, 1, 1), (0, 21, 1), (0, 22, 2), (0, 27, 3), (1, 5, 1), (9, 1000, 1)]
    {
        let range = SeriesRange {
            series,
            start_us: NOON,
            end_us: NOON + DAY,
            skip,
            limit: usize::MAX,
            text_bytes,
            tag: None,
        };
        let found = store.range(range).await.unwrap();
        assert_eq!(found.len(), expected, "{text_bytes} bytes after {skip}");
        assert_eq!(found[0].value, skip as f64);
    }
}

pub(crate) async fn the_latest_is_the_newest_and_among_equals_the_last_committed(fixture: &mut dyn Fixture) {
    /// Ten minutes before it lie in the same hour.
    const NOW: Micros = NOON + 30 * MINUTE;
    let [first, second, empty] = {
        let store = fixture.store();
        [resolve(&*store, 0).await, resolve(&*store, 1).await, resolve(&*store, 2).await]
    };
    let latest = async |fixture: &mut dyn Fixture| {
        let found = fixture.store().latest(&[first, empty, second]).await.unwrap();
        assert!(found.iter().all(|reading| reading.series != empty), "{found:?}");
        let of = |series| found.iter().find(|reading| reading.series == series).map(|reading| reading.value);
        // The same with the series that are found.
        let found = fixture.store().find_latest(SeriesFilter::default()).await.unwrap();
        let expected = [first, second, empty].map(|series| (series, of(series)));
        let found: Vec<_> =
            found.into_iter().map(|(id, _, newest)| (id, newest.map(|reading| reading.value))).collect();
        assert_eq!(found, expected);
        let key = series_key(1);
        let filter = SeriesFilter {
            farm_id: Some(key.farm_id),
            device_uid: Some(key.device_uid),
            metric_names: vec![key.metric_name],
            after: Some(first),
            limit: Some(1),
        };
        let one = fixture.store().find_latest(filter).await.unwrap();
        assert_eq!(one.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), [second]);
        (of(first), of(second))
    };
    assert_eq!(latest(fixture).await, (None, None));
    // A search that finds nothing must not hide what comes after it.
    write(&*fixture.store(), vec![reading(first, NOW - 3 * DAY, 1.0)]).await;
    assert_eq!(latest(fixture).await, (Some(1.0), None));
    write(&*fixture.store(), vec![reading(second, NOW, 2.0), reading(first, NOW, 3.0)]).await;
    assert_eq!(latest(fixture).await, (Some(3.0), Some(2.0)));
    // Late, and equal.
    write(&*fixture.store(), vec![reading(first, NOW - HOUR, 4.0), reading(second, NOW, 5.0)]).await;
    assert_eq!(latest(fixture).await, (Some(3.0), Some(5.0)));
    // Inside an earlier block that ends at the same time.
    let wide = vec![reading(first, NOW - 10 * MINUTE, 6.0), reading(first, NOW, 7.0)];
    write(&*fixture.store(), wide).await;
    assert_eq!(latest(fixture).await, (Some(7.0), Some(5.0)));
    fixture.reopen().await;
    assert_eq!(latest(fixture).await, (Some(7.0), Some(5.0)));
    write(&*fixture.store(), vec![reading(second, NOW + DAY, 8.0)]).await;
    assert_eq!(latest(fixture).await, (Some(7.0), Some(8.0)));
    // Of this minute, and beside it one that is old.
    write(&*fixture.store(), vec![reading(second, now_us(), 9.0)]).await;
    assert_eq!(latest(fixture).await, (Some(7.0), Some(9.0)));
}

pub(crate) async fn milkings_by_farm_animal_and_time(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let milkings = vec![
        milking(1, 10, NOON + 2),
        milking(1, 11, NOON),
        milking(1, 10, NOON),
        milking(2, 10, NOON),
        milking(1, 10, NOON + HOUR),
        milking(1, 10, NOON),
    ];
    let stored = ProducerCommit { batches: vec![milked(milkings.clone())], ..commit(producer(1)) };
    commit_one(&*store, stored).await;
    let find = async |farm_id, animal_id, start_us, end_us, skip, limit| {
        let range = MilkingRange { farm_id, animal_id, start_us, end_us, skip, limit };
        store.milkings(range).await.unwrap()
    };
    let all = find(1, None, NOON, NOON + DAY, 0, 100).await;
    let times: Vec<_> = all.iter().map(|milking| milking.time_us - NOON).collect();
    assert_eq!(times, [0, 0, 0, 2, HOUR]);
    assert_eq!(find(1, Some(11), NOON, NOON + DAY, 0, 100).await, [milkings[1].clone()]);
    assert_eq!(find(2, None, NOON, NOON + 1, 0, 100).await, [milkings[3].clone()]);
    assert_eq!(find(1, Some(10), NOON, NOON + HOUR, 0, 100).await.len(), 3, "the end is excluded");
    assert_eq!(find(1, None, NOON, NOON + DAY, 1, 3).await, all[1..4]);
    assert!(find(3, None, NOON, NOON + DAY, 0, 100).await.is_empty());
    // Whether there is any at all.
    for (farm_id, any) in [(1, true), (2, true), (3, false)] {
        assert_eq!(find(farm_id, None, Micros::MIN, Micros::MAX, 0, 1).await.len(), usize::from(any));
        let cut = Cut::Level { level: Level::Day, start_us: 0, end_us: Level::Day.floor(Micros::MAX) };
        let milk = store.milk(MilkRange { farm_id, animal_id: None, cut }).await.unwrap();
        assert_eq!(!milk.is_empty(), any, "{milk:?}");
    }
}

pub(crate) async fn devices_tell_what_was_last_heard(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    // Series 0 to 4 are one device, 5 another, 10 a third without readings.
    let [a, b, other, _silent] = [
        resolve(&*store, 0).await,
        resolve(&*store, 1).await,
        resolve(&*store, 5).await,
        resolve(&*store, 10).await,
    ];
    let told = |series, time_us, battery_level, signal_strength| {
        let mut reading = reading(series, time_us, 1.0);
        reading.battery_level = battery_level;
        reading.signal_strength = signal_strength;
        reading
    };
    write(&*store, vec![told(a, NOON, Some(90), Some(-60)), told(b, NOON + SECOND, None, Some(-70))]).await;
    write(&*store, vec![told(other, NOON, None, None)]).await;
    // Late: it changes nothing but what is unknown.
    write(&*store, vec![told(b, NOON - HOUR, Some(95), Some(-50)), told(other, NOON - HOUR, Some(55), None)])
        .await;
    let expected = |uid: &str, last_seen_us, battery_level, signal_strength| Device {
        farm_id: 1,
        device_uid: uid.into(),
        device_type: "collar".into(),
        last_seen_us,
        battery_level,
        signal_strength,
    };
    // Among equal times the one committed last counts, as for the latest.
    write(&*store, vec![told(a, NOON, Some(89), None)]).await;
    let expected = [
        expected("collar-0", Some(NOON + SECOND), Some(89), Some(-70)),
        expected("collar-1", Some(NOON), Some(55), None),
        expected("collar-2", None, None, None),
    ];
    assert_eq!(store.devices(None, None, 100).await.unwrap(), expected);
    drop(store);
    fixture.reopen().await;
    assert_eq!(fixture.store().devices(Some(1), None, 100).await.unwrap(), expected);
}

pub(crate) async fn devices_are_paged_in_order(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let names = ["b", "a", "aa", "é", "A"];
    let keys: Vec<_> = [9, 1, 300]
        .into_iter()
        .flat_map(|farm_id| names.map(|uid| SeriesKey { farm_id, device_uid: uid.into(), ..series_key(0) }))
        .collect();
    store.resolve_series(&keys).await.unwrap();
    let mut expected: Vec<_> = keys.iter().map(|key| (key.farm_id, key.device_uid.clone())).collect();
    expected.sort();
    for (farm_id, limit) in [(None, 1), (None, 4), (None, 100), (Some(9), 2), (Some(2), 2)] {
        let expected = expected.iter().filter(|(farm, _)| farm_id.is_none_or(|wanted| wanted == *farm));
        let mut found: Vec<(i32, String)> = Vec::new();
        loop {
            let page = store.devices(farm_id, found.last().cloned(), limit).await.unwrap();
            assert!(page.len() <= limit);
            if page.is_empty() {
                break;
            }
            found.extend(page.into_iter().map(|device| (device.farm_id, device.device_uid)));
        }
        assert!(found.iter().eq(expected), "farm {farm_id:?} by {limit}: {found:?}");
    }
}

pub(crate) async fn activity_counts_by_recency(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let [recent, old] = [resolve(&*store, 0).await, resolve(&*store, 5).await];
    let ages = [10 * SECOND, 30 * MINUTE, 58 * MINUTE, 62 * MINUTE, 23 * HOUR, 25 * HOUR];
    write(&*store, ages.map(|age| reading(recent, NOON - age, 1.0)).into()).await;
    write(&*store, vec![reading(old, NOON - 10 * MINUTE, 1.0), reading(recent, NOON - 10 * SECOND, 1.0)])
        .await;
    let activity = store.activity(NOON).await.unwrap();
    assert_eq!(activity.readings_last_hour, 5);
    assert_eq!(activity.readings_last_24h, 7);
    assert_eq!(activity.active_devices, 1);
    drop(store);
    fixture.reopen().await;
    assert_eq!(fixture.store().activity(NOON).await.unwrap(), activity);
    write(&*fixture.store(), vec![reading(old, NOON, 1.0)]).await;
    let later = fixture.store().activity(NOON + 2 * MINUTE).await.unwrap();
    assert_eq!((later.readings_last_24h, later.active_devices), (8, 2));
    let much_later = fixture.store().activity(NOON + 2 * DAY).await.unwrap();
    assert_eq!((much_later.readings_last_24h, much_later.active_devices), (0, 0));
}

pub(crate) async fn quarantine_is_listed_by_offset_kind_and_index(fixture: &mut dyn Fixture) {
    use RejectionKind::{Milking, Reading, Series};
    let store = fixture.store();
    let mut refused: Vec<_> =
        [(3, Reading, 0), (2, Milking, 1), (2, Reading, 7), (2, Reading, 256), (9, Series, 0)]
            .map(|(offset, kind, index)| quarantined(offset, kind, index))
            .into();
    for id in [1, 2] {
        let stored = ProducerCommit { quarantined: refused.clone(), ..commit(producer(id)) };
        commit_one(&*store, stored).await;
    }
    refused.sort_by_key(|kept| (kept.rejection.offset, kept.rejection.kind, kept.rejection.index));
    let list = async |first: (Offset, u8, u32), last, limit| -> Vec<Quarantined> {
        store.quarantine(producer(1), QuarantineSpan { first, last }, limit).await.unwrap()
    };
    let everything = list((0, 0, 0), Offset::MAX, 100).await;
    assert_eq!(everything.len(), 5);
    for (found, expected) in everything.iter().zip(&refused) {
        assert_eq!(found.rejection, expected.rejection);
        assert_eq!((found.received_us, &found.series), (expected.received_us, &expected.series));
        assert_eq!(found.content, expected.content, "{:?}", found.rejection);
    }
    let places = |kept: &[Quarantined]| -> Vec<_> {
        kept.iter().map(|kept| (kept.rejection.offset, kept.rejection.index)).collect()
    };
    assert_eq!(places(&list((2, Reading as u8, 8), 3, 100).await), [(2, 256), (2, 1), (3, 0)]);
    assert_eq!(places(&list((0, 0, 0), 9, 2).await), [(2, 7), (2, 256)]);
    assert_eq!(places(&list((4, 0, 0), 8, 100).await), []);
    let nobody = QuarantineSpan { first: (0, 0, 0), last: Offset::MAX };
    assert!(store.quarantine(producer(3), nobody, 100).await.unwrap().is_empty());
}

pub(crate) async fn an_open_raises_the_epoch(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    assert_eq!(store.producer(producer(1)).await.unwrap(), None);
    for epoch in 1..4 {
        let outcome = commit_one(&*store, opening(producer(1), &format!("process {epoch}"))).await;
        let row = committed(&outcome);
        assert_eq!((row.epoch, row.committed_offset, row.totals), (epoch, 0, Totals::default()));
        assert_eq!((&*row.gateway_id, &*row.instance_id), ("barn", &*format!("process {epoch}")));
        assert_eq!(store.producer(producer(1)).await.unwrap().as_ref(), Some(row));
    }
    assert_eq!(store.producer(producer(2)).await.unwrap(), None);
}

pub(crate) async fn a_fenced_producer_leaves_the_group_and_the_rest_commits(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    for id in [1, 2, 3] {
        commit_one(&*store, opening(producer(id), "a")).await;
    }
    commit_one(&*store, opening(producer(2), "b")).await;
    let one = |value| vec![reading(series, NOON, value)];
    // 1 fits; 2 has an old epoch; 3 starts too late; 4 was never opened.
    let mut stale = batches(producer(2), 1, 0, 1, one(2.0));
    stale.quarantined = vec![quarantined(1, RejectionKind::Reading, 0)];
    stale.batches.push(milked(vec![milking(1, 2, NOON)]));
    let outcomes = store
        .commit(group(vec![
            batches(producer(1), 1, 0, 1, one(1.0)),
            stale,
            batches(producer(3), 1, 5, 6, one(3.0)),
            batches(producer(4), 1, 0, 1, one(4.0)),
        ]))
        .await
        .unwrap();
    assert_eq!(committed(&outcomes[0]).committed_offset, 1);
    assert_eq!((fenced(&outcomes[1]).epoch, &*fenced(&outcomes[1]).instance_id), (2, "b"));
    assert_eq!(fenced(&outcomes[2]).committed_offset, 0);
    assert_eq!(fenced(&outcomes[3]), &ProducerRow::default());
    assert_eq!(values(&everything(&*store, series).await), [1.0]);
    let span = QuarantineSpan { first: (0, 0, 0), last: Offset::MAX };
    assert!(store.quarantine(producer(2), span, 10).await.unwrap().is_empty());
    let milkings =
        MilkingRange { farm_id: 1, animal_id: None, start_us: NOON, end_us: NOON + 1, skip: 0, limit: 9 };
    assert!(store.milkings(milkings).await.unwrap().is_empty());
    for id in [2, 3] {
        assert_eq!(store.producer(producer(id)).await.unwrap().unwrap().totals, Totals::default());
    }
    assert_eq!(store.producer(producer(4)).await.unwrap(), None);
}

pub(crate) async fn an_open_takes_effect_although_its_batches_are_fenced(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    commit_one(&*store, opening(producer(1), "a")).await;
    let stale = ProducerCommit {
        open: opening(producer(1), "b").open,
        ..batches(producer(1), 7, 0, 1, vec![reading(series, NOON, 1.0)])
    };
    let outcome = commit_one(&*store, stale).await;
    let row = fenced(&outcome);
    assert_eq!((row.epoch, row.committed_offset, &*row.instance_id), (2, 0, "b"));
    assert_eq!(store.producer(producer(1)).await.unwrap().as_ref(), Some(row));
    assert!(everything(&*store, series).await.is_empty());
}

pub(crate) async fn a_commit_moves_the_offset_and_adds_the_totals(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    commit_one(&*store, opening(producer(1), "a")).await;
    let mut last = batches(producer(1), 1, 0, 3, vec![reading(series, NOON, 1.0)]);
    last.totals = Totals { stored: 1, duplicate: 2, quarantined: 3, skipped: u64::MAX };
    commit_one(&*store, last).await;
    // Only totals: nothing moves the offset.
    let mut duplicates = batches(producer(1), 1, 3, 3, vec![]);
    duplicates.totals = Totals { duplicate: 5, skipped: 1, ..Totals::default() };
    let outcome = commit_one(&*store, duplicates).await;
    let row = committed(&outcome);
    assert_eq!(row.committed_offset, 3);
    assert_eq!(row.totals, Totals { stored: 1, duplicate: 7, quarantined: 3, skipped: u64::MAX });
    // Batches and the session after them.
    let both =
        ProducerCommit { open: opening(producer(1), "b").open, ..batches(producer(1), 1, 3, 4, vec![]) };
    let outcome = commit_one(&*store, both).await;
    assert_eq!((committed(&outcome).epoch, committed(&outcome).committed_offset), (2, 4));
    fixture.reopen().await;
    assert_eq!(fixture.store().producer(producer(1)).await.unwrap().as_ref(), Some(committed(&outcome)));
}

pub(crate) async fn a_retried_group_counts_once(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    commit_one(&*store, opening(producer(1), "a")).await;
    commit_one(&*store, opening(producer(2), "a")).await;
    let mut only_totals = batches(producer(2), 1, 0, 0, vec![]);
    only_totals.totals = Totals { duplicate: 9, ..Totals::default() };
    let retried = group(vec![
        ProducerCommit {
            open: opening(producer(1), "b").open,
            ..batches(producer(1), 1, 0, 2, vec![reading(series, NOON, 1.0)])
        },
        only_totals,
        ProducerCommit { batches: vec![batch(vec![reading(series, NOON, 2.0)])], ..commit(producer(3)) },
        batches(producer(2), 9, 0, 1, vec![reading(series, NOON, 3.0)]),
    ]);
    let first = store.commit(retried.clone()).await.unwrap();
    for _ in 0..3 {
        assert_eq!(store.commit(retried.clone()).await.unwrap(), first);
    }
    assert_eq!(sorted_values(&everything(&*store, series).await), [1.0, 2.0]);
    assert_eq!(store.producer(producer(1)).await.unwrap().unwrap().epoch, 2);
    assert_eq!(store.producer(producer(2)).await.unwrap().unwrap().totals.duplicate, 9);
}

pub(crate) async fn a_group_built_anew_counts_once(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    commit_one(&*store, opening(producer(1), "a")).await;
    let attempt = || batches(producer(1), 1, 0, 2, vec![reading(series, NOON, 1.0)]);
    let first = commit_one(&*store, attempt()).await;
    assert_eq!(commit_one(&*store, attempt()).await, first);
    assert_eq!(committed(&first).totals.stored, 1);
    assert_eq!(values(&everything(&*store, series).await), [1.0]);
    // Past the target there is another session's work: that is no retry.
    commit_one(&*store, batches(producer(1), 1, 2, 3, vec![])).await;
    assert_eq!(fenced(&commit_one(&*store, attempt()).await).committed_offset, 3);
}

pub(crate) async fn a_group_built_anew_tells_the_same_refusals(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    let old = NOON - 10 * DAY;
    write(&*store, vec![reading(series, old, 1.0)]).await;
    store.refresh(Refresh { close_before_us: NOON, span_us: None }).await.unwrap();
    let retention =
        Retention { readings_us: Some(NOON), quiet_since_us: Micros::MAX, ..Retention::default() };
    assert_eq!(store.retain(retention).await.unwrap().len(), 1);
    commit_one(&*store, opening(producer(1), "a")).await;
    let batch = |offset, minutes: [Micros; 3]| {
        let readings = minutes.map(|minute| reading(series, old + minute * MINUTE, 2.0));
        Batch { offset, readings: readings.into(), milkings: Vec::new() }
    };
    let attempt = || ProducerCommit {
        // The one in the middle of each is in time.
        batches: vec![batch(1, [5, 20 * 24 * 60, 2]), batch(2, [4, 20 * 24 * 60, 3])],
        // Refused before, and no refusal of the store's.
        quarantined: vec![quarantined(1, RejectionKind::Reading, 3)],
        totals: Totals { stored: 6, quarantined: 1, ..Totals::default() },
        ..batches(producer(1), 1, 0, 2, Vec::new())
    };
    let first = commit_one(&*store, attempt()).await;
    let Outcome::Committed(row, rejections) = &first else { panic!("{first:?}") };
    assert_eq!(row.totals, Totals { stored: 2, quarantined: 5, ..Totals::default() });
    let places: Vec<_> = rejections.iter().map(|rejection| (rejection.offset, rejection.index)).collect();
    assert_eq!(places, [(1, 0), (1, 2), (2, 0), (2, 2)]);
    assert_eq!(commit_one(&*store, attempt()).await, first);
}

pub(crate) async fn anonymous_writes_have_no_ledger_row(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    let anonymous = || ProducerCommit {
        batches: vec![
            batch(vec![reading(series, NOON, 1.0)]),
            milked(vec![milking(1, 2, NOON)]),
            batch(vec![reading(series, NOON, 1.0)]),
        ],
        quarantined: vec![quarantined(1, RejectionKind::Reading, 0)],
        totals: Totals { stored: 3, quarantined: 1, ..Totals::default() },
        ..commit(producer(1))
    };
    committed(&commit_one(&*store, anonymous()).await);
    // At least once: another call is another write.
    committed(&commit_one(&*store, ProducerCommit { quarantined: vec![], ..anonymous() }).await);
    assert_eq!(store.producer(producer(1)).await.unwrap(), None);
    assert_eq!(everything(&*store, series).await.len(), 4);
    let span = QuarantineSpan { first: (0, 0, 0), last: Offset::MAX };
    assert_eq!(store.quarantine(producer(1), span, 10).await.unwrap().len(), 1);
}

/// A reader that looks again and again beside the commits of a law.
struct Looking {
    done: Arc<AtomicBool>,
    looks: Arc<AtomicU64>,
    reader: JoinHandle<()>,
}

impl Looking {
    fn begin<F: Future<Output = ()> + Send + 'static>(look: impl Fn() -> F + Send + 'static) -> Self {
        let (done, looks) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (is_done, count) = (done.clone(), looks.clone());
        let reader = tokio::spawn(async move {
            while !is_done.load(Ordering::Acquire) {
                look().await;
                count.fetch_add(1, Ordering::AcqRel);
            }
        });
        Self { done, looks, reader }
    }

    /// Waits until it has looked once more, or has failed.
    async fn again(&self) {
        let seen = self.looks.load(Ordering::Acquire);
        while self.looks.load(Ordering::Acquire) == seen && !self.reader.is_finished() {
            tokio::task::yield_now().await;
        }
    }

    async fn end(self) {
        self.done.store(true, Ordering::Release);
        self.reader.await.expect("every look saw whole commits, and stayed where it was");
    }
}

/// Each commit gives all series a value, and one more series its first.
pub(crate) async fn newest_values_are_of_the_same_commits(fixture: &mut dyn Fixture) {
    const COMMITS: u32 = 30;
    let store = fixture.store();
    let writer = {
        let store = store.clone();
        tokio::spawn(async move {
            let mut series = Vec::new();
            for commit in 0..COMMITS {
                // All of one device.
                let key = SeriesKey { metric_name: format!("metric_{commit}"), ..series_key(0) };
                series.push(store.resolve_series(&[key]).await.unwrap()[0]);
                // Of now, but for one.
                let time_us = |place: usize| if place == 0 { NOON + i64::from(commit) } else { now_us() };
                let reading =
                    |(place, series): (usize, &_)| reading(*series, time_us(place), f64::from(commit));
                write(&*store, series.iter().enumerate().map(reading).collect()).await;
            }
        })
    };
    let (mut seen, mut turn) = (0, 0);
    while seen < COMMITS as usize {
        turn += 1;
        let device_uid = (turn % 3 > 0).then(|| series_key(0).device_uid);
        let found = store.find_latest(SeriesFilter { device_uid, ..SeriesFilter::default() }).await.unwrap();
        let newest: Vec<f64> = found.into_iter().filter_map(|(.., newest)| Some(newest?.value)).collect();
        assert!(newest.len() >= seen, "{newest:?} after {seen}");
        seen = newest.len();
        assert!(newest.iter().all(|value| *value + 1.0 == seen as f64), "{newest:?} are of several commits");
    }
    writer.await.unwrap();
}

pub(crate) async fn readers_see_whole_commits(fixture: &mut dyn Fixture) {
    const COMMITS: u64 = 60;
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    commit_one(&*store, opening(producer(1), "a")).await;
    let looking = {
        let store = store.clone();
        Looking::begin(move || {
            let store = store.clone();
            async move {
                let row = store.producer(producer(1)).await.unwrap().expect("it was opened");
                let found = everything(&*store, series).await;
                assert_eq!(found.len() % 3, 0, "a part of a commit is seen");
                assert!(
                    found.len() as u64 >= row.committed_offset * 3,
                    "the ledger is ahead of the readings"
                );
                let newest = store.latest(&[series]).await.unwrap();
                assert!(newest.first().is_none_or(|newest| newest.value >= row.committed_offset as f64));
            }
        })
    };
    for offset in 0..COMMITS {
        let time_us = NOON + offset as i64 * 7 * MINUTE;
        // Two days and two hours.
        let readings = [time_us - DAY, time_us, time_us - HOUR]
            .map(|time_us| reading(series, time_us, (offset + 1) as f64));
        committed(&commit_one(&*store, batches(producer(1), 1, offset, offset + 1, readings.into())).await);
        // Every commit is looked at, however fast they are.
        if offset % 10 == 0 {
            looking.again().await;
        }
    }
    looking.end().await;
}

/// Buckets of every series of a level, and how many readings are in them.
async fn counted(
    look: &(impl Look + ?Sized),
    series: &[SeriesId],
    level: Level,
) -> (Vec<(u32, Bucket)>, u64) {
    let cut =
        Cut::Level { level, start_us: level.floor(NOON - 2 * DAY), end_us: level.floor(NOON + 2 * DAY) };
    let series = series.iter().zip(0..).map(|(&id, line)| (id, line)).collect();
    let buckets = look.buckets(BucketRange { series, tag: None, cut, percentiles: false }).await.unwrap();
    let count = buckets.iter().map(|(_, bucket)| bucket.count).sum();
    (buckets, count)
}

pub(crate) async fn a_look_sees_one_moment(fixture: &mut dyn Fixture) {
    async fn answers(look: &dyn Look, series: &[SeriesId]) -> String {
        let all = SeriesFilter::default();
        let tagged = look.tagged_series(Tag::Animal(7), NOON - DAY, NOON + DAY).await.unwrap();
        let range = MilkingRange {
            farm_id: 1,
            animal_id: None,
            start_us: NOON - DAY,
            end_us: NOON + DAY,
            skip: 0,
            limit: 100,
        };
        let milkings = look.milkings(range).await.unwrap();
        let cut = Cut::Level { level: Level::Day, start_us: Level::Day.floor(NOON), end_us: NOON + DAY };
        let milk = look.milk(MilkRange { farm_id: 1, animal_id: None, cut }).await.unwrap();
        let mut readings = Vec::new();
        for &series in series {
            readings.push(everything(look, series).await);
        }
        let series_now = look.find_series(all).await.unwrap();
        let levels = [
            counted(look, series, Level::QuarterHour).await,
            counted(look, series, Level::Hour).await,
            counted(look, series, Level::Day).await,
        ];
        let latest = look.latest(series).await.unwrap();
        let lifecycle = look.lifecycle().await.unwrap();
        format!(
            "{series_now:?}\n{tagged:?}\n{milkings:?}\n{milk:?}\n{readings:?}\n{levels:?}\n{latest:?}\n{lifecycle:?}"
        )
    }
    if !fixture.looks_beside_commits() {
        println!("not tested: the only connection cannot look and commit");
        return;
    }
    let store = fixture.store();
    let series = [resolve(&*store, 0).await, resolve(&*store, 1).await];
    let some = |value: f64| {
        let times = [NOON - DAY - HOUR, NOON - HOUR, NOON, NOON + 20 * MINUTE];
        let of =
            |series| times.map(|time_us| Reading { animal_id: Some(7), ..reading(series, time_us, value) });
        series.into_iter().flat_map(of).collect::<Vec<_>>()
    };
    write(&*store, some(1.0)).await;
    let look = store.look();
    let before = answers(&*look, &series).await;
    // Everything changes: new series, readings, milkings, closed and kept buckets, dirty hours.
    let new = resolve(&*store, 2).await;
    write(&*store, some(2.0)).await;
    write(&*store, vec![Reading { animal_id: Some(7), ..reading(new, NOON + HOUR, 3.0) }]).await;
    let milked = ProducerCommit { batches: vec![milked(vec![milking(1, 7, NOON)])], ..commit(producer(9)) };
    committed(&commit_one(&*store, milked).await);
    assert_eq!(answers(&*look, &series).await, before, "after commits");
    store.refresh(Refresh { close_before_us: NOON, span_us: None }).await.unwrap();
    write(&*store, some(4.0)).await;
    assert_eq!(answers(&*look, &series).await, before, "after a refresh");
    store.refresh(Refresh { close_before_us: NOON + 2 * DAY, span_us: None }).await.unwrap();
    assert_eq!(answers(&*look, &series).await, before, "after all is kept");
    let now = answers(&*store.look(), &series).await;
    assert_ne!(now, before);
    assert_eq!(counted(&*store, &series, Level::Day).await.1, 24);
    assert_eq!(store.latest(&series).await.unwrap()[1].value, 4.0);
}

pub(crate) async fn all_questions_of_a_look_see_the_same_commits(fixture: &mut dyn Fixture) {
    const COMMITS: u64 = 40;
    let store = fixture.store();
    let series = [resolve(&*store, 0).await, resolve(&*store, 1).await];
    let looking = {
        let store = store.clone();
        Looking::begin(move || {
            let store = store.clone();
            async move {
                let look = store.look();
                let first = everything(&*look, series[0]).await.len() as u64;
                let (_, counted) = counted(&*look, &series, Level::QuarterHour).await;
                let newest = look.latest(&series).await.unwrap();
                let second = everything(&*look, series[1]).await.len() as u64;
                assert_eq!((second, counted), (first, 2 * first), "the look moved on");
                let told: Vec<f64> = newest.iter().map(|newest| newest.value).collect();
                assert_eq!(told, if first == 0 { vec![] } else { vec![(first - 1) as f64; 2] });
            }
        })
    };
    for n in 0..COMMITS {
        let time_us = NOON + n as i64 * 7 * MINUTE;
        let readings = series.map(|series| reading(series, time_us, n as f64));
        write(&*store, readings.into()).await;
        if n % 5 == 0 {
            looking.again().await;
        }
    }
    looking.end().await;
}

pub(crate) async fn a_question_that_cannot_be_stored_is_no_failure(fixture: &mut dyn Fixture) {
    fn assert_nothing<T: Default + PartialEq + std::fmt::Debug>(answer: Result<T, StoreError>) {
        match answer {
            Err(StoreError::Refused(why)) => assert!(!why.is_empty()),
            answer => assert_eq!(answer.unwrap(), T::default()),
        }
    }
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    write(&*store, vec![reading(series, NOON, 1.0)]).await;
    let of_device = SeriesFilter { device_uid: Some("collar-0\0".into()), ..SeriesFilter::default() };
    assert_nothing(store.find_series(of_device).await);
    let of_metric = SeriesFilter { metric_names: vec!["metric_0\0".into()], ..SeriesFilter::default() };
    assert_nothing(store.find_series(of_metric).await);
    assert_nothing(store.device(1, "collar-0\0").await);
    assert_nothing(store.devices(Some(1), Some((1, "collar-0\0".into())), 10).await);
    store.ready().await.unwrap();
    assert_eq!(everything(&*store, series).await.len(), 1);
}

pub(crate) async fn a_restart_keeps_everything(fixture: &mut dyn Fixture) {
    let series = resolve(&*fixture.store(), 0).await;
    commit_one(&*fixture.store(), opening(producer(1), "a")).await;
    for offset in 0..5 {
        let mut both =
            batches(producer(1), 1, offset, offset + 1, vec![reading(series, NOON, offset as f64)]);
        both.batches.push(milked(vec![milking(1, 1, NOON)]));
        both.quarantined = vec![quarantined(offset + 1, RejectionKind::Reading, 0)];
        commit_one(&*fixture.store(), both).await;
        fixture.reopen().await;
    }
    let store = fixture.store();
    assert_eq!(sorted_values(&everything(&*store, series).await), [0.0, 1.0, 2.0, 3.0, 4.0]);
    let row = store.producer(producer(1)).await.unwrap().unwrap();
    assert_eq!((row.epoch, row.committed_offset, row.totals.stored), (1, 5, 5));
    let milkings =
        MilkingRange { farm_id: 1, animal_id: None, start_us: NOON, end_us: NOON + 1, skip: 0, limit: 9 };
    assert_eq!(store.milkings(milkings).await.unwrap().len(), 5);
    let span = QuarantineSpan { first: (0, 0, 0), last: Offset::MAX };
    assert_eq!(store.quarantine(producer(1), span, 10).await.unwrap().len(), 5);
    // The guard still holds.
    let stale = ProducerCommit {
        guard: Some(Guard { epoch: 1, committed_offset: 4 }),
        ..batches(producer(1), 1, 4, 6, vec![reading(series, NOON, 9.0)])
    };
    fenced(&commit_one(&*store, stale).await);
}

pub(crate) async fn a_closed_store_refuses(fixture: &mut dyn Fixture) {
    let store = fixture.store();
    let series = resolve(&*store, 0).await;
    store.ready().await.unwrap();
    store.close().await;
    store.ready().await.unwrap_err();
    store.commit(group(vec![opening(producer(1), "a")])).await.unwrap_err();
    store.resolve_series(&[series_key(1)]).await.unwrap_err();
    store.latest(&[series]).await.unwrap_err();
    store.producer(producer(1)).await.unwrap_err();
    store.close().await;
}
