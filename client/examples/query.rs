//! Asks a server for what `send_readings` stored.
//!
//! ```text
//! cargo run -p herdstream-client --example query [-- URL]
//! ```

use std::{
    env,
    time::{SystemTime, UNIX_EPOCH},
};

use futures::{TryStreamExt as _, pin_mut};
use herdstream_client::{QueryClient, v1};

const HOUR_US: i64 = 3_600_000_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let endpoint = env::args().nth(1).unwrap_or_else(|| "http://127.0.0.1:7171".to_owned());
    let client = QueryClient::connect(endpoint).await?;

    let stats = client.get_ingestion_stats().await?;
    println!(
        "{} readings in the last hour, {} in the last day, {} active devices",
        stats.readings_last_hour, stats.readings_last_24h, stats.active_devices
    );

    let devices = client.list_devices_all(v1::ListDevicesRequest { farm_id: 1, ..Default::default() });
    let devices: Vec<v1::Device> = devices.try_collect().await?;
    println!("{} devices on farm 1", devices.len());
    let Some(device) = devices.first() else {
        println!("nothing there: run the example send_readings first");
        return Ok(());
    };

    let request = v1::GetLatestRequest { device_uid: device.device_uid.clone(), ..Default::default() };
    for latest in client.get_latest(request).await? {
        let (key, reading) = (latest.series.unwrap_or_default(), latest.readings.first());
        if let Some(reading) = reading {
            println!("{} {}: {} {}", key.device_uid, key.metric_name, reading.value, key.metric_unit);
        }
    }

    let now_us = SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros() as i64;
    let range = client.query_range_all(v1::QueryRangeRequest {
        device_uid: device.device_uid.clone(),
        farm_id: 1,
        metric_name: "temperature".into(),
        start_us: now_us - HOUR_US,
        end_us: now_us,
        ..Default::default()
    });
    pin_mut!(range);
    let (mut count, mut sum) = (0_u32, 0.0);
    while let Some(series) = range.try_next().await? {
        count += series.readings.len() as u32;
        sum += series.readings.iter().map(|reading| reading.value).sum::<f64>();
    }
    println!(
        "{} temperature: {count} readings in the last hour, mean {:.2}",
        device.device_uid,
        sum / f64::from(count.max(1))
    );

    let request = v1::QueryMilkingsRequest {
        farm_id: 1,
        start_us: now_us - HOUR_US,
        end_us: now_us,
        ..Default::default()
    };
    let milkings: Vec<v1::Milking> = client.query_milkings_all(request).try_collect().await?;
    for milking in milkings {
        println!("milking of animal {}: {} kg", milking.animal_id, milking.yield_kg);
    }
    Ok(())
}
