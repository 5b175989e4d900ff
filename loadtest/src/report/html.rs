//! The report as one page that needs nothing else.

use std::fmt::Write as _;

use anyhow::Result;

use super::{Report, grouped, limit_of, plot};
use crate::{oracle::Balance, workload::Percentiles};

pub(super) const STYLE: &str = include_str!("page.css");

/// One self-contained page: verdict, figures, plots, configuration.
///
/// # Errors
///
/// A plot cannot be drawn.
pub fn html(report: &Report) -> Result<String> {
    let mut page = String::with_capacity(64 << 10);
    let (word, class) = if report.passed { ("passed", "good") } else { ("failed", "bad") };
    write!(
        page,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <title>Herdstream load test, {started}</title>\n<style>{STYLE}</style>\n<main>\n\
         <header><h1>Herdstream load test</h1><span class=\"verdict {class}\">{word}</span></header>\n\
         <p class=\"sub\">{started} · {target} · run {run}</p>\n",
        started = escaped(&report.config.started),
        target = escaped(&report.config.target),
        run = escaped(&report.config.run),
    )?;

    page += "<section class=\"cards\">\n";
    card(&mut page, &grouped(report.readings_per_second), "durable readings a second", &limit(report))?;
    card(&mut page, &ms(report.ack_ms.p99), "ack latency, 99th percentile", &rest(&report.ack_ms))?;
    card(&mut page, &ms(report.lone_ack_ms.p99), "ack of a reading sent alone", &rest(&report.lone_ack_ms))?;
    if let Some(mib) = report.server_peak_rss_mib {
        let note = report.server_peak_rss_with_read_back_mib;
        let note = note.map(|mib| format!("{mib:.0} MiB while all was read back")).unwrap_or_default();
        card(&mut page, &format!("{mib:.0} MiB"), "peak memory of the server", &note)?;
    }
    page += "</section>\n";

    oracle(&mut page, report.oracle.as_ref())?;
    if !report.troubles.is_empty() {
        page += "<section class=\"trouble\"><h2>Troubles</h2><ul>";
        for trouble in &report.troubles {
            write!(page, "<li>{}</li>", escaped(trouble))?;
        }
        page += "</ul></section>\n";
    }

    write!(
        page,
        "<section><h2>Throughput</h2><p class=\"sub\">Durable readings and milkings a second</p>{}</section>\n\
         <section><h2>Latency</h2><p class=\"sub\">From intended send time to durable ack, each second: \
         <b class=\"c1\">median</b>, <b class=\"c2\">99th percentile</b>, <b class=\"c3\">slowest</b>; \
         logarithmic</p>{}</section>\n",
        plot::throughput(&report.timeline)?,
        plot::latency(&report.timeline)?,
    )?;
    tables(&mut page, report)?;
    page += "</main>\n</html>\n";
    Ok(page)
}

pub(super) fn card(page: &mut String, figure: &str, name: &str, note: &str) -> Result<()> {
    Ok(writeln!(
        page,
        "<div class=\"card\"><strong>{}</strong><span>{}</span><small>{}</small></div>",
        escaped(figure),
        escaped(name),
        escaped(note)
    )?)
}

fn limit(report: &Report) -> String {
    match (report.limit_readings_per_second, report.ratio) {
        (Some(limit), Some(ratio)) => format!("{ratio:.2} of the limit below the server, {}", grouped(limit)),
        _ => String::new(),
    }
}

fn rest(p: &Percentiles) -> String {
    format!("median {}, 99.9th {}, slowest {}", ms(p.p50), ms(p.p999), ms(p.max))
}

