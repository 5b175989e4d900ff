//! Answers are read by programs as they are by people.

use std::{collections::BTreeSet, fmt::Write as _, process::Stdio};

use chrono::TimeDelta;
use serde_json::Value;

use crate::server::{Said, Server, herdstream, midnight, run, show};

/// Three days ago a probe measured each quarter of an hour: ten degrees at midnight, one more with each hour. The cow
/// 17 chewed half of each hour, and gave milk twice.
fn example() -> Server {
    let server = Server::start();
    let day = midnight(3);
    let mut text =
        "time,device_uid,device_type,farm_id,metric_name,metric_value,metric_unit,animal_id,zone_id\n"
            .to_owned();
    for quarter in 0..96 {
        let time = show(day + TimeDelta::minutes(15 * quarter));
        let value = 10 + quarter / 4;
        writeln!(text, "{time},probe-1,climate_probe,1,temperature,{value},Cel,,3").expect("text");
        if quarter % 4 == 0 {
            writeln!(text, "{time},\"collar \"\"17\"\", left\",collar,1,rumination,30.5,min,17,")
                .expect("text");
        }
    }
    server.write("readings.csv", &text);
    let mut text = "time,milk_meter_id,animal_id,farm_id,session_id,yield_kg,milking_type\n".to_owned();
    for (hour, yield_kg) in [(5, 14.5), (17, 11.25)] {
        let time = show(day + TimeDelta::hours(hour));
        writeln!(text, "{time},1,17,1,s-{hour},{yield_kg},parlour").expect("text");
    }
    server.write("milkings.csv", &text);
    server.ok(&["import", "readings.csv", "milkings.csv"]);
    server
}

/// The rows of CSV as objects of text.
fn csv_rows(text: &str) -> Vec<Vec<(String, String)>> {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let header = reader.headers().expect("a header").clone();
    let row = |row: csv::StringRecord| {
        header.iter().map(str::to_owned).zip(row.iter().map(str::to_owned)).collect()
    };
    reader.records().map(|record| row(record.expect("a row as long as the header"))).collect()
}

