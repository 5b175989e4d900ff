//! Rows of a file, one after the other.

use std::{
    fmt,
    fs::{self, File},
    io::{self, BufReader, Read, Seek as _},
    os::unix::fs::FileTypeExt as _,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result, anyhow, bail};

use super::parquet::ParquetRows;

/// Bytes that a row may have, so that one without an end does not fill the memory.
pub(super) const MAX_ROW: u64 = 1 << 20;

/// Bytes that are read ahead of a row, at most.
const AHEAD: u64 = 64 << 10;

/// A value as a file has it.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Text(String),
    /// A text that is not UTF-8.
    Bytes(Vec<u8>),
    Integer(i64),
    Real(f64),
    Flag(bool),
    /// Microseconds since 1970.
    Time(i64),
    /// Microseconds since 1970 on a clock of which it is not said in which zone it hangs.
    LocalTime(i64),
    /// A list or a structure, which is not read.
    Nested,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Null => f.write_str("nothing"),
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Bytes(bytes) => write!(f, "{:?}", String::from_utf8_lossy(bytes)),
            Self::Integer(number) | Self::Time(number) | Self::LocalTime(number) => number.fmt(f),
            Self::Real(value) => value.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
            Self::Nested => f.write_str("a list or a structure"),
        }
    }
}

impl Value {
    /// A text as it lies in a file.
    pub(super) fn text(bytes: &[u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok("") => Self::Null,
            Ok(text) => Self::Text(text.to_owned()),
            Err(_) => Self::Bytes(bytes.to_owned()),
        }
    }
}

/// A row, and where it is: a line of a CSV file, a row of a Parquet file.
#[derive(Debug)]
pub(super) struct Record {
    pub(super) place: u64,
    /// Counted from 1, the header aside.
    pub(super) number: u64,
    pub(super) values: Vec<Value>,
}

/// A file that is being read.
pub(super) struct Source {
    pub(super) header: Vec<String>,
    /// Bytes of a CSV file, rows of a Parquet file.
    pub(super) size: u64,
    pub(super) is_csv: bool,
    /// What a place is called: lines are counted from the header, rows after it.
    pub(super) place_name: &'static str,
    read: Arc<AtomicU64>,
    rows: Box<dyn Iterator<Item = Result<Record>>>,
}

impl Source {
    pub(super) fn open(path: &Path, delimiter: u8) -> Result<Self> {
        let file = open_file(path)?;
        let is_parquet = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("parquet"));
        if is_parquet { Self::parquet(file) } else { Self::csv(file, delimiter) }
            .with_context(|| format!("cannot read {}", path.display()))
    }

    /// How far it was read, of [`Source::size`].
    pub(super) fn position(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    fn csv(mut file: File, delimiter: u8) -> Result<Self> {
        refuse_compressed(&mut file)?;
        let size = file.metadata()?.len();
        let (read, begun) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let counted = Counted {
            inner: BufReader::with_capacity(1 << 20, file),
            read: Arc::clone(&read),
            begun: Arc::clone(&begun),
        };
        // A row of another length is a bad row, and not the end of the file.
        let mut reader = csv::ReaderBuilder::new()
            .delimiter(delimiter)
            .trim(csv::Trim::Headers)
            .flexible(true)
            .buffer_capacity(AHEAD as usize)
            .from_reader(counted);
        // Of columns that nobody reads, nobody has to know the encoding.
        let name = |name: &[u8]| String::from_utf8_lossy(name).trim_start_matches('\u{feff}').to_owned();
        let header = reader.byte_headers().map_err(|error| tell(error, 1))?.iter().map(name).collect();
        let rows = CsvRows { reader, begun, count: 0 };
        Ok(Self { header, size, is_csv: true, place_name: "line", read, rows: Box::new(rows) })
    }

    fn parquet(file: File) -> Result<Self> {
        let read = Arc::new(AtomicU64::new(0));
        let rows = ParquetRows::open(file)?;
        let (header, size) = (rows.header().to_vec(), rows.total());
        let counter = Arc::clone(&read);
        let rows = rows.inspect(move |_| {
            counter.fetch_add(1, Ordering::Relaxed);
        });
        Ok(Self { header, size, is_csv: false, place_name: "row", read, rows: Box::new(rows) })
    }
}

