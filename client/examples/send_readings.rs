//! Streams a minute of readings of a small barn to a server, and says what became of them.
//!
//! ```text
//! cargo run -p herdstream-client --example send_readings [-- URL [SPOOL_DIRECTORY]]
//! ```

use std::{
    env,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use herdstream_client::{Event, Milking, Producer, ProducerConfig, Reading, SeriesKey};

const COWS: i32 = 20;
const SECONDS: i64 = 60;
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut args = env::args().skip(1);
    let endpoint = args.next().unwrap_or_else(|| "http://127.0.0.1:7171".to_owned());
    let mut config = ProducerConfig::new(&endpoint, "example-barn");
    if let Some(dir) = args.next() {
        config = config.spool(dir);
    }
    let producer = Producer::open(config).await.context("cannot open the producer")?;
    println!("producer {} sends to {endpoint}", producer.producer_id());

    let mut events = producer.events();
    let listener = tokio::spawn(async move {
        while let Some(event) = events.next().await {
            match event {
                Event::Connected { endpoint, epoch, .. } => {
                    println!("connected to {endpoint}, session {epoch}");
                }
                Event::Disconnected { message, retry_in, .. } => {
                    println!("no session: {message}; next try in {retry_in:.1?}");
                }
                Event::Rejected { rejections, .. } => {
                    for rejection in rejections {
                        println!("refused: {}: {}", rejection.field, rejection.message);
                    }
                }
                other => println!("{other:?}"),
            }
        }
    });

    // A handle for each series, asked for once.
    let mut temperatures = Vec::new();
    for cow in 1..=COWS {
        temperatures.push(producer.series(SeriesKey {
            farm_id: 1,
            device_uid: format!("collar-{cow:03}"),
            device_type: "collar".into(),
            metric_name: "temperature".into(),
            metric_unit: "Cel".into(),
        })?);
    }

    // A whole minute of one reading a second and cow, in one call.
    let now_us = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as i64;
    let mut readings = Vec::new();
    for second in 0..SECONDS {
        for (cow, series) in (1..).zip(&temperatures) {
            let hundredths = 3_840 + (second * 7 + i64::from(cow) * 13) % 10 * 5;
            let time_us = now_us - (SECONDS - second) * 1_000_000;
            readings.push(
                Reading::new(*series, hundredths as f64 / 100.0)
                    .at(time_us)
                    .animal(cow)
                    .battery(87)
                    .signal(-71),
            );
        }
    }
    let count = readings.len();
    producer.send_many(readings, PATIENCE).await?;
    println!("{count} readings accepted");

    let milking = Milking {
        milk_meter_id: 3,
        animal_id: 7,
        farm_id: 1,
        session_id: "morning-1".into(),
        yield_kg: 14.2,
        duration_seconds: Some(402),
        ..Milking::default()
    };
    // With a receipt, to know what became of this very one.
    let receipt = producer.send_tracked(milking, PATIENCE).await?;
    match tokio::time::timeout(PATIENCE, receipt).await {
        Ok(outcome) => println!("the milking is {:?}", outcome?),
        Err(_) => println!("the milking is not acknowledged yet: is the server running?"),
    }

    let closed = producer.close(PATIENCE).await;
    listener.abort();
    let report = closed.context("not everything was sent")?;
    let counters = report.counters;
    println!(
        "{} accepted: {} stored, {} quarantined, {} pending",
        counters.accepted, counters.stored, counters.quarantined, counters.pending
    );
    if let Some(dir) = report.kept_in {
        println!("what is pending is kept in {}: run again to send it", dir.display());
    }
    Ok(())
}
