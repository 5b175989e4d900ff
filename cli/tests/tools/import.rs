//! Every row of a file is stored once, whatever happens to the import.

use std::{
    fmt::Write as _,
    fs,
    io::{BufRead as _, BufReader},
    os::unix::process::ExitStatusExt as _,
    process::Stdio,
    thread,
    time::{Duration, Instant},
};

use chrono::{TimeDelta, Utc};
use rustix::process::{Pid, Signal, kill_process};

use crate::server::{Server, herdstream, midnight, show};

const HEADER: &str = "time,device_uid,device_type,farm_id,metric_name,metric_value,metric_unit\n";

/// Older than what streams may send, and younger than what retention drops.
const OLD_DAYS: i64 = 85;

/// Longest wait for anything: more than enough for whatever works at all.
const PATIENCE: Duration = Duration::from_secs(120);

/// Rows ten seconds apart whose values are their numbers, and what a server that has them tells.
fn history(device: &str, rows: u32) -> (String, Vec<(String, f64)>) {
    let start = midnight(OLD_DAYS);
    let (mut text, mut wanted) = (HEADER.to_owned(), Vec::new());
    for n in 0..rows {
        let time = show(start + TimeDelta::seconds(10 * i64::from(n)));
        writeln!(text, "{time},{device},collar,1,steps,{n},1").expect("a text takes all");
        wanted.push((time, f64::from(n)));
    }
    (text, wanted)
}

#[test]
fn a_file_imported_twice_is_stored_once() {
    let server = Server::start();
    let (text, wanted) = history("collar-1", 12_345);
    server.write("history.csv", &text);
    let first = server.ok(&["import", "history.csv"]);
    assert!(first.contains("12,345 stored now") && first.contains("of 1 series"), "{first}");
    let again = server.ok(&["import", "history.csv"]);
    assert!(again.contains("all of them were stored before"), "{again}");
    // Under another name it is the same file.
    fs::rename(server.path("history.csv"), server.path("renamed.csv")).expect("a file");
    server.ok(&["import", "renamed.csv"]);
    assert!(server.readings("collar-1") == wanted, "the server has something else than the file");
    // What changes the rows makes it another.
    server.write("short.csv", "ts,device_uid,metric_value\n2026-01-01 12:00:00,tank-1,4.5\n");
    let options = ["--map", "ts=time", "--device-type", "tank", "--metric-name", "temperature"];
    for (zone, farm) in [("UTC", "1"), ("Europe/Berlin", "1"), ("UTC", "1")] {
        server
            .ok(&[&["import", "short.csv", "--time-zone", zone, "--farm-id", farm][..], &options[..]]
                .concat());
    }
    let times: Vec<_> = server.readings("tank-1").into_iter().map(|(time, _)| time).collect();
    assert_eq!(times, ["2026-01-01T11:00:00Z", "2026-01-01T12:00:00Z"]);
}

