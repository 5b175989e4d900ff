//! Random histories of commits against a model that keeps plain lists.

use std::collections::{BTreeMap, BTreeSet};

use herdstream_server::{
    model::{Micros, Milking, Offset, ProducerRow, Reading, RejectionKind, SeriesId, Totals},
    store::{
        Look as _, MilkingRange, OpenSession, Outcome, ProducerCommit, QuarantineSpan, SeriesRange, Store,
    },
};
use proptest::{
    collection::{btree_set, vec},
    prelude::*,
    sample::select,
};

use super::{
    laws::Fixture,
    rows::{
        DAY, HOUR, MINUTE, NOON, SECOND, batch, batches, commit, group, milked, milking, producer,
        quarantined, reading, series_key,
    },
};

const SERIES: u32 = 7;
const PRODUCERS: u128 = 4;

/// One thing that happens.
#[derive(Clone, Debug)]
pub(super) enum Step {
    Commit(Vec<Part>),
    /// The last group once more.
    Retry,
    Reopen,
    /// A look at a part of a series.
    Look {
        series: u32,
        start_us: Micros,
        length_us: Micros,
        skip: usize,
        limit: usize,
    },
}

/// What one producer does in a commit.
#[derive(Clone, Debug)]
pub(super) struct Part {
    guard: PartGuard,
    advance: u64,
    opens: bool,
    /// Series, time, value, with the optional fields, in two batches.
    readings: Vec<(u32, Micros, f64, bool)>,
    milkings: Vec<(i32, Micros)>,
    quarantined: Vec<u32>,
    duplicate: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum PartGuard {
    Right,
    OldEpoch,
    WrongOffset,
    Anonymous,
}

pub(super) fn history() -> impl Strategy<Value = Vec<Step>> {
    let look = (0..SERIES, time(), prop_oneof![0..10 * MINUTE, 0..4 * DAY], 0..20_usize, 0..60_usize)
        .prop_map(|(series, start_us, length_us, skip, limit)| Step::Look {
            series,
            start_us,
            length_us,
            skip,
            limit,
        });
    let step = prop_oneof![
        8 => vec(part(), 1..=PRODUCERS as usize).prop_map(Step::Commit),
        2 => Just(Step::Retry),
        1 => Just(Step::Reopen),
        4 => look,
    ];
    vec(step, 1..40)
}

fn part() -> impl Strategy<Value = Part> {
    let guard = prop_oneof![
        6 => Just(PartGuard::Right),
        1 => Just(PartGuard::OldEpoch),
        1 => Just(PartGuard::WrongOffset),
        2 => Just(PartGuard::Anonymous),
    ];
    let milkings = vec((1..4, time()), 0..3);
    let quarantined = btree_set(0..500_u32, 0..3);
    (guard, 0..4_u64, any::<bool>(), readings(), milkings, quarantined, 0..5_u64).prop_map(
        |(guard, advance, opens, readings, milkings, quarantined, duplicate)| Part {
            guard,
            advance,
            opens,
            readings,
            milkings,
            quarantined: quarantined.into_iter().collect(),
            duplicate,
        },
    )
}

fn readings() -> impl Strategy<Value = Vec<(u32, Micros, f64, bool)>> {
    let value = prop_oneof![
        (-400..2000).prop_map(|tenths| f64::from(tenths) / 10.0),
        any::<f32>().prop_filter("finite", |value| value.is_finite()).prop_map(f64::from),
        any::<f64>().prop_filter("finite", |value| value.is_finite()),
    ];
    let some = vec((0..SERIES, time(), value, any::<bool>()), 0..12);
    // A sensor at its interval, across minutes, blocks and hours.
    let run = (0..SERIES, time(), select(vec![0, SECOND, 10 * SECOND, 7 * MINUTE]), 0..200_i64).prop_map(
        |(series, start_us, step_us, count)| {
            (0..count).map(|n| (series, start_us + n * step_us, n as f64 / 100.0, n % 3 == 0)).collect()
        },
    );
    prop_oneof![4 => some, 1 => run]
}

/// Few enough for many to be equal; around the bounds of minutes, hours, days and of 1970.
fn time() -> impl Strategy<Value = Micros> {
    let anchors = vec![NOON, NOON - HOUR, NOON + 12 * HOUR, NOON - 2 * DAY, NOON + 20 * MINUTE, 0, -3 * DAY];
    let offsets = vec![0, 1, -1, 1000, SECOND, -SECOND, 59 * MINUTE, 14 * MINUTE + 59 * SECOND + 999_999];
    (select(anchors), select(offsets)).prop_map(|(anchor, offset)| anchor + offset)
}

/// What a store should hold.
#[derive(Default)]
struct Model {
    ledger: BTreeMap<u128, ProducerRow>,
    /// With the number of their commit.
    readings: Vec<(u64, Reading)>,
    milkings: Vec<Milking>,
    /// Offset and index, by producer.
    quarantined: BTreeMap<u128, BTreeSet<(Offset, u32)>>,
    commits: u64,
}

impl Model {
    /// The commit that a step asks for, and what should become of it.
    fn apply(&mut self, ids: &[SeriesId], parts: &[Part]) -> (Vec<ProducerCommit>, Vec<Outcome>) {
        self.commits += 1;
        (0..).zip(parts).map(|(id, part)| self.apply_part(ids, id, part)).unzip()
    }

