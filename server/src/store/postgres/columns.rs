//! Columns of rows in the database's binary format, by place: of many rows, names and types are not looked up for each.

use sqlx::{
    Row as _, ValueRef as _,
    postgres::{PgRow, PgValueFormat},
};

use super::time;
use crate::model::Micros;

/// The columns of a row, one after the other.
pub(super) struct Columns<'r> {
    row: &'r PgRow,
    next: usize,
}

impl<'r> Columns<'r> {
    /// From a place on, counted from 0.
    pub(super) fn from(row: &'r PgRow, first: usize) -> Self {
        Self { row, next: first }
    }

    /// The next one, of which no row has none.
    pub(super) fn take<T: Column>(&mut self) -> Result<T, sqlx::Error> {
        let place = self.next;
        self.maybe()?.ok_or_else(|| decode(place, sqlx::error::UnexpectedNullError.into()))
    }

    /// The next one; None: it is null.
    pub(super) fn maybe<T: Column>(&mut self) -> Result<Option<T>, sqlx::Error> {
        let place = self.next;
        self.next += 1;
        let value = self.row.try_get_raw(place)?;
        if value.is_null() {
            return Ok(None);
        }
        if value.format() != PgValueFormat::Binary {
            return Err(decode(place, "it came as text".into()));
        }
        let read = value.as_bytes().and_then(T::read);
        read.map(Some).map_err(|source| decode(place, source))
    }
}

fn decode(place: usize, source: sqlx::error::BoxDynError) -> sqlx::Error {
    sqlx::Error::ColumnDecode { index: place.to_string(), source }
}

/// What a column may hold.
pub(super) trait Column: Sized {
    fn read(bytes: &[u8]) -> Result<Self, sqlx::error::BoxDynError>;
}

macro_rules! numbers {
    ($($number:ty),+) => {
        $(impl Column for $number {
            fn read(bytes: &[u8]) -> Result<Self, sqlx::error::BoxDynError> {
                Ok(Self::from_be_bytes(bytes.try_into()?))
            }
        })+
    };
}

numbers!(i16, i32, i64, f64);

impl Column for bool {
    fn read(bytes: &[u8]) -> Result<Self, sqlx::error::BoxDynError> {
        Ok(u8::from_be_bytes(bytes.try_into()?) != 0)
    }
}

impl Column for Box<str> {
    fn read(bytes: &[u8]) -> Result<Self, sqlx::error::BoxDynError> {
        Ok(std::str::from_utf8(bytes)?.into())
    }
}

/// A time.
pub(super) struct Time(pub(super) Micros);

impl Column for Time {
    fn read(bytes: &[u8]) -> Result<Self, sqlx::error::BoxDynError> {
        Ok(Self(time::of_database(i64::read(bytes)?)))
    }
}
