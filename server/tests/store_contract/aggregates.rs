//! Aggregates against a plain recomputation, whatever was refreshed, dropped or committed late in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use herdstream_server::{
    model::{Micros, Milking, Reading, RejectionCode, SeriesId},
    store::{
        Batch, Bucket, BucketRange, Cut, Level, Look as _, MilkBucket, MilkRange, Outcome, ProducerCommit,
        Refresh, Retention, SeriesFilter, SeriesRange, Store, Tag,
    },
};
use proptest::{collection::vec, option, prelude::*, sample::select};
use uuid::Uuid;

use super::{
    laws::Fixture,
    rows::{DAY, HOUR, MINUTE, NOON, SECOND, commit, commit_one, milking, reading, series_key},
};

const SERIES: u32 = 4;
const QUARTER: Micros = 15 * MINUTE;
const MIDNIGHT: Micros = NOON - 12 * HOUR;

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Readings(Vec<Measured>),
    Milkings(Vec<(i32, Micros, i32, Option<i32>)>),
    Refresh {
        close_before_us: Micros,
        span: bool,
    },
    /// Open buckets are summed up as they are written, from so long after the time that is kept.
    Sum {
        open_us: Micros,
    },
    Retain {
        days: i64,
        quiet: bool,
        dry_run: bool,
    },
    Reopen,
    Ask(Question),
}

#[derive(Clone, Debug)]
struct Measured {
    series: u32,
    time_us: Micros,
    quarters: i32,
    animal_id: Option<i32>,
    zone_id: Option<i32>,
}

/// A look at buckets of the first `series` series.
#[derive(Clone, Debug)]
struct Question {
    series: u32,
    merged: bool,
    tag: Option<Tag>,
    cut: Cut,
}

fn time() -> impl Strategy<Value = Micros> {
    let anchors: Vec<Micros> =
        [0, 6, 12, 23, 24, 30, 48, 71, 72].map(|hour| MIDNIGHT - 2 * DAY + hour * HOUR).into();
    let offsets = vec![0, 1, -1, SECOND, QUARTER - 1, QUARTER, 20 * MINUTE, 59 * MINUTE, HOUR - 1];
    (select(anchors), select(offsets)).prop_map(|(anchor, offset)| anchor + offset)
}

fn steps(most: usize) -> impl Strategy<Value = Vec<Step>> {
    let measured = (0..SERIES, time(), -40..400_i32, option::of(1..3_i32), option::of(1..3_i32)).prop_map(
        |(series, time_us, quarters, animal_id, zone_id)| Measured {
            series,
            time_us,
            quarters,
            animal_id,
            zone_id,
        },
    );
    let milkings = vec((1..3_i32, time(), 0..80_i32, option::of(10..30_i32)), 1..4);
    let close = (-8..8_i64, select(vec![0, QUARTER, HOUR, 7 * MINUTE]))
        .prop_map(|(steps, more)| MIDNIGHT + steps * 6 * HOUR + more);
    vec(
        prop_oneof![
            6 => vec(measured, 1..30).prop_map(Step::Readings),
            1 => milkings.prop_map(Step::Milkings),
            4 => (close, any::<bool>())
                .prop_map(|(close_before_us, span)| Step::Refresh { close_before_us, span }),
            3 => select(vec![1, SECOND, QUARTER - 1, QUARTER, 20 * MINUTE, HOUR])
                .prop_map(|open_us| Step::Sum { open_us }),
            2 => (-2..2_i64, any::<bool>(), any::<bool>())
                .prop_map(|(days, quiet, dry_run)| Step::Retain { days, quiet, dry_run }),
            1 => Just(Step::Reopen),
            5 => question().prop_map(Step::Ask),
        ],
        1..most,
    )
}

