//! Every metric: name, kind, unit, help and labels.

use std::sync::LazyLock;

use metrics::{Gauge, Histogram, Label, Unit};
use metrics_exporter_prometheus::PrometheusHandle;

use super::recorder::{Gauged, Maker, Timed, Total};

/// A call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names of the contract")]
pub enum Rpc {
    Write,
    GetProducer,
    ListRejections,
    GetLatest,
    QueryRange,
    QueryMilkings,
    ListDevices,
    GetIngestionStats,
    GetServerInfo,
    BatchQueryRange,
    StreamRange,
    WatchReadings,
    ListSeries,
    GetDeviceStatus,
    GetFarmDailySummary,
    GetMilkProductionDaily,
    GetAnimalMetrics,
    GetLifecycle,
    RefreshRollups,
    RunRetention,
    CompressChunks,
    ListChunks,
    ExplainQuery,
}

impl Rpc {
    /// As the contract names it.
    pub fn name(self) -> &'static str {
        RPCS[self as usize]
    }
}

/// How a call was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With what was asked for.
    Ok,
    /// With an error that is the caller's.
    Refused,
    /// With an error that is the server's.
    Failed,
}

/// In the order of [`Rpc`].
const RPCS: [&str; 23] = [
    "Write",
    "GetProducer",
    "ListRejections",
    "GetLatest",
    "QueryRange",
    "QueryMilkings",
    "ListDevices",
    "GetIngestionStats",
    "GetServerInfo",
    "BatchQueryRange",
    "StreamRange",
    "WatchReadings",
    "ListSeries",
    "GetDeviceStatus",
    "GetFarmDailySummary",
    "GetMilkProductionDaily",
    "GetAnimalMetrics",
    "GetLifecycle",
    "RefreshRollups",
    "RunRetention",
    "CompressChunks",
    "ListChunks",
    "ExplainQuery",
];

/// In the order of [`Answer`].
const ANSWERS: [&str; 3] = ["ok", "refused", "failed"];

/// In the order of the numbers of `RejectionCode`, from 1.
pub(in super::super) const REJECTIONS: [&str; 11] = [
    "required",
    "not_finite",
    "out_of_range",
    "time_in_future",
    "too_late",
    "text_too_long",
    "text_invalid",
    "metadata_invalid",
    "series_rejected",
    "too_many_series",
    "store_refused",
];

/// Tables that retention drops from.
pub(super) const TABLES: [&str; 6] =
    ["reading", "milking", "rollup_15min", "rollup_hourly", "rollup_daily", "quarantine"];

const REFRESH_SECONDS: &str = "herdstream_rollup_refresh_duration_seconds";
const COMMIT_SECONDS: &str = "herdstream_commit_duration_seconds";
const COMMIT_READINGS: &str = "herdstream_commit_readings";
const CALL_SECONDS: &str = "herdstream_call_duration_seconds";

const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
const LONG_SECONDS: [f64; 9] = [0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 1_800.0];
const ROWS: [f64; 9] = [1.0, 10.0, 100.0, 1_000.0, 3_000.0, 10_000.0, 30_000.0, 100_000.0, 300_000.0];

/// The metrics of this process.
pub(in super::super) static METERS: LazyLock<Meters> = LazyLock::new(Meters::new);

/// See [`Meters::new`] for names and meanings.
#[derive(Debug)]
pub(in super::super) struct Meters {
    pub(in super::super) stored: Total,
    pub(in super::super) duplicate: Total,
    /// In the order of [`REJECTIONS`].
    pub(in super::super) quarantined: [Total; REJECTIONS.len()],
    pub(in super::super) skipped: Total,
    pub(in super::super) batches: Total,
    pub(in super::super) commits: Timed,
    pub(super) commit_rows: Histogram,
    pub(in super::super) committed_bytes: Total,
    pub(in super::super) buffer_bytes: Gauged,
    pub(in super::super) pending: Gauged,
    pub(in super::super) streams: Gauged,
    pub(in super::super) opened: Total,
    pub(in super::super) fenced: Total,
    pub(super) credit: Total,
    pub(super) store_up: Gauged,
    pub(in super::super) disk_free: Gauged,
    /// Compressed and not.
    pub(super) new_chunks: [Gauge; 2],
    /// In the order of [`Rpc`] and [`Answer`].
    pub(super) calls: [[Timed; ANSWERS.len()]; RPCS.len()],
    pub(super) refreshes: Timed,
    pub(super) refresh_failures: Total,
    pub(super) rollup_buckets: Total,
    pub(super) mended: Total,
    pub(super) rollup_lag: Gauge,
    pub(super) dirty_hours: Gauged,
    /// Parts and bytes, in the order of [`TABLES`].
    pub(super) dropped: [Total; TABLES.len()],
    pub(super) dropped_bytes: [Total; TABLES.len()],
    pub(super) resident: Gauge,
    pub(super) descriptors: Gauge,
    pub(super) handle: PrometheusHandle,
}

