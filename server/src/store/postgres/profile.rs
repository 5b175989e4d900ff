//! Which of the two profiles a database carries.

use std::fmt;

use sqlx::{PgConnection, Row as _};

use super::{
    connect::ProfileChoice,
    error::{OpenError, READ_ONLY, explain},
};

use crate::store::{Description, Feature};

/// Extension versions below this lack what the schema uses.
const OLDEST_EXTENSION: (u32, u32) = (2, 17);

/// How readings are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Native partitions and rollup tables.
    Postgres,
    /// Hypertables, continuous aggregates, compression.
    Timescale,
}

impl Profile {
    /// As configuration, schema and documents spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Postgres => "postgres",
            Self::Timescale => "timescale",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What was found at the start.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Host, port and database.
    pub at: String,
    /// The profile.
    pub profile: Profile,
    /// Why this one, in a sentence.
    pub reason: String,
    /// Of PostgreSQL.
    pub server_version: String,
    /// Of TimescaleDB, if the database has it.
    pub extension_version: Option<String>,
    /// `timescale` or `apache`.
    pub licence: Option<String>,
    /// Whether readings are compressed as they are copied in; if not, why.
    pub direct_compress: Result<(), &'static str>,
}

impl Facts {
    /// For people: whether readings are copied, and whether a new chunk is not compressed that was to be, may change
    /// as it goes.
    pub(super) fn describe(&self, copies: bool, disappointed: bool) -> Description {
        let timescale = self.profile == Profile::Timescale;
        let feature = |name, note, without| Feature {
            name,
            on: timescale,
            note: if timescale { note } else { without },
        };
        let native = "needs TimescaleDB with the licence 'timescale'";
        Description {
            profile: self.profile.as_str(),
            place: format!("at {}", self.at),
            reason: self.reason.clone(),
            data_dir: None,
            database_version: self.server_version.clone(),
            extension_version: self.extension_version.clone().unwrap_or_default(),
            licence: self.licence.clone().unwrap_or_default(),
            features: vec![
                feature("hypertables", "chunks of one day", "native partitions of one day stand in"),
                feature("continuous_aggregates", "15 minutes, hour and day", "rollup tables stand in"),
                feature("compression", "after 7 days", native),
                feature("policies", "compression; the server refreshes and drops", native),
                Feature {
                    name: "copy",
                    on: copies,
                    note: if copies { "readings are written by COPY" } else { "INSERT stands in" },
                },
                Feature {
                    name: "direct_compress",
                    on: self.direct_compress.is_ok() && copies,
                    note: match self.direct_compress {
                        Err(why) => why,
                        Ok(()) if !copies => "needs COPY, which the database does not take",
                        Ok(()) if disappointed => "asked for, but new chunks are not compressed: see the log",
                        Ok(()) => "readings are compressed as they are copied in",
                    },
                },
            ],
        }
    }
}

/// What the database says of itself.
struct Found {
    server_version: String,
    installed: Option<String>,
    available: Option<String>,
    licence: Option<String>,
}

