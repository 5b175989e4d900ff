//! The files and processes of one cluster.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rand::Rng as _;
use rustix::process::Signal;
use tempfile::TempDir;

use super::{SUPERUSER, programs::Programs};
use crate::{
    account::Account,
    process::{self, Leashed, await_end, is_alive, kill_family, until},
};

/// How long a start may take, recovery included, and an end.
const PATIENCE: Duration = Duration::from_mins(2);
/// Ports that are tried for one that stays free.
const PORTS: u32 = 20;
/// Lines of the log that are kept for an error message.
const KEPT_LINES: usize = 30;

/// Starts what it is given, and kills it when its own input ends. The server's processes then end by
/// themselves: they notice that their parent is gone. If it was not told to keep the data, as when the
/// test process was killed or a static cluster is never dropped, it removes what was made for it.
const LEASH: &str = r#"
"$@" </dev/null >>"$LOG" 2>&1 &
server=$!
echo $server
read -r word
kill -KILL $server 2>/dev/null
wait $server 2>/dev/null
if [ "$word" != keep ] && [ -n "$TEMPORARY" ]; then
    rm -rf "$TEMPORARY" 2>/dev/null || { sleep 1; rm -rf "$TEMPORARY"; }
fi
"#;

#[derive(Debug)]
struct Server {
    pid: i32,
    leash: Leashed,
}

#[derive(Debug)]
pub(crate) struct Cluster {
    pub(crate) port: u16,
    /// The server's process, once it was started.
    server: Option<Server>,
    programs: Programs,
    account: Account,
    settings: Vec<(String, String)>,
    directory: PathBuf,
    /// Made here: goes with this.
    temporary: Option<TempDir>,
}

impl Cluster {
    /// Makes a cluster and starts its server, without waiting until it answers.
    pub(crate) fn create(
        programs: &Programs,
        directory: Option<PathBuf>,
        password: Option<&str>,
        settings: Vec<(String, String)>,
    ) -> Result<Self> {
        let account = Account::find()?;
        let (directory, temporary) = match directory {
            Some(directory) => (directory, None),
            None => {
                let made = tempfile::Builder::new().prefix("herdstream-postgres-").tempdir();
                let made = made.context("creating a directory for a cluster")?;
                (made.path().to_owned(), Some(made))
            }
        };
        fs::create_dir_all(&directory).with_context(|| format!("creating {}", directory.display()))?;
        account.own(&directory)?;
        let programs = programs.clone();
        let mut cluster = Self { port: 0, server: None, programs, account, settings, directory, temporary };
        cluster.initialise(password)?;
        for _ in 0..PORTS {
            cluster.port = free_port()?;
            cluster.launch()?;
            match cluster.until_listening() {
                Ok(()) => return Ok(cluster),
                Err(_) if cluster.said("Address already in use") => {}
                Err(error) => return Err(error),
            }
        }
        bail!("none of {PORTS} ports stayed free")
    }

    fn initialise(&self, password: Option<&str>) -> Result<()> {
        let mut initdb = self.programs.command("initdb");
        initdb.arg("--pgdata").arg(self.data()).args(["--username", SUPERUSER, "--no-sync"]);
        initdb.args(["--encoding", "UTF8", "--locale", "C", "--no-instructions"]);
        let file = self.directory.join("password");
        if let Some(password) = password {
            fs::write(&file, password).context("noting the password")?;
            self.account.own(&file)?;
            initdb.args(["--auth", "scram-sha-256", "--pwfile"]).arg(&file);
        } else {
            initdb.args(["--auth", "trust"]);
        }
        let output =
            self.account.run(initdb.current_dir(&self.directory)).output().context("running initdb")?;
        ensure!(output.status.success(), "initdb: {}", String::from_utf8_lossy(&output.stderr).trim());
        Ok(())
    }

    /// Starts the server, without waiting until it answers.
    pub(crate) fn launch(&mut self) -> Result<()> {
        self.kill()?;
        // Each start has a log of its own, so that what it says is about this start.
        let log = File::create(self.log_file()).context("making a log")?;
        drop(log);
        self.account.own(&self.log_file())?;
        let temporary = self.temporary.as_ref().map_or(Path::new(""), TempDir::path);
        let mut server = Command::new("sh");
        server
            .env("LC_ALL", "C")
            .env("LOG", self.log_file())
            .env("TEMPORARY", temporary)
            .args(["-c", LEASH, "sh"]);
        server.arg(self.programs.command("postgres").get_program()).arg("-D").arg(self.data());
        let port = self.port.to_string();
        let fixed = [("listen_addresses", "127.0.0.1"), ("port", &port), ("unix_socket_directories", "")];
        for (name, value) in fixed {
            server.args(["-c", &format!("{name}={value}")]);
        }
        for (name, value) in &self.settings {
            server.args(["-c", &format!("{name}={value}")]);
        }
        let leash = Leashed::start(self.account.run(server.current_dir(&self.directory)))?;
        let pid = leash.first_line.parse().context("the server's process has no number")?;
        self.server = Some(Server { pid, leash });
        Ok(())
    }

    /// Waits until it answers.
    pub(crate) fn until_ready(&self, mut answers: impl FnMut() -> Result<bool>) -> Result<()> {
        self.until(&mut answers)
    }

    fn until_listening(&self) -> Result<()> {
        // Said once the port is its own; recovery comes after that.
        self.until(|| Ok(self.said("listening on IPv4 address")))
    }

    fn until(&self, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
        let alive_and_so = || {
            ensure!(self.runs(), "it ended at its start");
            so()
        };
        until(PATIENCE, alive_and_so).with_context(|| format!("it said:\n{}", self.log()))
    }

    pub(crate) fn kill(&mut self) -> Result<()> {
        let Some(server) = self.server.take() else { return Ok(()) };
        kill_family(server.pid)?;
        server.leash.loosen("keep")
    }

    pub(crate) fn stop(&mut self) -> Result<()> {
        let Some(server) = self.server.take() else { return Ok(()) };
        // "Fast": sessions are ended, and a checkpoint is made.
        process::signal(server.pid, Signal::INT);
        await_end(server.pid)?;
        server.leash.loosen("keep")
    }

    pub(crate) fn runs(&self) -> bool {
        self.server.as_ref().is_some_and(|server| is_alive(server.pid))
    }

    pub(crate) fn said(&self, words: &str) -> bool {
        fs::read_to_string(self.log_file()).unwrap_or_default().contains(words)
    }

    pub(crate) fn log(&self) -> String {
        let log = fs::read_to_string(self.log_file()).unwrap_or_default();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(KEPT_LINES)..].join("\n")
    }

    fn data(&self) -> PathBuf {
        self.directory.join("data")
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.kill();
        if self.temporary.is_none() {
            for left in [self.data(), self.log_file(), self.directory.join("password")] {
                let _ = remove(&left);
            }
        }
    }
}

fn remove(path: &Path) -> std::io::Result<()> {
    if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }
}

/// A port that nobody has, out of the range from which systems take the ports of clients: it stays free
/// while the server is down.
fn free_port() -> Result<u16> {
    for _ in 0..PORTS {
        let port = rand::rng().random_range(15_000..30_000);
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return Ok(port);
        }
    }
    bail!("no port between 15000 and 30000 is free")
}
