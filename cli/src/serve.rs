//! `herdstream serve`: the server as a process.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use anyhow::Context as _;
use herdstream_server::{
    Server,
    config::{Config, LogFormat},
    ops::{shutdown, telemetry},
};
use rustix::process::Signal;
use tokio::signal::unix::{SignalKind, signal};

/// Serves until it is told to stop.
#[tokio::main]
pub(crate) async fn serve(config: Config) -> anyhow::Result<()> {
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
