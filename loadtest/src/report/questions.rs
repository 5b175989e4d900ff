//! What `query` showed: how long answers took, whether they were fresh, whether they were true.

use std::fmt::Write as _;

use anyhow::Result;
use serde::Serialize;

use super::{
    Bound, Machine, grouped,
    html::{STYLE, card, escaped, ms, rows},
    text::{NAMES, short},
};
use crate::{answers::check::Checked, fresh::Fresh, questions::Figure, workload::Percentiles};

/// How late questions of an open loop may leave, 99th percentile, where their figures are judged.
const MOST_LATE_MS: f64 = 10.0;

/// Result of a run of questions. Serialised, it is what `--json` writes.
#[derive(Clone, Debug, Serialize)]
pub struct QuestionReport {
    /// How long each kind of answer took.
    pub questions: Vec<Figure>,
    /// How late questions of an open loop left; not part of these figures. None: closed loop.
    pub late_ms: Option<Percentiles>,
    /// Readings a second that arrived meanwhile.
    pub arrived_per_second: u64,
    /// Whether what was acknowledged was in every answer at once. None: not asked.
    pub fresh: Option<Fresh>,
    /// Whether answers equal a plain computation. None: not asked.
    pub oracle: Option<Checked>,
    /// How the history was written. None: it was there.
    pub history: Option<Written>,
    /// Buckets that the refresh after it computed. None: not asked, of a server of somebody else.
    pub refreshed_buckets: Option<u64>,
    /// What went wrong without ending the run.
    pub troubles: Vec<String>,
    /// Bounds that were asked for.
    pub bounds: Vec<Bound>,
    /// Whether all answers were fresh and true, no bound was missed and nothing went wrong.
    pub passed: bool,
    /// What was run.
    pub config: QuestionSettings,
    /// On what.
    pub machine: Machine,
}

/// A history that was written.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Written {
    /// Readings and milkings.
    pub items: u64,
    /// How long it took.
    pub seconds: f64,
}

/// What was run.
#[derive(Clone, Debug, Serialize)]
pub struct QuestionSettings {
    /// Command line.
    pub command: String,
    /// When, UTC.
    pub started: String,
    /// `embedded` or the endpoint.
    pub target: String,
    /// Repeats the same questions.
    pub seed: u64,
    /// Devices.
    pub devices: usize,
    /// Farms.
    pub farms: i32,
    /// Days of the history.
    pub days: i64,
    /// Readings a second that ought to arrive.
    pub rate: u64,
    /// Questions a second of the schedule; none: closed loop.
    pub question_rate: Option<f64>,
    /// Questions at once; none: open loop.
    pub askers: Option<usize>,
    /// How long was asked.
    pub seconds: u64,
}

impl QuestionReport {
    /// Decides whether the run passed, from all that is in it.
    pub fn judge(&mut self) {
        self.passed = self.fresh.as_ref().is_none_or(|fresh| fresh.misses == 0 && fresh.missed.is_empty())
            && self.oracle.as_ref().is_none_or(|oracle| oracle.differences.is_empty())
            && self.bounds.iter().all(|bound| bound.kept)
            && self.troubles.is_empty();
    }

    /// Judges figures by a bound, milliseconds: only questions that left in time can tell.
    pub fn bind(&mut self, max_p99_ms: f64) {
        let late =
            self.late_ms.map(|late_ms| Bound::at_most("asked late, p99 ms", MOST_LATE_MS, Some(late_ms.p99)));
        let slowest = Bound::at_most("--max-p99-ms", max_p99_ms, self.worst_p99_ms());
        self.bounds = [Some(slowest), late].into_iter().flatten().collect();
    }

    /// The 99th percentile of the kind that took longest, milliseconds. None: nothing was answered.
    fn worst_p99_ms(&self) -> Option<f64> {
        self.questions.iter().map(|figure| figure.answer_ms.p99).max_by(f64::total_cmp)
    }

