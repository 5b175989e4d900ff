//! Rows that are not stored are kept with the reasons, once, and nothing else is lost for them.

use std::{fmt::Write as _, fs, os::unix::fs::symlink};

use crate::server::{Said, Server, midnight, show};

const HEADER: &str = "time,device_uid,device_type,farm_id,metric_name,metric_value,metric_unit,note\n";

/// A row of a device, so many days ago.
fn row(days: i64, value: &str) -> String {
    format!("{},collar-1,collar,1,steps,{value},1,\"as, noted\"\n", show(midnight(days)))
}

/// Rows of a file as the server's commands write it, without the header, which is checked.
fn rows(server: &Server, name: &str, delimiter: u8) -> Vec<Vec<String>> {
    let mut reader = csv::ReaderBuilder::new()
        .delimiter(delimiter)
        .from_path(server.path(name))
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    let header: Vec<String> = reader.headers().expect("a header").iter().map(str::to_owned).collect();
    assert_eq!(header.join(","), format!("{},reason", HEADER.trim()));
    let row = |row: Result<csv::StringRecord, _>| row.expect("a row").iter().map(str::to_owned).collect();
    reader.records().map(row).collect()
}

fn names(server: &Server) -> Vec<String> {
    let entries = fs::read_dir(server.path("")).expect("a directory");
    let names = entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("UTF-8"));
    let mut names: Vec<String> = names.filter(|name| name.contains("rejected")).collect();
    names.sort();
    names
}

fn import(server: &Server, args: &[&str]) -> Said {
    let said = server.run(&[&["import"], args].concat());
    assert_eq!(said.code, Some(3), "{said:?}");
    said
}

/// One row that cannot be read, one that the server refuses, two that are good.
fn two_of_four(delimiter: char) -> String {
    let all = [row(3, "1"), row(2, "much"), row(-2, "3"), row(2, "4")].concat();
    let mut text = HEADER.replace(',', &delimiter.to_string());
    let mut reader = csv::ReaderBuilder::new().has_headers(false).from_reader(all.as_bytes());
    for row in reader.records() {
        let row: Vec<_> = row.expect("a row").iter().map(|field| format!("\"{field}\"")).collect();
        writeln!(text, "{}", row.join(&delimiter.to_string())).expect("a text takes all");
    }
    text
}

#[test]
fn both_who_cannot_be_read_and_who_is_refused_are_kept_and_can_be_mended() {
    for (delimiter, option) in [(',', ","), (';', ";"), ('\t', "tab")] {
        let server = Server::start();
        server.write("history.csv", &two_of_four(delimiter));
        let args = ["history.csv", "--skip-bad-rows", "--delimiter", option];
        let said = import(&server, &args);
        for part in
            ["2 stored now", "1 refused", "1 skipped", "2 rows not stored", "history.csv.rejected.csv"]
        {
            assert!(said.out.contains(part), "{part} is missing in:\n{}", said.out);
        }
        let kept = rows(&server, "history.csv.rejected.csv", delimiter as u8);
        assert_eq!(kept.len(), 2, "{kept:?}");
        let reasons: Vec<_> = kept.iter().map(|row| row[8].as_str()).collect();
        assert!(reasons[0].starts_with("metric_value: \"much\" is not a number"), "{reasons:?}");
        assert!(reasons[1].starts_with(&format!("time: {} is ", show(midnight(-2)))), "{reasons:?}");
        // As they were, also what nobody reads.
        assert_eq!((kept[0][5].as_str(), kept[0][7].as_str()), ("much", "as, noted"));
        assert_eq!((kept[1][0].as_str(), kept[1][5].as_str()), (&*show(midnight(-2)), "3"));

        // Again it is the same.
        let before = fs::read(server.path("history.csv.rejected.csv")).expect("a file");
        for _ in 0..2 {
            let said = import(&server, &args);
            assert!(said.out.contains("2 rows not stored"), "{said:?}");
            assert_eq!(fs::read(server.path("history.csv.rejected.csv")).expect("a file"), before);
            assert_eq!(names(&server), ["history.csv.rejected.csv"]);
        }

        // Mended in part, in its place: what is left has one reason, and the mended file stays as it is.
        let mended = String::from_utf8(before).expect("UTF-8").replacen("much", "2", 1);
        server.write("history.csv.rejected.csv", &mended);
        let again = import(&server, &["history.csv.rejected.csv", "--delimiter", option]);
        assert!(again.out.contains("1 stored now") && again.out.contains("1 row not stored"), "{again:?}");
        let left = rows(&server, "history.csv.rejected.csv.rejected.csv", delimiter as u8);
        assert_eq!(left.len(), 1, "{left:?}");
        assert_eq!(left[0], kept[1]);
        import(&server, &args);
        assert_eq!(fs::read_to_string(server.path("history.csv.rejected.csv")).expect("a file"), mended);
        assert_eq!(rows(&server, "history.csv.rejected-2.csv", delimiter as u8), kept);
        let values: Vec<f64> = server.readings("collar-1").into_iter().map(|(_, value)| value).collect();
        assert_eq!(values.len(), 3, "{values:?}");
    }
}

