//! Child processes that never outlive the test process, and ways to kill them.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Between two looks at something that is awaited.
const LOOK: Duration = Duration::from_millis(10);
/// How long a killed process may take to be gone: one that waits for a disk takes its time.
const DYING: Duration = Duration::from_secs(30);

/// A child that ends when its standard input ends, be it because this process was killed.
#[derive(Debug)]
pub(crate) struct Leashed {
    child: Child,
    leash: Option<ChildStdin>,
    /// The first line that it wrote.
    pub(crate) first_line: String,
}

impl Leashed {
    /// Starts it and waits for its first line.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", command.get_program().display()))?;
        let leash = child.stdin.take();
        let mut first_line = String::new();
        let stdout = child.stdout.take().context("a child without output")?;
        BufReader::new(stdout).read_line(&mut first_line).context("listening to a child")?;
        Ok(Self { child, leash, first_line: first_line.trim().to_owned() })
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> Result<bool> {
        Ok(self.child.try_wait().context("watching a child")?.is_none())
    }

    /// Lets it end with a last word, and waits for that.
    pub(crate) fn loosen(mut self, word: &str) -> Result<()> {
        if let Some(leash) = &mut self.leash {
            writeln!(leash, "{word}").context("telling a child to end")?;
        }
        Ok(())
    }
}

impl Drop for Leashed {
    fn drop(&mut self) {
        drop(self.leash.take());
        let _ = self.child.wait();
    }
}

/// Sends a signal; to one that is gone already, too.
pub(crate) fn signal(pid: i32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Kills a process and its children at one moment: none sees another one die.
pub(crate) fn kill_family(parent: i32) -> Result<()> {
    // Stopped, it starts no more children.
    signal(parent, Signal::STOP);
    let family: Vec<_> = children(parent)?.into_iter().chain([parent]).collect();
    for pid in &family {
        signal(*pid, Signal::STOP);
    }
    for pid in &family {
        signal(*pid, Signal::KILL);
    }
    for pid in family {
        await_end(pid)?;
    }
    Ok(())
}

/// Waits until a process is gone, or nothing but its exit code is left.
pub(crate) fn await_end(pid: i32) -> Result<()> {
    until(DYING, || Ok(!is_alive(pid))).with_context(|| format!("process {pid} does not end"))
}

/// Whether it runs: not when only its exit code is left.
pub(crate) fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|(state, _)| state != 'Z')
}

/// Looks again and again until it is so.
pub(crate) fn until(patience: Duration, mut so: impl FnMut() -> Result<bool>) -> Result<()> {
    let deadline = Instant::now() + patience;
    while !so()? {
        ensure!(Instant::now() < deadline, "not after {patience:?}");
        thread::sleep(LOOK);
    }
    Ok(())
}

fn children(parent: i32) -> Result<Vec<i32>> {
    if !Path::new("/proc/self/stat").exists() {
        bail!("processes can only be looked up in /proc, which is not here");
    }
    let entries = fs::read_dir("/proc").context("looking at processes")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    Ok(pids.filter(|pid| stat(*pid).is_some_and(|(_, of)| of == parent)).collect())
}

/// State and parent, by proc(5).
fn stat(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before is in brackets, and may hold any character.
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}
