use super::*;

/// Figures are shared by the whole process, so tests look at differences or at names only.
fn value(text: &str, series: &str) -> Option<f64> {
    let line =
        text.lines().find(|line| line.strip_prefix(series).is_some_and(|rest| rest.starts_with(' ')))?;
    line[series.len()..].trim().parse().ok()
}

#[test]
fn every_metric_is_there_from_the_start() {
    let text = render();
    let wanted = [
        "herdstream_readings_stored_total",
        "herdstream_readings_duplicate_total",
        "herdstream_readings_quarantined_total{code=\"required\"}",
        "herdstream_readings_quarantined_total{code=\"store_refused\"}",
        "herdstream_readings_skipped_total",
        "herdstream_batches_committed_total",
        "herdstream_commit_duration_seconds_count",
        "herdstream_commit_readings_count",
        "herdstream_committed_bytes_total",
        "herdstream_buffer_bytes",
        "herdstream_pending_readings",
        "herdstream_streams_open",
        "herdstream_sessions_opened_total",
        "herdstream_sessions_fenced_total",
        "herdstream_credit_granted_bytes_total",
        "herdstream_store_up",
        "herdstream_disk_free_bytes",
        "herdstream_new_chunks{compressed=\"true\"}",
        "herdstream_new_chunks{compressed=\"false\"}",
        "herdstream_call_duration_seconds_count{rpc=\"QueryRange\",answer=\"refused\"}",
        "herdstream_build_info{version=\"0.1.0\"}",
        "process_start_time_seconds",
        "process_resident_memory_bytes",
        "process_open_fds",
    ];
    for series in wanted {
        assert!(value(&text, series).is_some(), "{series} is missing in:\n{text}");
    }
    for name in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, _) = name.split_once(' ').expect("a type line has two words");
        assert!(text.contains(&format!("# HELP {name} ")), "{name} has no help");
    }
}

#[test]
fn what_happens_is_counted() {
    let before = render();
    commit(Duration::from_millis(3), 700, 9_000);
    quarantined(RejectionCode::StoreRefused);
    call(Rpc::GetLatest, Answer::Failed, Duration::from_secs(2));
    new_chunks(3, 1);
    upkeep();
    let after = render();
    let grew = |series: &str| value(&after, series).unwrap_or(0.0) - value(&before, series).unwrap_or(0.0);
    assert!(grew("herdstream_readings_stored_total") >= 700.0);
    assert!(grew("herdstream_committed_bytes_total") >= 9_000.0);
    assert!(grew("herdstream_commit_duration_seconds_bucket{le=\"0.005\"}") >= 1.0);
    assert!(grew("herdstream_commit_readings_bucket{le=\"1000\"}") >= 1.0);
    assert!(grew("herdstream_readings_quarantined_total{code=\"store_refused\"}") >= 1.0);
    assert_eq!(value(&after, "herdstream_new_chunks{compressed=\"true\"}"), Some(3.0));
    assert_eq!(value(&after, "herdstream_new_chunks{compressed=\"false\"}"), Some(1.0));
    let slow = "herdstream_call_duration_seconds_bucket{rpc=\"GetLatest\",answer=\"failed\",le=\"2.5\"}";
    assert!(grew(slow) >= 1.0, "{after}");
}

#[test]
fn every_rejection_code_has_its_label() {
    let last = RejectionCode::StoreRefused as usize;
    assert_eq!(REJECTIONS.len(), last);
    let before = METERS.quarantined[RejectionCode::TooLate as usize - 1].get();
    quarantined(RejectionCode::TooLate);
    assert!(METERS.quarantined[RejectionCode::TooLate as usize - 1].get() > before);
    assert_eq!(REJECTIONS[RejectionCode::TooLate as usize - 1], "too_late");
}
