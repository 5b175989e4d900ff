//! Where results go: the terminal, and files.

use std::{env, fs, path::Path};

use anyhow::{Context as _, Result};
use serde::Serialize;

/// Flags whose values stay out of the report.
const SECRETS: [&str; 2] = ["--token", "--database"];

/// Shows a result, and writes the files that were asked for.
pub(crate) fn deliver(
    report: &impl Serialize,
    text: &str,
    page_of: impl FnOnce() -> Result<String>,
    json: Option<&Path>,
    page: Option<&Path>,
) -> Result<()> {
    if json == Some(Path::new("-")) {
        eprint!("{text}");
    } else {
        print!("{text}");
    }
    if let Some(file) = json {
        write(file, &serde_json::to_string_pretty(report)?)?;
    }
    if let Some(file) = page {
        write(file, &page_of()?)?;
    }
    Ok(())
}

/// Refuses a file that cannot be written before the run, not after it. Leaves it as it was.
pub(crate) fn can_write(file: &Path) -> Result<()> {
    if file == Path::new("-") {
        return Ok(());
    }
    let is_new = !file.exists();
    let opened = fs::OpenOptions::new().append(true).create(true).open(file);
    opened.with_context(|| format!("writing {}", file.display()))?;
    if is_new {
        fs::remove_file(file).with_context(|| format!("writing {}", file.display()))?;
    }
    Ok(())
}

/// Writes a file, or standard output.
pub(crate) fn write(file: &Path, text: &str) -> Result<()> {
    if file == Path::new("-") {
        println!("{text}");
        return Ok(());
    }
    fs::write(file, text).with_context(|| format!("writing {}", file.display()))
}

/// As it was typed, secrets aside.
pub(crate) fn command_line() -> String {
    let mut words = vec!["herdstream-loadtest".to_owned()];
    let mut secret = false;
    for word in env::args().skip(1) {
        let given = word.split_once('=').filter(|(name, _)| SECRETS.contains(name));
        words.push(match (secret, given) {
            (true, _) => "***".into(),
            (false, Some((name, _))) => format!("{name}=***"),
            (false, None) => word.clone(),
        });
        secret = SECRETS.contains(&&*word);
    }
    words.join(" ")
}
