use std::{
    io::IsTerminal as _,
    path::Path,
    time::{Duration, Instant},
};

use indicatif::{HumanCount, ProgressBar, ProgressStyle};

use super::source::Source;

/// Between two lines where there is no terminal.
const LINE: Duration = Duration::from_secs(5);

/// How far it is: a bar on a terminal, a line now and then elsewhere.
pub(super) struct Progress {
    pub(super) bar: Option<ProgressBar>,
    began: Instant,
    told: Instant,
    name: String,
    size: u64,
}

impl Progress {
    pub(super) fn new(source: &Source, file: &Path) -> Self {
        let name = file.display().to_string();
        let bar = std::io::stderr().is_terminal().then(|| {
            let unit =
                if source.is_csv { "{bytes} of {total_bytes}" } else { "{human_pos} of {human_len} rows" };
            let template = format!("{{msg}} {{bar:30}} {unit}, {{eta}} left");
            let style =
                ProgressStyle::with_template(&template).unwrap_or_else(|_| ProgressStyle::default_bar());
            ProgressBar::new(source.size).with_style(style).with_message(name.clone())
        });
        Self { bar, began: Instant::now(), told: Instant::now(), name, size: source.size }
    }

    pub(super) fn at(&mut self, position: u64, rows: u64) {
        if let Some(bar) = &self.bar {
            bar.set_position(position);
        } else if self.told.elapsed() >= LINE {
            self.told = Instant::now();
            let percent = 100 * position / self.size.max(1);
            tell!("{}: {percent} %, {} rows", self.name, HumanCount(rows));
        }
    }

    pub(super) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => tell!("{}: {text}", self.name),
        }
    }

    pub(super) fn end(&self) -> Duration {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
        self.began.elapsed()
    }
}