fn question() -> impl Strategy<Value = Question> {
    let level = (select(Level::ALL.to_vec()), -9..9_i64, 1..20_i64).prop_map(|(level, from, length)| {
        let start_us = level.floor(MIDNIGHT + from * 6 * HOUR);
        let end_us = start_us + (length * 5 * HOUR).div_euclid(level.width_us()).max(1) * level.width_us();
        Cut::Level { level, start_us, end_us }
    });
    // Kathmandu's days, and days of 23 and 25 hours.
    let spans = select(vec![
        vec![-(5 * HOUR + 45 * MINUTE), DAY - (5 * HOUR + 45 * MINUTE)],
        vec![-DAY - HOUR, -HOUR, DAY - 2 * HOUR, 2 * DAY - 2 * HOUR],
        vec![-2 * DAY - 2 * HOUR, -DAY - 2 * HOUR, -HOUR, DAY - HOUR],
    ])
    .prop_map(|times| Cut::Spans(times.into_iter().map(|time| MIDNIGHT + time).collect()));
    let tag = option::weighted(
        0.3,
        (1..3_i32, any::<bool>()).prop_map(
            |(id, animal)| {
                if animal { Tag::Animal(id) } else { Tag::Zone(id) }
            },
        ),
    );
    (1..=SERIES, any::<bool>(), tag, prop_oneof![3 => level, 1 => spans])
        .prop_map(|(series, merged, tag, cut)| Question { series, merged, tag, cut })
}

/// What a store should hold.
#[derive(Default)]
struct Model {
    ids: Vec<SeriesId>,
    readings: Vec<Reading>,
    milkings: Vec<Milking>,
    closed_before_us: Option<Micros>,
    dropped: BTreeSet<i64>,
    dropped_milk: BTreeSet<i64>,
    /// Buckets of the days whose readings were dropped, as they were then.
    kept: BTreeMap<(Level, SeriesId, Micros), Bucket>,
    kept_milk: Vec<MilkBucket>,
}

fn day(time_us: Micros) -> i64 {
    time_us.div_euclid(DAY)
}

/// The plain computation.
fn bucket(start_us: Micros, level: Option<Level>, values: &mut [f64]) -> Bucket {
    values.sort_by(f64::total_cmp);
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let percentile = |fraction: f64| {
        let position = fraction * (count - 1.0);
        let (low, high) = (values[position.floor() as usize], values[position.ceil() as usize]);
        low + (high - low) * position.fract()
    };
    Bucket {
        start_us,
        count: values.len() as u64,
        valid_count: values.len() as u64,
        error_count: 0,
        sum: values.iter().sum(),
        min: values[0],
        max: values[values.len() - 1],
        squares: values.iter().map(|value| (value - mean) * (value - mean)).sum(),
        median: matches!(level, Some(Level::Hour | Level::Day)).then(|| percentile(0.5)),
        p95: (level == Some(Level::Hour)).then(|| percentile(0.95)),
    }
}

fn assert_equal(found: &Bucket, wanted: &Bucket, what: &str) {
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-9 * b.abs().max(1.0);
    let percentile = |a: Option<f64>, b: Option<f64>| match (a, b) {
        (Some(a), Some(b)) => near(a, b),
        (None, None) => true,
        _ => false,
    };
    let exact = |bucket: &Bucket| {
        let counts = (bucket.start_us, bucket.count, bucket.valid_count, bucket.error_count);
        (counts, bucket.sum, bucket.min, bucket.max)
    };
    assert!(
        exact(found) == exact(wanted)
            && near(found.squares, wanted.squares)
            && percentile(found.median, wanted.median)
            && percentile(found.p95, wanted.p95),
        "{what}: {found:?} instead of {wanted:?}"
    );
}

impl Model {
    /// The buckets of one series at a level, from what is kept of dropped days and from the readings of others.
    fn level(&self, series: SeriesId, level: Level, tag: Option<Tag>) -> BTreeMap<Micros, Bucket> {
        let mut values: BTreeMap<Micros, Vec<f64>> = BTreeMap::new();
        for reading in self.readings.iter().filter(|reading| reading.series == series) {
            if tag.is_none_or(|tag| tag.is_on(reading)) {
                values.entry(level.floor(reading.time_us)).or_default().push(reading.value);
            }
        }
        let computed = values.iter_mut().map(|(start, values)| (*start, bucket(*start, Some(level), values)));
        let kept = self.kept.iter().filter(|((of, id, _), _)| *of == level && *id == series && tag.is_none());
        computed.chain(kept.map(|((_, _, start), bucket)| (*start, *bucket))).collect()
    }

