use std::collections::BTreeMap;

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::{
    model::Reading,
    store::{
        Store as _,
        embedded::{
            commit::ORDINAL_BITS,
            fixture::{self, group, key},
            keys::BlockKey,
        },
    },
};

const QUARTER: Micros = Level::QuarterHour.width_us();

fn reading(series: u32, time_us: Micros) -> Reading {
    Reading::new(SeriesId(series), time_us, 1.0)
}

fn fill(open: &OpenBuckets, commit: u64, readings: &[Reading]) {
    let mut filled = open.filling();
    let readings: Vec<_> = readings.iter().collect();
    for run in readings.chunk_by(|a, b| a.series == b.series) {
        let (series, first_us) = (run[0].series, run[0].time_us);
        filled.add(BlockKey { series, first_us, stamp: commit << ORDINAL_BITS }, run);
    }
    open.fill(commit, filled);
}

/// Since when buckets are held, and the starts and counts of a series' buckets.
fn held(open: &OpenBuckets, series: u32) -> (Micros, Vec<(Micros, u64)>) {
    let held = open.held().open().clone();
    let buckets = held.of(SeriesId(series), (Micros::MIN, Micros::MAX));
    (held.since_us, buckets.map(|bucket| (bucket.start_us, bucket.count)).collect())
}

#[test]
fn what_came_before_the_start_is_not_held() {
    let open = OpenBuckets::new(7, Some(QUARTER + 1), Micros::MAX);
    assert_eq!(open.held().commit, 7);
    fill(&open, 8, &[reading(1, 2 * QUARTER - 1), reading(1, 2 * QUARTER), reading(1, 2 * QUARTER)]);
    fill(&open, 9, &[reading(1, 2 * QUARTER + 5), reading(1, 4 * QUARTER)]);
    assert_eq!(open.held().commit, 9);
    assert_eq!(held(&open, 1), (2 * QUARTER, vec![(2 * QUARTER, 3), (4 * QUARTER, 1)]));
    assert_eq!(held(&open, 2), (2 * QUARTER, vec![]));
}

#[test]
fn what_is_stored_is_let_go() {
    let open = OpenBuckets::new(0, None, Micros::MIN);
    fill(&open, 1, &[reading(1, 0), reading(1, QUARTER), reading(2, 0)]);
    open.stored_before(QUARTER + 5);
    assert_eq!(held(&open, 1), (QUARTER, vec![(QUARTER, 1)]));
    open.stored_before(0);
    assert_eq!(held(&open, 2), (QUARTER, vec![]), "never back");
}

#[test]
fn the_newest_is_the_last_in_time_then_the_last_committed() {
    let open = OpenBuckets::new(0, None, Micros::MIN);
    let newest = || {
        let held = open.held();
        let newest = held.open().newest(SeriesId(1))?;
        assert_eq!(newest.reading.as_ref().map(|reading| reading.time_us), Some(newest.last_us));
        Some((newest.block.first_us, newest.block.stamp >> ORDINAL_BITS))
    };
    assert_eq!(newest(), None);
    fill(&open, 1, &[reading(1, QUARTER - 1), reading(1, QUARTER + 5)]);
    assert_eq!(newest(), Some((QUARTER - 1, 1)), "it begins before the quarter that it ends in");
    fill(&open, 2, &[reading(1, 3), reading(1, QUARTER + 4)]);
    assert_eq!(newest(), Some((QUARTER - 1, 1)), "late");
    fill(&open, 3, &[reading(1, 4), reading(1, QUARTER + 5)]);
    assert_eq!(newest(), Some((4, 3)), "of equal times");
    open.stored_before(QUARTER);
    assert_eq!(newest(), Some((4, 3)), "its bucket is still open");
    open.stored_before(2 * QUARTER);
    assert_eq!(newest(), None);
    fill(&open, 4, &[reading(1, QUARTER + 6)]);
    assert_eq!(newest(), None, "later than all, and not open");
}

