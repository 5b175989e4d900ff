//! Who is not known: farms and devices are, by what they sent, and whoever asks about others is told so; of an animal or a
//! zone that nothing carries there is nothing to tell.

use herdstream_proto::{
    error::Reason,
    v1::{self, Resolution, query_service_client::QueryServiceClient},
};
use herdstream_server::testing::TestServer;
use tonic::{Status, transport::Channel};

use crate::{
    answers::{DAY, Measured, START, request, store},
    client::{assert_field, assert_reason, ingest_client, query_client},
};

/// A farm that milks and measures nothing.
const MILKING_FARM: i32 = 5;

async fn store_milking(server: &TestServer, time_us: i64) {
    let milking = v1::Milking {
        time_us,
        milk_meter_id: 1,
        animal_id: 7,
        farm_id: MILKING_FARM,
        session_id: "s".to_owned(),
        yield_kg: 10.0,
        ..v1::Milking::default()
    };
    let batch = v1::Batch { milkings: vec![milking], ..v1::Batch::default() };
    let write = v1::WriteRequest { batch: Some(batch), backfill: true, ..v1::WriteRequest::default() };
    assert_eq!(ingest_client(server).await.write(write).await.expect("a write").into_inner().stored, 1);
}

/// What a call answers about something: how much is in it.
struct Ask {
    client: QueryServiceClient<Channel>,
}

