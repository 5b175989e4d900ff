//! The report for a terminal.

use std::fmt::Write as _;

use super::{LimitRun, Report, Way, grouped};
use crate::workload::Percentiles;

/// Width of the column of names.
pub(super) const NAMES: usize = 14;

/// Readable, aligned lines.
pub fn text(report: &Report) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: String| {
        writeln!(text, "  {name:NAMES$}{value}").expect("writing to a string");
    };
    let config = &report.config;
    let pace = match (config.rate, config.window) {
        (Some(rate), _) => format!("open loop, {} readings/s", grouped(rate)),
        (None, window) => format!("closed loop, {} batches under way each", window.unwrap_or_default()),
    };
    line(
        "load",
        format!(
            "{} producers × {} series, batches of {}, {pace}, {:.0} s{}",
            config.producers,
            config.series,
            config.batch,
            report.seconds,
            if config.spool { ", with disk spools" } else { "" }
        ),
    );
    line("target", format!("{}, run {}, seed {}", config.target, config.run, config.seed));
    line("machine", report.machine.described());
    line("throughput", format!("{} durable readings/s", grouped(report.readings_per_second)));
    if let (Some(limit), Some(ratio)) = (report.limit_readings_per_second, report.ratio) {
        let best = report.limit.iter().max_by(|a, b| a.readings_per_second.total_cmp(&b.readings_per_second));
        let group = best.map_or(0, |best| best.group);
        let what = best.map_or_else(String::new, limit_of);
        line("limit", format!("{} readings/s, {what}, {} a commit", grouped(limit), grouped(group as f64)));
        line("ratio", format!("{ratio:.2} of the limit"));
    }
    line("ack", latencies(&report.ack_ms));
    line("lone ack", latencies(&report.lone_ack_ms));
    if let Some(mib) = report.server_peak_rss_mib {
        let read_back = report.server_peak_rss_with_read_back_mib;
        let read_back =
            read_back.map(|mib| format!(", {mib:.0} MiB reading it all back")).unwrap_or_default();
        line("server memory", format!("{mib:.0} MiB at its peak under load{read_back}"));
    }
    line(
        "wire",
        format!(
            "{:.1} bytes a reading, {:.0} readings a batch, {} reconnects",
            report.bytes_per_item, report.items_per_batch, report.disconnects
        ),
    );
    oracle(report, &mut line);
    for trouble in &report.troubles {
        line("trouble", trouble.clone());
    }
    for bound in &report.bounds {
        let value = bound.value.map_or("not measured".into(), |value| format!("{value:.2}"));
        let verdict = if bound.kept { "kept" } else { "MISSED" };
        line("bound", format!("{} {}: {value}, {verdict}", bound.name, bound.bound));
    }
    line("verdict", if report.passed { "passed".into() } else { "FAILED".to_owned() });
    text
}

/// What a limit was measured with, in words.
pub fn limit_of(run: &LimitRun) -> String {
    match run.way {
        Way::Store => "the store alone".into(),
        Way::Copy => format!("sorted COPY BINARY over {} connections", run.connections),
        Way::Psql => format!("the same rows by psql over {} connections", run.connections),
    }
}

fn oracle(report: &Report, line: &mut impl FnMut(&str, String)) {
    let Some(oracle) = &report.oracle else {
        return line("oracle", "not asked: nothing is known about lost or doubled readings".into());
    };
    let word = if oracle.balanced { "balanced" } else { "NOT BALANCED" };
    let mut sum = format!(
        "{word}: sent {} = stored {} + quarantined {}",
        grouped(oracle.sent as f64),
        grouped(oracle.stored as f64),
        grouped(oracle.quarantined as f64)
    );
    for (name, count) in oracle.gone.named().into_iter().filter(|(_, count)| *count > 0) {
        write!(sum, " + {name} {}", grouped(count as f64)).expect("writing to a string");
    }
    line("oracle", sum);
    let read_back = grouped(report.read_back_rows_per_second.unwrap_or_default());
    line(
        "",
        format!("{} sent more than once; {read_back} rows/s read back", grouped(oracle.duplicate as f64)),
    );
    for difference in &oracle.differences {
        line("  differs", difference.to_string());
    }
}

fn latencies(ms: &Percentiles) -> String {
    if ms.samples == 0 {
        return "none measured".into();
    }
    format!(
        "p50 {} ms   p99 {} ms   p99.9 {} ms   max {} ms   ({} measured)",
        short(ms.p50),
        short(ms.p99),
        short(ms.p999),
        short(ms.max),
        grouped(ms.samples as f64)
    )
}

/// Three digits at most.
pub(super) fn short(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2}"),
        ms if ms < 100.0 => format!("{ms:.1}"),
        ms => format!("{ms:.0}"),
    }
}
