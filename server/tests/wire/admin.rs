//! Administration: what it does to what is stored, what it tells, what it refuses.

use std::time::Duration;

use herdstream_proto::{
    error::Reason,
    v1::{self, Resolution, admin_service_client::AdminServiceClient, explain_query_request::Query},
};
use herdstream_server::{config::Config, model::now_us, testing::TestServer};
use tonic::transport::Channel;

use crate::{
    answers::{DAY, HOUR, Measured, request, store},
    client::{assert_field, assert_reason, query_client},
};

/// A server that does nothing by itself, keeps readings for three days, and may drop what was just written.
async fn server() -> (TestServer, AdminServiceClient<Channel>) {
    let mut config = Config::default();
    config.rollups.enabled = false;
    config.ingest.accepted_lateness = Duration::from_hours(24);
    config.retention.readings = Some(Duration::from_hours(3 * 24));
    config.retention.quiet = Duration::ZERO;
    let server = TestServer::start_with(config).await;
    let endpoint = server.admin_endpoint().expect("it is on unless switched off");
    let admin = AdminServiceClient::connect(endpoint).await.expect("administration is served");
    (server, admin)
}

fn hour_of(time_us: i64) -> i64 {
    time_us - time_us.rem_euclid(HOUR)
}

fn day_of(time_us: i64) -> i64 {
    time_us - time_us.rem_euclid(DAY)
}

fn measured(time_us: i64, quarters: i32) -> Measured {
    Measured { farm: 1, device: 0, time_us, quarters, animal: None }
}

