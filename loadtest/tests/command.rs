//! The command itself, as a person types it.

use std::process::{Command, Output};

use anyhow::Result;
use herdstream_loadtest::server_process::test_binary;
use serde_json::Value;

fn loadtest(args: &[&str]) -> Result<Output> {
    Ok(Command::new(env!("CARGO_BIN_EXE_herdstream-loadtest"))
        .args(args)
        .arg("--server-bin")
        .arg(test_binary()?)
        .output()?)
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error} in {output:?}"))
}

#[test]
fn an_embedded_run_balances_and_reports() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let page = dir.path().join("report.html");
    let output = loadtest(&[
        "run",
        "--embedded",
        "--spool",
        "--seconds",
        "2",
        "--producers",
        "3",
        "--seed",
        "7",
        "--bad-per-million",
        "10000",
        "--limit-seconds",
        "1",
        "--json",
        "-",
        "--html",
        &page.display().to_string(),
    ])?;
    assert!(output.status.success(), "{output:?}");
    let json = json(&output);
    assert_eq!(json["oracle"]["balanced"], true, "{json:#}");
    let number = |pointer| {
        json.pointer(pointer).and_then(Value::as_f64).unwrap_or_else(|| panic!("{pointer}: {json:#}"))
    };
    for measured in
        ["/readings_per_second", "/limit_readings_per_second", "/ratio", "/ack_ms/p99", "/lone_ack_ms/p99"]
    {
        assert!(number(measured) > 0.0, "{measured}: {json:#}");
    }
    assert_eq!(json["config"]["seed"], 7);
    assert!(std::fs::read_to_string(page)?.contains("<svg"));
    Ok(())
}

#[test]
fn an_open_loop_keeps_its_rate_and_a_missed_bound_fails() -> Result<()> {
    let output = loadtest(&[
        "run",
        "--rate",
        "2000",
        "--seconds",
        "3",
        "--producers",
        "2",
        "--limit-seconds",
        "0",
        "--json",
        "-",
        "--min-rate",
        "1000000",
    ])?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let json = json(&output);
    assert_eq!((&json["oracle"]["balanced"], &json["passed"]), (&true.into(), &false.into()), "{json:#}");
    assert_eq!(json["bounds"][0]["kept"], false, "{json:#}");
    // Just what was due in three seconds: the schedule waits for nobody, and nobody runs ahead of it.
    assert_eq!(json["ack_ms"]["samples"], 6_000, "{json:#}");
    Ok(())
}

#[test]
fn questions_are_answered_fresh_and_true_at_their_due_times() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (page, data) = (dir.path().join("report.html"), dir.path().join("data").display().to_string());
    let tiny = ["query", "--devices", "9", "--farms", "2", "--days", "2", "--rate", "500", "--seconds", "2"];
    let asked = ["--question-rate", "25", "--checked", "9", "--fresh", "5", "--seed", "7", "--json", "-"];
    let html = ["--html", &page.display().to_string()];
    let output =
        loadtest(&[&tiny[..], &asked, &html, &["--readings", "20000", "--data-dir", &data]].concat())?;
    assert!(output.status.success(), "{output:?}");
    let report = json(&output);
    let number = |pointer| {
        report.pointer(pointer).and_then(Value::as_u64).unwrap_or_else(|| panic!("{pointer}: {report:#}"))
    };
    // Just what was due: the schedule waits for nobody.
    let answered = report["questions"].as_array().into_iter().flatten();
    let answered: u64 = answered.filter_map(|kind| kind["answer_ms"]["samples"].as_u64()).sum();
    assert_eq!(answered, 50, "{report:#}");
    assert!(number("/fresh/readings") >= 1, "{report:#}");
    assert_eq!(number("/fresh/answers"), 17 * number("/fresh/readings"), "{report:#}");
    assert_eq!(number("/fresh/misses"), 0, "{report:#}");
    for counted in [
        "/history/items",
        "/oracle/latest",
        "/oracle/buckets/quarters of an hour",
        "/oracle/buckets/hours",
        "/oracle/buckets/days",
        "/oracle/buckets/days of Asia~1Kathmandu",
        "/oracle/farm_days",
        "/oracle/milk_days",
    ] {
        assert!(number(counted) > 0, "{counted}: {report:#}");
    }
    assert_eq!((&report["config"]["seed"], &report["passed"]), (&7.into(), &true.into()), "{report:#}");
    assert!(std::fs::read_to_string(page)?.contains("latest of a device"));

    // The history is there still; in a closed loop, with a bound that nothing keeps.
    let again = ["--readings", "0", "--data-dir", &data, "--max-p99-ms", "0.000001", "--json", "-"];
    let output = loadtest(&[&tiny[..], &again, &["--fresh", "0", "--checked", "0"]].concat())?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let report = json(&output);
    assert_eq!(
        (&report["passed"], &report["bounds"][0]["kept"]),
        (&false.into(), &false.into()),
        "{report:#}"
    );
    assert!(report["fresh"].is_null() && report["oracle"].is_null(), "{report:#}");
    Ok(())
}

#[test]
fn the_smallest_history_is_asked_for_and_an_impossible_one_refused() -> Result<()> {
    let smallest = ["--readings", "1", "--devices", "1", "--farms", "1", "--days", "1", "--rate", "0"];
    let output =
        loadtest(&[&["query", "--seconds", "1", "--askers", "1", "--json", "-"], &smallest[..]].concat())?;
    assert!(output.status.success(), "{output:?}");
    assert_eq!(json(&output)["history"]["items"], 2, "a reading of each of two series: {output:?}");
    for (args, said) in [
        (&["--readings", "0"][..], "the history is not there"),
        (&["--devices", "9"], "each farm needs one"),
        (&["--devices", "9001", "--farms", "1"], "give more farms"),
        (&["--readings", "-1"], "no whole number from 0 to"),
    ] {
        let output = loadtest(&[&["query", "--seconds", "1"], args].concat())?;
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {err}");
        assert!(err.contains(said), "{args:?}: {err}");
    }
    Ok(())
}

#[test]
fn a_file_that_cannot_be_written_is_refused_before_the_run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let page = dir.path().join("missing").join("report.html").display().to_string();
    let output = loadtest(&["run", "--embedded", "--seconds", "600", "--html", &page])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(2), &b""[..]), "{said}");
    assert!(said.contains(&format!("writing {page}: ")), "{said}");
    Ok(())
}

#[test]
fn a_server_that_ends_at_its_start_is_quoted() -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_herdstream-loadtest"))
        .args(["run", "--embedded", "--seconds", "600", "--server-bin"])
        .arg(test_binary()?)
        .env("HERDSTREAM_INGEST__BUFER", "64MiB")
        .output()?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("unknown key \"bufer\" in [ingest]"), "{said}");
    Ok(())
}

#[test]
fn a_token_in_the_environment_does_not_hinder_an_embedded_run() -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_herdstream-loadtest"))
        .args([
            "run",
            "--embedded",
            "--seconds",
            "1",
            "--producers",
            "1",
            "--limit-seconds",
            "0",
            "--server-bin",
        ])
        .arg(test_binary()?)
        .env("HERDSTREAM_TOKEN", "hay-and-more-hay-1")
        .output()?;
    assert!(output.status.success(), "{output:?}");
    Ok(())
}

#[test]
fn a_server_that_is_not_there_is_said_at_once() -> Result<()> {
    let output = loadtest(&["run", "--endpoint", "http://127.0.0.1:1", "--seconds", "600"])?;
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("cannot connect to http://127.0.0.1:1"), "{said}");
    Ok(())
}
