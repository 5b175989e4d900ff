//! psql as the yardstick of the yardstick.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    process::Stdio,
    time::Instant,
};

use anyhow::{Context as _, Result, ensure};
use futures::future;
use tokio::process::Command;

use super::{Group, encode};
use crate::report::{LimitRun, Way};

/// Writes each connection's groups to a file, and times psql with all files side by side.
pub(super) async fn measure(url: &str, connections: Vec<Vec<Group>>) -> Result<LimitRun> {
    let dir = tempfile::tempdir().context("creating a directory for rows")?;
    let (mut scripts, mut readings, mut most) = (Vec::new(), 0, 0);
    for (number, groups) in connections.iter().enumerate() {
        let path = dir.path().join(format!("rows-{number}"));
        write(&path, groups).with_context(|| format!("writing {}", path.display()))?;
        scripts.push(format!("\\{}", encode::STATEMENT.replace("STDIN", &format!("'{}'", path.display()))));
        let count: u64 = groups.iter().map(|group| group.readings).sum();
        (readings, most) = (readings + count, most.max(count));
    }
    let begun = Instant::now();
    future::try_join_all(scripts.iter().map(|script| psql(url, script))).await?;
    let took = begun.elapsed();
    Ok(LimitRun {
        way: Way::Psql,
        connections: connections.len(),
        group: most as usize,
        readings_per_second: readings as f64 / took.as_secs_f64(),
        commits: connections.len() as u64,
        commit_ms_p50: took.as_secs_f64() * 1e3,
        commit_ms_p99: took.as_secs_f64() * 1e3,
    })
}

fn write(path: &Path, groups: &[Group]) -> std::io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(encode::HEADER)?;
    for group in groups {
        file.write_all(&group.rows)?;
    }
    file.write_all(encode::TRAILER)?;
    file.flush()
}

async fn psql(url: &str, script: &str) -> Result<()> {
    let output = Command::new("psql")
        .args(["--no-psqlrc", "--no-password", "--quiet", "--set=ON_ERROR_STOP=1", "--dbname", url])
        .args(["--command", script])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("running psql: is it installed?")?;
    ensure!(output.status.success(), "psql: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
