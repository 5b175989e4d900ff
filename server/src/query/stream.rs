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

/// The next readings of a range.
#[derive(Debug)]
pub struct StreamPart {
    /// A series and readings of it, by time; None: there are none.
    pub series: Option<(SeriesKey, Vec<Reading>)>,
    /// What lies before is no longer kept.
    pub kept_from_us: Option<Micros>,
}

/// Hands out readings, series by series, each by time, until nobody takes more. A range without readings is one part.
///
/// # Errors
///
/// [`Error::NotFound`] for an unknown device or farm, [`Error::BadRequest`] for what is out of bounds,
/// [`Error::Stalled`] for a part that is not taken in time.
pub async fn stream(
    store: &dyn Store,
    query: StreamQuery,
    parts: &mut Parts<StreamPart>,
) -> Result<(), Error> {
    let StreamQuery { scope, metric_names, start_us, end_us } = query;
    check_time(start_us, end_us)?;
    let mut look = store.look();
    let metrics = ("metric_names", &metric_names[..]);
    let subject = parts.look(scope.find(&*look, metrics, (start_us, end_us))).await?;
    let mut token = String::new();
    let mut told = None;
    loop {
        let page = Page { token: &token, tokens: Token::of(()), room: PART, bytes: PART_BYTES };
        let (series, next) = parts.look(readings::page(&*look, &subject, (start_us, end_us), page)).await?;
        // Of the same look: what it no longer had is told with what it has.
        let kept_from_us = look.lifecycle().await?.raw_kept_from_us;
        // A look is not kept while a caller takes his time.
        look = store.look();
        for part in series {
            told = Some(kept_from_us);
            if !parts.give(StreamPart { series: Some(part), kept_from_us }).await? {
                return Ok(());
            }
        }
        if next.is_empty() {
            if told != Some(kept_from_us) {
                parts.give(StreamPart { series: None, kept_from_us }).await?;
            }
            return Ok(());
        }
        token = next;
    }
}
