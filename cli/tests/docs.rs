//! What the documents show is what happens: every command and statement of docs/api.md and
//! docs/query-cookbook.md runs against a server with the example data, and gives the answer that stands below it.
//!
//! `UPDATE_DOCS=1 cargo test -p herdstream --test docs` writes the answers into the documents.

use std::{
    env, fs,
    io::{BufRead as _, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use herdstream_testkit::Postgres;

/// Where the documents say that the server is.
const GRPC: &str = "127.0.0.1:7171";
const ADMIN: &str = "127.0.0.1:7173";

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace").to_owned()
}

/// A server with the example data.
struct Example {
    child: Child,
    grpc: String,
    admin: String,
    _dir: tempfile::TempDir,
}

impl Example {
    fn start(settings: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let mut command = Command::new(env!("CARGO_BIN_EXE_herdstream"));
        command
            .args(["--listen", "127.0.0.1:0", "--http-listen", "off", "--admin-listen", "127.0.0.1:0"])
            .arg("--data-dir")
            .arg(dir.path().join("data"))
            .envs(settings.iter().copied())
            .current_dir(dir.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut child = command.spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let mut after = |mark: &str| {
            let line = lines.by_ref().find(|line| line.contains(mark)).expect("the server says where it is");
            line.rsplit(' ').next().expect("an address").to_owned()
        };
        let grpc = after(" listening on ");
        let admin = after("  admin ");
        // Nobody reads on: the rest of what it says fits the pipe.
        let example = Self { child, grpc, admin, _dir: dir };
        let imported = example.run(
            "herdstream import docs/examples/readings.csv docs/examples/milkings.csv --endpoint http://127.0.0.1:7171",
        );
        assert!(imported.contains("660"), "{imported}");
        example.run("herdstream admin refresh");
        example
    }

    /// What a command line says, on either output, as if the server were where the documents say.
    fn run(&self, line: &str) -> String {
        let line = line.replace(GRPC, &self.grpc).replace(ADMIN, &self.admin);
        let binary = Path::new(env!("CARGO_BIN_EXE_herdstream")).parent().expect("a directory");
        let path = env::var("PATH").unwrap_or_default();
        let go = env::var("HOME").map(|home| format!("{home}/go/bin")).unwrap_or_default();
        let output = Command::new("bash")
            .args(["-c", &format!("exec 2>&1; {line}")])
            .env("PATH", format!("{}:{path}:{go}", binary.display()))
            .env("HERDSTREAM_ENDPOINT", format!("http://{}", self.grpc))
            .env("HERDSTREAM_ADMIN_ENDPOINT", format!("http://{}", self.admin))
            .env("COLUMNS", "100")
            .current_dir(root())
            .stdin(Stdio::null())
            .output()
            .expect("bash runs");
        let said = String::from_utf8(output.stdout).expect("UTF-8");
        said.replace(&self.grpc, GRPC).replace(&self.admin, ADMIN)
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A fenced block of a document: its language, and its lines by number.
struct Block {
    language: String,
    first: usize,
    end: usize,
}

fn blocks(lines: &[String]) -> Vec<Block> {
    let fences: Vec<usize> = (0..lines.len()).filter(|&at| lines[at].starts_with("```")).collect();
    assert!(fences.len().is_multiple_of(2), "a block is not closed");
    let block = |pair: &[usize]| Block {
        language: lines[pair[0]].trim_start_matches('`').to_owned(),
        first: pair[0] + 1,
        end: pair[1],
    };
    fences.chunks(2).map(block).collect()
}

/// The lines of a console block as they should be: each command followed by what it says.
fn played(lines: &[String], run: impl Fn(&str) -> String) -> Vec<String> {
    let mut shown = Vec::new();
    let mut at = 0;
    while at < lines.len() {
        let Some(first) = lines[at].strip_prefix("$ ") else {
            at += 1;
            continue;
        };
        let mut command = first.to_owned();
        shown.push(lines[at].clone());
        // A command goes on after a backslash, and within a quotation.
        while command.ends_with('\\') || command.matches('\'').count() % 2 == 1 {
            at += 1;
            shown.push(lines[at].clone());
            command = format!("{}\n{}", command.trim_end_matches('\\'), lines[at]);
        }
        shown.extend(run(&command.replace('\n', " ")).lines().map(|line| line.trim_end().to_owned()));
        at += 1;
    }
    shown
}

/// Plays a document; compares, or writes what should stand there.
fn check(name: &str, play: impl Fn(&str, &[String]) -> Option<Vec<String>>) {
    let path = root().join(name);
    let text = fs::read_to_string(&path).expect("the document");
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let mut faults = Vec::new();
    for block in blocks(&lines.clone()).into_iter().rev() {
        let written = &lines[block.first..block.end];
        let Some(true_lines) = play(&block.language, written) else { continue };
        if written != true_lines {
            faults.push(format!(
                "{name}:{}: stands\n{}\nand is\n{}",
                block.first,
                written.join("\n"),
                true_lines.join("\n")
            ));
            lines.splice(block.first..block.end, true_lines);
        }
    }
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, lines.join("\n") + "\n").expect("the document is written");
        return;
    }
    assert!(faults.is_empty(), "{}", faults.join("\n\n"));
}

fn has_grpcurl(example: &Example) -> bool {
    if example.run("command -v grpcurl").is_empty() {
        println!("skipped: grpcurl is not installed");
        assert!(env::var_os("CI").is_none(), "nothing is skipped on CI");
        return false;
    }
    true
}

#[test]
fn the_api_answers_as_documented() {
    let example = Example::start(&[]);
    if has_grpcurl(&example) {
        check("docs/api.md", |language, lines| {
            (language == "console").then(|| played(lines, |command| example.run(command)))
        });
    }
}

/// The commands on the embedded store and on PostgreSQL, which must not differ; the statements on PostgreSQL.
#[test]
fn the_cookbook_answers_as_documented() {
    let embedded = Example::start(&[]);
    let commands = |example: &Example, language: &str, lines: &[String]| {
        (language == "console").then(|| played(lines, |command| example.run(command)))
    };
    check("docs/query-cookbook.md", |language, lines| commands(&embedded, language, lines));
    let Some(postgres) = Postgres::shared() else { return };
    let database = postgres.create_database();
    let example = Example::start(&[("HERDSTREAM_DATABASE__URL", &database)]);
    check("docs/query-cookbook.md", |language, lines| match language {
        "sql" => {
            // The answer stands below the statement, as comments.
            let statement: Vec<&String> = lines.iter().filter(|line| !line.starts_with("-- ")).collect();
            let text = statement.iter().map(|line| line.as_str()).collect::<Vec<_>>().join("\n");
            let said = postgres.psql_at(&database, &[&text]).unwrap_or_else(|error| format!("{error:#}"));
            let answer = said.lines().map(|line| format!("-- {}", line.trim_end()));
            Some(statement.into_iter().cloned().chain(answer).collect())
        }
        _ => commands(&example, language, lines),
    });
}
