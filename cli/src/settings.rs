//! Settings of the server on the command line: before `serve` or `migrate`, after it, or without a command.

use clap::{ArgMatches, Command, CommandFactory as _, error::ErrorKind, parser::ValueSource};
use herdstream_server::config::Flags;

/// The server's settings, and whether they are only to be shown.
#[derive(Debug, clap::Args)]
pub(crate) struct Settings {
    #[command(flatten)]
    pub(crate) flags: Flags,
    /// Print the effective configuration, secrets as "***", and exit: 0 when it can be used, else 2
    #[arg(long)]
    pub(crate) check_config: bool,
}

/// The command line, on which these options stand only where they act: commands that talk to a server have none.
pub(crate) fn command() -> Command {
    super::Cli::command().mut_args(|arg| arg.global(false))
}

/// What was given after a command, else what was given before it.
pub(crate) fn merged(before: Settings, after: Settings, matches: &ArgMatches) -> Settings {
    let given = after.flags;
    // The environment names the same file in both places, and is below the command line.
    let named = matches.subcommand().is_some_and(|(_, after)| is_given(after, "config"));
    let flags = Flags {
        config: given.config.filter(|_| named).or(before.flags.config),
        listen: given.listen.or(before.flags.listen),
        http_listen: given.http_listen.or(before.flags.http_listen),
        admin_listen: given.admin_listen.or(before.flags.admin_listen),
        data_dir: given.data_dir.or(before.flags.data_dir),
        database_url: given.database_url.or(before.flags.database_url),
        allow_anonymous: given.allow_anonymous || before.flags.allow_anonymous,
        log_format: given.log_format.or(before.flags.log_format),
        log_filter: given.log_filter.or(before.flags.log_filter),
    };
    Settings { flags, check_config: after.check_config || before.check_config }
}

/// Refuses settings of a server before a command that starts none.
///
/// # Errors
///
/// Names the option and the command.
pub(crate) fn refuse(command: &mut Command, matches: &ArgMatches) -> Result<(), clap::Error> {
    let Some((name, _)) = matches.subcommand() else { return Ok(()) };
    let given = command.get_arguments().find(|arg| is_given(matches, arg.get_id().as_str()));
    let Some(option) = given.and_then(|arg| arg.get_long()) else { return Ok(()) };
    let message = format!("--{option} is for a server, and `herdstream {name}` starts none: leave it out");
    Err(command.error(ErrorKind::ArgumentConflict, message))
}

fn is_given(matches: &ArgMatches, id: &str) -> bool {
    matches.value_source(id) == Some(ValueSource::CommandLine)
}
