//! Live values of the real binary.

use std::{
    io::{BufRead as _, BufReader},
    process::Stdio,
    sync::mpsc,
    thread,
    time::Duration,
};

use chrono::{SubsecRound as _, TimeDelta, Utc};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::server::{Server, show};

const HEADER: &str = "time,device_uid,device_type,farm_id,metric_name,metric_value,metric_unit\n";

/// Longest wait for anything: more than enough for whatever works at all.
const PATIENCE: Duration = Duration::from_secs(120);

/// Has the server store a value that is newer than all before.
fn measure(server: &Server, value: u32, minutes_ago: i64) {
    // Whole seconds, so that no fraction looks like a value.
    let time = show(Utc::now().trunc_subsecs(0) - TimeDelta::minutes(minutes_ago));
    server.write("one.csv", &format!("{HEADER}{time},collar-1,collar,1,steps,{value},1\n"));
    server.ok(&["import", "one.csv"]);
}

/// Watches while two more values come, and ends with Ctrl-C; answers the lines that were shown.
fn watch(server: &Server, format: &str, values: [u32; 3], minutes_ago: i64) -> Vec<String> {
    measure(server, values[0], minutes_ago);
    let mut watch = server
        .command(&["query", "watch", "--device", "collar-1", "--interval", "100ms", "--format", format])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let out = BufReader::new(watch.stdout.take().expect("a pipe"));
    let (tell, lines) = mpsc::channel();
    let reader = thread::spawn(move || {
        for line in out.lines() {
            // Nobody listens any more when the test has failed.
            let _ = tell.send(line.expect("UTF-8"));
        }
    });
    let mut seen: Vec<String> = Vec::new();
    for (value, later) in values.into_iter().zip(0..) {
        if later > 0 {
            measure(server, value, minutes_ago - later);
        }
        while !seen.last().is_some_and(|line| line.contains(&value.to_string())) {
            seen.push(lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no {value} in {seen:?}")));
        }
    }
    let pid = Pid::from_raw(i32::try_from(watch.id()).expect("a process")).expect("a process");
    kill_process(pid, Signal::INT).expect("it runs still");
    let ended = watch.wait_with_output().expect("it ends");
    reader.join().expect("all was read");
    assert_eq!((ended.status.code(), ended.stderr.as_slice()), (Some(0), &b""[..]), "{ended:?}");
    seen.extend(lines.try_iter());
    seen
}

#[test]
fn newer_values_are_shown_until_ctrl_c() {
    let server = Server::start();
    let unknown = server.run(&["query", "watch", "--device", "collar-1"]);
    assert_eq!(unknown.code, Some(1), "{unknown:?}");
    assert!(unknown.err.contains("collar-1"), "{unknown:?}");

    let csv = watch(&server, "csv", [4711, 4712, 4713], 30).join("\n");
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let at = reader.headers().expect("a header").iter().position(|name| name == "value").expect("a column");
    let shown: Vec<String> = reader.records().map(|row| row.expect("a row")[at].to_owned()).collect();
    assert_eq!(shown, ["4711", "4712", "4713"], "{csv}");

    let json = watch(&server, "json", [5811, 5812, 5813], 20);
    let value =
        |line: &String| serde_json::from_str::<Value>(line).expect("an object a line")["value"].as_f64();
    let shown: Vec<Option<f64>> = json.iter().map(value).collect();
    assert_eq!(shown, [Some(5811.0), Some(5812.0), Some(5813.0)], "{json:?}");
}
