use std::sync::atomic::{AtomicU32, Ordering};

use super::*;

fn chunk(day: Micros) -> Chunk {
    Chunk {
        table: "reading",
        name: format!("day{day}"),
        start_us: day * DAY_US,
        end_us: (day + 1) * DAY_US,
        bytes: 1,
        uncompressed_bytes: None,
        compressed: false,
    }
}

#[test]
fn ages_count_from_a_day_after_the_newest_chunk_at_the_latest() {
    assert_eq!(newest(&[chunk(3), chunk(7), chunk(5)]), Some(9 * DAY_US));
    assert_eq!(newest(&[]), None, "a history may come yet");
}

#[tokio::test]
async fn what_another_server_is_in_the_way_of_is_done_soon() {
    let asked = AtomicU32::new(0);
    let work = || {
        let asked = asked.fetch_add(1, Ordering::Relaxed);
        async move { if asked < 3 { Err(StoreError::Elsewhere) } else { Ok(asked) } }
    };
    assert_eq!(until_here(Duration::from_millis(1), work).await.ok(), Some(3));
    let down = || async { Err::<(), _>(StoreError::Unavailable("down".into(), None)) };
    assert!(matches!(until_here(Duration::MAX, down).await, Err(StoreError::Unavailable(..))));
}

#[test]
fn retention_without_rollups_is_warned_of() {
    let off = RollupConfig { enabled: false, ..RollupConfig::default() };
    let mut retention = RetentionConfig::default();
    assert_eq!(contradiction(&RollupConfig::default(), &retention), None);
    assert!(contradiction(&off, &retention).is_some_and(|warning| warning.contains("rollups.enabled")));
    retention.readings = None;
    assert!(contradiction(&off, &retention).is_some(), "aggregates are to be dropped");
    (retention.rollup_15min, retention.rollup_hourly) = (None, None);
    assert_eq!(contradiction(&off, &retention), None);
}
