//! Quarantine, by producer and offsets.

use super::{Page, page::Token, page_size};
use crate::{
    error::Error,
    model::{Offset, ProducerId, Quarantined, RejectionKind},
    store::{QuarantineSpan, Store},
};

/// Asks for what was refused of a producer.
#[derive(Clone, Debug)]
pub struct Query {
    /// The producer.
    pub producer: ProducerId,
    /// First offset; 0: from the start.
    pub first_offset: Offset,
    /// Last offset, inclusive; 0: to the end.
    pub last_offset: Offset,
    /// At most 1000; 0: 500.
    pub page_size: u32,
    /// Empty: the first page.
    pub page_token: String,
}

/// What was refused, by offset, kind and index.
///
/// # Errors
///
/// [`Error::BadRequest`] for what is out of bounds.
pub async fn list(store: &dyn Store, query: Query) -> Result<Page<Quarantined>, Error> {
    let last = if query.last_offset == 0 { Offset::MAX } else { query.last_offset };
    if last < query.first_offset {
        let message = format!("{last} is before first_offset {}", query.first_offset);
        return Err(Error::BadRequest { field: "last_offset", message });
    }
    let limit = page_size(query.page_size, 500, 1000)?;
    let token = Token::of((query.producer, query.first_offset, query.last_offset));
    let first = match token.read::<3>(&query.page_token)? {
        Some([offset, kind, index]) => (offset as Offset, kind as u8, index as u32),
        None => (query.first_offset, RejectionKind::Reading as u8, 0),
    };
    let mut items = store.quarantine(query.producer, QuarantineSpan { first, last }, limit + 1).await?;
    let Some(next) = items.get(limit).map(|record| &record.rejection) else { return Ok(Page::last(items)) };
    let next_token = token.write([next.offset as i64, next.kind as i64, i64::from(next.index)]);
    items.truncate(limit);
    Ok(Page { items, next_token })
}
