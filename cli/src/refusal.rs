//! What went wrong, in the words of the command line: its options, times that people read, and the way out.

use std::fmt;

use clap::{ArgMatches, Command};
use herdstream_client::Error;
use herdstream_proto::error::Reason;

use crate::times;

/// Fields of requests, and the options that fill them.
const FIELDS: [(&str, &[&str]); 17] = [
    ("start_us", &["from"]),
    ("end_us", &["to"]),
    ("before_us", &["before"]),
    ("first_date", &["first"]),
    ("last_date", &["last"]),
    ("time_zone", &["time_zone"]),
    ("resolution", &["resolution"]),
    ("max_points", &["max_points"]),
    ("statistics", &["statistics"]),
    ("metric_name", &["metric"]),
    ("metric_names", &["metrics", "metric"]),
    ("device_uid", &["device"]),
    ("device_type", &["device_type"]),
    ("animal_id", &["animal"]),
    ("zone_id", &["zone"]),
    ("farm_id", &["farm"]),
    ("interval_ms", &["interval"]),
];

/// Words of the API, and what a person says instead.
const WORDS: [(&str, &str); 5] = [
    ("RESOLUTION_15MIN", "--resolution 15min"),
    ("RESOLUTION_HOUR", "--resolution hour"),
    ("RESOLUTION_DAY", "--resolution day"),
    ("ListSeries", "`herdstream query series`"),
    ("page_size", "the rows of a page"),
];

/// A command line that cannot be meant, as only its parts together show.
#[derive(Debug)]
pub(crate) struct Misused(pub(crate) String);

impl fmt::Display for Misused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Misused {}

/// The command that was given, with its options.
#[derive(Debug)]
pub(crate) struct Asked {
    leaf: Command,
    matches: ArgMatches,
}

impl Asked {
    pub(crate) fn of(line: &Command, matches: &ArgMatches) -> Self {
        let (mut leaf, mut given) = (line, matches);
        while let Some((name, below)) = given.subcommand()
            && let Some(command) = leaf.find_subcommand(name)
        {
            (leaf, given) = (command, below);
        }
        Self { leaf: leaf.clone(), matches: given.clone() }
    }

    /// An error of the client as the person who typed the command understands it.
    pub(crate) fn tell(&self, error: &Error) -> String {
        let (reason, status) = match error {
            Error::Refused { reason, status } => (reason, status),
            Error::Config(text) => return self.misconfigured(text),
            _ => return error.to_string(),
        };
        let message = status.message();
        match reason {
            Some(Reason::Unauthenticated) => self.without_token(message),
            Some(Reason::PermissionDenied)
                if self.has("gateway") && message.starts_with("the credentials are those of") =>
            {
                format!("{message}: name that gateway with --gateway NAME")
            }
            Some(_) => self.translate(message),
            None if format!("{:?}", status.code()) == "Unimplemented" => self.wrong_port(error),
            None if message == "transport error" => self.broken_off(error),
            None => error.to_string(),
        }
    }

    /// What is wrong with a URL, by the option that gave it.
    fn misconfigured(&self, text: &str) -> String {
        let flag = if self.has("admin_endpoint") { "--admin-endpoint" } else { "--endpoint" };
        text.strip_prefix("endpoint ").map_or_else(|| text.to_owned(), |text| format!("{flag} {text}"))
    }

    fn without_token(&self, message: &str) -> String {
        if !self.has("token_file") {
            return message.to_owned();
        }
        if message.starts_with("no credentials") {
            return "the server asks who this is: give a gateway's token with --token-file FILE, or in the \
                    variable HERDSTREAM_TOKEN"
                .to_owned();
        }
        format!("{message}: give one of them with --token-file FILE, or in the variable HERDSTREAM_TOKEN")
    }

    /// A server that does not know the call: most likely the port of another kind of call.
    fn wrong_port(&self, error: &Error) -> String {
        let at = |id| self.matches.try_get_one::<String>(id).ok().flatten();
        if let Some(endpoint) = at("admin_endpoint") {
            return format!(
                "{endpoint} is no administration port, though a server answers there: name the one that the server \
                 shows as \"admin\" at its start with --admin-endpoint, http://127.0.0.1:7173 unless configured"
            );
        }
        let Some(endpoint) = at("endpoint") else { return error.to_string() };
        format!(
            "a server answers at {endpoint}, but does not take this call there; it may be the administration port: \
             name the port on which the server listens with --endpoint, http://127.0.0.1:7171 unless configured"
        )
    }

