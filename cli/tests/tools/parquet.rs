//! Parquet files as other programs write them.

use std::{fs::File, path::Path, sync::Arc};

use chrono::TimeDelta;
use parquet::{
    basic::Compression,
    data_type::{ByteArray, ByteArrayType, DoubleType, Int32Type, Int64Type},
    file::{properties::WriterProperties, writer::SerializedFileWriter},
    schema::parser::parse_message_type,
};

use crate::server::{Server, midnight, show};

/// Writes two groups of rows: the times, and values that count them; every other row has an animal.
fn write(path: &Path, time_type: &str, times: &[i64], compression: Compression) {
    let schema = format!(
        "message readings {{
            required int64 time ({time_type});
            required binary device_uid (UTF8);
            required binary device_type (UTF8);
            required int32 farm_id;
            required binary metric_name (UTF8);
            required double metric_value;
            optional int32 animal_id;
        }}"
    );
    let schema = Arc::new(parse_message_type(&schema).expect("a schema"));
    let properties = Arc::new(WriterProperties::builder().set_compression(compression).build());
    let file = File::create(path).expect("a file");
    let mut writer = SerializedFileWriter::new(file, schema, properties).expect("a writer");
    let (one, two) = times.split_at(times.len() / 2);
    let mut row = 0_i32;
    for times in [one, two] {
        let numbers: Vec<i32> = (row..).take(times.len()).collect();
        row += times.len() as i32;
        let mut group = writer.next_row_group().expect("a group");
        macro_rules! column {
            ($kind:ty, $values:expr, $levels:expr) => {
                let mut column = group.next_column().expect("a column").expect("one more");
                column.typed::<$kind>().write_batch($values, $levels, None).expect("values");
                column.close().expect("a column");
            };
        }
        let text = |text: &str| vec![ByteArray::from(text); times.len()];
        column!(Int64Type, times, None);
        column!(ByteArrayType, &text("collar-1"), None);
        column!(ByteArrayType, &text("collar"), None);
        column!(Int32Type, &vec![1; times.len()], None);
        column!(ByteArrayType, &text("steps"), None);
        column!(DoubleType, &numbers.iter().map(|n| f64::from(*n)).collect::<Vec<_>>(), None);
        let levels: Vec<i16> = numbers.iter().map(|n| (n % 2) as i16).collect();
        let animals: Vec<i32> = numbers.iter().copied().filter(|n| n % 2 == 1).collect();
        column!(Int32Type, &animals, Some(&levels));
        group.close().expect("a group");
    }
    writer.close().expect("a file");
}

#[test]
fn parquet_is_imported_once_with_its_times() {
    for compression in [Compression::SNAPPY, Compression::UNCOMPRESSED] {
        let server = Server::start();
        let start = midnight(85);
        let times: Vec<i64> =
            (0..12_000).map(|n| (start + TimeDelta::seconds(n)).timestamp_micros()).collect();
        write(&server.path("history.parquet"), "TIMESTAMP(MICROS,true)", &times, compression);
        let first = server.ok(&["import", "history.parquet"]);
        assert!(first.contains("12,000 stored now"), "{first}");
        let again = server.ok(&["import", "history.parquet"]);
        assert!(again.contains("all of them were stored before"), "{again}");
        let wanted: Vec<(String, f64)> =
            (0..12_000).map(|n| (show(start + TimeDelta::seconds(n)), n as f64)).collect();
        assert!(server.readings("collar-1") == wanted, "the server has something else than the file");
        let of_animal = server.json(&["query", "animal", "17", "--from", "-90d"]);
        assert_eq!(of_animal[0]["latest"].as_f64(), Some(17.0), "{of_animal:?}");
    }
}

#[test]
fn times_without_a_zone_need_one() {
    let server = Server::start();
    // 2026-01-01 12:00:00, nanoseconds, of no zone.
    let times = [1_767_268_800_000_000_000, 1_767_268_801_000_000_000];
    write(&server.path("local.parquet"), "TIMESTAMP(NANOS,false)", &times, Compression::SNAPPY);
    let said = server.run(&["import", "local.parquet"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("local.parquet:1: time: ") && said.err.contains("--time-zone"), "{said:?}");
    server.ok(&["import", "local.parquet", "--time-zone", "Europe/Berlin"]);
    let times: Vec<String> = server.readings("collar-1").into_iter().map(|(time, _)| time).collect();
    assert_eq!(times, ["2026-01-01T11:00:00Z", "2026-01-01T11:00:01Z"]);
}

#[test]
fn rows_that_are_refused_can_be_mended_as_csv() {
    let server = Server::start();
    let days = [3, -2, 2, -3];
    let times: Vec<i64> = days.iter().map(|days| midnight(*days).timestamp_micros()).collect();
    write(&server.path("history.parquet"), "TIMESTAMP(MICROS,true)", &times, Compression::SNAPPY);
    for _ in 0..2 {
        let said = server.run(&["import", "history.parquet"]);
        assert_eq!(said.code, Some(3), "{said:?}");
        assert!(said.out.contains("2 rows not stored"), "{said:?}");
    }
    let kept = std::fs::read_to_string(server.path("history.parquet.rejected.csv")).expect("a file");
    let rows: Vec<&str> = kept.lines().skip(1).collect();
    for (row, (days, value)) in rows.iter().zip([(-2, "1,1"), (-3, "3,3")]) {
        let wanted = format!("{},collar-1,collar,1,steps,{value},", show(midnight(days)));
        assert!(row.starts_with(&wanted) && row.contains("time: "), "{row}, not {wanted}");
    }
    assert_eq!(rows.len(), 2, "{kept}");
    let mended = kept
        .replace(&show(midnight(-2)), &show(midnight(1)))
        .replace(&show(midnight(-3)), &show(midnight(0)));
    server.write("mended.csv", &mended);
    server.ok(&["import", "mended.csv"]);
    let values: Vec<f64> = server.readings("collar-1").into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [0.0, 2.0, 1.0, 3.0]);
}

