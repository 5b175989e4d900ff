//! The account under which a database runs: PostgreSQL refuses to run as root.

use std::{fs, os::unix::process::CommandExt as _, path::Path, process::Command};

use anyhow::{Context as _, Result};

/// A user and group, when the test runs as root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account(Option<(u32, u32)>);

impl Account {
    /// The account of PostgreSQL's package, or else one without rights; the own one if that is not root.
    pub(crate) fn find() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self(None));
        }
        let users = fs::read_to_string("/etc/passwd").context("looking for an account that is not root")?;
        let ids = ["postgres", "nobody"].iter().find_map(|name| ids(&users, name));
        Ok(Self(Some(
            ids.context("run the tests as another user than root: there is no postgres and no nobody")?,
        )))
    }

    /// Has a command run under it.
    pub(crate) fn run(self, command: &mut Command) -> &mut Command {
        match self.0 {
            Some((user, group)) => command.uid(user).gid(group),
            None => command,
        }
    }

    /// Gives it a file or directory.
    pub(crate) fn own(self, path: &Path) -> Result<()> {
        let Some((user, group)) = self.0 else { return Ok(()) };
        std::os::unix::fs::chown(path, Some(user), Some(group))
            .with_context(|| format!("giving {} to user {user}", path.display()))
    }
}

fn ids(users: &str, name: &str) -> Option<(u32, u32)> {
    let line = users.lines().find(|line| line.split(':').next() == Some(name))?;
    let mut fields = line.split(':').skip(2);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}
