//! Where the server's binary is.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};

/// Name of the server's binary.
const BINARY: &str = "herdstream";
/// Variable that names the server's binary.
pub const BINARY_VARIABLE: &str = "HERDSTREAM_SERVER_BIN";

/// Finds the server's binary: the one that is named, or the one beside the running program.
///
/// # Errors
///
/// There is none: says what to type.
pub fn find_binary(named: Option<&Path>) -> Result<PathBuf> {
    if let Some(named) = named {
        ensure!(named.is_file(), "no server binary at {}: check the path", named.display());
        return fs::canonicalize(named).with_context(|| format!("resolving {}", named.display()));
    }
    let beside = profile_dir()?.join(BINARY);
    if beside.is_file() {
        return Ok(beside);
    }
    let release = if cfg!(debug_assertions) { "" } else { " --release" };
    Err(anyhow::anyhow!(
        "no server binary at {}: build it with `cargo build{release} -p herdstream`, or name one with \
         --server-bin or {BINARY_VARIABLE}",
        beside.display()
    ))
}

/// Has `cargo` build the server beside the running program, if it is not up to date. Same profile and, as
/// far as can be told, same features as this program, so that only the server itself is left to compile.
///
/// # Errors
///
/// The program is in no target directory, or the server does not compile.
pub fn build_binary(cargo: &Path) -> Result<PathBuf> {
    let profile_dir = profile_dir()?;
    let profile = match profile_dir.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let target_dir =
        profile_dir.parent().with_context(|| format!("{} is in no directory", profile_dir.display()))?;
    let status = Command::new(cargo)
        .args(["build", "--quiet", "--bins", "-p", "herdstream", "-p", "herdstream-loadtest"])
        .args(["--profile", profile, "--target-dir"])
        .arg(target_dir)
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("starting {}", cargo.display()))?;
    ensure!(status.success(), "the server cannot be built: see above");
    find_binary(None)
}

/// The server's binary for a test: named by the environment, lying beside the test, or built now.
///
/// # Errors
///
/// It is not at the place that is named, or cannot be built.
pub fn test_binary() -> Result<PathBuf> {
    if let Some(named) = env::var_os(BINARY_VARIABLE) {
        return find_binary(Some(Path::new(&named)));
    }
    find_binary(None)
        .or_else(|_| build_binary(Path::new(&env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))))
}

/// Directory of the binaries that were built with the running program.
fn profile_dir() -> Result<PathBuf> {
    let own = env::current_exe().context("looking for the own binary")?;
    let dir = own.parent().context("the own binary has no directory")?;
    // Tests and examples lie one directory deeper.
    let deeper = dir.ends_with("deps") || dir.ends_with("examples");
    Ok(dir.parent().filter(|_| deeper).unwrap_or(dir).to_owned())
}
