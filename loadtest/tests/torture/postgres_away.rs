//! PostgreSQL that is not there for a while, and PostgreSQL on a disk that is full.

use std::{env, fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use herdstream_loadtest::server_process::{ServerProcess, test_binary};
use herdstream_testkit::{Postgres, Tmpfs};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{task::block_in_place, time::Instant};

use crate::herd::{GATEWAYS, Herd, Load, PATIENCE, assert_balanced, seed};

/// How long PostgreSQL stays away, in seconds.
const OUTAGE_VARIABLE: &str = "HERDSTREAM_TEST_OUTAGE_SECONDS";
const OUTAGE_SECONDS: u64 = 5;
/// What a server with default settings may hold: 64 MiB of messages, their rows at three times that, and
/// itself.
const MEMORY_MIB: f64 = 384.0;

const DISK_BYTES: u64 = 1 << 30;
const FILLINGS: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_of_postgres_is_sat_out() -> Result<()> {
    let Some(mut postgres) = block_in_place(Postgres::start) else { return Ok(()) };
    let mut rng = SmallRng::seed_from_u64(seed("an_outage_of_postgres_is_sat_out"));
    let seconds = match env::var(OUTAGE_VARIABLE) {
        Ok(seconds) => seconds.parse().with_context(|| format!("{OUTAGE_VARIABLE}={seconds}"))?,
        Err(_) => OUTAGE_SECONDS,
    };
    let dir = tempfile::tempdir()?;
    let server = ServerProcess::start_on(test_binary()?, dir.path().join("server"), &postgres.url()).await?;
    let endpoints = vec![server.endpoint(); GATEWAYS as usize];
    let herd = Herd::start(&endpoints, dir.path(), &mut rng, Load::ALL_GOOD).await?;
    herd.progress().await?;
    block_in_place(|| postgres.stop())?;
    // Acks of what was committed before may still be on their way.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (taken_before, acked_before) = herd.counts();
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let (taken, acked) = herd.counts();
    assert_eq!(acked, acked_before, "readings were acknowledged without a database");
    assert!(taken > taken_before, "gateways were held up: {taken} readings taken");
    block_in_place(|| postgres.restart())?;
    herd.progress().await?;
    let settled = herd.settle(&server.endpoint()).await?;
    assert_balanced(&settled.balance);
    assert_eq!(settled.balance.quarantined, 0, "good readings went into quarantine: {settled:?}");
    let memory = server.peak_rss_mib().context("the system does not tell the server's memory")?;
    println!(
        "{:?}, {} taken during the outage, server {memory:.0} MiB",
        settled.balance,
        taken - taken_before
    );
    assert!(memory < MEMORY_MIB, "the server took {memory:.0} MiB");
    server.stop().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_of_postgres_loses_nothing_and_refuses_nothing_good() -> Result<()> {
    let Some(disk) = Tmpfs::mount(DISK_BYTES) else { return Ok(()) };
    let options = Postgres::options().data_dir(disk.path()).setting("max_wal_size", "64MB");
    let Some(mut postgres) = block_in_place(|| options.start()) else { return Ok(()) };
    let test = "a_full_disk_of_postgres_loses_nothing_and_refuses_nothing_good";
    let mut rng = SmallRng::seed_from_u64(seed(test));
    let dir = tempfile::tempdir()?;
    let server = ServerProcess::start_on(test_binary()?, dir.path().join("server"), &postgres.url()).await?;
    let endpoints = vec![server.endpoint(); GATEWAYS as usize];
    let herd = Herd::start(&endpoints, dir.path(), &mut rng, Load::ALL_GOOD).await?;
    for _ in 0..FILLINGS {
        herd.progress().await?;
        let (filler, _) = block_in_place(|| disk.fill())?;
        until_it_is_felt(&postgres).await?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..1000))).await;
        fs::remove_file(filler)?;
        // It gives up when it cannot write its log; whoever makes room then starts it.
        if !postgres.runs() {
            block_in_place(|| postgres.restart())?;
        }
    }
    herd.progress().await?;
    let settled = herd.settle(&server.endpoint()).await?;
    assert_balanced(&settled.balance);
    assert_eq!(settled.balance.quarantined, 0, "good readings went into quarantine: {settled:?}");
    println!("{:?}", settled.balance);
    server.stop().await
}

/// Waits until PostgreSQL complains about the disk, or is gone.
async fn until_it_is_felt(postgres: &Postgres) -> Result<()> {
    let deadline = Instant::now() + PATIENCE;
    while postgres.runs() && !postgres.said("No space left on device") {
        ensure!(Instant::now() < deadline, "a full disk goes unnoticed: {}", postgres.log());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}