    fn answer(&self, question: &Question) -> Vec<(u32, Bucket)> {
        let mut lines: BTreeMap<(u32, Micros), Bucket> = BTreeMap::new();
        for n in 0..question.series {
            let line = if question.merged { 0 } else { n };
            for bucket in self.level(self.ids[n as usize], question.cut.level(), question.tag).into_values() {
                let Some(start_us) = question.cut.start_of(bucket.start_us) else { continue };
                let bucket = Bucket { start_us, ..bucket };
                lines.entry((line, start_us)).and_modify(|known| known.merge(&bucket)).or_insert(bucket);
            }
        }
        lines.into_iter().map(|((line, _), bucket)| (line, bucket)).collect()
    }

    fn milk(&self, cut: &Cut) -> Vec<MilkBucket> {
        let mut by: BTreeMap<(Micros, i32), Vec<&Milking>> = BTreeMap::new();
        for milking in &self.milkings {
            if let Some(start_us) = cut.start_of(milking.time_us) {
                by.entry((start_us, milking.animal_id)).or_default().push(milking);
            }
        }
        let mean = |told: Vec<f64>| (!told.is_empty()).then(|| told.iter().sum::<f64>() / told.len() as f64);
        let mut found: Vec<MilkBucket> = by
            .into_iter()
            .map(|((start_us, animal_id), milkings)| {
                let told =
                    |get: fn(&Milking) -> Option<f64>| milkings.iter().filter_map(|m| get(m)).collect();
                MilkBucket {
                    start_us,
                    animal_id,
                    milkings: milkings.len() as u64,
                    total_yield_kg: milkings.iter().map(|milking| milking.yield_kg).sum(),
                    avg_conductivity: mean(told(|milking| milking.conductivity_ms)),
                    avg_scc: mean(told(|milking| milking.somatic_cell_count.map(f64::from))),
                    max_mastitis_risk: milkings.iter().filter_map(|m| m.mastitis_risk_score).reduce(f64::max),
                    avg_fat: mean(told(|milking| milking.fat_percent)),
                    avg_protein: mean(told(|milking| milking.protein_percent)),
                }
            })
            .collect();
        if matches!(cut, Cut::Level { .. }) {
            found.extend(self.kept_milk.iter().filter(|kept| cut.start_of(kept.start_us).is_some()));
        }
        found.sort_by_key(|bucket| (bucket.start_us, bucket.animal_id));
        found
    }

    /// Readings of a day go; what was computed from them stays.
    fn drop_readings(&mut self, gone: i64) {
        for id in self.ids.clone() {
            for level in Level::ALL {
                let buckets = self.level(id, level, None);
                self.kept.extend(
                    buckets
                        .into_iter()
                        .filter(|(start, _)| day(*start) == gone)
                        .map(|(start, bucket)| ((level, id, start), bucket)),
                );
            }
        }
        self.readings.retain(|reading| day(reading.time_us) != gone);
        self.dropped.insert(gone);
    }

    fn drop_milkings(&mut self, gone: i64) {
        let cut = Cut::Level { level: Level::Day, start_us: gone * DAY, end_us: (gone + 1) * DAY };
        let kept = self.milk(&cut);
        self.kept_milk.extend(kept);
        self.milkings.retain(|milking| day(milking.time_us) != gone);
        self.dropped_milk.insert(gone);
    }
}

async fn ask(store: &dyn Store, model: &Model, question: &Question) {
    let series = (0..question.series).map(|n| (model.ids[n as usize], if question.merged { 0 } else { n }));
    let wanted = model.answer(question);
    let series: Vec<_> = series.collect();
    for percentiles in [true, false] {
        let range =
            BucketRange { series: series.clone(), tag: question.tag, cut: question.cut.clone(), percentiles };
        let found = store.buckets(range).await.unwrap();
        let places = |buckets: &[(u32, Bucket)]| {
            buckets.iter().map(|(line, bucket)| (*line, bucket.start_us)).collect::<Vec<_>>()
        };
        assert_eq!(places(&found), places(&wanted), "{question:?}");
        for ((_, found), (_, wanted)) in found.iter().zip(&wanted) {
            let (mut found, mut wanted) = (*found, *wanted);
            if matches!(question.cut, Cut::Spans(_)) {
                (wanted.median, wanted.p95) = (None, None);
            } else if !percentiles {
                // Some are told all the same.
                (found.median, found.p95) = (wanted.median, wanted.p95);
            }
            assert_equal(&found, &wanted, &format!("{question:?}"));
        }
    }
}

