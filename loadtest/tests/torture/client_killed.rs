//! The client killed with SIGKILL, and opened again on its spool.

use std::{
    env,
    fs::{self, File},
    io::Write as _,
    path::PathBuf,
    process::{Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use futures::future;
use herdstream_loadtest::{
    farm::{Delivery, Farm},
    oracle::{Balance, Log},
    server_process::{ServerProcess, test_binary},
    workload::{Gateway, history_start_us},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::herd::{
    DAY_US, GATEWAYS, PATIENCE, SOME_BAD, assert_balanced, balance, farm, gateway_config, query_client, seed,
};

const KILLS: u64 = 32;
/// Variable that makes this test binary the client that is killed.
const CLIENT_VARIABLE: &str = "HERDSTREAM_TORTURE_CLIENT";

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_is_killed_loses_and_doubles_nothing() -> Result<()> {
    let seed = seed("a_client_that_is_killed_loses_and_doubles_nothing");
    let mut rng = SmallRng::seed_from_u64(seed);
    let dir = tempfile::tempdir()?;
    let server = ServerProcess::start(test_binary()?, dir.path().join("server")).await?;
    let mut life = Life {
        dir: dir.path().to_owned(),
        endpoint: server.endpoint(),
        seed,
        number: 0,
        start_us: history_start_us(),
        last: false,
    };
    for number in 0..KILLS {
        life.number = number;
        let mut client = life.begin()?;
        // Some die before they are open, most while they send, some while they drain what was left.
        let mut left = rng.random_range(20..700);
        while left > 0 && client.try_wait()?.is_none() {
            let nap = left.min(50);
            tokio::time::sleep(Duration::from_millis(nap)).await;
            left -= nap;
        }
        ensure!(client.try_wait()?.is_none(), "client {number} ended by itself: see above");
        client.kill()?;
        client.wait()?;
    }
    (life.number, life.last) = (KILLS, true);
    let mut client = life.begin()?;
    let status = tokio::task::spawn_blocking(move || client.wait()).await??;
    ensure!(status.success(), "the last client could not deliver what the others left: see above");

    let mut total = Balance::empty();
    let mut doubts = 0;
    let query = query_client(&server.endpoint()).await?;
    for number in 0..GATEWAYS {
        let (log, in_doubt) = life.replay(number)?;
        doubts += in_doubt;
        total.add(balance(&query, &log).await?);
    }
    server.stop().await?;
    assert_balanced(&total);
    assert!(total.quarantined > 0, "broken readings were sent: {total:?}");
    assert!(doubts > 0, "no call was ever interrupted: the kills missed");
    println!("{total:?}, {doubts} readings were being handed over when their client died");
    Ok(())
}

/// Not a test: the client that is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "only started by a_client_that_is_killed_loses_and_doubles_nothing"]
async fn client_process() -> Result<()> {
    let Some(life) = env::var_os(CLIENT_VARIABLE) else { return Ok(()) };
    let life: Life = serde_json::from_str(life.to_str().context("a life that is no text")?)?;
    future::try_join_all((0..GATEWAYS).map(|number| life.live(number))).await?;
    Ok(())
}

/// One process of a client between two kills.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Life {
    dir: PathBuf,
    endpoint: String,
    seed: u64,
    number: u64,
    start_us: i64,
    /// Delivers everything and ends.
    last: bool,
}

/// What a client notes before and after every call, so that its death leaves no question but the last.
#[derive(Debug, Serialize, Deserialize)]
enum Note {
    Opened { producer: Uuid },
    Sending { items: usize },
    Taken,
}

impl Life {
    fn begin(&self) -> Result<std::process::Child> {
        let child = Command::new(env::current_exe()?)
            .args(["--exact", "client_killed::client_process", "--ignored", "--nocapture"])
            .env(CLIENT_VARIABLE, serde_json::to_string(self)?)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn();
        child.context("starting a client")
    }

    /// Sends until it is killed; the last one only a little, and then delivers all that is left.
    async fn live(&self, number: u64) -> Result<()> {
        let mut notes =
            File::options().create_new(true).append(true).open(self.notes(number, self.number))?;
        let mut note = |note: Note| -> Result<()> {
            // One write, and no sync: what is killed is the process, not the machine.
            Ok(notes.write_all(format!("{}\n", serde_json::to_string(&note)?).as_bytes())?)
        };
        let config = gateway_config(&self.endpoint, &self.dir, number);
        let mut gateway = Gateway::open(config, self.farm(number, self.number)).await?;
        note(Note::Opened { producer: gateway.producer().producer_id() })?;
        let mut rng = SmallRng::seed_from_u64(self.seed ^ number << 32 ^ self.number);
        let calls = if self.last { 5 } else { u64::MAX };
        for _ in 0..calls {
            let items = rng.random_range(1..500);
            gateway.prepare(items, self.limit_us());
            note(Note::Sending { items })?;
            gateway.send(PATIENCE).await?;
            note(Note::Taken)?;
        }
        gateway.producer().flush(PATIENCE).await?;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while gateway.producer().counters().recovered_logs > 0 {
            ensure!(tokio::time::Instant::now() < deadline, "left: {:?}", gateway.producer().counters());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        gateway.producer().close(PATIENCE).await?;
        Ok(())
    }

    /// The log of a gateway over all its lives, from its notes; and how many readings are in doubt.
    fn replay(&self, number: u64) -> Result<(Log, u64)> {
        let farm = self.farm(number, 0);
        let mut log = Log::new(format!("gateway-{number}"), farm.series().to_vec(), farm.session_prefix());
        let mut in_doubt = 0;
        for life in 0..=self.number {
            let path = self.notes(number, life);
            let Ok(notes) = fs::read_to_string(&path) else { continue };
            let mut farm = self.farm(number, life);
            let mut delivery = Delivery::default();
            let mut sending = false;
            // A note cut short by the kill is one that was not made.
            for note in notes.split_inclusive('\n').filter(|line| line.ends_with('\n')) {
                match serde_json::from_str(note).with_context(|| format!("{note:?} in {}", path.display()))? {
                    Note::Opened { producer } => log.producers.push(producer),
                    Note::Sending { items } => {
                        delivery.clear();
                        farm.deliver(items, self.limit_us(), &mut delivery);
                        sending = true;
                    }
                    Note::Taken => {
                        log.take(&delivery, (0, 0), (delivery.readings.len(), delivery.milkings.len()));
                        sending = false;
                    }
                }
            }
            if sending {
                log.doubt(&delivery, (0, 0));
                in_doubt += delivery.len() as u64;
            }
        }
        Ok((log, in_doubt))
    }

    /// Each life has a day of its own, so that no two readings of a series are the same.
    fn farm(&self, number: u64, life: u64) -> Farm {
        farm(self.seed, number, life, self.start_us + life as i64 * DAY_US, SOME_BAD)
    }

    fn limit_us(&self) -> i64 {
        self.start_us + 40 * DAY_US
    }

    fn notes(&self, number: u64, life: u64) -> PathBuf {
        self.dir.join(format!("notes-{number}-{life}"))
    }
}
