//! The server as a child process.

use std::{
    ffi::OsString,
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};

use herdstream_client::{AdminClient, QueryConfig};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    process::{Child, Command},
    sync::watch,
    time::timeout,
};
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::{PATIENCE, until};

/// How to start a server.
#[derive(Clone)]
pub(crate) struct Setup {
    data_dir: PathBuf,
    listen: SocketAddr,
    settings: Vec<(String, String)>,
    wrapper: Vec<OsString>,
}

/// A server that runs, or ran.
pub(crate) struct Server {
    child: Child,
    grpc: SocketAddr,
    http: SocketAddr,
    admin: SocketAddr,
    output: Output,
}

/// What a server that ended said, and how it ended.
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

/// Everything a process wrote so far.
type Output = watch::Receiver<String>;

impl Setup {
    /// A server on free ports, with its data in `data_dir`.
    pub(crate) fn new(data_dir: impl Into<PathBuf>) -> Self {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { data_dir: data_dir.into(), listen, settings: Vec::new(), wrapper: Vec::new() }
    }

    /// Sets a configuration key, as the environment does: `INGEST__BUFFER`.
    pub(crate) fn set(mut self, key: &str, value: impl Into<String>) -> Self {
        self.settings.push((format!("HERDSTREAM_{key}"), value.into()));
        self
    }

    /// Serves gRPC at `address`.
    pub(crate) fn at(mut self, address: SocketAddr) -> Self {
        self.listen = address;
        self
    }

    /// Starts it by another program, which must not leave a process between.
    pub(crate) fn under(mut self, wrapper: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.wrapper = wrapper.into_iter().map(Into::into).collect();
        self
    }

