//! TimescaleDB: a real one if there is one, else PGlite.

use std::{
    env, process,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::Result;

use crate::{Pglite, postgres::Programs, skip};

/// Names a real TimescaleDB: the URL of a superuser's database on it.
pub const TIMESCALE_VARIABLE: &str = "HERDSTREAM_TEST_TIMESCALE_URL";

/// A database with TimescaleDB that is empty otherwise; it goes when this is dropped.
#[derive(Debug)]
pub struct Timescale(Kind);

#[derive(Debug)]
enum Kind {
    Pglite(Pglite),
    Real { programs: Programs, server: String, database: String },
}

/// Databases made by this process.
static DATABASES: AtomicU64 = AtomicU64::new(0);

impl Timescale {
    /// Makes a database on the server that [`TIMESCALE_VARIABLE`] names, or starts a PGlite. None, with the
    /// reason said, where that cannot be had.
    ///
    /// # Panics
    ///
    /// It does not start, or the database cannot be made; or it is not to be had, where `CI` is set.
    pub fn start() -> Option<Self> {
        let Some(server) = env::var(TIMESCALE_VARIABLE).ok().filter(|url| !url.is_empty()) else {
            return Some(Self(Kind::Pglite(Pglite::start()?)));
        };
        let Some(programs) = Programs::find() else {
            return skip("making a database needs psql of an installed PostgreSQL");
        };
        match create(&programs, &server) {
            Ok(database) => Some(Self(Kind::Real { programs, server, database })),
            Err(error) => panic!("no database on the server of {TIMESCALE_VARIABLE}: {error:#}"),
        }
    }

    /// Where it is.
    pub fn url(&self) -> String {
        match &self.0 {
            Kind::Pglite(pglite) => pglite.url(),
            Kind::Real { server, database, .. } => with_database(server, database),
        }
    }

    /// Whether it has what PGlite has not: COPY FROM STDIN, several transactions at a time, background
    /// workers.
    pub fn is_real(&self) -> bool {
        matches!(self.0, Kind::Real { .. })
    }
}

impl Drop for Timescale {
    fn drop(&mut self) {
        if let Kind::Real { programs, server, database } = &self.0 {
            let _ = programs.run(server, &[&format!("DROP DATABASE {database} WITH (FORCE)")]);
        }
    }
}

fn create(programs: &Programs, server: &str) -> Result<String> {
    let number = DATABASES.fetch_add(1, Ordering::Relaxed);
    let database = format!("herdstream_test_{}_{number}", process::id());
    programs.run(server, &[&format!("CREATE DATABASE {database} TEMPLATE template0")])?;
    programs.run(&with_database(server, &database), &["CREATE EXTENSION IF NOT EXISTS timescaledb"])?;
    Ok(database)
}

/// The URL with another database: what follows the authority, up to the parameters.
fn with_database(url: &str, database: &str) -> String {
    let (rest, parameters) = url.split_once('?').map_or((url, ""), |(rest, parameters)| (rest, parameters));
    let authority = rest.find("://").map_or(0, |at| at + 3);
    let end = rest[authority..].find('/').map_or(rest.len(), |at| authority + at);
    let mark = if parameters.is_empty() { "" } else { "?" };
    format!("{}/{database}{mark}{parameters}", &rest[..end])
}

#[cfg(test)]
mod tests {
    use super::with_database;

    #[test]
    fn the_database_of_a_url_is_replaced() {
        for (url, expected) in [
            ("postgres://me:secret@host:5433/postgres", "postgres://me:secret@host:5433/other"),
            ("postgres://host", "postgres://host/other"),
            ("postgres://host/a?sslmode=disable&x=/", "postgres://host/other?sslmode=disable&x=/"),
        ] {
            assert_eq!(with_database(url, "other"), expected);
        }
    }
}
