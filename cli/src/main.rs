//! `herdstream`: the server's command line.

use std::{
    error::Error,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use herdstream_server::{
    Server,
    config::{Config, Flags, LogFormat},
    ops::{shutdown, telemetry},
    store::postgres::PostgresStore,
};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Exit code for a configuration or command line that cannot be used.
const BAD_CONFIGURATION: u8 = 2;

/// Takes sensor readings from dairy-farm gateways over gRPC, stores each exactly once, and answers queries.
#[derive(Debug, Parser)]
#[command(
    name = "herdstream",
    version,
    long_about = "Takes sensor readings from dairy-farm gateways over gRPC, stores each exactly once, and \
                  answers queries.\n\nWithout arguments it serves on 127.0.0.1:7171 and keeps its data in ./data; \
                  nothing else has to be installed. What it says once it runs tells how to send the first \
                  reading and how to find it again.",
    after_long_help = HELP
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    flags: Flags,
    /// Print the effective configuration, secrets as "***", and exit: 0 when it can be used, else 2
    #[arg(long, global = true)]
    check_config: bool,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve until SIGTERM or Ctrl-C (what happens without a command, too)
    Serve,
    /// Bring the schema of the database up to date and exit; serve does so, too
    Migrate,
}

const HELP: &str = "\
Configuration:
  Defaults, then a TOML file, then the environment, then flags; the later one wins.
  [ingest] buffer = \"64MiB\" in the file is HERDSTREAM_INGEST__BUFFER=64MiB in the environment.
  --check-config prints every key with the value it has; absent, and unlimited then, are only
  ingest.max_opens_per_second and ingest.max_writes_per_second. docs/herdstream.toml explains each.

Examples:
  herdstream                                   serve on this machine, data in ./data
  herdstream --check-config > herdstream.toml  start a configuration file
  herdstream --data-dir /var/lib/herdstream --log-format json
  HERDSTREAM_LISTEN=10.0.0.5:7171 herdstream --config /etc/herdstream.toml

Exit codes:
  0  stopped after a drain: everything received was committed and acknowledged
  1  failed, or was asked twice to stop
  2  bad configuration or command line";

fn main() -> ExitCode {
    let Cli { command, flags, check_config } = Cli::parse();
    let config = match Config::load(&flags) {
        Ok(config) => config,
        Err(error) => {
            eprintln!("herdstream: bad configuration\n{error}");
            return ExitCode::from(BAD_CONFIGURATION);
        }
    };
    if check_config {
        print!("{}", config.to_toml());
        return ExitCode::SUCCESS;
    }
    let done = match command.unwrap_or(Command::Serve) {
        Command::Serve => run(config),
        Command::Migrate => migrate(&config),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("herdstream: {}", sentence(&error));
            ExitCode::FAILURE
        }
    }
}

#[tokio::main]
async fn run(config: Config) -> anyhow::Result<()> {
    telemetry::init(&config.log)?;
    // Before the store is opened: a signal during a long start must not leave it half open.
    let shutdown = shutdown::on_signals().context("cannot handle SIGTERM and SIGINT")?;
    // With a handler, a write beyond a limit on file sizes fails like one to a full disk, which the store
    // survives. Without, it is the end of the process.
    drop(signal(SignalKind::from_raw(Signal::XFSZ.as_raw())).context("cannot handle SIGXFSZ")?);
    let hint = Hint::of(&config);
    let server = Server::bind(config).await?;
    // Whoever started the server may have closed its standard output; that is no reason to stop.
    let _ = hint.print(&mut io::stdout().lock(), &server);
    server.run(shutdown).await?;
    Ok(())
}

/// Brings a database's schema up to date.
#[tokio::main(flavor = "current_thread")]
async fn migrate(config: &Config) -> anyhow::Result<()> {
    let database = config.database.postgres().context(
        "no database is configured, and the embedded store needs no migration: name one with --database-url",
    )?;
    let facts = PostgresStore::migrate(&database).await?;
    println!("the schema at {} is up to date: profile {} ({})", facts.at, facts.profile, facts.reason);
    Ok(())
}

/// An error and its causes in one line, each said once: some messages hold their cause already.
fn sentence(error: &anyhow::Error) -> String {
    let mut line = error.to_string();
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        cause = error.source();
    }
    line
}

/// What a person who has just started the server wants to know.
struct Hint {
    token: &'static str,
    brief: bool,
}

impl Hint {
    fn of(config: &Config) -> Self {
        Self {
            token: if config.auth.gateways.is_empty() { "" } else { "-H 'authorization: Bearer TOKEN' " },
            brief: config.log.format == LogFormat::Json,
        }
    }

    fn print(&self, out: &mut impl io::Write, server: &Server) -> io::Result<()> {
        let Self { token, brief } = self;
        let (grpc, store) = (server.local_addr(), server.store());
        // Programs that start a server on port 0 read this line.
        writeln!(out, "herdstream {} listening on {grpc}", env!("CARGO_PKG_VERSION"))?;
        if let Some(http) = server.http_addr() {
            writeln!(out, "  status  http://{}", reachable(http))?;
        }
        if let Some(admin) = server.admin_addr() {
            writeln!(out, "  admin   {}", reachable(admin))?;
        }
        writeln!(out, "  store   {}, {} ({})", store.profile, store.place, store.reason)?;
        if !brief {
            let at = reachable(grpc);
            let batch = r#"{"batch": {"series": [{"ref": 1, "farm_id": 1, "device_uid": "collar-1", "device_type": "collar", "metric_name": "temperature", "metric_unit": "Cel"}], "readings": [{"series_ref": 1, "value": 38.6}]}}"#;
            write!(
                out,
                "\nSend a reading, and ask for it:\n  \
                 grpcurl -plaintext {token}-d '{batch}' {at} herdstream.v1.IngestService/Write\n  \
                 grpcurl -plaintext {token}-d '{{\"device_uid\": \"collar-1\"}}' {at} herdstream.v1.QueryService/GetLatest\n\
                 Stream from a program:\n  \
                 cargo run -p herdstream-client --example send_readings -- http://{at}\n\
                 Simulate farms:\n  \
                 cargo run --release -p herdstream-loadtest -- run --endpoint http://{at} --seconds 10\n\
                 Stop with Ctrl-C: what was received is committed and acknowledged first.\n\n",
            )?;
        }
        out.flush()
    }
}

/// Where a client on this machine finds a server that listens on `address`.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}
