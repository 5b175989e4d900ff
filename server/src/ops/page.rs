//! The status page: one self-contained HTML document, useful without scripts too.

use std::{fmt::Write as _, time::Duration};

use bytesize::ByteSize;

use super::{
    Board,
    board::{HISTORY, Sample},
    health::Readiness,
    metrics::{METERS, REJECTIONS, resident_bytes},
};

const STYLE: &str = include_str!("page/style.css");
const SCRIPT: &str = include_str!("page/refresh.js");

/// Samples that "now" is the mean of.
const NOW: usize = 5;

/// Units of the drawing; the page stretches it to its own width.
const WIDTH: f64 = 900.0;
const HEIGHT: f64 = 180.0;

pub(super) fn render(board: &Board) -> String {
    let facts = board.facts();
    let (class, state, reason) = match board.readiness() {
        Readiness::Ready => ("ready", "ready", String::new()),
        Readiness::Starting => ("wait", "starting", String::new()),
        Readiness::Draining => ("wait", "draining", String::new()),
        Readiness::StoreDown(reason) => {
            ("down", "store down", format!("<section class=\"down\">{}</section>", escaped(&reason)))
        }
    };
    let samples = board.samples();
    let version = env!("CARGO_PKG_VERSION");
    let uptime = spoken(facts.started.elapsed());
    let store = &facts.store;
    let (profile, place) = (store.profile, escaped(&store.place));
    let grpc = facts.grpc;
    let throughput = throughput(&samples);
    let figures = figures(&samples, facts.buffer);
    let refused = refused();
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>Herdstream: {state}</title><link rel=\"icon\" href=\"data:,\">\
         <noscript><meta http-equiv=\"refresh\" content=\"2\"></noscript><style>{STYLE}</style></head><body><main>\n\
         <header><h1>Herdstream</h1><span class=\"state {class}\">{state}</span>\
         <span class=\"soft\">{version}, up {uptime}</span></header>\n{reason}{throughput}{figures}{refused}\
         <section><h2>Here</h2><dl><div><dt>gRPC</dt><dd><code>{grpc}</code></dd></div>\
         <div><dt>Store</dt><dd>{profile} <small><code>{place}</code></small></dd></div></dl></section>\n\
         </main><footer class=\"soft\"><a href=\"/metrics\">metrics</a><a href=\"/readyz\">readiness</a>\
         <a href=\"/healthz\">liveness</a></footer><script>{SCRIPT}</script></body></html>\n"
    )
}

fn throughput(samples: &[Sample]) -> String {
    let now = mean(samples.iter().rev().take(NOW).map(|sample| sample.readings));
    let peak = samples.iter().map(|sample| sample.readings).fold(0.0, f64::max);
    let minutes = HISTORY / 60;
    format!(
        "<section><h2>Readings stored a second</h2><p class=\"rate\">{}</p>\
         <svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"Readings stored a second in the last {minutes} minutes, at most {}\">{}\
         <path class=\"axis\" d=\"M0 {HEIGHT}H{WIDTH}\"/></svg>\
         <p class=\"soft ends\"><span>{minutes} minutes ago</span><span>peak {}</span><span>now</span></p></section>\n",
        grouped(now as u64),
        grouped(peak as u64),
        curve(samples, peak),
        grouped(peak as u64),
    )
}

/// The samples from right to left, the newest at the right edge, scaled to the peak.
fn curve(samples: &[Sample], peak: f64) -> String {
    let step = WIDTH / (HISTORY - 1) as f64;
    let left = WIDTH - step * (samples.len().saturating_sub(1)) as f64;
    let mut line = String::new();
    for (index, sample) in samples.iter().enumerate() {
        let x = left + step * index as f64;
        let y = HEIGHT - (HEIGHT - 4.0) * sample.readings / peak.max(1.0);
        // Writing to a String cannot fail.
        let _ = write!(line, "{}{x:.1} {y:.1}", if index == 0 { 'M' } else { 'L' });
    }
    if line.is_empty() {
        return line;
    }
    format!(
        "<path class=\"area\" d=\"{line}L{WIDTH} {HEIGHT}L{left:.1} {HEIGHT}Z\"/><path class=\"curve\" d=\"{line}\"/>"
    )
}

