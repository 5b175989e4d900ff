//! Old days that take up most of a disk, and go when retention runs.

use herdstream_client::{QueryClient, QueryConfig, WriteClient, v1};
use herdstream_server::model::{DAY_US, now_us};
use uuid::Uuid;

use crate::{PATIENCE, server::Server, until};

/// Days.
const DAYS: i64 = 6;

/// Batches of a day, and readings of a batch.
const BATCHES: u64 = 2;
const READINGS: i64 = 480;

/// Older than what retention keeps in these tests.
pub(crate) struct History {
    device: String,
    start_us: i64,
}

impl History {
    /// Writes days of 7 MiB each and computes their aggregates.
    pub(crate) async fn write(server: &Server) -> Self {
        let start_us = (now_us() / DAY_US - 20) * DAY_US;
        let history = Self { device: format!("old-{}", Uuid::new_v4().simple()), start_us };
        let config = QueryConfig::new(format!("http://{}", server.address()));
        let client = WriteClient::connect(config.timeout(PATIENCE)).await.expect("the server listens");
        let producer_id = Uuid::new_v4().to_string();
        for offset in 1..=DAYS as u64 * BATCHES {
            let start_us = start_us + (offset as i64 - 1) * DAY_US / BATCHES as i64;
            let batch = history.batch(offset, start_us);
            let (instance_id, gateway_id) = (String::new(), "history".to_owned());
            let producer_id = producer_id.clone();
            let request =
                v1::WriteRequest { producer_id, instance_id, gateway_id, batch: Some(batch), backfill: true };
            let answer = client.write_patiently(&request, PATIENCE, |_| {}).await.expect("history is taken");
            assert_eq!(i64::from(answer.stored), READINGS, "{:?}", answer.rejections.first());
        }
        server.admin().await.refresh_rollups(v1::RefreshRollupsRequest::default()).await.expect("a refresh");
        history.check(server).await;
        history
    }

    /// What sent it.
    pub(crate) fn device(&self) -> &str {
        &self.device
    }

    /// Readings that carry so many bytes without a pattern that a day of them is worth dropping.
    fn batch(&self, offset: u64, start_us: i64) -> v1::Batch {
        let series = v1::Series {
            r#ref: 1,
            farm_id: 1,
            device_uid: self.device.clone(),
            device_type: "temp_sensor".to_owned(),
            metric_name: "temperature".to_owned(),
            metric_unit: "Cel".to_owned(),
        };
        let reading = |n: i64| {
            let noise: String =
                (0..468).map(|word| noise((offset << 32) + ((n as u64) << 16) + word)).collect();
            v1::Reading {
                series_ref: 1,
                time_us: start_us + n * (DAY_US / BATCHES as i64 / READINGS),
                value: n as f64 / 100.0,
                metadata: Some(format!("{{\"noise\":\"{noise}\"}}")),
                ..v1::Reading::default()
            }
        };
        v1::Batch {
            offset,
            series: vec![series],
            readings: (0..READINGS).map(reading).collect(),
            ..Default::default()
        }
    }

    /// Has retention run until every day is dropped, while the server may be recovering.
    pub(crate) async fn drop_all(&self, server: &Server) {
        let admin = server.admin().await;
        until("retention drops the old days", || async {
            match admin.run_retention(false).await {
                Ok(dropped) => {
                    let kept = dropped.iter().find(|part| !part.kept_because.is_empty());
                    assert_eq!(kept, None, "it stays");
                }
                Err(error) => println!("retention: {error}"),
            }
            let kept = admin.list_chunks("reading").await;
            kept.is_ok_and(|chunks| chunks.iter().all(|chunk| chunk.start_us > self.start_us + DAYS * DAY_US))
        })
        .await;
    }

    /// Aggregates of every day are what they were, whatever became of the readings.
    pub(crate) async fn check(&self, server: &Server) {
        let config = QueryConfig::new(format!("http://{}", server.address()));
        let client = QueryClient::connect(config.timeout(PATIENCE)).await.expect("the server listens");
        let request = v1::QueryRangeRequest {
            device_uid: self.device.clone(),
            metric_name: "temperature".to_owned(),
            start_us: self.start_us,
            end_us: self.start_us + DAYS * DAY_US,
            resolution: v1::Resolution::Day.into(),
            ..v1::QueryRangeRequest::default()
        };
        let answer = client.query_range(request).await.expect("an answer");
        let days = answer.aggregates.iter().flat_map(|series| &series.buckets);
        let days: Vec<_> = days.map(|day| (day.start_us, day.count)).collect();
        let readings = BATCHES * READINGS as u64;
        let expected = (0..DAYS).map(|day| (self.start_us + day * DAY_US, readings));
        assert_eq!(days, expected.collect::<Vec<_>>());
    }
}

/// Sixteen digits that look like others only by chance.
fn noise(seed: u64) -> String {
    let mixed = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    format!("{:016x}", mixed ^ (mixed >> 31))
}
