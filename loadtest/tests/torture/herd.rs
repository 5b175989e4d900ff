//! Gateways that send all the time, and what the oracle says of them in the end.

use std::{env, fmt::Write as _, path::Path, time::Duration};

use anyhow::{Result, ensure};
use herdstream_client::{Producer, ProducerConfig, QueryClient, QueryConfig};
use herdstream_loadtest::{
    farm::{Farm, FarmConfig},
    oracle::{self, Balance, Log},
    workload::{Gateway, history_start_us, now_us},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{task::JoinHandle, time::Instant};
use tokio_util::sync::CancellationToken;

pub(crate) const GATEWAYS: u64 = 3;
/// More than enough for anything that works at all; what takes so long fails.
pub(crate) const PATIENCE: Duration = Duration::from_mins(2);
pub(crate) const DAY_US: i64 = 86_400_000_000;

/// Broken readings in a million: enough that each run has some.
pub(crate) const SOME_BAD: u32 = 5_000;

const SERIES: usize = 24;

/// What gateways send.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Load {
    pub(crate) bad_per_million: u32,
    /// Between two calls, at most.
    pub(crate) pause_ms: u64,
}

impl Load {
    /// As fast as it goes.
    pub(crate) const FULL: Self = Self { bad_per_million: SOME_BAD, pause_ms: 1 };
    /// Always something under way, and little enough to be read back soon after a long test.
    pub(crate) const STEADY: Self = Self { bad_per_million: SOME_BAD, pause_ms: 20 };
    /// The same, and nothing that belongs into quarantine.
    pub(crate) const ALL_GOOD: Self = Self { bad_per_million: 0, ..Self::STEADY };
}

/// Gateways that send until they are told to stop.
pub(crate) struct Herd {
    senders: Vec<JoinHandle<Result<Gateway>>>,
    producers: Vec<Producer>,
    stop: CancellationToken,
}

/// What became of everything that they sent.
#[derive(Debug)]
pub(crate) struct Settled {
    pub(crate) balance: Balance,
    /// Sessions, or attempts to open one, that ended too early.
    pub(crate) disconnects: u64,
    logs: Vec<Log>,
}

impl Herd {
    /// Opens a gateway for each endpoint, with a spool below `dir`.
    pub(crate) async fn start(
        endpoints: &[String],
        dir: &Path,
        rng: &mut SmallRng,
        Load { bad_per_million, pause_ms }: Load,
    ) -> Result<Self> {
        let (seed, stop) = (rng.random(), CancellationToken::new());
        let (mut senders, mut producers) = (Vec::new(), Vec::new());
        for (number, endpoint) in (0..).zip(endpoints) {
            let config = gateway_config(endpoint, dir, number);
            let farm = farm(seed, number, 0, history_start_us(), bad_per_million);
            let gateway = Gateway::open(config, farm).await?;
            producers.push(gateway.producer().clone());
            senders.push(tokio::spawn(send_until(gateway, rng.random(), pause_ms, stop.clone())));
        }
        Ok(Self { senders, producers, stop })
    }

    /// Readings and milkings taken, and acknowledged.
    pub(crate) fn counts(&self) -> (u64, u64) {
        let counters = self.producers.iter().map(Producer::counters);
        counters.fold((0, 0), |(taken, acked), of| (taken + of.accepted, acked + of.acked()))
    }

    /// Waits until every gateway gets acks: everything works again.
    pub(crate) async fn progress(&self) -> Result<()> {
        let before: Vec<_> = self.producers.iter().map(|producer| producer.counters().acks).collect();
        let deadline = Instant::now() + PATIENCE;
        for (producer, before) in self.producers.iter().zip(before) {
            while producer.counters().acks == before {
                ensure!(Instant::now() < deadline, "no ack within {PATIENCE:?}: {:?}", producer.counters());
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        Ok(())
    }

    /// Stops sending, waits until all is acknowledged, and asks the oracle, who reads from `endpoint`.
    pub(crate) async fn settle(self, endpoint: &str) -> Result<Settled> {
        self.stop.cancel();
        let (mut disconnects, mut logs) = (0, Vec::new());
        for sender in self.senders {
            let gateway = sender.await??;
            gateway.producer().flush(PATIENCE).await?;
            disconnects += gateway.producer().counters().disconnects;
            let log = gateway.into_log();
            ensure!(log.gone.total() == 0, "a spool that is never full gives nothing up: {:?}", log.gone);
            logs.push(log);
        }
        let balance = weigh(endpoint, &logs).await?;
        Ok(Settled { balance, disconnects, logs })
    }
}

impl Settled {
    /// Asks the oracle again, who reads from another server.
    pub(crate) async fn seen_from(&self, endpoint: &str) -> Result<Balance> {
        weigh(endpoint, &self.logs).await
    }
}

async fn weigh(endpoint: &str, logs: &[Log]) -> Result<Balance> {
    let client = query_client(endpoint).await?;
    let mut total = Balance::empty();
    for log in logs {
        total.add(balance(&client, log).await?);
    }
    Ok(total)
}

async fn send_until(
    mut gateway: Gateway,
    seed: u64,
    pause_ms: u64,
    stop: CancellationToken,
) -> Result<Gateway> {
    let mut rng = SmallRng::seed_from_u64(seed);
    while !stop.is_cancelled() {
        gateway.prepare(rng.random_range(1..500), now_us());
        gateway.send(PATIENCE).await?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..=pause_ms))).await;
    }
    Ok(gateway)
}

pub(crate) fn gateway_config(endpoint: &str, dir: &Path, number: u64) -> ProducerConfig {
    let gateway_id = format!("gateway-{number}");
    let spool = dir.join(format!("spool-{number}"));
    let backoff = (Duration::from_millis(10), Duration::from_millis(200));
    ProducerConfig::new(endpoint, gateway_id).batch_readings(200).spool(spool).backoff(backoff.0, backoff.1)
}

pub(crate) fn farm(seed: u64, number: u64, life: u64, start_us: i64, bad_per_million: u32) -> Farm {
    Farm::new(&FarmConfig {
        seed: seed ^ number << 40 ^ life << 20,
        run: "torture".into(),
        farm_id: number as i32 + 1,
        series: SERIES,
        start_us,
        bad_per_million,
    })
}

pub(crate) async fn query_client(endpoint: &str) -> Result<QueryClient> {
    Ok(QueryClient::connect(QueryConfig::new(endpoint).timeout(PATIENCE)).await?)
}

pub(crate) async fn balance(client: &QueryClient, log: &Log) -> Result<Balance> {
    let found =
        oracle::read_back(client, log, (history_start_us() - DAY_US, now_us() + DAY_US), |_| ()).await?;
    Ok(oracle::weigh(log, &found))
}

pub(crate) fn assert_balanced(balance: &Balance) {
    let mut differences = String::new();
    for difference in &balance.differences {
        writeln!(differences, "  {difference}").expect("writing to a string");
    }
    assert!(balance.balanced, "the oracle does not balance: {balance:?}\n{differences}");
    assert!(balance.sent > 0, "nothing was sent");
}

/// Of this run of a test; printed, so that the run can be repeated.
pub(crate) fn seed(test: &str) -> u64 {
    let seed =
        env::var("HERDSTREAM_TEST_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or_else(rand::random);
    println!(
        "repeat with HERDSTREAM_TEST_SEED={seed} cargo test -p herdstream-loadtest --test torture {test}"
    );
    seed
}
