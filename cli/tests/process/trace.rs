//! What `strace -f -yy -xx -s …` wrote, as calls.

use std::{
    collections::HashMap,
    path::Path,
    process::{Command, Stdio},
};

/// A system call that returned.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) name: String,
    /// What the descriptor is open on: a path, or `TCP:[from->to]`.
    pub(crate) target: String,
    /// What was written or read, as far as it was; of a call that names a file, its path.
    pub(crate) bytes: Vec<u8>,
    /// Moments at which it was entered and left: numbers of lines. A call was over before another began
    /// exactly if it ended before that one began.
    pub(crate) began: usize,
    pub(crate) ended: usize,
    pub(crate) result: i64,
}

impl Call {
    pub(crate) fn is_sync(&self) -> bool {
        matches!(&*self.name, "fsync" | "fdatasync") && self.result == 0
    }

    /// Whether it gave bytes to the system.
    pub(crate) fn is_write(&self) -> bool {
        matches!(&*self.name, "write" | "writev" | "pwrite64" | "pwritev" | "sendto" | "sendmsg")
    }

    /// Whether it got bytes from the system.
    pub(crate) fn is_read(&self) -> bool {
        matches!(&*self.name, "read" | "readv" | "recvfrom" | "recvmsg")
    }

    /// Whether it is on a file with this ending.
    pub(crate) fn is_on(&self, extension: &str) -> bool {
        Path::new(&self.target).extension().is_some_and(|found| found == extension)
    }

    pub(crate) fn is_tcp(&self) -> bool {
        self.target.starts_with("TCP:")
    }
}

/// Whether there is an `strace`, and it may trace.
pub(crate) fn can_trace() -> bool {
    let status = Command::new("strace").args(["-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether the process that was traced has ended, and nothing more will come.
pub(crate) fn is_complete(text: &str, pid: i32) -> bool {
    text.lines().rev().any(|line| {
        line.strip_prefix(&pid.to_string()).is_some_and(|rest| rest.trim_start().starts_with("+++ "))
    })
}

/// All calls that returned, in the order in which they ended.
pub(crate) fn parse(text: &str) -> Vec<Call> {
    let mut unfinished: HashMap<&str, (usize, &str)> = HashMap::new();
    let mut calls = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let Some((thread, rest)) = line.split_once(' ') else { continue };
        let rest = rest.trim();
        if rest.starts_with("+++ ") || rest.starts_with("--- ") {
            continue;
        }
        if let Some(begun) = rest.strip_suffix("<unfinished ...>") {
            unfinished.insert(thread, (number, begun));
        } else if let Some((_, end)) =
            rest.strip_prefix("<... ").and_then(|resumed| resumed.split_once(" resumed>"))
        {
            let (began, begun) = unfinished.remove(thread).unwrap_or_else(|| panic!("resumed: {line}"));
            calls.extend(call(&format!("{begun}{end}"), began, number));
        } else {
            calls.extend(call(rest, number, number));
        }
    }
    calls
}

/// None for a call that never returned.
fn call(text: &str, began: usize, ended: usize) -> Option<Call> {
    let broken = || panic!("no system call: {text}");
    let (name, rest) = text.split_once('(').unwrap_or_else(broken);
    let (arguments, result) = rest.rsplit_once(" = ").unwrap_or_else(broken);
    let digits = result.find(|c: char| c != '-' && !c.is_ascii_digit()).unwrap_or(result.len());
    let result: i64 = result[..digits].parse().ok()?;
    let arguments = arguments.trim_end().trim_end_matches(')');
    let first = arguments.split(", ").next().unwrap_or_default();
    let target = match (first.find('<'), first.rfind('>')) {
        (Some(from), Some(to)) if from < to => String::from_utf8_lossy(&plain(&first[from + 1..to])).into(),
        _ => String::new(),
    };
    let mut call = Call { name: name.to_owned(), target, bytes: texts(arguments), began, ended, result };
    if call.is_write() || call.is_read() {
        call.bytes.truncate(usize::try_from(result).unwrap_or(0));
    }
    Some(call)
}

/// All texts of some arguments, one behind the other.
fn texts(arguments: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut parts = arguments.split('"');
    parts.next();
    while let Some(text) = parts.next() {
        bytes.extend(plain(text));
        let after = parts.next().unwrap_or_default();
        assert!(!after.starts_with("..."), "strace cut a text: raise -s");
    }
    bytes
}

/// Takes back `\x41` for `A`.
fn plain(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len() / 4);
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = match (first, tail) {
            (b'\\', [b'x', high, low, tail @ ..]) => {
                let digit = |c: &u8| char::from(*c).to_digit(16).expect("two digits behind \\x") as u8;
                bytes.push(digit(high) << 4 | digit(low));
                tail
            }
            _ => {
                bytes.push(*first);
                tail
            }
        };
    }
    bytes
}

#[test]
fn calls_are_put_together_and_ordered() {
    let text = "\
        10 write(3<\\x2f\\x61>, \"\\x41\\x42\\x43\", 3 <unfinished ...>\n\
        11 sendto(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, \"\\x44\", 1, MSG_NOSIGNAL, NULL, 0) = 1\n\
        10 <... write resumed>)              = 2\n\
        10 --- SIGCONT {si_signo=SIGCONT} ---\n\
        11 recvfrom(9<TCP:[127.0.0.1:1->127.0.0.1:2]>, 0x55, 10, 0, NULL, NULL) = -1 EAGAIN (Try (again))\n\
        11 fdatasync(3<\\x2f\\x61>)            = 0\n\
        11 futex(0x1, FUTEX_WAIT <unfinished ...>\n\
        10 +++ exited with 0 +++\n";
    let calls = parse(text);
    let seen: Vec<_> = calls
        .iter()
        .map(|call| (&*call.name, &*call.target, &*call.bytes, call.began, call.ended, call.result))
        .collect();
    let link = "TCP:[127.0.0.1:1->127.0.0.1:2]";
    assert_eq!(
        seen,
        [
            ("sendto", link, &b"D"[..], 1, 1, 1),
            ("write", "/a", b"AB", 0, 2, 2),
            ("recvfrom", link, b"", 4, 4, -1),
            ("fdatasync", "/a", b"", 5, 5, 0),
        ]
    );
    assert!(is_complete(text, 10) && !is_complete(text, 11));
}
