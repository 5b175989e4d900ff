use proptest::{collection::vec, prelude::*};

use super::*;
use crate::{
    model::{Milking, Reading},
    store::{
        Bucket, BucketRange, Cut, Look as _, Refresh as Asked, SeriesFilter, Store,
        embedded::{
            EmbeddedStore,
            fixture::{group, key, open},
            keys::Kind,
        },
    },
};

const DAY: i64 = 20_000;

fn reading(series: SeriesId, time_us: Micros, value: f64) -> Reading {
    Reading { animal_id: Some(series.0 as i32), ..Reading::new(series, time_us, value) }
}

async fn commit(store: &EmbeddedStore, readings: Vec<Reading>, milkings: Vec<Milking>) {
    store.commit(group(readings, milkings)).await.unwrap();
}

/// Buckets of two days as they are answered, and as they are computed.
async fn compare(store: &EmbeddedStore, series: &[SeriesId]) {
    let (start_us, end_us) = (DAY * DAY_US, (DAY + 2) * DAY_US);
    for level in Level::ALL {
        let range = BucketRange {
            series: series.iter().map(|id| (*id, id.0)).collect(),
            tag: None,
            cut: Cut::Level { level, start_us, end_us },
            percentiles: true,
        };
        let in_parts = store.buckets(BucketRange { percentiles: false, ..range.clone() }).await.unwrap();
        let answered = store.buckets(range).await.unwrap();
        let engine = store.shared.engine().unwrap();
        let view = engine.view();
        let mut computed: Vec<(u32, Bucket)> = Vec::new();
        for &id in series {
            let see = |bucket| computed.push((id.0, bucket));
            view.computed(level, id, None, (start_us, end_us), true, see).unwrap();
        }
        assert_eq!(answered, computed, "{level:?}");
        let exact =
            |(line, bucket): &(u32, Bucket)| (*line, bucket.start_us, bucket.count, bucket.min, bucket.max);
        assert!(in_parts.iter().map(exact).eq(computed.iter().map(exact)), "{level:?}: {in_parts:?}");
        for ((_, part), (_, whole)) in in_parts.iter().zip(&computed) {
            assert!(
                (part.sum - whole.sum).abs() <= 1e-9 * whole.sum.abs().max(1e3),
                "{part:?}, not {whole:?}"
            );
            assert!(
                (part.squares - whole.squares).abs() <= 1e-9 * whole.squares.max(1e3),
                "{part:?}, not {whole:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    /// In tests few values are held at a time, so that some series are computed alone, and in several passes.
    #[test]
    fn series_of_any_size_are_stored_and_mended(
        sizes in vec(prop_oneof![3 => 0..12_i64, 1 => 0..300_i64], 1..60),
        late in vec((any::<prop::sample::Index>(), 0..40 * HOUR_US, -1e3..1e3_f64), 0..60),
    ) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = open(&dir);
            let keys: Vec<_> = (0..sizes.len()).map(key).collect();
            let series = store.resolve_series(&keys).await.unwrap();
            let mut readings = Vec::new();
            for (&id, &size) in series.iter().zip(&sizes) {
                // Over a day and a half.
                readings.extend((0..size).map(|n| {
                    let time_us = DAY * DAY_US + n * 36 * HOUR_US / size;
                    reading(id, time_us, ((n * 7919) % 1000) as f64 / 10.0)
                }));
            }
            commit(&store, readings, Vec::new()).await;
            compare(&store, &series).await;
            let asked = Asked { close_before_us: DAY * DAY_US + 35 * HOUR_US, span_us: None };
            store.refresh(asked).await.unwrap();
            compare(&store, &series).await;
            let late: Vec<_> = (late.iter())
                .map(|(place, time_us, value)| reading(*place.get(&series), DAY * DAY_US + time_us, *value))
                .collect();
            commit(&store, late, Vec::new()).await;
            compare(&store, &series).await;
            let refreshed = store.refresh(asked).await.unwrap();
            let view = store.shared.engine().unwrap();
            assert_eq!(view.view().dirty_hours().unwrap(), 0, "{refreshed:?}");
            compare(&store, &series).await;
        });
    }
}

