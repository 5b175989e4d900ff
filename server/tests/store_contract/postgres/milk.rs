//! What a look at the milk of some days reads.

use herdstream_server::{
    model::Micros,
    store::{Call, Cut, Level, Look as _, MilkRange, ProducerCommit, Retention, Steps},
};
use sqlx::Executor as _;

use super::{super::laws::Fixture as _, Database};
use crate::store_contract::rows::{DAY, HOUR, NOON, commit, commit_one, milked, milking, producer};

const MIDNIGHT: Micros = NOON - 12 * HOUR;
const DAYS: i64 = 50;
const ANIMALS: i32 = 120;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn milk_of_a_day_is_read_from_that_day() {
    for timescale in [false, true] {
        let database = if timescale { Database::timescale().await } else { Database::plain().await };
        let Some(database) = database else { continue };
        let store = database.store();
        let milkings = (1..=DAYS).flat_map(|day| {
            (0..ANIMALS).map(move |animal| milking(1 + animal % 2, animal, MIDNIGHT - day * DAY + HOUR))
        });
        let batches = vec![milked(milkings.collect())];
        commit_one(&*store, ProducerCommit { batches, ..commit(producer(1)) }).await;
        let old = Retention {
            milkings_us: Some(MIDNIGHT - 20 * DAY),
            quiet_since_us: Micros::MAX,
            ..Retention::default()
        };
        assert_eq!(store.retain(old).await.unwrap().len() as i64, DAYS - 20);
        let mut connection = database.connect().await;
        let analyze = "ANALYZE iot.milk_production_realtime; ANALYZE iot.rollup_milk_daily; \
                       ANALYZE iot.dropped_day";
        connection.execute(analyze).await.unwrap();
        drop(connection);
        for (first, days) in [(10, 1), (35, 1), (22, 3)] {
            let start_us = MIDNIGHT - first * DAY;
            let cut = Cut::Level { level: Level::Day, start_us, end_us: start_us + days * DAY };
            let steps = Steps::default();
            let call = Call { steps: Some(steps.clone()), ..Call::default() };
            let found = call.run(store.milk(MilkRange { farm_id: 1, animal_id: None, cut })).await.unwrap();
            assert_eq!(found.len() as i64, days * i64::from(ANIMALS / 2));
            let steps = steps.take();
            assert_eq!(steps.len(), 1, "one statement for all days");
            let plan = &steps[0].plan;
            // What is read of other days is thrown away by a filter, and would be thousands. The other farm is half of
            // a chunk, and the list of dropped days is short.
            let removed = plan.lines().filter_map(|line| line.split_once("Rows Removed by Filter: "));
            let removed: i32 = removed.map(|(_, rows)| rows.parse::<i32>().unwrap()).sum();
            let few = days as i32 * ANIMALS / 2 + 2 * DAYS as i32;
            assert!(removed <= few, "{removed} of other days or farms:\n{plan}");
        }
    }
}
