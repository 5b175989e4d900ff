//! A server with its own data, and the commands that are put to it.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use chrono::{DateTime, NaiveTime, SecondsFormat, TimeDelta, Utc};
use serde_json::Value;

/// A server; killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Open as long as the server lives, so that it can write.
    _out: BufReader<ChildStdout>,
    pub(crate) endpoint: String,
    pub(crate) admin: String,
    dir: tempfile::TempDir,
}

/// How a command ended, and what it said.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The binary, without the machine's own configuration.
pub(crate) fn herdstream() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herdstream"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HERDSTREAM_") {
            command.env_remove(name);
        }
    }
    command.env("COLUMNS", "60").stdin(Stdio::null());
    command
}

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { code: status.code(), out: text(stdout), err: text(stderr) }
}

/// Midnight some days ago, in UTC.
pub(crate) fn midnight(days_ago: i64) -> DateTime<Utc> {
    (Utc::now() - TimeDelta::days(days_ago)).date_naive().and_time(NaiveTime::MIN).and_utc()
}

/// As commands show times.
pub(crate) fn show(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

impl Server {
    pub(crate) fn start() -> Self {
        Self::start_on("127.0.0.1:0")
    }

    /// Starts one that listens on an address.
    pub(crate) fn start_on(listen: &str) -> Self {
        Self::configured(listen, "")
    }

    /// Starts one with a configuration file.
    pub(crate) fn configured(listen: &str, configuration: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("herdstream.toml"), configuration).expect("a file");
        let mut child = herdstream()
            .args(["--listen", listen, "--http-listen", "off", "--admin-listen", "127.0.0.1:0"])
            .args(["--data-dir", "data"])
            .current_dir(dir.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary starts");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut after = |mark: &str| {
            let mut line = String::new();
            while !line.contains(mark) {
                line.clear();
                assert_ne!(out.read_line(&mut line).expect("UTF-8"), 0, "the server says {mark:?}");
            }
            format!("http://{}", line.trim().rsplit(' ').next().expect("an address"))
        };
        let endpoint = after(" listening on ");
        let admin = after("  admin ");
        Self { child, _out: out, endpoint, admin, dir }
    }

    /// A command to this server, in a directory of the test's.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = herdstream();
        command
            .args(args)
            .env("HERDSTREAM_ENDPOINT", &self.endpoint)
            .env("HERDSTREAM_ADMIN_ENDPOINT", &self.admin)
            .current_dir(self.dir.path());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, args: &[&str]) -> Said {
        run(&mut self.command(args))
    }

    /// Runs a command that ends well, and answers what it said.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let said = self.run(args);
        assert_eq!(said.code, Some(0), "{args:?}: {said:?}");
        said.out
    }

    /// The answer of a command as JSON.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<Value> {
        let text = self.ok(&[args, &["--format", "json"]].concat());
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{args:?}: {error}:\n{text}"))
    }

    /// All readings of a device as the server has them: time, value.
    pub(crate) fn readings(&self, device: &str) -> Vec<(String, f64)> {
        let said = self.run(&["query", "stream", "--device", device, "--from", "-3000d", "--format", "csv"]);
        if said.err.contains("is not known") {
            return Vec::new();
        }
        assert_eq!(said.code, Some(0), "{}", said.err);
        let text = said.out;
        let mut reader = csv::Reader::from_reader(text.as_bytes());
        let Ok(header) = reader.headers().cloned() else { return Vec::new() };
        let column = |name: &str| header.iter().position(|have| have == name);
        let (Some(time), Some(value)) = (column("time"), column("value")) else { return Vec::new() };
        let rows = reader.records().map(|row| row.expect("a row of CSV"));
        rows.map(|row| (row[time].to_owned(), row[value].parse().expect("a number"))).collect()
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Writes a file where commands find it by its name.
    pub(crate) fn write(&self, name: &str, content: &str) {
        fs::write(self.path(name), content).expect("a file");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It has ended already, unless all is well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