/// The newest of what is left of each series. Among equal times any will do: another test is about their order.
async fn ask_newest(store: &dyn Store, model: &Model) {
    let found = store.find_latest(SeriesFilter::default()).await.unwrap();
    assert_eq!(found.iter().map(|(id, ..)| *id).collect::<Vec<_>>(), model.ids);
    for (id, key, newest) in found {
        // Of its device, and once more: what was asked for may be kept.
        for _ in 0..2 {
            let (farm_id, device_uid) = (Some(key.farm_id), Some(key.device_uid.clone()));
            let of_device = SeriesFilter { farm_id, device_uid, ..SeriesFilter::default() };
            let again = store.find_latest(of_device).await.unwrap();
            assert!(again.contains(&(id, key.clone(), newest.clone())), "{again:?} without {newest:?}");
        }
        let own = || model.readings.iter().filter(|reading| reading.series == id);
        let newest = newest.map(|newest| (newest.time_us, newest.value));
        let wanted_us = own().map(|reading| reading.time_us).max();
        assert_eq!(newest.map(|(time_us, _)| time_us), wanted_us, "{id:?}");
        assert!(
            newest.is_none_or(|newest| own().any(|own| (own.time_us, own.value) == newest)),
            "{newest:?}"
        );
    }
}

/// Everything at once, and what else is told of it.
async fn ask_all(store: &dyn Store, model: &Model) {
    let span = (MIDNIGHT - 5 * DAY, MIDNIGHT + 5 * DAY);
    for level in Level::ALL {
        let cut = Cut::Level { level, start_us: span.0, end_us: span.1 };
        for merged in [false, true] {
            ask(store, model, &Question { series: SERIES, merged, tag: None, cut: cut.clone() }).await;
        }
    }
    for tag in [Tag::Animal(1), Tag::Zone(2)] {
        let has =
            |id: SeriesId| model.readings.iter().any(|reading| reading.series == id && tag.is_on(reading));
        let tagged = store.tagged_series(tag, span.0, span.1).await.unwrap();
        for (n, id) in (0..).zip(&model.ids) {
            let known = tagged.iter().find(|(found, _)| found == id);
            assert!(known.is_some() || !has(*id), "series {n} carries {tag:?}");
            assert!(known.is_none_or(|(_, key)| *key == series_key(n)));
            let (series, text_bytes) = (*id, usize::MAX);
            let range = SeriesRange {
                series,
                tag: Some(tag),
                start_us: span.0,
                end_us: span.1,
                skip: 0,
                limit: usize::MAX,
                text_bytes,
            };
            let found = store.range(range).await.unwrap().len();
            let own = model.readings.iter().filter(|reading| reading.series == *id && tag.is_on(reading));
            assert_eq!(found, own.count());
        }
    }
    let days = Cut::Level { level: Level::Day, start_us: span.0, end_us: span.1 };
    let shifted = (-5..5).map(|day| MIDNIGHT + day * DAY - 90 * MINUTE).collect();
    for cut in [days, Cut::Spans(shifted)] {
        let found = store.milk(MilkRange { farm_id: 1, animal_id: None, cut: cut.clone() }).await.unwrap();
        let wanted = model.milk(&cut);
        assert_eq!(found.len(), wanted.len(), "{found:?} {wanted:?}");
        for (found, wanted) in found.iter().zip(&wanted) {
            let near = |a: Option<f64>, b: Option<f64>| match (a, b) {
                (Some(a), Some(b)) => (a - b).abs() <= 1e-9 * b.abs().max(1.0),
                (a, b) => a == b,
            };
            let exact =
                |m: &MilkBucket| (m.start_us, m.animal_id, m.milkings, m.total_yield_kg, m.max_mastitis_risk);
            assert!(
                exact(found) == exact(wanted)
                    && near(found.avg_conductivity, wanted.avg_conductivity)
                    && near(found.avg_scc, wanted.avg_scc)
                    && near(found.avg_fat, wanted.avg_fat)
                    && near(found.avg_protein, wanted.avg_protein),
                "{found:?} instead of {wanted:?}"
            );
        }
    }
    ask_newest(store, model).await;
    let lifecycle = store.lifecycle().await.unwrap();
    assert_eq!(lifecycle.closed_before_us, model.closed_before_us);
    assert!(lifecycle.stored_before_us <= lifecycle.closed_before_us);
    let end = |days: &BTreeSet<i64>| days.last().map(|day| (day + 1) * DAY);
    assert_eq!(lifecycle.raw_kept_from_us, end(&model.dropped));
    assert_eq!(lifecycle.milkings_kept_from_us, end(&model.dropped_milk));
}

