//! Answers about aggregates: true whatever is asked, bounded, and in pages that make up the whole.

use std::{collections::BTreeMap, time::Duration};

use herdstream_proto::{
    error::Reason,
    v1::{self, Resolution, Statistic, query_service_client::QueryServiceClient},
};
use herdstream_server::{config::Config, testing::TestServer};
use proptest::{collection::vec, option, prelude::*, sample::select};
use tonic::{Code, Request, transport::Channel};
use tonic_types::StatusExt as _;

use crate::client::{PATIENCE, assert_reason, ingest_client, query_client};

pub(crate) const HOUR: i64 = 3_600_000_000;
pub(crate) const DAY: i64 = 24 * HOUR;
/// 2026-03-27T00:00:00Z, two days before the clocks of Berlin jump.
pub(crate) const START: i64 = 1_774_569_600_000_000;

/// A reading of one of a few devices.
#[derive(Clone, Debug)]
pub(crate) struct Measured {
    pub(crate) farm: i32,
    pub(crate) device: u32,
    pub(crate) time_us: i64,
    pub(crate) quarters: i32,
    pub(crate) animal: Option<i32>,
}

impl Measured {
    fn value(&self) -> f64 {
        f64::from(self.quarters) / 4.0
    }
}

fn measured() -> impl Strategy<Value = Vec<Measured>> {
    let one = (1..3_i32, 0..3_u32, 0..5 * 96_i64, 0..900_000_000_i64, -40..160_i32, option::of(7..9_i32));
    let one = one.prop_map(|(farm, device, quarter, within, quarters, animal)| Measured {
        farm,
        device,
        time_us: START + quarter * HOUR / 4 + within,
        quarters,
        animal,
    });
    vec(one, 1..120)
}

/// Stores readings, whatever their age.
pub(crate) async fn store(server: &TestServer, readings: &[Measured]) {
    let mut batch = v1::Batch::default();
    for farm_id in 1..3 {
        for device in 0..3 {
            batch.series.push(v1::Series {
                r#ref: farm_id as u32 * 10 + device,
                farm_id,
                device_uid: format!("probe-{farm_id}-{device}"),
                device_type: "probe".to_owned(),
                metric_name: "warmth".to_owned(),
                metric_unit: "Cel".to_owned(),
            });
        }
    }
    batch.readings.extend(readings.iter().map(|measured| v1::Reading {
        series_ref: measured.farm as u32 * 10 + measured.device,
        time_us: measured.time_us,
        value: measured.value(),
        animal_id: measured.animal,
        ..v1::Reading::default()
    }));
    let write = v1::WriteRequest { batch: Some(batch), backfill: true, ..v1::WriteRequest::default() };
    let answer = ingest_client(server).await.write(write).await.expect("a write").into_inner();
    assert_eq!(answer.stored as usize, readings.len(), "{answer:?}");
}

/// Asks for five days of a device by hour.
pub(crate) fn request() -> v1::QueryRangeRequest {
    v1::QueryRangeRequest {
        device_uid: "probe-1-0".to_owned(),
        metric_name: "warmth".to_owned(),
        start_us: START,
        end_us: START + 5 * DAY,
        resolution: Resolution::Hour.into(),
        ..v1::QueryRangeRequest::default()
    }
}

async fn all_pages(
    client: &mut QueryServiceClient<Channel>,
    mut request: v1::QueryRangeRequest,
) -> BTreeMap<(i32, i64), v1::Bucket> {
    let mut buckets = BTreeMap::new();
    loop {
        let page = client.query_range(request.clone()).await.expect("a page").into_inner();
        let size = if request.page_size == 0 { 1000 } else { request.page_size };
        let count: usize = page.aggregates.iter().map(|line| line.buckets.len()).sum();
        assert!(count <= size as usize, "{count} on a page of {size}");
        for line in page.aggregates {
            let farm = line.series.expect("a series").farm_id;
            for bucket in line.buckets {
                assert!(buckets.insert((farm, bucket.start_us), bucket).is_none(), "{bucket:?} came twice");
            }
        }
        if page.next_page_token.is_empty() {
            return buckets;
        }
        request.page_token = page.next_page_token;
    }
}

/// Starts of days around the data, by zone.
fn days(zone: &str) -> Vec<i64> {
    let offset = |day: i64| match zone {
        // Summer time from the 29th at 01:00 UTC: that day has 23 hours.
        "Europe/Berlin" => {
            if day <= 2 {
                HOUR
            } else {
                2 * HOUR
            }
        }
        "Asia/Kathmandu" => 5 * HOUR + 45 * 60_000_000,
        _ => 0,
    };
    (-2..8).map(|day| START + day * DAY - offset(day)).collect()
}