    /// A connection that ended without an answer: that is also how a port for HTTP takes a call.
    fn broken_off(&self, error: &Error) -> String {
        let at = |id| self.matches.try_get_one::<String>(id).ok().flatten();
        let (endpoint, flag, port) = match (at("admin_endpoint"), at("endpoint")) {
            (Some(endpoint), _) => (endpoint, "--admin-endpoint", 7173),
            (None, Some(endpoint)) => (endpoint, "--endpoint", 7171),
            (None, None) => return error.to_string(),
        };
        format!(
            "{endpoint} broke the connection off without an answer: try again, and if it does so each time, it is no \
             port for calls, but perhaps that of the status page: name another with {flag}, http://127.0.0.1:{port} \
             unless configured"
        )
    }

    /// A server's message with the names of options and with times.
    fn translate(&self, message: &str) -> String {
        let about_time = ["_us", "kept from", "calendar"].iter().any(|word| message.contains(word));
        let mut text = String::with_capacity(message.len());
        // What stands in quotation marks was typed by somebody.
        for (at, part) in message.split('"').enumerate() {
            let is_quoted = at % 2 == 1;
            if at > 0 {
                text.push('"');
            }
            if is_quoted {
                text.push_str(part);
            } else {
                let part = if about_time { times::readable(part) } else { part.to_owned() };
                self.translate_words(&part, &mut text);
            }
        }
        if let Some(days) = days_of_too_many(message) {
            return text
                .replace("allow more points", &format!("use --max-points {days} or --resolution day"));
        }
        text
    }

    fn translate_words(&self, mut rest: &str, text: &mut String) {
        let part_of_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        while !rest.is_empty() {
            let end = rest.find(|c| !part_of_word(c)).unwrap_or(rest.len());
            let (word, after) = rest.split_at(end);
            if let Some((_, ours)) = WORDS.iter().find(|(theirs, _)| *theirs == word) {
                text.push_str(ours);
            } else {
                text.push_str(&self.option(word, text.is_empty()).unwrap_or_else(|| word.to_owned()));
            }
            let next = after.find(part_of_word).unwrap_or(after.len());
            text.push_str(&after[..next]);
            rest = &after[next..];
        }
    }

    /// The option of this command that fills a field.
    fn option(&self, field: &str, starts: bool) -> Option<String> {
        // A word that is no name of a field elsewhere is one at the start of a message.
        let is_field = starts || field.contains('_');
        let (_, ids) = FIELDS.iter().find(|(name, _)| *name == field && is_field)?;
        let arg = ids.iter().find_map(|id| self.leaf.get_arguments().find(|arg| arg.get_id() == id))?;
        Some(match arg.get_long() {
            Some(long) => format!("--{long}"),
            None => arg.get_id().as_str().to_ascii_uppercase(),
        })
    }

    fn has(&self, id: &str) -> bool {
        self.leaf.get_arguments().any(|arg| arg.get_id() == id)
    }
}

/// The days of a range that has more of them than points were asked for.
pub(crate) fn days_of_too_many(message: &str) -> Option<u32> {
    message.strip_prefix("max_points: the range has ")?.split_once(" days, more than ")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(line: &[&str]) -> Asked {
        let command = crate::settings::command();
        let matches = command.clone().try_get_matches_from(line).expect("a command line");
        Asked::of(&command, &matches)
    }

    #[test]
    fn fields_are_named_as_options_and_times_are_readable() {
        let range = asked(&["herdstream", "query", "range", "--device", "a", "--metric", "b"]);
        let milkings = asked(&["herdstream", "query", "milkings", "1"]);
        for (asked, message, wanted) in [
            (
                &range,
                "end_us: 1795132800000000 is not after start_us 1795392000000000",
                "--to: 2026-11-20T00:00:00Z is not after --from 2026-11-23T00:00:00Z",
            ),
            (
                &range,
                "start_us: -86400000000000 is beyond the calendar",
                "--from: 1967-04-07T00:00:00Z is beyond the calendar",
            ),
            (
                &range,
                "time_zone: only days have a time zone: ask for RESOLUTION_DAY, or leave it out",
                "--time-zone: only days have a time zone: ask for --resolution day, or leave it out",
            ),
            (
                &range,
                "max_points: the range has 693 days, more than the 120 points asked for: shorten it, or allow more points",
                "--max-points: the range has 693 days, more than the 120 points asked for: shorten it, or use --max-points 693 or --resolution day",
            ),
            (&range, "metric_name: \"farm_id\" is not a metric", "--metric: \"farm_id\" is not a metric"),
            (
                &range,
                "statistics: p95 is not told by day, but by RESOLUTION_HOUR",
                "--stat: p95 is not told by day, but by --resolution hour",
            ),
            (&milkings, "farm_id: -1 is below 1", "FARM: -1 is below 1"),
            (&milkings, "zone_id: -1 is below 0", "zone_id: -1 is below 0"),
        ] {
            assert_eq!(asked.translate(message), wanted);
        }
    }
}
