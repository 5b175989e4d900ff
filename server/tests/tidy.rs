//! Guards the layers and the shape of the tree.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

/// Lines a file may have, tests aside: about 400.
const MAX_LINES: usize = 425;

/// A file of the repository.
struct Source {
    /// From the root, with `/`.
    path: String,
    text: String,
}

impl Source {
    /// The lines of production code: everything before the first test module.
    fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let lines = (1..).zip(self.text.lines());
        lines.take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
    }

    fn is_rust(&self) -> bool {
        has_extension(&self.path, "rs")
    }

    /// Whether all of it is test code.
    fn is_test(&self) -> bool {
        ["/tests/", "/benches/", "/examples/"].iter().any(|part| self.path.contains(part))
            || self.path.ends_with("/tests.rs")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate lies in the workspace").to_owned()
}

fn has_extension(path: &str, extension: &str) -> bool {
    Path::new(path).extension().is_some_and(|found| found == extension)
}

/// Every text file that belongs to the project.
fn sources() -> Vec<Source> {
    let mut sources = Vec::new();
    collect(&root(), "", &mut sources);
    assert!(sources.iter().any(|source| source.path == "server/src/lib.rs"), "the tree was not found");
    sources
}

fn collect(directory: &Path, prefix: &str, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry")) {
        let name = entry.file_name().into_string().expect("a plain name");
        let path = format!("{prefix}{name}");
        let kind = entry.file_type().expect("a kind");
        if kind.is_dir() {
            let foreign =
                name.starts_with("target") || [".git", "node_modules", "data", "corpus"].contains(&&*name);
            if !foreign {
                collect(&entry.path(), &format!("{path}/"), sources);
            }
        } else if kind.is_file() {
            const TEXTS: [&str; 12] =
                ["rs", "toml", "proto", "md", "js", "json", "yaml", "yml", "css", "sql", "sh", "lock"];
            if TEXTS.iter().any(|extension| has_extension(&path, extension)) || path.starts_with(".ci/") {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                sources.push(Source { path, text });
            }
        }
    }
}

fn assert_none(faults: &[String], rule: &str) {
    assert!(faults.is_empty(), "{rule}:\n  {}", faults.join("\n  "));
}

/// Lines of production code below `prefixes` that name one of `words`.
fn mentions(sources: &[Source], prefixes: &[&str], words: &[&str]) -> Vec<String> {
    let mut faults = Vec::new();
    for source in sources.iter().filter(|source| source.is_rust() && !source.is_test()) {
        if !prefixes.iter().any(|prefix| source.path.starts_with(prefix)) {
            continue;
        }
        for (number, line) in source.code().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            if words.iter().any(|word| names(line, word)) {
                faults.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    faults
}

/// Whether `line` uses the path `word`, not merely an identifier that contains it.
fn names(line: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = &line[at + word.len()..];
        !before.is_some_and(part_of_name) && (word.ends_with("::") || !after.starts_with(part_of_name))
    })
}

#[test]
fn only_the_wire_knows_grpc() {
    let words = ["tonic", "prost", "tonic_types", "tonic_health", "tonic_reflection", "herdstream_proto::v1"];
    let inner = ["config", "error", "model", "ingest", "query", "store", "lifecycle"];
    let prefixes = inner.map(|room| format!("server/src/{room}"));
    let prefixes: Vec<_> = prefixes.iter().map(String::as_str).collect();
    assert_none(
        &mentions(&sources(), &prefixes, &words),
        "only server/src/wire, serve and ops/health know gRPC",
    );
    let ops = mentions(&sources(), &["server/src/ops"], &words);
    let ops: Vec<_> =
        ops.into_iter().filter(|fault| !fault.starts_with("server/src/ops/health.rs")).collect();
    assert_none(&ops, "in server/src/ops only health.rs knows gRPC");
}

#[test]
fn validation_and_detection_know_neither_wire_nor_store() {
    let words = ["tonic", "sqlx", "fjall", "tokio", "wire", "store"];
    let prefixes = ["server/src/ingest/validate", "server/src/ingest/detect", "server/src/model"];
    assert_none(&mentions(&sources(), &prefixes, &words), "validate, detect and model are pure");
}

