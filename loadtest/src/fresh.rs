//! Fresh at once: what was acknowledged is in every answer that is asked for from then on.
//!
//! A device and an animal that nobody else writes of send a reading and a milking, of now or of some hours ago,
//! and wait for the ack. At once every kind of answer that must hold them is asked for, all at the same time, and held
//! against all that was sent so far.

mod question;

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use futures::future;
use herdstream_client::{
    Milking, Outcome, Producer, ProducerConfig, QueryClient, Reading, SeriesKey, SeriesRef,
};
use rand::{Rng as _, rngs::SmallRng};
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

pub use question::{Known, Question};

use crate::workload::{Latencies, Percentiles, now_us};

/// How long an ack may take.
const ACK_TIMEOUT: Duration = Duration::from_secs(30);

/// How long is looked for what an answer missed.
const LOOKED_FOR: Duration = Duration::from_secs(10);

/// Between two looks at an answer that missed something.
const LOOK: Duration = Duration::from_millis(20);

/// Ages of readings that come late, at most: no server refuses them by default, and their buckets are closed.
const LATE_US: i64 = 24 * 3_600_000_000;

/// Misses that are described.
const DESCRIBED: usize = 20;

/// What came of it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Fresh {
    /// Readings that were looked for, each with a milking.
    pub readings: u64,
    /// Answers that were looked at.
    pub answers: u64,
    /// Answers that did not hold what was acknowledged before they were asked for.
    pub misses: u64,
    /// From the ack to the answer that holds it.
    pub seen_ms: Percentiles,
    /// The same of each kind of answer.
    pub kinds: Vec<Seen>,
    /// What was missed.
    pub missed: Vec<String>,
}

/// One kind of answer.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Seen {
    /// Its name.
    pub name: &'static str,
    /// From the ack to the answer that holds it.
    pub seen_ms: Percentiles,
}

/// A device that is read as soon as it has written.
#[derive(Debug)]
pub struct Probe {
    client: QueryClient,
    producer: Producer,
    series: SeriesRef,
    known: Known,
    rng: SmallRng,
}

impl Probe {
    /// Opens a producer for a device and an animal of their own on a farm.
    ///
    /// # Errors
    ///
    /// The server cannot be reached, or its URL is wrong.
    pub async fn open(endpoint: &str, client: QueryClient, farm_id: i32, rng: SmallRng) -> Result<Self> {
        // Another in every run, also of the same seed: what an earlier one wrote may still be there.
        let run: u32 = rand::random();
        let key = SeriesKey {
            farm_id,
            device_uid: format!("probe_{run:08x}"),
            // A kind of its own: nobody else's readings are in its row of a farm's day.
            device_type: format!("probe_{run:08x}"),
            metric_name: "activity".to_owned(),
            metric_unit: "{steps}/h".to_owned(),
        };
        let config = ProducerConfig::new(endpoint, format!("probe-{run:08x}")).linger(Duration::ZERO);
        let producer = Producer::open(config).await?;
        let series = producer.series(key.clone())?;
        // Above the animals of any history.
        let known = Known::new(key, rand::random_range(1_000_000_000..i32::MAX));
        Ok(Self { client, producer, series, known, rng })
    }

    /// Looks for `per_second` readings a second, one at least, until it is stopped.
    ///
    /// # Errors
    ///
    /// Something is not stored, or a question fails. A miss is no error, but told.
    pub async fn run(mut self, per_second: f64, stop: CancellationToken) -> Result<Fresh> {
        let mut ticks = tokio::time::interval(Duration::from_secs_f64(1.0 / per_second));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut fresh = Fresh::default();
        let mut seen = Question::ALL.map(|_| Latencies::default());
        loop {
            let acked = self.write().await.context("writing what is looked for")?;
            fresh.readings += 1;
            let looks = Question::ALL.map(|question| look(&self.client, &self.known, question, acked));
            for (question, look) in Question::ALL.into_iter().zip(future::join_all(looks).await) {
                let Look { took, why } = look.with_context(|| format!("asking for {}", question.name()))?;
                fresh.answers += 1;
                if let Some(took) = took {
                    seen[question as usize].record(took, 1);
                }
                let Some(why) = why else { continue };
                fresh.misses += 1;
                if fresh.missed.len() < DESCRIBED {
                    let later = took.map_or_else(
                        || format!("and was not within {LOOKED_FOR:?}"),
                        |took| format!("and was right {took:.1?} after the ack"),
                    );
                    let newest = self.known.newest_us();
                    fresh.missed.push(format!("{} {newest}: {why}; {later}", question.name()));
                }
            }
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => break,
            }
        }
        self.producer.close(ACK_TIMEOUT).await?;
        let mut all = Latencies::default();
        for one in &seen {
            all.add(one);
        }
        fresh.seen_ms = all.percentiles();
        let kinds = Question::ALL.into_iter().zip(&seen);
        fresh.kinds =
            kinds.map(|(kind, seen)| Seen { name: kind.name(), seen_ms: seen.percentiles() }).collect();
        Ok(fresh)
    }

    /// Sends a reading and a milking; answers when both were acknowledged.
    async fn write(&mut self) -> Result<Instant> {
        let back_us = if self.rng.random_bool(0.5) { 0 } else { self.rng.random_range(0..LATE_US) };
        let (time_us, value, yield_kg) = self.known.draw(now_us() - back_us, &mut self.rng);
        let Known { key, animal_id, .. } = &self.known;
        let reading = Reading::new(self.series, value).at(time_us).animal(*animal_id);
        let milking = Milking {
            time_us: Some(time_us),
            milk_meter_id: 1,
            animal_id: *animal_id,
            farm_id: key.farm_id,
            session_id: key.device_uid.clone(),
            yield_kg,
            ..Milking::default()
        };
        let reading = self.producer.send_tracked(reading, ACK_TIMEOUT).await?;
        let milking = self.producer.send_tracked(milking, ACK_TIMEOUT).await?;
        let both = tokio::time::timeout(ACK_TIMEOUT, future::try_join(reading, milking)).await;
        let acked = Instant::now();
        let (reading, milking) = both.with_context(|| format!("no ack within {ACK_TIMEOUT:?}"))??;
        for outcome in [reading, milking] {
            if outcome != Outcome::Stored {
                bail!("it was not stored: {outcome:?}");
            }
        }
        self.known.add(time_us, value, yield_kg);
        Ok(acked)
    }
}

/// When an answer held what it must, since the ack, and what was wrong with the first one.
struct Look {
    took: Option<Duration>,
    why: Option<String>,
}

/// Asks until the answer holds what it must, or for [`LOOKED_FOR`].
async fn look(client: &QueryClient, known: &Known, question: Question, acked: Instant) -> Result<Look> {
    let mut why = None;
    loop {
        let weighed = question.ask(client, known).await?;
        let took = acked.elapsed();
        match weighed {
            Ok(_) => return Ok(Look { took: Some(took), why }),
            Err(wrong) if took < LOOKED_FOR => why = why.or(Some(wrong)),
            Err(wrong) => return Ok(Look { took: None, why: why.or(Some(wrong)) }),
        }
        tokio::time::sleep(LOOK).await;
    }
}