/// Everything of a device, by hour.
fn hours(until_us: i64) -> v1::QueryRangeRequest {
    v1::QueryRangeRequest { start_us: until_us - 20 * DAY, end_us: until_us, ..request() }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refresh_keeps_aggregates_and_mends_what_came_late() {
    let (server, mut admin) = server().await;
    let hour = hour_of(now_us()) - 5 * HOUR;
    store(&server, &[measured(hour + 1, 4), measured(hour + 2, 8)]).await;
    let before = admin.get_lifecycle(v1::GetLifecycleRequest {}).await.unwrap().into_inner();
    let levels = [Resolution::Resolution15min, Resolution::Hour, Resolution::Day];
    assert_eq!(before.levels.iter().map(v1::RollupLevel::resolution).collect::<Vec<_>>(), levels);
    assert!(before.levels.iter().all(|level| level.stored_before_us == 0), "{before:?}");
    assert_eq!((before.refreshed_us, before.dirty_hours, before.raw_kept_from_us), (0, 0, 0));

    for (start_us, end_us) in [(2, 2), (2, 1), (0, -1), (1, 0)] {
        let asked = v1::RefreshRollupsRequest { start_us, end_us, rebuild: false };
        assert_field(&admin.refresh_rollups(asked).await.unwrap_err(), "end_us", &format!("{asked:?}"));
    }
    for (start_us, end_us, field) in
        [(0, 0, "start_us"), (0, 5, "start_us"), (5, 0, "end_us"), (5, 5, "end_us")]
    {
        let asked = v1::RefreshRollupsRequest { start_us, end_us, rebuild: true };
        assert_field(&admin.refresh_rollups(asked).await.unwrap_err(), field, &format!("{asked:?}"));
    }
    let done = admin.refresh_rollups(v1::RefreshRollupsRequest::default()).await.unwrap().into_inner();
    // A quarter and its hour; the day, too, if it is over.
    assert!((2..=3).contains(&done.buckets), "{done:?}");
    let after = done.lifecycle.expect("how it stands");
    assert!(after.levels[1].stored_before_us > hour && after.refreshed_us > 0, "{after:?}");

    // Late, in two hours of one series.
    let late = [measured(hour + 3, 40), measured(hour - HOUR, 1), measured(hour - 1, 1)];
    store(&server, &late).await;
    let dirty = admin.get_lifecycle(v1::GetLifecycleRequest {}).await.unwrap().into_inner();
    assert_eq!(dirty.dirty_hours, 2);
    // Only one of them lies in the span.
    let asked = v1::RefreshRollupsRequest { start_us: hour, end_us: hour + HOUR, rebuild: false };
    let done = admin.refresh_rollups(asked).await.unwrap().into_inner();
    assert_eq!((done.dirty_hours, done.lifecycle.expect("how it stands").dirty_hours), (1, 1));
    let done = admin.refresh_rollups(v1::RefreshRollupsRequest::default()).await.unwrap().into_inner();
    assert_eq!((done.dirty_hours, done.lifecycle.expect("how it stands").dirty_hours), (1, 0));
    let found = query_client(&server).await.query_range(hours(now_us())).await.unwrap().into_inner();
    let told: Vec<_> = found.aggregates[0]
        .buckets
        .iter()
        .map(|bucket| (bucket.start_us, bucket.count, bucket.max))
        .collect();
    assert_eq!(told, [(hour - HOUR, 2, Some(0.25)), (hour, 3, Some(10.0))]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_tells_what_it_would_drop_and_drops_that() {
    let (server, mut admin) = server().await;
    let (now, old) = (now_us(), day_of(now_us()) - 10 * DAY);
    store(&server, &[measured(old + 1, 4), measured(old + HOUR, 8), measured(now - 1, 16)]).await;
    let mut client = query_client(&server).await;
    let raw = v1::QueryRangeRequest { resolution: Resolution::Raw.into(), ..hours(now) };
    let count = |answer: &v1::QueryRangeResponse| -> usize {
        answer.series.iter().map(|line| line.readings.len()).sum()
    };
    let buckets = client.query_range(hours(now)).await.unwrap().into_inner().aggregates;
    let retaining = admin.clone();
    let run = async |dry_run| {
        retaining
            .clone()
            .run_retention(v1::RunRetentionRequest { dry_run })
            .await
            .unwrap()
            .into_inner()
            .dropped
    };
    let of_readings = |dropped: Vec<v1::Dropped>| {
        dropped.into_iter().filter(|part| part.table == "reading").collect::<Vec<_>>()
    };

    // Nothing goes before its aggregates are kept.
    for dry_run in [true, false] {
        let told = of_readings(run(dry_run).await);
        assert!(told.iter().all(|part| !part.kept_because.is_empty()), "{told:?}");
        assert_eq!(count(&client.query_range(raw.clone()).await.unwrap().into_inner()), 3);
    }
    admin.refresh_rollups(v1::RefreshRollupsRequest::default()).await.unwrap();
    let told = of_readings(run(true).await);
    assert_eq!(told.iter().map(|part| (part.start_us, part.end_us)).collect::<Vec<_>>(), [(old, old + DAY)]);
    assert_eq!(told[0].kept_because, "");
    // To tell is not to drop.
    let answer = client.query_range(raw.clone()).await.unwrap().into_inner();
    assert_eq!((count(&answer), answer.kept_from_us), (3, 0));
    assert_eq!(of_readings(run(true).await), told);
    let dropped = of_readings(run(false).await);
    assert_eq!(
        dropped.iter().map(|part| (part.start_us, part.end_us)).collect::<Vec<_>>(),
        [(old, old + DAY)],
        "{dropped:?}"
    );
    let answer = client.query_range(raw).await.unwrap().into_inner();
    assert_eq!((count(&answer), answer.kept_from_us), (1, old + DAY));
    let state = admin.get_lifecycle(v1::GetLifecycleRequest {}).await.unwrap().into_inner();
    assert_eq!(state.raw_kept_from_us, old + DAY);
    assert_eq!(of_readings(run(false).await), []);
    let after = client.query_range(hours(now)).await.unwrap().into_inner().aggregates;
    assert_eq!(after, buckets, "aggregates outlive their readings");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn chunks_are_told_by_table_oldest_first() {
    let (server, mut admin) = server().await;
    let today = day_of(now_us());
    store(&server, &[measured(today - 1, 4), measured(today - 5 * DAY, 4), measured(today - 3 * DAY, 4)])
        .await;
    let milking = v1::Milking {
        time_us: today - 1,
        milk_meter_id: 1,
        animal_id: 7,
        farm_id: 1,
        session_id: "s".to_owned(),
        yield_kg: 10.0,
        ..v1::Milking::default()
    };
    let batch = v1::Batch { milkings: vec![milking], ..v1::Batch::default() };
    let write = v1::WriteRequest { batch: Some(batch), ..v1::WriteRequest::default() };
    crate::client::ingest_client(&server).await.write(write).await.unwrap();
    let mut list = async |table: &str| {
        let asked = v1::ListChunksRequest { table: table.to_owned() };
        admin.list_chunks(asked).await.map(|answer| answer.into_inner().chunks)
    };
    let readings = list("reading").await.unwrap();
    let days: Vec<_> = readings.iter().map(|chunk| (chunk.start_us, chunk.end_us)).collect();
    let day = |before: i64| (today - before * DAY, today - (before - 1) * DAY);
    assert_eq!(days, [day(5), day(3), day(1)]);
    assert!(readings.iter().all(|chunk| chunk.table == "reading" && !chunk.name.is_empty()), "{readings:?}");
    let milkings = list("milking").await.unwrap();
    assert!(!milkings.is_empty() && milkings.iter().all(|chunk| chunk.table == "milking"), "{milkings:?}");
    let all = list("").await.unwrap();
    assert_eq!(all.len(), readings.len() + milkings.len());
    assert!(all.is_sorted_by_key(|chunk| chunk.start_us), "{all:?}");
    for table in ["readings", "rollup_daily", " "] {
        assert_field(&list(table).await.unwrap_err(), "table", table);
    }
    // This store packs readings as they come.
    for (before_us, dry_run) in [(0, true), (0, false), (now_us(), true)] {
        let asked = v1::CompressChunksRequest { before_us, dry_run };
        assert_reason(&admin.compress_chunks(asked).await.unwrap_err(), Reason::Unsupported);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_tells_the_steps_of_a_question_or_why_it_is_refused() {
    let (server, mut admin) = server().await;
    let now = now_us();
    store(&server, &[measured(now - 1, 4)]).await;
    let dates = || ("2026-03-27".to_owned(), "2026-03-28".to_owned());
    let (first_date, last_date) = dates();
    let summary = v1::GetFarmDailySummaryRequest { farm_id: 1, first_date, last_date, ..Default::default() };
    let (first_date, last_date) = dates();
    let milk = v1::GetMilkProductionDailyRequest { farm_id: 1, first_date, last_date, ..Default::default() };
    let device_uid = || "probe-1-0".to_owned();
    let queries = [
        Query::GetLatest(v1::GetLatestRequest { device_uid: device_uid(), ..Default::default() }),
        Query::QueryRange(hours(now)),
        Query::BatchQueryRange(v1::BatchQueryRangeRequest { requests: vec![hours(now); 2] }),
        Query::QueryMilkings(v1::QueryMilkingsRequest { farm_id: 1, end_us: now, ..Default::default() }),
        Query::ListSeries(v1::ListSeriesRequest::default()),
        Query::ListDevices(v1::ListDevicesRequest::default()),
        Query::GetDeviceStatus(v1::GetDeviceStatusRequest { device_uid: device_uid(), farm_id: 0 }),
        Query::GetFarmDailySummary(summary),
        Query::GetMilkProductionDaily(milk),
        Query::GetAnimalMetrics(v1::GetAnimalMetricsRequest {
            animal_id: 7,
            start_us: now - DAY,
            end_us: now,
            ..Default::default()
        }),
        Query::GetIngestionStats(v1::GetIngestionStatsRequest {}),
        Query::StreamRange(v1::StreamRangeRequest {
            device_uid: device_uid(),
            start_us: now - DAY,
            end_us: now,
            ..Default::default()
        }),
        // Where nothing is: it ends by itself.
        Query::StreamRange(v1::StreamRangeRequest {
            farm_id: 1,
            start_us: 1,
            end_us: 2,
            ..Default::default()
        }),
        Query::WatchReadings(v1::WatchReadingsRequest { device_uid: device_uid(), ..Default::default() }),
    ];
    for query in queries {
        let asked = v1::ExplainQueryRequest { query: Some(query.clone()) };
        let told = admin.explain_query(asked).await.unwrap_or_else(|status| panic!("{query:?}: {status:?}"));
        let told = told.into_inner();
        let complete = |step: &v1::ExplainStep| !step.statement.is_empty() && !step.plan.is_empty();
        assert!(told.steps.iter().all(complete), "{query:?}: {told:?}");
        if !matches!(query, Query::GetIngestionStats(_)) {
            assert!(!told.steps.is_empty(), "{query:?}");
        }
        assert!(told.steps.iter().all(|step| step.duration_us <= told.duration_us), "{query:?}: {told:?}");
    }
    let nothing = v1::ExplainQueryRequest { query: None };
    assert_field(&admin.explain_query(nothing).await.unwrap_err(), "query", "none");
    let wrong = v1::QueryRangeRequest { page_size: 50_001, ..hours(now) };
    let wrong = v1::ExplainQueryRequest { query: Some(Query::QueryRange(wrong)) };
    assert_field(&admin.explain_query(wrong).await.unwrap_err(), "page_size", "beyond");
    let long = v1::WatchReadingsRequest { interval_ms: 60_001, ..Default::default() };
    let long = v1::ExplainQueryRequest { query: Some(Query::WatchReadings(long)) };
    assert_field(&admin.explain_query(long).await.unwrap_err(), "interval_ms", "beyond");
    let unknown = v1::GetDeviceStatusRequest { device_uid: "nobody".to_owned(), farm_id: 0 };
    let unknown = v1::ExplainQueryRequest { query: Some(Query::GetDeviceStatus(unknown)) };
    assert_reason(&admin.explain_query(unknown).await.unwrap_err(), Reason::NotFound);
    server.stop().await;
}