#[test]
fn engines_stay_in_the_store() {
    let sources = sources();
    for (word, room) in [("fjall::", "server/src/store/embedded"), ("sqlx::", "server/src/store/postgres")] {
        let faults = mentions(&sources, &["server/src"], &[word]);
        let faults: Vec<_> = faults.into_iter().filter(|fault| !fault.starts_with(room)).collect();
        assert_none(&faults, &format!("{word} is used in {room} only"));
    }
}

#[test]
fn inner_layers_do_not_call_outer_ones() {
    let sources = sources();
    for (room, outer) in [
        (
            "server/src/model",
            &["crate::wire", "crate::ingest", "crate::query", "crate::store", "crate::ops"][..],
        ),
        ("server/src/store", &["crate::wire", "crate::ingest", "crate::query", "crate::serve"]),
        ("server/src/ingest", &["crate::wire", "crate::query", "crate::serve"]),
        ("server/src/query", &["crate::wire", "crate::serve"]),
    ] {
        assert_none(&mentions(&sources, &[room], outer), &format!("{room} stands below these"));
    }
}

#[test]
fn crates_depend_in_one_direction() {
    let dependencies = |name: &str, section: &str| -> BTreeSet<String> {
        let manifest = fs::read_to_string(root().join(name).join("Cargo.toml")).expect("a manifest");
        let manifest: toml::Table = toml::from_str(&manifest).expect("TOML");
        let table = manifest.get(section).and_then(toml::Value::as_table);
        let names = table.into_iter().flat_map(|table| table.keys().cloned());
        names.filter(|name| name.starts_with("herdstream-")).collect()
    };
    let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<BTreeSet<_>>();
    assert_eq!(dependencies("proto", "dependencies"), set(&[]));
    assert_eq!(dependencies("testkit", "dependencies"), set(&[]));
    assert_eq!(dependencies("server", "dependencies"), set(&["herdstream-proto"]));
    assert_eq!(dependencies("client", "dependencies"), set(&["herdstream-proto"]));
    assert!(!dependencies("server", "dev-dependencies").contains("herdstream-client"));
}

#[test]
fn files_are_small() {
    let mut faults = Vec::new();
    for source in sources().iter().filter(|source| source.is_rust() && !source.is_test()) {
        let lines = source.code().count();
        if lines > MAX_LINES {
            faults.push(format!("{}: {lines} lines without tests", source.path));
        }
    }
    assert_none(&faults, &format!("more than {MAX_LINES} lines: split by what they do"));
}

#[test]
fn files_have_telling_names() {
    let mut faults = Vec::new();
    for source in &sources() {
        let stem = Path::new(&source.path).file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
        let parts = source.path.split('/').chain([stem]);
        let vague = ["utils", "util", "helpers", "helper", "manager", "common", "misc"];
        if source.is_rust() && (stem == "mod" || parts.into_iter().any(|part| vague.contains(&part))) {
            faults.push(source.path.clone());
        }
    }
    assert_none(&faults, "no mod.rs, and no name that says nothing");
}

#[test]
fn status_is_made_in_one_place() {
    let faults = mentions(&sources(), &["server/src"], &["Status::new", "Status::with_error_details"]);
    assert_none(&faults, "statuses come from herdstream_proto::error::Reason");
}

#[test]
fn nothing_tells_on_which_machine_it_was_written() {
    // Put together here so that this file does not hold them itself.
    let places = [
        ["/ro", "ot/"],
        ["/ho", "me/"],
        ["/wo", "rk/"],
        ["/Us", "ers/"],
        [".int", "ernal:"],
        [".arti", "factory"],
    ];
    let places: Vec<_> = places.iter().map(|parts| parts.concat()).collect();
    let mut faults = Vec::new();
    for source in sources() {
        for (number, line) in (1..).zip(source.text.lines()) {
            let registry = has_extension(&source.path, "lock") || source.path.ends_with("package-lock.json");
            let foreign_registry = registry
                && (line.contains("\"resolved\": \"http") || line.contains("source = \"registry+"))
                && !line.contains("https://registry.npmjs.org/")
                && !line.contains("https://github.com/rust-lang/crates.io-index");
            if foreign_registry || places.iter().any(|place| line.contains(place.as_str())) {
                faults.push(format!("{}:{number}: {}", source.path, line.trim()));
            }
        }
    }
    assert_none(&faults, "machine paths and private registries do not belong here");
}
