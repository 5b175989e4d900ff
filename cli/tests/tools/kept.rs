//! What retention dropped, or will drop: told with answers that may lack it, and before it is imported.

use std::fmt::Write as _;

use crate::server::{Server, midnight, show};

const HEADER: &str = "time,device_uid,device_type,farm_id,metric_name,metric_value,metric_unit\n";

const MILK_HEADER: &str = "time,milk_meter_id,animal_id,farm_id,session_id,yield_kg\n";

/// A server that keeps three days, and drops what was just written when it is told to.
fn forgetful() -> Server {
    let configuration = "\
        [ingest]\naccepted_lateness = \"1d\"\n\
        [rollups]\nenabled = false\n\
        [retention]\nreadings = \"3d\"\nmilkings = \"3d\"\nquiet = \"0s\"\n";
    let server = Server::configured("127.0.0.1:0", configuration);
    let times = [show(midnight(10)), show(midnight(0))];
    let rows: Vec<_> = times.iter().map(|time| format!("{time},collar-1,collar,1,steps,1,1\n")).collect();
    server.write("readings.csv", &format!("{HEADER}{}", rows.concat()));
    let rows: Vec<_> = times.iter().map(|time| format!("{time},1,17,1,{time},14.5\n")).collect();
    server.write("milkings.csv", &format!("{MILK_HEADER}{}", rows.concat()));
    server.ok(&["import", "readings.csv", "milkings.csv"]);
    server
}

/// A row of a day that retention dropped is good, and the store refuses it.
#[test]
fn what_the_store_refuses_is_kept_with_its_reason() {
    let server = forgetful();
    drop_what_is_old(&server);
    let gone = show(midnight(10));
    let mut text = HEADER.to_owned();
    for n in 0..1_200 {
        let time = if n % 2 == 0 { &gone } else { &show(midnight(0)) };
        writeln!(text, "{time},collar-2,collar,1,steps,{n},1").expect("a text takes all");
    }
    server.write("late.csv", &text);
    for _ in 0..2 {
        let said = server.run(&["import", "late.csv"]);
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(said.out.contains("600 refused") && said.out.contains("600 rows not stored"), "{said:?}");
        let kept = std::fs::read_to_string(server.path("late.csv.rejected.csv")).expect("a file");
        assert_eq!(kept.lines().count(), 601);
        for (n, line) in kept.lines().skip(1).enumerate() {
            let row = format!("{gone},collar-2,collar,1,steps,{},1,", 2 * n);
            assert!(line.starts_with(&row) && line.contains("retention"), "{line}");
        }
    }
    assert_eq!(server.readings("collar-2").len(), 600);
}

#[test]
fn what_will_not_stay_is_told_before_it_is_imported() {
    let server = Server::start();
    let rows = |days: &[i64], device: &str| {
        let row = |days: &i64| format!("{},{device},collar,1,steps,1,1\n", show(midnight(*days)));
        format!("{HEADER}{}", days.iter().map(row).collect::<String>())
    };
    // Kept for 90 days.
    for (name, days, told) in [
        ("young.csv", &[0, 3, 82][..], None),
        ("old.csv", &[0, 84, 89, 200], Some("3 of 4 readings will not stay")),
    ] {
        server.write(name, &rows(days, name));
        let said = server.run(&["import", name]);
        assert_eq!(said.code, Some(0), "{said:?}");
        match told {
            Some(told) => {
                for part in [&format!("{name}: warning: {told}"), "an age of 90 days", "within 7 days"] {
                    assert!(said.err.contains(part), "{part} is missing in:\n{}", said.err);
                }
            }
            None => assert_eq!(said.err, ""),
        }
        // It was told.
        assert_eq!(server.run(&["import", name]).err, "");
    }
    let milk = format!("{MILK_HEADER}{},1,17,1,a,14.5\n", show(midnight(88)));
    server.write("milk.csv", &milk);
    let said = server.run(&["import", "milk.csv"]);
    assert!(said.err.contains("milk.csv: warning: 1 of 1 milkings will not stay"), "{said:?}");

    // Of days that were dropped, and of days before that never were there.
    let server = forgetful();
    drop_what_is_old(&server);
    server.write("gone.csv", &rows(&[0, 10, 20], "collar-2"));
    let said = server.run(&["import", "gone.csv", "--skip-bad-rows"]);
    assert_eq!(said.code, Some(3), "{said:?}");
    let day = &show(midnight(9))[..10];
    for part in [
        &format!(
            "gone.csv: warning: 2 of 3 readings are from before {day}, where the server has dropped days"
        ),
        "gone.csv: warning: 1 of 3 readings will not stay",
        "an age of 3 days",
    ] {
        assert!(said.err.contains(part), "{part} is missing in:\n{}", said.err);
    }
    assert!(said.out.contains("2 stored now") && said.out.contains("1 refused"), "{said:?}");
}

#[test]
fn a_server_that_keeps_everything_is_no_reason_to_warn() {
    let configuration = "[retention]\nreadings = \"off\"\nmilkings = \"off\"\nrollup_15min = \"off\"\nrollup_hourly = \"off\"\n";
    let server = Server::configured("127.0.0.1:0", configuration);
    server.write("old.csv", &format!("{HEADER}2019-01-01T00:00:00Z,collar-1,collar,1,steps,1,1\n"));
    let said = server.run(&["import", "old.csv"]);
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
}

fn drop_what_is_old(server: &Server) {
    server.ok(&["admin", "refresh"]);
    server.ok(&["admin", "refresh", "--from", "-2d", "--rebuild"]);
    server.ok(&["admin", "retention"]);
}

#[test]
fn streams_and_milkings_say_from_when_on_they_are_kept() {
    let server = forgetful();
    let (before, inside) = (show(midnight(12)), show(midnight(9)));
    for format in ["table", "csv", "json"] {
        for question in [&["query", "stream", "--farm", "1"][..], &["query", "milkings", "1"]] {
            let said = server.run(&[question, &["--from", &before, "--format", format]].concat());
            assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{question:?}");
        }
    }
    let kept = |server: &Server| -> Vec<(String, String)> {
        let rows = server.json(&["query", "info"]);
        let rows =
            rows.iter().filter(|row| row["what"].as_str().is_some_and(|what| what.ends_with("_kept_for")));
        let text = |row: &serde_json::Value, name| row[name].as_str().unwrap_or_default().to_owned();
        rows.map(|row| (text(row, "value"), text(row, "note"))).collect()
    };
    assert_eq!(kept(&server), vec![("3 days".to_owned(), String::new()); 2]);
    drop_what_is_old(&server);
    let dropped = format!("days before {} were dropped", &inside[..10]);
    assert_eq!(kept(&server), vec![("3 days".to_owned(), dropped); 2]);
    let note = format!("herdstream: what lies before {inside} is no longer kept");
    for format in ["table", "csv", "json"] {
        for (question, note) in [
            (&["query", "stream", "--farm", "1"][..], format!("{note} at this resolution\n")),
            (&["query", "milkings", "1"], format!("{note}\n")),
        ] {
            let ask = |from: &str, to: &str| {
                server.run(&[question, &["--from", from, "--to", to, "--format", format]].concat())
            };
            let said = ask(&before, "now");
            assert_eq!((said.code, &said.err), (Some(0), &note), "{question:?}");
            assert!(said.out.contains(&show(midnight(0))), "{said:?}");
            // Where nothing is left, too.
            let said = ask(&before, &inside);
            assert_eq!((said.code, &said.err), (Some(0), &note), "{question:?}");
            // And nothing where nothing lacks.
            let said = ask(&inside, "now");
            assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{question:?}");
        }
    }
}
