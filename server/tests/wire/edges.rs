//! Questions at the edges of what is kept, of what adds up, and of what is a name.

use std::time::Duration;

use herdstream_proto::v1::{self, Resolution, Statistic, admin_service_client::AdminServiceClient};
use herdstream_server::{config::Config, model::now_us, testing::TestServer};

use crate::{
    answers::{DAY, HOUR, Measured, START, request, store},
    client::{assert_field, query_client},
};

fn date(time_us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(time_us).expect("a time").date_naive().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_with_a_nul_is_refused_before_any_database_sees_it() {
    let server = TestServer::start().await;
    store(&server, &[Measured { farm: 1, device: 0, time_us: START, quarters: 4, animal: None }]).await;
    let mut client = query_client(&server).await;
    let device_uid = "probe-1-0\0".to_owned();
    let asked = v1::GetLatestRequest { device_uid: device_uid.clone(), ..v1::GetLatestRequest::default() };
    assert_field(&client.get_latest(asked).await.unwrap_err(), "device_uid", "latest");
    let asked = v1::GetDeviceStatusRequest { device_uid: device_uid.clone(), farm_id: 0 };
    assert_field(&client.get_device_status(asked).await.unwrap_err(), "device_uid", "status");
    let asked = v1::ListSeriesRequest { device_uid: device_uid.clone(), ..v1::ListSeriesRequest::default() };
    assert_field(&client.list_series(asked).await.unwrap_err(), "device_uid", "series");
    let asked = v1::QueryRangeRequest { device_uid, ..request() };
    assert_field(&client.query_range(asked).await.unwrap_err(), "device_uid", "range");
    let asked = v1::QueryRangeRequest { metric_name: "warm\0th".to_owned(), ..request() };
    assert_field(&client.query_range(asked).await.unwrap_err(), "metric_name", "range");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_devices_belongs_to_its_request() {
    let server = TestServer::start().await;
    let of_farms = [1, 2].map(|farm| Measured { farm, device: 0, time_us: START, quarters: 4, animal: None });
    store(&server, &of_farms).await;
    let mut client = query_client(&server).await;
    let ask = |farm_id, page_token: &str| v1::ListDevicesRequest {
        farm_id,
        page_size: 2,
        page_token: page_token.to_owned(),
    };
    let first = client.list_devices(ask(0, "")).await.unwrap().into_inner();
    let token = first.next_page_token;
    let second = client.list_devices(ask(0, &token)).await.unwrap().into_inner();
    let uids: Vec<_> = first.devices.iter().chain(&second.devices).map(|device| &device.device_uid).collect();
    assert_eq!(uids, ["probe-1-0", "probe-1-1", "probe-1-2", "probe-2-0"]);
    let (fingerprint, _) = token.split_once(':').expect("a place and a name");
    let forged = [
        "x".to_owned(),
        "1:probe-1-1".to_owned(),
        format!("{fingerprint}:"),
        format!("{fingerprint}:a\0"),
        format!("{fingerprint}:{}", "x".repeat(65)),
        token.replace("probe-1-1", "probe-1-0"),
    ];
    for token in &forged {
        let status = client.list_devices(ask(0, token)).await.expect_err(token);
        assert_field(&status, "page_token", token);
    }
    assert_field(&client.list_devices(ask(1, &token)).await.unwrap_err(), "page_token", "of another request");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn percentiles_of_several_devices_are_refused_and_not_left_out() {
    let server = TestServer::start().await;
    let measured = |device, minute: i64, animal| Measured {
        farm: 1,
        device,
        time_us: START + minute * HOUR / 60,
        quarters: minute as i32,
        animal: Some(animal),
    };
    store(&server, &[measured(0, 0, 7), measured(1, 1, 7), measured(0, 2, 8), measured(0, 6, 8)]).await;
    let mut client = query_client(&server).await;
    for resolution in [Resolution::Hour, Resolution::Auto] {
        let asked = |animal_id| v1::QueryRangeRequest {
            device_uid: String::new(),
            animal_id,
            resolution: resolution.into(),
            statistics: vec![Statistic::Median.into()],
            // Not for readings.
            max_points: if resolution == Resolution::Auto { 121 } else { 0 },
            ..request()
        };
        if resolution == Resolution::Hour {
            assert_field(&client.query_range(asked(7)).await.unwrap_err(), "statistics", "of two devices");
        }
        let found = client.query_range(asked(8)).await.unwrap().into_inner();
        let medians: Vec<_> =
            found.aggregates.iter().flat_map(|line| &line.buckets).map(|b| b.median).collect();
        match found.resolution() {
            Resolution::Raw => assert_eq!(found.series[0].readings.len(), 2),
            _ => assert_eq!(medians, [Some(1.0)], "{resolution:?}"),
        }
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resolution_is_one_that_can_be_answered() {
    let server = TestServer::start().await;
    let each_minute = (0..2_000).map(|minute| Measured {
        farm: 1,
        device: 0,
        time_us: START + minute * HOUR / 60,
        quarters: 4,
        animal: None,
    });
    store(&server, &each_minute.collect::<Vec<_>>()).await;
    let mut client = query_client(&server).await;
    let mut resolution = async |days, max_points, statistic: Option<Statistic>| {
        let asked = v1::QueryRangeRequest {
            end_us: START + days * DAY,
            resolution: Resolution::Auto.into(),
            statistics: statistic.into_iter().map(i32::from).collect(),
            max_points,
            page_size: 50_000,
            ..request()
        };
        client.query_range(asked).await.map(|answer| answer.into_inner().resolution())
    };
    assert_eq!(resolution(2, 200, None).await.unwrap(), Resolution::Resolution15min);
    // Quarters have no median.
    assert_eq!(resolution(2, 200, Some(Statistic::Median)).await.unwrap(), Resolution::Hour);
    // 43 200 quarters are more than a request may span.
    assert_eq!(resolution(450, 50_000, None).await.unwrap(), Resolution::Raw);
    assert_eq!(resolution(450, 1_999, None).await.unwrap(), Resolution::Day);
    assert_eq!(resolution(450, 10_800, Some(Statistic::Median)).await.unwrap(), Resolution::Raw);
    // Days have no 95th percentile, and hours are too many.
    assert_field(&resolution(450, 1_999, Some(Statistic::P95)).await.unwrap_err(), "statistics", "days");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_newest_reading_of_an_animal_is_found_wherever_it_lies() {
    let server = TestServer::start().await;
    let measured =
        |device, time_us, quarters| Measured { farm: 1, device, time_us, quarters, animal: Some(7) };
    let mut all: Vec<_> = (0..2_500).map(|n| measured(0, START + 3 * DAY + 5 + n / 500, 4)).collect();
    all.push(measured(0, START + 7, 8));
    all.push(measured(0, START + 3 * DAY + 10, 40));
    store(&server, &all).await;
    let mut client = query_client(&server).await;
    let mut metric = async |start_us, end_us| {
        let asked = v1::GetAnimalMetricsRequest {
            animal_id: 7,
            start_us,
            end_us,
            ..v1::GetAnimalMetricsRequest::default()
        };
        let metrics = client.get_animal_metrics(asked).await.unwrap().into_inner().metrics;
        metrics.into_iter().next().map(|metric| {
            let latest = metric.latest.expect("a reading");
            (metric.statistics.expect("statistics").count, latest.time_us - START, latest.value)
        })
    };
    let newest = 3 * DAY + 10;
    // In the middle, at the end in part, at the start in part, within one quarter.
    assert_eq!(metric(START, START + 5 * DAY).await, Some((2_502, newest, 10.0)));
    assert_eq!(metric(START + 8, START + newest + 1).await, Some((2_501, newest, 10.0)));
    assert_eq!(metric(START + 3 * DAY + 9, START + 5 * DAY).await, Some((501, newest, 10.0)));
    assert_eq!(metric(START + 3 * DAY + 5, START + 3 * DAY + 7).await, Some((1_000, 3 * DAY + 6, 1.0)));
    assert_eq!(metric(START + 1, START + 3 * DAY).await, Some((1, 7, 2.0)));
    assert_eq!(metric(START + 4 * DAY, START + 5 * DAY).await, None);
    server.stop().await;
}

/// Days of a time zone are put together from quarters of an hour: what is left of one would be told as if it were all.
#[tokio::test(flavor = "multi_thread")]
async fn no_day_of_a_time_zone_is_told_in_part() {
    let mut config = Config::default();
    config.rollups.enabled = false;
    config.ingest.accepted_lateness = Duration::from_hours(24);
    config.retention.readings = Some(Duration::from_hours(3 * 24));
    config.retention.rollup_15min = Some(Duration::from_hours(3 * 24));
    config.retention.quiet = Duration::ZERO;
    let server = TestServer::start_with(config).await;
    let endpoint = server.admin_endpoint().expect("it is on unless switched off");
    let mut admin = AdminServiceClient::connect(endpoint).await.expect("administration is served");
    let now = now_us();
    let today = now - now.rem_euclid(DAY);
    let hourly = (0..8 * 24).map(|hour| Measured {
        farm: 1,
        device: 0,
        time_us: today - hour * HOUR,
        quarters: 4,
        animal: None,
    });
    store(&server, &hourly.collect::<Vec<_>>()).await;
    admin.refresh_rollups(v1::RefreshRollupsRequest::default()).await.unwrap();
    admin.run_retention(v1::RunRetentionRequest { dry_run: false }).await.unwrap();
    let lifecycle = admin.get_lifecycle(v1::GetLifecycleRequest {}).await.unwrap().into_inner();
    let kept_us = lifecycle.levels[0].kept_from_us;
    assert!(kept_us > today - 7 * DAY, "nothing was dropped: {lifecycle:?}");
    let mut client = query_client(&server).await;
    let mut days = async |first_us, time_zone: &str| {
        let asked = v1::GetFarmDailySummaryRequest {
            farm_id: 1,
            first_date: date(first_us),
            last_date: date(today - DAY),
            time_zone: time_zone.to_owned(),
            ..v1::GetFarmDailySummaryRequest::default()
        };
        let days = client.get_farm_daily_summary(asked).await.map(|answer| answer.into_inner().days)?;
        Ok::<_, tonic::Status>(days.into_iter().map(|day| day.count).collect::<Vec<_>>())
    };
    // It begins 5 hours and 45 minutes before the day of UTC of which quarters are kept.
    assert_field(&days(kept_us, "Asia/Kathmandu").await.unwrap_err(), "first_date", "in part");
    assert!(days(kept_us + DAY, "Asia/Kathmandu").await.unwrap().iter().all(|count| *count == 24));
    assert!(days(kept_us - 2 * DAY, "").await.unwrap().iter().all(|count| *count == 24), "days are kept");
    server.stop().await;
}
