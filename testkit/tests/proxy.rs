//! The proxy of the test kit itself.

use anyhow::{Context as _, Result};
use herdstream_testkit::{Cut, Postgres, Proxy};

const STATEMENTS: [&str; 3] = ["BEGIN", "CREATE TABLE made ()", "COMMIT"];
const ASLEEP: &str = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
const IS_MADE: &str = "SELECT to_regclass('made') IS NOT NULL";

/// psql must not hold up the runtime that carries its bytes.
async fn psql(url: &str, statements: &'static [&'static str]) -> Result<Result<String>> {
    let (url, postgres) = (url.to_owned(), Postgres::shared().context("no PostgreSQL")?);
    Ok(tokio::task::spawn_blocking(move || postgres.psql_at(&url, statements)).await?)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_cut_before_or_after() -> Result<()> {
    let Some(postgres) = Postgres::shared() else { return Ok(()) };
    for (cut, made) in [(None, "t"), (Some(Cut::BeforeCommit), "f"), (Some(Cut::AfterCommit), "t")] {
        let direct = postgres.create_database();
        let proxy = Proxy::start(&direct).await?;
        if let Some(cut) = cut {
            proxy.arm(cut);
        }
        let outcome = psql(proxy.url(), &STATEMENTS).await?;
        assert_eq!(outcome.is_err(), cut.is_some(), "{cut:?}: {outcome:?}");
        assert_eq!(proxy.commits_cut(), u64::from(cut.is_some()), "{cut:?}");
        assert_eq!(psql(&direct, &[IS_MADE]).await??, made, "{cut:?}");
        // Only one commit is cut.
        psql(proxy.url(), &["BEGIN", "COMMIT"]).await??;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_break_at_once() -> Result<()> {
    let Some(postgres) = Postgres::shared() else { return Ok(()) };
    let direct = postgres.create_database();
    let proxy = Proxy::start(&direct).await?;
    let sleeping = {
        let url = proxy.url().to_owned();
        tokio::spawn(async move { psql(&url, &["SELECT pg_sleep(600)"]).await })
    };
    while psql(&direct, &[ASLEEP]).await?? == "0" {}
    proxy.set_down(true);
    assert!(sleeping.await??.is_err(), "a connection survived");
    assert!(psql(proxy.url(), &["SELECT 1"]).await?.is_err(), "a new connection was let through");
    proxy.set_down(false);
    assert_eq!(psql(proxy.url(), &["SELECT 1"]).await??, "1");
    Ok(())
}
