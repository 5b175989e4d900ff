//! `herdstream migrate`: the schema of a database, and no more.

use anyhow::Context as _;
use herdstream_server::{config::Config, store::postgres::PostgresStore};

/// Brings a database's schema up to date.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn migrate(config: &Config) -> anyhow::Result<()> {
    let database = config.database.postgres().context(
        "no database is configured, and the embedded store needs no migration: name one with --database-url",
    )?;
    let facts = PostgresStore::migrate(&database).await?;
    println!("the schema at {} is up to date: profile {} ({})", facts.at, facts.profile, facts.reason);
    Ok(())
}