/// Decides, creating the extension if it is there and may be used.
pub(super) async fn detect(
    connection: &mut PgConnection,
    at: &str,
    choice: ProfileChoice,
    recorded: Option<Profile>,
) -> Result<Facts, OpenError> {
    let mut found = look(connection).await?;
    let wanted = recorded.or(match choice {
        ProfileChoice::Auto => None,
        ProfileChoice::Postgres => Some(Profile::Postgres),
        ProfileChoice::Timescale => Some(Profile::Timescale),
    });
    if let (Some(recorded), Some(chosen)) = (recorded, choice.profile())
        && recorded != chosen
    {
        return Err(OpenError::Profile(format!(
            "the schema in this database has the profile '{recorded}', and database.profile asks for '{chosen}': \
             set database.profile = \"{recorded}\", or use a database of its own and move the data"
        )));
    }
    let candidate = found.installed.is_some() || found.available.is_some();
    if wanted != Some(Profile::Postgres) && candidate && found.installed.is_none() && recorded.is_none() {
        create_extension(connection).await?;
        found = look(connection).await?;
    }
    if found.installed.is_some() && found.licence.is_none() && wanted != Some(Profile::Postgres) {
        return Err(OpenError::Profile(
            "TimescaleDB is created in this database but not loaded: add timescaledb to \
             shared_preload_libraries and restart PostgreSQL, or set database.profile = \"postgres\" to do without"
                .to_owned(),
        ));
    }
    let usable = found.usable();
    let (profile, reason) = match (wanted, usable) {
        (Some(Profile::Timescale), Err(why)) => {
            return Err(OpenError::Profile(format!(
                "the profile 'timescale' cannot be used: {why}; mend that, or start over with \
                 database.profile = \"postgres\" on a database of its own"
            )));
        }
        (Some(profile), _) if recorded.is_some() => (profile, "the schema was made with it".to_owned()),
        (Some(profile), _) => (profile, "database.profile asks for it".to_owned()),
        (None, Ok(())) => (Profile::Timescale, "the database has TimescaleDB".to_owned()),
        (None, Err(why)) => (Profile::Postgres, why),
    };
    Ok(found.into_facts(at, profile, reason))
}

async fn look(connection: &mut PgConnection) -> Result<Found, OpenError> {
    let row =
        sqlx::query(sql!("find_profile")).fetch_one(connection).await.map_err(|error| failed(&error))?;
    if row.get("is_replica") || row.get("is_read_only") {
        return Err(OpenError::Profile(READ_ONLY.to_owned()));
    }
    Ok(Found {
        server_version: row.get("server_version"),
        installed: row.get("installed"),
        available: row.get("available"),
        licence: row.get("licence"),
    })
}

async fn create_extension(connection: &mut PgConnection) -> Result<(), OpenError> {
    let created = sqlx::query("CREATE EXTENSION IF NOT EXISTS timescaledb").execute(connection).await;
    let Err(error) = created else { return Ok(()) };
    Err(OpenError::Profile(format!(
        "TimescaleDB is installed on this server, but the extension cannot be created: {}. Add timescaledb to \
         shared_preload_libraries and restart PostgreSQL, have a superuser run CREATE EXTENSION timescaledb \
         in this database, or set database.profile = \"postgres\" to do without",
        explain(&error)
    )))
}

/// The first two numbers of a version.
pub(super) fn number(version: &str) -> (u32, u32) {
    let mut parts = version.split('.').map(|part| part.parse().unwrap_or(0));
    (parts.next().unwrap_or(0), parts.next().unwrap_or(0))
}

fn failed(error: &sqlx::Error) -> OpenError {
    OpenError::Profile(explain(error))
}

impl Found {
    /// Whether the schema of `timescale` can be used, and if not, why.
    fn usable(&self) -> Result<(), String> {
        let Some(version) = &self.installed else {
            return Err("the database has no TimescaleDB".to_owned());
        };
        if number(version) < OLDEST_EXTENSION {
            let (major, minor) = OLDEST_EXTENSION;
            return Err(format!(
                "TimescaleDB {version} is older than {major}.{minor}: ALTER EXTENSION timescaledb UPDATE"
            ));
        }
        match self.licence.as_deref() {
            Some("timescale") => Ok(()),
            Some(licence) => Err(format!(
                "TimescaleDB runs under the licence '{licence}', which has no continuous aggregates, compression \
                 or policies: set timescaledb.license = 'timescale' with a build that carries them"
            )),
            None => Err("TimescaleDB is created but not loaded".to_owned()),
        }
    }

    fn into_facts(self, at: &str, profile: Profile, reason: String) -> Facts {
        let Self { server_version, installed: extension_version, licence, .. } = self;
        // Found out later, when it is known what the configuration wants.
        let direct_compress = Err("not looked for");
        Facts {
            at: at.to_owned(),
            profile,
            reason,
            server_version,
            extension_version,
            licence,
            direct_compress,
        }
    }
}
