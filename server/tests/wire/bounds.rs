//! Bounds of questions: what is beyond is refused by field and bound, what is at the bound is answered.

use herdstream_proto::{
    error::Reason,
    v1::{self, Resolution},
};
use herdstream_server::testing::TestServer;
use tonic::{Response, Status};

use crate::{
    answers::{DAY, HOUR, Measured, START, request, store},
    client::{assert_field, assert_reason, ingest_client, query_client},
};

/// Checks that an answer was refused for a field, and that its message tells the bound.
#[track_caller]
fn assert_bound<T: std::fmt::Debug>(
    answer: Result<Response<T>, Status>,
    (field, bound): (&str, &str),
    about: &str,
) {
    let status = answer.expect_err(about);
    assert_field(&status, field, about);
    assert!(status.message().contains(bound), "{about}: {bound:?} is not in {:?}", status.message());
}

/// A server that knows both farms of the tests.
async fn server() -> TestServer {
    let server = TestServer::start().await;
    store(&server, &[Measured { farm: 1, device: 0, time_us: START, quarters: 4, animal: Some(7) }]).await;
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn summaries() {
    let server = server().await;
    let mut client = query_client(&server).await;
    let base = || v1::GetFarmDailySummaryRequest {
        farm_id: 1,
        first_date: "2026-03-27".to_owned(),
        last_date: "2026-03-27".to_owned(),
        ..v1::GetFarmDailySummaryRequest::default()
    };
    let metrics = |count| vec!["warmth".to_owned(); count];
    let faults: Vec<((&str, &str), v1::GetFarmDailySummaryRequest)> = vec![
        (("farm_id", "below 1"), v1::GetFarmDailySummaryRequest { farm_id: 0, ..base() }),
        (("farm_id", "below 1"), v1::GetFarmDailySummaryRequest { farm_id: -1, ..base() }),
        (
            ("first_date", "2026-11-24"),
            v1::GetFarmDailySummaryRequest { first_date: "today".into(), ..base() },
        ),
        (
            ("last_date", "2026-11-24"),
            v1::GetFarmDailySummaryRequest { last_date: "2026-3-27".into(), ..base() },
        ),
        (
            ("last_date", "1 to 366"),
            v1::GetFarmDailySummaryRequest { last_date: "2026-03-26".into(), ..base() },
        ),
        (
            ("last_date", "1 to 366"),
            v1::GetFarmDailySummaryRequest { last_date: "2027-03-28".into(), ..base() },
        ),
        (
            ("time_zone", "Europe/Berlin"),
            v1::GetFarmDailySummaryRequest { time_zone: "Berlin".into(), ..base() },
        ),
        (
            ("metric_names", "at most 100"),
            v1::GetFarmDailySummaryRequest { metric_names: metrics(101), ..base() },
        ),
        (
            ("metric_names", "1 to 64"),
            v1::GetFarmDailySummaryRequest { metric_names: vec!["m".repeat(65)], ..base() },
        ),
        (
            ("metric_names", "cold"),
            v1::GetFarmDailySummaryRequest { metric_names: vec!["cold".into()], ..base() },
        ),
        (
            ("device_type", "collar"),
            v1::GetFarmDailySummaryRequest { device_type: "collar".into(), ..base() },
        ),
    ];
    for (wanted, asked) in faults {
        let about = format!("{asked:?}");
        assert_bound(client.get_farm_daily_summary(asked).await, wanted, &about);
    }
    for time_zone in ["", "Europe/Berlin"] {
        let year = v1::GetFarmDailySummaryRequest {
            last_date: "2027-03-27".to_owned(),
            metric_names: metrics(100),
            device_type: "probe".to_owned(),
            time_zone: time_zone.to_owned(),
            ..base()
        };
        let days = client.get_farm_daily_summary(year).await.unwrap().into_inner().days;
        assert_eq!(days.len(), 1, "366 days, 100 metrics: {days:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn milk() {
    let server = server().await;
    let mut client = query_client(&server).await;
    let base = || v1::GetMilkProductionDailyRequest {
        farm_id: 1,
        first_date: "2026-03-27".to_owned(),
        last_date: "2026-03-27".to_owned(),
        ..v1::GetMilkProductionDailyRequest::default()
    };
    let faults: Vec<((&str, &str), v1::GetMilkProductionDailyRequest)> = vec![
        (("farm_id", "below 1"), v1::GetMilkProductionDailyRequest { farm_id: 0, ..base() }),
        (("animal_id", "below 0"), v1::GetMilkProductionDailyRequest { animal_id: -1, ..base() }),
        (
            ("first_date", "2026-11-24"),
            v1::GetMilkProductionDailyRequest { first_date: String::new(), ..base() },
        ),
        (
            ("last_date", "2026-11-24"),
            v1::GetMilkProductionDailyRequest { last_date: "2026-02-30".into(), ..base() },
        ),
        (
            ("last_date", "1 to 366"),
            v1::GetMilkProductionDailyRequest { last_date: "2026-03-26".into(), ..base() },
        ),
        (
            ("last_date", "1 to 366"),
            v1::GetMilkProductionDailyRequest { last_date: "2027-03-28".into(), ..base() },
        ),
        (
            ("time_zone", "Europe/Berlin"),
            v1::GetMilkProductionDailyRequest { time_zone: "Berlin".into(), ..base() },
        ),
        (("page_size", "10000"), v1::GetMilkProductionDailyRequest { page_size: 10_001, ..base() }),
        (
            ("page_token", "start over"),
            v1::GetMilkProductionDailyRequest { page_token: "0-0-0".into(), ..base() },
        ),
    ];
    for (wanted, asked) in faults {
        let about = format!("{asked:?}");
        assert_bound(client.get_milk_production_daily(asked).await, wanted, &about);
    }
    for time_zone in ["", "Europe/Berlin"] {
        let (last_date, time_zone) = ("2027-03-27".to_owned(), time_zone.to_owned());
        let year = v1::GetMilkProductionDailyRequest { last_date, time_zone, page_size: 10_000, ..base() };
        assert!(client.get_milk_production_daily(year).await.unwrap().into_inner().days.is_empty());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn animals() {
    let server = server().await;
    let mut client = query_client(&server).await;
    let base = || v1::GetAnimalMetricsRequest {
        animal_id: 7,
        start_us: START,
        end_us: START + DAY,
        ..v1::GetAnimalMetricsRequest::default()
    };
    let end_us = START + 92 * DAY;
    let faults: Vec<((&str, &str), v1::GetAnimalMetricsRequest)> = vec![
        (("animal_id", "below 1"), v1::GetAnimalMetricsRequest { animal_id: 0, ..base() }),
        (("farm_id", "below 0"), v1::GetAnimalMetricsRequest { farm_id: -1, ..base() }),
        (("end_us", "not after start_us"), v1::GetAnimalMetricsRequest { end_us: START, ..base() }),
        (("end_us", "more than 92 days"), v1::GetAnimalMetricsRequest { end_us: end_us + 1, ..base() }),
        (
            ("end_us", "more than 92 days"),
            v1::GetAnimalMetricsRequest { start_us: i64::MIN, end_us: i64::MAX, ..base() },
        ),
        (
            ("metric_names", "at most 100"),
            v1::GetAnimalMetricsRequest { metric_names: vec!["warmth".to_owned(); 101], ..base() },
        ),
        (
            ("metric_names", "1 to 64"),
            v1::GetAnimalMetricsRequest { metric_names: vec![String::new()], ..base() },
        ),
    ];
    for (wanted, asked) in faults {
        let about = format!("{asked:?}");
        assert_bound(client.get_animal_metrics(asked).await, wanted, &about);
    }
    let metric_names = vec!["warmth".to_owned(); 100];
    let asked = v1::GetAnimalMetricsRequest { end_us, metric_names, ..base() };
    assert_eq!(client.get_animal_metrics(asked).await.unwrap().into_inner().metrics.len(), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn watches() {
    let server = server().await;
    let mut client = query_client(&server).await;
    let base = || v1::WatchReadingsRequest { farm_id: 1, ..v1::WatchReadingsRequest::default() };
    let faults: Vec<((&str, &str), v1::WatchReadingsRequest)> = vec![
        (("interval_ms", "100 to 60000"), v1::WatchReadingsRequest { interval_ms: 99, ..base() }),
        (("interval_ms", "100 to 60000"), v1::WatchReadingsRequest { interval_ms: 60_001, ..base() }),
        (("farm_id", "below 0"), v1::WatchReadingsRequest { farm_id: -1, ..base() }),
        (("device_uid", "name a device_uid"), v1::WatchReadingsRequest::default()),
        (("device_uid", "1 to 64"), v1::WatchReadingsRequest { device_uid: "d".repeat(65), ..base() }),
        (
            ("metric_names", "at most 100"),
            v1::WatchReadingsRequest { metric_names: vec!["warmth".to_owned(); 101], ..base() },
        ),
        (("metric_names", "cold"), v1::WatchReadingsRequest { metric_names: vec!["cold".into()], ..base() }),
    ];
    for (wanted, asked) in faults {
        let about = format!("{asked:?}");
        let first = async { client.watch_readings(asked).await?.into_inner().message().await };
        assert_bound(first.await.map(Response::new), wanted, &about);
    }
    for interval_ms in [0, 100, 60_000] {
        let asked =
            v1::WatchReadingsRequest { interval_ms, metric_names: vec!["warmth".into(); 100], ..base() };
        let mut changes = client.watch_readings(asked).await.unwrap().into_inner();
        let first = changes.message().await.unwrap().expect("the newest readings");
        assert_eq!(first.changed.len(), 1, "{interval_ms} ms");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams() {
    let server = server().await;
    let mut client = query_client(&server).await;
    let base = || v1::StreamRangeRequest {
        device_uid: "probe-1-0".to_owned(),
        start_us: START,
        end_us: START + DAY,
        ..v1::StreamRangeRequest::default()
    };
    let faults: Vec<((&str, &str), v1::StreamRangeRequest)> = vec![
        (("end_us", "not after start_us"), v1::StreamRangeRequest { end_us: START, ..base() }),
        (("farm_id", "below 0"), v1::StreamRangeRequest { farm_id: -1, ..base() }),
        (("device_uid", "1 to 64"), v1::StreamRangeRequest { device_uid: "d".repeat(65), ..base() }),
        (("device_uid", "only one of"), v1::StreamRangeRequest { animal_id: 7, ..base() }),
        (("device_uid", "name a device_uid"), v1::StreamRangeRequest { device_uid: String::new(), ..base() }),
        (("animal_id", "below 0"), v1::StreamRangeRequest { animal_id: -7, ..base() }),
        (("zone_id", "below 0"), v1::StreamRangeRequest { zone_id: -7, ..base() }),
        (
            ("metric_names", "at most 100"),
            v1::StreamRangeRequest { metric_names: vec!["warmth".to_owned(); 101], ..base() },
        ),
        (("metric_names", "warmth"), v1::StreamRangeRequest { metric_names: vec!["cold".into()], ..base() }),
    ];
    for (wanted, asked) in faults {
        let about = format!("{asked:?}");
        let first = async { client.stream_range(asked).await?.into_inner().message().await };
        assert_bound(first.await.map(Response::new), wanted, &about);
    }
    let unknown = v1::StreamRangeRequest { device_uid: "nobody".to_owned(), ..base() };
    let first = async { client.stream_range(unknown).await?.into_inner().message().await };
    assert_reason(&first.await.unwrap_err(), Reason::NotFound);
    // Its end is exclusive, and nothing in it is no fault.
    for (end_us, wanted) in [(START + 1, 1), (START, 0)] {
        let metric_names = vec!["warmth".to_owned(); 100];
        let asked = v1::StreamRangeRequest { start_us: START - 1, end_us, metric_names, ..base() };
        let mut parts = client.stream_range(asked).await.unwrap().into_inner();
        let mut found = 0;
        while let Some(part) = parts.message().await.unwrap() {
            found += part.series.map_or(0, |series| series.readings.len());
        }
        assert_eq!(found, wanted, "up to {end_us}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ranges_and_batches_of_them() {
    let server = server().await;
    let mut client = query_client(&server).await;
    let batch = |requests| v1::BatchQueryRangeRequest { requests };
    let of_size = |page_size| v1::QueryRangeRequest { page_size, ..request() };
    assert_bound(client.batch_query_range(batch(vec![])).await, ("requests", "1 to 50"), "none");
    let many = batch(vec![of_size(1); 51]);
    assert_bound(client.batch_query_range(many).await, ("requests", "1 to 50"), "51");
    for sizes in [[25_000, 25_001], [49_001, 0]] {
        let asked = batch(sizes.map(of_size).into());
        assert_bound(client.batch_query_range(asked).await, ("requests", "50000"), &format!("{sizes:?}"));
    }
    for sizes in [vec![25_000, 25_000], vec![49_000, 0], vec![50_000], vec![0; 50]] {
        let asked = batch(sizes.iter().copied().map(of_size).collect());
        let answers = client.batch_query_range(asked).await.unwrap().into_inner().responses;
        assert_eq!(answers.len(), sizes.len(), "{sizes:?}");
        assert!(answers.iter().all(|answer| answer.aggregates.len() == 1), "{sizes:?}: {answers:?}");
    }
    let wrong = v1::QueryRangeRequest { max_points: 50_001, ..request() };
    let asked = batch(vec![request(), wrong]);
    assert_bound(client.batch_query_range(asked.clone()).await, ("max_points", "50000"), "the second");
    assert_bound(client.batch_query_range(asked).await, ("max_points", "requests[1]"), "the second");
    let most = v1::QueryRangeRequest { max_points: 50_000, resolution: Resolution::Auto.into(), ..request() };
    assert_eq!(client.query_range(most).await.unwrap().into_inner().resolution(), Resolution::Raw);

    let days = |days: i64| v1::QueryRangeRequest {
        start_us: START + HOUR,
        end_us: START + HOUR + days * DAY,
        resolution: Resolution::Day.into(),
        time_zone: "Asia/Kathmandu".to_owned(),
        ..request()
    };
    // The last second of a day of that zone, and the first of the next.
    assert_bound(client.query_range(days(7_500)).await, ("end_us", "at most 7500"), "7501 days begun");
    let most = v1::QueryRangeRequest { end_us: days(7_499).end_us, start_us: START, ..days(0) };
    let found = client.query_range(most).await.unwrap().into_inner().aggregates;
    assert_eq!(found.len(), 1, "7500 days");
    let years = v1::QueryRangeRequest {
        start_us: START - 150 * 366 * DAY,
        end_us: START - 149 * 366 * DAY,
        time_zone: "Europe/Berlin".to_owned(),
        ..days(0)
    };
    assert_bound(client.query_range(years).await, ("time_zone", "quarter of an hour"), "53 minutes ahead");
    server.stop().await;
}

/// Readings of one device and as many metrics as there are values, at one time.
fn of_metrics(metrics: std::ops::Range<u32>, time_us: i64) -> v1::Batch {
    let mut batch = v1::Batch::default();
    for metric in metrics {
        batch.series.push(v1::Series {
            r#ref: metric,
            farm_id: 3,
            device_uid: "weather".to_owned(),
            device_type: "station".to_owned(),
            metric_name: format!("m{metric}"),
            metric_unit: "1".to_owned(),
        });
        batch.readings.push(v1::Reading {
            series_ref: metric,
            time_us,
            value: 1.0,
            ..v1::Reading::default()
        });
    }
    batch
}

#[tokio::test(flavor = "multi_thread")]
async fn answers_of_many_series() {
    let server = TestServer::start().await;
    let mut ingest = ingest_client(&server).await;
    let mut write = async |batch: v1::Batch| {
        let count = batch.readings.len();
        let write = v1::WriteRequest { batch: Some(batch), backfill: true, ..v1::WriteRequest::default() };
        assert_eq!(ingest.write(write).await.unwrap().into_inner().stored as usize, count);
    };
    let mut client = query_client(&server).await;
    let summary = v1::GetFarmDailySummaryRequest {
        farm_id: 3,
        first_date: "2026-03-27".to_owned(),
        last_date: "2026-03-28".to_owned(),
        ..v1::GetFarmDailySummaryRequest::default()
    };
    let latest = v1::GetLatestRequest { device_uid: "weather".to_owned(), ..v1::GetLatestRequest::default() };
    let watch = v1::WatchReadingsRequest { farm_id: 3, ..v1::WatchReadingsRequest::default() };

    write(of_metrics(0..256, START)).await;
    assert_eq!(client.get_latest(latest.clone()).await.unwrap().into_inner().latest.len(), 256);
    write(of_metrics(256..1_000, START)).await;
    assert_bound(client.get_latest(latest.clone()).await, ("metric_names", "256"), "1000 series");
    let named = v1::GetLatestRequest { metric_names: vec!["m7".to_owned(); 100], ..latest.clone() };
    assert_eq!(client.get_latest(named).await.unwrap().into_inner().latest.len(), 1);
    let named = v1::GetLatestRequest { metric_names: vec!["m7".to_owned(); 101], ..latest };
    assert_bound(client.get_latest(named).await, ("metric_names", "100"), "101 metrics");

    let mut changes = client.watch_readings(watch.clone()).await.unwrap().into_inner();
    let mut told = 0;
    while told < 1_000 {
        let part = changes.message().await.unwrap().expect("all series").changed.len();
        assert!((1..=64).contains(&part), "{part} series in one message");
        told += part;
    }
    assert_eq!(told, 1_000);
    drop(changes);
    write(of_metrics(1_000..5_000, START)).await;
    let first = async { client.watch_readings(watch).await?.into_inner().message().await };
    assert_bound(first.await.map(Response::new), ("metric_names", "1000"), "5000 series");

    write(of_metrics(0..5_000, START + DAY)).await;
    let days = client.get_farm_daily_summary(summary.clone()).await.unwrap().into_inner().days;
    assert_eq!(days.len(), 10_000);
    write(of_metrics(5_000..5_001, START)).await;
    assert_bound(client.get_farm_daily_summary(summary).await, ("last_date", "10000 rows"), "10 001 rows");

    // One metric in two units makes two lines, and a page holds at least one bucket of each.
    let mut kelvin = of_metrics(0..1, START);
    kelvin.series[0].metric_unit = "K".to_owned();
    write(kelvin).await;
    let lines = |page_size| v1::QueryRangeRequest {
        device_uid: "weather".to_owned(),
        metric_name: "m0".to_owned(),
        page_size,
        ..request()
    };
    assert_bound(client.query_range(lines(1)).await, ("page_size", "2 lines"), "a page of 1");
    assert_eq!(client.query_range(lines(2)).await.unwrap().into_inner().aggregates.len(), 2);
    write(of_metrics(5_001..10_000, START)).await;
    write(of_metrics(10_000..10_001, START)).await;
    let all = v1::StreamRangeRequest {
        farm_id: 3,
        start_us: START,
        end_us: START + 1,
        ..v1::StreamRangeRequest::default()
    };
    let first = async { client.stream_range(all).await?.into_inner().message().await };
    assert_bound(first.await.map(Response::new), ("farm_id", "10000"), "10 002 series");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn devices_milkings_and_the_size_of_a_request() {
    let server = server().await;
    let mut client = query_client(&server).await;
    let list = |farm_id, page_size| v1::ListDevicesRequest { farm_id, page_size, page_token: String::new() };
    assert_bound(client.list_devices(list(-1, 0)).await, ("farm_id", "below 0"), "devices");
    assert_bound(client.list_devices(list(0, 10_001)).await, ("page_size", "10000"), "devices");
    assert_eq!(client.list_devices(list(0, 10_000)).await.unwrap().into_inner().devices.len(), 6);
    for (uid, bound) in [(String::new(), "1 to 64"), ("d".repeat(65), "1 to 64")] {
        let asked = v1::GetDeviceStatusRequest { device_uid: uid, farm_id: 0 };
        assert_bound(client.get_device_status(asked).await, ("device_uid", bound), "status");
    }
    let milkings = |farm_id, animal_id, page_size| v1::QueryMilkingsRequest {
        farm_id,
        animal_id,
        page_size,
        start_us: START,
        end_us: START + 1,
        page_token: String::new(),
    };
    assert_bound(client.query_milkings(milkings(0, 0, 0)).await, ("farm_id", "below 1"), "milkings");
    assert_bound(client.query_milkings(milkings(1, -1, 0)).await, ("animal_id", "below 0"), "milkings");
    assert_bound(client.query_milkings(milkings(1, 0, 10_001)).await, ("page_size", "10000"), "milkings");
    assert!(client.query_milkings(milkings(1, 0, 10_000)).await.unwrap().into_inner().milkings.is_empty());
    let long = v1::QueryRangeRequest { page_token: "0".repeat(64 << 10), ..request() };
    let status = client.query_range(long).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::OutOfRange, "{status:?}");
    server.stop().await;
}
