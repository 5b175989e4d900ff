//! What goes wrong is told in the words of the command line, and with the way out.

use std::fmt::Write as _;

use chrono::{SecondsFormat, TimeDelta, Utc};

use crate::server::{Said, Server, midnight, show};

const HEADER: &str = "time,device_uid,device_type,farm_id,metric_name,metric_value,metric_unit\n";

/// Words of the API that nobody types.
const INTERNALS: [&str; 9] = [
    "InvalidArgument",
    "_us",
    "RESOLUTION_",
    "page_size",
    "max_points",
    "time_zone",
    "farm_id",
    "000000",
    "metadata",
];

fn check(said: &Said, code: i32, parts: &[&str]) {
    assert_eq!((said.code, said.out.as_str()), (Some(code), ""), "{said:?}");
    for part in parts {
        assert!(said.err.contains(part), "{part} is missing in:\n{}", said.err);
    }
    for word in INTERNALS {
        assert!(!said.err.contains(word), "{word} stands in:\n{}", said.err);
    }
}

/// Collars of farm 1, with a row a quarter of an hour from midnight some days ago.
fn with_history(days_ago: i64, rows: i64) -> Server {
    let server = Server::start();
    let mut text = HEADER.to_owned();
    for n in 0..rows {
        let time = show(midnight(days_ago) + TimeDelta::minutes(15 * n));
        writeln!(text, "{time},collar-1,collar,1,steps,{n},1").expect("a text takes all");
    }
    server.write("history.csv", &text);
    server.ok(&["import", "history.csv"]);
    server
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused_by_its_options() {
    // Before any server is asked.
    let server = Server::start();
    let nowhere = ["--endpoint", "http://127.0.0.1:1"];
    let span = ["--from", "2026-11-23", "--to", "2026-11-20T12:00:00+01:00"];
    let ends = ["--to 2026-11-20T11:00:00Z", "--from 2026-11-23T00:00:00Z"];
    for question in [
        &["query", "range", "--device", "a", "--metric", "b"][..],
        &["query", "stream", "--device", "a"],
        &["query", "milkings", "1"],
        &["query", "animal", "1"],
    ] {
        check(&server.run(&[question, &span, &nowhere].concat()), 2, &ends);
    }
    for question in [&["admin", "refresh"][..], &["admin", "explain", "--device", "a", "--metric", "b"]] {
        check(
            &server.run(&[question, &span, &["--admin-endpoint", "http://127.0.0.1:1"]].concat()),
            2,
            &ends,
        );
    }
    let days = ["--first", "2026-11-23", "--last", "2026-11-20"];
    for question in [&["query", "milk", "1"][..], &["query", "farm-summary", "1"]] {
        check(
            &server.run(&[question, &days, &nowhere].concat()),
            2,
            &["--last 2026-11-20", "--first 2026-11-23"],
        );
        check(&server.run(&[question, &["--first", "24.11.2026"]].concat()), 2, &["--first", "2026-11-24"]);
    }
}

#[test]
fn what_the_server_refuses_is_told_with_options() {
    let server = with_history(3, 130);
    let range = ["query", "range", "--device", "collar-1", "--metric", "steps"];
    let with = |more: &[&'static str]| server.run(&[&range[..], more].concat());
    check(&with(&["--max-points", "60000"]), 1, &["--max-points: 60000 is more than 50000"]);
    check(
        &with(&["--from", "-692d", "--max-points", "120"]),
        1,
        &["--max-points: the range has 693 days", "--max-points 693", "--resolution day"],
    );
    check(&with(&["--resolution", "day", "--stat", "p95"]), 1, &["--stat: ", "--resolution hour"]);
    check(&server.run(&["query", "milkings", "0"]), 1, &["FARM: 0 is below"]);
    check(&server.run(&["query", "animal", "1", "--from", "-3000d"]), 1, &["--to: 20", "after --from 20"]);
    // A name that somebody typed stays as it is.
    let said = server.run(&["query", "latest", "collar-1", "--metric", "farm_id"]);
    assert!(said.err.contains("\"farm_id\" is not a metric"), "{said:?}");
}

#[test]
fn a_long_range_is_told_by_day_unless_points_are_asked_for() {
    let server = with_history(3, 130);
    let from = show(midnight(690));
    let question = ["query", "range", "--device", "collar-1", "--metric", "steps", "--from", &from];
    let days = server.json(&question);
    let shown: Vec<_> =
        days.iter().map(|day| (day["start"].as_str().expect("a text"), &day["count"])).collect();
    let date = |days_ago| midnight(days_ago).date_naive().to_string();
    assert_eq!(shown, [(date(3).as_str(), &96.into()), (date(2).as_str(), &34.into())]);
    let enough = [&question[..], &["--max-points", "800"]].concat();
    assert_eq!(server.json(&enough).len(), 130);
}

#[test]
fn days_are_those_of_the_time_zone() {
    let server = with_history(5, 400);
    let date = |days_ago| midnight(days_ago).date_naive().to_string();
    let (from, to) = (date(4), date(2));
    // Nepal is 05:45 before UTC, the whole year.
    let question = [
        &["query", "range", "--device", "collar-1", "--metric", "steps", "--time-zone", "Asia/Kathmandu"][..],
        &["--from", &from, "--to", &to],
    ]
    .concat();
    let by_day = [&question[..], &["--resolution", "day", "--stat", "min"]].concat();
    let days = server.json(&by_day);
    let shown: Vec<_> = days.iter().map(|day| (day["start"].clone(), day["min"].as_f64())).collect();
    // A quarter of an hour is a row: the fourth day ago begins 23 of them before its midnight in UTC, 96 after the first.
    assert_eq!(shown, [(from.clone().into(), Some(73.0)), (date(3).into(), Some(169.0))]);
    for format in ["csv", "table"] {
        let said = server.ok(&[&by_day[..], &["--format", format]].concat());
        assert!(said.contains(&from) && !said.contains('Z'), "{said}");
    }
    let drawn = server.ok(&[&by_day[..], &["--format", "table", "--chart"]].concat());
    assert!(drawn.contains('┤') && !drawn.contains('Z'), "{drawn}");
    // Readings keep their time, and begin with the zone's day.
    let readings = server.json(&[&question[..], &["--max-points", "500"]].concat());
    let start = midnight(4) - TimeDelta::minutes(345);
    assert_eq!(readings[0]["time"], start.to_rfc3339_opts(SecondsFormat::AutoSi, true));
    assert_eq!(readings.len(), 192);
}

/// Whatever is asked for, and also where the server knows no time zone.
#[test]
fn dates_are_those_of_the_time_zone() {
    let server = with_history(5, 400);
    let date = |days_ago| midnight(days_ago).date_naive().to_string();
    let (from, to) = (date(4), date(3));
    let span = ["--time-zone", "Asia/Kathmandu", "--from", &from, "--to", &to];
    let range = ["query", "range", "--device", "collar-1", "--metric", "steps"];
    let start = show(midnight(4) - TimeDelta::minutes(345));
    for (resolution, start, rows) in [
        ("raw", start.clone(), 96),
        ("15min", start.clone(), 96),
        // The hour that holds the start is told whole, and so is the one that holds the end.
        ("hour", show(midnight(4) - TimeDelta::hours(6)), 25),
        ("day", from.clone(), 1),
    ] {
        let answer = server.json(&[&range[..], &span, &["--resolution", resolution]].concat());
        let at = answer[0]["start"].as_str().or(answer[0]["time"].as_str());
        assert_eq!((at, answer.len()), (Some(&*start), rows), "{resolution}: {answer:?}");
    }
    let stream =
        server.ok(&[&["query", "stream", "--device", "collar-1"], &span[..], &["--format", "json"]].concat());
    assert!(stream.lines().count() == 96 && stream.contains(&start), "{stream}");

    // An animal and its milk, a minute before the zone's midnight and at it.
    let (last, first) = (midnight(3) - TimeDelta::minutes(346), midnight(3) - TimeDelta::minutes(345));
    let mut text = "time,milk_meter_id,animal_id,farm_id,session_id,yield_kg\n".to_owned();
    let mut readings = HEADER.replace('\n', ",animal_id\n");
    for (time, value) in [(last, 1), (first, 2)] {
        writeln!(text, "{},1,17,1,a,{value}", show(time)).expect("a text takes all");
        writeln!(readings, "{},collar-2,collar,1,steps,{value},1,17", show(time)).expect("a text takes all");
    }
    server.write("milk.csv", &text);
    server.write("animal.csv", &readings);
    server.ok(&["import", "milk.csv", "animal.csv"]);
    let milkings = server.json(&[&["query", "milkings", "1"], &span[..]].concat());
    assert!(milkings.len() == 1 && milkings[0]["time"] == *show(last), "{milkings:?}");
    let animal = server.json(&[&["query", "animal", "17"], &span[..]].concat());
    assert!(animal.len() == 1 && animal[0]["at"] == *show(last), "{animal:?}");
}

#[test]
fn help_says_what_is_told_of_buckets() {
    let server = Server::start();
    let help = server.ok(&["query", "range", "--help"]).split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        "Time zone of days, and of --from and --to where they are dates",
        "neither of several devices together nor for days of a time zone",
        "may reach beyond --from and --to",
    ] {
        assert!(help.contains(part), "{part} is missing in:\n{help}");
    }
    let help = server.ok(&["query", "animal", "--help"]);
    assert!(help.contains("Time zone of --from and --to where they are dates"), "{help}");
}

#[test]
fn a_wrong_port_says_which_is_meant() {
    let server = Server::start();
    let said = server.run(&["admin", "lifecycle", "--admin-endpoint", &server.endpoint]);
    check(
        &said,
        1,
        &[&server.endpoint, "no administration port", "--admin-endpoint", "http://127.0.0.1:7173"],
    );
    for question in [&["query", "devices"][..], &["query", "range", "--device", "a", "--metric", "b"]] {
        let said = server.run(&[question, &["--endpoint", &server.admin]].concat());
        check(&said, 1, &[&server.admin, "may be the administration port", "http://127.0.0.1:7171"]);
    }
    server.write("one.csv", &format!("{HEADER}{},a,collar,1,steps,1,1\n", show(midnight(1))));
    let said = server.run(&["import", "one.csv", "--endpoint", &server.admin]);
    check(&said, 1, &[&server.admin, "may be the administration port"]);
    for (question, option) in
        [(["query", "info"], "--endpoint"), (["admin", "lifecycle"], "--admin-endpoint")]
    {
        let said = server.run(&[&question[..], &[option, "127.0.0.1:7171"]].concat());
        check(&said, 1, &[option, "127.0.0.1:7171", "write it as http://host:port"]);
        assert!(!said.err.contains("no server answers"), "{said:?}");
    }
}

#[test]
fn who_has_no_token_or_a_wrong_one_learns_where_to_put_it() {
    let server = Server::configured(
        "127.0.0.1:0",
        "[[auth.gateways]]\ngateway_id = 'barn-7'\ntoken = 'hay-and-more-hay-1'\n",
    );
    let with_token =
        |args: &[&str], token: &str| crate::server::run(server.command(args).env("HERDSTREAM_TOKEN", token));
    let ways = ["--token-file", "HERDSTREAM_TOKEN"];
    check(&server.run(&["query", "devices"]), 1, &ways);
    let said = with_token(&["query", "devices"], "straw-and-more-straw");
    check(&said, 1, &[&ways[..], &["not one of this server's"]].concat());
    assert!(!said.err.contains("straw"), "{said:?}");
    assert_eq!(with_token(&["query", "devices"], "hay-and-more-hay-1").code, Some(0));

    let time = show(Utc::now() - TimeDelta::hours(1));
    server.write("one.csv", &format!("{HEADER}{time},a,collar,1,steps,1,1\n"));
    let said = with_token(&["import", "one.csv"], "hay-and-more-hay-1");
    check(&said, 1, &["--gateway", "\"barn-7\"", "block 1 was not stored"]);
    assert!(!said.err.contains("start the import again"), "{said:?}");
    let said = with_token(&["import", "one.csv", "--gateway", "barn-7"], "hay-and-more-hay-1");
    assert_eq!(said.code, Some(0), "{said:?}");
}