/// Writes rows with notes, and with lists that have ever more elements.
fn write_noted(path: &Path, notes: &[String]) {
    let schema = "message readings {
        required int64 time (TIMESTAMP(MICROS,true));
        required binary device_uid (UTF8);
        required binary device_type (UTF8);
        required int32 farm_id;
        optional group marks (LIST) { repeated group list { optional int32 element; } }
        required binary metric_name (UTF8);
        required double metric_value;
        required binary note (UTF8);
    }";
    let schema = Arc::new(parse_message_type(schema).expect("a schema"));
    let file = File::create(path).expect("a file");
    let mut writer = SerializedFileWriter::new(file, schema, Arc::default()).expect("a writer");
    let mut group = writer.next_row_group().expect("a group");
    macro_rules! column {
        ($kind:ty, $values:expr, $levels:expr, $repeats:expr) => {
            let mut column = group.next_column().expect("a column").expect("one more");
            column.typed::<$kind>().write_batch($values, $levels, $repeats).expect("values");
            column.close().expect("a column");
        };
    }
    let count = notes.len();
    let text = |text: &str| vec![ByteArray::from(text); count];
    let times: Vec<i64> = (0..count).map(|n| midnight(3).timestamp_micros() + n as i64).collect();
    column!(Int64Type, &times, None, None);
    column!(ByteArrayType, &text("collar-1"), None, None);
    column!(ByteArrayType, &text("collar"), None, None);
    column!(Int32Type, &vec![1; count], None, None);
    let repeats: Vec<i16> = (0..count).flat_map(|n| (0..=n).map(|m| i16::from(m > 0))).collect();
    column!(Int32Type, &vec![7; repeats.len()], Some(&vec![3; repeats.len()]), Some(&repeats));
    column!(ByteArrayType, &text("steps"), None, None);
    column!(DoubleType, &(0..count).map(|n| n as f64).collect::<Vec<_>>(), None, None);
    let notes: Vec<ByteArray> = notes.iter().map(|note| ByteArray::from(note.as_str())).collect();
    column!(ByteArrayType, &notes, None, None);
    group.close().expect("a group");
    writer.close().expect("a file");
}

#[test]
fn a_row_has_a_bound() {
    let server = Server::start();
    let rest = "collar-1collarsteps".len() + 3 * 8;
    for (name, long, fits) in [("just.parquet", (1 << 20) - rest, true), ("over.parquet", 1 << 20, false)] {
        write_noted(&server.path(name), &[String::new(), "x".repeat(long), String::new()]);
        for skip in ["", "--skip-bad-rows"] {
            let args =
                [&["import", name][..], if skip.is_empty() { &[] } else { &["--skip-bad-rows"] }].concat();
            let said = server.run(&args);
            assert_eq!(said.code, Some(i32::from(!fits)), "{said:?}");
            let told = said.err.contains("cannot read over.parquet: row 2 has more than 1 MiB");
            assert_eq!(told, !fits, "{said:?}");
        }
    }
    let values: Vec<f64> = server.readings("collar-1").into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [0.0, 1.0, 2.0], "what is refused is refused whole");
}

#[test]
fn lists_are_not_read() {
    let server = Server::start();
    write_noted(&server.path("lists.parquet"), &["a", "b", "c"].map(str::to_owned));
    let said = server.run(&["import", "lists.parquet"]);
    assert_eq!(said.code, Some(0), "{said:?}");
    assert!(said.err.contains("columns that are not read: marks, note"), "{said:?}");
    let values: Vec<f64> = server.readings("collar-1").into_iter().map(|(_, value)| value).collect();
    assert_eq!(values, [0.0, 1.0, 2.0]);
    // Where a text is wanted, none is made of them, and nothing is lost without a word.
    let said = server.run(&["import", "lists.parquet", "--map", "marks=metadata"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("lists.parquet:1: metadata: it is a list or a structure"), "{said:?}");
}

#[test]
fn what_is_no_parquet_says_so() {
    let server = Server::start();
    server.write("history.parquet", "time,device_uid\n");
    let said = server.run(&["import", "history.parquet"]);
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("cannot read history.parquet"), "{said:?}");
}
