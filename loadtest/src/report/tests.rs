use super::*;
use crate::oracle::Difference;

fn report() -> Report {
    let second = |n: u32| Second {
        at: f64::from(n),
        rate: 900_000.0 + f64::from(n % 7) * 20_000.0,
        p50_ms: 12.0,
        p99_ms: 40.0 + f64::from(n % 5),
        max_ms: 90.0 + f64::from(n % 3) * 30.0,
        pending: 20_000,
    };
    let ack = Percentiles { p50: 12.4, p90: 30.0, p99: 43.2, p999: 90.0, max: 151.2, samples: 27_000_000 };
    let mut report = Report {
        readings_per_second: 912_345.6,
        limit_readings_per_second: Some(2_000_000.0),
        ratio: Some(0.456),
        ack_ms: ack,
        lone_ack_ms: Percentiles { p50: 5.0, samples: 150, ..ack },
        oracle: Some(Balance {
            sent: 1_000,
            stored: 999,
            quarantined: 1,
            balanced: true,
            ..Balance::default()
        }),
        server_peak_rss_mib: Some(211.0),
        server_peak_rss_with_read_back_mib: Some(230.0),
        read_back_rows_per_second: Some(1_500_000.0),
        seconds: 30.0,
        bytes_per_item: 38.2,
        items_per_batch: 1_000.0,
        disconnects: 0,
        troubles: Vec::new(),
        bounds: vec![Bound::at_most("--max-p99-ms", 100.0, Some(43.2))],
        passed: false,
        config: Settings {
            command: "herdstream-loadtest run --embedded".into(),
            started: "2026-11-23T20:00:00Z".into(),
            target: "embedded".into(),
            seed: 7,
            run: "r7".into(),
            producers: 20,
            series: 150,
            batch: 1_000,
            rate: None,
            window: Some(4),
            spool: false,
            bad_per_million: 50,
        },
        machine: Machine::this(),
        limit: vec![LimitRun {
            way: Way::Store,
            connections: 1,
            group: 20_000,
            readings_per_second: 2_000_000.0,
            commits: 500,
            commit_ms_p50: 9.0,
            commit_ms_p99: 30.0,
        }],
        timeline: (1..=30).map(second).collect(),
    };
    report.judge();
    report
}

#[test]
fn a_run_passes_only_when_everything_does() {
    assert!(report().passed);
    let spoilt: [fn(&mut Report); 4] = [
        |report| report.oracle.as_mut().expect("one was set").balanced = false,
        |report| report.oracle.as_mut().expect("one was set").gone.pending = 1,
        |report| report.bounds.push(Bound::at_least("--min-ratio", 0.4, None)),
        |report| report.troubles.push("flush: timeout".into()),
    ];
    for (n, spoil) in spoilt.into_iter().enumerate() {
        let mut report = report();
        spoil(&mut report);
        report.judge();
        assert!(!report.passed, "spoilt in way {n}");
    }
}

#[test]
fn json_has_the_keys_that_others_rely_on() {
    let json = serde_json::to_value(report()).expect("a report is JSON");
    for pointer in [
        "/readings_per_second",
        "/limit_readings_per_second",
        "/ratio",
        "/ack_ms/p50",
        "/ack_ms/p99",
        "/ack_ms/p999",
        "/oracle/sent",
        "/oracle/stored",
        "/oracle/duplicate",
        "/oracle/quarantined",
        "/oracle/balanced",
        "/server_peak_rss_mib",
        "/config/seed",
        "/machine/cpus",
        "/machine/version",
        "/timeline/0/rate",
    ] {
        assert!(json.pointer(pointer).is_some_and(|value| !value.is_null()), "{pointer} is missing");
    }
}

#[test]
fn text_says_what_counts() {
    let text = text(&report());
    for part in
        ["912 346 durable readings/s", "0.46 of the limit", "p99 43.2 ms", "balanced: sent 1 000", "passed"]
    {
        assert!(text.contains(part), "{part:?} is not in\n{text}");
    }
}

#[test]
fn the_page_stands_alone_and_escapes() {
    let mut report = report();
    report.config.command = "run <script>alert(1)</script>".into();
    if let Some(oracle) = &mut report.oracle {
        oracle.differences.push(Difference {
            gateway: "g".into(),
            subject: "<b>".into(),
            message: "1 missing".into(),
        });
    }
    let page = html(&report).expect("a page can be made");
    assert_eq!(page.matches("<svg").count(), 2);
    assert!(!page.contains("<script") && !page.contains("src=") && page.contains("&lt;script&gt;"));
    assert!(page.contains("&lt;b&gt;: 1 missing"));
    // Links would need a network; the only address is the name space of SVG.
    assert_eq!(page.matches("http").count(), page.matches("http://www.w3.org/2000/svg").count());
}

#[test]
fn a_run_without_a_second_still_has_a_page() {
    let report = Report { timeline: Vec::new(), oracle: None, ..report() };
    assert!(html(&report).is_ok());
}

#[test]
fn numbers_are_grouped() {
    for (number, text) in [(0.0, "0"), (999.4, "999"), (1_000.0, "1 000"), (-1_234_567.0, "-1 234 567")] {
        assert_eq!(grouped(number), text);
    }
}