/// Opens a file. It is read more than once, to know it again and to look at every row before the first is sent, and it
/// has an end: pipes and devices have neither.
///
/// # Errors
///
/// It cannot be opened, or is something else than a file.
pub(super) fn open_file(path: &Path) -> Result<File> {
    let cannot = || format!("cannot open {}", path.display());
    // Before it is opened: a pipe would wait for somebody to write into it.
    let kind = fs::metadata(path).with_context(cannot)?.file_type();
    let what = match () {
        () if kind.is_file() => return File::open(path).with_context(cannot),
        () if kind.is_dir() => "a directory: name the files in it",
        () if kind.is_fifo() => {
            "a pipe, and a file is read more than once: save what comes out of it as a file first"
        }
        () if kind.is_socket() => "a socket: save what comes out of it as a file first",
        () => "a device: save what comes out of it as a file first",
    };
    bail!("cannot read {}: it is {what}", path.display())
}

/// Reads what separates fields: an ASCII character, or "tab".
pub(super) fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        // A quotation mark and the ends of lines have a meaning of their own.
        [byte] if byte.is_ascii() && !b"\"\r\n".contains(byte) => Ok(*byte),
        _ => Err("expected a character such as \";\", or \"tab\"".to_owned()),
    }
}

/// Refuses what looks like a file that must be unpacked first.
fn refuse_compressed(file: &mut File) -> Result<()> {
    let mut start = Vec::new();
    Read::by_ref(file).take(4).read_to_end(&mut start)?;
    file.rewind()?;
    let (kind, way_out) = match start.as_slice() {
        [0x1f, 0x8b, ..] => ("it is compressed with gzip", "unpack it first, as with gunzip"),
        [0x28, 0xb5, 0x2f, 0xfd] => ("it is compressed with zstd", "unpack it first, as with unzstd"),
        b"PK\x03\x04" => ("it is a zip archive or a spreadsheet", "unpack it, or save it as CSV"),
        b"PAR1" => ("it is Parquet", "give it a name that ends with .parquet"),
        _ => return Ok(()),
    };
    bail!("{kind}, and CSV is expected: {way_out}");
}

impl Iterator for Source {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next()
    }
}

/// Rows of a CSV file, in order.
struct CsvRows<R> {
    reader: csv::Reader<Counted<R>>,
    /// Where the row begins that is being read.
    begun: Arc<AtomicU64>,
    /// Rows so far.
    count: u64,
}

impl<R: Read> Iterator for CsvRows<R> {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let (start, line) = (self.reader.position().byte(), self.reader.position().line());
        self.begun.store(start, Ordering::Relaxed);
        let mut record = csv::ByteRecord::new();
        match self.reader.read_byte_record(&mut record) {
            Ok(false) => None,
            Ok(true) if self.reader.position().byte() - start > MAX_ROW => Some(Err(too_long(line))),
            Ok(true) => {
                self.count += 1;
                let (place, number) = (record.position().map_or(line, csv::Position::line), self.count);
                Some(Ok(Record { place, number, values: record.iter().map(Value::text).collect() }))
            }
            Err(error) => Some(Err(tell(error, line))),
        }
    }
}

/// What is wrong with a row that begins at a line.
fn tell(error: csv::Error, line: u64) -> anyhow::Error {
    match error.kind() {
        csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => too_long(line),
        _ => error.into(),
    }
}

fn too_long(line: u64) -> anyhow::Error {
    anyhow!(
        "line {line} begins a row of more than {} MiB, and none may have more: close its quotation mark if one is open, \
         shorten it, or say with --delimiter what separates fields; if this is no CSV, convert it first",
        MAX_ROW >> 20
    )
}

/// Counts the bytes that are read, and stops in a row without an end.
struct Counted<R> {
    inner: R,
    read: Arc<AtomicU64>,
    /// Where the row begins that is being read.
    begun: Arc<AtomicU64>,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.read.load(Ordering::Relaxed);
        if read - self.begun.load(Ordering::Relaxed) > MAX_ROW + AHEAD {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let len = self.inner.read(buffer)?;
        self.read.store(read + len as u64, Ordering::Relaxed);
        Ok(len)
    }
}
