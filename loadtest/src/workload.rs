//! Puts a server under load, and measures.

mod gateway;
mod latency;
mod pace;
mod sampler;

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, Result};
use futures::future;
use herdstream_client::{ProducerConfig, Token};
use rand::{RngCore, SeedableRng, rngs::SmallRng};
use serde::Serialize;
use tokio::{
    task::{JoinError, JoinHandle, JoinSet},
    time::{Instant, MissedTickBehavior},
};
use tokio_util::sync::CancellationToken;

use crate::{
    farm::{Farm, FarmConfig},
    oracle::Log,
};

use sampler::{Flight, LOOK, Sampler};

pub use gateway::Gateway;
pub use latency::{Intended, Latencies, Percentiles, Span};
pub use pace::Pace;

/// Between two readings of the producer that sends them one at a time.
const LONE_PAUSE: Duration = Duration::from_millis(200);

/// How long before the present simulated time starts. Below the accepted lateness of a server, 60 days,
/// and far enough that the farms' clock stays fast for a quarter of an hour at full load.
const HISTORY_US: i64 = 45 * DAY_US;
pub(crate) const DAY_US: i64 = 86_400_000_000;

/// What to load a server with.
#[derive(Clone, Debug)]
pub struct Load {
    /// The server, `http://host:port`.
    pub endpoint: String,
    /// Bearer token, if the server wants one.
    pub token: Option<Token>,
    /// Gateways, each with one producer and one farm. 1 or more.
    pub producers: usize,
    /// Series of each. 1 or more.
    pub series: usize,
    /// Readings and milkings that fill a batch. 1 to 10 000.
    pub batch: usize,
    /// When to send.
    pub pace: Pace,
    /// For how long.
    pub duration: Duration,
    /// Everything about the farms follows from it.
    pub seed: u64,
    /// Name of the run, part of all device identifiers.
    pub run: String,
    /// Directory under which each producer has its spool. None: in memory only.
    pub spool: Option<PathBuf>,
    /// Broken readings in a million.
    pub bad_per_million: u32,
    /// How long to wait for the last acks.
    pub flush_timeout: Duration,
}

/// What the load showed.
#[derive(Debug)]
pub struct Outcome {
    /// For the oracle: one log per gateway.
    pub logs: Vec<Log>,
    /// Times of all readings lie in this half-open range.
    pub span_us: (i64, i64),
    /// How long the load lasted.
    pub elapsed: Duration,
    /// Readings and milkings whose fate was known to their sender by then.
    pub resolved: u64,
    /// Of intended send times to durable acks.
    pub latencies: Latencies,
    /// The same, of readings sent alone.
    pub lone: Latencies,
    /// Second by second.
    pub timeline: Vec<Second>,
    /// Bytes of batches that the SDK sent, repeats included.
    pub bytes_sent: u64,
    /// Batches that the SDK sent, repeats included.
    pub batches_sent: u64,
    /// Sessions that ended before they should have.
    pub disconnects: u64,
    /// What went wrong on the way without ending the run.
    pub troubles: Vec<String>,
}

/// One second of a run.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Second {
    /// Its end, seconds since the start.
    pub at: f64,
    /// Readings and milkings a second that became durable.
    pub rate: f64,
    /// Milliseconds from intended send time to ack.
    pub p50_ms: f64,
    /// Milliseconds from intended send time to ack.
    pub p99_ms: f64,
    /// Milliseconds from intended send time to ack.
    pub max_ms: f64,
    /// Taken and not yet acknowledged.
    pub pending: u64,
}

/// Loads a server. `watch` sees every second as it ends.
///
/// # Errors
///
/// A wrong configuration, or a producer that ended for good. That a server cannot be reached is no error:
/// the SDK keeps trying, and the latencies show it.
pub async fn run(load: &Load, watch: impl FnMut(&Second)) -> Result<Outcome> {
    let start_us = history_start_us();
    let mut gateways = Vec::with_capacity(load.producers);
    for number in 0..load.producers {
        gateways.push(Gateway::open(load.producer(number), load.farm(number, start_us)).await?);
    }
    let lone = Gateway::open(load.producer(load.producers), load.lone_farm(start_us)).await?;

    let start = Instant::now();
    let stop = CancellationToken::new();
    let mut senders = JoinSet::new();
    let mut watched = Vec::with_capacity(gateways.len());
    for (number, gateway) in gateways.into_iter().enumerate() {
        let flight = Arc::new(Flight::default());
        watched.push((gateway.producer().clone(), Arc::clone(&flight)));
        let sender = pace::Sender {
            gateway,
            flight,
            batch: load.batch,
            start,
            // Producers are out of step, as gateways are.
            phase: load.pace.interval(load.producers).mul_f64(number as f64 / load.producers as f64),
            duration: load.duration,
            grace: load.flush_timeout,
            stop: stop.clone(),
        };
        senders.spawn(sender.run(load.pace.clone(), load.producers));
    }
    let lone = tokio::spawn(send_alone(lone, start, stop.clone(), load.flush_timeout));

    let mut sampler = Sampler::new(watched, start);
    let early = sample(load, &mut sampler, &mut senders, start, watch).await;
    let (elapsed, resolved) = (start.elapsed(), sampler.resolved());
    stop.cancel();
    let (gateways, lone, troubles) = tokio::select! {
        ended = wind_up(load, early, senders, lone) => ended?,
        never = sampler.keep_looking() => match never {},
    };

    let (latencies, timeline) = sampler.finish();
    let mut outcome = Outcome {
        logs: Vec::with_capacity(gateways.len()),
        span_us: (start_us, now_us() + DAY_US),
        elapsed,
        resolved,
        latencies,
        lone,
        timeline,
        bytes_sent: 0,
        batches_sent: 0,
        disconnects: 0,
        troubles,
    };
    for gateway in gateways {
        let counters = gateway.producer().counters();
        outcome.bytes_sent += counters.bytes_sent;
        outcome.batches_sent += counters.batches_sent;
        outcome.disconnects += counters.disconnects;
        if let Err(error) = gateway.producer().close(load.flush_timeout).await {
            outcome.troubles.push(format!("close: {error}"));
        }
        outcome.logs.push(gateway.into_log());
    }
    outcome.logs.sort_by(|a, b| a.gateway_id.cmp(&b.gateway_id));
    Ok(outcome)
}

