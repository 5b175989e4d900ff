//! Rows of a Parquet file.

mod pages;

use std::{fs::File, sync::Arc};

use anyhow::{Result, anyhow};
use parquet::{
    basic::{LogicalType, Repetition, TimeUnit},
    file::reader::{FileReader as _, SerializedFileReader},
    record::{Field, Row, reader::RowIter},
    schema::types::{Type, TypePtr},
};

use self::pages::Pages;
use super::source::{MAX_ROW, Record, Value};

/// Bytes that a page may have, unpacked: of each column one is in memory, and a dictionary. Most writers make pages of
/// 1 MiB; some make one of all values of a group of rows.
const MAX_PAGE: u64 = 256 << 20;

/// Rows that are unpacked at once. Packed as what differs from the one before, a page may hold many times its size.
const BATCH: usize = 64;

/// Rows of a Parquet file, in order.
pub(super) struct ParquetRows {
    header: Vec<String>,
    shapes: Vec<Shape>,
    count: u64,
    rows: RowIter<'static>,
    place: u64,
}

/// What a column holds.
enum Shape {
    /// One value a row; the unit of times that say to be of no zone: what a program writes that knows none.
    One(Option<TimeUnit>),
    /// Lists, which may have any length, or structures: they are not read.
    Nested,
}

impl ParquetRows {
    pub(super) fn open(file: File) -> Result<Self> {
        Self::bounded(file, MAX_PAGE)
    }

    fn bounded(file: File, max_page: u64) -> Result<Self> {
        let reader = SerializedFileReader::new(Pages::of(file, max_page))?;
        let metadata = reader.metadata().file_metadata();
        let count = u64::try_from(metadata.num_rows()).unwrap_or(0);
        let schema = metadata.schema_descr().root_schema();
        let header = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
        let shapes = schema.get_fields().iter().map(|field| shape(field)).collect();
        let read: Vec<TypePtr> =
            schema.get_fields().iter().filter(|field| !is_nested(field)).map(Arc::clone).collect();
        let read = Type::group_type_builder(schema.name()).with_fields(read).build()?;
        let rows = RowIter::from_file_into(Box::new(reader)).project(Some(read))?.with_batch_size(BATCH);
        Ok(Self { header, shapes, count, rows, place: 0 })
    }

    pub(super) fn header(&self) -> &[String] {
        &self.header
    }

    pub(super) fn total(&self) -> u64 {
        self.count
    }

    fn record(&self, row: &Row) -> Result<Record> {
        let place = self.place;
        if row.get_column_iter().map(|(_, field)| bytes(field)).sum::<u64>() > MAX_ROW {
            return Err(anyhow!(
                "row {place} has more than {} MiB, and none may have more: shorten it, or leave out columns that are \
                 not read",
                MAX_ROW >> 20
            ));
        }
        let mut fields = row.get_column_iter();
        let one = |shape: &Shape| match shape {
            Shape::One(local) => fields.next().map_or(Value::Null, |(_, field)| value(field, *local)),
            Shape::Nested => Value::Nested,
        };
        Ok(Record { place, number: place, values: self.shapes.iter().map(one).collect() })
    }
}

impl Iterator for ParquetRows {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next()?;
        self.place += 1;
        Some(row.map_err(Into::into).and_then(|row| self.record(&row)))
    }
}

fn shape(field: &Type) -> Shape {
    match field.get_basic_info().logical_type_ref() {
        _ if is_nested(field) => Shape::Nested,
        Some(LogicalType::Timestamp(time)) if !time.is_adjusted_to_u_t_c => Shape::One(Some(time.unit)),
        _ => Shape::One(None),
    }
}

fn is_nested(field: &Type) -> bool {
    !field.is_primitive() || field.get_basic_info().repetition() == Repetition::REPEATED
}

/// Bytes of a value, about.
fn bytes(field: &Field) -> u64 {
    match field {
        Field::Str(text) => text.len() as u64,
        Field::Bytes(bytes) => bytes.len() as u64,
        Field::Decimal(number) => number.data().len() as u64,
        _ => 8,
    }
}

