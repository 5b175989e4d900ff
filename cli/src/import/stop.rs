//! Ctrl-C while an import runs.

use std::{
    io::{self, Write as _},
    process,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use indicatif::{HumanCount, ProgressBar};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Exit code of an import that was stopped: as shells tell SIGINT.
const STOPPED: i32 = 130;

/// What is told of an import when it is stopped.
#[derive(Clone, Default)]
pub(super) struct Stop(Arc<Mutex<Option<Under>>>);

/// The file under way.
pub(super) struct Under {
    pub(super) name: String,
    /// Rows of it that are stored.
    pub(super) stored: u64,
    /// Rows of it, where they were counted.
    pub(super) rows: Option<u64>,
    pub(super) bar: Option<ProgressBar>,
}

impl Stop {
    /// Ends the process at Ctrl-C, whatever the import does: nothing of it has to be put in order.
    ///
    /// # Errors
    ///
    /// Signals cannot be heard.
    pub(super) fn on_ctrl_c(&self, stores: bool) -> io::Result<()> {
        let (stop, interrupt) = (self.clone(), signal(SignalKind::interrupt())?);
        tokio::spawn(stop.wait(interrupt, stores));
        Ok(())
    }

    async fn wait(self, mut interrupt: Signal, stores: bool) {
        interrupt.recv().await;
        // Held to the end: nothing more is stored meanwhile.
        let under = self.lock();
        if let Some(bar) = under.as_ref().and_then(|under| under.bar.as_ref()) {
            bar.finish_and_clear();
        }
        // Whoever closed the terminal does not read it.
        let _ = writeln!(io::stderr(), "herdstream: {}", tell(under.as_ref(), stores));
        process::exit(STOPPED);
    }

    /// A file begins.
    pub(super) fn begin(&self, under: Under) {
        *self.lock() = Some(under);
    }

    /// More of it is stored.
    pub(super) fn stored(&self, rows: u64) {
        if let Some(under) = &mut *self.lock() {
            under.stored += rows;
        }
    }

    /// It is over.
    pub(super) fn end(&self) {
        *self.lock() = None;
    }

    fn lock(&self) -> MutexGuard<'_, Option<Under>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(under: Option<&Under>, stores: bool) -> String {
    match under {
        _ if !stores => "stopped: nothing was stored, as --dry-run asks".to_owned(),
        None => "stopped: start it again to go on".to_owned(),
        Some(Under { name, stored, rows, .. }) => {
            let of = rows.map_or_else(String::new, |rows| format!(" of {}", HumanCount(rows)));
            format!("stopped: {}{of} rows of {name} are stored; start it again to go on", HumanCount(*stored))
        }
    }
}
