//! A database that is made for a measurement, and goes with it.

use std::{path::Path, process::Stdio, str::FromStr as _, thread};

use anyhow::{Context as _, Result, ensure};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, postgres::PgConnectOptions};
use tokio::process::Command;

use crate::{
    database_url::with_database,
    server_process::{BINARY_VARIABLE, TOKEN_VARIABLE},
};

/// A database on the server of another one, with the server's schema; dropped when this is.
#[derive(Debug)]
pub struct ScratchDatabase {
    beside: PgConnectOptions,
    options: PgConnectOptions,
    url: String,
    name: String,
}

impl ScratchDatabase {
    /// Makes it beside the database of `url`, and has the server's binary bring the schema into it.
    ///
    /// # Errors
    ///
    /// The URL is wrong, the user may not create databases, or the schema cannot be made.
    pub async fn create(url: &str, server: &Path) -> Result<Self> {
        let beside = PgConnectOptions::from_str(url).context("reading the URL of the database")?;
        let name = format!("herdstream_limit_{:08x}", rand::random::<u32>());
        run(&beside, format!("CREATE DATABASE {name} TEMPLATE template0"))
            .await
            .with_context(|| format!("creating database {name} to measure in: its user needs CREATEDB"))?;
        let options = beside.clone().database(&name);
        let scratch = Self { beside, options, url: with_database(url, &name), name };
        scratch.migrate(server).await?;
        Ok(scratch)
    }

    /// How to connect.
    pub fn options(&self) -> &PgConnectOptions {
        &self.options
    }

    /// Where it is.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn migrate(&self, server: &Path) -> Result<()> {
        let output = Command::new(server)
            .args(["migrate", "--database-url", &self.url])
            // The load tester's own, no keys of the server's configuration.
            .env_remove(BINARY_VARIABLE)
            .env_remove(TOKEN_VARIABLE)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .with_context(|| format!("starting {}", server.display()))?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "the schema cannot be made: {}", said.trim());
        Ok(())
    }
}

impl Drop for ScratchDatabase {
    fn drop(&mut self) {
        let (beside, name) = (self.beside.clone(), self.name.clone());
        // A runtime of its own: this one may be going down.
        let dropped = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(run(&beside, format!("DROP DATABASE {name} WITH (FORCE)")))
        });
        match dropped.join() {
            Ok(Ok(())) => {}
            failed => eprintln!("database {} is left behind: {failed:?}", self.name),
        }
    }
}

async fn run(options: &PgConnectOptions, sql: String) -> Result<()> {
    let mut connection = PgConnection::connect_with(options).await?;
    connection.execute(AssertSqlSafe(sql)).await?;
    connection.close().await?;
    Ok(())
}
