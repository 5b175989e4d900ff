//! The real server binary as a child process.

mod binary;

use std::{
    collections::VecDeque,
    fs,
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use herdstream_client::{QueryClient, QueryConfig};
use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, BufReader},
    process::{Child, Command},
    task::JoinSet,
    time::Instant,
};

pub use binary::{BINARY_VARIABLE, build_binary, find_binary, test_binary};

/// Environment variable with the bearer token of the load tester.
pub const TOKEN_VARIABLE: &str = "HERDSTREAM_TOKEN";

/// Lines of its output that are kept for an error message.
const KEPT_LINES: usize = 20;
/// How long a server may take to answer after its start, recovery of its store included.
const START_TIMEOUT: Duration = Duration::from_mins(1);

/// A server on a directory and a port of its own; both stay the same over restarts.
#[derive(Debug)]
pub struct ServerProcess {
    binary: PathBuf,
    data_dir: PathBuf,
    database: Option<String>,
    port: u16,
    admin_port: u16,
    child: Child,
    output: Arc<Mutex<VecDeque<String>>>,
    /// Read the output of the child; they end with it.
    readers: JoinSet<()>,
}

impl ServerProcess {
    /// Starts a server on an embedded store in `data_dir`, and waits until it answers.
    ///
    /// It takes its configuration from the environment (`HERDSTREAM_…`), and no file.
    ///
    /// # Errors
    ///
    /// The binary cannot be run, or it ends or does not answer: with the end of its output.
    pub async fn start(binary: PathBuf, data_dir: PathBuf) -> Result<Self> {
        Self::begin(binary, data_dir, None).await
    }

    /// Starts a server on the database of a URL, in the working directory `dir`, and waits until it answers.
    ///
    /// # Errors
    ///
    /// As [`start`](Self::start).
    pub async fn start_on(binary: PathBuf, dir: PathBuf, database: &str) -> Result<Self> {
        Self::begin(binary, dir, Some(database.to_owned())).await
    }

    async fn begin(binary: PathBuf, data_dir: PathBuf, database: Option<String>) -> Result<Self> {
        let port = free_port().context("looking for a free port")?;
        let admin_port = free_port().context("looking for a free port")?;
        let output = Arc::default();
        let mut readers = JoinSet::new();
        let child =
            spawn(&binary, &data_dir, database.as_deref(), (port, admin_port), &output, &mut readers)?;
        let mut server = Self { binary, data_dir, database, port, admin_port, child, output, readers };
        server.answering().await?;
        Ok(server)
    }

    /// Where it serves gRPC.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Where it serves administration.
    pub fn admin_endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.admin_port)
    }

    /// Kills it as a power cut would: SIGKILL, nothing is finished.
    ///
    /// # Errors
    ///
    /// It cannot be killed.
    pub async fn kill(&mut self) -> Result<()> {
        self.child.kill().await.context("killing the server")
    }

    /// Starts it again on the same directory and port, without waiting until it answers.
    ///
    /// # Errors
    ///
    /// The binary cannot be run.
    pub fn restart(&mut self) -> Result<()> {
        let database = self.database.as_deref();
        self.child = spawn(
            &self.binary,
            &self.data_dir,
            database,
            (self.port, self.admin_port),
            &self.output,
            &mut self.readers,
        )?;
        Ok(())
    }

    /// Waits until it answers.
    ///
    /// # Errors
    ///
    /// It ended, or does not answer within a minute: with the end of its output.
    pub async fn answering(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_TIMEOUT;
        let config = QueryConfig::new(self.endpoint()).timeout(Duration::from_secs(1));
        loop {
            if let Some(status) = self.child.try_wait().context("watching the server")? {
                bail!("the server ended at its start ({status}); it said:\n{}", self.all_it_said().await);
            }
            // An error is an answer too: a server with credentials refuses those who have none.
            if QueryClient::connect(config.clone()).await.is_ok() {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the server does not answer on {} after {START_TIMEOUT:?}; it said:\n{}",
                self.endpoint(),
                self.last_words()
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The most memory it ever had resident, in MiB. None where the system does not tell.
    pub fn peak_rss_mib(&self) -> Option<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id()?)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        let kib: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        Some(kib / 1024.0)
    }

    /// Ends it in good order: SIGTERM, and waits.
    ///
    /// # Errors
    ///
    /// It did not end within a minute, or not with success: with the end of its output.
    pub async fn stop(mut self) -> Result<()> {
        let status = self.terminate().await?;
        ensure!(status.success(), "the server ended with {status}; it said:\n{}", self.all_it_said().await);
        Ok(())
    }

    async fn terminate(&mut self) -> Result<ExitStatus> {
        if let Some(pid) = self.child.id().and_then(|id| Pid::from_raw(id as i32)) {
            kill_process(pid, Signal::TERM).context("asking the server to stop")?;
        }
        match tokio::time::timeout(START_TIMEOUT, self.child.wait()).await {
            Ok(status) => status.context("waiting for the server to stop"),
            Err(_) => {
                bail!("the server did not stop within {START_TIMEOUT:?}; it said:\n{}", self.last_words())
            }
        }
    }

    /// The end of its output once it has ended: what is still in the pipes is part of it.
    async fn all_it_said(&mut self) -> String {
        while self.readers.join_next().await.is_some() {}
        self.last_words()
    }

    fn last_words(&self) -> String {
        Vec::from(self.output.lock().clone()).join("\n")
    }
}

fn spawn(
    binary: &Path,
    data_dir: &Path,
    database: Option<&str>,
    (port, admin_port): (u16, u16),
    output: &Arc<Mutex<VecDeque<String>>>,
    readers: &mut JoinSet<()>,
) -> Result<Child> {
    fs::create_dir_all(data_dir).with_context(|| format!("creating {}", data_dir.display()))?;
    let mut child = Command::new(binary)
        .arg("serve")
        .args(database.map(|url| ["--database-url", url]).into_iter().flatten())
        .args(["--listen", &format!("127.0.0.1:{port}"), "--http-listen", "off", "--data-dir", "store"])
        .args(["--admin-listen", &format!("127.0.0.1:{admin_port}")])
        // The load tester's own, no keys of the server's configuration.
        .env_remove(BINARY_VARIABLE)
        .env_remove(TOKEN_VARIABLE)
        // No herdstream.toml of the caller's directory.
        .current_dir(data_dir)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", binary.display()))?;
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    keep(stdout, output, readers);
    keep(stderr, output, readers);
    Ok(child)
}

/// Reads all output, so that the server never waits for a reader, and keeps its end.
fn keep(
    pipe: Option<impl AsyncRead + Unpin + Send + 'static>,
    output: &Arc<Mutex<VecDeque<String>>>,
    readers: &mut JoinSet<()>,
) {
    let Some(pipe) = pipe else { return };
    let output = Arc::clone(output);
    readers.spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut output = output.lock();
            if output.len() == KEPT_LINES {
                output.pop_front();
            }
            output.push_back(line);
        }
    });
}

fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}
