//! Rows that are not stored, with the reasons, in a file that can be mended and imported.

use std::{
    ffi::OsString,
    fs::{self, File, OpenOptions},
    io::{self, BufReader, Read, Seek as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use super::{
    Args,
    source::{Record, Source, Value},
};
use crate::times;

/// The column of reasons.
const REASON: &str = "reason";

/// Files of rejected rows that one file may have.
const MOST: u32 = 1000;

/// Rows that were left out or refused, with their reasons. They wait in a file without a name until the import is over:
/// then it is known whether that of an earlier run holds the same.
pub(super) struct Rejected {
    /// Where they go, by number, from 1.
    directory: PathBuf,
    name: OsString,
    header: Vec<String>,
    delimiter: u8,
    /// The last column holds the reasons of an import before.
    had_reasons: bool,
    writer: Option<csv::Writer<File>>,
    /// How many there are.
    pub(super) rows: u64,
}

impl Rejected {
    pub(super) fn new(args: &Args, file: &Path, header: &[String], reads_reason: bool) -> Self {
        let beside = file.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = args.rejected_to.as_deref().or(beside).unwrap_or_else(|| Path::new("."));
        let had_reasons = !reads_reason && header.last().is_some_and(|last| last == REASON);
        Self {
            directory: directory.to_owned(),
            name: file.file_name().unwrap_or(file.as_os_str()).to_owned(),
            header: header[..header.len() - usize::from(had_reasons)].to_vec(),
            delimiter: args.delimiter,
            had_reasons,
            writer: None,
            rows: 0,
        }
    }

    /// Notes a row.
    pub(super) fn write(&mut self, record: &Record, why: &str) -> Result<()> {
        self.rows += 1;
        let place = || format!("cannot write rejected rows to {}", self.directory.display());
        let writer = match &mut self.writer {
            Some(writer) => writer,
            none => {
                let way_out = || format!("{}: name a directory with --rejected-to", place());
                let file = tempfile::tempfile_in(&self.directory).with_context(way_out)?;
                let mut writer =
                    csv::WriterBuilder::new().flexible(true).delimiter(self.delimiter).from_writer(file);
                let header = self.header.iter().map(String::as_str).chain([REASON]);
                writer.write_record(header).with_context(place)?;
                none.insert(writer)
            }
        };
        let mut values: Vec<Vec<u8>> = record.values.iter().map(text).collect();
        if self.had_reasons && values.len() == self.header.len() + 1 {
            values.pop();
        }
        // The reason stands in its column also where the row is short.
        values.resize(values.len().max(self.header.len()), Vec::new());
        values.push(why.as_bytes().to_owned());
        writer.write_record(values).with_context(place)
    }

    /// Gives the rows a file: the one of an earlier run, if it holds the same, or a new one. Nothing is overwritten, and
    /// no link is followed. None: there are no rows.
    pub(super) fn finish(self) -> Result<Option<PathBuf>> {
        let Self { directory, name, writer, .. } = self;
        let Some(writer) = writer else { return Ok(None) };
        let cannot = |path: &Path| format!("cannot write rejected rows to {}", path.display());
        let mut rows = writer
            .into_inner()
            .map_err(csv::IntoInnerError::into_error)
            .with_context(|| cannot(&directory))?;
        for number in 1..=MOST {
            let mut name = name.clone();
            name.push(if number == 1 {
                ".rejected.csv".to_owned()
            } else {
                format!(".rejected-{number}.csv")
            });
            let path = directory.join(name);
            rows.rewind()?;
            match OpenOptions::new().write(true).create_new(true).open(&path) {
                Ok(mut file) => {
                    if let Err(error) = io::copy(&mut rows, &mut file) {
                        // Half of them would be worse than none.
                        let _ = fs::remove_file(&path);
                        return Err(error).with_context(|| cannot(&path));
                    }
                    return Ok(Some(path));
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    if holds(&path, &mut rows).unwrap_or(false) {
                        return Ok(Some(path));
                    }
                }
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("{}: name a directory with --rejected-to", cannot(&path)));
                }
            }
        }
        let (directory, name) = (directory.display(), name.display());
        bail!(
            "{directory} has {MOST} files of rejected rows of {name}: remove some, or name another with --rejected-to"
        )
    }
}

/// Whether a file, and no link to one, holds just these rows.
fn holds(path: &Path, rows: &mut File) -> io::Result<bool> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_file() || metadata.len() != rows.metadata()?.len() {
        return Ok(false);
    }
    let (mut theirs, mut ours) = (BufReader::new(File::open(path)?).bytes(), BufReader::new(rows).bytes());
    loop {
        match (theirs.next().transpose()?, ours.next().transpose()?) {
            (None, None) => return Ok(true),
            (their, our) if their != our => return Ok(false),
            _ => {}
        }
    }
}

/// A value so that it can be imported once the row is mended.
fn text(value: &Value) -> Vec<u8> {
    match value {
        Value::Null | Value::Nested => Vec::new(),
        Value::Text(text) => text.clone().into_bytes(),
        Value::Bytes(bytes) => bytes.clone(),
        Value::Time(time_us) => times::show(*time_us).into_bytes(),
        Value::LocalTime(time_us) => times::show(*time_us).trim_end_matches('Z').into(),
        other => other.to_string().into_bytes(),
    }
}

/// Reads a file once more, behind the import, for the rows that the server refused: a block of them may be long.
pub(super) struct Behind {
    path: PathBuf,
    delimiter: u8,
    source: Option<Source>,
}

impl Behind {
    pub(super) fn new(path: &Path, delimiter: u8) -> Self {
        Self { path: path.to_owned(), delimiter, source: None }
    }

    /// The row of a number, which is beyond that of the last call.
    pub(super) fn row(&mut self, number: u64) -> Result<Record> {
        let source = match &mut self.source {
            Some(source) => source,
            none => none.insert(Source::open(&self.path, self.delimiter)?),
        };
        for record in source {
            let record = record.with_context(|| format!("cannot read {}", self.path.display()))?;
            if record.number == number {
                return Ok(record);
            }
        }
        bail!("{} has fewer rows than before", self.path.display())
    }
}
