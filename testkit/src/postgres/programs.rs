//! Where PostgreSQL's programs are.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// The directory that holds `initdb`, `postgres` and `psql`.
#[derive(Clone, Debug)]
pub(crate) struct Programs(PathBuf);

impl Programs {
    /// The newest of those in the search path and those that Debian's packages install.
    pub(crate) fn find() -> Option<Self> {
        let path = env::var_os("PATH").unwrap_or_default();
        let mut places: Vec<_> = env::split_paths(&path).collect();
        let packaged = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
        places.extend(packaged.map(|version| version.path().join("bin")));
        let whole = places.into_iter().filter_map(|place| whole(&place));
        let newest = whole.filter_map(|place| Some((version(&place)?, place))).max();
        newest.map(|(_, place)| Self(place))
    }

    /// One of them, under its name.
    pub(crate) fn command(&self, name: &str) -> Command {
        let mut command = Command::new(self.0.join(name));
        // Nothing of the caller's, messages in English.
        for (variable, _) in env::vars_os() {
            if variable.to_str().is_some_and(|name| name.starts_with("PG")) {
                command.env_remove(variable);
            }
        }
        command.env("LC_ALL", "C").stdin(Stdio::null());
        command
    }

    /// Runs statements one by one on one connection, and stops at the first error.
    pub(crate) fn psql(&self, url: &str, statements: &[&str]) -> Command {
        let mut psql = self.command("psql");
        psql.args(["--no-psqlrc", "--no-password", "--quiet", "--tuples-only", "--no-align"])
            .args(["--set=ON_ERROR_STOP=1", "--dbname", url])
            .env("PGCONNECT_TIMEOUT", "10");
        for statement in statements {
            psql.args(["--command", statement]);
        }
        psql
    }

    /// Runs statements one by one on one connection; gives their rows.
    pub(crate) fn run(&self, url: &str, statements: &[&str]) -> Result<String> {
        let output = self.psql(url, statements).output().context("running psql")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {}", statements.join("; "), said.trim());
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }
}

/// The directory where the server's programs all are, links resolved.
fn whole(place: &Path) -> Option<PathBuf> {
    let place = fs::canonicalize(place.join("initdb")).ok()?.parent()?.to_owned();
    ["postgres", "psql"].iter().all(|name| place.join(name).is_file()).then_some(place)
}

/// As `postgres (PostgreSQL) 15.12 (…)` says it.
fn version(place: &Path) -> Option<(u32, u32)> {
    let output = Command::new(place.join("postgres")).arg("--version").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let mut parts = text.split_whitespace().nth(2)?.split('.');
    Some((parts.next()?.parse().ok()?, parts.next().and_then(|minor| minor.parse().ok()).unwrap_or(0)))
}