    pub(crate) fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The command line, with a working directory in which there is no configuration file.
    pub(crate) fn command(&self) -> Command {
        let mut line = self.wrapper.clone();
        line.push(env!("CARGO_BIN_EXE_herdstream").into());
        let mut command = Command::new(&line[0]);
        let data_dir = self.data_dir.as_os_str();
        command
            .args(&line[1..])
            .args(["--listen", &self.listen.to_string(), "--http-listen", "127.0.0.1:0"])
            .args(["--admin-listen", "127.0.0.1:0"])
            .args(["--data-dir".as_ref(), data_dir])
            .env_remove("HERDSTREAM_CONFIG")
            .envs(self.settings.iter().cloned())
            .current_dir(self.data_dir.parent().expect("a data directory below another"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        command
    }

    /// Starts it and waits until it serves.
    pub(crate) async fn start(&self) -> Server {
        let mut child = self.command().spawn().expect("the binary can be run");
        let mut output = follow(&mut child);
        // An error is an end of the output, or of patience.
        let _ = timeout(PATIENCE, output.wait_for(|text| addresses(text).is_some())).await;
        let text = output.borrow().clone();
        let Some((grpc, http, admin)) = addresses(&text) else {
            panic!("the server does not come up:\n{text}")
        };
        let server = Server { child, grpc, http, admin, output };
        until("the server serves", || async { server.serving().await == Some(ServingStatus::Serving) }).await;
        server
    }

    /// Starts what is to fail, and waits for its end.
    pub(crate) async fn fail(&self) -> Ended {
        let mut child = self.command().spawn().expect("the binary can be run");
        let output = follow(&mut child);
        ended(&mut child, output).await
    }
}

impl Server {
    pub(crate) fn address(&self) -> SocketAddr {
        self.grpc
    }

    pub(crate) fn endpoint(&self) -> Endpoint {
        Endpoint::new(format!("http://{}", self.grpc)).expect("an address makes a URL")
    }

    /// Asks for administration.
    pub(crate) async fn admin(&self) -> AdminClient {
        let config = QueryConfig::new(format!("http://{}", self.admin)).timeout(PATIENCE);
        AdminClient::connect(config).await.expect("the server listens for administration")
    }

    /// A connection of its own.
    pub(crate) async fn connect(&self) -> Channel {
        self.endpoint().connect().await.expect("the server listens")
    }

    pub(crate) fn pid(&self) -> Pid {
        let id = self.child.id().expect("the server has not been waited for");
        Pid::from_raw(id as i32).expect("no process has the number 0")
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(self.pid(), signal).expect("the server can be signalled");
    }

    /// Waits for its end.
    pub(crate) async fn ended(mut self) -> Ended {
        ended(&mut self.child, self.output).await
    }

    /// Stops it in good order.
    pub(crate) async fn stop(self) {
        self.signal(Signal::TERM);
        let ended = self.ended().await;
        assert!(ended.status.success(), "{}:\n{}", ended.status, ended.output);
    }

    /// Kills it.
    pub(crate) async fn kill(mut self) {
        self.child.kill().await.expect("the server can be killed");
    }

    /// Whether it lives.
    pub(crate) fn lives(&mut self) -> bool {
        self.child.try_wait().expect("a child can be asked").is_none()
    }

    /// Everything it wrote so far.
    pub(crate) fn output(&self) -> String {
        self.output.borrow().clone()
    }

    /// Waits until it has written `text`.
    pub(crate) async fn says(&self, text: &str) {
        let mut output = self.output.clone();
        let said = timeout(PATIENCE, output.wait_for(|output| output.contains(text))).await;
        assert!(matches!(said, Ok(Ok(_))), "{text:?} is not in:\n{}", self.output());
    }

    /// What gRPC health checks of the whole server hear; None when they hear nothing.
    pub(crate) async fn serving(&self) -> Option<ServingStatus> {
        self.service_serving("").await
    }

    /// Likewise of one service.
    pub(crate) async fn service_serving(&self, service: &str) -> Option<ServingStatus> {
        let channel = self.endpoint().connect().await.ok()?;
        let request = HealthCheckRequest { service: service.to_owned() };
        let answer = HealthClient::new(channel).check(request).await.ok()?;
        Some(answer.into_inner().status())
    }

    /// Asks over HTTP; answers status and body.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.http).await.expect("the server listens for HTTP");
        let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.http);
        stream.write_all(request.as_bytes()).await.expect("a request can be sent");
        let mut answer = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut answer)).await.expect("in time").expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("an HTTP answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        (status.expect("a status"), body.to_owned())
    }

    /// A metric without labels that is a whole number.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let (_, text) = self.get("/metrics").await;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok());
        let value: f64 = value.unwrap_or_else(|| panic!("no {name} in:\n{text}"));
        value as u64
    }

    /// A figure of `/proc/PID/status`: `VmRSS` and `VmHWM` in KiB, `Threads`.
    pub(crate) fn figure(&self, name: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid().as_raw_nonzero()));
        let status = status.expect("the server lives");
        let value = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        let value = value.and_then(|value| value.split_whitespace().next()?.parse().ok());
        value.unwrap_or_else(|| panic!("no {name} in:\n{status}"))
    }

    /// Descriptors that are open.
    pub(crate) fn descriptors(&self) -> usize {
        let dir = format!("/proc/{}/fd", self.pid().as_raw_nonzero());
        fs::read_dir(dir).expect("the server lives").count()
    }
}

async fn ended(child: &mut Child, output: Output) -> Ended {
    let Ok(status) = timeout(PATIENCE, child.wait()).await else {
        panic!("the server does not end:\n{}", output.borrow().as_str());
    };
    // The pipes end a moment after the process.
    let mut closing = output.clone();
    let _ = timeout(Duration::from_secs(5), async { while closing.changed().await.is_ok() {} }).await;
    let output = output.borrow().clone();
    Ended { status: status.expect("a child can be waited for"), output }
}

/// Reads all it writes, so that it never waits for a reader.
fn follow(child: &mut Child) -> Output {
    let (text, output) = watch::channel(String::new());
    let text = Arc::new(text);
    collect(child.stdout.take().expect("piped"), Arc::clone(&text));
    collect(child.stderr.take().expect("piped"), text);
    output
}

fn collect(pipe: impl AsyncRead + Unpin + Send + 'static, text: Arc<watch::Sender<String>>) {
    tokio::spawn(async move {
        let mut lines = BufReader::new(pipe).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            text.send_modify(|text| {
                text.push_str(&line);
                text.push('\n');
            });
        }
    });
}

/// Where it says that it listens: gRPC, HTTP, administration.
fn addresses(output: &str) -> Option<(SocketAddr, SocketAddr, SocketAddr)> {
    let after = |mark: &str| output.lines().find_map(|line| line.split_once(mark)?.1.parse().ok());
    Some((after(" listening on ")?, after("status  http://")?, after("admin   ")?))
}
