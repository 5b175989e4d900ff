//! PostgreSQL killed with SIGKILL, all its processes at once, while the server writes to it.

use std::time::Duration;

use anyhow::Result;
use herdstream_loadtest::server_process::{ServerProcess, test_binary};
use herdstream_testkit::Postgres;
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::task::block_in_place;

use crate::herd::{GATEWAYS, Herd, Load, assert_balanced, seed};

const KILLS: u64 = 24;

#[tokio::test(flavor = "multi_thread")]
async fn a_postgres_that_is_killed_loses_and_doubles_nothing() -> Result<()> {
    let Some(mut postgres) = block_in_place(Postgres::start) else { return Ok(()) };
    let mut rng = SmallRng::seed_from_u64(seed("a_postgres_that_is_killed_loses_and_doubles_nothing"));
    let dir = tempfile::tempdir()?;
    let server = ServerProcess::start_on(test_binary()?, dir.path().join("server"), &postgres.url()).await?;
    let endpoints = vec![server.endpoint(); GATEWAYS as usize];
    let herd = Herd::start(&endpoints, dir.path(), &mut rng, Load::STEADY).await?;
    for _ in 0..KILLS {
        // Each kill hits a system that works.
        herd.progress().await?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..200))).await;
        block_in_place(|| postgres.kill())?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..100))).await;
        block_in_place(|| postgres.restart())?;
        assert!(postgres.said("not properly shut down"), "it was no crash: {}", postgres.log());
    }
    herd.progress().await?;
    let settled = herd.settle(&server.endpoint()).await?;
    server.stop().await?;
    assert_balanced(&settled.balance);
    assert!(settled.balance.quarantined > 0, "broken readings were sent: {settled:?}");
    println!("{:?}, {} sessions or attempts were cut", settled.balance, settled.disconnects);
    Ok(())
}
