//! Everything there is in one run of a list: the server, the sites, the model, the copies.

use std::{
    collections::BTreeMap,
    fmt,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use anyhow::{Context as _, Result};
use herdstream_client::{QueryClient, QueryConfig, v1};
use herdstream_loadtest::server_process::{ServerProcess, test_binary};
use tempfile::TempDir;
use tokio::{sync::watch, time::Instant};

use super::{
    content::Content,
    list::{Kind, Op},
    model::Model,
    site::{SITES, SPOOLED, Site},
};

/// More than enough for anything that works at all; what takes so long fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Everything in it is gone when it is dropped.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) sites: Vec<Site>,
    pub(crate) model: Model,
    pub(crate) content: Content,
    /// Copies made so far, for their names.
    pub(crate) copies: usize,
    /// A copy of the server's data.
    pub(crate) saved_server: Option<PathBuf>,
    pub(crate) executed: BTreeMap<Kind, u64>,
    pub(crate) server: Option<ServerProcess>,
    pub(crate) upstream: watch::Sender<SocketAddr>,
    pub(crate) dir: TempDir,
}

/// What a run comes to.
#[derive(Debug)]
pub(crate) struct Tally {
    /// How often each kind was really executed.
    pub(crate) executed: BTreeMap<Kind, u64>,
    pub(crate) fates: Fates,
}

/// How many items met which fate.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Fates {
    pub(crate) stored: u64,
    pub(crate) quarantined: u64,
    pub(crate) evicted: u64,
    pub(crate) forgotten: u64,
    /// Gone with a process without a spool, with a spool that was replaced, or with a call cut short.
    pub(crate) gone: u64,
}

impl fmt::Display for Fates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stored, quarantined, evicted, forgotten, gone } = self;
        write!(
            f,
            "{stored} stored, {quarantined} quarantined, {evicted} evicted, {forgotten} forgotten, {gone} gone"
        )
    }
}

impl World {
    /// Executes a list in a fresh world, drains everything, and judges.
    pub(crate) async fn run(list: &[Op]) -> Result<Tally> {
        let mut world = Self::start().await?;
        for (step, op) in list.iter().enumerate() {
            world.execute(*op).await.with_context(|| format!("step {step}, {op:?}"))?;
        }
        world.settle().await
    }

    async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let server = ServerProcess::start(test_binary()?, dir.path().join("server")).await?;
        let upstream = watch::Sender::new(address(&server)?);
        let mut sites = Vec::new();
        for number in 0..SITES {
            sites.push(Site::new(number, number, dir.path(), upstream.subscribe()).await?);
        }
        let now_us = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_micros() as i64;
        Ok(Self {
            sites,
            model: Model::default(),
            content: Content { start_us: now_us - 86_400_000_000 },
            copies: 0,
            saved_server: None,
            executed: BTreeMap::new(),
            server: Some(server),
            upstream,
            dir,
        })
    }

    pub(crate) fn server(&mut self) -> Result<&mut ServerProcess> {
        self.server.as_mut().context("the server did not start")
    }

    /// SIGTERM, which must end it in good order.
    pub(crate) async fn stop_server(&mut self) -> Result<()> {
        let server = self.server.take().context("the server did not start")?;
        server.stop().await.context("the server does not drain")
    }

    /// Starts it after that.
    pub(crate) async fn start_server(&mut self) -> Result<()> {
        let server = ServerProcess::start(test_binary()?, self.server_dir()).await?;
        self.upstream.send_replace(address(&server)?);
        self.server = Some(server);
        Ok(())
    }

    pub(crate) fn server_dir(&self) -> PathBuf {
        self.dir.path().join("server")
    }

    /// A name for one more copy.
    pub(crate) fn copy_path(&mut self) -> PathBuf {
        self.copies += 1;
        self.dir.path().join(format!("copy-{}", self.copies))
    }

    /// Asks the server itself, without a link between.
    pub(crate) async fn query(&mut self) -> Result<QueryClient> {
        let server = self.server()?;
        server.answering().await?;
        Ok(QueryClient::connect(QueryConfig::new(server.endpoint()).timeout(PATIENCE)).await?)
    }

    /// A producer's totals in the ledger; zeros if it is not there.
    pub(crate) async fn totals(query: &QueryClient, producer: uuid::Uuid) -> Result<v1::Totals> {
        match query.get_producer(producer.to_string()).await {
            Ok(row) => Ok(row.totals.unwrap_or_default()),
            Err(error) if error.is_not_found() => Ok(v1::Totals::default()),
            Err(error) => Err(error).with_context(|| format!("asking the ledger for {producer}")),
        }
    }

    pub(crate) fn has_spool(site: usize) -> bool {
        SPOOLED.contains(&site)
    }
}

fn address(server: &ServerProcess) -> Result<SocketAddr> {
    let endpoint = server.endpoint();
    endpoint.trim_start_matches("http://").parse().with_context(|| format!("no address: {endpoint}"))
}

/// Waits for a condition; false if it did not come true in time.
pub(crate) async fn until(
    patience: Duration,
    mut condition: impl AsyncFnMut() -> Result<bool>,
) -> Result<bool> {
    let deadline = Instant::now() + patience;
    while !condition().await? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(true)
}
