//! The clusters of the test kit itself.

use std::{
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use herdstream_testkit::{Postgres, Tmpfs};

/// More than enough for what works at all.
const PATIENCE: Duration = Duration::from_secs(60);
/// Variable that makes this test binary a process that is killed.
const VICTIM_VARIABLE: &str = "HERDSTREAM_TESTKIT_VICTIM";

#[test]
fn what_was_committed_is_there_after_a_kill() -> Result<()> {
    let Some(mut postgres) = Postgres::start() else { return Ok(()) };
    assert_eq!(postgres.psql("SHOW fsync")?, "on");
    postgres.psql("CREATE TABLE kept AS SELECT 7 AS number")?;
    let session = sleeping_session(&postgres)?;
    let server = postgres.psql("SELECT pg_backend_pid()")?;
    postgres.kill()?;
    let said = session.wait_with_output()?;
    assert!(!said.status.success(), "a session survived the kill: {said:?}");
    assert!(postgres.psql("SELECT 1").is_err(), "it answers after the kill (backend {server} did before)");
    postgres.restart()?;
    assert!(postgres.said("not properly shut down"), "it was no crash: {}", postgres.log());
    assert_eq!(postgres.psql("SELECT number FROM kept")?, "7");
    Ok(())
}

#[test]
fn a_stop_is_clean_and_the_port_stays() -> Result<()> {
    let Some(mut postgres) = Postgres::options().fsync(false).setting("work_mem", "5MB").start() else {
        return Ok(());
    };
    let url = postgres.url();
    postgres.stop()?;
    assert!(postgres.psql("SELECT 1").is_err());
    postgres.restart()?;
    assert_eq!(postgres.url(), url);
    assert!(!postgres.said("not properly shut down"), "no clean stop: {}", postgres.log());
    assert_eq!(postgres.psql("SHOW work_mem")?, "5MB");
    // Also one that runs.
    postgres.restart()?;
    assert_eq!(postgres.psql("SHOW fsync")?, "off");
    Ok(())
}

#[test]
fn passwords_are_asked_for() -> Result<()> {
    let Some(postgres) = Postgres::options().fsync(false).passwords(true).start() else { return Ok(()) };
    postgres.psql("CREATE ROLE reader LOGIN PASSWORD 'right'")?;
    let (right, wrong) =
        (postgres.url_as("reader", "right", "postgres"), postgres.url_as("reader", "wrong", "postgres"));
    assert_eq!(postgres.psql_at(&right, &["SELECT current_user"])?, "reader");
    let refused =
        postgres.psql_at(&wrong, &["SELECT 1"]).expect_err("a wrong password was taken").to_string();
    assert!(refused.contains("password authentication failed"), "{refused}");
    Ok(())
}

#[test]
fn databases_of_the_shared_cluster_are_apart() -> Result<()> {
    let Some(postgres) = Postgres::shared() else { return Ok(()) };
    let (one, other) = (postgres.create_database(), postgres.create_database());
    postgres.psql_at(&one, &["CREATE TABLE only_here ()"])?;
    assert_eq!(postgres.psql_at(&other, &["SELECT to_regclass('only_here') IS NULL"])?, "t");
    Ok(())
}

#[test]
fn a_full_disk_is_an_error_and_empties_again() -> Result<()> {
    let Some(disk) = Tmpfs::mount(200 << 20) else { return Ok(()) };
    let options = Postgres::options().data_dir(disk.path()).setting("max_wal_size", "64MB");
    let Some(postgres) = options.start() else { return Ok(()) };
    postgres.psql("CREATE TABLE rows (text text)")?;
    let (filler, bytes) = disk.fill()?;
    assert!(bytes > 0, "the disk was full before");
    let insert = "INSERT INTO rows SELECT repeat('x', 1000) FROM generate_series(1, 50000)";
    let refused = format!("{:#}", postgres.psql(insert).expect_err("rows went onto a full disk"));
    assert!(refused.contains("No space left on device") || refused.contains("server closed"), "{refused}");
    std::fs::remove_file(filler)?;
    let deadline = Instant::now() + PATIENCE;
    while postgres.psql(insert).is_err() {
        ensure!(Instant::now() < deadline, "it does not recover: {}", postgres.log());
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// Even a process that is killed leaves no server behind.
#[test]
fn a_cluster_dies_with_its_process() -> Result<()> {
    let Some(_) = Postgres::shared() else { return Ok(()) };
    let mut victim = Command::new(std::env::current_exe()?)
        .args(["--exact", "victim", "--ignored", "--nocapture"])
        .env(VICTIM_VARIABLE, "1")
        .stdout(Stdio::piped())
        .spawn()?;
    let url = {
        use std::io::BufRead as _;
        let stdout = std::io::BufReader::new(victim.stdout.take().context("no output")?);
        let url = stdout.lines().map_while(Result::ok).find(|line| line.contains("postgres://"));
        url.context("the victim gave no URL")?
    };
    let url = &url[url.find("postgres://").context("no URL")?..];
    let Some(postgres) = Postgres::shared() else { return Ok(()) };
    assert_eq!(postgres.psql_at(url, &["SELECT 1"])?, "1");
    victim.kill()?;
    victim.wait()?;
    let deadline = Instant::now() + PATIENCE;
    while postgres.psql_at(url, &["SELECT 1"]).is_ok() {
        ensure!(Instant::now() < deadline, "the server outlives its process");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Not a test: the process that is killed.
#[test]
#[ignore = "only started by a_cluster_dies_with_its_process"]
fn victim() {
    if std::env::var_os(VICTIM_VARIABLE).is_none() {
        return;
    }
    let Some(postgres) = Postgres::start() else { return };
    println!("\n{}", postgres.url());
    thread::sleep(PATIENCE);
}

/// A session that sleeps by the time this returns.
fn sleeping_session(postgres: &Postgres) -> Result<Child> {
    let mut psql = Command::new("psql");
    psql.args(["--command", "SELECT pg_sleep(600)", "--dbname", &postgres.url()]);
    let session = psql.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let deadline = Instant::now() + PATIENCE;
    let asleep = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
    while postgres.psql(asleep)? != "1" {
        ensure!(Instant::now() < deadline, "the session does not begin");
        thread::sleep(Duration::from_millis(20));
    }
    Ok(session)
}