    fn apply_part(&mut self, ids: &[SeriesId], id: u128, part: &Part) -> (ProducerCommit, Outcome) {
        let readings: Vec<_> = part.readings.iter().map(|told| with_fields(ids, *told)).collect();
        let milkings: Vec<_> =
            part.milkings.iter().map(|&(animal, time_us)| milking(1, animal, time_us)).collect();
        let known = self.ledger.get(&id).cloned();
        let mut row = known.clone().unwrap_or_default();
        let (epoch, from) = (row.epoch, row.committed_offset);
        let (fits, mut asked) = match part.guard {
            PartGuard::Anonymous => (true, commit(producer(id))),
            PartGuard::Right => (true, batches(producer(id), epoch, from, from + part.advance, vec![])),
            PartGuard::OldEpoch => {
                (false, batches(producer(id), epoch + 1, from, from + part.advance, vec![]))
            }
            PartGuard::WrongOffset => {
                (false, batches(producer(id), epoch, from + 1, from + 1 + part.advance, vec![]))
            }
        };
        // Batches in the order in which they are committed.
        let middle = readings.len() / 2;
        asked.batches = vec![
            batch(readings[..middle].to_vec()),
            batch(readings[middle..].to_vec()),
            milked(milkings.clone()),
        ];
        // No place is refused twice: an offset belongs to one commit.
        let offset = self.commits * 10 + id as u64;
        asked.quarantined = part
            .quarantined
            .iter()
            .map(|&index| quarantined(offset, RejectionKind::Reading, index))
            .collect();
        asked.totals =
            Totals { stored: readings.len() as u64, duplicate: part.duplicate, ..Totals::default() };
        if part.opens && part.guard != PartGuard::Anonymous {
            let instance_id = format!("process {}", self.commits);
            asked.open = Some(OpenSession { gateway_id: "barn".into(), instance_id: instance_id.clone() });
            row.epoch += 1;
            row.gateway_id = "barn".into();
            row.instance_id = instance_id;
        }
        if fits {
            if part.guard == PartGuard::Right {
                row.committed_offset = asked.committed_offset;
                row.totals += asked.totals;
            }
            self.readings.extend(readings.into_iter().map(|reading| (self.commits, reading)));
            self.milkings.extend(milkings);
            let kept = self.quarantined.entry(id).or_default();
            kept.extend(part.quarantined.iter().map(|&index| (offset, index)));
        }
        if row != known.unwrap_or_default() {
            self.ledger.insert(id, row.clone());
        }
        let outcome = match (part.guard, fits) {
            (PartGuard::Anonymous, _) => Outcome::Committed(ProducerRow::default(), vec![]),
            (_, true) => Outcome::Committed(row, vec![]),
            (_, false) => Outcome::Fenced(row),
        };
        (asked, outcome)
    }
}

/// Battery and signal are told by time, so that equal times tell the same.
fn with_fields(ids: &[SeriesId], (series, time_us, value, told): (u32, Micros, f64, bool)) -> Reading {
    let mut reading = reading(ids[series as usize], time_us, value);
    if told {
        reading.is_interpolated = series % 2 == 0;
        reading.animal_id = Some(series as i32 + 1);
        reading.battery_level = Some(time_us.rem_euclid(100) as i16);
        reading.session_id = (series == 3).then(|| "evening".into());
        reading.metadata = (series == 4).then(|| format!(r#"{{"n": {}}}"#, value.abs()).into());
    }
    if series < 2 {
        reading.signal_strength = Some(-(time_us.rem_euclid(90) as i16));
    }
    reading
}

/// Lives through a history and looks at everything in between and in the end.
pub(super) async fn live(fixture: &mut dyn Fixture, history: &[Step]) {
    let keys: Vec<_> = (0..SERIES).map(series_key).collect();
    let ids = fixture.store().resolve_series(&keys).await.unwrap();
    let mut model = Model::default();
    let mut last = None;
    for step in history {
        match step {
            Step::Commit(parts) => {
                let (asked, expected) = model.apply(&ids, parts);
                let asked = group(asked);
                assert_eq!(fixture.store().commit(asked.clone()).await.unwrap(), expected);
                last = Some((asked, expected));
            }
            Step::Retry => {
                if let Some((asked, expected)) = &last {
                    assert_eq!(&fixture.store().commit(asked.clone()).await.unwrap(), expected, "on a retry");
                }
            }
            Step::Reopen => {
                fixture.reopen().await;
                // A group does not outlive its process.
                last = None;
            }
            &Step::Look { series, start_us, length_us, skip, limit } => {
                let end_us = start_us + length_us;
                let series = ids[series as usize];
                let range =
                    SeriesRange { series, start_us, end_us, skip, limit, text_bytes: usize::MAX, tag: None };
                look(&*fixture.store(), &model, range).await;
            }
        }
    }
    check_series(&*fixture.store(), &model, &ids).await;
    check_rest(&*fixture.store(), &model).await;
    fixture.reopen().await;
    check_series(&*fixture.store(), &model, &ids).await;
    check_rest(&*fixture.store(), &model).await;
}

/// Everything of a reading that can be compared, in an order.
fn comparable(reading: &Reading) -> impl Ord + std::fmt::Debug + use<> {
    (reading.time_us, reading.value.to_bits(), format!("{reading:?}"))
}

async fn look(store: &dyn Store, model: &Model, range: SeriesRange) {
    let found = store.range(range).await.unwrap();
    let whole = store.range(SeriesRange { skip: 0, limit: usize::MAX, ..range }).await.unwrap();
    let page: Vec<_> = whole.iter().skip(range.skip).take(range.limit).map(comparable).collect();
    assert_eq!(found.iter().map(comparable).collect::<Vec<_>>(), page, "{range:?}");

    assert!(whole.is_sorted_by_key(|reading| reading.time_us), "{range:?}");
    let mut whole: Vec<_> = whole.iter().map(comparable).collect();
    let inside = model.readings.iter().filter(|(_, reading)| {
        reading.series == range.series && (range.start_us..range.end_us).contains(&reading.time_us)
    });
    let mut expected: Vec<_> = inside.map(|(_, reading)| comparable(reading)).collect();
    whole.sort();
    expected.sort();
    assert_eq!(whole, expected, "{range:?}");
}

async fn check_series(store: &dyn Store, model: &Model, ids: &[SeriesId]) {
    for &series in ids {
        let range = SeriesRange {
            series,
            start_us: -10 * DAY,
            end_us: NOON + 10 * DAY,
            skip: 0,
            limit: usize::MAX,
            text_bytes: usize::MAX,
            tag: None,
        };
        look(store, model, range).await;
        let own = || model.readings.iter().filter(|(_, reading)| reading.series == series);
        let newest = own().map(|(commit, reading)| (reading.time_us, *commit)).max();
        let found = store.latest(&[series]).await.unwrap();
        let candidates = own().filter(|(commit, reading)| Some((reading.time_us, *commit)) == newest);
        let candidates: Vec<_> = candidates.map(|(_, reading)| comparable(reading)).collect();
        match found.first() {
            None => assert_eq!(newest, None, "{series:?}"),
            Some(found) => {
                assert!(candidates.contains(&comparable(found)), "{found:?} is not in {candidates:?}");
            }
        }
    }
}

async fn check_rest(store: &dyn Store, model: &Model) {
    for id in 0..PRODUCERS {
        assert_eq!(store.producer(producer(id)).await.unwrap().as_ref(), model.ledger.get(&id));
        let span = QuarantineSpan { first: (0, 0, 0), last: Offset::MAX };
        let found = store.quarantine(producer(id), span, usize::MAX).await.unwrap();
        let found: Vec<_> = found.iter().map(|kept| (kept.rejection.offset, kept.rejection.index)).collect();
        let expected: Vec<_> = model.quarantined.get(&id).into_iter().flatten().copied().collect();
        assert_eq!(found, expected);
    }
    let range = MilkingRange {
        farm_id: 1,
        animal_id: None,
        start_us: -10 * DAY,
        end_us: NOON + 10 * DAY,
        skip: 0,
        limit: usize::MAX,
    };
    let found = store.milkings(range).await.unwrap();
    assert!(found.is_sorted_by_key(|milking| milking.time_us));
    let key = |milking: &Milking| (milking.time_us, milking.animal_id);
    let mut found: Vec<_> = found.iter().map(key).collect();
    let mut expected: Vec<_> = model.milkings.iter().map(key).collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    check_devices(store, model).await;
    check_activity(store, model).await;
}

async fn check_devices(store: &dyn Store, model: &Model) {
    let devices = store.devices(None, None, 100).await.unwrap();
    assert_eq!(devices.len(), 2);
    let keys: Vec<_> = (0..SERIES).map(series_key).collect();
    let ids = store.resolve_series(&keys).await.unwrap();
    for device in devices {
        let own = |reading: &&Reading| {
            let series = ids.iter().position(|id| *id == reading.series).expect("it is one of ours");
            keys[series].device_uid == device.device_uid
        };
        let own: Vec<_> = model.readings.iter().map(|(_, reading)| reading).filter(own).collect();
        let newest = |get: fn(&Reading) -> Option<i16>| {
            let told = own.iter().filter_map(|reading| Some((reading.time_us, get(reading)?)));
            told.max_by_key(|(time_us, _)| *time_us).map(|(_, value)| value)
        };
        assert_eq!(device.last_seen_us, own.iter().map(|reading| reading.time_us).max());
        assert_eq!(device.battery_level, newest(|reading| reading.battery_level));
        assert_eq!(device.signal_strength, newest(|reading| reading.signal_strength));
    }
}

/// To the minute: a reading less than a minute from a bound may count or not.
async fn check_activity(store: &dyn Store, model: &Model) {
    for now_us in [NOON + HOUR, NOON + 13 * HOUR + 17 * SECOND, NOON - 2 * DAY] {
        let found = store.activity(now_us).await.unwrap();
        let count = |from_us: Micros, to_us: Micros| {
            let times = model.readings.iter().map(|(_, reading)| reading.time_us);
            times.filter(|time_us| (from_us..=to_us).contains(time_us)).count() as u64
        };
        for (found, length_us) in [(found.readings_last_hour, HOUR), (found.readings_last_24h, DAY)] {
            let surely = count(now_us - length_us + MINUTE, now_us - MINUTE);
            let perhaps = count(now_us - length_us - MINUTE, now_us + MINUTE);
            assert!((surely..=perhaps).contains(&found), "{surely} <= {found} <= {perhaps} at {now_us}");
        }
    }
}

/// Runs histories against fixtures of a profile; a failure prints the smallest that fails.
pub(super) fn check<F: Fixture>(cases: u32, fixture: impl AsyncFn() -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    };
    proptest!(config, |(history in history())| {
        runtime.block_on(async { live(&mut fixture().await, &history).await });
    });
}