fn figures(samples: &[Sample], buffer: u64) -> String {
    let commits =
        samples.iter().rev().take(NOW).map(|sample| sample.commit).filter(|commit| !commit.is_zero());
    let commit = mean(commits.map(|commit| commit.as_secs_f64() * 1e3));
    let quarantined: u64 = METERS.quarantined.iter().map(super::metrics::Total::get).sum();
    let bytes = |bytes: u64| ByteSize::b(bytes).display().iec().to_string();
    let count = |value: i64| grouped(u64::try_from(value).unwrap_or(0));
    let rows = [
        ("Stored", grouped(METERS.stored.get()), String::new()),
        ("Came again, dropped", grouped(METERS.duplicate.get()), String::new()),
        ("In quarantine", grouped(quarantined), String::new()),
        ("Given up by clients", grouped(METERS.skipped.get()), String::new()),
        ("Streams open", count(METERS.streams.get()), String::new()),
        ("Sessions opened", grouped(METERS.opened.get()), format!("{} fenced", grouped(METERS.fenced.get()))),
        ("Waiting for a commit", count(METERS.pending.get()), {
            let held = u64::try_from(METERS.buffer_bytes.get()).unwrap_or(0);
            format!("{} of {}", bytes(held), bytes(buffer))
        }),
        ("Commit", if commit > 0.0 { format!("{commit:.1} ms") } else { "idle".to_owned() }, {
            format!("{} so far", grouped(METERS.commits.get().0))
        }),
        ("Memory", resident_bytes().map_or_else(|| "unknown".to_owned(), bytes), String::new()),
        ("Disk free", bytes(u64::try_from(METERS.disk_free.get()).unwrap_or(0)), String::new()),
    ];
    let mut list = String::from("<section><dl>");
    for (name, value, more) in rows {
        let _ = write!(list, "<div><dt>{name}</dt><dd>{value} <small>{more}</small></dd></div>");
    }
    list + "</dl></section>\n"
}

fn refused() -> String {
    let counts = REJECTIONS.iter().zip(&METERS.quarantined).map(|(code, total)| (code, total.get()));
    let mut rows = String::new();
    for (code, count) in counts.filter(|(_, count)| *count > 0) {
        let _ = write!(rows, "<tr><td><code>{code}</code></td><td>{}</td></tr>", grouped(count));
    }
    if rows.is_empty() {
        rows.push_str("<tr><td class=\"soft\">Nothing since the start.</td></tr>");
    }
    format!("<section><h2>Readings refused, by reason</h2><table>{rows}</table></section>\n")
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (count, sum) = values.fold((0_u32, 0.0), |(count, sum), value| (count + 1, sum + value));
    sum / f64::from(count.max(1))
}

/// Digits in groups of three.
fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut out = String::with_capacity(digits.len() * 2);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            out.push('\u{202f}');
        }
        out.push(digit);
    }
    out
}

/// The two largest units: "3 days 4 h", "2 min 5 s".
fn spoken(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, _) => format!("{hours} h {minutes} min"),
        (1, _, _) => format!("1 day {hours} h"),
        _ => format!("{days} days {hours} h"),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_easy_to_read() {
        assert_eq!(grouped(0), "0");
        assert_eq!(grouped(999), "999");
        assert_eq!(grouped(1_234_567), "1\u{202f}234\u{202f}567");
        assert_eq!(spoken(Duration::from_secs(59)), "59 s");
        assert_eq!(spoken(Duration::from_secs(125)), "2 min 5 s");
        assert_eq!(spoken(Duration::from_mins(121)), "2 h 1 min");
        assert_eq!(spoken(Duration::from_hours(25)), "1 day 1 h");
        assert_eq!(spoken(Duration::from_hours(76)), "3 days 4 h");
    }

    #[test]
    fn texts_cannot_become_markup() {
        assert_eq!(escaped("<a href=\"x\">&"), "&lt;a href=&quot;x&quot;&gt;&amp;");
    }

    #[test]
    fn the_newest_sample_stands_at_the_right_edge_and_the_peak_at_the_top() {
        let samples = [0.0, 100.0, 50.0].map(|readings| Sample { readings, commit: Duration::ZERO });
        let drawn = curve(&samples, 100.0);
        assert!(drawn.contains("L900.0 92.0\"/>"), "{drawn}");
        assert!(drawn.contains("L897.0 4.0"), "{drawn}");
        assert_eq!(curve(&[], 0.0), "");
    }
}