#[test]
fn an_import_that_is_killed_goes_on_and_doubles_nothing() {
    const ROWS: u32 = 200_000;
    let server = Server::start();
    let (text, wanted) = history("collar-1", ROWS);
    server.write("history.csv", &text);
    let stored = || {
        let latest = server.run(&["query", "latest", "collar-1", "--format", "json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&latest.out).unwrap_or_default();
        rows.first().and_then(|row| row["value"].as_f64()).map_or(0, |last| last as u32 + 1)
    };
    for at_least in [25_000, 90_000] {
        let mut import = server.command(&["import", "history.csv"]);
        let mut import = import.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts");
        let began = Instant::now();
        while stored() < at_least {
            assert!(began.elapsed() < PATIENCE, "nothing is stored");
            thread::sleep(Duration::from_millis(5));
        }
        import.kill().expect("it can be killed");
        let status = import.wait().expect("it ends");
        assert_eq!(status.signal(), Some(9), "it was done before it was killed");
        let stored = stored();
        assert!(stored < ROWS, "it was killed after the last block: {stored}");
    }
    let last = server.ok(&["import", "history.csv"]);
    assert!(last.contains("200,000 readings") && !last.contains(" 0 before"), "{last}");
    let found = server.readings("collar-1");
    assert_eq!(found.len(), wanted.len());
    assert!(found == wanted, "the server has something else than the file");
}

#[test]
fn an_import_that_is_stopped_says_how_far_it_came() {
    const ROWS: u32 = 200_000;
    let server = Server::start();
    let (text, wanted) = history("collar-1", ROWS);
    server.write("history.csv", &text);
    let interrupted = |args: &[&str], ready: &dyn Fn() -> bool| {
        let mut import = server.command(&[&["import", "history.csv"], args].concat());
        let import = import.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
        let began = Instant::now();
        while !ready() {
            assert!(began.elapsed() < PATIENCE, "it is not ready to be stopped");
            thread::sleep(Duration::from_millis(5));
        }
        kill_process(Pid::from_child(&import), Signal::INT).expect("it runs still");
        let ended = import.wait_with_output().expect("it ends");
        let said = String::from_utf8(ended.stderr).expect("UTF-8");
        assert_eq!(ended.status.code(), Some(130), "{said}");
        said.lines().last().expect("it says something").to_owned()
    };
    let latest = || {
        let latest = server.run(&["query", "latest", "collar-1", "--format", "json"]);
        let rows: Vec<serde_json::Value> = serde_json::from_str(&latest.out).unwrap_or_default();
        rows.first().and_then(|row| row["value"].as_f64()).map_or(0, |last| last as u32 + 1)
    };
    let mut stored = 0;
    // What it goes on with was not counted again.
    for (at_least, of) in [(25_000, " of 200,000 rows"), (90_000, " rows")] {
        let said = interrupted(&[], &|| latest() >= at_least);
        let told = said.strip_prefix("herdstream: stopped: ").unwrap_or_else(|| panic!("{said}"));
        let (count, rest) = told.split_once(of).unwrap_or_else(|| panic!("{said}"));
        assert_eq!(rest, " of history.csv are stored; start it again to go on");
        // The last block may be stored and not be told to be.
        stored = count.replace(',', "").parse().expect("a number");
        assert!((at_least - 10_000..=latest()).contains(&stored) && stored < ROWS, "{said}");
    }
    assert!(stored >= 80_000, "what was stored before counts, too");
    server.ok(&["import", "history.csv"]);
    assert!(server.readings("collar-1") == wanted, "the server has something else than the file");

    // Also before anything is known of the file.
    let nowhere = ["--endpoint", "http://127.0.0.1:1"];
    let began = Instant::now();
    let said = interrupted(&nowhere, &|| began.elapsed() > Duration::from_secs(1));
    assert_eq!(said, "herdstream: stopped: start it again to go on");
    assert!(server.ok(&["import", "--help"]).contains("130  stopped with Ctrl-C"));
}

#[test]
fn a_bad_row_stops_a_file_before_anything_of_it_is_stored() {
    let server = Server::start();
    // More than a block before the bad row.
    let (good, wanted) = history("collar-1", 10_500);
    let bad = "2026-01-01T00:00:00Z,collar-1,collar,1,steps,much,1\n";
    server.write("history.csv", &format!("{good}{bad}"));
    let said = server.run(&["import", "history.csv"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    for part in ["history.csv:10502: ", "metric_value: \"much\" is not a number", "--skip-bad-rows"] {
        assert!(said.err.contains(part), "{part} is missing in:\n{}", said.err);
    }
    assert!(server.readings("collar-1").is_empty());
    // So the mended file is no second one.
    server.write("history.csv", &good);
    server.ok(&["import", "history.csv"]);
    assert!(server.readings("collar-1") == wanted);
}

#[test]
fn skipped_rows_are_kept_and_can_be_mended() {
    let server = Server::start();
    server.write(
        "history.csv",
        &format!(
            "{HEADER}\
             2026-01-01T00:00:00Z,collar-1,collar,1,steps,1,1\n\
             2026-01-01T00:00:10,collar-1,collar,1,steps,2,1\n\
             2026-01-01T00:00:20Z,collar-1,collar,1,steps\n\
             2026-01-01T00:00:30Z,collar-1,collar,1,steps,4,1\n\
             2026-01-01T00:00:40Z,collar-1,collar,1.5,steps,5,1\n"
        ),
    );
    let said = server.run(&["import", "history.csv", "--skip-bad-rows"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    for part in
        ["2 stored now", "3 skipped", "line 3: time: ", "--time-zone", "line 4: it has 5 fields", "line 6: "]
    {
        assert!(said.out.contains(part), "{part} is missing in:\n{}", said.out);
    }
    let rejected = fs::read_to_string(server.path("history.csv.rejected.csv")).expect("a file");
    let rows: Vec<csv::StringRecord> =
        csv::Reader::from_reader(rejected.as_bytes()).records().map(|row| row.expect("a row")).collect();
    assert_eq!(rows.len(), 3, "{rejected}");
    assert!(rejected.starts_with(&format!("{},reason\n", HEADER.trim())), "{rejected}");
    assert!(rows[0][7].contains("does not say in which zone"), "{rejected}");
    assert_eq!((&rows[1][5], &rows[1][6]), ("", ""), "{rejected}");

    let again = server.run(&["import", "history.csv", "--skip-bad-rows"]);
    assert!(again.out.contains("0 stored now") && again.out.contains("2 before"), "{again:?}");
    let mended = rejected.replace("10,", "10Z,").replace("steps,,,", "steps,3,1,").replace("1.5", "1");
    server.write("mended.csv", &mended);
    let said = server.run(&["import", "mended.csv"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("columns that are not read: reason"), "{said:?}");
    let values: Vec<f64> = server.readings("collar-1").into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0]);
}

#[test]
fn a_row_that_is_not_utf8_is_a_bad_row_like_any_other() {
    let server = Server::start();
    // As a spreadsheet of a western Windows saves it; nobody reads the column of notes.
    let file = [
        &b"time,device_uid,device_type,farm_id,metric_name,metric_value,f\xfcr\n"[..],
        b"2026-01-01T00:00:00Z,collar-1,collar,1,steps,1,gr\xfcn\n",
        b"2026-01-01T00:00:10Z,K\xfch-1,collar,1,steps,2,\n",
        b"2026-01-01T00:00:20Z,collar-1,collar,1,steps,3,\n",
    ]
    .concat();
    fs::write(server.path("history.csv"), file).expect("a file");
    let said = server.run(&["import", "history.csv"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("history.csv:3: device_uid: ") && said.err.contains("not UTF-8"), "{said:?}");
    assert!(said.err.contains("nothing of the file was stored"), "{said:?}");

    let said = server.run(&["import", "history.csv", "--skip-bad-rows"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    for part in ["2 stored now", "1 skipped", "line 3: device_uid: ", "not UTF-8"] {
        assert!(said.out.contains(part), "{part} is missing in:\n{}", said.out);
    }
    let values: Vec<f64> = server.readings("collar-1").into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [1.0, 3.0]);
    // What was left out is kept as it was.
    let rejected = fs::read(server.path("history.csv.rejected.csv")).expect("a file");
    assert!(rejected.windows(5).any(|part| part == b"K\xfch-1"), "{}", String::from_utf8_lossy(&rejected));
}

#[test]
fn an_import_that_met_a_bad_row_goes_on_without_it() {
    let server = Server::start();
    let (good, wanted) = history("collar-1", 10_500);
    server.write("history.csv", &format!("{good}x,collar-1,collar,1,steps,1,1\n"));
    assert_eq!(server.run(&["import", "history.csv", "--skip-bad-rows"]).code, Some(3));
    // Without the flag it is the same file still, and does not ask to be mended.
    let said = server.run(&["import", "history.csv"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("history.csv:10502") && !said.err.contains("mend"), "{said:?}");
    assert!(server.readings("collar-1") == wanted);
}

#[test]
fn rows_that_the_server_refuses_are_shown_with_their_lines() {
    let server = Server::start();
    let (now, future) = (show(midnight(2)), show(midnight(-2)));
    server.write(
        "history.csv",
        &format!(
            "{HEADER}\
             {now},collar-1,collar,1,steps,1,1\n\
             {now},collar-1,collar,1,steps,,1\n\
             {now},collar-1,collar,1,steps,3,1\n\
             {future},collar-1,collar,1,steps,4,1\n"
        ),
    );
    let said = server.run(&["import", "history.csv", "--skip-bad-rows"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    for part in [
        "2 stored now",
        "1 refused",
        "1 skipped",
        "line 3: metric_value is empty",
        &format!("line 5: time: {future} is "),
    ] {
        assert!(said.out.contains(part), "{part} is missing in:\n{}", said.out);
    }
    assert_eq!(server.readings("collar-1"), [(now.clone(), 1.0), (now.clone(), 3.0)]);

    // They are refused for good, so the file is not wholly stored, however often it is imported.
    let again = server.run(&["import", "history.csv", "--skip-bad-rows"]);
    assert_eq!(again.code, Some(3), "{again:?}");
    for part in ["0 stored now", "2 before", "1 refused", "1 skipped", &format!("line 5: time: {future} is ")]
    {
        assert!(again.out.contains(part), "{part} is missing in:\n{}", again.out);
    }
    // Also where nothing is skipped; a series that is refused stands at its first row.
    let long = "x".repeat(33);
    server.write(
        "refused.csv",
        &format!("{HEADER}{now},collar-2,collar,1,steps,1,1\n{now},collar-2,{long},1,steps,2,1\n"),
    );
    for time in ["first", "again"] {
        let said = server.run(&["import", "refused.csv"]);
        assert_eq!(said.code, Some(3), "{time}: {said:?}");
        for part in ["1 refused", "line 3: device_type: "] {
            assert!(said.out.contains(part), "{time}: {part} is missing in:\n{}", said.out);
        }
        assert!(!said.out.contains("line 2: "), "{time}: {said:?}");
    }
}

#[test]
fn a_series_that_is_refused_is_told_once_and_before_its_rows() {
    let server = Server::start();
    let (now, long) = (show(midnight(2)), "x".repeat(33));
    let mut text = format!("{HEADER}{now},collar-1,collar,1,steps,1,1\n");
    for _ in 0..20 {
        writeln!(text, "{now},collar-2,{long},1,steps,2,1").expect("a text takes all");
    }
    server.write("refused.csv", &text);
    let said = server.run(&["import", "refused.csv"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    for part in ["20 refused", "line 3: device_type: ", "and 19 more"] {
        assert!(said.out.contains(part), "{part} is missing in:\n{}", said.out);
    }
    assert!(!said.out.contains("series_ref"), "{said:?}");
}

#[test]
fn an_import_waits_for_a_server_that_is_down() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let listen = free.local_addr().expect("an address").to_string();
    drop(free);
    let dir = tempfile::tempdir().expect("a directory");
    let (text, wanted) = history("collar-1", 100);
    fs::write(dir.path().join("history.csv"), text).expect("a file");
    let mut import = herdstream()
        .args(["import", "history.csv", "--patience", "10m", "--endpoint", &format!("http://{listen}")])
        .current_dir(dir.path())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut err = BufReader::new(import.stderr.take().expect("a pipe"));
    let mut line = String::new();
    err.read_line(&mut line).expect("UTF-8");
    assert!(line.contains("waiting for the server") && line.contains(&listen), "{line:?}");
    let server = Server::start_on(&listen);
    let ended = import.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(0), "{ended:?}");
    assert!(server.readings("collar-1") == wanted);
}

#[test]
fn a_dry_run_counts_and_stores_nothing() {
    let server = Server::start();
    let (text, wanted) = history("collar-1", 20);
    server.write("history.csv", &text);
    let said = server.ok(&["import", "--dry-run", "history.csv"]);
    let (first, last) = (&wanted[0].0, &wanted[19].0);
    for part in ["20 readings of 1 series", &format!("from {first} to {last}"), "nothing was stored"] {
        assert!(said.contains(part), "{part} is missing in:\n{said}");
    }
    assert!(server.readings("collar-1").is_empty());
    // It needs no server.
    let said = server.run(&["import", "--dry-run", "history.csv", "--endpoint", "http://127.0.0.1:1"]);
    assert_eq!(said.code, Some(0), "{said:?}");
}

#[test]
fn a_dry_run_tells_all_that_cannot_be_read() {
    let server = Server::start();
    let bad = |value: &str| format!("2026-01-01T00:00:00Z,collar-1,collar,1,steps,{value},1\n");
    let good = history("collar-1", 3).0.replace(HEADER, "");
    server.write("history.csv", &format!("{HEADER}{}{good}{}", bad("much"), bad("more")));
    for skip in [&[][..], &["--skip-bad-rows"]] {
        let said = server.run(&[&["import", "--dry-run", "history.csv"], skip].concat());
        assert_eq!((said.code, said.err.as_str()), (Some(3), ""), "{said:?}");
        for part in ["3 readings", "2 cannot be read", "line 2: metric_value: \"much\"", "line 6: "] {
            assert!(said.out.contains(part), "{part} is missing in:\n{}", said.out);
        }
        // Only who leaves them out has them kept.
        assert_eq!(said.out.contains("--skip-bad-rows"), skip.is_empty(), "{said:?}");
        assert_eq!(server.path("history.csv.rejected.csv").exists(), !skip.is_empty());
    }
    assert!(server.readings("collar-1").is_empty());
}

#[test]
fn a_dry_run_says_what_it_does_not_check() {
    let server = Server::start();
    let future = show(Utc::now() + TimeDelta::days(2));
    server.write("future.csv", &format!("{HEADER}{future},collar-1,collar,1,steps,1,1\n"));
    let said = server.ok(&["import", "--dry-run", "future.csv"]);
    assert!(said.contains("0 cannot be read") && said.contains("the server may still refuse"), "{said}");
    assert_eq!(server.run(&["import", "future.csv"]).code, Some(3));
    // However its lines are broken.
    let help = server.ok(&["import", "--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(help.contains("Not checked is what only a server judges"), "{help}");
}

#[test]
fn all_files_are_looked_at_before_the_first_is_imported() {
    let server = Server::start();
    let (text, wanted) = history("collar-1", 3);
    server.write("good.csv", &text);
    server.write("foreign.csv", "when,sensor,value\n");
    for (second, part) in
        [("missing.csv", "cannot open missing.csv"), ("foreign.csv", "cannot import foreign.csv")]
    {
        let said = server.run(&["import", "good.csv", second]);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{said:?}");
        assert!(said.err.contains(part), "{said:?}");
        assert!(server.readings("collar-1").is_empty());
    }
    server.write("empty.csv", HEADER);
    let said = server.ok(&["import", "empty.csv", "good.csv"]);
    assert!(said.starts_with("empty.csv: it has no rows") && said.contains("3 stored now"), "{said}");
    assert!(server.readings("collar-1") == wanted);
}

#[test]
fn fields_may_be_separated_by_something_else() {
    let server = Server::start();
    let (text, wanted) = history("collar-1", 3);
    for (name, sign, option) in [("a.csv", ";", ";"), ("b.csv", "\t", "tab")] {
        let device = format!("collar-{name}");
        server.write(name, &text.replace("collar-1", &device).replace(',', sign));
        for _ in 0..2 {
            server.ok(&["import", name, "--delimiter", option]);
        }
        assert!(server.readings(&device) == wanted, "{name}");
    }
    server.write("c.csv", &text.replace(',', ";").replace(";2;", ";2,5;"));
    let said = server.run(&["import", "c.csv", "--delimiter", ";"]);
    assert!(said.code == Some(1) && said.err.contains("decimals stand after a point"), "{said:?}");
}

#[test]
fn an_import_that_nobody_listens_to_goes_on() {
    let server = Server::start();
    let mut wanted = Vec::new();
    for device in ["collar-1", "collar-2"] {
        let (text, rows) = history(device, 3);
        server.write(&format!("{device}.csv"), &text);
        wanted.push((device, rows));
    }
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let mut import = server.command(&["import", "collar-1.csv", "collar-2.csv"]);
    let status = import.stdout(writer).status().expect("it ends");
    assert_eq!(status.code(), Some(0));
    for (device, rows) in wanted {
        assert!(server.readings(device) == rows, "{device}");
    }
}

#[test]
fn milkings_are_told_from_readings_by_their_columns() {
    let server = Server::start();
    let time = show(midnight(2) + TimeDelta::hours(5));
    server.write(
        "milk.csv",
        &format!(
            "time,milk_meter_id,animal_id,farm_id,session_id,yield_kg,fat_percent\n{time},1,17,1,a,14.5,\n"
        ),
    );
    for _ in 0..2 {
        server.ok(&["import", "milk.csv"]);
    }
    let milkings = server.json(&["query", "milkings", "1", "--from", "-7d"]);
    assert_eq!(milkings.len(), 1);
    assert_eq!((&milkings[0]["time"], milkings[0]["yield_kg"].as_f64()), (&time.into(), Some(14.5)));
}

#[test]
fn what_cannot_be_imported_says_how_it_could() {
    let server = Server::start();
    server.write("foreign.csv", "when,sensor,value\n");
    server.write("good.csv", HEADER);
    server.write("semicolons.csv", &HEADER.replace(',', ";"));
    server.write("tabs.csv", &HEADER.replace(',', "\t"));
    fs::write(server.path("packed.csv.gz"), b"\x1f\x8b\x08\x00\x00\x00\x00\x00").expect("a file");
    for (args, code, parts) in [
        (
            &["foreign.csv"][..],
            1,
            &["there is no column time", "when, sensor, value", "--map THEIRS=time"][..],
        ),
        (&["missing.csv"], 1, &["cannot open missing.csv"]),
        (&["semicolons.csv"], 1, &["cannot import semicolons.csv", "one column", "--delimiter ';'"]),
        (&["tabs.csv"], 1, &["cannot import tabs.csv", "one column", "--delimiter tab"]),
        (&["good.csv", "--delimiter", ";;"], 2, &["--delimiter", "tab"]),
        (&["packed.csv.gz"], 1, &["cannot read packed.csv.gz", "compressed with gzip", "gunzip"]),
        (&["good.csv", "--map", "a=b"], 2, &["\"b\" is no column"]),
        (
            &["good.csv", "--endpoint", "http://127.0.0.1:1", "--patience", "150ms"],
            1,
            &["waiting for the server", "http://127.0.0.1:1", "start one with"],
        ),
        (&[], 2, &["<FILE>"]),
    ] {
        let said = server.run(&[&["import"], args].concat());
        assert_eq!(said.code, Some(code), "{args:?}: {said:?}");
        for part in parts {
            assert!(said.err.contains(part), "{args:?}: {part} is missing in:\n{}", said.err);
        }
    }
}

#[test]
fn a_file_that_was_changed_is_told_to_be_another() {
    let server = Server::start();
    let (text, wanted) = history("collar-1", 12_345);
    server.write("history.csv", &text);
    assert_eq!(server.run(&["import", "history.csv"]).err.matches("warning").count(), 1, "85 days old");
    let refused = |name: &str| {
        let said = server.run(&["import", name]);
        let already = said.err.contains("are on the server already");
        assert_eq!(said.code, Some(already.into()), "{said:?}");
        for part in ["a former version of it", "nothing of it was stored", "--store-again"] {
            assert_eq!(already, said.err.contains(part), "{said:?}");
        }
        already
    };
    // The same again, and something else.
    assert!(!refused("history.csv"));
    server.write("other.csv", &history("collar-2", 1000).0);
    assert!(!refused("other.csv"));
    server.write("corrected.csv", &text.replace(",12,1\n", ",12.5,1\n"));
    assert!(refused("corrected.csv"));
    // An option that changes how it is read makes it another file, too.
    let said = server.run(&["import", "history.csv", "--time-zone", "UTC"]);
    assert!(said.code == Some(1) && said.err.contains("with other options"), "{said:?}");
    assert_eq!(server.readings("collar-1").len(), wanted.len());
    let said = server.run(&["import", "corrected.csv", "--store-again"]);
    assert!(said.code == Some(0) && said.err.contains("They are stored once more"), "{said:?}");
    assert_eq!(server.readings("collar-1").len(), 2 * wanted.len());
    // From then on it is known.
    assert!(!refused("corrected.csv"));
    // Rows that are new, with some of the old behind them.
    let (new, _) = history("collar-3", 300);
    let old: String = text.lines().skip(1).take(100).flat_map(|line| [line, "\n"]).collect();
    server.write("longer.csv", &format!("{new}{old}"));
    assert!(refused("longer.csv"));
    assert_eq!(server.readings("collar-3"), []);
    let time = show(midnight(2));
    let milk = format!("time,milk_meter_id,animal_id,farm_id,session_id,yield_kg\n{time},1,17,1,a,14.5\n");
    server.write("milk.csv", &milk);
    assert!(!refused("milk.csv"));
    server.write("milk.csv", &milk.replace("14.5", "14.6"));
    assert!(refused("milk.csv"));
}

/// A row of this length, its end included.
fn row_of(bytes: usize) -> String {
    let row = format!("{},collar-1,collar,1,steps,1,1,", show(midnight(2)));
    let filler = "x".repeat(bytes - row.len() - 1);
    format!("{row}{filler}\n")
}

#[test]
fn a_row_has_a_bound_that_is_told_with_its_line() {
    const BOUND: usize = 1 << 20;
    let server = Server::start();
    let header = HEADER.replace('\n', ",note\n");
    // Two of the longest, and the last without an end of its line.
    server.write("long.csv", &format!("{header}{}{}", row_of(BOUND), row_of(BOUND).trim_end()));
    assert!(server.ok(&["import", "long.csv"]).contains("2 stored now"));
    let open = format!("{header}{}\"{}", row_of(100), row_of(1000).repeat(3000));
    for (name, content, line) in [
        ("longer.csv", format!("{header}{}{}", row_of(100), row_of(BOUND + 1)), 3),
        ("open.csv", open, 3),
        ("header.csv", "x,".repeat(BOUND), 1),
        ("zeros.csv", format!("{header}{}", "\0".repeat(3 * BOUND)), 2),
    ] {
        server.write(name, &content);
        for more in [&[][..], &["--skip-bad-rows"], &["--dry-run"]] {
            let said = server.run(&[&["import", name], more].concat());
            assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{name}: {said:?}");
            let parts = [&format!("cannot read {name}"), &format!("line {line} "), "1 MiB", "quotation mark"];
            for part in parts {
                assert!(said.err.contains(part), "{name}: {part} is missing in:\n{}", said.err);
            }
        }
    }
    assert_eq!(server.readings("collar-1").len(), 2);
}

/// A file that is gigabytes long and has no end of a line; it takes no room on the disk.
#[test]
fn a_row_without_an_end_does_not_fill_the_memory() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("endless.csv");
    fs::write(&path, HEADER).expect("a file");
    fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .expect("it is there")
        .set_len(1 << 33)
        .expect("a sparse file");
    let mut import = herdstream();
    // Nobody has so much: it would be killed.
    let limited =
        format!("ulimit -v 1000000; exec {} import --dry-run endless.csv", import.get_program().display());
    let mut shell = std::process::Command::new("sh");
    shell.args(["-c", &limited]).current_dir(dir.path());
    for (name, value) in import.env("LC_ALL", "C").get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    let said = crate::server::run(&mut shell);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("line 2 begins a row of more than 1 MiB"), "{said:?}");
}

#[test]
fn what_has_no_end_or_cannot_be_read_twice_is_no_file() {
    let server = Server::start();
    server.write("good.csv", &history("collar-1", 3).0);
    fs::create_dir(server.path("dir.csv")).expect("a directory");
    let made = std::process::Command::new("mkfifo").arg(server.path("pipe.csv")).status();
    assert!(made.expect("mkfifo is there").success());
    let _socket = std::os::unix::net::UnixListener::bind(server.path("socket.csv")).expect("a socket");
    for (name, what) in [
        ("dir.csv", "it is a directory"),
        // Which nobody writes into: it is not waited for.
        ("pipe.csv", "it is a pipe"),
        ("socket.csv", "it is a socket"),
        ("/dev/zero", "it is a device"),
    ] {
        let said = server.run(&["import", "good.csv", name]);
        assert_eq!((said.code, said.out.as_str()), (Some(1), ""), "{name}: {said:?}");
        assert!(said.err.contains(&format!("cannot read {name}: {what}")), "{said:?}");
    }
    assert!(server.readings("collar-1").is_empty());
}
