//! Answers as a table, JSON or CSV.

use std::{
    error::Error,
    io::{self, IsTerminal as _, Write as _},
};

use anyhow::Result;
use comfy_table::{CellAlignment, Table, presets};
use serde_json::{Map, Value};

use crate::times::{self, Micros};

/// Form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Columns for people.
    Table,
    /// An array of objects.
    Json,
    /// With a header, for spreadsheets and programs.
    Csv,
}

/// How to show an answer.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(crate) struct OutputArgs {
    /// Form of the answer [default: table on a terminal, else csv]
    #[arg(long, value_enum, value_name = "FORMAT")]
    format: Option<Format>,
}

impl OutputArgs {
    pub(crate) fn format(self) -> Format {
        let default = if io::stdout().is_terminal() { Format::Table } else { Format::Csv };
        self.format.unwrap_or(default)
    }
}

/// Whether a command failed because nobody reads on what it says, as behind `| head`.
pub(crate) fn is_unread(error: &anyhow::Error) -> bool {
    let broken = |cause: &(dyn Error + 'static)| {
        let of_csv = match cause.downcast_ref().map(csv::Error::kind) {
            Some(csv::ErrorKind::Io(error)) => Some(error),
            _ => None,
        };
        let error = of_csv.or_else(|| cause.downcast_ref::<io::Error>());
        error.is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
    };
    // A connection may break likewise, which is another matter.
    error.chain().all(|cause| !cause.is::<herdstream_client::Error>()) && error.chain().any(broken)
}

/// One value of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    None,
    Text(String),
    Integer(i64),
    Real(f64),
    Time(Micros),
    Flag(bool),
}

/// Rows of an answer under the names of their columns.
#[derive(Debug)]
pub(crate) struct Rows {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Rows {
    pub(crate) fn new(columns: &[&'static str]) -> Self {
        Self { columns: columns.to_vec(), rows: Vec::new() }
    }

    pub(crate) fn push(&mut self, row: Vec<Cell>) {
        debug_assert_eq!(row.len(), self.columns.len(), "a cell for each column");
        self.rows.push(row);
    }

    /// Prints all rows; nothing is a word for people, and no rows for programs.
    pub(crate) fn print(&self, format: Format) -> Result<()> {
        self.print_or(format, None)
    }

    /// Prints all rows; of none of them people are told `nothing`, beside what programs read.
    pub(crate) fn print_or(&self, format: Format, nothing: Option<&str>) -> Result<()> {
        let mut out = io::stdout().lock();
        if let Some(nothing) = nothing.filter(|_| self.rows.is_empty() && format != Format::Table) {
            tell!("herdstream: {nothing}");
        }
        match format {
            Format::Table if self.rows.is_empty() => writeln!(out, "{}", nothing.unwrap_or("nothing"))?,
            Format::Table => writeln!(out, "{}", self.table())?,
            Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&self.json())?)?,
            Format::Csv => self.csv(&mut out)?,
        }
        Ok(out.flush()?)
    }

    /// Prints the next part of an answer: its header only with the first.
    pub(crate) fn print_part(&self, format: Format, first: bool) -> Result<()> {
        let mut out = io::stdout().lock();
        match format {
            Format::Csv => self.csv_part(&mut out, first)?,
            // An object a line: an array would have no end before the last part.
            Format::Json => {
                for row in self.json().as_array().into_iter().flatten() {
                    writeln!(out, "{row}")?;
                }
            }
            Format::Table => writeln!(out, "{}", self.table())?,
        }
        Ok(out.flush()?)
    }