/// A device, an animal, a zone and a farm, of which some are named.
type Who = (&'static str, i32, i32, i32);

impl Ask {
    async fn latest(&mut self, (device, _, _, farm_id): Who) -> Result<usize, Status> {
        let asked = v1::GetLatestRequest { device_uid: device.to_owned(), farm_id, metric_names: vec![] };
        Ok(self.client.get_latest(asked).await?.into_inner().latest.len())
    }

    async fn status(&mut self, (device, _, _, farm_id): Who) -> Result<usize, Status> {
        let asked = v1::GetDeviceStatusRequest { device_uid: device.to_owned(), farm_id };
        Ok(self.client.get_device_status(asked).await?.into_inner().devices.len())
    }

    async fn range(&mut self, who: Who, resolution: Resolution) -> Result<usize, Status> {
        let answer = self.client.query_range(ranges(who, resolution)).await?.into_inner();
        Ok(answer.series.len() + answer.aggregates.len())
    }

    async fn batch(&mut self, who: Who) -> Result<usize, Status> {
        let asked = v1::BatchQueryRangeRequest { requests: vec![ranges(who, Resolution::Hour)] };
        let answer = self.client.batch_query_range(asked).await?.into_inner();
        Ok(answer.responses.iter().map(|answer| answer.aggregates.len()).sum())
    }

    async fn stream(&mut self, (device, animal_id, zone_id, farm_id): Who) -> Result<usize, Status> {
        let asked = v1::StreamRangeRequest {
            device_uid: device.to_owned(),
            animal_id,
            zone_id,
            farm_id,
            metric_names: vec![],
            start_us: START,
            end_us: START + DAY,
        };
        let mut parts = self.client.stream_range(asked).await?.into_inner();
        let mut found = 0;
        while let Some(part) = parts.message().await? {
            found += usize::from(part.series.is_some());
        }
        Ok(found)
    }

    async fn watch(&mut self, (device, _, _, farm_id): Who) -> Result<usize, Status> {
        let asked = v1::WatchReadingsRequest {
            device_uid: device.to_owned(),
            farm_id,
            ..v1::WatchReadingsRequest::default()
        };
        let first = self.client.watch_readings(asked).await?.into_inner().message().await?;
        Ok(first.expect("it goes on").changed.len())
    }

    async fn series(&mut self, (device, _, _, farm_id): Who, metric: &str) -> Result<usize, Status> {
        let asked = v1::ListSeriesRequest {
            device_uid: device.to_owned(),
            farm_id,
            metric_name: metric.to_owned(),
            ..v1::ListSeriesRequest::default()
        };
        Ok(self.client.list_series(asked).await?.into_inner().series.len())
    }

    async fn devices(&mut self, (_, _, _, farm_id): Who) -> Result<usize, Status> {
        let asked = v1::ListDevicesRequest { farm_id, ..v1::ListDevicesRequest::default() };
        Ok(self.client.list_devices(asked).await?.into_inner().devices.len())
    }

    async fn summary(&mut self, (_, _, _, farm_id): Who) -> Result<usize, Status> {
        let (first_date, last_date) = dates();
        let asked = v1::GetFarmDailySummaryRequest { farm_id, first_date, last_date, ..Default::default() };
        Ok(self.client.get_farm_daily_summary(asked).await?.into_inner().days.len())
    }

    async fn milkings(&mut self, (_, animal_id, _, farm_id): Who) -> Result<usize, Status> {
        let asked = v1::QueryMilkingsRequest {
            farm_id,
            animal_id,
            start_us: START,
            end_us: START + DAY,
            ..Default::default()
        };
        Ok(self.client.query_milkings(asked).await?.into_inner().milkings.len())
    }

    async fn milk(&mut self, (_, animal_id, _, farm_id): Who) -> Result<usize, Status> {
        let (first_date, last_date) = dates();
        let asked = v1::GetMilkProductionDailyRequest {
            farm_id,
            animal_id,
            first_date,
            last_date,
            ..Default::default()
        };
        Ok(self.client.get_milk_production_daily(asked).await?.into_inner().days.len())
    }

    async fn animal(&mut self, (_, animal_id, _, farm_id): Who) -> Result<usize, Status> {
        let asked = v1::GetAnimalMetricsRequest {
            animal_id,
            farm_id,
            start_us: START,
            end_us: START + DAY,
            metric_names: vec![],
        };
        Ok(self.client.get_animal_metrics(asked).await?.into_inner().metrics.len())
    }
}

fn ranges((device, animal_id, zone_id, farm_id): Who, resolution: Resolution) -> v1::QueryRangeRequest {
    v1::QueryRangeRequest {
        device_uid: device.to_owned(),
        animal_id,
        zone_id,
        farm_id,
        start_us: START,
        end_us: START + DAY,
        resolution: resolution.into(),
        ..request()
    }
}

/// The day that begins at [`START`].
fn dates() -> (String, String) {
    ("2026-03-27".to_owned(), "2026-03-27".to_owned())
}

async fn server() -> (TestServer, Ask) {
    let server = TestServer::start().await;
    let measured = Measured { farm: 1, device: 0, time_us: START, quarters: 4, animal: Some(7) };
    store(&server, &[measured]).await;
    store_milking(&server, START).await;
    let client = query_client(&server).await;
    (server, Ask { client })
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_device_is_not_found_by_any_call() {
    let (server, mut ask) = server().await;
    // Nowhere, and on a farm that is known.
    for who in [("nobody", 0, 0, 0), ("nobody", 0, 0, 1), ("probe-1-0", 0, 0, 2)] {
        let answers = [
            ("GetLatest", ask.latest(who).await),
            ("GetDeviceStatus", ask.status(who).await),
            ("QueryRange", ask.range(who, Resolution::Raw).await),
            ("QueryRange by hour", ask.range(who, Resolution::Hour).await),
            ("BatchQueryRange", ask.batch(who).await),
            ("StreamRange", ask.stream(who).await),
            ("WatchReadings", ask.watch(who).await),
            ("ListSeries", ask.series(who, "").await),
            ("ListSeries of a metric", ask.series(who, "warmth").await),
        ];
        for (call, answer) in answers {
            let Err(status) = answer else { panic!("{call} of {who:?}: {answer:?}") };
            assert_reason(&status, Reason::NotFound);
            assert!(status.message().contains(who.0), "{call}: {status:?}");
        }
    }
    // One that is known and has sent nothing yet.
    let quiet = ("probe-1-1", 0, 0, 0);
    for answer in [
        ask.latest(quiet).await,
        ask.range(quiet, Resolution::Raw).await,
        ask.stream(quiet).await,
        ask.watch(quiet).await,
        ask.series(quiet, "humidity").await,
    ] {
        assert_eq!(answer.expect("it is known"), 0);
    }
    assert_eq!(ask.series(quiet, "").await.expect("it is known"), 1);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_farm_is_not_found_by_any_call() {
    let (server, mut ask) = server().await;
    let who = ("", 0, 0, 9);
    let answers = [
        ("GetLatest", ask.latest(("probe-1-0", 0, 0, 9)).await),
        ("GetDeviceStatus", ask.status(("probe-1-0", 0, 0, 9)).await),
        ("QueryRange", ask.range(who, Resolution::Raw).await),
        ("QueryRange by day", ask.range(who, Resolution::Day).await),
        ("QueryRange of an animal", ask.range(("", 7, 0, 9), Resolution::Raw).await),
        ("QueryRange of a zone", ask.range(("", 0, 3, 9), Resolution::Hour).await),
        ("BatchQueryRange", ask.batch(who).await),
        ("StreamRange", ask.stream(who).await),
        ("StreamRange of an animal", ask.stream(("", 7, 0, 9)).await),
        ("WatchReadings", ask.watch(who).await),
        ("ListSeries", ask.series(who, "").await),
        ("ListSeries of a metric", ask.series(who, "warmth").await),
        ("ListDevices", ask.devices(who).await),
        ("GetFarmDailySummary", ask.summary(who).await),
        ("QueryMilkings", ask.milkings(who).await),
        ("QueryMilkings of an animal", ask.milkings(("", 7, 0, 9)).await),
        ("GetMilkProductionDaily", ask.milk(who).await),
        ("GetMilkProductionDaily of an animal", ask.milk(("", 7, 0, 9)).await),
        ("GetAnimalMetrics", ask.animal(("", 7, 0, 9)).await),
    ];
    for (call, answer) in answers {
        let Err(status) = answer else { panic!("{call}: {answer:?}") };
        assert_reason(&status, Reason::NotFound);
        assert!(status.message().contains("farm 9"), "{call}: {status:?}");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_known_farm_of_which_nothing_is_asked_for_is_an_empty_answer() {
    let (server, mut ask) = server().await;
    // It measures, and milks nothing; and the other way round.
    let (measures, milks) = (("", 0, 0, 2), ("", 0, 0, MILKING_FARM));
    for (call, answer) in [
        ("QueryMilkings", ask.milkings(measures).await),
        ("GetMilkProductionDaily", ask.milk(measures).await),
        ("QueryRange", ask.range(measures, Resolution::Raw).await),
        ("StreamRange", ask.stream(measures).await),
        ("GetFarmDailySummary", ask.summary(measures).await),
        ("ListSeries of a metric", ask.series(measures, "humidity").await),
        ("StreamRange of milk", ask.stream(milks).await),
        ("WatchReadings of milk", ask.watch(milks).await),
        ("ListSeries of milk", ask.series(milks, "").await),
        ("ListDevices of milk", ask.devices(milks).await),
        ("GetFarmDailySummary of milk", ask.summary(milks).await),
        ("GetAnimalMetrics of milk", ask.animal(("", 7, 0, MILKING_FARM)).await),
    ] {
        assert_eq!(answer.unwrap_or_else(|status| panic!("{call}: {status:?}")), 0, "{call}");
    }
    assert_eq!((ask.milkings(milks).await.unwrap(), ask.milk(milks).await.unwrap()), (1, 1));
    assert_field(&ask.range(milks, Resolution::Raw).await.unwrap_err(), "metric_name", "of milk");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_animal_or_zone_is_an_empty_answer_of_every_call() {
    let (server, mut ask) = server().await;
    for farm_id in [0, 1] {
        for who in [("", 99, 0, farm_id), ("", 0, 99, farm_id)] {
            for (call, answer) in [
                ("QueryRange", ask.range(who, Resolution::Raw).await),
                ("QueryRange by hour", ask.range(who, Resolution::Hour).await),
                ("QueryRange by itself", ask.range(who, Resolution::Auto).await),
                ("BatchQueryRange", ask.batch(who).await),
                ("StreamRange", ask.stream(who).await),
            ] {
                let about = format!("{call} of {who:?}");
                assert_eq!(answer.unwrap_or_else(|status| panic!("{about}: {status:?}")), 0, "{about}");
            }
        }
        assert_eq!(ask.animal(("", 99, 0, farm_id)).await.expect("an answer"), 0);
    }
    for farm_id in [1, MILKING_FARM] {
        assert_eq!(ask.milkings(("", 99, 0, farm_id)).await.expect("an answer"), 0);
        assert_eq!(ask.milk(("", 99, 0, farm_id)).await.expect("an answer"), 0);
    }
    // The one that is known is told.
    assert_eq!(ask.range(("", 7, 0, 0), Resolution::Raw).await.expect("an answer"), 1);
    server.stop().await;
}
