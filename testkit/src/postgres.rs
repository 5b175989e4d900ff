//! Throw-away PostgreSQL clusters.

mod cluster;
mod programs;

use std::{
    path::PathBuf,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Result;
use rand::distr::{Alphanumeric, SampleString as _};

use crate::skip;
use cluster::Cluster;
pub(crate) use programs::Programs;

/// Superuser of every cluster.
const SUPERUSER: &str = "postgres";

/// How a cluster is to be.
#[derive(Clone, Debug)]
pub struct Options {
    fsync: bool,
    passwords: bool,
    data_dir: Option<PathBuf>,
    settings: Vec<(String, String)>,
}

/// A PostgreSQL cluster of the newest version that is installed. It ends and is removed when this is
/// dropped, and when the process ends in whatever way.
#[derive(Debug)]
pub struct Postgres {
    cluster: Cluster,
    programs: Programs,
    password: Option<String>,
}

/// Databases made by this process, on all its clusters.
static DATABASES: AtomicU64 = AtomicU64::new(0);

impl Postgres {
    /// Starts a cluster with PostgreSQL's own settings: durable, and everyone is trusted. None, with the
    /// reason said, where PostgreSQL is not installed.
    ///
    /// # Panics
    ///
    /// It does not start; or is not installed, where `CI` is set.
    pub fn start() -> Option<Self> {
        Self::options().start()
    }

    /// How a cluster is to be, to be changed and started.
    pub fn options() -> Options {
        Options { fsync: true, passwords: false, data_dir: None, settings: Vec::new() }
    }

    /// The one cluster that all functional tests of this process share: without syncs, so that tests are
    /// quick. Take a [database](Self::create_database) each.
    ///
    /// # Panics
    ///
    /// As [`start`](Self::start).
    pub fn shared() -> Option<&'static Self> {
        static SHARED: LazyLock<Option<Postgres>> = LazyLock::new(|| {
            let options = Postgres::options().fsync(false).setting("max_connections", "300");
            options.start()
        });
        SHARED.as_ref()
    }

    /// Where the superuser reaches the database `postgres`.
    pub fn url(&self) -> String {
        self.url_of("postgres")
    }

    /// Where the superuser reaches a database.
    pub fn url_of(&self, database: &str) -> String {
        self.url_as(SUPERUSER, self.password.as_deref().unwrap_or_default(), database)
    }

    /// Where a user reaches a database. User, password and database need no escaping in a URL.
    pub fn url_as(&self, user: &str, password: &str, database: &str) -> String {
        let password = if password.is_empty() { String::new() } else { format!(":{password}") };
        format!("postgres://{user}{password}@127.0.0.1:{}/{database}?sslmode=disable", self.port())
    }

    /// Its port on 127.0.0.1, the same over restarts.
    pub fn port(&self) -> u16 {
        self.cluster.port
    }

    /// Makes an empty database, and says where it is.
    ///
    /// # Panics
    ///
    /// It cannot be made.
    pub fn create_database(&self) -> String {
        let name = format!("test_{}", DATABASES.fetch_add(1, Ordering::Relaxed));
        let made = self.psql(&format!("CREATE DATABASE {name} TEMPLATE template0"));
        made.expect("a cluster that runs takes another database");
        self.url_of(&name)
    }

    /// Runs SQL as superuser in database `postgres`; gives the rows, columns separated by `|`.
    ///
    /// # Errors
    ///
    /// The statement fails, with PostgreSQL's message; or there is no connection.
    pub fn psql(&self, sql: &str) -> Result<String> {
        self.psql_at(&self.url(), &[sql])
    }

    /// Runs statements one by one on one connection at a URL, as [`psql`](Self::psql) does.
    ///
    /// # Errors
    ///
    /// A statement fails, with PostgreSQL's message; or there is no connection.
    pub fn psql_at(&self, url: &str, statements: &[&str]) -> Result<String> {
        self.programs.run(url, statements)
    }

    /// Kills the server and all its processes at one moment, as a power cut would.
    ///
    /// # Errors
    ///
    /// They cannot be found, or do not die.
    pub fn kill(&mut self) -> Result<()> {
        self.cluster.kill()
    }

    /// Ends it in good order; connections are cut.
    ///
    /// # Errors
    ///
    /// It does not end.
    pub fn stop(&mut self) -> Result<()> {
        self.cluster.stop()
    }

    /// Starts it again on the same data and port, and waits until it has recovered. One that runs is
    /// stopped first.
    ///
    /// # Errors
    ///
    /// It does not start: with the end of its log.
    pub fn restart(&mut self) -> Result<()> {
        self.cluster.stop()?;
        self.cluster.launch()?;
        self.await_ready()
    }

    /// Whether the server runs; one that found its disk full may have given up.
    pub fn runs(&self) -> bool {
        self.cluster.runs()
    }

    /// The end of its log.
    pub fn log(&self) -> String {
        self.cluster.log()
    }

    /// Whether it said so since it was last started.
    pub fn said(&self, words: &str) -> bool {
        self.cluster.said(words)
    }

    fn await_ready(&mut self) -> Result<()> {
        let url = self.url();
        let programs = self.programs.clone();
        self.cluster.until_ready(|| Ok(programs.run(&url, &["SELECT 1"]).is_ok()))
    }
}

impl Options {
    /// Whether commits are synced to the disk. Without, tests are quicker, and a kill of the server alone
    /// still loses nothing.
    #[must_use]
    pub fn fsync(mut self, fsync: bool) -> Self {
        self.fsync = fsync;
        self
    }

    /// Whether users need their password (SCRAM); the superuser's is in the URLs.
    #[must_use]
    pub fn passwords(mut self, passwords: bool) -> Self {
        self.passwords = passwords;
        self
    }

    /// Below which directory the data goes, to be made if it is not there. By default a temporary one.
    /// It is removed in the end, the directory itself aside.
    #[must_use]
    pub fn data_dir(mut self, directory: impl Into<PathBuf>) -> Self {
        self.data_dir = Some(directory.into());
        self
    }

    /// A setting, as in `postgresql.conf`.
    #[must_use]
    pub fn setting(mut self, name: &str, value: &str) -> Self {
        self.settings.push((name.into(), value.into()));
        self
    }

    /// Starts it. None, with the reason said, where PostgreSQL is not installed.
    ///
    /// # Panics
    ///
    /// As [`Postgres::start`].
    pub fn start(self) -> Option<Postgres> {
        let Some(programs) = Programs::find() else {
            return skip(
                "PostgreSQL is not installed: no initdb in PATH or /usr/lib/postgresql (Debian: postgresql)",
            );
        };
        match self.launch(programs) {
            Ok(postgres) => Some(postgres),
            Err(error) => panic!("PostgreSQL does not start: {error:#}"),
        }
    }

    fn launch(self, programs: Programs) -> Result<Postgres> {
        let password = self.passwords.then(|| Alphanumeric.sample_string(&mut rand::rng(), 20));
        let mut settings = self.settings;
        if !self.fsync {
            // And what else is only for crashes of the machine.
            settings
                .splice(0..0, [("fsync".into(), "off".into()), ("full_page_writes".into(), "off".into())]);
        }
        let cluster = Cluster::create(&programs, self.data_dir, password.as_deref(), settings)?;
        let mut postgres = Postgres { cluster, programs, password };
        postgres.await_ready()?;
        Ok(postgres)
    }
}