    /// Without columns that are empty: people are shown what there is, and programs find a column where it always is.
    fn table(&self) -> Table {
        let is_used = |at: &usize| self.rows.iter().any(|row| row[*at] != Cell::None);
        let used: Vec<usize> = (0..self.columns.len()).filter(is_used).collect();
        let mut table = Table::new();
        table.load_style(presets::NOTHING).set_header(used.iter().map(|&at| self.columns[at].to_uppercase()));
        for row in &self.rows {
            table.add_row(used.iter().map(|&at| row[at].text()));
        }
        for (column, &at) in table.column_iter_mut().zip(&used) {
            column.set_padding((0, 2));
            let number = |row: &Vec<Cell>| matches!(row[at], Cell::Integer(_) | Cell::Real(_) | Cell::None);
            if self.rows.iter().all(number) {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table
    }

    fn json(&self) -> Value {
        let object = |row: &Vec<Cell>| {
            let fields = self.columns.iter().zip(row).filter(|(_, cell)| **cell != Cell::None);
            Value::Object(fields.map(|(name, cell)| ((*name).to_owned(), cell.json())).collect::<Map<_, _>>())
        };
        Value::Array(self.rows.iter().map(object).collect())
    }

    fn csv(&self, out: &mut impl io::Write) -> Result<()> {
        self.csv_part(out, true)
    }

    fn csv_part(&self, out: &mut impl io::Write, header: bool) -> Result<()> {
        let mut writer = csv::Writer::from_writer(out);
        if header {
            writer.write_record(&self.columns)?;
        }
        for row in &self.rows {
            writer.write_record(row.iter().map(Cell::text))?;
        }
        Ok(writer.flush()?)
    }
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::None => String::new(),
            Self::Text(text) => text.clone(),
            Self::Integer(number) => number.to_string(),
            Self::Real(value) => short(*value),
            Self::Time(time_us) => times::show(*time_us),
            Self::Flag(flag) => flag.to_string(),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Integer(number) => (*number).into(),
            Self::Real(value) => (*value).into(),
            Self::Flag(flag) => (*flag).into(),
            other => other.text().into(),
        }
    }
}

impl From<String> for Cell {
    /// An empty text says nothing.
    fn from(text: String) -> Self {
        if text.is_empty() { Self::None } else { Self::Text(text) }
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Self::Integer(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<u32> for Cell {
    fn from(count: u32) -> Self {
        Self::Integer(count.into())
    }
}

impl From<i32> for Cell {
    fn from(number: i32) -> Self {
        Self::Integer(number.into())
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Into::into)
    }
}

/// A time, unless it is 0: not told.
pub(crate) fn time(time_us: Micros) -> Cell {
    if time_us == 0 { Cell::None } else { Cell::Time(time_us) }
}

/// A value with the decimals that matter to a person: means have many that do not.
pub(crate) fn short(value: f64) -> String {
    let text = format!("{value:.4}");
    if value != 0.0 && (value.abs() < 0.001 || value.abs() >= 1e15) {
        return value.to_string();
    }
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Rows {
        let mut rows = Rows::new(&["device", "value", "battery"]);
        rows.push(vec!["collar \"17\", left".to_owned().into(), 38.600_000_1.into(), Cell::None]);
        rows.push(vec!["tank".to_owned().into(), 4.0.into(), Cell::None]);
        rows
    }

    #[test]
    fn a_table_lines_numbers_up_and_leaves_out_what_nobody_tells() {
        let table = rows().table().to_string();
        let lines: Vec<&str> = table.lines().map(str::trim_end).collect();
        assert_eq!(lines[0], "DEVICE             VALUE");
        assert_eq!(lines[1], "collar \"17\", left   38.6");
        assert_eq!(lines[2], "tank                   4");
    }

    #[test]
    fn csv_and_json_read_back() {
        let mut out = Vec::new();
        rows().csv(&mut out).unwrap();
        let mut reader = csv::Reader::from_reader(&out[..]);
        assert_eq!(reader.headers().unwrap(), ["device", "value", "battery"].as_slice());
        let record = reader.records().next().unwrap().unwrap();
        assert_eq!(&record[0], "collar \"17\", left");
        assert_eq!(rows().json()[1]["value"], 4.0);
    }

    #[test]
    fn values_are_shown_short_and_never_as_nothing() {
        for (value, text) in
            [(0.0, "0"), (38.6, "38.6"), (1.0 / 3.0, "0.3333"), (1e-9, "0.000000001"), (-2.0, "-2")]
        {
            assert_eq!(short(value), text);
        }
    }
}
