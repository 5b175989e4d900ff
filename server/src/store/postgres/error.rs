//! What went wrong, in words that name the way out.

use sqlx::{error::DatabaseError, migrate::MigrateError};

use crate::store::StoreError;

/// A standby, or a session that may not write.
pub(super) const READ_ONLY: &str =
    "the database is read-only (a standby?): point database.url at the primary";

/// Why a database cannot be used. Nothing was changed unless it says otherwise.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The URL is none.
    #[error("database.url is no PostgreSQL URL: {0}; expected postgres://USER:PASSWORD@HOST:PORT/DATABASE")]
    Url(String),
    /// Nobody answers, or not us.
    #[error("cannot connect to PostgreSQL at {at}: {why}")]
    Connect {
        /// Host, port and database.
        at: String,
        /// What failed, and the way out.
        why: String,
    },
    /// The database cannot carry the profile.
    #[error("{0}")]
    Profile(String),
    /// A newer or other schema is there.
    #[error("{0}")]
    Schema(String),
    /// A migration failed; those before it are in place.
    #[error("the schema could not be brought up to date: {0}")]
    Migrate(String),
}

impl OpenError {
    pub(super) fn migrate(error: &MigrateError) -> Self {
        Self::Migrate(match error {
            MigrateError::ExecuteMigration(error, version) => {
                format!("migration {version}: {}", explain(error))
            }
            MigrateError::Execute(error) => explain(error),
            MigrateError::VersionMismatch(version) => format!(
                "migration {version} was changed after it ran here: use the version of herdstream that ran it, \
                 or a database of its own"
            ),
            other => other.to_string(),
        })
    }
}

/// What an error means for a commit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The data itself (SQLSTATE classes 22 and 23): traced to its rows.
    Data,
    /// Two transactions were in each other's way; at once again.
    Conflict,
    /// Anything else: the store is down.
    Down,
}

pub(super) fn kind(error: &sqlx::Error) -> Kind {
    let sqlx::Error::Database(error) = error else { return Kind::Down };
    match error.code().as_deref() {
        Some(code) if code.starts_with("22") || code.starts_with("23") => Kind::Data,
        Some("40001" | "40P01") => Kind::Conflict,
        _ => Kind::Down,
    }
}

/// Whether the database has no such feature.
pub(super) fn is_unsupported(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("0A000"))
}

/// Whether the database gave a statement up because it was told to, or for the time it took.
pub(super) fn is_cancelled(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("57014"))
}

/// Whether the session went with it: the database shut it down, or cannot be reached.
pub(super) fn is_lost(error: &sqlx::Error) -> bool {
    match error {
        sqlx::Error::Database(error) => {
            error.code().is_some_and(|code| code.starts_with("57P") || code.starts_with("08"))
        }
        sqlx::Error::Io(_) | sqlx::Error::Tls(_) | sqlx::Error::Protocol(_) => true,
        _ => false,
    }
}

/// Whether a lock was held by others for too long.
pub(super) fn is_locked(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("55P03"))
}

/// Whether what was asked for must wait until something else is done.
pub(super) fn is_not_ready(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Database(error) if error.code().as_deref() == Some("55000"))
}

/// A question was not answered because of this: data that the database refuses is the caller's.
pub(super) fn unanswered(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::Database(error) if is_data(&*error) => StoreError::Refused(format!(
            "{} (SQLSTATE {})",
            error.message(),
            error.code().unwrap_or_default()
        )),
        other => unavailable(other),
    }
}

/// Data that cannot be taken, or computed with.
fn is_data(error: &dyn DatabaseError) -> bool {
    error.code().is_some_and(|code| code.starts_with("22"))
}

/// The store is down because of this.
pub(super) fn unavailable(error: sqlx::Error) -> StoreError {
    match error {
        sqlx::Error::PoolClosed => StoreError::Closed,
        sqlx::Error::ColumnDecode { .. } | sqlx::Error::Decode(_) => StoreError::Damaged(error.to_string()),
        other => StoreError::Unavailable(explain(&other), Some(Box::new(other))),
    }
}

/// The message, and what to do about it.
pub(super) fn explain(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => database(&**error),
        sqlx::Error::Io(error) if is_cut(error) => {
            format!(
                "the connection was cut ({error}): PostgreSQL stopped, or somebody ended the session; see its log"
            )
        }
        sqlx::Error::Io(error) => {
            format!(
                "{error}: check host and port, that PostgreSQL runs there, and that no firewall is between"
            )
        }
        sqlx::Error::PoolTimedOut => "no connection became free within database.acquire_timeout: raise \
             database.pool_max, or look for long statements in pg_stat_activity"
            .to_owned(),
        sqlx::Error::Tls(error) => format!("TLS failed: {error}; sslmode and sslrootcert of the URL decide"),
        other => other.to_string(),
    }
}

/// Whether a connection that stood is gone.
fn is_cut(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe)
}

fn database(error: &dyn DatabaseError) -> String {
    let code = error.code().unwrap_or_default();
    let way_out = match code.as_ref() {
        "28P01" | "28000" => "check user and password of database.url, and pg_hba.conf",
        "3D000" => "create the database first: createdb NAME",
        "42501" => {
            "the role needs CREATE on the database, or a schema named iot that it owns: \
             GRANT CREATE ON DATABASE … TO …"
        }
        "25006" => return READ_ONLY.to_owned(),
        "53100" => "the database's disk is full: make space",
        "53300" => "raise max_connections, or lower database.pool_max",
        "55P03" => "another session holds a lock for too long: look for it in pg_locks",
        "57014" => "it took longer than database.statement_timeout",
        "57P01" => "PostgreSQL is stopping, or somebody ended the session",
        "57P02" | "57P03" => "PostgreSQL is starting or stopping",
        _ => return format!("{} (SQLSTATE {code})", error.message()),
    };
    format!("{} (SQLSTATE {code}): {way_out}", error.message())
}
