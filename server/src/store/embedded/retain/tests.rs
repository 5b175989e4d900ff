use super::*;
use crate::{
    model::Milking,
    store::{
        Look as _, MilkRange, MilkingRange, Store,
        embedded::{
            EmbeddedStore, engine,
            fixture::{group, open},
        },
    },
};

const DAY: i64 = 20_000;

fn milking(n: i64) -> Milking {
    Milking {
        farm_id: (n % 3) as i32 + 1,
        animal_id: (n % 7) as i32,
        time_us: DAY * DAY_US + n,
        yield_kg: 8.0,
        ..Milking::default()
    }
}

async fn commit(store: &EmbeddedStore, milkings: Vec<Milking>) {
    store.commit(group(Vec::new(), milkings)).await.unwrap();
}

/// Milk of the day by farm, animal and milkings.
async fn milk(store: &EmbeddedStore) -> Vec<(i32, i32, u64)> {
    let mut found = Vec::new();
    for farm_id in 1..=3 {
        let cut = Cut::Level { level: Level::Day, start_us: DAY * DAY_US, end_us: (DAY + 1) * DAY_US };
        let milk = store.milk(MilkRange { farm_id, animal_id: None, cut }).await.unwrap();
        found.extend(milk.iter().map(|milk| (farm_id, milk.animal_id, milk.milkings)));
    }
    found
}

fn everything() -> Retention {
    Retention { milkings_us: Some(Micros::MAX), quiet_since_us: Micros::MAX, ..Retention::default() }
}

/// Brings some milkings back, as if they had not been dropped yet when that was interrupted.
fn interrupt(store: &EmbeddedStore) {
    let engine = store.shared.engine().unwrap();
    let mut batch = engine.batch(2);
    for n in 0..5 {
        let milking = milking(n);
        let key = keys::milking(milking.farm_id, milking.time_us, 1, n as u32);
        batch.insert(engine.rows(), key, rows::encode_milking(&milking));
    }
    batch.insert(
        engine.rows(),
        keys::written(Kind::Milking, DAY),
        Written { rows: 5000, ..Written::default() }.encode(),
    );
    engine::write(batch, true).unwrap();
}

fn assert_gone(store: &EmbeddedStore) {
    let engine = store.shared.engine().unwrap();
    let view = engine.view();
    assert_eq!(view.milking_days().unwrap(), []);
    let mut left = 0;
    view.scan(&keys::table(Table::Milkings), |_, _| {
        left += 1;
        Ok(true)
    })
    .unwrap();
    assert_eq!(left, 0);
}

/// More milkings than go at a time.
#[tokio::test]
async fn milk_stays_as_it_was_wherever_the_drop_of_its_milkings_is_interrupted() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    commit(&store, (0..5000).map(milking).collect()).await;
    let known = milk(&store).await;
    assert_eq!(known.len(), 21);
    let told = store.retain(Retention { dry_run: true, ..everything() }).await.unwrap();
    let dropped = store.retain(everything()).await.unwrap();
    assert_eq!(dropped, told);
    assert_eq!((dropped.len(), dropped[0].rows, dropped[0].table), (1, 5000, "milking"));
    assert_eq!(milk(&store).await, known);
    assert_gone(&store);

    interrupt(&store);
    assert_eq!(milk(&store).await, known, "what is left of a dropped day is not told");
    let range = MilkingRange {
        farm_id: 1,
        animal_id: None,
        start_us: DAY * DAY_US,
        end_us: (DAY + 1) * DAY_US,
        skip: 0,
        limit: 100,
    };
    assert_eq!(store.milkings(range).await.unwrap(), []);
    assert_eq!(store.retain(everything()).await.unwrap(), []);
    assert_eq!(milk(&store).await, known);
    assert_gone(&store);

    interrupt(&store);
    store.close().await;
    drop(store);
    let store = open(&dir);
    assert_eq!(milk(&store).await, known);
    assert_gone(&store);
}

/// Only those of farms that were milked on that day are looked at.
#[tokio::test]
async fn farms_of_a_day_are_found_among_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir);
    let at = |farm_id: i32, day: i64| Milking { farm_id, time_us: day * DAY_US, ..Milking::default() };
    let milkings = [(1, 0), (2, 1), (2, 2), (3, 0), (3, 2), (5, 1), (i32::MAX, 0), (i32::MAX, 1)];
    commit(&store, milkings.iter().map(|&(farm, day)| at(farm, DAY + day)).collect()).await;
    let engine = store.shared.engine().unwrap();
    for (day, farms) in [(-1, vec![]), (0, vec![1, 3, i32::MAX]), (1, vec![2, 5, i32::MAX]), (2, vec![2, 3])]
    {
        assert_eq!(engine.view().farms_milked(DAY + day).unwrap(), farms, "day {day}");
    }
}