#[test]
fn nothing_is_overwritten_and_no_link_is_followed() {
    let server = Server::start();
    server.write("history.csv", &two_of_four(','));
    server.write("mine.txt", "mine");
    server.write("history.csv.rejected.csv", "mine");
    symlink(server.path("mine.txt"), server.path("history.csv.rejected-2.csv")).expect("a link");
    symlink(server.path("nowhere.txt"), server.path("history.csv.rejected-3.csv")).expect("a link");
    fs::create_dir(server.path("history.csv.rejected-4.csv")).expect("a directory");
    for _ in 0..2 {
        let said = import(&server, &["history.csv", "--skip-bad-rows"]);
        assert!(said.out.contains("history.csv.rejected-5.csv"), "{said:?}");
        assert_eq!(rows(&server, "history.csv.rejected-5.csv", b',').len(), 2);
        for name in ["mine.txt", "history.csv.rejected.csv", "history.csv.rejected-2.csv"] {
            assert_eq!(fs::read_to_string(server.path(name)).expect("a file"), "mine");
        }
        assert!(!server.path("nowhere.txt").exists());
        assert_eq!(names(&server).len(), 5, "{:?}", names(&server));
    }
    // A link to what it would write is a link all the same.
    fs::rename(server.path("history.csv.rejected-5.csv"), server.path("same.csv")).expect("a file");
    symlink(server.path("same.csv"), server.path("history.csv.rejected-5.csv")).expect("a link");
    let said = import(&server, &["history.csv", "--skip-bad-rows"]);
    assert!(said.out.contains("history.csv.rejected-6.csv"), "{said:?}");
}

#[test]
fn they_go_to_another_directory_if_one_is_named() {
    let server = Server::start();
    for directory in ["a", "b", "out"] {
        fs::create_dir(server.path(directory)).expect("a directory");
    }
    server.write("a/history.csv", &two_of_four(','));
    server.write("b/history.csv", &two_of_four(',').replace("collar-1", "collar-2"));
    for _ in 0..2 {
        let args = ["a/history.csv", "b/history.csv", "--skip-bad-rows", "--rejected-to", "out"];
        import(&server, &args);
        for (name, device) in
            [("out/history.csv.rejected.csv", "collar-1"), ("out/history.csv.rejected-2.csv", "collar-2")]
        {
            let kept = rows(&server, name, b',');
            assert!(kept.len() == 2 && kept.iter().all(|row| row[1] == device), "{kept:?}");
        }
        assert_eq!(fs::read_dir(server.path("out")).expect("a directory").count(), 2);
    }
    server.write("late.csv", &two_of_four(',').replace("collar-1", "collar-3"));
    let said = server.run(&["import", "late.csv", "--skip-bad-rows", "--rejected-to", "nowhere"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("nowhere") && said.err.contains("--rejected-to"), "{said:?}");
}

/// More than an answer tells, in several blocks, with rows that are stored between them.
#[test]
fn all_that_is_refused_is_kept_however_much() {
    const ROWS: usize = 23_000;
    let server = Server::start();
    let (good, bad, long) = (show(midnight(2)), show(midnight(-2)), "x".repeat(33));
    let mut text = HEADER.to_owned();
    let mut wanted = Vec::new();
    for n in 0..ROWS {
        let (time, kind) = match n % 10 {
            0 => (&bad, "collar"),
            1 => (&good, long.as_str()),
            _ => (&good, "collar"),
        };
        writeln!(text, "{time},collar-1,{kind},1,steps,{n},1,").expect("a text takes all");
        if n % 10 < 2 {
            wanted.push((n.to_string(), if n % 10 == 0 { "time: " } else { "device_type: " }));
        }
    }
    server.write("history.csv", &text);
    for time in ["first", "again"] {
        let said = import(&server, &["history.csv"]);
        assert!(
            said.out.contains("4,600 refused") && said.out.contains("4,600 rows not stored"),
            "{time}: {said:?}"
        );
        let kept = rows(&server, "history.csv.rejected.csv", b',');
        assert_eq!(kept.len(), wanted.len(), "{time}");
        for (row, (value, reason)) in kept.iter().zip(&wanted) {
            assert!(row[5] == *value && row[8].starts_with(reason), "{time}: {row:?}, not {value}, {reason}");
        }
        assert_eq!(names(&server), ["history.csv.rejected.csv"]);
    }
}

/// Lines that end as those of an old Mac: all rows stand on the first.
#[test]
fn a_refused_row_is_found_without_its_line() {
    let server = Server::start();
    server.write(
        "history.csv",
        &[HEADER, &row(3, "1"), &row(-2, "2"), &row(2, "3")].concat().replace('\n', "\r"),
    );
    import(&server, &["history.csv"]);
    let kept = rows(&server, "history.csv.rejected.csv", b',');
    assert!(kept.len() == 1 && kept[0][5] == "2", "{kept:?}");
}
