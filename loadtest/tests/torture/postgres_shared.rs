//! Two servers on one database, and gateways that move from one to the other amid their streams.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result};
use futures::future;
use herdstream_loadtest::server_process::{ServerProcess, test_binary};
use herdstream_testkit::{Link, Mode, Postgres};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use tokio::{sync::watch, task::block_in_place};

use crate::herd::{GATEWAYS, Herd, Load, assert_balanced, seed};

const MOVES: u64 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn gateways_that_move_between_two_servers_lose_and_double_nothing() -> Result<()> {
    let Some(postgres) = block_in_place(Postgres::start) else { return Ok(()) };
    let test = "gateways_that_move_between_two_servers_lose_and_double_nothing";
    let mut rng = SmallRng::seed_from_u64(seed(test));
    let dir = tempfile::tempdir()?;
    let (binary, url) = (test_binary()?, postgres.url());
    // At once: both find an empty database, and one of them makes the schema.
    let start = |name| ServerProcess::start_on(binary.clone(), dir.path().join(name), &url);
    let servers = future::try_join(start("one"), start("other")).await?;
    let mut servers = [servers.0, servers.1];
    let addresses = [address(&servers[0])?, address(&servers[1])?];

    let mut links = Vec::new();
    for number in 0..GATEWAYS as usize {
        let upstream = watch::Sender::new(addresses[number % 2]);
        links.push((Link::new(upstream.subscribe()).await?, upstream));
    }
    let endpoints: Vec<_> = links.iter().map(|(link, _)| link.endpoint()).collect();
    let herd = Herd::start(&endpoints, dir.path(), &mut rng, Load::STEADY).await?;
    for number in 0..MOVES {
        herd.progress().await?;
        tokio::time::sleep(Duration::from_millis(rng.random_range(0..50))).await;
        for (link, upstream) in &links {
            if rng.random() {
                // Its last acks may be lost, and its last batches still be on their way into the database
                // when the other server opens the next session.
                if rng.random() {
                    link.set(Mode::ClientDeaf);
                    tokio::time::sleep(Duration::from_millis(rng.random_range(0..30))).await;
                }
                upstream.send_replace(addresses[rng.random_range(0..2)]);
                link.set(Mode::Open);
                link.cut();
            }
        }
        if number % 8 == 7 {
            // A server that dies leaves its transactions to the database to end.
            let victim = &mut servers[rng.random_range(0..2)];
            victim.kill().await?;
            victim.restart()?;
            victim.answering().await?;
        }
    }
    herd.progress().await?;
    let settled = herd.settle(&servers[0].endpoint()).await?;
    assert_balanced(&settled.balance);
    assert_balanced(&settled.seen_from(&servers[1].endpoint()).await?);
    assert!(settled.balance.quarantined > 0, "broken readings were sent: {settled:?}");
    assert!(settled.disconnects > 0, "no session was ever cut: nobody moved");
    let twice = "SELECT count(*) FROM (SELECT 1 FROM iot.series \
                 GROUP BY farm_id, device_uid, device_type, metric_name, metric_unit HAVING count(*) > 1) AS twice";
    assert_eq!(block_in_place(|| postgres.psql(twice))?, "0", "series with two ids");
    for server in servers {
        server.stop().await?;
    }
    println!("{:?}, {} sessions or attempts were cut", settled.balance, settled.disconnects);
    Ok(())
}

fn address(server: &ServerProcess) -> Result<SocketAddr> {
    let endpoint = server.endpoint();
    endpoint
        .strip_prefix("http://")
        .unwrap_or(&endpoint)
        .parse()
        .with_context(|| format!("no address: {endpoint}"))
}
