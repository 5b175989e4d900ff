//! What a person sees while an import runs.

use std::{
    collections::BTreeSet,
    fmt::Write as _,
    fs::File,
    io::Read as _,
    process::{Command, Output, Stdio},
    thread,
};

use chrono::TimeDelta;
use rustix::{
    fs::{Mode, OFlags, open},
    pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
    termios::{Winsize, tcsetwinsize},
};

use crate::server::{Server, midnight, show};

/// Runs a command whose standard error is a terminal; answers what was shown there, too.
fn on_a_terminal(mut command: Command) -> (Output, String) {
    let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("a terminal");
    grantpt(&terminal).expect("a terminal that can be used");
    unlockpt(&terminal).expect("a terminal that can be used");
    let size = Winsize { ws_row: 24, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(&terminal, size).expect("a terminal that has a size");
    let name = ptsname(&terminal, Vec::new()).expect("a terminal that has a name");
    let inside = open(name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).expect("a terminal");
    command.env("TERM", "xterm").env_remove("COLUMNS").stderr(inside).stdout(Stdio::piped());
    let child = command.spawn().expect("the binary starts");
    // With it goes the last end of the terminal that is not the command's.
    drop(command);
    let shown = thread::spawn(move || {
        let (mut terminal, mut shown, mut piece) = (File::from(terminal), Vec::new(), [0; 4096]);
        // Once the command has ended, reading fails instead of coming to an end.
        while let Ok(len @ 1..) = terminal.read(&mut piece) {
            shown.extend_from_slice(&piece[..len]);
        }
        String::from_utf8_lossy(&shown).into_owned()
    });
    let output = child.wait_with_output().expect("it ends");
    (output, shown.join().expect("all was read"))
}

#[test]
fn an_import_shows_how_far_it_is() {
    let server = Server::start();
    let start = midnight(85);
    let mut text = "time,device_uid,device_type,farm_id,metric_name,metric_value,metric_unit\n".to_owned();
    for n in 0..100_000 {
        let time = show(start + TimeDelta::seconds(n));
        writeln!(text, "{time},collar-1,collar,1,steps,{n},1").expect("a text takes all");
    }
    server.write("history.csv", &text);
    let (output, shown) = on_a_terminal(server.command(&["import", "history.csv"]));
    let said = String::from_utf8(output.stdout).expect("UTF-8");
    assert_eq!(output.status.code(), Some(0), "{said}{shown}");
    // The name, a bar, how much of how much, and how long it will take; several times.
    let frames = shown.split("history.csv ").skip(1);
    let places: BTreeSet<&str> = frames
        .map(|frame| {
            assert!(frame.contains(" left"), "{frame:?}");
            let (before, _) = frame.split_once(" of ").unwrap_or_else(|| panic!("{frame:?}"));
            before.rsplit_once("\u{2591} ").map_or(before, |(_, place)| place)
        })
        .collect();
    assert!(places.len() > 1, "it stands still: {shown:?}");
    // It is gone in the end, and only the result is left.
    assert!(shown.trim_end().ends_with("\u{1b}[2K") || shown.trim_end().ends_with("\u{1b}[K"), "{shown:?}");
    assert!(said.contains("100,000 stored now") && !said.contains('\u{1b}'), "{said:?}");
}
