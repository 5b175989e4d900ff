//! TimescaleDB from the test kit itself.

use anyhow::Result;
use herdstream_testkit::{Pglite, Postgres, Timescale};

const STATEMENTS: [&str; 6] = [
    "CREATE TABLE reading (time timestamptz NOT NULL, value double precision)",
    "SELECT create_hypertable('reading', 'time', chunk_time_interval => INTERVAL '1 day') IS NOT NULL",
    "INSERT INTO reading SELECT timestamptz '2026-01-01' + n * INTERVAL '1 hour', n FROM generate_series(0, 71) n",
    "ALTER TABLE reading SET (timescaledb.compress)",
    "SELECT count(compress_chunk(chunk)) FROM show_chunks('reading') chunk",
    "SELECT count(*), sum(value) FROM reading",
];

#[test]
fn hypertables_work_and_every_database_is_its_own() -> Result<()> {
    let Some(postgres) = Postgres::shared() else { return Ok(()) };
    let (Some(one), Some(other)) = (Timescale::start(), Timescale::start()) else { return Ok(()) };
    let rows = postgres.psql_at(&one.url(), &STATEMENTS)?;
    assert_eq!(rows, "t\n3\n72|2556");
    assert_eq!(postgres.psql_at(&other.url(), &["SELECT to_regclass('reading') IS NULL"])?, "t");
    Ok(())
}

#[test]
fn pglite_refuses_copy_and_lives_on() -> Result<()> {
    let Some(postgres) = Postgres::shared() else { return Ok(()) };
    let Some(mut pglite) = Pglite::start() else { return Ok(()) };
    let copy = ["CREATE TABLE rows (n int)", "COPY rows FROM STDIN"];
    let refused = postgres.psql_at(&pglite.url(), &copy).expect_err("COPY was taken").to_string();
    assert!(refused.contains("COPY FROM STDIN is not supported here"), "{refused}");
    assert_eq!(postgres.psql_at(&pglite.url(), &["SELECT count(*) FROM rows"])?, "0");
    assert!(pglite.runs());
    Ok(())
}

/// Two connections at a time: each with its own settings, prepared statements and transactions.
#[test]
fn pglite_keeps_connections_apart() -> Result<()> {
    let Some(postgres) = Postgres::shared() else { return Ok(()) };
    let Some(pglite) = Pglite::start() else { return Ok(()) };
    postgres.psql_at(&pglite.url(), &["CREATE TABLE rows (n int)"])?;
    let writing = {
        let url = pglite.url();
        let statements = [
            "SET timezone TO 'Asia/Tokyo'",
            "BEGIN",
            "INSERT INTO rows VALUES (1)",
            "SELECT pg_sleep(0.3)",
            "INSERT INTO rows VALUES (2)",
            "COMMIT",
            "SHOW timezone",
        ];
        std::thread::spawn(move || postgres.psql_at(&url, &statements))
    };
    // A transaction is seen as a whole or not at all, however often it is looked.
    let mut seen = Vec::new();
    while !writing.is_finished() {
        let found = postgres.psql_at(&pglite.url(), &["SELECT count(*) FROM rows", "SHOW timezone"])?;
        seen.push(found);
    }
    let written = writing.join().map_err(|_| anyhow::anyhow!("the writer panicked"))??;
    assert!(written.ends_with("Asia/Tokyo"), "{written}");
    assert!(seen.iter().all(|found| found == "0\nGMT" || found == "2\nGMT"), "{seen:?}");
    // What a connection leaves open is undone.
    postgres.psql_at(&pglite.url(), &["BEGIN", "DELETE FROM rows"])?;
    assert_eq!(postgres.psql_at(&pglite.url(), &["SELECT count(*) FROM rows"])?, "2");
    Ok(())
}