fn oracle(page: &mut String, balance: Option<&Balance>) -> Result<()> {
    let Some(balance) = balance else {
        *page += "<section class=\"balance\"><h2>Oracle</h2><p>Not asked: nothing is known about lost or doubled \
                  readings.</p></section>\n";
        return Ok(());
    };
    let (word, class) = if balance.balanced { ("balanced", "good") } else { ("not balanced", "bad") };
    write!(
        page,
        "<section class=\"balance\"><h2>Oracle <span class=\"verdict {class}\">{word}</span></h2>\
         <p class=\"sub\">Everything the SDK took, each reading with exactly one fate, proved by reading all rows \
         back: count and checksum of every series</p>\n<table><tr><th>sent"
    )?;
    let given_up = balance.gone.named().into_iter().filter(|(_, count)| *count > 0);
    let fates =
        [("stored", balance.stored), ("quarantined", balance.quarantined)].into_iter().chain(given_up);
    for (n, (name, _)) in fates.clone().enumerate() {
        write!(page, "<th class=\"op\">{}<th>{name}", if n == 0 { "=" } else { "+" })?;
    }
    write!(page, "<th class=\"op\"><th>sent more than once\n<tr><td>{}", grouped(balance.sent as f64))?;
    for (_, count) in fates {
        write!(page, "<td><td>{}", grouped(count as f64))?;
    }
    write!(page, "<td><td>{}</table>", grouped(balance.duplicate as f64))?;
    if !balance.differences.is_empty() {
        *page += "<ul>";
        for difference in &balance.differences {
            write!(page, "<li>{}</li>", escaped(&difference.to_string()))?;
        }
        *page += "</ul>";
    }
    *page += "</section>\n";
    Ok(())
}

fn tables(page: &mut String, report: &Report) -> Result<()> {
    *page += "<section class=\"tables\">\n<div><h2>Figures</h2><table class=\"list\">";
    let mut figures = vec![
        ("load lasted".to_owned(), format!("{:.1} s", report.seconds)),
        ("bytes a reading on the wire".into(), format!("{:.1}", report.bytes_per_item)),
        ("readings a batch".into(), format!("{:.0}", report.items_per_batch)),
        ("reconnects".into(), report.disconnects.to_string()),
    ];
    if let Some(rate) = report.read_back_rows_per_second {
        figures.push(("rows read back a second".into(), grouped(rate)));
    }
    for run in &report.limit {
        figures.push((
            format!("{}, {} a commit", limit_of(run), grouped(run.group as f64)),
            format!(
                "{} readings/s, commit p50 {}, p99 {}",
                grouped(run.readings_per_second),
                ms(run.commit_ms_p50),
                ms(run.commit_ms_p99)
            ),
        ));
    }
    for bound in &report.bounds {
        let value = bound.value.map_or("not measured".into(), |value| format!("{value:.2}"));
        let verdict = if bound.kept { "kept" } else { "missed" };
        figures.push((format!("bound {} {}", bound.name, bound.bound), format!("{value}, {verdict}")));
    }
    rows(page, &figures)?;
    *page += "</table></div>\n<div><h2>Configuration</h2><table class=\"list\">";
    let config = &report.config;
    let machine = &report.machine;
    rows(
        page,
        &[
            ("command".into(), config.command.clone()),
            ("producers".into(), format!("{} of {} series", config.producers, config.series)),
            ("batch".into(), format!("{} readings", config.batch)),
            (
                "pace".into(),
                match (config.rate, config.window) {
                    (Some(rate), _) => format!("open loop, {} readings/s", grouped(rate)),
                    (None, window) => {
                        format!("closed loop, {} batches under way each", window.unwrap_or_default())
                    }
                },
            ),
            ("spool".into(), if config.spool { "on disk" } else { "none" }.into()),
            ("broken readings".into(), format!("{} in a million", config.bad_per_million)),
            ("seed".into(), config.seed.to_string()),
            ("machine".into(), machine.described()),
            ("version".into(), machine.version.clone()),
        ],
    )?;
    *page += "</table></div>\n</section>\n";
    Ok(())
}

pub(super) fn rows(page: &mut String, rows: &[(String, String)]) -> Result<()> {
    for (name, value) in rows {
        write!(page, "<tr><th>{}<td>{}", escaped(name), escaped(value))?;
    }
    Ok(())
}

pub(super) fn ms(ms: f64) -> String {
    match ms {
        ms if ms < 10.0 => format!("{ms:.2} ms"),
        ms if ms < 100.0 => format!("{ms:.1} ms"),
        ms => format!("{ms:.0} ms"),
    }
}

pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