#[test]
fn a_reading_with_long_texts_is_not_held_but_where_it_lies() {
    let open = OpenBuckets::new(0, None, Micros::MIN);
    let long =
        Reading { metadata: Some(format!("{{\"note\":\"{}\"}}", "x".repeat(300)).into()), ..reading(1, 5) };
    fill(&open, 3, &[long]);
    let held = open.held();
    let newest = held.open().newest(SeriesId(1)).unwrap();
    assert_eq!((&newest.reading, newest.block.stamp >> ORDINAL_BITS), (&None, 3));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Of the quarters around a start: what a store holds then, and what is committed before and after that is read.
    #[test]
    fn what_is_read_again_and_what_comes_meanwhile_are_all(
        parts in [(); 3].map(|()| vec((0..3_usize, 0..6 * QUARTER), 0..40)),
        from in 0..6_i64,
        stored in option::of(0..7_i64),
    ) {
        tokio::runtime::Runtime::new().unwrap().block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let store = fixture::open(&dir);
            let series = store.resolve_series(&[0, 1, 2].map(key)).await.unwrap();
            let [past, meanwhile, after] = parts.map(|part| {
                let mut readings: Vec<_> =
                    part.into_iter().map(|(n, time_us)| reading(series[n].0, time_us)).collect();
                readings.sort_by_key(|reading| (reading.series, reading.time_us));
                readings
            });
            for commit in past.chunks(7) {
                store.commit(group(commit.to_vec(), Vec::new())).await.unwrap();
            }
            let newest_us = past.iter().map(|reading| reading.time_us).max();
            let engine = store.shared.engine().unwrap();
            let open = OpenBuckets::new(100, newest_us, newest_us.map_or(Micros::MIN, |_| from * QUARTER));
            fill(&open, 101, &meanwhile);
            if let Some(stored) = stored {
                open.stored_before(stored * QUARTER);
            }
            open.read_again(&engine.view()).unwrap();
            fill(&open, 102, &after);

            let since_us = newest_us.map_or(Micros::MIN, |newest_us| behind(newest_us).min(from * QUARTER));
            let since_us = since_us.max(stored.map_or(Micros::MIN, |stored| stored * QUARTER));
            for id in series {
                let mut wanted = BTreeMap::new();
                let all = past.iter().chain(&meanwhile).chain(&after);
                let times = all.filter(|reading| reading.series == id).map(|reading| reading.time_us);
                let times: Vec<_> = times.filter(|time_us| *time_us >= since_us).collect();
                for time_us in &times {
                    *wanted.entry(Level::QuarterHour.floor(*time_us)).or_default() += 1;
                }
                prop_assert_eq!(held(&open, id.0), (since_us, wanted.into_iter().collect::<Vec<(_, u64)>>()));
                let newest = open.held().open().newest(id).map(|newest| newest.last_us);
                prop_assert_eq!(newest, times.into_iter().max());
            }
            Ok(())
        })?;
    }
}

/// The present stays when the past is too much.
#[test]
fn of_a_past_that_is_too_much_the_older_quarters_go() {
    let quarters = MOST as i64 / 2;
    let open = OpenBuckets::new(1, Some(quarters * QUARTER - 1), 0);
    fill(&open, 2, &[reading(1, (quarters - 1) * QUARTER)]);
    let mut past = Filled::from(0);
    for series in 1..=3 {
        for quarter in 0..quarters {
            let block = BlockKey { series: SeriesId(series), first_us: quarter * QUARTER, stamp: 0 };
            past.add(block, &[&reading(series, quarter * QUARTER)]);
        }
    }
    assert!(open.held().take_past(&mut past), "the rest is still of use");
    let held = open.held();
    assert!(held.from_us > 0 && held.from_us < held.open.since_us, "{}", held.from_us);
    assert!(held.count <= MOST && held.count > MOST / 2, "{}", held.count);
    let last = held.open.of(SeriesId(1), ((quarters - 1) * QUARTER, Micros::MAX)).next();
    assert_eq!(last.map(|bucket| bucket.count), Some(2));
}

#[test]
fn a_start_reads_what_is_not_stored_but_not_much_more_than_an_hour() {
    let from = |stored_us, newest_us| open_from(stored_us, newest_us, 20 * QUARTER + 5);
    assert_eq!(from(18 * QUARTER, 20 * QUARTER + 3), 18 * QUARTER);
    assert_eq!(from(Micros::MIN, 20 * QUARTER + 3), 17 * QUARTER, "never stored");
    assert_eq!(from(18 * QUARTER, Micros::MAX), 18 * QUARTER, "a clock is ahead");
    assert_eq!(from(20 * QUARTER, 9 * QUARTER), 9 * QUARTER, "nothing has come since");
}

#[test]
fn more_than_is_held_is_let_go_at_once() {
    let open = OpenBuckets::new(0, None, Micros::MIN);
    let many: Vec<_> = (0..=MOST as i64).map(|n| reading(1, n * QUARTER)).collect();
    fill(&open, 1, &many);
    let since_us = many.len() as i64 * QUARTER;
    assert_eq!(held(&open, 1), (since_us, vec![]));
    fill(&open, 2, &[reading(1, since_us - 1), reading(1, since_us)]);
    assert_eq!(held(&open, 1), (since_us, vec![(since_us, 1)]));
}
