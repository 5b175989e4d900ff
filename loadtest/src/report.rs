//! What a run showed: as text, as JSON, as a page with plots.

mod html;
mod plot;
mod questions;
mod text;

use serde::Serialize;

use crate::{
    oracle::Balance,
    workload::{Percentiles, Second},
};

pub use html::html;
pub use questions::{QuestionReport, QuestionSettings, Written};
pub use text::{limit_of, text};

/// Result of a run. Serialised, it is what `--json` writes.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Readings that became durable, a second, over the whole time of the load.
    pub readings_per_second: f64,
    /// Readings that what lies below the server makes durable, a second, at its best group size.
    pub limit_readings_per_second: Option<f64>,
    /// The first through the second.
    pub ratio: Option<f64>,
    /// From intended send time to durable ack, milliseconds.
    pub ack_ms: Percentiles,
    /// The same of readings sent alone, one at a time, under the same load.
    pub lone_ack_ms: Percentiles,
    /// The balance. None: not verified.
    pub oracle: Option<Balance>,
    /// Most memory the server had resident under load, MiB. None: not a child of the load tester.
    pub server_peak_rss_mib: Option<f64>,
    /// The same, reading everything back included.
    pub server_peak_rss_with_read_back_mib: Option<f64>,
    /// Rows read back a second.
    pub read_back_rows_per_second: Option<f64>,
    /// How long the load lasted.
    pub seconds: f64,
    /// Bytes on the wire for a reading or milking.
    pub bytes_per_item: f64,
    /// Items in a batch, on the mean.
    pub items_per_batch: f64,
    /// Sessions that ended before they should have.
    pub disconnects: u64,
    /// What went wrong without ending the run.
    pub troubles: Vec<String>,
    /// Bounds that were asked for.
    pub bounds: Vec<Bound>,
    /// Whether the oracle balanced, no bound was missed and nothing went wrong.
    pub passed: bool,
    /// What was run.
    pub config: Settings,
    /// On what.
    pub machine: Machine,
    /// Each group size that was tried on the store alone.
    pub limit: Vec<LimitRun>,
    /// Second by second.
    pub timeline: Vec<Second>,
}

/// What was run.
#[derive(Clone, Debug, Serialize)]
pub struct Settings {
    /// Command line.
    pub command: String,
    /// When, UTC.
    pub started: String,
    /// `embedded` or the endpoint.
    pub target: String,
    /// Repeats the same farms.
    pub seed: u64,
    /// Name of the run.
    pub run: String,
    /// Producers.
    pub producers: usize,
    /// Series of each.
    pub series: usize,
    /// Readings that fill a batch.
    pub batch: usize,
    /// Readings a second of the schedule; none: closed loop.
    pub rate: Option<f64>,
    /// Batches under way, each producer; none: open loop.
    pub window: Option<usize>,
    /// With a disk spool.
    pub spool: bool,
    /// Broken readings in a million.
    pub bad_per_million: u32,
}

/// Where it ran.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Cores that the load tester and the server share.
    pub cpus: usize,
    /// As the system names them.
    pub cpu_model: String,
    /// Load average of the last minute before the run: above 0, others used the cores too.
    pub load_before: Option<f64>,
    /// Operating system and architecture.
    pub system: String,
    /// Version of the load tester and the SDK in it.
    pub version: String,
    /// Whether it was built with optimisations.
    pub optimised: bool,
}

/// A figure that must not be missed.
#[derive(Clone, Debug, Serialize)]
pub struct Bound {
    /// Its name, as the flag that asked for it.
    pub name: String,
    /// What was asked for.
    pub bound: f64,
    /// What it was. None: not measured.
    pub value: Option<f64>,
    /// Whether it was kept.
    pub kept: bool,
}

/// What a limit was measured with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Way {
    /// The embedded store alone.
    Store,
    /// Sorted COPY into PostgreSQL, a transaction a group.
    Copy,
    /// The same rows by psql's `\copy`, a transaction a connection.
    Psql,
}

/// What lies below the server alone, at one group size.
#[derive(Clone, Debug, Serialize, serde::Deserialize)]
pub struct LimitRun {
    /// What it was measured with.
    pub way: Way,
    /// Connections or threads that write.
    pub connections: usize,
    /// Readings in a commit.
    pub group: usize,
    /// Readings made durable, a second.
    pub readings_per_second: f64,
    /// Commits.
    pub commits: u64,
    /// How long a commit took, milliseconds.
    pub commit_ms_p50: f64,
    /// How long a commit took, milliseconds.
    pub commit_ms_p99: f64,
}

impl Machine {
    /// The one this runs on; to be asked before the run.
    pub fn this() -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let info = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            cpus,
            load_before: load_average(),
            cpu_model: model.map_or("unknown", |(_, name)| name.trim()).to_owned(),
            system: format!("{} {}", std::env::consts::OS, std::env::consts::ARCH),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            optimised: !cfg!(debug_assertions),
        }
    }

    /// Whether others had so much to do just before that figures are too low.
    pub fn was_busy(&self) -> bool {
        self.load_before.is_some_and(|load| load > 0.5 * self.cpus as f64)
    }

    /// In a line, with what makes figures doubtful.
    fn described(&self) -> String {
        let busy = self.load_before.filter(|_| self.was_busy());
        let busy =
            busy.map(|load| format!("; load average {load:.1} before the run, so figures may be too low"));
        let slow = if self.optimised { "" } else { "; NOT OPTIMISED: figures mean nothing, use --release" };
        format!("{} cores ({}), {}{}{slow}", self.cpus, self.cpu_model, self.system, busy.unwrap_or_default())
    }
}

impl Bound {
    /// A figure that may be at most so large.
    pub fn at_most(name: &str, bound: f64, value: Option<f64>) -> Self {
        Self { name: name.into(), bound, value, kept: value.is_some_and(|value| value <= bound) }
    }

    /// A figure that must be at least so large.
    pub fn at_least(name: &str, bound: f64, value: Option<f64>) -> Self {
        Self { name: name.into(), bound, value, kept: value.is_some_and(|value| value >= bound) }
    }
}

impl Report {
    /// Decides whether the run passed, from all that is in it.
    pub fn judge(&mut self) {
        self.passed = self.oracle.as_ref().is_none_or(|oracle| oracle.balanced && oracle.gone.pending == 0)
            && self.bounds.iter().all(|bound| bound.kept)
            && self.troubles.is_empty();
    }
}

fn load_average() -> Option<f64> {
    std::fs::read_to_string("/proc/loadavg").ok()?.split_whitespace().next()?.parse().ok()
}

/// A number with its thousands set apart.
fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.abs());
    let mut text = String::new();
    for (n, digit) in digits.chars().enumerate() {
        if n > 0 && (digits.len() - n) % 3 == 0 {
            text.push(' ');
        }
        text.push(digit);
    }
    if number < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests;
