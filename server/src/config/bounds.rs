//! Bounds of every value.

use std::{collections::HashSet, fmt, time::Duration};

use bytesize::ByteSize;
use herdstream_proto::limits::{MAX_MESSAGE_BYTES, MAX_NAME_CHARS};
use secrecy::ExposeSecret;
use tracing_subscriber::EnvFilter;

use super::{
    Config,
    values::{duration, size},
};

const DAY: Duration = Duration::from_hours(24);
const HOUR: Duration = Duration::from_hours(1);
const MOMENT: Duration = Duration::from_millis(100);
const SECOND: Duration = Duration::from_secs(1);

/// Everything that is wrong, a line each: key, value, bound.
pub(super) fn faults(config: &Config) -> Vec<String> {
    let mut faults = Faults(Vec::new());
    listen(config, &mut faults);
    sizes(config, &mut faults);
    counts(config, &mut faults);
    durations(config, &mut faults);
    ages(config, &mut faults);
    database_url(config, &mut faults);
    endpoints(config, &mut faults);
    gateways(config, &mut faults);
    if let Err(error) = EnvFilter::try_new(&config.log.filter) {
        faults.add("log.filter", format_args!("{:?}", config.log.filter), error);
    }
    faults.0
}

struct Faults(Vec<String>);

impl Faults {
    fn add(&mut self, key: &str, value: impl fmt::Display, wanted: impl fmt::Display) {
        self.0.push(format!("{key} = {value}: {wanted}"));
    }

    /// Adds a fault unless `lowest <= value <= highest`.
    fn range<T: PartialOrd + Copy>(
        &mut self,
        key: &str,
        value: T,
        (lowest, highest): (T, T),
        show: impl Fn(T) -> String,
    ) {
        if value < lowest || value > highest {
            let (value, lowest, highest) = (show(value), show(lowest), show(highest));
            self.add(key, value, format_args!("must be {lowest} to {highest}"));
        }
    }
}

fn listen(config: &Config, faults: &mut Faults) {
    let open = config.auth.gateways.is_empty() && !config.auth.allow_anonymous;
    if open && !config.listen.ip().is_loopback() {
        faults.add(
            "listen",
            format_args!("\"{}\"", config.listen),
            "others can reach this address and nobody has to prove who they are: list gateways with tokens \
             under [[auth.gateways]], or listen on 127.0.0.1, or set auth.allow_anonymous = true \
             (--allow-anonymous) if everyone on that network may write",
        );
    }
    if config.listen.port() != 0 && config.http_listen == Some(config.listen) {
        faults.add(
            "http_listen",
            format_args!("\"{}\"", config.listen),
            "is taken by listen: choose another port",
        );
    }
    if let Some(admin) = config.admin_listen {
        if !admin.ip().is_loopback() {
            faults.add(
                "admin_listen",
                format_args!("\"{admin}\""),
                "callers of administration prove nothing yet, so it must be a loopback address such as \
                 \"127.0.0.1:7173\", or \"off\"",
            );
        }
        if admin.port() != 0 && (config.listen == admin || config.http_listen == Some(admin)) {
            faults.add(
                "admin_listen",
                format_args!("\"{admin}\""),
                "is taken by listen or http_listen: choose another port",
            );
        }
    }
    if config.store.data_dir.as_os_str().is_empty() {
        faults.add("store.data_dir", "\"\"", "must name a directory, for example \"./data\"");
    }
}

fn sizes(config: &Config, faults: &mut Faults) {
    let (store, ingest) = (&config.store, &config.ingest);
    let buffer = ingest.buffer.max(ByteSize::mib(8));
    let message = ByteSize::b(MAX_MESSAGE_BYTES as u64);
    let checks = [
        ("store.memtable", store.memtable, (ByteSize::mib(1), ByteSize::gib(1))),
        ("store.cache", store.cache, (ByteSize::mib(1), ByteSize::tib(1))),
        ("store.journal", store.journal, (ByteSize::mib(64), ByteSize::gib(64))),
        ("store.min_free", store.min_free, (ByteSize::mib(16), ByteSize::tib(1))),
        // The largest message that is decoded has to fit.
        ("ingest.buffer", ingest.buffer, (message, ByteSize::gib(64))),
        ("ingest.stream_credit", ingest.stream_credit, (ByteSize::kib(64), buffer)),
        ("ingest.group_bytes", ingest.group_bytes, (ByteSize::kib(64), buffer)),
    ];
    for (key, value, range) in checks {
        faults.range(key, value, range, |size| format!("\"{}\"", size::exact(size)));
    }
}

fn counts(config: &Config, faults: &mut Faults) {
    let (ingest, database) = (&config.ingest, &config.database);
    let checks = [
        ("ingest.max_streams", ingest.max_streams, (1, 1_000_000)),
        ("database.lanes", database.lanes, (1, 64)),
        ("database.pool_max", database.pool_max as usize, (1, 1000)),
        ("database.pool_min", database.pool_min as usize, (0, database.pool_max as usize)),
        ("ingest.max_series_per_producer", ingest.max_series_per_producer, (1, 10_000_000)),
    ];
    for (key, value, range) in checks {
        faults.range(key, value, range, |count| count.to_string());
    }
    let rates = [
        ("ingest.max_opens_per_second", ingest.max_opens_per_second),
        ("ingest.max_writes_per_second", ingest.max_writes_per_second),
    ];
    for (key, rate) in rates {
        if rate == Some(0) {
            faults.add(key, 0, "must be at least 1, or absent for no limit");
        }
    }
}

