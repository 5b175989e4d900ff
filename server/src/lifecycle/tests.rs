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
