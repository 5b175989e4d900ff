//! Every kind of answer that must hold a reading is seen to lack one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Result;
use herdstream_client::{Milking, Producer, ProducerConfig, QueryClient, Reading, SeriesKey};
use herdstream_loadtest::{
    fresh::{Known, Question},
    server_process::{ServerProcess, test_binary},
};

const TIMEOUT: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_lacks_a_reading_is_a_miss() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let server = ServerProcess::start(test_binary()?, dir.path().to_owned()).await?;
    let key = SeriesKey {
        farm_id: 1,
        device_uid: "probe".into(),
        device_type: "probe".into(),
        metric_name: "activity".into(),
        metric_unit: "{steps}/h".into(),
    };
    let time_us = i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_micros())?;
    let producer = Producer::open(ProducerConfig::new(server.endpoint(), "probe")).await?;
    let reading = Reading::new(producer.series(key.clone())?, 5.0).at(time_us).animal(17);
    let milking = Milking {
        time_us: Some(time_us),
        milk_meter_id: 1,
        animal_id: 17,
        farm_id: 1,
        session_id: "probe".into(),
        yield_kg: 12.0,
        ..Milking::default()
    };
    producer.send(reading, TIMEOUT).await?;
    producer.send(milking, TIMEOUT).await?;
    producer.flush(TIMEOUT).await?;

    let client = QueryClient::connect(server.endpoint()).await?;
    let mut known = Known::new(key, 17);
    known.add(time_us, 5.0, 12.0);
    for question in Question::ALL {
        let weighed = question.ask(&client, &known).await?;
        assert!(weighed.is_ok(), "{}: {weighed:?}", question.name());
    }
    // One of the same moment, so that it belongs into the same buckets; and never sent.
    known.add(time_us + 1, 6.0, 13.0);
    for question in Question::ALL {
        let weighed = question.ask(&client, &known).await?;
        // The series itself is known.
        assert_eq!(weighed.is_ok(), question == Question::Series, "{}: {weighed:?}", question.name());
    }
    producer.close(TIMEOUT).await?;
    server.stop().await
}
