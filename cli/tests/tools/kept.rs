//! What retention dropped, or will drop: told with answers that may lack it, and before it is imported.

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

fn drop_what_is_old(server: &Server) {
    server.ok(&["admin", "refresh"]);
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
    drop_what_is_old(&server);
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