impl Meters {
    #[expect(clippy::too_many_lines, reason = "a list of all there are")]
    fn new() -> Self {
        let make = Maker::new(&[
            (COMMIT_SECONDS, &SECONDS),
            (CALL_SECONDS, &SECONDS),
            (REFRESH_SECONDS, &LONG_SECONDS),
            (COMMIT_READINGS, &ROWS),
        ]);
        let readings = "Readings and milkings";
        let quarantined = make.counters(
            ("herdstream_readings_quarantined_total", Unit::Count),
            "Readings and milkings refused and kept in quarantine, by code.",
            "code",
            REJECTIONS,
        );
        make.gauge_with(
            ("herdstream_build_info", Unit::Count),
            "1; the label tells the version.",
            vec![Label::new("version", env!("CARGO_PKG_VERSION"))],
        )
        .set(1.0);
        make.gauge_with(
            ("process_start_time_seconds", Unit::Seconds),
            "Start of the process, seconds since 1970.",
            Vec::new(),
        )
        .set(super::process::start_time());
        let calls = make.describe_histogram((CALL_SECONDS, Unit::Seconds), "Time to answer a unary call.");
        Self {
            stored: make.counter("herdstream_readings_stored_total", &format!("{readings} stored.")),
            duplicate: make.counter(
                "herdstream_readings_duplicate_total",
                &format!("{readings} that came again, dropped."),
            ),
            quarantined,
            skipped: make.counter(
                "herdstream_readings_skipped_total",
                &format!("{readings} that their client gave up."),
            ),
            batches: make.counter("herdstream_batches_committed_total", "Batches committed."),
            commits: make.timed(
                (COMMIT_SECONDS, Unit::Seconds),
                "Time of a commit, sync included, from the first attempt.",
            ),
            commit_rows: make.histogram((COMMIT_READINGS, Unit::Count), "Readings and milkings in a commit."),
            committed_bytes: make
                .counter("herdstream_committed_bytes_total", "Encoded bytes of the batches committed."),
            buffer_bytes: make.gauge(
                ("herdstream_buffer_bytes", Unit::Bytes),
                "Encoded bytes received and not yet committed; ingest.buffer bounds it.",
            ),
            pending: make.gauge(
                ("herdstream_pending_readings", Unit::Count),
                "Readings and milkings received and not yet committed.",
            ),
            streams: make.gauge(("herdstream_streams_open", Unit::Count), "Streams open."),
            opened: make.counter("herdstream_sessions_opened_total", "Sessions opened."),
            fenced: make.counter(
                "herdstream_sessions_fenced_total",
                "Times that work of a session was refused since a later one had taken over.",
            ),
            credit: make.counter("herdstream_credit_granted_bytes_total", "Bytes of credit granted."),
            store_up: {
                let up = make.gauge(
                    ("herdstream_store_up", Unit::Count),
                    "1 when the store takes commits, 0 when it does not.",
                );
                up.set(1);
                up
            },
            disk_free: make
                .gauge(("herdstream_disk_free_bytes", Unit::Bytes), "Free bytes on the disk of the store."),
            new_chunks: ["true", "false"].map(|compressed| {
                make.gauge_with(
                    ("herdstream_new_chunks", Unit::Count),
                    "Chunks of readings made within the last day on TimescaleDB, by whether they are compressed.",
                    vec![Label::new("compressed", compressed)],
                )
            }),
            calls: RPCS.map(|rpc| {
                ANSWERS.map(|answer| {
                    let labels = vec![Label::new("rpc", rpc), Label::new("answer", answer)];
                    Timed::new(calls(labels))
                })
            }),
            refreshes: make.timed(
                (REFRESH_SECONDS, Unit::Seconds),
                "Time of a refresh of the rollups by this server.",
            ),
            refresh_failures: make.counter(
                "herdstream_rollup_refresh_failures_total",
                "Refreshes of the rollups by this server that failed; they are tried again.",
            ),
            rollup_buckets: make
                .counter("herdstream_rollup_buckets_total", "Buckets of rollups computed by this server."),
            mended: make.counter(
                "herdstream_rollup_mended_hours_total",
                "Dirty hours of series computed again by this server.",
            ),
            rollup_lag: make.gauge_with(
                ("herdstream_rollup_lag_seconds", Unit::Seconds),
                "Time for which buckets ought to be kept as rollups and are not: answered from readings meanwhile.",
                Vec::new(),
            ),
            dirty_hours: make.gauge(
                ("herdstream_rollup_dirty_hours", Unit::Count),
                "Hours of series that got readings after they were closed: answered from readings meanwhile.",
            ),
            dropped: make.counters(
                ("herdstream_retention_dropped_total", Unit::Count),
                "Parts of tables dropped by retention, by table: days of readings and milkings.",
                "table",
                TABLES,
            ),
            dropped_bytes: make.counters(
                ("herdstream_retention_dropped_bytes_total", Unit::Bytes),
                "Bytes on disk dropped by retention, by table, as far as they are known.",
                "table",
                TABLES,
            ),
            resident: make.gauge_with(
                ("process_resident_memory_bytes", Unit::Bytes),
                "Memory in use.",
                Vec::new(),
            ),
            descriptors: make.gauge_with(
                ("process_open_fds", Unit::Count),
                "File descriptors open.",
                Vec::new(),
            ),
            handle: make.handle(),
        }
    }
}
