//! The schema: which there is, and how it gets to what this binary needs.

use sqlx::{
    PgConnection, Row as _, SqlSafeStr as _, SqlStr,
    migrate::{Migration, MigrationType, Migrator},
};

use super::{
    error::{OpenError, explain},
    profile::Profile,
};

/// Where sqlx keeps its books.
const BOOKS: &str = "iot.schema_migration";

/// A file of `sql/migrations`.
struct File {
    version: i64,
    description: &'static str,
    sql: &'static str,
}

/// `(number, name, directory)`, by number.
macro_rules! files {
    ($($directory:literal: $($version:literal $name:literal),+;)+) => {
        &[$($(File {
            version: $version,
            description: $name,
            sql: include_str!(concat!(
                env!("CARGO_MANIFEST_DIR"), "/../sql/migrations/", $directory, "/", $name, ".sql"
            )),
        }),+),+]
    };
}

const POSTGRES: &[File] = files! {
    "common": 1 "0001_tables", 4 "0004_public_views", 5 "0005_old_writers", 7 "0007_public_aggregates", 9 "0009_closing", 11 "0011_truth", 12 "0012_daily_parts";
    "postgres": 2 "0002_chunks", 3 "0003_days", 6 "0006_rollups", 8 "0008_lifecycle", 10 "0010_keeping";
};

const TIMESCALE: &[File] = files! {
    "common": 1 "0001_tables", 4 "0004_public_views", 5 "0005_old_writers", 7 "0007_public_aggregates", 9 "0009_closing", 11 "0011_truth", 12 "0012_daily_parts";
    "timescale": 2 "0002_chunks", 3 "0003_days", 6 "0006_rollups", 8 "0008_lifecycle", 10 "0010_keeping";
};

/// The oldest binary, by the newest migration it knows, that may write to the schema as it is now.
const COMPATIBLE_FROM: i32 = 12;

fn files(profile: Profile) -> &'static [File] {
    match profile {
        Profile::Postgres => POSTGRES,
        Profile::Timescale => TIMESCALE,
    }
}

/// The profile of the schema that is there; None: none is.
pub(super) async fn recorded(connection: &mut PgConnection) -> Result<Option<Profile>, OpenError> {
    let failed = |error: sqlx::Error| OpenError::Migrate(explain(&error));
    let exists: bool = sqlx::query_scalar("SELECT to_regclass('iot.schema_info') IS NOT NULL")
        .fetch_one(&mut *connection)
        .await
        .map_err(failed)?;
    if !exists {
        return Ok(None);
    }
    let row = sqlx::query("SELECT profile, version, compatible_from FROM iot.schema_info")
        .fetch_optional(&mut *connection)
        .await
        .map_err(failed)?;
    let Some(row) = row else { return Ok(None) };
    let profile = match row.get("profile") {
        "timescale" => Profile::Timescale,
        _ => Profile::Postgres,
    };
    let (version, compatible_from): (i32, i32) = (row.get("version"), row.get("compatible_from"));
    let known = newest(profile);
    if compatible_from > known {
        return Err(OpenError::Schema(format!(
            "the schema is at version {version}, which needs a herdstream that knows version {compatible_from}; \
             this one knows {known}: use the version that migrated it, or a later one"
        )));
    }
    Ok(Some(profile))
}

fn newest(profile: Profile) -> i32 {
    files(profile).iter().map(|file| file.version as i32).max().unwrap_or(0)
}

/// Waits until no other server looks at the schema or changes it; held until the connection ends.
pub(super) async fn lock(connection: &mut PgConnection) -> Result<(), OpenError> {
    let locked = sqlx::query("SELECT pg_advisory_lock(hashtext('herdstream'), 1)").execute(connection).await;
    locked.map(drop).map_err(|error| OpenError::Migrate(explain(&error)))
}

/// Runs what has not run yet; under [`lock`].
pub(super) async fn run(connection: &mut PgConnection, profile: Profile) -> Result<(), OpenError> {
    let failed = |error: sqlx::Error| OpenError::Migrate(explain(&error));
    create_schema(connection).await.map_err(failed)?;
    // That the books are there already is no news.
    let quiet = sqlx::query("SET client_min_messages = warning").execute(&mut *connection).await;
    quiet.map_err(failed)?;
    let migrations = files(profile).iter().map(|file| {
        let no_tx = file.sql.starts_with("-- no-transaction");
        let sql: SqlStr = file.sql.into_sql_str();
        Migration::new(file.version, file.description.into(), MigrationType::Simple, sql, no_tx)
    });
    let mut migrator = Migrator::with_migrations(migrations.collect());
    migrator.dangerous_set_table_name(BOOKS);
    // A later version may have run more that this one can live with.
    migrator.set_ignore_missing(true);
    // `lock` serves here, too, and covers what comes before.
    migrator.set_locking(false);
    // `run` would do the same, but its future is not known to be `Send`.
    migrator.run_direct(None, &mut *connection, false).await.map_err(|error| OpenError::migrate(&error))?;
    sqlx::query(sql!("record_schema"))
        .bind(profile.as_str())
        .bind(newest(profile))
        .bind(COMPATIBLE_FROM)
        .execute(connection)
        .await
        .map_err(failed)?;
    Ok(())
}

/// The schema, unless it is there: making it takes a right that using it does not.
async fn create_schema(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let exists: bool =
        sqlx::query_scalar("SELECT to_regnamespace('iot') IS NOT NULL").fetch_one(&mut *connection).await?;
    if !exists {
        sqlx::query("CREATE SCHEMA iot").execute(connection).await?;
    }
    Ok(())
}
