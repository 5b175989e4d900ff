//! The layers a configuration is made of, and what can be wrong with them.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use figment::{
    Figment, Metadata, Profile, Provider,
    error::{Actual, Kind},
    util::nest,
    value::{Dict, Map, Value},
};
use serde::de::DeserializeOwned;

use super::{DEFAULT_FILE, Flags};

/// What is wrong with a configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read configuration file {}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is not TOML. The text at fault is left out: it may hold a secret.
    #[error("{}:{line}:{column}: {message}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Line, from 1.
        line: usize,
        /// Character in the line, from 1.
        column: usize,
        /// What the parser expected.
        message: String,
    },
    /// Keys that do not exist, or values of the wrong type.
    #[error("{}", .0.join("\n"))]
    Values(Vec<String>),
    /// Values out of bounds.
    #[error("{}", .0.join("\n"))]
    Bounds(Vec<String>),
}

/// Lays flags over environment over file over the defaults of `T`.
pub(super) fn read<T: DeserializeOwned>(
    flags: &Flags,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<T, ConfigError> {
    let mut layers = Figment::new();
    if let Some(file) = file(flags.config.as_deref())? {
        layers = layers.merge(file);
    }
    for (name, value) in environment {
        if let Some(key) = key(&name) {
            // Parsing cannot fail: what is nothing else is a text.
            let value = value.parse().unwrap_or_else(|never| match never {});
            layers = layers
                .merge(Layer { origin: format!("environment variable {name}"), values: nest(&key, value) });
        }
    }
    let given = Value::serialize(flags.given()).expect("flags are texts and booleans");
    layers = layers.merge(Layer { origin: "a flag".to_owned(), values: given });
    layers.extract().map_err(|errors| ConfigError::Values(errors.into_iter().map(|e| describe(&e)).collect()))
}

/// Values with one origin.
struct Layer {
    origin: String,
    values: Value,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.origin.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        let values = self.values.as_dict().cloned().unwrap_or_default();
        Ok(Map::from([(Profile::Default, values)]))
    }
}

/// Variables of programs that call a server, the file of the configuration among them.
const CLIENTS: [&str; 4] = ["CONFIG", "ENDPOINT", "ADMIN_ENDPOINT", "TOKEN"];

/// The key that an environment variable sets; none when it is not meant for the configuration.
fn key(name: &str) -> Option<String> {
    let name = name.strip_prefix("HERDSTREAM_")?;
    // Kubernetes sets HERDSTREAM_PORT and HERDSTREAM_SERVICE_HOST and the like in every pod beside a
    // service named "herdstream"; tests have variables of their own.
    let other = ["SERVICE_", "PORT", "TEST_"].iter().any(|prefix| name.starts_with(prefix))
        || CLIENTS.contains(&name);
    (!other).then(|| name.to_ascii_lowercase().replace("__", "."))
}

fn file(named: Option<&Path>) -> Result<Option<Layer>, ConfigError> {
    let path = named.unwrap_or(Path::new(DEFAULT_FILE));
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound && named.is_none() => return Ok(None),
        Err(source) => return Err(ConfigError::File { path: path.to_owned(), source }),
    };
    let table: toml::Table = toml::from_str(&text).map_err(|error| {
        let before = &text[..error.span().map_or(0, |span| span.start.min(text.len()))];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        ConfigError::Syntax {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            message: error.message().to_owned(),
        }
    })?;
    let values = Value::serialize(table).expect("a TOML table is a dictionary");
    Ok(Some(Layer { origin: path.display().to_string(), values }))
}

/// One line: key, value, what would be right, and where it was set.
fn describe(error: &figment::Error) -> String {
    let key = error.path.join(".");
    let secret = error.path.first().is_some_and(|first| first == "auth");
    let what = match &error.kind {
        Kind::UnknownField(name, expected) => {
            let parent = &error.path[..error.path.len().saturating_sub(1)];
            let parent =
                if parent.is_empty() { String::new() } else { format!(" in [{}]", parent.join(".")) };
            format!("unknown key \"{name}\"{parent}: known are {}", expected.join(", "))
        }
        Kind::MissingField(name) => format!("{key}: \"{name}\" is missing"),
        Kind::InvalidType(actual, expected) | Kind::InvalidValue(actual, expected) if !secret => {
            format!("{key} = {}: expected {expected}", plain(actual))
        }
        // Only the type: a misplaced token must not reach a log.
        Kind::InvalidType(_, expected) | Kind::InvalidValue(_, expected) => {
            format!("{key}: expected {expected}")
        }
        Kind::UnknownVariant(name, expected) => {
            format!("{key} = \"{name}\": expected one of {}", expected.join(", "))
        }
        other => format!("{key}: {other}"),
    };
    match &error.metadata {
        Some(layer) => format!("{what} (set by {})", layer.name),
        None => what,
    }
}

fn plain(actual: &Actual) -> String {
    match actual {
        Actual::Str(text) => format!("\"{text}\""),
        Actual::Bool(value) => value.to_string(),
        Actual::Unsigned(value) => value.to_string(),
        Actual::Signed(value) => value.to_string(),
        Actual::Float(value) => value.to_string(),
        other => other.to_string(),
    }
}
