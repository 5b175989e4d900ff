//! Readings, series by series, each by time.

use super::{page::Token, scope::Subject};
use crate::{
    error::Error,
    model::{Micros, Reading, SeriesKey},
    store::{SeriesRange, Store},
};

/// Readings or buckets on a page, at most.
pub(super) const MAX_READINGS: usize = 50_000;

/// Encoded bytes of a reading without texts, at most.
const READING_BYTES: usize = 56;

/// Encoded bytes of a series and its frame in the answer, at most: 192 characters and change.
const SERIES_BYTES: usize = 1024;

/// Which page.
pub(super) struct Page<'a> {
    /// Empty: the first.
    pub(super) token: &'a str,
    /// Of the request.
    pub(super) tokens: Token,
    /// Readings that it may hold.
    pub(super) room: usize,
    /// Encoded bytes that it may hold.
    pub(super) bytes: usize,
}

/// A page of readings, and the token of the next.
pub(super) async fn page(
    store: &dyn Store,
    subject: &Subject,
    (from_us, end_us): (Micros, Micros),
    page: Page<'_>,
) -> Result<(Vec<(SeriesKey, Vec<Reading>)>, String), Error> {
    let Page { token, tokens, mut room, bytes } = page;
    let mut bytes_left = bytes;
    let position = tokens.read::<3>(token)?;
    let mut items = Vec::new();
    for (id, key) in &subject.series {
        // A position is a series, a time in it, and how many readings of that time have been sent.
        let (start_us, skip) = match position {
            Some([at, ..]) if i64::from(id.0) < at => continue,
            Some([at, time_us, sent]) if i64::from(id.0) == at => {
                (time_us.max(from_us), usize::try_from(sent).unwrap_or_default())
            }
            _ => (from_us, 0),
        };
        // One more than fits shows that there is more.
        let limit = room.saturating_add(1);
        let (tag, text_bytes) = (subject.tag, bytes + 1);
        let range = SeriesRange { series: *id, tag, start_us, end_us, skip, limit, text_bytes };
        let found = store.range(range).await?;
        bytes_left = bytes_left.saturating_sub(SERIES_BYTES);
        let fits = fitting(&found, room, &mut bytes_left);
        let next = found.get(fits).map(|next| {
            let before = if next.time_us == start_us { skip } else { 0 };
            let ties =
                found[..fits].iter().rev().take_while(|reading| reading.time_us == next.time_us).count();
            tokens.write([i64::from(id.0), next.time_us, (before + ties) as i64])
        });
        room -= fits;
        if fits > 0 {
            items.push((key.clone(), found.into_iter().take(fits).collect()));
        }
        if let Some(next_token) = next {
            return Ok((items, next_token));
        }
    }
    Ok((items, String::new()))
}

/// How many of `found` fit; at least one if any was found and nothing is on the page yet.
fn fitting(found: &[Reading], room: usize, bytes_left: &mut usize) -> usize {
    for (index, reading) in found.iter().enumerate() {
        let texts = [&reading.session_id, &reading.metadata];
        let text_bytes: usize = texts.into_iter().flatten().map(|text| text.len() + 4).sum();
        let bytes = READING_BYTES + text_bytes;
        if index == room || bytes > *bytes_left {
            return index;
        }
        *bytes_left -= bytes;
    }
    found.len()
}