    /// Readable, aligned lines.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let mut line = |name: &str, value: String| {
            writeln!(text, "  {name:NAMES$}{value}").expect("writing to a string");
        };
        line("asked", self.asked());
        line("target", format!("{}, seed {}", self.config.target, self.config.seed));
        line("machine", self.machine.described());
        if let Some(Written { items, seconds }) = self.history {
            let rate = grouped(items as f64 / seconds.max(1e-3));
            let items = grouped(items as f64);
            line("history", format!("{items} readings and milkings in {seconds:.1} s ({rate}/s)"));
        }
        if let Some(buckets) = self.refreshed_buckets {
            line("refresh", format!("{} buckets", grouped(buckets as f64)));
        }
        for figure in &self.questions {
            let p = &figure.answer_ms;
            let (p50, p99, max) = (short(p.p50), short(p.p99), short(p.max));
            let name = figure.name;
            line(
                "",
                format!("{name:<30} p50 {p50:>6} ms   p99 {p99:>6} ms   max {max:>6} ms   ({})", p.samples),
            );
        }
        if let Some(lateness) = self.lateness() {
            line("asked late", lateness);
        }
        line("fresh", self.freshness());
        line("oracle", self.truth());
        let missed = self.fresh.iter().flat_map(|fresh| &fresh.missed);
        for difference in missed.chain(self.oracle.iter().flat_map(|oracle| &oracle.differences)) {
            line("  differs", difference.clone());
        }
        for trouble in &self.troubles {
            line("trouble", trouble.clone());
        }
        for bound in &self.bounds {
            let value = bound.value.map_or("not measured".into(), |value| format!("{value:.2}"));
            let verdict = if bound.kept { "kept" } else { "MISSED" };
            line("bound", format!("{} {}: {value}, {verdict}", bound.name, bound.bound));
        }
        line("verdict", if self.passed { "passed".into() } else { "FAILED".to_owned() });
        text
    }

    /// One self-contained page.
    ///
    /// # Errors
    ///
    /// None that is known: a page is a text.
    pub fn html(&self) -> Result<String> {
        let (word, class) = if self.passed { ("passed", "good") } else { ("failed", "bad") };
        let mut page = String::new();
        write!(
            page,
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta name=\"color-scheme\" content=\"light dark\">\n\
             <title>Herdstream questions, {started}</title>\n<style>{STYLE}</style>\n<main>\n\
             <header><h1>Herdstream questions</h1><span class=\"verdict {class}\">{word}</span></header>\n\
             <p class=\"sub\">{started} · {target}</p>\n<section class=\"cards\">\n",
            started = escaped(&self.config.started),
            target = escaped(&self.config.target),
        )?;
        if let Some(p99) = self.worst_p99_ms() {
            card(&mut page, &ms(p99), "slowest kind of answer, 99th percentile", &self.asked())?;
        }
        if let Some(fresh) = &self.fresh {
            let (name, note) = ("from an ack to any answer that holds it, 99th percentile", self.freshness());
            card(&mut page, &ms(fresh.seen_ms.p99), name, &note)?;
        }
        page += "</section>\n<section class=\"tables\">\n";
        let figures = |list: &[(&str, Percentiles)]| {
            let of = |p: &Percentiles| {
                format!("median {}, 99th {}, slowest {} ({})", ms(p.p50), ms(p.p99), ms(p.max), p.samples)
            };
            list.iter().map(|(name, p)| ((*name).to_owned(), of(p))).collect::<Vec<_>>()
        };
        let answers: Vec<_> = self.questions.iter().map(|figure| (figure.name, figure.answer_ms)).collect();
        let seen = self.fresh.iter().flat_map(|fresh| &fresh.kinds);
        let seen: Vec<_> = seen.map(|seen| (seen.name, seen.seen_ms)).collect();
        let mut others = vec![
            ("command".to_owned(), self.config.command.clone()),
            ("fresh".to_owned(), self.freshness()),
            ("oracle".to_owned(), self.truth()),
            ("machine".to_owned(), self.machine.described()),
        ];
        others.extend(self.lateness().map(|lateness| ("asked late".to_owned(), lateness)));
        let missed = self.fresh.iter().flat_map(|fresh| &fresh.missed);
        let differences = missed.chain(self.oracle.iter().flat_map(|oracle| &oracle.differences));
        others.extend(differences.map(|difference| ("differs".to_owned(), difference.clone())));
        others.extend(self.troubles.iter().map(|trouble| ("trouble".to_owned(), trouble.clone())));
        for (title, table) in
            [("Answers", figures(&answers)), ("From ack to answer", figures(&seen)), ("Run", others)]
        {
            write!(page, "<div><h2>{title}</h2><table class=\"list\">")?;
            rows(&mut page, &table)?;
            page += "</table></div>\n";
        }
        page += "</section>\n</main>\n</html>\n";
        Ok(page)
    }

    fn asked(&self) -> String {
        let config = &self.config;
        let pace = match (config.question_rate, config.askers) {
            (Some(rate), _) => format!("open loop, {rate} questions/s"),
            (None, askers) => format!("closed loop, {} askers", askers.unwrap_or_default()),
        };
        format!(
            "{pace}, {} s; {} devices, {} farms, {} days; {} readings/s arrived",
            config.seconds,
            config.devices,
            config.farms,
            config.days,
            grouped(self.arrived_per_second as f64)
        )
    }

    fn freshness(&self) -> String {
        let Some(fresh) = &self.fresh else {
            return "not asked: nothing is known about how soon answers hold what was acknowledged".into();
        };
        let word = if fresh.misses == 0 { "all at once" } else { "NOT AT ONCE" };
        format!(
            "{word}: {} readings in {} answers, {} missed; ack to answer {}",
            fresh.readings,
            fresh.answers,
            fresh.misses,
            spread(&fresh.seen_ms)
        )
    }

    fn lateness(&self) -> Option<String> {
        let late = spread(self.late_ms.as_ref()?);
        Some(format!("{late} before a question left, not in the figures of answers"))
    }

    fn truth(&self) -> String {
        let Some(oracle) = &self.oracle else {
            return "not asked: nothing is known about whether answers are true".into();
        };
        match oracle.differences.len() {
            0 => format!("equal to a plain computation: {}", oracle.told()),
            wrong => format!("NOT EQUAL to a plain computation: {wrong} answers; equal: {}", oracle.told()),
        }
    }
}

