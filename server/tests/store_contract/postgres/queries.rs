//! The queries of `sql/queries`.

use std::{fs, path::Path, process::Command};

use herdstream_server::store::{
    Store as _,
    postgres::{PostgresConfig, PostgresStore},
};
use herdstream_testkit::{Postgres, Timescale};
use sqlx::{AssertSqlSafe, Connection as _, Executor as _, PgConnection, SqlSafeStr as _};

#[tokio::test]
async fn every_query_can_be_prepared() {
    if let Some(server) = Postgres::shared() {
        prepare(&server.create_database(), &["", "postgres"]).await;
    }
    if let Some(timescale) = Timescale::start() {
        prepare(&timescale.url(), &["", "timescale"]).await;
    }
}

/// Prepares what lies in some directories of `sql/queries`.
async fn prepare(url: &str, directories: &[&str]) {
    let mut config = PostgresConfig::new(url);
    (config.pool_min, config.pool_max) = (1, 1);
    PostgresStore::open(config).await.unwrap().close().await;
    let mut connection = PgConnection::connect(url).await.unwrap();
    let queries = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql/queries");
    let files = directories.iter().flat_map(|directory| fs::read_dir(queries.join(directory)).unwrap());
    let mut prepared = 0;
    for path in files.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()) {
        let sql = fs::read_to_string(&path).unwrap();
        // A statement of nothing can be prepared, takes any arguments and answers no rows.
        let says = |line: &str| !line.trim().is_empty() && !line.starts_with("--");
        assert!(sql.lines().any(says), "{} is blank", path.display());
        // COPY cannot be prepared; the contract runs it.
        if sql.contains("COPY ") {
            continue;
        }
        if let Err(error) = connection.prepare(AssertSqlSafe(sql).into_sql_str()).await {
            panic!("{}: {error}", path.display());
        }
        prepared += 1;
    }
    assert!(prepared > 40, "{prepared}");
}

/// The schema as SQL users see it: the seed's statements and views, against answers computed otherwise.
#[test]
fn the_public_schema_answers_as_the_seed_says() {
    if let Some(server) = Postgres::shared() {
        run_sql_tests(&["postgres", &server.create_database()]);
    }
    if let Some(timescale) = Timescale::start() {
        run_sql_tests(&["timescale", &timescale.url()]);
    }
}

/// What a schema of version 8 has closed and dropped is known after the upgrade, and answers stay.
#[test]
fn a_used_schema_is_brought_up_to_date() {
    if let Some(server) = Postgres::shared() {
        run_sql_tests(&["postgres", &server.create_database(), "upgrade"]);
    }
    if let Some(timescale) = Timescale::start() {
        run_sql_tests(&["timescale", &timescale.url(), "upgrade"]);
    }
}

fn run_sql_tests(arguments: &[&str]) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql/tests/run");
    let output = Command::new(script).args(arguments).output().expect("the script runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {text}\n{errors}");
}

/// TimescaleDB changes its own tables between versions, and only one version is at hand in most tests.
#[test]
fn nothing_looks_into_tables_of_the_extension() {
    let mut directories = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../sql")];
    let mut looked_at = 0;
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "sql") {
                let text = fs::read_to_string(&path).unwrap();
                for own in ["_timescaledb_catalog", "_timescaledb_internal", "_timescaledb_config"] {
                    assert!(!text.contains(own), "{} names {own}", path.display());
                }
                looked_at += 1;
            }
        }
    }
    assert!(looked_at > 40, "{looked_at}");
}
