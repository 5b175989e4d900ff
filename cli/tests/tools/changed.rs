//! Files that somebody writes to while they are imported.

use std::{
    fmt::Write as _,
    fs,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Stdio,
    sync::{
        Arc, Barrier,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use chrono::TimeDelta;

use crate::server::{Said, Server, midnight, show};

const HEADER: &str = "time,device_uid,device_type,farm_id,metric_name,metric_value,metric_unit\n";

/// Three blocks, and more than is read ahead.
const ROWS: u32 = 25_000;

/// Rows whose values are their numbers, and what a server that has them tells.
fn history() -> (String, Vec<(String, f64)>) {
    let (mut text, mut wanted) = (HEADER.to_owned(), Vec::new());
    for n in 0..ROWS {
        let time = show(midnight(30) + TimeDelta::seconds(i64::from(n)));
        writeln!(text, "{time},collar-1,collar,1,steps,{n},1").expect("a text takes all");
        wanted.push((time, f64::from(n)));
    }
    (text, wanted)
}

/// Imports a file, and changes it when one connection has sent so many bytes, which are held back until then.
fn import(server: &Server, sent: usize, change: impl FnOnce()) -> Said {
    let (held, go_on) = (Arc::new(Barrier::new(2)), Arc::new(Barrier::new(2)));
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let through = listener.local_addr().expect("an address");
    let to: SocketAddr = server.endpoint.strip_prefix("http://").expect("a URL").parse().expect("an address");
    let gate = (Arc::clone(&held), Arc::clone(&go_on), Arc::new(AtomicBool::new(false)));
    thread::spawn(move || {
        while let Ok((near, _)) = listener.accept() {
            let far = TcpStream::connect(to).expect("the server listens");
            let (mut down, mut up) =
                (far.try_clone().expect("a socket"), near.try_clone().expect("a socket"));
            thread::spawn(move || {
                let _ = io::copy(&mut down, &mut up);
                let _ = up.shutdown(Shutdown::Both);
            });
            let gate = gate.clone();
            thread::spawn(move || carry(near, far, sent, &gate));
        }
    });
    let importing = server
        .command(&["import", "history.csv", "--endpoint", &format!("http://{through}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    held.wait();
    change();
    go_on.wait();
    let ended = importing.wait_with_output().expect("it ends");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Said { code: ended.status.code(), out: text(ended.stdout), err: text(ended.stderr) }
}

/// Carries bytes, and waits before those that are beyond `sent`, the first time.
fn carry(
    mut near: TcpStream,
    mut far: TcpStream,
    sent: usize,
    gate: &(Arc<Barrier>, Arc<Barrier>, Arc<AtomicBool>),
) {
    let (held, go_on, met) = gate;
    let (mut buffer, mut total) = (vec![0; 16 << 10], 0);
    while let Ok(read) = near.read(&mut buffer)
        && read > 0
    {
        total += read;
        if total > sent && !met.swap(true, Ordering::SeqCst) {
            held.wait();
            go_on.wait();
        }
        if far.write_all(&buffer[..read]).is_err() {
            break;
        }
    }
    let _ = far.shutdown(Shutdown::Both);
}

#[test]
fn what_is_stored_of_a_file_that_is_changed_is_of_the_file_as_it_was() {
    let (text, wanted) = history();
    // Its last row; its last row, written to another file that takes its place; an end that is cut off; and one more row.
    let other = text.replace(",24999,", ",99999,");
    let in_place: (&str, bool) = (&other, false);
    let cut = &text[..text.len() - 30];
    let longer = format!("{text}{}", text.lines().last().expect("a row"));
    for (now, renamed) in [in_place, (&other, true), (cut, false), (&longer, false)] {
        let server = Server::start();
        server.write("history.csv", &text);
        // In the middle of the first block.
        let said = import(&server, 64 << 10, || {
            server.write("new.csv", now);
            if renamed {
                fs::rename(server.path("new.csv"), server.path("history.csv")).expect("a file");
            } else {
                server.write("history.csv", now);
            }
        });
        assert_eq!(said.code, Some(1), "{said:?}");
        assert!(
            said.err.contains("history.csv was changed while it was imported. What is stored"),
            "{said:?}"
        );
        assert!(server.readings("collar-1") == wanted[..10_000], "the first block, and nothing else");
        // As the error says.
        server.write("history.csv", &text);
        let said = server.ok(&["import", "history.csv"]);
        assert!(said.contains("15,000 stored now") && said.contains("10,000 before"), "{said}");
        assert!(server.readings("collar-1") == wanted, "each once");
    }
}

#[test]
fn of_a_file_that_is_changed_at_once_nothing_is_stored() {
    let (text, wanted) = history();
    let server = Server::start();
    let half = &text[..text.len() / 2];
    server.write("history.csv", half);
    // Before the first question is answered, all of which are asked when it is known which file it is.
    let said = import(&server, 100, || server.write("history.csv", &text));
    assert_eq!(said.code, Some(1), "{said:?}");
    for part in ["history.csv was changed while it was imported", "nothing of it was stored"] {
        assert!(said.err.contains(part), "{part} is missing in:\n{}", said.err);
    }
    assert!(server.readings("collar-1").is_empty());
    server.ok(&["import", "history.csv"]);
    assert!(server.readings("collar-1") == wanted, "each once");
}
