//! The real binary: what it prints, how it stops, and its exit codes.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    path::Path,
    process::{Child, ChildStdout, Command, Output, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

fn herdstream(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herdstream"));
    // Nothing of the machine's own configuration.
    command.current_dir(directory).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HERDSTREAM_") {
            command.env_remove(name);
        }
    }
    command
}

fn run(command: &mut Command) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = command.output().expect("the binary starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

/// A running server; killed when dropped.
struct Running {
    child: Child,
    out: BufReader<ChildStdout>,
    /// First line of its standard output.
    line: String,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        command.args(["--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--admin-listen", "off"]);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts");
        let mut out = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        out.read_line(&mut line).expect("a line");
        Self { child, out, line }
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("the process is there");
    }

    /// Waits for the end: exit code, rest of standard output, standard error.
    fn wait(mut self) -> (Option<i32>, String, String) {
        let (mut out, mut err) = (String::new(), String::new());
        let mut stderr = self.child.stderr.take().expect("a pipe");
        let reader = std::thread::spawn(move || stderr.read_to_string(&mut err).map(|_| err));
        self.out.read_to_string(&mut out).expect("UTF-8");
        let err = reader.join().expect("no panic").expect("UTF-8");
        (self.child.wait().expect("an exit").code(), out, err)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, unless a test failed.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn help_and_version_teach() {
    let dir = tempfile::tempdir().expect("a directory");
    let (code, out, _) = run(herdstream(dir.path()).arg("--help"));
    assert_eq!(code, Some(0));
    for part in ["./data", "127.0.0.1:7171", "--check-config", "HERDSTREAM_INGEST__BUFFER", "Exit codes:"] {
        assert!(out.contains(part), "{part} is missing in:\n{out}");
    }
    let (code, out, _) = run(herdstream(dir.path()).arg("--version"));
    assert_eq!((code, out.trim()), (Some(0), concat!("herdstream ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn settings_of_the_server_stand_only_where_they_act() {
    let dir = tempfile::tempdir().expect("a directory");
    let help = |args: &[&str]| run(herdstream(dir.path()).args(args).arg("--help")).1;
    let options =
        ["--listen", "--data-dir", "--database-url", "--allow-anonymous", "--check-config", "--log-"];
    for option in options {
        for with in [&[][..], &["serve"], &["migrate"]] {
            assert!(help(with).contains(option), "{with:?} {option}");
        }
        for without in [&["query", "range"][..], &["query"], &["import"], &["admin", "lifecycle"]] {
            assert!(!help(without).contains(option), "{without:?} {option}");
        }
    }
    for (args, wanted) in [
        (&["query", "info", "--listen", "127.0.0.1:1"][..], "unexpected argument '--listen'"),
        (&["--data-dir", "elsewhere", "query", "info"], "--data-dir is for a server, and `herdstream query`"),
        (&["--check-config", "import", "history.csv"], "--check-config is for a server"),
    ] {
        let (code, out, err) = run(herdstream(dir.path()).args(args));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.contains(wanted), "{args:?}: {err}");
    }
    // Before the command as well as after it, where it counts more; the environment is below both.
    std::fs::write(dir.path().join("before.toml"), "[ingest]\nmax_streams = 1\n").expect("a file");
    std::fs::write(dir.path().join("after.toml"), "[ingest]\nmax_streams = 2\n").expect("a file");
    for (args, wanted) in [
        (&["--data-dir", "one", "serve", "--check-config"][..], "data_dir = \"one\""),
        (&["--check-config", "--data-dir", "one", "serve", "--data-dir", "two"], "data_dir = \"two\""),
        (&["--check-config", "serve", "--allow-anonymous"], "allow_anonymous = true"),
        (&["--config", "before.toml", "serve", "--check-config"], "max_streams = 1"),
        (
            &["--config", "before.toml", "serve", "--check-config", "--config", "after.toml"],
            "max_streams = 2",
        ),
    ] {
        let (code, out, err) = run(herdstream(dir.path()).env("HERDSTREAM_CONFIG", "missing.toml").args(
            if args.contains(&"--config") {
                args.to_vec()
            } else {
                [&["--config", "before.toml"], args].concat()
            },
        ));
        assert_eq!(code, Some(0), "{args:?}: {err}");
        assert!(out.lines().any(|line| line == wanted), "{args:?}: {wanted} is missing in:\n{out}");
    }
    // A client may be where a server is configured.
    let (code, _, err) = run(herdstream(dir.path()).env("HERDSTREAM_CONFIG", "before.toml").args([
        "query",
        "info",
        "--endpoint",
        "http://127.0.0.1:1",
    ]));
    assert_eq!(code, Some(1), "{err}");
}

#[test]
fn check_config_prints_what_is_in_effect_and_starts_nothing() {
    let dir = tempfile::tempdir().expect("a directory");
    let file =
        "[ingest]\nbuffer = '64MiB'\n[[auth.gateways]]\ngateway_id = 'a'\ntoken = 'hay-and-more-hay-1'\n";
    std::fs::write(dir.path().join("herdstream.toml"), file).expect("a file");
    let (code, out, err) = run(herdstream(dir.path()).env("HERDSTREAM_INGEST__MAX_STREAMS", "77").args([
        "serve",
        "--check-config",
        "--data-dir",
        "elsewhere",
    ]));
    assert_eq!((code, err.as_str()), (Some(0), ""));
    for line in ["buffer = \"64MiB\"", "max_streams = 77", "data_dir = \"elsewhere\"", "token = \"***\""] {
        assert!(out.lines().any(|found| found == line), "{line} is missing in:\n{out}");
    }
    assert!(!out.contains("hay"), "{out}");
    assert!(!dir.path().join("elsewhere").exists());
}

#[test]
fn bad_configuration_ends_with_2_and_says_why() {
    let dir = tempfile::tempdir().expect("a directory");
    for (args, wanted) in [
        (&["--listen", "0.0.0.0:7171"][..], "nobody has to prove who they are"),
        (&["--config", "missing.toml"], "cannot read configuration file missing.toml"),
        (&["--listen", "here"], "invalid value 'here' for '--listen <ADDRESS>'"),
        (&["--log-filter", "herdstream=loudly", "--check-config"], "log.filter = \"herdstream=loudly\""),
        (&["--check-config", "--database-url", "mysql://x:hay-and-straw@y/z"], "database.url = \"mysql\""),
        (&["milk"], "unrecognized subcommand 'milk'"),
    ] {
        let (code, out, err) = run(herdstream(dir.path()).args(args));
        assert_eq!((code, out.as_str()), (Some(2), ""), "{args:?}: {err}");
        assert!(err.contains(wanted), "{args:?}: {err}");
        assert!(!err.contains("hay-and"), "{err}");
    }
    assert!(!dir.path().join("data").exists());
}

#[test]
fn a_taken_address_ends_with_1_and_names_the_flag() {
    let dir = tempfile::tempdir().expect("a directory");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("bound").to_string();
    let (code, _, err) = run(herdstream(dir.path()).args([
        "--http-listen",
        "off",
        "--admin-listen",
        "off",
        "--listen",
        &address,
    ]));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains(&format!("cannot listen on {address}")), "{err}");
    assert!(err.contains("choose another with --listen"), "{err}");
}

#[test]
fn it_says_where_it_is_and_how_to_use_it_and_stops_cleanly() {
    for signal in [Signal::TERM, Signal::INT] {
        let dir = tempfile::tempdir().expect("a directory");
        let running = Running::start(&mut herdstream(dir.path()));
        let (_, address) =
            running.line.trim().split_once(" listening on ").expect("an address in the first line");
        let address = address.to_owned();
        std::net::TcpStream::connect(&address).expect("the printed address is served");
        running.signal(signal);
        let (code, out, err) = running.wait();
        assert_eq!(code, Some(0), "{err}");
        let store = format!("embedded, in {}", dir.path().join("data").display());
        for part in [&*store, "herdstream.v1.IngestService/Write", "loadtest", "send_readings", &address] {
            assert!(out.contains(part), "{part} is missing in:\n{out}");
        }
    }
}

#[test]
fn a_call_to_the_status_page_says_which_port_is_meant() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut running = Running::start(&mut herdstream(dir.path()));
    let mut status = String::new();
    running.out.read_line(&mut status).expect("a line");
    let page = status.trim().rsplit(' ').next().expect("an address");
    assert!(status.contains("  status") && page.starts_with("http://"), "{status}");
    for (question, option) in
        [(["query", "info"], "--endpoint"), (["admin", "lifecycle"], "--admin-endpoint")]
    {
        let (code, out, err) = run(herdstream(dir.path()).args(question).args([option, page]));
        assert_eq!((code, out.as_str()), (Some(1), ""), "{err}");
        for part in [page, "perhaps that of the status page", &format!("with {option}, http://127.0.0.1:717")]
        {
            assert!(err.contains(part), "{part} is missing in:\n{err}");
        }
        assert!(!err.contains("transport error"), "{err}");
    }
    running.signal(Signal::TERM);
    assert_eq!(running.wait().0, Some(0));
}

#[test]
fn json_logs_are_json_line_by_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = Running::start(herdstream(dir.path()).args(["--log-format", "json"]));
    running.signal(Signal::TERM);
    let (code, _, err) = running.wait();
    assert_eq!(code, Some(0), "{err}");
    assert!(err.lines().count() > 0);
    for line in err.lines() {
        let record: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(record["timestamp"].is_string() && record["level"].is_string(), "{line}");
    }
}

#[test]
fn a_second_signal_stops_at_once_with_1() {
    let dir = tempfile::tempdir().expect("a directory");
    let running = Running::start(&mut herdstream(dir.path()));
    // Both signals are pending when it goes on, so the second cannot come after a quick drain.
    running.signal(Signal::STOP);
    running.signal(Signal::TERM);
    running.signal(Signal::INT);
    running.signal(Signal::CONT);
    let (code, _, err) = running.wait();
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("asked to stop twice"), "{err}");
}