fn value(field: &Field, local: Option<TimeUnit>) -> Value {
    let time = |micros: i64| if local.is_some() { Value::LocalTime(micros) } else { Value::Time(micros) };
    match field {
        Field::Long(number) if local.is_some() => time(match local {
            Some(TimeUnit::MILLIS) => number.saturating_mul(1000),
            Some(TimeUnit::NANOS) => number.div_euclid(1000),
            _ => *number,
        }),
        Field::Null => Value::Null,
        Field::Bool(flag) => Value::Flag(*flag),
        Field::Byte(number) => Value::Integer((*number).into()),
        Field::Short(number) => Value::Integer((*number).into()),
        Field::Int(number) => Value::Integer((*number).into()),
        Field::Long(number) => Value::Integer(*number),
        Field::UByte(number) => Value::Integer((*number).into()),
        Field::UShort(number) => Value::Integer((*number).into()),
        Field::UInt(number) => Value::Integer((*number).into()),
        Field::ULong(number) => {
            i64::try_from(*number).map_or_else(|_| Value::Text(number.to_string()), Value::Integer)
        }
        Field::Float(value) => Value::Real((*value).into()),
        Field::Double(value) => Value::Real(*value),
        Field::Str(text) => Value::Text(text.clone()),
        Field::Bytes(bytes) => Value::text(bytes.data()),
        Field::TimestampMillis(millis) => time(millis.saturating_mul(1000)),
        Field::TimestampMicros(micros) => time(*micros),
        other => Value::Text(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use parquet::{
        basic::{Compression, ZstdLevel},
        data_type::{ByteArray, ByteArrayType},
        file::{properties::WriterProperties, writer::SerializedFileWriter},
        schema::parser::parse_message_type,
    };

    use super::*;

    /// One row with a text of so many bytes, in a page that has four more for its length.
    fn file(bytes: usize, compression: Compression) -> File {
        let schema = parse_message_type("message rows { required binary note (UTF8); }").expect("a schema");
        let properties =
            WriterProperties::builder().set_compression(compression).set_dictionary_enabled(false).build();
        let file = tempfile::tempfile().expect("a file");
        let copy = file.try_clone().expect("the same file");
        let mut writer =
            SerializedFileWriter::new(copy, Arc::new(schema), Arc::new(properties)).expect("a writer");
        let mut group = writer.next_row_group().expect("a group");
        let mut column = group.next_column().expect("a column").expect("one");
        let text = ByteArray::from("x".repeat(bytes).as_str());
        column.typed::<ByteArrayType>().write_batch(&[text], None, None).expect("a value");
        column.close().expect("a column");
        group.close().expect("a group");
        writer.close().expect("a file");
        file
    }

    #[test]
    fn a_page_has_a_bound_before_it_is_unpacked() {
        const MOST: u64 = 100_000;
        for compression in
            [Compression::UNCOMPRESSED, Compression::SNAPPY, Compression::ZSTD(ZstdLevel::default())]
        {
            let mut fits =
                ParquetRows::bounded(file(MOST as usize - 4, compression), MOST).expect("a footer");
            let row = fits.next().expect("a row").expect("a short one");
            assert_eq!(row.values, [Value::Text("x".repeat(MOST as usize - 4))]);
            assert!(fits.next().is_none());
            let mut over =
                ParquetRows::bounded(file(MOST as usize - 3, compression), MOST).expect("a footer");
            let refused = over.next().expect("an answer").expect_err("it is too long").to_string();
            assert!(refused.contains("100001 bytes") && refused.contains("more than 100000"), "{refused}");
        }
    }

    /// Whether their lengths are numbers of one byte or of more.
    #[test]
    fn headers_of_pages_are_understood() {
        for bytes in [0, 1, 63, 64, 8_191, 8_192, 500_000] {
            let mut rows = ParquetRows::open(file(bytes, Compression::SNAPPY)).expect("a footer");
            assert!(rows.next().expect("a row").is_ok(), "{bytes}");
        }
    }
}