/// Tags and counts by day are younger than readings and milkings.
#[tokio::test]
async fn a_directory_of_before_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let series = store.resolve_series(&[key(1), key(2)]).await.unwrap();
    let milking =
        |day: i64| Milking { farm_id: 1, animal_id: 2, time_us: day * DAY_US, ..Milking::default() };
    let readings = series.iter().map(|id| reading(*id, DAY * DAY_US, 1.0)).collect();
    commit(&store, readings, vec![milking(DAY), milking(DAY), milking(DAY + 1)]).await;
    let chunks = store.chunks().await.unwrap();
    {
        let engine = store.shared.engine().unwrap();
        let mut batch = engine.batch(0);
        batch.remove(engine.rows(), keys::COMPLETE);
        for day in [DAY, DAY + 1] {
            batch.remove(engine.rows(), keys::written(Kind::Milking, day));
        }
        for id in &series {
            let chunk = &engine.chunks()[&DAY];
            batch.remove(chunk, keys::tagged_series(Tag::Animal(id.0 as i32), *id));
        }
        for n in [1, 2] {
            batch.remove(engine.rows(), keys::home(&key(n).device_uid, 1));
        }
        super::super::engine::write(batch, true).unwrap();
    }
    store.close().await;
    drop(store);
    let format = dir.path().join("FORMAT");
    std::fs::write(&format, "herdstream embedded store 1\n").unwrap();

    let store = open(&dir);
    assert_eq!(std::fs::read_to_string(&format).unwrap(), "herdstream embedded store 3\n");
    let milkings = |chunks: &[crate::store::Chunk]| -> Vec<_> {
        chunks.iter().filter(|chunk| chunk.table == "milking").cloned().collect()
    };
    assert_eq!(milkings(&store.chunks().await.unwrap()), milkings(&chunks));
    let of_device = SeriesFilter { device_uid: Some(key(2).device_uid), ..SeriesFilter::default() };
    let found = store.find_series(of_device).await.unwrap();
    assert_eq!(found, [(series[1], key(2))]);
    let tagged = async |animal: u32, day: i64| {
        let found = store.tagged_series(Tag::Animal(animal as i32), day * DAY_US, (day + 1) * DAY_US).await;
        found.unwrap().into_iter().map(|(id, _)| id).collect::<Vec<_>>()
    };
    assert_eq!(tagged(1, DAY).await, series, "nobody knows better");
    commit(&store, vec![reading(series[0], (DAY + 1) * DAY_US, 1.0)], Vec::new()).await;
    assert_eq!(tagged(1, DAY + 1).await, series[..1]);
    store.refresh(Asked { close_before_us: (DAY + 1) * DAY_US, span_us: None }).await.unwrap();
    assert_eq!(tagged(1, DAY).await, series[..1]);
    assert_eq!(tagged(2, DAY).await, series[1..]);
    assert_eq!(tagged(3, DAY).await, []);
    compare(&store, &series).await;
}

/// Marks were set hour by hour.
#[tokio::test]
async fn marks_of_format_2_are_gathered() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let series = store.resolve_series(&[key(1), key(2)]).await.unwrap();
    let at = |n: usize, hour: i64| reading(series[n], DAY * DAY_US + hour * HOUR_US, n as f64);
    commit(&store, (0..48).flat_map(|hour| [at(0, hour), at(1, hour)]).collect(), Vec::new()).await;
    let asked = Asked { close_before_us: (DAY + 2) * DAY_US, span_us: None };
    store.refresh(asked).await.unwrap();
    let late = vec![at(0, 0), at(0, 1), at(0, 23), at(0, 24), at(1, 47)];
    commit(&store, late.clone(), Vec::new()).await;
    {
        let engine = store.shared.engine().unwrap();
        let mut batch = engine.batch(0);
        batch.insert(engine.rows(), keys::COMPLETE, []);
        let mut marks = 0;
        let drop_mark = |key: &[u8], _: &[u8]| {
            batch.remove(engine.rows(), key);
            marks += 1;
            Ok(true)
        };
        engine.view().scan(&keys::table(Table::Dirty), drop_mark).unwrap();
        assert_eq!(marks, 3, "one for each day of a series");
        for reading in &late {
            let mut key = vec![Table::DirtyHours as u8];
            key.extend(reading.series.0.to_be_bytes());
            key.extend(((keys::hour_of(reading.time_us) as u64) ^ (1 << 63)).to_be_bytes());
            batch.insert(engine.rows(), key, crate::store::embedded::rows::encode_number(2));
        }
        super::super::engine::write(batch, true).unwrap();
        assert_eq!(engine.view().dirty_hours().unwrap(), 0);
    }
    store.close().await;
    drop(store);
    std::fs::write(dir.path().join("FORMAT"), "herdstream embedded store 2\n").unwrap();

    let store = open(&dir);
    assert_eq!(store.dirty_hours().await.unwrap(), 5);
    compare(&store, &series).await;
    assert_eq!(store.refresh(asked).await.unwrap().dirty_hours, 5);
    assert_eq!(store.dirty_hours().await.unwrap(), 0);
    compare(&store, &series).await;
    let engine = store.shared.engine().unwrap();
    assert!(engine.view().last(&keys::table(Table::DirtyHours)).unwrap().is_none());
}

