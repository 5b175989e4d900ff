//! Connections to PostgreSQL cut around COMMIT, when nobody knows what became of the transaction.

use std::time::Duration;

use anyhow::{Result, ensure};
use herdstream_loadtest::server_process::{ServerProcess, test_binary};
use herdstream_testkit::{Cut, Postgres, Proxy};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{task::block_in_place, time::Instant};

use crate::herd::{GATEWAYS, Herd, Load, PATIENCE, assert_balanced, seed};

const CUTS: u64 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn commits_of_unknown_fate_are_neither_lost_nor_doubled() -> Result<()> {
    let Some(postgres) = block_in_place(Postgres::start) else { return Ok(()) };
    let mut rng = SmallRng::seed_from_u64(seed("commits_of_unknown_fate_are_neither_lost_nor_doubled"));
    let dir = tempfile::tempdir()?;
    let proxy = Proxy::start(&postgres.url()).await?;
    let server = ServerProcess::start_on(test_binary()?, dir.path().join("server"), proxy.url()).await?;
    let endpoints = vec![server.endpoint(); GATEWAYS as usize];
    let herd = Herd::start(&endpoints, dir.path(), &mut rng, Load::ALL_GOOD).await?;
    for number in 0..CUTS {
        herd.progress().await?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..50))).await;
        // Both kinds for certain, and in between whatever is under way.
        proxy.arm(if number % 2 == 0 { Cut::BeforeCommit } else { Cut::AfterCommit });
        let deadline = Instant::now() + PATIENCE;
        while proxy.commits_cut() <= number {
            ensure!(Instant::now() < deadline, "no commit came by after cut {number}");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        if rng.random_ratio(1, 3) {
            proxy.cut();
        }
    }
    herd.progress().await?;
    let settled = herd.settle(&server.endpoint()).await?;
    server.stop().await?;
    assert_balanced(&settled.balance);
    assert_eq!(proxy.commits_cut(), CUTS);
    // A database that cannot be reached says nothing about the readings.
    assert_eq!(settled.balance.quarantined, 0, "good readings went into quarantine: {settled:?}");
    println!("{:?}, {} sessions or attempts were cut", settled.balance, settled.disconnects);
    Ok(())
}
