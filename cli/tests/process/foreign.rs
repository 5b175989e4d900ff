//! Clients that others wrote: grpcurl, grpc-health-probe, a scraper of metrics, a browser.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::{
    disk::limit_file_size,
    gateway::gateways,
    server::{Server, Setup},
    skip,
};

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_finds_and_uses_the_services_by_reflection() {
    let Some(grpcurl) = find("grpcurl") else { return };
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::new(dir.path().join("data")).start().await;
    let address = server.address().to_string();
    let run = |arguments: &[&str]| {
        let output = Command::new(&grpcurl).args(["-plaintext", "-max-time", "30"]).args(arguments).output();
        output.expect("grpcurl can be run")
    };

    let services = succeeded(&run(&[&address, "list"]));
    for service in [
        "grpc.health.v1.Health",
        "grpc.reflection.v1.ServerReflection",
        "herdstream.v1.IngestService",
        "herdstream.v1.QueryService",
    ] {
        assert!(services.lines().any(|line| line == service), "{service} is not in:\n{services}");
    }
    let methods = succeeded(&run(&[&address, "list", "herdstream.v1.IngestService"]));
    for method in ["Stream", "Write", "GetProducer", "ListRejections"] {
        let name = format!("herdstream.v1.IngestService.{method}");
        assert!(methods.lines().any(|line| line == name), "{name} is not in:\n{methods}");
    }
    let described = succeeded(&run(&[&address, "describe", "herdstream.v1.Reading"]));
    assert!(described.contains("message Reading {"), "{described}");
    assert!(described.contains("optional int32 animal_id = 5;"), "{described}");
    let described = succeeded(&run(&[&address, "describe", "herdstream.v1.IngestService.Stream"]));
    assert!(described.contains("( stream .herdstream.v1.StreamRequest )"), "{described}");

    let batch = json!({"batch": {
        "series": [{"ref": 1, "farm_id": 1, "device_uid": "collar-1", "device_type": "collar",
                    "metric_name": "temperature", "metric_unit": "Cel"}],
        "readings": [{"series_ref": 1, "value": 38.6}, {"series_ref": 1, "value": 1e6}]}});
    let write = "herdstream.v1.IngestService/Write";
    let written = answer(&run(&["-d", &batch.to_string(), &address, write]));
    assert_eq!((&written["stored"], &written["quarantined"]), (&json!(1), &json!(1)), "{written}");
    assert_eq!(written["rejections"][0]["code"], "REJECTION_CODE_OUT_OF_RANGE", "{written}");
    let get_latest = "herdstream.v1.QueryService/GetLatest";
    let latest = answer(&run(&["-d", r#"{"device_uid": "collar-1"}"#, &address, get_latest]));
    assert_eq!(latest["latest"][0]["series"]["metricName"], "temperature", "{latest}");
    assert_eq!(latest["latest"][0]["readings"][0]["value"], 38.6, "{latest}");
    let producer = written["producerId"].as_str().unwrap();
    let rejections = answer(&run(&[
        "-d",
        &json!({"producer_id": producer}).to_string(),
        &address,
        "herdstream.v1.IngestService/ListRejections",
    ]));
    assert_eq!(rejections["records"][0]["reading"]["value"], 1e6, "{rejections}");

    let unknown = run(&["-d", r#"{"device_uid": "nobody"}"#, &address, get_latest]);
    assert!(!unknown.status.success());
    let said = String::from_utf8(unknown.stderr).unwrap();
    assert!(said.contains("Code: NotFound"), "{said}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpcurl_streams() {
    let Some(grpcurl) = find("grpcurl") else { return };
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::new(dir.path().join("data")).start().await;
    let reading =
        json!({"series_ref": 1, "time_us": herdstream_server::model::now_us().to_string(), "value": 1});
    let messages = [
        json!({"open": {"protocol_version": 1, "producer_id": "01890a5d-ac96-774b-bcce-b302099a8057",
                        "instance_id": "one", "gateway_id": "barn", "first_retained_offset": 1,
                        "next_offset": 3}}),
        json!({"batch": {"offset": 1, "series": [{"ref": 1, "farm_id": 1, "device_uid": "scale-1",
                         "device_type": "scale", "metric_name": "weight", "metric_unit": "kg"}],
                         "readings": [reading]}}),
        json!({"ping": {"nonce": 7}}),
        json!({"skip": {"first": 2, "last": 2, "reason": "SKIP_REASON_LOST"}}),
    ];
    let sent: String = messages.iter().map(Value::to_string).collect();
    let address = server.address().to_string();
    let stream = "herdstream.v1.IngestService/Stream";
    let output =
        Command::new(grpcurl).args(["-plaintext", "-max-time", "30", "-d", &sent, &address, stream]).output();
    let text = succeeded(&output.unwrap());
    let answers = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let answers: Vec<Value> = answers.collect::<Result<_, _>>().unwrap();
    assert!(answers[0]["opened"]["epoch"] == "1", "{text}");
    assert!(answers.iter().any(|answer| answer["pong"]["nonce"] == "7"), "{text}");
    let ack = answers.iter().rev().find(|answer| answer["ack"].is_object()).expect("an ack");
    assert_eq!(ack["ack"]["committedOffset"], "2", "{text}");
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kubernetes_health_probe_understands_the_answers() {
    let Some(probe) = find("grpc-health-probe") else { return };
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::new(dir.path().join("data")).start().await;
    let probe = |service: &str| {
        let address = format!("-addr={}", server.address());
        let output = Command::new(&probe).args([address, format!("-service={service}")]).output();
        let Output { status, stderr, stdout } = output.expect("the probe can be run");
        let said = [stdout, stderr].concat();
        (status.code(), String::from_utf8(said).expect("text"))
    };
    for service in ["", "herdstream.v1.IngestService", "herdstream.v1.QueryService"] {
        let (code, said) = probe(service);
        assert_eq!(code, Some(0), "{service}: {said}");
        assert!(said.contains("status: SERVING"), "{service}: {said}");
    }
    let (code, said) = probe("herdstream.v1.Nothing");
    assert_ne!(code, Some(0), "{said}");

    // A store that cannot be written is what readiness probes are for.
    let working = gateways(&server, 1, false).await;
    limit_file_size(&server, Some(4096));
    server.says("not ready: the store is down").await;
    let (code, said) = probe("");
    assert_eq!(code, Some(4), "{said}");
    assert!(said.contains("NOT_SERVING"), "{said}");
    limit_file_size(&server, None);
    for gateway in working {
        gateway.progress(1).await;
        gateway.stop().await.check(&server).await;
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_are_what_a_scraper_expects() {
    let dir = tempfile::tempdir().unwrap();
    let server = Setup::new(dir.path().join("data")).start().await;
    for gateway in gateways(&server, 2, false).await {
        gateway.stop().await;
    }
    let (status, text) = server.get("/metrics").await;
    assert_eq!(status, 200);
    let metrics = Exposition::parse(&text);
    assert!(metrics.samples["herdstream_readings_stored_total"] >= 600.0, "{text}");
    assert!(metrics.samples["herdstream_store_up"] > 0.0);
    assert!(metrics.kinds["herdstream_commit_duration_seconds"] == "histogram", "{text}");
    assert!(metrics.samples["process_open_fds"] > 5.0, "{text}");
    assert_page(&server).await;
    server.stop().await;
}

async fn assert_page(server: &Server) {
    let (status, page) = server.get("/").await;
    assert_eq!(status, 200);
    let small = page.to_lowercase();
    assert!(small.starts_with("<!doctype html>") && small.trim_end().ends_with("</html>"), "{page}");
    assert!(page.contains(&server.address().to_string()), "where it serves is not on:\n{page}");
    assert_eq!(server.get("/nothing").await.0, 404);
}

/// Prometheus' text format, version 0.0.4.
#[derive(Default)]
struct Exposition {
    kinds: BTreeMap<String, String>,
    /// By name and labels.
    samples: BTreeMap<String, f64>,
}

impl Exposition {
    /// Reads it as strictly as the format is written down.
    fn parse(text: &str) -> Self {
        assert!(text.ends_with('\n'), "the last line ends");
        let mut read = Self::default();
        let mut helped = BTreeSet::new();
        // Lines of one metric stand together.
        let mut current = String::new();
        let mut left = BTreeSet::new();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                let mut words = comment.splitn(3, ' ');
                let (word, name, rest) = (words.next(), words.next(), words.next());
                let (Some(name), Some(rest)) = (name, rest) else { panic!("{line}") };
                match word {
                    Some("HELP") => assert!(helped.insert(name.to_owned()), "help twice: {line}"),
                    Some("TYPE") => {
                        assert!(["counter", "gauge", "histogram", "summary"].contains(&rest), "{line}");
                        assert!(read.kinds.insert(name.to_owned(), rest.to_owned()).is_none(), "{line}");
                    }
                    _ => panic!("{line}"),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            assert!(is_name(name), "{line}");
            assert_labels(labels.strip_suffix('}').unwrap_or_else(|| panic!("{line}")), line);
            let value = match value {
                "+Inf" => f64::INFINITY,
                value => value.parse().unwrap_or_else(|_| panic!("{line}")),
            };
            let family = read.family(name);
            assert!(helped.contains(&family), "no help: {line}");
            if family != current {
                assert!(left.insert(std::mem::replace(&mut current, family.clone())), "split: {line}");
                assert!(!left.contains(&family), "split: {line}");
            }
            if read.kinds[&family] == "counter" {
                assert!(name.ends_with("_total") && value >= 0.0, "{line}");
            }
            assert!(read.samples.insert(series.to_owned(), value).is_none(), "twice: {line}");
        }
        read.check_histograms();
        read
    }

    /// The metric to which a sample belongs.
    fn family(&self, name: &str) -> String {
        let of_histogram = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
            let family = name.strip_suffix(suffix)?;
            (self.kinds.get(family)? == "histogram").then_some(family)
        });
        let family = of_histogram.unwrap_or(name);
        assert!(self.kinds.contains_key(family), "{name} has no type");
        family.to_owned()
    }

    /// Buckets grow, and the last of them counts everything.
    fn check_histograms(&self) {
        let mut buckets: BTreeMap<String, Vec<(f64, f64)>> = BTreeMap::new();
        // Other labels end in "le" too.
        let bound = |series: &str| series.find("{le=\"").or(series.find(",le=\"")).map(|at| at + 1);
        for (series, value) in &self.samples {
            let Some((before, rest)) = bound(series).map(|at| series.split_at(at)) else { continue };
            let rest = rest.strip_prefix("le=\"").expect("just seen");
            let (bound, after) = rest.split_once('"').expect("a closed text");
            let bound = if bound == "+Inf" { f64::INFINITY } else { bound.parse().expect("a bound") };
            let labels = format!("{before}{after}").replace(",}", "}").replace("{}", "");
            buckets.entry(labels.replace("_bucket", "_count")).or_default().push((bound, *value));
        }
        assert!(!buckets.is_empty());
        for (count, mut buckets) in buckets {
            buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
            assert!(buckets.is_sorted_by(|a, b| a.1 <= b.1), "{count}: {buckets:?}");
            let &(bound, most) = buckets.last().expect("never empty");
            assert_eq!((bound, Some(&most)), (f64::INFINITY, self.samples.get(&count)), "{count}");
        }
    }
}

fn is_name(name: &str) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || c == ':';
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn assert_labels(labels: &str, line: &str) {
    let mut rest = labels;
    while !rest.is_empty() {
        let (name, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("{line}"));
        assert!(is_name(name), "{line}");
        // None of our labels needs an escape.
        let (_, after) = value.split_once('"').unwrap_or_else(|| panic!("{line}"));
        rest = after.strip_prefix(',').unwrap_or(after);
    }
}

/// A program on PATH, or where `go install` puts it. None, with the reason told, when there is none.
fn find(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = env::split_paths(&path).collect();
    places.extend(env::var_os("GOBIN").map(Into::into));
    if let Ok(output) = Command::new("go").args(["env", "GOPATH"]).output() {
        places.push(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).join("bin"));
    }
    let found = places.into_iter().map(|place| place.join(name)).find(|program| program.is_file());
    if found.is_none() {
        skip(&format!("there is no {name}: install it with `go install`"));
    }
    found
}

/// What a program wrote that succeeded.
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).expect("text")
}

fn answer(output: &Output) -> Value {
    serde_json::from_str(&succeeded(output)).expect("JSON")
}
