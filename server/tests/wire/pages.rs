//! Pages of one answer: cut in one way, and of one request.

use herdstream_proto::{
    error::Reason,
    v1::{self, QueryRangeRequest, Resolution, Statistic},
};
use herdstream_server::testing::TestServer;

use crate::{
    answers::{DAY, HOUR, Measured, START, request, store},
    client::{assert_field, assert_reason, query_client},
};

fn measured(device: u32, minute: i64) -> Measured {
    Measured { farm: 1, device, time_us: START + minute * HOUR / 60, quarters: 1, animal: None }
}

#[tokio::test(flavor = "multi_thread")]
async fn all_pages_of_one_answer_have_one_resolution_whatever_comes_meanwhile() {
    let server = TestServer::start().await;
    // A reading every half hour of five days.
    store(&server, &(0..240).map(|n| measured(0, n * 30)).collect::<Vec<_>>()).await;
    let mut client = query_client(&server).await;
    for (max_points, wanted, points) in
        [(240, Resolution::Raw, 240), (239, Resolution::Hour, 120), (9, Resolution::Day, 5)]
    {
        let mut asked = QueryRangeRequest {
            resolution: Resolution::Auto.into(),
            max_points,
            page_size: points / 3,
            ..request()
        };
        let (mut pages, mut found) = (0, 0);
        loop {
            let page = client.query_range(asked.clone()).await.unwrap().into_inner();
            assert_eq!(page.resolution(), wanted, "page {pages} of {max_points} points");
            found += page.series.iter().map(|line| line.readings.len()).sum::<usize>();
            found += page.aggregates.iter().map(|line| line.buckets.len()).sum::<usize>();
            pages += 1;
            if page.next_page_token.is_empty() {
                break;
            }
            asked.page_token = page.next_page_token;
            if wanted == Resolution::Raw && pages == 1 {
                // Now there are more readings than points, all before where the next page begins.
                store(&server, &(0..60).map(|n| measured(0, n)).collect::<Vec<_>>()).await;
                let anew = QueryRangeRequest { page_token: String::new(), ..asked.clone() };
                assert_eq!(
                    client.query_range(anew).await.unwrap().into_inner().resolution(),
                    Resolution::Hour
                );
            }
        }
        assert!(pages >= 3, "{pages} pages");
        assert_eq!(found, points as usize, "{max_points} points");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_of_another_request_is_refused() {
    let server = TestServer::start().await;
    let readings = (0..2).flat_map(|device| (0..240).map(move |n| measured(device, n * 30)));
    store(&server, &readings.collect::<Vec<_>>()).await;
    let mut client = query_client(&server).await;
    let changes: [fn(&mut QueryRangeRequest); 12] = [
        |asked| asked.device_uid = "probe-1-1".to_owned(),
        |asked| (asked.device_uid, asked.farm_id) = (String::new(), 1),
        |asked| (asked.device_uid, asked.animal_id) = (String::new(), 7),
        |asked| (asked.device_uid, asked.zone_id) = (String::new(), 7),
        |asked| asked.farm_id = 1,
        |asked| asked.metric_name = "cold".to_owned(),
        |asked| asked.start_us += 1,
        |asked| asked.end_us -= 1,
        |asked| asked.statistics = vec![Statistic::Sum.into()],
        |asked| asked.max_points = 300,
        |asked| asked.resolution = Resolution::Raw.into(),
        |asked| asked.resolution = Resolution::Resolution15min.into(),
    ];
    for (resolution, max_points) in [
        (Resolution::Hour, 0),
        (Resolution::Day, 0),
        (Resolution::Auto, 239),
        (Resolution::Auto, 240),
        (Resolution::Auto, 9),
    ] {
        let asked =
            QueryRangeRequest { resolution: resolution.into(), max_points, page_size: 2, ..request() };
        let first = client.query_range(asked.clone()).await.unwrap().into_inner();
        let next = QueryRangeRequest { page_token: first.next_page_token.clone(), ..asked.clone() };
        for (number, change) in changes.iter().enumerate() {
            let mut changed = next.clone();
            change(&mut changed);
            let status = client.query_range(changed).await.expect_err("a changed request");
            assert_field(&status, "page_token", &format!("{resolution:?} {max_points}, change {number}"));
        }
        // What was chosen, asked for by name, is another request as well.
        if resolution == Resolution::Auto {
            let chosen = QueryRangeRequest { resolution: first.resolution, ..next.clone() };
            assert_field(&client.query_range(chosen).await.unwrap_err(), "page_token", "as chosen");
        } else {
            let auto = QueryRangeRequest { resolution: Resolution::Auto.into(), ..next.clone() };
            assert_field(&client.query_range(auto).await.unwrap_err(), "page_token", "auto");
        }
        if matches!(resolution, Resolution::Day) {
            let berlin = QueryRangeRequest { time_zone: "Europe/Berlin".to_owned(), ..next.clone() };
            assert_field(&client.query_range(berlin).await.unwrap_err(), "page_token", "zone");
        }
        let rest =
            client.query_range(QueryRangeRequest { page_size: 50_000, ..next }).await.unwrap().into_inner();
        assert_eq!((rest.resolution, rest.next_page_token.as_str()), (first.resolution, ""));
    }
    for token in ["0", "zz-1", "-", "ffffffffffffffff-1", "0-0-0-0-0"] {
        let asked = QueryRangeRequest {
            resolution: Resolution::Auto.into(),
            page_token: token.to_owned(),
            ..request()
        };
        assert_field(&client.query_range(asked).await.unwrap_err(), "page_token", token);
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn series_are_listed_by_filter_in_pages() {
    let server = TestServer::start().await;
    store(&server, &[measured(0, 0)]).await;
    let mut client = query_client(&server).await;
    let all = v1::ListSeriesRequest::default();
    let names = |series: &[v1::SeriesKey]| -> Vec<String> {
        series.iter().map(|key| key.device_uid.clone()).collect()
    };
    let whole = client.list_series(all.clone()).await.unwrap().into_inner();
    assert_eq!(whole.next_page_token, "");
    assert_eq!(
        names(&whole.series),
        ["probe-1-0", "probe-1-1", "probe-1-2", "probe-2-0", "probe-2-1", "probe-2-2"]
    );
    for page_size in [1, 4, 5, 6, 10_000] {
        let mut asked = v1::ListSeriesRequest { page_size, ..all.clone() };
        let mut found = Vec::new();
        loop {
            let page = client.list_series(asked.clone()).await.unwrap().into_inner();
            assert!(page.series.len() <= page_size as usize);
            found.extend(page.series);
            if page.next_page_token.is_empty() {
                break;
            }
            asked.page_token = page.next_page_token;
        }
        assert_eq!(found, whole.series, "pages of {page_size}");
    }
    let count = async |asked: v1::ListSeriesRequest| {
        query_client(&server).await.list_series(asked).await.unwrap().into_inner().series.len()
    };
    assert_eq!(count(v1::ListSeriesRequest { farm_id: 2, ..all.clone() }).await, 3);
    assert_eq!(count(v1::ListSeriesRequest { device_uid: "probe-2-1".to_owned(), ..all.clone() }).await, 1);
    assert_eq!(count(v1::ListSeriesRequest { metric_name: "warmth".to_owned(), ..all.clone() }).await, 6);
    assert_eq!(count(v1::ListSeriesRequest { metric_name: "w".repeat(64), ..all.clone() }).await, 0);

    let first = v1::ListSeriesRequest { page_size: 2, ..all.clone() };
    let page_token = client.list_series(first.clone()).await.unwrap().into_inner().next_page_token;
    for changed in [
        v1::ListSeriesRequest { farm_id: 1, page_token: page_token.clone(), ..first.clone() },
        v1::ListSeriesRequest { metric_name: "warmth".to_owned(), page_token, ..first },
    ] {
        assert_field(&client.list_series(changed).await.unwrap_err(), "page_token", "not a token");
    }
    let status = client.list_series(v1::ListSeriesRequest { page_size: 10_001, ..all }).await.unwrap_err();
    assert_reason(&status, Reason::BadRequest);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn milk_is_told_by_day_of_the_zone_in_pages() {
    let server = TestServer::start().await;
    // 23:30 in UTC is the next day in Berlin.
    let milkings = [(0, 7), (0, 8), (23 * HOUR + HOUR / 2, 7), (DAY, 8)];
    let milkings = milkings.map(|(after, animal_id)| v1::Milking {
        time_us: START + after,
        milk_meter_id: 1,
        animal_id,
        farm_id: 1,
        session_id: "s".to_owned(),
        yield_kg: 10.0,
        ..v1::Milking::default()
    });
    let batch = v1::Batch { milkings: milkings.into(), ..v1::Batch::default() };
    let write = v1::WriteRequest { batch: Some(batch), backfill: true, ..v1::WriteRequest::default() };
    crate::client::ingest_client(&server).await.write(write).await.unwrap();
    let mut client = query_client(&server).await;
    let base = v1::GetMilkProductionDailyRequest {
        farm_id: 1,
        first_date: "2026-03-27".to_owned(),
        last_date: "2026-03-28".to_owned(),
        ..v1::GetMilkProductionDailyRequest::default()
    };
    let row = |date: &str, animal: i32, count: u32| (date.to_owned(), animal, count);
    let (first, second) = ("2026-03-27", "2026-03-28");
    for (time_zone, animal_id, wanted) in [
        ("", 0, vec![row(first, 7, 2), row(first, 8, 1), row(second, 8, 1)]),
        ("Europe/Berlin", 0, vec![row(first, 7, 1), row(first, 8, 1), row(second, 7, 1), row(second, 8, 1)]),
        ("", 8, vec![row(first, 8, 1), row(second, 8, 1)]),
        ("", 9, vec![]),
    ] {
        for page_size in [1, 2, 10_000] {
            let time_zone = time_zone.to_owned();
            let mut asked =
                v1::GetMilkProductionDailyRequest { time_zone, animal_id, page_size, ..base.clone() };
            let mut found = Vec::new();
            loop {
                let page = client.get_milk_production_daily(asked.clone()).await.unwrap().into_inner();
                assert!(page.days.len() <= page_size as usize);
                found.extend(page.days.into_iter().map(|day| (day.date, day.animal_id, day.milking_count)));
                if page.next_page_token.is_empty() {
                    break;
                }
                asked.page_token = page.next_page_token;
            }
            assert_eq!(found, wanted, "{asked:?}");
        }
    }
    let paged = v1::GetMilkProductionDailyRequest { page_size: 1, ..base };
    let page_token =
        client.get_milk_production_daily(paged.clone()).await.unwrap().into_inner().next_page_token;
    let changed =
        v1::GetMilkProductionDailyRequest { page_token, time_zone: "Europe/Berlin".to_owned(), ..paged };
    assert_field(&client.get_milk_production_daily(changed).await.unwrap_err(), "page_token", "zone");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_changed_anywhere_is_refused() {
    let server = TestServer::start().await;
    store(&server, &(0..240).map(|n| measured(0, n * 30)).collect::<Vec<_>>()).await;
    let mut client = query_client(&server).await;
    for resolution in [Resolution::Raw, Resolution::Hour] {
        let asked = QueryRangeRequest { resolution: resolution.into(), page_size: 10, ..request() };
        let token = client.query_range(asked.clone()).await.unwrap().into_inner().next_page_token;
        for place in 0..token.len() {
            let other = if &token[place..=place] == "1" { "2" } else { "1" };
            let page_token = format!("{}{other}{}", &token[..place], &token[place + 1..]);
            let changed = QueryRangeRequest { page_token, ..asked.clone() };
            let told = changed.page_token.clone();
            let status = client.query_range(changed).await.expect_err(&told);
            assert_field(&status, "page_token", "start over");
        }
        client.query_range(QueryRangeRequest { page_token: token, ..asked }).await.expect("it is its own");
    }
    server.stop().await;
}
