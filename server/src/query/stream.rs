//! All readings of a range, part by part.

use super::{
    Parts, check_time,
    page::Token,
    readings::{self, Page},
    scope::Scope,
};
use crate::{
    error::Error,
    model::{Micros, Reading, SeriesKey},
    store::Store,
};

/// Readings of one part.
const PART: usize = 5_000;

/// Encoded bytes of one part: few enough to be taken in time over a slow link.
const PART_BYTES: usize = 256 << 10;

/// Asks for all readings of a range.
#[derive(Clone, Debug)]
pub struct StreamQuery {
    /// What about.
    pub scope: Scope,
    /// Empty: all.
    pub metric_names: Vec<String>,
    /// Inclusive.
    pub start_us: Micros,
    /// Exclusive.
    pub end_us: Micros,
}

/// Hands out readings, series by series, each by time, until nobody takes more.
///
/// # Errors
///
/// [`Error::NotFound`] for an unknown device or farm, [`Error::BadRequest`] for what is out of bounds,
/// [`Error::Stalled`] for a part that is not taken in time.
pub async fn stream(
    store: &dyn Store,
    query: StreamQuery,
    parts: &mut Parts<(SeriesKey, Vec<Reading>)>,
) -> Result<(), Error> {
    let StreamQuery { scope, metric_names, start_us, end_us } = query;
    check_time(start_us, end_us)?;
    let mut look = store.look();
    let subject = scope.find(&*look, ("metric_names", &metric_names), (start_us, end_us)).await?;
    let mut token = String::new();
    loop {
        let page = Page { token: &token, tokens: Token::of(()), room: PART, bytes: PART_BYTES };
        let (series, next) = parts.look(readings::page(&*look, &subject, (start_us, end_us), page)).await?;
        // A look is not kept while a caller takes his time.
        look = store.look();
        for part in series {
            if !parts.give(part).await? {
                return Ok(());
            }
        }
        if next.is_empty() {
            return Ok(());
        }
        token = next;
    }
}