/// Many commits into the same hours, and spans that cut through marks.
#[tokio::test]
async fn what_lies_outside_of_the_span_stays_dirty() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let series = store.resolve_series(&[key(1), key(2), key(3)]).await.unwrap();
    store.refresh(Asked { close_before_us: (DAY + 2) * DAY_US, span_us: None }).await.unwrap();
    for round in 0..3 {
        let at = |hour: i64| reading(series[hour as usize % 3], DAY * DAY_US + hour * HOUR_US + round, 1.0);
        commit(&store, (0..48).map(at).collect(), Vec::new()).await;
    }
    assert_eq!(store.dirty_hours().await.unwrap(), 48);
    let mut left = 48;
    for (from, until) in [(5, 7), (5, 8), (20, 30), (47, 48), (0, 48)] {
        let (start_us, end_us) = (DAY * DAY_US + from * HOUR_US, DAY * DAY_US + until * HOUR_US);
        let asked = Asked { close_before_us: 0, span_us: Some((start_us, end_us)) };
        left -= store.refresh(asked).await.unwrap().dirty_hours;
        assert_eq!(store.dirty_hours().await.unwrap(), left, "after {from} to {until}");
        compare(&store, &series).await;
    }
    assert_eq!(left, 0);
}

/// As it happens when commits come between the steps of a refresh: each relies on marks that were set since it looked.
#[tokio::test]
async fn a_mark_that_comes_during_a_refresh_outlives_it() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let series = store.resolve_series(&[key(1)]).await.unwrap();
    store.refresh(Asked { close_before_us: (DAY + 1) * DAY_US, span_us: None }).await.unwrap();
    let late = |n: i64| vec![reading(series[0], DAY * DAY_US + n, 1.0)];
    // Marked, and not again.
    commit(&store, late(0), Vec::new()).await;
    commit(&store, late(1), Vec::new()).await;
    let alone = store.keeping.clone().lock_owned().await;
    let (step, mut steps) = tokio::sync::mpsc::unbounded_channel();
    let (committed, proceed) = std::sync::mpsc::channel();
    let refreshing = store.keep(alone, move |keeping| {
        let commit_now = || {
            step.send(()).unwrap();
            let () = proceed.recv().unwrap();
        };
        let mut refresh = Refresh::new(keeping);
        let looked = keeping.look()?;
        commit_now();
        let view = keeping.view();
        commit_now();
        let first = keys::table(Table::Dirty);
        refresh.mend_from(
            &first,
            &view,
            looked,
            &(keys::hour_of(Micros::MIN)..=keys::hour_of(Micros::MAX)),
        )?;
        commit_now();
        Ok(refresh.done.dirty_hours)
    });
    let committing = async {
        let mut n = 2;
        while steps.recv().await.is_some() {
            commit(&store, late(n), Vec::new()).await;
            n += 1;
            committed.send(()).unwrap();
        }
    };
    let (mended, ()) = tokio::join!(refreshing, committing);
    assert_eq!((mended.unwrap(), store.dirty_hours().await.unwrap()), (1, 1));
    compare(&store, &series).await;
    let asked = Asked { close_before_us: 0, span_us: None };
    assert_eq!(store.refresh(asked).await.unwrap().dirty_hours, 1);
    assert_eq!(store.dirty_hours().await.unwrap(), 0);
    compare(&store, &series).await;
}