/// Which readings a question is about.
type Keep = fn(&Measured) -> bool;

/// Buckets by farm and start, computed plainly: count, sum, least, greatest.
fn plain(
    readings: &[Measured],
    keep: impl Fn(&Measured) -> bool,
    start_of: impl Fn(i64) -> i64,
) -> BTreeMap<(i32, i64), (u64, f64, f64, f64)> {
    let mut buckets = BTreeMap::new();
    for measured in readings.iter().filter(|measured| keep(measured)) {
        let value = measured.value();
        let place = (measured.farm, start_of(measured.time_us));
        let bucket = buckets.entry(place).or_insert((0, 0.0, f64::INFINITY, f64::NEG_INFINITY));
        *bucket = (bucket.0 + 1, bucket.1 + value, f64::min(bucket.2, value), f64::max(bucket.3, value));
    }
    buckets
}

#[test]
fn whatever_is_asked_the_answer_is_a_plain_computation() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let config = ProptestConfig { cases: 12, failure_persistence: None, ..ProptestConfig::default() };
    let zones = select(vec!["", "Europe/Berlin", "Asia/Kathmandu"]);
    let resolution = select(vec![Resolution::Resolution15min, Resolution::Hour, Resolution::Day]);
    proptest!(config, |(readings in measured(), zone in zones, resolution in resolution, page_size in 3..50_u32)| {
        runtime.block_on(async {
            let server = TestServer::start().await;
            store(&server, &readings).await;
            let mut client = query_client(&server).await;
            let zone = if resolution == Resolution::Day { zone } else { "" };
            let starts = days(zone);
            let start_of = |time_us: i64| match resolution {
                Resolution::Resolution15min => time_us - time_us.rem_euclid(HOUR / 4),
                Resolution::Hour => time_us - time_us.rem_euclid(HOUR),
                _ => starts[starts.partition_point(|&start| start <= time_us) - 1],
            };
            let asked = v1::QueryRangeRequest {
                resolution: resolution.into(),
                time_zone: zone.to_owned(),
                statistics: [Statistic::Sum, Statistic::Min, Statistic::Max].map(i32::from).into(),
                page_size,
                ..request()
            };
            let of_animal = v1::QueryRangeRequest { device_uid: String::new(), animal_id: 7, ..asked.clone() };
            let of_farm = v1::QueryRangeRequest { device_uid: String::new(), farm_id: 2, ..asked.clone() };
            let scopes: [(v1::QueryRangeRequest, Keep); 3] = [
                (asked, |measured| (measured.farm, measured.device) == (1, 0)),
                (of_animal, |measured| measured.animal == Some(7)),
                (of_farm, |measured| measured.farm == 2),
            ];
            for (asked, keep) in scopes {
                let found = all_pages(&mut client, asked.clone()).await;
                let wanted = plain(&readings, keep, start_of);
                let told = found.into_iter().map(|(place, bucket)| {
                    let value = |value: Option<f64>| value.expect("it was asked for");
                    (place, (bucket.count, value(bucket.sum), value(bucket.min), value(bucket.max)))
                });
                assert_eq!(told.collect::<BTreeMap<_, _>>(), wanted, "{asked:?}");
            }
            server.stop().await;
        });
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_out_of_bounds_names_its_field() {
    let server = TestServer::start().await;
    let one = Measured { farm: 1, device: 0, time_us: START, quarters: 4, animal: None };
    store(&server, &[one]).await;
    let mut client = query_client(&server).await;
    let base = request;
    let statistic = |statistic: Statistic| vec![statistic.into()];
    let cases: Vec<(&str, v1::QueryRangeRequest)> = vec![
        ("end_us", v1::QueryRangeRequest { end_us: START, ..base() }),
        ("metric_name", v1::QueryRangeRequest { metric_name: String::new(), ..base() }),
        ("metric_name", v1::QueryRangeRequest { metric_name: "cold".to_owned(), ..base() }),
        ("resolution", v1::QueryRangeRequest { resolution: 6, ..base() }),
        ("statistics", v1::QueryRangeRequest { statistics: vec![11], ..base() }),
        ("statistics", v1::QueryRangeRequest { statistics: vec![1; 11], ..base() }),
        (
            "statistics",
            v1::QueryRangeRequest {
                resolution: Resolution::Resolution15min.into(),
                statistics: statistic(Statistic::Median),
                ..base()
            },
        ),
        (
            "statistics",
            v1::QueryRangeRequest {
                resolution: Resolution::Day.into(),
                statistics: statistic(Statistic::P95),
                ..base()
            },
        ),
        ("time_zone", v1::QueryRangeRequest { time_zone: "Europe/Berlin".to_owned(), ..base() }),
        (
            "time_zone",
            v1::QueryRangeRequest {
                time_zone: "Europe/Atlantis".to_owned(),
                resolution: Resolution::Day.into(),
                ..base()
            },
        ),
        ("page_size", v1::QueryRangeRequest { page_size: 50_001, ..base() }),
        ("max_points", v1::QueryRangeRequest { max_points: 50_001, ..base() }),
        ("page_token", v1::QueryRangeRequest { page_token: "0-0".to_owned(), ..base() }),
        ("device_uid", v1::QueryRangeRequest { animal_id: 7, ..base() }),
        ("device_uid", v1::QueryRangeRequest { device_uid: String::new(), ..base() }),
        ("animal_id", v1::QueryRangeRequest { device_uid: String::new(), animal_id: -1, ..base() }),
        (
            "end_us",
            v1::QueryRangeRequest {
                end_us: START + 40_001 * HOUR / 4,
                resolution: Resolution::Resolution15min.into(),
                ..base()
            },
        ),
    ];
    for (field, asked) in cases {
        let status = client.query_range(asked.clone()).await.expect_err(field);
        assert_reason(&status, Reason::BadRequest);
        let details = status.get_error_details();
        assert_eq!(details.error_info().unwrap().metadata["field"], field, "{asked:?}: {status:?}");
    }
    let inside = v1::QueryRangeRequest {
        end_us: START + 40_000 * HOUR / 4,
        resolution: Resolution::Resolution15min.into(),
        page_size: 50_000,
        ..base()
    };
    let found = client.query_range(inside).await.unwrap().into_inner();
    assert_eq!(found.aggregates.iter().map(|line| line.buckets.len()).sum::<usize>(), 1, "{found:?}");
    let unknown = v1::QueryRangeRequest { device_uid: "nobody".to_owned(), ..base() };
    assert_reason(&client.query_range(unknown).await.unwrap_err(), Reason::NotFound);

    let batch = |requests| v1::BatchQueryRangeRequest { requests };
    let status = client.batch_query_range(batch(vec![])).await.unwrap_err();
    assert_reason(&status, Reason::BadRequest);
    let wrong = v1::QueryRangeRequest { end_us: 0, ..base() };
    let status = client.batch_query_range(batch(vec![base(), wrong])).await.unwrap_err();
    assert!(status.message().contains("requests[1]"), "{status:?}");
    let large = v1::QueryRangeRequest { page_size: 25_001, ..base() };
    assert_reason(&client.batch_query_range(batch(vec![large; 2])).await.unwrap_err(), Reason::BadRequest);
    assert_eq!(
        client.batch_query_range(batch(vec![base(); 50])).await.unwrap().into_inner().responses.len(),
        50
    );
    assert_reason(&client.batch_query_range(batch(vec![base(); 51])).await.unwrap_err(), Reason::BadRequest);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_resolution_is_as_fine_as_the_points_allow() {
    let server = TestServer::start().await;
    let every_half_hour = (0..240).map(|n| Measured {
        farm: 1,
        device: 0,
        time_us: START + n * HOUR / 2,
        quarters: n as i32,
        animal: None,
    });
    store(&server, &every_half_hour.collect::<Vec<_>>()).await;
    let mut client = query_client(&server).await;
    for (max_points, wanted) in [
        (240, Resolution::Raw),
        (239, Resolution::Hour),
        (120, Resolution::Hour),
        (119, Resolution::Day),
        (5, Resolution::Day),
    ] {
        let asked = v1::QueryRangeRequest { resolution: Resolution::Auto.into(), max_points, ..request() };
        let answer = client.query_range(asked).await.unwrap().into_inner();
        assert_eq!(answer.resolution(), wanted, "{max_points}");
        let points: usize = answer.aggregates.iter().map(|line| line.buckets.len()).sum::<usize>()
            + answer.series.iter().map(|line| line.readings.len()).sum::<usize>();
        assert!(points <= max_points as usize, "{points} of {max_points}");
    }
    let asked = v1::QueryRangeRequest { resolution: Resolution::Auto.into(), max_points: 4, ..request() };
    let status = client.query_range(asked).await.unwrap_err();
    assert!(status.message().contains("5 days") && status.message().contains('4'), "{status:?}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_tell_all_and_watches_tell_what_is_new() {
    let server = TestServer::start().await;
    let readings: Vec<Measured> = (0..9_000)
        .map(|n| Measured {
            farm: 1,
            device: n % 2,
            time_us: START + i64::from(n),
            quarters: 1,
            animal: Some(7),
        })
        .collect();
    store(&server, &readings).await;
    let mut client = query_client(&server).await;
    let asked = v1::StreamRangeRequest {
        animal_id: 7,
        start_us: START,
        end_us: START + DAY,
        ..v1::StreamRangeRequest::default()
    };
    let mut parts = client.stream_range(asked).await.unwrap().into_inner();
    let mut found = 0;
    while let Some(part) = parts.message().await.unwrap() {
        let readings = part.series.expect("a series").readings;
        assert!(readings.len() <= 5_000);
        found += readings.len();
    }
    assert_eq!(found, 9_000);

    let asked =
        v1::WatchReadingsRequest { farm_id: 1, interval_ms: 100, ..v1::WatchReadingsRequest::default() };
    let mut changes = client.watch_readings(asked.clone()).await.unwrap().into_inner();
    assert_eq!(changes.message().await.unwrap().unwrap().changed.len(), 2);
    let newer = Measured { farm: 1, device: 1, time_us: START + DAY, quarters: 8, animal: None };
    store(&server, &[newer]).await;
    let changed = changes.message().await.unwrap().unwrap().changed;
    assert_eq!(changed.len(), 1, "{changed:?}");
    assert_eq!((changed[0].readings[0].value, changed[0].readings[0].time_us), (2.0, START + DAY));
    for interval_ms in [99, 60_001] {
        let asked = v1::WatchReadingsRequest { interval_ms, ..asked.clone() };
        let mut refused = client.watch_readings(asked).await.unwrap().into_inner();
        assert_reason(&refused.message().await.unwrap_err(), Reason::BadRequest);
    }
    // Whoever watches hears of a drain.
    let stopped = tokio::spawn(server.stop());
    let end = loop {
        match changes.message().await {
            Ok(Some(_)) => {}
            Ok(None) => break None,
            Err(status) => break Some(status.code()),
        }
    };
    assert_eq!(end, Some(Code::Unavailable));
    stopped.await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_question_that_takes_too_long_is_ended_with_its_reason() {
    let mut config = Config::default();
    config.query.timeout = Duration::from_millis(100);
    let server = TestServer::start_with(config).await;
    store(&server, &[Measured { farm: 1, device: 0, time_us: START, quarters: 4, animal: None }]).await;
    let mut client = query_client(&server).await;
    server.faults().stall_reads(true);
    // Its caller would wait for longer.
    let mut asked = Request::new(request());
    asked.set_timeout(PATIENCE);
    assert_reason(&client.query_range(asked).await.unwrap_err(), Reason::TimedOut);
    // The transport gives up at the same time as the server does, and may be first.
    let mut asked = Request::new(request());
    asked.metadata_mut().insert("grpc-timeout", "1n".parse().unwrap());
    let status = client.query_range(asked).await.unwrap_err();
    let ended = Reason::of(&status) == Some(Reason::TimedOut) || status.code() == Code::Cancelled;
    assert!(ended, "{status:?}");
    server.stop().await;
}

#[expect(clippy::too_many_lines, reason = "one server for many small questions")]
#[tokio::test(flavor = "multi_thread")]
async fn days_of_farms_animals_and_milk_are_told() {
    let server = TestServer::start().await;
    let readings: Vec<Measured> = (0..48)
        .map(|n| Measured {
            farm: 1,
            device: n % 3,
            time_us: START + i64::from(n) * HOUR,
            quarters: n as i32,
            animal: Some(7),
        })
        .collect();
    store(&server, &readings).await;
    let milkings = (0..6).map(|n| v1::Milking {
        time_us: START + n * 8 * HOUR,
        milk_meter_id: 1,
        animal_id: 7 + (n % 2) as i32,
        farm_id: 1,
        session_id: "s".to_owned(),
        yield_kg: 10.0 + n as f64,
        conductivity_ms: (n > 2).then_some(5.0),
        ..v1::Milking::default()
    });
    let batch = v1::Batch { milkings: milkings.collect(), ..v1::Batch::default() };
    let write = v1::WriteRequest { batch: Some(batch), backfill: true, ..v1::WriteRequest::default() };
    ingest_client(&server).await.write(write).await.unwrap();

    let mut client = query_client(&server).await;
    let asked = v1::GetFarmDailySummaryRequest {
        farm_id: 1,
        first_date: "2026-03-27".to_owned(),
        last_date: "2026-03-29".to_owned(),
        ..v1::GetFarmDailySummaryRequest::default()
    };
    let days = client.get_farm_daily_summary(asked.clone()).await.unwrap().into_inner().days;
    let told: Vec<_> =
        days.iter().map(|day| (day.date.as_str(), day.devices, day.count, day.min, day.max)).collect();
    assert_eq!(told, [("2026-03-27", 3, 24, 0.0, 5.75), ("2026-03-28", 3, 24, 6.0, 11.75)]);
    for (first, last) in [("2026-03-29", "2026-03-28"), ("2026-03-01", "2027-03-02"), ("today", "2026-03-28")]
    {
        let asked = v1::GetFarmDailySummaryRequest {
            first_date: first.to_owned(),
            last_date: last.to_owned(),
            ..asked.clone()
        };
        assert_reason(&client.get_farm_daily_summary(asked).await.unwrap_err(), Reason::BadRequest);
    }
    let elsewhere = v1::GetFarmDailySummaryRequest { farm_id: 9, ..asked };
    assert_reason(&client.get_farm_daily_summary(elsewhere).await.unwrap_err(), Reason::NotFound);

    let mut asked = v1::GetMilkProductionDailyRequest {
        farm_id: 1,
        first_date: "2026-03-27".to_owned(),
        last_date: "2026-03-28".to_owned(),
        page_size: 3,
        ..v1::GetMilkProductionDailyRequest::default()
    };
    let mut rows = Vec::new();
    loop {
        let page = client.get_milk_production_daily(asked.clone()).await.unwrap().into_inner();
        rows.extend(
            page.days
                .iter()
                .map(|day| (day.date.clone(), day.animal_id, day.milking_count, day.total_yield_kg)),
        );
        asked.page_token = page.next_page_token;
        if asked.page_token.is_empty() {
            break;
        }
    }
    let day = |date: &str, animal, count, total| (date.to_owned(), animal, count, total);
    assert_eq!(
        rows,
        [
            day("2026-03-27", 7, 2, 22.0),
            day("2026-03-27", 8, 1, 11.0),
            day("2026-03-28", 7, 1, 14.0),
            day("2026-03-28", 8, 2, 28.0),
        ]
    );

    let asked = v1::GetAnimalMetricsRequest {
        animal_id: 7,
        start_us: START + 1,
        end_us: START + 2 * DAY,
        ..v1::GetAnimalMetricsRequest::default()
    };
    let metrics = client.get_animal_metrics(asked.clone()).await.unwrap().into_inner().metrics;
    let statistics = metrics[0].statistics.unwrap();
    assert_eq!(
        (metrics.len(), statistics.count, statistics.min, statistics.max),
        (1, 47, Some(0.25), Some(11.75))
    );
    assert_eq!(metrics[0].latest.as_ref().unwrap().time_us, START + 47 * HOUR);
    let too_long = v1::GetAnimalMetricsRequest { end_us: START + 93 * DAY, ..asked };
    assert_reason(&client.get_animal_metrics(too_long).await.unwrap_err(), Reason::BadRequest);

    let asked = v1::ListSeriesRequest { page_size: 2, ..v1::ListSeriesRequest::default() };
    let page = client.list_series(asked.clone()).await.unwrap().into_inner();
    assert_eq!(page.series.len(), 2);
    let next = v1::ListSeriesRequest { page_token: page.next_page_token, page_size: 10, ..asked };
    assert_eq!(client.list_series(next).await.unwrap().into_inner().series.len(), 4);
    let status = v1::GetDeviceStatusRequest { device_uid: "probe-1-0".to_owned(), farm_id: 0 };
    assert_eq!(client.get_device_status(status).await.unwrap().into_inner().devices.len(), 1);
    let unknown = v1::GetDeviceStatusRequest { device_uid: "nobody".to_owned(), farm_id: 0 };
    assert_reason(&client.get_device_status(unknown).await.unwrap_err(), Reason::NotFound);
    server.stop().await;
}
