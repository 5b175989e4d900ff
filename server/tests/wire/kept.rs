//! From when on readings and milkings are kept, told with every answer that could lack some.

use std::time::Duration;

use herdstream_proto::v1::{self, admin_service_client::AdminServiceClient};
use herdstream_server::{config::Config, model::now_us, testing::TestServer};

use crate::{
    answers::{DAY, Measured, store},
    client::{ingest_client, query_client},
};

/// Days that the server keeps readings, and milkings.
const KEPT: (i64, i64) = (3, 5);

async fn milk(server: &TestServer, times: &[i64]) {
    let milking = |&time_us| v1::Milking {
        time_us,
        milk_meter_id: 1,
        animal_id: 7,
        farm_id: 1,
        session_id: "s".to_owned(),
        yield_kg: 10.0,
        ..v1::Milking::default()
    };
    let batch = v1::Batch { milkings: times.iter().map(milking).collect(), ..v1::Batch::default() };
    let write = v1::WriteRequest { batch: Some(batch), backfill: true, ..v1::WriteRequest::default() };
    let answer = ingest_client(server).await.write(write).await.expect("a write").into_inner();
    assert_eq!(answer.stored as usize, times.len(), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_milkings_and_the_server_tell_from_when_on_they_are_kept() {
    let mut config = Config::default();
    config.rollups.enabled = false;
    config.ingest.accepted_lateness = Duration::from_hours(24);
    config.retention.readings = Some(Duration::from_hours(24 * KEPT.0 as u64));
    config.retention.milkings = Some(Duration::from_hours(24 * KEPT.1 as u64));
    config.retention.quiet = Duration::ZERO;
    let server = TestServer::start_with(config).await;
    let mut admin = AdminServiceClient::connect(server.admin_endpoint().unwrap()).await.unwrap();
    let mut client = query_client(&server).await;
    // One look at the clock: two are not of the same moment.
    let now = now_us();
    let today = now - now.rem_euclid(DAY);
    let at = |days: i64| today - days * DAY;
    let measured = |days| Measured { farm: 1, device: 0, time_us: at(days), quarters: 4, animal: Some(7) };
    store(&server, &[measured(10), measured(0)]).await;
    milk(&server, &[at(20), at(1), at(0)]).await;

    // Times of readings and of milkings, and what each message says to be kept.
    let mut look = async |start_us, end_us| {
        let asked = v1::StreamRangeRequest { farm_id: 1, start_us, end_us, ..Default::default() };
        let mut parts = client.stream_range(asked).await.unwrap().into_inner();
        let (mut times, mut kept) = (Vec::new(), Vec::new());
        while let Some(part) = parts.message().await.unwrap() {
            kept.push(part.kept_from_us);
            times.extend(part.series.into_iter().flat_map(|series| series.readings).map(|r| r.time_us));
        }
        let readings = (times, kept);
        let (mut times, mut kept) = (Vec::new(), Vec::new());
        let mut asked =
            v1::QueryMilkingsRequest { farm_id: 1, start_us, end_us, page_size: 1, ..Default::default() };
        loop {
            let page = client.query_milkings(asked.clone()).await.unwrap().into_inner();
            kept.push(page.kept_from_us);
            times.extend(page.milkings.into_iter().map(|milking| milking.time_us));
            if page.next_page_token.is_empty() {
                break;
            }
            asked.page_token = page.next_page_token;
        }
        let info = client.get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
        assert_eq!(
            (info.readings_kept_us as i64, info.milkings_kept_us as i64),
            (KEPT.0 * DAY, KEPT.1 * DAY)
        );
        let told = (info.readings_kept_from_us, info.milkings_kept_from_us);
        (readings, (times, kept), told)
    };
    let (readings, milkings, told) = look(at(30), at(-1)).await;
    assert_eq!(readings, (vec![at(10), at(0)], vec![0]));
    assert_eq!(milkings, (vec![at(20), at(1), at(0)], vec![0; 3]));
    assert_eq!(told, (Some(0), Some(0)));

    admin.refresh_rollups(v1::RefreshRollupsRequest::default()).await.unwrap();
    admin.run_retention(v1::RunRetentionRequest { dry_run: false }).await.unwrap();
    let (readings, milkings, told) = look(at(30), at(-1)).await;
    assert_eq!(readings, (vec![at(0)], vec![at(9)]));
    assert_eq!(milkings, (vec![at(1), at(0)], vec![at(19); 2]));
    assert_eq!(told, (Some(at(9)), Some(at(19))));
    // Also where nothing is left.
    let (readings, milkings, _) = look(at(30), at(9)).await;
    assert_eq!(readings, (vec![], vec![at(9)]));
    assert_eq!(milkings, (vec![], vec![at(19)]));
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_keeps_everything_says_so() {
    let mut config = Config::default();
    config.retention.readings = None;
    config.retention.milkings = None;
    config.retention.rollup_15min = None;
    config.retention.rollup_hourly = None;
    let server = TestServer::start_with(config).await;
    let mut client = query_client(&server).await;
    let info = client.get_server_info(v1::GetServerInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.readings_kept_us, info.milkings_kept_us), (0, 0));
    assert_eq!((info.readings_kept_from_us, info.milkings_kept_from_us), (Some(0), Some(0)));
    server.stop().await;
}
