//! The server on its embedded store, killed with SIGKILL.

use std::time::Duration;

use anyhow::Result;
use herdstream_loadtest::server_process::{ServerProcess, test_binary};
use rand::{Rng, SeedableRng, rngs::SmallRng};

use crate::herd::{GATEWAYS, Herd, Load, assert_balanced, seed};

const KILLS: u64 = 32;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_loses_and_doubles_nothing() -> Result<()> {
    let mut rng = SmallRng::seed_from_u64(seed("a_server_that_is_killed_loses_and_doubles_nothing"));
    let dir = tempfile::tempdir()?;
    let mut server = ServerProcess::start(test_binary()?, dir.path().join("server")).await?;
    let endpoints = vec![server.endpoint(); GATEWAYS as usize];
    let herd = Herd::start(&endpoints, dir.path(), &mut rng, Load::FULL).await?;
    for _ in 0..KILLS {
        // Mostly amid work, sometimes while it starts.
        if rng.random_ratio(4, 5) {
            server.answering().await?;
        }
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..400))).await;
        server.kill().await?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..60))).await;
        server.restart()?;
    }
    server.answering().await?;
    let settled = herd.settle(&server.endpoint()).await?;
    server.stop().await?;
    assert_balanced(&settled.balance);
    assert!(settled.balance.quarantined > 0, "broken readings were sent: {settled:?}");
    assert!(settled.disconnects > 0, "no session was ever cut: the kills missed");
    println!("{:?}, {} sessions or attempts were cut", settled.balance, settled.disconnects);
    Ok(())
}
