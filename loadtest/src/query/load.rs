//! What is written for questions: a history before them, readings of now meanwhile.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Result;
use herdstream_client::{AdminClient, Producer, ProducerConfig, QueryConfig, Reading, WriteClient, v1};
use herdstream_loadtest::{
    history::{Dairy, value},
    report::Written,
    workload::now_us,
};
use indicatif::{ProgressBar, ProgressStyle};
use tokio_util::sync::CancellationToken;

/// Writes about `readings` readings, and the milkings beside them.
pub(super) async fn write_history(endpoint: &str, dairy: &Dairy, readings: u64) -> Result<Written> {
    let writer = WriteClient::connect(QueryConfig::new(endpoint).timeout(Duration::from_mins(2))).await?;
    let bar = ProgressBar::new(readings);
    if let Ok(style) =
        ProgressStyle::with_template("  history {bar:30} {human_pos} of {human_len}, {per_sec}, {eta}")
    {
        bar.set_style(style);
    }
    let began = Instant::now();
    let items = dairy.write(&writer, |count| bar.inc(count)).await?;
    bar.finish_and_clear();
    Ok(Written { items, seconds: began.elapsed().as_secs_f64() })
}

/// Has all closed buckets computed; answers how many there were.
pub(super) async fn refresh(admin: &str) -> Result<u64> {
    let client = AdminClient::connect(QueryConfig::new(admin).timeout(Duration::from_hours(1))).await?;
    let began = Instant::now();
    // The server's own refresh may be under way.
    loop {
        match client.refresh_rollups(v1::RefreshRollupsRequest::default()).await {
            Ok(done) => return Ok(done.buckets),
            Err(error) if began.elapsed() < Duration::from_mins(30) => {
                eprintln!("  refresh       again, since {error}");
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

/// Readings of now, of all devices, at a rate; answers how many a second were taken.
pub(super) async fn arrive(
    endpoint: String,
    dairy: Arc<Dairy>,
    rate: u64,
    stop: CancellationToken,
) -> Result<u64> {
    const TICK: Duration = Duration::from_millis(20);
    if rate == 0 {
        stop.cancelled().await;
        return Ok(0);
    }
    let producer = Producer::open(ProducerConfig::new(&endpoint, "live")).await?;
    let mut series = Vec::new();
    for device in &dairy.devices {
        for &metric in device.kind.metrics() {
            series.push((producer.series(Dairy::key(device, metric))?, metric, device.animal_id));
        }
    }
    let mut ticks = tokio::time::interval(TICK);
    let (began, mut sent, mut next) = (Instant::now(), 0_u64, 0);
    while !stop.is_cancelled() {
        ticks.tick().await;
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        let time_us = now_us();
        let readings: Vec<Reading> = (sent..due)
            .map(|_| {
                let (reference, metric, animal) = series[next];
                next = (next + 1) % series.len();
                let reading = Reading::new(reference, value(metric, 1, time_us)).at(time_us);
                match animal {
                    Some(animal) => reading.animal(animal),
                    None => reading,
                }
            })
            .collect();
        sent = due;
        producer.send_slice(&readings, Duration::from_secs(30)).await?;
    }
    let rate = sent as f64 / began.elapsed().as_secs_f64();
    producer.close(Duration::from_secs(30)).await?;
    Ok(rate as u64)
}