/// Commits rows of nobody; those of dropped days must be refused, and no others.
async fn write(store: &dyn Store, readings: Vec<Reading>, milkings: Vec<Milking>, model: &mut Model) {
    let dropped = |days: &BTreeSet<i64>, time_us: Micros| days.contains(&day(time_us));
    let gone = readings.iter().filter(|reading| dropped(&model.dropped, reading.time_us)).count()
        + milkings.iter().filter(|milking| dropped(&model.dropped_milk, milking.time_us)).count();
    let batch = Batch { offset: 1, readings: readings.clone(), milkings: milkings.clone() };
    let anonymous = ProducerCommit { batches: vec![batch], ..commit(Uuid::new_v4()) };
    let Outcome::Committed(_, rejections) = commit_one(store, anonymous).await else {
        panic!("nobody is fenced")
    };
    assert_eq!(rejections.len(), gone, "{rejections:?}");
    for rejection in rejections {
        assert_eq!((rejection.code, rejection.field), (RejectionCode::StoreRefused, "time_us"));
        assert!(rejection.message.contains("dropped by retention"), "{}", rejection.message);
    }
    model.readings.extend(readings.into_iter().filter(|reading| !dropped(&model.dropped, reading.time_us)));
    model
        .milkings
        .extend(milkings.into_iter().filter(|milking| !dropped(&model.dropped_milk, milking.time_us)));
}

async fn retain(store: &dyn Store, model: &mut Model, (days, quiet, dry_run): (i64, bool, bool)) {
    let cutoff = Some(MIDNIGHT + days * DAY);
    let retention = Retention {
        readings_us: cutoff,
        milkings_us: cutoff,
        // Nothing was written in the future, everything since 1970.
        quiet_since_us: if quiet { 0 } else { Micros::MAX },
        dry_run,
        ..Retention::default()
    };
    let stored_us = store.lifecycle().await.unwrap().stored_before_us;
    let mut due = BTreeSet::new();
    if !quiet && store.dirty_hours().await.unwrap() == 0 {
        let old = |day: i64| Some((day + 1) * DAY) <= cutoff;
        let stored = |day: i64| Some((day + 1) * DAY) <= stored_us;
        let readings = model.readings.iter().map(|reading| day(reading.time_us));
        due.extend(readings.filter(|&day| old(day) && stored(day)).map(|day| ("reading", day)));
        let milkings = model.milkings.iter().map(|milking| day(milking.time_us));
        due.extend(milkings.filter(|&day| old(day)).map(|day| ("milking", day)));
    }
    for part in store.retain(retention).await.unwrap() {
        let (start_us, end_us) = (part.start_us.unwrap(), part.end_us);
        assert!(Some(end_us) <= cutoff && end_us - start_us == DAY, "{part:?}");
        if part.table == "reading" && part.kept_because.is_empty() {
            assert!(Some(end_us) <= stored_us, "{part:?} was not kept before");
        }
        if !part.kept_because.is_empty() {
            continue;
        }
        // Everything here is written while the test runs.
        assert!(!quiet, "{part:?} was just written");
        due.remove(&(part.table, day(start_us)));
        if dry_run {
            continue;
        }
        match part.table {
            "reading" => model.drop_readings(day(start_us)),
            "milking" => model.drop_milkings(day(start_us)),
            other => panic!("{other} was not asked for"),
        }
    }
    assert_eq!(due, BTreeSet::new(), "these days were to go");
}