/// Rows of rollups that are wrong, are missing, or should not be there, on a whole day and on one that is not over.
#[tokio::test]
async fn what_is_doubted_is_computed_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let series = store.resolve_series(&[key(1), key(2), key(3)]).await.unwrap();
    let at = |n: usize, hour: i64| reading(series[n], DAY * DAY_US + hour * HOUR_US, (n * 10) as f64);
    // The third has none; the first has none in the third hour of each day.
    let hours = (-24..40).filter(|hour| hour % 24 != 2);
    commit(&store, hours.flat_map(|hour| [at(0, hour), at(1, hour)]).collect(), Vec::new()).await;
    let asked = Asked { close_before_us: DAY * DAY_US + 38 * HOUR_US, span_us: None };
    store.refresh(asked).await.unwrap();
    // The first of the days goes, and with it what could be told better than by its rollups.
    let retention = crate::store::Retention {
        readings_us: Some(DAY * DAY_US),
        quiet_since_us: Micros::MAX,
        ..crate::store::Retention::default()
    };
    assert_eq!(store.retain(retention).await.unwrap().len(), 1);
    let rows = |days: RangeInclusive<i64>| {
        let engine = store.shared.engine().unwrap();
        let mut rows = Vec::new();
        for (&id, level) in series.iter().flat_map(|id| Level::ALL.map(|level| (id, level))) {
            for day in days.clone() {
                let row = engine.rollup(&keys::rollups(level, id, day)).unwrap();
                rows.push((id, level, day, row.map(|row| row.to_vec())));
            }
        }
        rows
    };
    let before = rows(DAY..=DAY + 1);
    {
        let engine = store.shared.engine().unwrap();
        let mut batch = engine.batch(0);
        for (level, day) in Level::ALL.into_iter().flat_map(|level| [-1, 0, 1].map(|day| (level, DAY + day)))
        {
            let wrong = |slot: i64| {
                let start_us = day * DAY_US + slot * level.width_us();
                Bucket { count: 77, ..Bucket::of_one(&reading(series[0], start_us, 1e6)) }
            };
            // The third hour, in which nothing was measured, and the one after it.
            let slots = if level == Level::Day {
                0..1
            } else {
                2 * HOUR_US / level.width_us()..4 * HOUR_US / level.width_us()
            };
            let buckets: Day = slots.map(wrong).map(|bucket| (bucket.start_us, bucket)).collect();
            for id in [series[0], series[2]] {
                batch.insert(
                    engine.rollups(),
                    keys::rollups(level, id, day),
                    rollup::encode(level, &buckets),
                );
            }
            batch.remove(engine.rollups(), keys::rollups(level, series[1], day));
        }
        super::super::engine::write(batch, true).unwrap();
    }
    let damaged = rows(DAY - 1..=DAY - 1);
    assert_ne!(rows(DAY..=DAY + 1), before);
    // What was not doubted, or lies beside what was, stays.
    let span = |from: i64, until: i64| (DAY * DAY_US + from * HOUR_US, DAY * DAY_US + until * HOUR_US);
    assert_eq!(store.refresh(asked).await.unwrap(), Refreshed::default());
    let wrong_day = rows(DAY..=DAY);
    for (from, until) in [(26, 28), (24, 48)] {
        store.doubt(span(from, until)).await.unwrap();
        let asked = Asked { span_us: Some(span(from, until)), ..asked };
        assert!(store.refresh(asked).await.unwrap().dirty_hours > 0);
        assert_eq!(rows(DAY..=DAY), wrong_day, "the day before");
        assert_eq!(store.dirty_hours().await.unwrap(), 0);
    }
    store.doubt(span(-48, 5)).await.unwrap();
    // As if the process had ended here, and somebody doubted other hours.
    store.doubt(span(-1, 1)).await.unwrap();
    assert_eq!(store.dirty_hours().await.unwrap(), 3 * 5);
    store.refresh(asked).await.unwrap();
    assert_eq!(rows(DAY..=DAY + 1), before);
    assert_eq!(rows(DAY - 1..=DAY - 1), damaged, "nobody knows better");
    compare(&store, &series).await;
    // Nothing is kept yet, or nothing is there.
    for span_us in [span(48, 72), (Micros::MIN, Micros::MIN + 1), (Micros::MAX - 1, Micros::MAX), (5, 5)] {
        store.doubt(span_us).await.unwrap();
    }
    assert_eq!(store.dirty_hours().await.unwrap(), 0);
}

#[test]
fn near_series_are_looked_at_together() {
    let ranges = near([1, 2, 6, 11, 20, 21].into_iter());
    assert_eq!(ranges, [1..=6, 11..=11, 20..=21]);
    assert_eq!(near([].into_iter()), []);
}