fn spread(p: &Percentiles) -> String {
    format!("p50 {} ms, p99 {} ms, max {} ms", short(p.p50), short(p.p99), short(p.max))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fresh::Seen;

    fn report() -> QuestionReport {
        let answer_ms = Percentiles { p50: 1.5, p99: 12.5, samples: 100, ..Percentiles::default() };
        let mut report = QuestionReport {
            questions: vec![Figure { name: "latest of a device", answer_ms }],
            late_ms: Some(Percentiles { p50: 0.25, p99: 9.5, ..answer_ms }),
            arrived_per_second: 20_000,
            fresh: Some(Fresh {
                readings: 3,
                answers: 51,
                kinds: vec![Seen { name: "first live value", seen_ms: answer_ms }],
                ..Fresh::default()
            }),
            oracle: Some(Checked { devices: 20, latest: 55, ..Checked::default() }),
            history: Some(Written { items: 5_000_000, seconds: 20.0 }),
            refreshed_buckets: Some(10),
            troubles: Vec::new(),
            bounds: Vec::new(),
            passed: false,
            config: QuestionSettings {
                command: "herdstream-loadtest query --json <b>".into(),
                started: "2026-11-24T20:00:00Z".into(),
                target: "embedded".into(),
                seed: 7,
                devices: 1_000,
                farms: 10,
                days: 90,
                rate: 20_000,
                question_rate: Some(250.0),
                askers: None,
                seconds: 20,
            },
            machine: Machine::this(),
        };
        report.judge();
        report
    }

    #[test]
    fn only_fresh_and_true_answers_pass() {
        assert!(report().passed);
        let spoilt: [fn(&mut QuestionReport); 5] = [
            |report| {
                report.late_ms.as_mut().expect("one was set").p99 = 10.5;
                report.bind(12.5);
            },
            |report| report.fresh.as_mut().expect("one was set").misses = 1,
            |report| report.oracle.as_mut().expect("one was set").differences.push("hours: 3".into()),
            |report| report.bind(12.4),
            |report| report.troubles.push("the server ended".into()),
        ];
        for (n, spoil) in spoilt.into_iter().enumerate() {
            let mut report = report();
            report.bind(12.5);
            report.judge();
            assert!(report.passed);
            spoil(&mut report);
            report.judge();
            assert!(!report.passed && report.text().contains("FAILED"), "spoilt in way {n}");
        }
    }

    #[test]
    fn text_and_page_say_what_counts() -> Result<()> {
        let mut report = report();
        report.fresh.as_mut().expect("one was set").missed.push("farm summary: <i>".into());
        let text = report.text();
        for part in [
            "open loop, 250 questions/s",
            "p99   12.5 ms",
            "p50 0.25 ms",
            "3 readings in 51 answers",
            "55 latest",
            "<i>",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
        let page = report.html()?;
        for part in [
            "first live value",
            "before a question left, not",
            "&lt;b&gt;",
            "farm summary: &lt;i&gt;",
            "12.5 ms",
        ] {
            assert!(page.contains(part), "{part:?} is not in\n{page}");
        }
        assert!(!page.contains("<script") && !page.contains("src=") && !page.contains("http"));
        Ok(())
    }
}