async fn live(fixture: &mut dyn Fixture, steps: &[Step]) {
    let keys: Vec<_> = (0..SERIES).map(series_key).collect();
    let ids = fixture.store().resolve_series(&keys).await.unwrap();
    let mut model = Model { ids, ..Model::default() };
    for step in steps {
        let store = fixture.store();
        match step {
            Step::Readings(measured) => {
                let make = |measured: &Measured| Reading {
                    animal_id: measured.animal_id,
                    zone_id: measured.zone_id,
                    ..reading(
                        model.ids[measured.series as usize],
                        measured.time_us,
                        f64::from(measured.quarters) / 4.0,
                    )
                };
                let readings = measured.iter().map(make).collect();
                write(&*store, readings, Vec::new(), &mut model).await;
            }
            Step::Milkings(milkings) => {
                let make =
                    |&(animal_id, time_us, quarters, conductivity): &(i32, Micros, i32, Option<i32>)| {
                        Milking {
                            yield_kg: f64::from(quarters) / 4.0,
                            conductivity_ms: conductivity.map(|tenths| f64::from(tenths) / 4.0),
                            mastitis_risk_score: conductivity.map(f64::from),
                            ..milking(1, animal_id, time_us)
                        }
                    };
                write(&*store, Vec::new(), milkings.iter().map(make).collect(), &mut model).await;
            }
            Step::Refresh { close_before_us, span } => {
                let span_us = span.then_some((MIDNIGHT - DAY, MIDNIGHT));
                let refresh = Refresh { close_before_us: *close_before_us, span_us };
                store.refresh(refresh).await.unwrap();
                let closed = Level::QuarterHour.floor(*close_before_us);
                model.closed_before_us = model.closed_before_us.max(Some(closed));
                let lifecycle = store.lifecycle().await.unwrap();
                assert_eq!(lifecycle.stored_before_us, model.closed_before_us);
                if !span {
                    assert_eq!(store.dirty_hours().await.unwrap(), 0);
                }
            }
            Step::Sum { open_us } => {
                let stored_us = store.lifecycle().await.unwrap().stored_before_us;
                store.sum_from(stored_us.unwrap_or(MIDNIGHT) + open_us, 0).await.unwrap();
            }
            Step::Retain { days, quiet, dry_run } => {
                retain(&*store, &mut model, (*days, *quiet, *dry_run)).await;
            }
            Step::Reopen => {
                drop(store);
                fixture.reopen().await;
            }
            Step::Ask(question) => {
                ask(&*store, &model, question).await;
                ask_newest(&*store, &model).await;
            }
        }
    }
    ask_all(&*fixture.store(), &model).await;
    fixture.reopen().await;
    ask_all(&*fixture.store(), &model).await;
}

/// Runs lives against fixtures of a profile; a failure prints the smallest that fails.
pub(super) fn check<F: Fixture>(cases: u32, most: usize, fixture: impl AsyncFn() -> F) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = ProptestConfig {
        cases,
        failure_persistence: None,
        max_shrink_iters: 200,
        ..ProptestConfig::default()
    };
    proptest!(config, |(steps in steps(most))| {
        runtime.block_on(async { live(&mut fixture().await, &steps).await });
    });
}

/// What a bucket of everything counts, while groups of a fixed size are committed beside: whole groups only.
pub(crate) async fn queries_see_whole_commits_beside_ingest(fixture: &mut dyn Fixture) {
    const GROUP: u64 = 40;
    let store = fixture.store();
    let keys: Vec<_> = (0..SERIES).map(series_key).collect();
    let ids = store.resolve_series(&keys).await.unwrap();
    store.refresh(Refresh { close_before_us: NOON, span_us: None }).await.unwrap();
    let writer = {
        let (store, ids) = (Arc::clone(&store), ids.clone());
        tokio::spawn(async move {
            for n in 0..20 {
                let spread = |place: u64| {
                    // On both sides of the watermark.
                    let time_us = NOON - 2 * HOUR + (place as Micros) * 6 * MINUTE + n;
                    reading(ids[place as usize % ids.len()], time_us, 1.0)
                };
                super::rows::write(&*store, (0..GROUP).map(spread).collect()).await;
            }
        })
    };
    let question = |level: Level| BucketRange {
        series: ids.iter().map(|id| (*id, 0)).collect(),
        tag: None,
        cut: Cut::Level { level, start_us: MIDNIGHT - DAY, end_us: MIDNIGHT + 2 * DAY },
        percentiles: false,
    };
    let mut seen = 0;
    while seen < 20 * GROUP {
        for level in Level::ALL {
            let counts = store.buckets(question(level)).await.unwrap();
            let count: u64 = counts.iter().map(|(_, bucket)| bucket.count).sum();
            assert!(count.is_multiple_of(GROUP), "{count} readings are no whole commits");
            assert!(count >= seen, "{count} after {seen}");
            seen = count;
        }
        store.refresh(Refresh { close_before_us: NOON, span_us: None }).await.unwrap();
    }
    writer.await.unwrap();
}