fn durations(config: &Config, faults: &mut Faults) {
    let (ingest, database) = (&config.ingest, &config.database);
    let checks = [
        ("ingest.accepted_lateness", ingest.accepted_lateness, (60 * SECOND, 3650 * DAY)),
        ("ingest.max_ahead", ingest.max_ahead, (Duration::ZERO, DAY)),
        ("ingest.open_timeout", ingest.open_timeout, (MOMENT, HOUR)),
        ("ingest.message_timeout", ingest.message_timeout, (MOMENT, HOUR)),
        ("ingest.keepalive", ingest.keepalive, (SECOND, HOUR)),
        // Less would cut a stream whose client answers the first question at once.
        ("ingest.idle_timeout", ingest.idle_timeout, (2 * ingest.keepalive.clamp(SECOND, HOUR), DAY)),
        ("database.acquire_timeout", database.acquire_timeout, (MOMENT, HOUR)),
        ("database.statement_timeout", database.statement_timeout, (SECOND, HOUR)),
        ("database.lock_timeout", database.lock_timeout, (MOMENT, HOUR)),
        ("drain.deadline", config.drain.deadline, (SECOND, HOUR)),
        ("rollups.interval", config.rollups.interval, (SECOND, 300 * SECOND)),
        ("rollups.close_after", config.rollups.close_after, (Duration::ZERO, HOUR)),
        ("retention.quiet", config.retention.quiet, (Duration::ZERO, 30 * DAY)),
        ("retention.interval", config.retention.interval, (60 * SECOND, DAY)),
        ("query.timeout", config.query.timeout, (MOMENT, HOUR)),
        ("query.stall_timeout", config.query.stall_timeout, (MOMENT, HOUR)),
        ("query.slow", config.query.slow, (Duration::ZERO, HOUR)),
    ];
    for (key, value, range) in checks {
        faults.range(key, value, range, |duration| format!("\"{}\"", duration::exact(duration)));
    }
}

/// A day must not be dropped while readings for it are accepted, nor a rollup while its readings are kept.
fn ages(config: &Config, faults: &mut Faults) {
    const LONGEST: Duration = DAY.saturating_mul(36_500);
    let retention = &config.retention;
    let late = (config.ingest.accepted_lateness + DAY, "ingest.accepted_lateness and a day");
    let readings = (retention.readings.unwrap_or(LONGEST), "not younger than retention.readings");
    let checks = [
        ("retention.readings", retention.readings, late),
        ("retention.milkings", retention.milkings, late),
        ("retention.rollup_15min", retention.rollup_15min, readings),
        ("retention.rollup_hourly", retention.rollup_hourly, readings),
        ("retention.rollup_daily", retention.rollup_daily, readings),
        ("retention.quarantine", retention.quarantine, (DAY, "a day")),
    ];
    for (key, value, (lowest, why)) in checks {
        if let Some(value) = value
            && (value < lowest || value > LONGEST)
        {
            let [value, lowest, highest] = [value, lowest, LONGEST].map(duration::exact);
            let wanted = format_args!("must be \"{lowest}\" ({why}) to \"{highest}\", or \"off\"");
            faults.add(key, format_args!("\"{value}\""), wanted);
        }
    }
}

/// Tells the scheme only: the rest may hold a password.
fn database_url(config: &Config, faults: &mut Faults) {
    let Some(url) = &config.database.url else { return };
    let scheme = url.expose_secret().split_once("://").map_or("", |(scheme, _)| scheme);
    if !matches!(scheme, "postgres" | "postgresql") {
        faults.add(
            "database.url",
            format_args!("{scheme:?}"),
            "must begin with postgres://, as postgres://USER:PASSWORD@HOST:PORT/DATABASE",
        );
    }
}

fn endpoints(config: &Config, faults: &mut Faults) {
    const MOST: usize = 16;
    let endpoints = &config.drain.endpoints;
    if endpoints.len() > MOST {
        faults.add(
            "drain.endpoints",
            format_args!("{} of them", endpoints.len()),
            format_args!("at most {MOST}"),
        );
    }
    for endpoint in endpoints {
        let url = endpoint.parse::<http::Uri>().ok();
        let usable =
            url.is_some_and(|url| matches!(url.scheme_str(), Some("http" | "https")) && url.host().is_some());
        if !usable {
            faults.add(
                "drain.endpoints",
                format_args!("{endpoint:?}"),
                "must be a URL such as \"http://herdstream-2.example:7171\"",
            );
        }
    }
}

fn gateways(config: &Config, faults: &mut Faults) {
    let (mut names, mut tokens) = (HashSet::new(), HashSet::new());
    for (index, gateway) in config.auth.gateways.iter().enumerate() {
        let key = |field: &str| format!("auth.gateways[{index}].{field}");
        let name = &gateway.gateway_id;
        if name.is_empty() || name.chars().count() > MAX_NAME_CHARS || name.contains('\0') {
            let wanted = format_args!("must be 1 to {MAX_NAME_CHARS} characters without U+0000");
            faults.add(&key("gateway_id"), format_args!("{name:?}"), wanted);
        }
        if !names.insert(name) {
            faults.add(
                &key("gateway_id"),
                format_args!("{name:?}"),
                "is there twice: give each gateway one entry",
            );
        }
        let token = gateway.token.expose_secret();
        if !(16..=512).contains(&token.len()) || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            let wanted = "must be 16 to 512 printable ASCII characters without spaces";
            faults.add(&key("token"), "***", wanted);
        }
        if !tokens.insert(token) {
            faults.add(&key("token"), "***", "is another gateway's too: it would not tell them apart");
        }
        if let Some(farm) = gateway.farms.iter().find(|farm| **farm < 1) {
            faults.add(&key("farms"), farm, format_args!("must be 1 to {}", i32::MAX));
        }
    }
}
