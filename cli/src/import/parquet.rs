//! Rows of a Parquet file.

use std::fs::File;

use anyhow::Result;
use parquet::{
    basic::{LogicalType, TimeUnit},
    file::reader::{FileReader as _, SerializedFileReader},
    record::{Field, reader::RowIter},
    schema::types::Type,
};

use super::source::{Record, Value};

/// Rows of a Parquet file, in order.
pub(super) struct ParquetRows {
    header: Vec<String>,
    /// Units of the columns that hold times without a zone.
    local: Vec<Option<TimeUnit>>,
    count: u64,
    rows: RowIter<'static>,
    place: u64,
}

impl ParquetRows {
    pub(super) fn open(file: File) -> Result<Self> {
        let reader = SerializedFileReader::new(file)?;
        let metadata = reader.metadata().file_metadata();
        let count = u64::try_from(metadata.num_rows()).unwrap_or(0);
        let schema = metadata.schema_descr().root_schema();
        let header = schema.get_fields().iter().map(|field| field.name().to_owned()).collect();
        let local = schema.get_fields().iter().map(|field| local_unit(field)).collect();
        Ok(Self { header, local, count, rows: RowIter::from_file_into(Box::new(reader)), place: 0 })
    }

    pub(super) fn header(&self) -> &[String] {
        &self.header
    }

    pub(super) fn total(&self) -> u64 {
        self.count
    }
}

impl Iterator for ParquetRows {
    type Item = Result<Record>;

    fn next(&mut self) -> Option<Self::Item> {
        let row = self.rows.next()?;
        self.place += 1;
        let place = self.place;
        let record = row.map(|row| Record {
            place,
            number: place,
            values: row
                .get_column_iter()
                .zip(&self.local)
                .map(|((_, field), local)| value(field, *local))
                .collect(),
        });
        Some(record.map_err(Into::into))
    }
}

/// The unit of a column of times that say to be of no zone: what a program writes that knows none.
fn local_unit(field: &Type) -> Option<TimeUnit> {
    match field.get_basic_info().logical_type_ref() {
        Some(LogicalType::Timestamp(time)) if !time.is_adjusted_to_u_t_c => Some(time.unit),
        _ => None,
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
