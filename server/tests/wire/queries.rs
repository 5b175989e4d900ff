//! Queries: answers, pages, bounds.

use herdstream_proto::{
    error::Reason,
    v1::{self, Batch, DeviceStatus, Milking},
};
use herdstream_server::{model::now_us, testing::TestServer};
use tonic_types::StatusExt as _;

use crate::client::{RawStream, assert_reason, batch, query_client, sent, series};

/// A server that holds these batches.
async fn server_with(batches: impl IntoIterator<Item = Batch>) -> TestServer {
    let server = TestServer::start().await;
    let (mut stream, _) = RawStream::open(&server).await;
    for (offset, batch) in (1..).zip(batches) {
        stream.send(sent(Batch { offset, ..batch })).await;
    }
    stream.finish();
    stream.ended().await;
    server
}

#[tokio::test]
async fn latest_is_the_newest_of_each_metric() {
    let mut newest = batch(1, "d", 10);
    newest.series.push(series(2, "d", "humidity"));
    newest.readings[4].time_us += 1_000_000;
    newest.readings[5].series_ref = 2;
    newest.readings[5].battery_level = Some(77);
    let server = server_with([newest.clone()]).await;
    let mut client = query_client(&server).await;
    let request = v1::GetLatestRequest { device_uid: "d".to_owned(), ..v1::GetLatestRequest::default() };
    let latest = client.get_latest(request.clone()).await.unwrap().into_inner().latest;
    let found: Vec<_> = latest
        .iter()
        .map(|entry| (entry.series.as_ref().unwrap().metric_name.as_str(), entry.readings[0].time_us))
        .collect();
    assert_eq!(
        found,
        [("temperature", newest.readings[4].time_us), ("humidity", newest.readings[5].time_us)]
    );
    assert_eq!(latest[1].readings[0].battery_level, Some(77));
    let one = v1::GetLatestRequest { metric_names: vec!["humidity".to_owned()], ..request.clone() };
    assert_eq!(client.get_latest(one).await.unwrap().into_inner().latest.len(), 1);
    let unknown = v1::GetLatestRequest { metric_names: vec!["yield".to_owned()], ..request.clone() };
    let status = client.get_latest(unknown).await.unwrap_err();
    assert_reason(&status, Reason::BadRequest);
    assert!(status.message().contains("humidity, temperature"), "{status:?}");
    let elsewhere = v1::GetLatestRequest { farm_id: 2, ..request };
    assert_reason(&client.get_latest(elsewhere).await.unwrap_err(), Reason::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn pages_of_a_range_hold_every_reading_once_ties_included() {
    // Three batches at the same times make ties that a page may end in.
    let base = batch(1, "d", 40);
    let server = server_with([base.clone(), base.clone(), base.clone()]).await;
    let mut client = query_client(&server).await;
    for page_size in [1, 7, 119, 120, 50_000] {
        let mut request = v1::QueryRangeRequest {
            device_uid: "d".to_owned(),
            metric_name: "temperature".to_owned(),
            start_us: base.readings[0].time_us,
            end_us: base.readings[39].time_us + 1,
            page_size,
            ..v1::QueryRangeRequest::default()
        };
        let mut times = Vec::new();
        loop {
            let page = client.query_range(request.clone()).await.unwrap().into_inner();
            let readings: Vec<_> = page.series.into_iter().flat_map(|series| series.readings).collect();
            assert!(readings.len() <= page_size as usize);
            times.extend(readings.iter().map(|reading| reading.time_us));
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        let expected: Vec<_> = base.readings.iter().flat_map(|reading| [reading.time_us; 3]).collect();
        assert_eq!(times, expected, "pages of {page_size}");
    }
    server.stop().await;
}

/// Makes a sound request a faulty one; it may use the token of a page.
type Change = fn(&mut v1::QueryRangeRequest, &str);

#[tokio::test]
async fn bounds_of_a_range_are_half_open_and_checked() {
    let base = batch(1, "d", 10);
    let server = server_with([base.clone()]).await;
    let mut client = query_client(&server).await;
    let sound = v1::QueryRangeRequest {
        device_uid: "d".to_owned(),
        metric_name: "temperature".to_owned(),
        start_us: base.readings[2].time_us,
        end_us: base.readings[5].time_us,
        page_size: 2,
        ..v1::QueryRangeRequest::default()
    };
    let page = client.query_range(sound.clone()).await.unwrap().into_inner();
    assert_eq!(page.series[0].readings[0].time_us, base.readings[2].time_us);
    let token = page.next_page_token;
    let faults: [(&str, Change); 8] = [
        ("end_us", |request, _| request.end_us = request.start_us),
        ("device_uid", |request, _| request.device_uid.clear()),
        ("metric_name", |request, _| request.metric_name = "m".repeat(65)),
        ("metric_name", |request, _| request.metric_name = "yield".to_owned()),
        ("farm_id", |request, _| request.farm_id = -1),
        ("page_size", |request, _| request.page_size = 50_001),
        ("page_token", |request, _| request.page_token = "ffff-0-0-0".to_owned()),
        ("page_token", |request, token| {
            request.page_token = token.to_owned();
            request.end_us += 1;
        }),
    ];
    for (field, change) in faults {
        let mut request = sound.clone();
        change(&mut request, &token);
        let status = client.query_range(request).await.unwrap_err();
        assert_reason(&status, Reason::BadRequest);
        assert_eq!(status.get_details_error_info().unwrap().metadata["field"], field, "{status:?}");
    }
    let rest =
        client.query_range(v1::QueryRangeRequest { page_token: token, ..sound.clone() }).await.unwrap();
    assert_eq!(rest.into_inner().series[0].readings.len(), 1);
    let unknown = v1::QueryRangeRequest { device_uid: "e".to_owned(), ..sound };
    assert_reason(&client.query_range(unknown).await.unwrap_err(), Reason::NotFound);
    server.stop().await;
}

#[tokio::test]
async fn milkings_by_farm_and_animal() {
    let now = now_us();
    let milkings = (0..30).map(|index| Milking {
        time_us: now - 1000 + i64::from(index / 4),
        milk_meter_id: 1,
        animal_id: 1 + index % 2,
        farm_id: 1 + index % 3,
        session_id: "s".to_owned(),
        yield_kg: f64::from(index),
        ..Milking::default()
    });
    let batch = Batch { milkings: milkings.clone().collect(), ..Batch::default() };
    let server = server_with([batch]).await;
    let mut client = query_client(&server).await;
    for (animal_id, page_size) in [(0, 3), (0, 0), (2, 2)] {
        let mut request = v1::QueryMilkingsRequest {
            farm_id: 2,
            animal_id,
            start_us: now - 1000,
            end_us: now,
            page_size,
            page_token: String::new(),
        };
        let mut found = Vec::new();
        loop {
            let page = client.query_milkings(request.clone()).await.unwrap().into_inner();
            found.extend(page.milkings);
            if page.next_page_token.is_empty() {
                break;
            }
            request.page_token = page.next_page_token;
        }
        let expected: Vec<_> = milkings
            .clone()
            .filter(|milking| milking.farm_id == 2 && (animal_id == 0 || milking.animal_id == animal_id))
            .collect();
        assert_eq!(found, expected, "animal {animal_id}, pages of {page_size}");
    }
    let backwards = v1::QueryMilkingsRequest { farm_id: 2, start_us: 1, end_us: 1, ..Default::default() };
    assert_reason(&client.query_milkings(backwards).await.unwrap_err(), Reason::BadRequest);
    let nowhere = v1::QueryMilkingsRequest { end_us: 1, ..Default::default() };
    assert_reason(&client.query_milkings(nowhere).await.unwrap_err(), Reason::BadRequest);
    server.stop().await;
}

#[tokio::test]
async fn devices_have_the_state_of_their_last_reading() {
    let now = now_us();
    let mut batches = Vec::new();
    for (index, age_minutes) in [1, 30, 90].into_iter().enumerate() {
        let mut batch = batch(1, &format!("d{index}"), 1);
        batch.series[0].r#ref = index as u32;
        batch.readings[0].series_ref = index as u32;
        batch.readings[0].time_us = now - age_minutes * 60_000_000;
        batch.readings[0].battery_level = Some(50 + index as i32);
        batches.push(batch);
    }
    let server = server_with(batches).await;
    let mut client = query_client(&server).await;
    let mut devices = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = v1::ListDevicesRequest { farm_id: 0, page_size: 2, page_token };
        let page = client.list_devices(request).await.unwrap().into_inner();
        devices.extend(page.devices);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let found: Vec<_> = devices
        .iter()
        .map(|device| (device.device_uid.as_str(), device.status(), device.battery_level))
        .collect();
    assert_eq!(
        found,
        [
            ("d0", DeviceStatus::Online, Some(50)),
            ("d1", DeviceStatus::Degraded, Some(51)),
            ("d2", DeviceStatus::Offline, Some(52)),
        ]
    );
    let forged = v1::ListDevicesRequest { page_token: "x".to_owned(), ..Default::default() };
    assert_reason(&client.list_devices(forged).await.unwrap_err(), Reason::BadRequest);
    let stats = client.get_ingestion_stats(v1::GetIngestionStatsRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (stats.readings_last_hour, stats.readings_last_24h, stats.active_devices, stats.buffer_size),
        (2, 3, 1, 0)
    );
    server.stop().await;
}

#[tokio::test]
async fn a_server_tells_its_version_and_profile_but_not_where_its_data_is() {
    let server = TestServer::start().await;
    let mut client = query_client(&server).await;
    let info = client.get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.version.as_str(), info.profile.as_str()), (env!("CARGO_PKG_VERSION"), "embedded"));
    assert_eq!(info.reason, "no database is configured");
    assert!(info.features.iter().all(|feature| !feature.name.is_empty() && !feature.note.is_empty()));
    assert!(!format!("{info:?}").contains(&server.data_dir().display().to_string()));
    server.stop().await;
}