/// Microseconds since 1970; 0 by a clock that is set before it.
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since.as_micros() as i64
}

/// How a sender ended: with the reason, if that was too early.
type Ended = (Gateway, Option<String>);

/// Samples until the time is over, or until a sender ends too early: then gives that one back.
async fn sample(
    load: &Load,
    sampler: &mut Sampler,
    senders: &mut JoinSet<Ended>,
    start: Instant,
    mut watch: impl FnMut(&Second),
) -> Option<Result<Ended, JoinError>> {
    let end = start + load.duration;
    let mut next_second = start + Duration::from_secs(1);
    let mut look = tokio::time::interval(LOOK);
    look.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while Instant::now() < end {
        tokio::select! {
            _ = look.tick() => sampler.look(),
            Some(ended) = senders.join_next() => return Some(ended),
        }
        if Instant::now() >= next_second.min(end) {
            watch(sampler.second());
            next_second += Duration::from_secs(1);
        }
    }
    None
}

/// Waits for all senders and for the fate of what they sent.
async fn wind_up(
    load: &Load,
    early: Option<Result<Ended, JoinError>>,
    mut senders: JoinSet<Ended>,
    lone: JoinHandle<(Ended, Latencies)>,
) -> Result<(Vec<Gateway>, Latencies, Vec<String>)> {
    let mut ended = Vec::from_iter(early);
    while let Some(sender) = senders.join_next().await {
        ended.push(sender);
    }
    let (lone, latencies) = lone.await.context("the lone sender panicked")?;
    ended.push(Ok(lone));
    let (mut gateways, mut troubles) = (Vec::with_capacity(ended.len()), Vec::new());
    for sender in ended {
        let (gateway, trouble) = sender.context("a sender panicked")?;
        troubles.extend(trouble);
        gateways.push(gateway);
    }
    let flushes = gateways.iter().map(|gateway| gateway.producer().flush(load.flush_timeout));
    for flushed in future::join_all(flushes).await {
        troubles.extend(flushed.err().map(|error| format!("flush: {error}")));
    }
    Ok((gateways, latencies, troubles))
}

/// Where simulated time starts: a midnight some weeks ago.
pub fn history_start_us() -> i64 {
    (now_us() - HISTORY_US) / DAY_US * DAY_US
}

impl Load {
    fn producer(&self, number: usize) -> ProducerConfig {
        let gateway_id = format!("{}-gateway-{number:03}", self.run);
        let mut config = ProducerConfig::new(&self.endpoint, &gateway_id).batch_readings(self.batch);
        config.token.clone_from(&self.token);
        if let Some(spool) = &self.spool {
            config = config.spool(spool.join(gateway_id));
        }
        config
    }

    /// The farm of a gateway. It follows from the load's seed and the number alone.
    pub fn farm(&self, number: usize, start_us: i64) -> Farm {
        Farm::new(&FarmConfig {
            seed: SmallRng::seed_from_u64(self.seed.wrapping_add(number as u64)).next_u64(),
            run: self.run.clone(),
            farm_id: number as i32 + 1,
            series: self.series,
            start_us,
            bad_per_million: self.bad_per_million,
        })
    }

    fn lone_farm(&self, start_us: i64) -> Farm {
        Self { series: 2, bad_per_million: 0, ..self.clone() }.farm(self.producers, start_us)
    }
}

/// Sends a reading from time to time, alone, and waits for its ack.
async fn send_alone(
    mut gateway: Gateway,
    start: Instant,
    stop: CancellationToken,
    timeout: Duration,
) -> (Ended, Latencies) {
    let mut latencies = Latencies::default();
    let mut intended = start + LONE_PAUSE;
    let trouble = loop {
        tokio::select! {
            () = tokio::time::sleep_until(intended) => {}
            () = stop.cancelled() => break None,
        }
        gateway.prepare(1, now_us());
        let receipt = match gateway.send_tracked(timeout).await {
            Ok(receipt) => receipt,
            Err(error) => break Some(format!("lone reading: {error}")),
        };
        match tokio::time::timeout(timeout, receipt).await {
            Ok(Ok(_)) => latencies.record(intended.elapsed(), 1),
            Ok(Err(error)) => break Some(format!("lone reading: {error}")),
            Err(_) => break Some(format!("lone reading: no ack within {timeout:?}")),
        }
        intended += LONE_PAUSE;
    };
    ((gateway, trouble), latencies)
}