#[test]
fn every_answer_says_the_same_as_json_and_as_csv() {
    let server = example();
    let (from, to) = (show(midnight(3)), show(midnight(2)));
    let day = &from[..10];
    let range = ["query", "range", "--metric", "temperature", "--from", &from, "--to", &to];
    let with = |more: &[&'static str]| [&range[..], more].concat();
    let collar = "collar \"17\", left";
    let questions: Vec<(Vec<&str>, Option<usize>)> = vec![
        (vec!["query", "latest", "probe-1"], Some(1)),
        (vec!["query", "latest", collar, "--metric", "rumination", "--farm", "1"], Some(1)),
        (with(&["--device", "probe-1", "--resolution", "raw"]), Some(96)),
        (with(&["--device", "probe-1", "--resolution", "15min"]), Some(96)),
        (with(&["--device", "probe-1", "--resolution", "hour", "--stat", "avg", "--stat", "max"]), Some(24)),
        (
            with(&["--zone", "3", "--farm", "1", "--resolution", "day", "--time-zone", "Asia/Kathmandu"]),
            Some(2),
        ),
        (with(&["--farm", "1", "--resolution", "day"]), Some(1)),
        (with(&["--device", "probe-1", "--max-points", "30"]), Some(24)),
        (vec!["query", "milkings", "1", "--from", &from], Some(2)),
        (vec!["query", "milk", "1", "--animal", "17", "--first", day, "--last", day], Some(1)),
        (vec!["query", "farm-summary", "1", "--first", day, "--last", day], Some(2)),
        (vec!["query", "animal", "17", "--from", &from], Some(1)),
        (vec!["query", "devices", "--farm", "1"], Some(2)),
        (vec!["query", "status", "probe-1"], Some(1)),
        (vec!["query", "status", "probe-1", "--farm", "1"], Some(1)),
        (vec!["query", "series"], Some(2)),
        (vec!["query", "series", "--metric", "rumination"], Some(1)),
        (vec!["query", "stats"], Some(1)),
        (vec!["query", "info"], None),
        (vec!["admin", "refresh"], Some(4)),
        (vec!["admin", "lifecycle"], Some(4)),
        (vec!["admin", "retention", "--dry-run"], None),
        (vec!["admin", "chunks"], None),
        (vec!["admin", "explain", "--device", "probe-1", "--metric", "temperature"], None),
    ];
    for (question, count) in questions {
        let objects = server.json(&question);
        let rows = csv_rows(&server.ok(&[&question[..], &["--format", "csv"]].concat()));
        assert_eq!(objects.len(), rows.len(), "{question:?}");
        if let Some(count) = count {
            assert_eq!(objects.len(), count, "{question:?}: {objects:?}");
        }
        if question[1] == "explain" {
            continue; // It took another time.
        }
        for (object, row) in objects.iter().zip(&rows) {
            for (name, text) in row {
                let same = match &object[name] {
                    Value::Null => text.is_empty(),
                    Value::String(value) => value == text,
                    Value::Number(value) => {
                        let (json, csv) = (value.as_f64(), text.parse::<f64>());
                        json.zip(csv.ok()).is_some_and(|(json, csv)| (json - csv).abs() < 1e-4)
                    }
                    Value::Bool(value) => text.parse() == Ok(*value),
                    other => panic!("{question:?}: {name} is {other}"),
                };
                assert!(same, "{question:?}: {name} is {:?} and {text:?}", object[name]);
            }
        }
        let names = |row: &Vec<(String, String)>| row.iter().map(|(name, _)| name.clone()).collect();
        let columns: BTreeSet<String> = rows.first().map(names).unwrap_or_default();
        for object in &objects {
            let keys = object.as_object().expect("an object").keys();
            assert!(keys.clone().all(|key| columns.contains(key)), "{question:?}: {keys:?}");
        }
    }
}

/// A program that takes a column by its number finds the same in it, whatever there is to tell.
#[test]
fn csv_has_all_columns_whatever_is_empty() {
    let server = example();
    let from = show(midnight(3));
    let header = |question: &[&str]| {
        let said = server.ok(&[question, &["--format", "csv"]].concat());
        said.lines().next().expect("a header").to_owned()
    };
    let range = ["query", "range", "--metric", "temperature"];
    let readings = "time,farm,device,type,metric,value,unit,animal,zone,session,battery,signal,metadata";
    let buckets = "start,farm,device,type,metric,unit,count,sum,avg,min,max,stddev,median,p95,valid,errors";
    let milkings = "time,animal,farm,meter,session,yield_kg,seconds,flow_kg_min,conductivity,fat,protein,cells,risk,blood";
    for (question, wanted) in [
        (&["query", "latest", "probe-1"][..], readings),
        (&["query", "latest", "collar \"17\", left"], readings),
        (&["query", "stream", "--farm", "1", "--from", &from], readings),
        (&[&range[..], &["--zone", "3", "--from", &from, "--resolution", "raw"]].concat(), readings),
        (&[&range[..], &["--zone", "3", "--from", &from, "--resolution", "hour"]].concat(), buckets),
        (&[&range[..], &["--device", "probe-1", "--from", &from, "--resolution", "day"]].concat(), buckets),
        // Also where there is nothing at all.
        (&[&range[..], &["--device", "probe-1", "--resolution", "raw"]].concat(), readings),
        (&[&range[..], &["--device", "probe-1", "--resolution", "hour"]].concat(), buckets),
        (&["query", "milkings", "1", "--from", &from], milkings),
        (&["query", "milkings", "1"], milkings),
        (
            &["query", "milk", "1", "--first", &from[..10]],
            "date,animal,milkings,total_kg,avg_kg,conductivity,cells,risk,fat,protein",
        ),
        (&["admin", "chunks"], "table,name,from,to,bytes,uncompressed,ratio,compressed"),
        (&["admin", "retention", "--dry-run"], "table,from,to,rows,bytes,what"),
        (&["admin", "lifecycle"], "level,closed_before,stored_before,kept_from,dirty_hours"),
    ] {
        assert_eq!(header(question), wanted, "{question:?}");
    }
    let table = server.ok(&["query", "latest", "probe-1", "--format", "table"]);
    assert!(table.contains("ZONE") && !table.contains("ANIMAL"), "{table}");
    let none = [&range[..], &["--device", "probe-1", "--resolution", "hour", "--format", "table"]].concat();
    assert!(server.ok(&none).starts_with("nothing between"), "{}", server.ok(&none));
}

#[test]
fn answers_are_true() {
    let server = example();
    let (from, to) = (show(midnight(3)), show(midnight(2)));
    let hours = server.json(&[
        "query",
        "range",
        "--device",
        "probe-1",
        "--metric",
        "temperature",
        "--from",
        &from,
        "--to",
        &to,
        "--resolution",
        "hour",
        "--stat",
        "count",
        "--stat",
        "avg",
        "--stat",
        "p95",
    ]);
    assert_eq!(hours.len(), 24);
    for (hour, bucket) in hours.iter().enumerate() {
        let start = show(midnight(3) + TimeDelta::hours(hour as i64));
        let wanted = 10.0 + hour as f64;
        assert_eq!(bucket["start"], *start);
        assert_eq!((bucket["count"].as_u64(), bucket["avg"].as_f64()), (Some(4), Some(wanted)), "{bucket}");
        assert_eq!((&bucket["unit"], bucket["p95"].as_f64()), (&"Cel".into(), Some(wanted)), "{bucket}");
        assert!(bucket["max"].is_null(), "only what was asked for: {bucket}");
    }
    let latest = server.json(&["query", "latest", "probe-1"]);
    let time = show(midnight(2) - TimeDelta::minutes(15));
    assert_eq!((&latest[0]["time"], latest[0]["value"].as_f64()), (&time.into(), Some(33.0)), "{latest:?}");
    let milk = server.json(&["query", "milk", "1", "--first", &from[..10]]);
    assert_eq!(
        (milk[0]["milkings"].as_u64(), milk[0]["total_kg"].as_f64()),
        (Some(2), Some(25.75)),
        "{milk:?}"
    );
    // A stream is an object a line.
    let stream =
        server.ok(&["query", "stream", "--zone", "3", "--farm", "1", "--from", &from, "--format", "json"]);
    let values =
        stream.lines().map(|line| serde_json::from_str::<Value>(line).expect("an object")["value"].as_f64());
    let wanted = (0..96).map(|quarter| Some(f64::from(10 + quarter / 4)));
    assert!(values.eq(wanted), "{stream}");
    // Nothing is an empty array, a header, and a word.
    let none = ["query", "milkings", "1", "--animal", "99"];
    assert!(server.json(&none).is_empty());
    assert!(csv_rows(&server.ok(&[&none[..], &["--format", "csv"]].concat())).is_empty());
    let table = [&none[..], &["--format", "table"]].concat();
    assert!(server.ok(&table).starts_with("nothing between 20"), "{}", server.ok(&table));
    assert_eq!(server.ok(&[&table[..], &["--from", "-24h"]].concat()), "nothing\n");
}

/// As behind `| head`.
#[test]
fn an_answer_that_nobody_reads_is_no_failure() {
    let server = example();
    let range = ["query", "range", "--device", "probe-1", "--metric", "temperature"];
    let stream = ["query", "stream", "--zone", "3", "--farm", "1"];
    for question in [&range[..], &stream] {
        for format in ["csv", "json", "table"] {
            for is_err_read in [true, false] {
                let (reader, writer) = std::io::pipe().expect("a pipe");
                drop(reader);
                let mut asking = server.command(&[question, &["--from", "-7d", "--format", format]].concat());
                if !is_err_read {
                    asking.stderr(writer.try_clone().expect("a pipe"));
                }
                let said = run(asking.stdout(writer));
                assert_eq!(said.code, Some(0), "{question:?} {format} {is_err_read}: {said:?}");
                assert!(!said.err.contains("roken pipe"), "{said:?}");
            }
        }
    }
}

#[test]
fn an_empty_answer_says_which_time_was_asked_for() {
    let server = example();
    let today = show(midnight(0));
    let (time, days) = (["--from and --to"], ["--first and --last"]);
    for (question, parts) in [
        (&["query", "range", "--device", "probe-1", "--metric", "temperature"][..], time),
        (&["query", "stream", "--device", "probe-1"], time),
        (&["query", "milkings", "1"], time),
        (&["query", "animal", "17"], time),
        (&["query", "milk", "1", "--last", "2026-01-01"], days),
        (&["query", "farm-summary", "1", "--last", "2026-01-01"], days),
    ] {
        for format in ["csv", "json"] {
            let with_format = [question, &["--format", format]].concat();
            let said = server.run(&with_format);
            assert_eq!(said.code, Some(0), "{said:?}");
            for part in parts {
                assert!(said.err.contains("nothing ") && said.err.contains(part), "{question:?}: {said:?}");
            }
            assert!(!said.out.contains("nothing"), "{said:?}");
        }
    }
    // Who said when, knows.
    let said = server.run(&["query", "milkings", "1", "--from", &today, "--format", "csv"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""));
}

#[test]
fn a_reader_that_leaves_is_no_failure() {
    let server = example();
    for format in ["json", "csv", "table"] {
        for question in [
            &["query", "devices"][..],
            &["query", "stream", "--device", "probe-1", "--from", "-7d"],
            &["query", "range", "--device", "probe-1", "--metric", "temperature", "--from", "-7d", "--chart"],
            &["admin", "explain", "--device", "probe-1", "--metric", "temperature"],
        ] {
            let mut command = server.command(&[question, &["--format", format]].concat());
            let (reader, writer) = std::io::pipe().expect("a pipe");
            drop(reader);
            let child = command.stdout(writer).stderr(Stdio::piped()).spawn().expect("it starts");
            drop(command);
            let ended = child.wait_with_output().expect("it ends");
            let said = String::from_utf8(ended.stderr).expect("UTF-8");
            assert_eq!(ended.status.code(), Some(0), "{question:?} {format}: {said}");
            assert!(!said.contains("pipe") && !said.contains("panic"), "{question:?} {format}: {said}");
        }
    }
}

#[test]
fn a_chart_leaves_json_and_csv_alone() {
    let server = example();
    let from = show(midnight(3));
    let question =
        ["query", "range", "--device", "probe-1", "--metric", "temperature", "--from", &from, "--chart"];
    for format in ["json", "csv"] {
        let said = server.run(&[&question[..], &["--format", format]].concat());
        assert_eq!(said.code, Some(0), "{said:?}");
        assert!(said.err.starts_with("temperature of probe-1 (Cel)\n") && said.err.contains('┤'), "{said:?}");
        assert!(!said.out.contains('┤') && !said.out.starts_with('\n'), "{said:?}");
    }
    // A point alone is no line, and takes none.
    let one = [&question[..], &["--resolution", "day", "--format", "table"]].concat();
    let table = server.ok(&one);
    assert!(table.starts_with("START") && table.lines().count() == 2, "{table:?}");
}

#[test]
fn a_range_is_drawn() {
    let server = example();
    let (from, to) = (show(midnight(3)), show(midnight(2)));
    let question = [
        "query",
        "range",
        "--device",
        "probe-1",
        "--metric",
        "temperature",
        "--from",
        &from,
        "--to",
        &to,
        "--resolution",
        "hour",
        "--format",
        "table",
    ];
    let drawn = server.ok(&[&question[..], &["--chart"]].concat()).replace(&from[..10], "2026-11-24");
    let (chart, table) = drawn.split_once("\n\n").expect("a chart above a table");
    assert_eq!(format!("{chart}\n"), CHART, "\n{chart}\n");
    let table: Vec<Vec<&str>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(table[0], ["START", "FARM", "DEVICE", "TYPE", "METRIC", "UNIT", "COUNT", "AVG", "MIN", "MAX"]);
    assert_eq!(
        table[24],
        [
            "2026-11-24T23:00:00Z",
            "1",
            "probe-1",
            "climate_probe",
            "temperature",
            "Cel",
            "4",
            "33",
            "33",
            "33"
        ]
    );
    // Not where a program reads.
    assert!(!server.ok(&question).contains('┤'));
}

/// A rise by one degree an hour.
const CHART: &str = "\
temperature of probe-1 (Cel)
  33 ┤⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⣀⠤⠒⠒⠊
     ┤⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⣀⡠⠔⠒⠊⠉⠉⠀⠀⠀⠀⠀
     ┤⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⣀⡠⠔⠒⠒⠉⠉⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀
     ┤⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⢀⡠⠔⠒⠒⠉⠉⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀
21.5 ┤⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⢀⣀⣀⠤⠒⠉⠉⠁⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀
     ┤⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⢀⣀⣀⠤⠔⠊⠉⠁⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀
     ┤⠀⠀⠀⠀⠀⠀⠀⣀⣀⠤⠔⠊⠉⠁⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀
  10 ┤⣀⣀⡠⠔⠊⠉⠉⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀⠀
      2026-11-24T00:00:00Z             2026-11-24T23:00:00Z
";

#[test]
fn what_goes_wrong_says_what_to_do() {
    let server = Server::start();
    let nowhere = |args: &[&str]| {
        let mut command = herdstream();
        run(command
            .args(args)
            .env("HERDSTREAM_ENDPOINT", "http://127.0.0.1:1")
            .env("HERDSTREAM_ADMIN_ENDPOINT", "http://127.0.0.1:1")
            .env("HERDSTREAM_TOKEN", "hay-and-more-hay-1"))
    };
    let range = ["query", "range", "--device", "a", "--metric", "b"];
    let with = |more: &[&'static str]| server.run(&[&range[..], more].concat());
    for (said, code, parts) in [
        (nowhere(&["query", "info"]), 1, &["http://127.0.0.1:1", "start one with `herdstream`"][..]),
        (nowhere(&["admin", "lifecycle"]), 1, &["http://127.0.0.1:1", "--admin-endpoint"]),
        (with(&["--from", "yesterday"]), 2, &["--from", "-24h"]),
        (with(&["--resolution", "week"]), 2, &["15min, hour, day, auto"]),
        (with(&["--animal", "1"]), 2, &["--device", "cannot be used with"]),
        (server.run(&["query", "range", "--metric", "b"]), 2, &["--animal"]),
        (server.run(&["query", "watch", "--metric", "b"]), 2, &["<--device <DEVICE>|--farm <FARM>>"]),
        (with(&["--time-zone", "Mars/Base", "--resolution", "day"]), 2, &["--time-zone", "Mars/Base"]),
    ] {
        let Said { code: ended, out, err } = said;
        assert_eq!((ended, out.as_str()), (Some(code), ""), "{err}");
        for part in parts {
            assert!(err.contains(part), "{part} is missing in:\n{err}");
        }
        assert!(!err.contains("hay-and"), "{err}");
    }
}
