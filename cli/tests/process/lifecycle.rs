//! Start, stop, and everything that keeps a server from starting.

use std::fs;

use rustix::process::Signal;
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    PATIENCE,
    disk::limit_file_size,
    gateway::{gateways, no_streams},
    server::{Ended, Setup},
    until,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_under_load_acks_what_it_commits_and_a_restart_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path().join("data"));
    let server = setup.start().await;
    let working = gateways(&server, 6, true).await;
    for gateway in &working {
        gateway.progress(10).await;
    }
    server.signal(Signal::TERM);
    let mut gateways = Vec::new();
    for gateway in working {
        let gateway = gateway.ended().await;
        assert_eq!(gateway.drained, 1, "its stream was to end with Drain, acks and OK");
        assert!(gateway.broken.is_empty(), "{:?}", gateway.broken);
        gateways.push(gateway);
    }
    let Ended { status, output } = server.ended().await;
    assert_eq!(status.code(), Some(0), "{output}");
    for word in ["SIGTERM", "draining", "stopped"] {
        assert!(output.contains(word), "{word:?} is not in:\n{output}");
    }

    let server = setup.start().await;
    for gateway in &gateways {
        let committed = gateway.check(&server).await;
        assert_eq!(committed, gateway.acked(), "the last ack covers what the drain committed");
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_signal_stops_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path().join("data")).set("DRAIN__DEADLINE", "1h");
    let server = setup.start().await;
    let working = gateways(&server, 2, true).await;
    // What the store cannot commit keeps the drain waiting.
    limit_file_size(&server, Some(4096));
    server.says("commit failed").await;
    server.signal(Signal::TERM);
    server.says("draining").await;
    server.signal(Signal::INT);
    let Ended { status, output } = server.ended().await;
    assert_eq!(status.code(), Some(1), "{output}");
    assert!(output.contains("asked to stop twice"), "{output}");

    let server = setup.start().await;
    drop(working);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drain_that_the_store_holds_up_ends_at_its_deadline_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path().join("data")).set("DRAIN__DEADLINE", "1s");
    let server = setup.start().await;
    let address = server.address();
    let working = gateways(&server, 2, false).await;
    limit_file_size(&server, Some(4096));
    server.says("commit failed").await;
    server.signal(Signal::TERM);
    let Ended { status, output } = server.ended().await;
    assert_eq!(status.code(), Some(1), "not everything was committed: {output}");
    assert!(output.contains("drain deadline reached"), "{output}");

    // Nobody was told that it was.
    let server = setup.at(address).start().await;
    for gateway in working {
        let gateway = gateway.stop().await;
        assert_eq!(gateway.check(&server).await, gateway.acked());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn readiness_and_the_streams_figure_follow_the_work() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::new(dir.path().join("data")).start().await;
    for service in ["herdstream.v1.IngestService", "herdstream.v1.QueryService"] {
        assert_eq!(server.service_serving(service).await, Some(ServingStatus::Serving), "{service}");
    }
    assert_eq!(server.get("/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(server.get("/healthz").await, (200, "ok\n".to_owned()));
    let working = gateways(&server, 3, false).await;
    until("three streams are open", || async { server.metric("herdstream_streams_open").await == 3 }).await;
    for gateway in working {
        gateway.stop().await.check(&server).await;
    }
    no_streams(&server).await;
    server.stop().await;
}

#[tokio::test]
async fn a_configuration_can_be_checked_without_serving() {
    let dir = tempfile::tempdir().unwrap();
    let check = async |setup: Setup| {
        let output = setup.command().arg("--check-config").output();
        tokio::time::timeout(PATIENCE, output).await.expect("in time").expect("the binary can be run")
    };
    let good = check(Setup::new(dir.path().join("data")).set("INGEST__BUFFER", "48MiB")).await;
    assert_eq!(good.status.code(), Some(0));
    let shown = String::from_utf8(good.stdout).unwrap();
    assert!(shown.contains("48") && shown.contains("keepalive"), "{shown}");
    assert!(!dir.path().join("data").exists(), "a check touches nothing");

    // What it prints is a configuration file that says the same.
    let file = dir.path().join("herdstream.toml");
    fs::write(&file, &shown).unwrap();
    let again = check(Setup::new(dir.path().join("data")).set("CONFIG", file.to_string_lossy())).await;
    assert_eq!(String::from_utf8(again.stdout).unwrap(), shown);

    for (key, value) in [("INGEST__BUFFER", "1KiB"), ("INGEST__BUFER", "48MiB"), ("LOG__FORMAT", "xml")] {
        let bad = check(Setup::new(dir.path().join("data")).set(key, value)).await;
        let said = String::from_utf8(bad.stderr).unwrap();
        assert_eq!(bad.status.code(), Some(2), "{key}={value}: {said}");
        let named = key.rsplit("__").next().unwrap().to_lowercase();
        assert!(said.to_lowercase().contains(&named), "{key}={value}: {said}");
    }
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let first = Setup::new(dir.path().join("first")).start().await;
    let second = Setup::new(dir.path().join("second")).at(first.address()).fail().await;
    assert_eq!(second.status.code(), Some(1), "{}", second.output);
    let said = last_line(&second);
    assert!(said.contains(&first.address().to_string()) && said.contains("in use"), "{said}");
    assert!(said.contains("listen"), "the key to change: {said}");
    first.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_server_on_a_directory_leaves_the_first_alone() {
    let dir = tempfile::tempdir().unwrap();
    let setup = Setup::new(dir.path().join("data"));
    let first = setup.start().await;
    let working = gateways(&first, 2, false).await;
    let second = setup.fail().await;
    assert_eq!(second.status.code(), Some(1), "{}", second.output);
    let said = last_line(&second);
    assert!(said.contains(&*setup.data_dir().to_string_lossy()) && said.contains("in use"), "{said}");
    for gateway in working {
        gateway.progress(5).await;
        let gateway = gateway.stop().await;
        assert!(gateway.broken.is_empty(), "{:?}", gateway.broken);
        gateway.check(&first).await;
    }
    first.stop().await;
}

/// What a person who started it sees last.
fn last_line(ended: &Ended) -> &str {
    ended.output.trim_end().lines().last().unwrap_or_default()
}
