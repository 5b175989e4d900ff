//! Readings, series by series, each by time.

use super::{page::Token, scope::Subject};
use crate::{
    error::Error,
    model::{Micros, Reading, SeriesId, SeriesKey},
    store::{Look, SeriesRange, Tag},
};

/// Readings or buckets on a page, at most.
pub(super) const MAX_READINGS: usize = 50_000;

/// Encoded bytes of a reading without texts, at most.
const READING_BYTES: usize = 56;

/// Encoded bytes of a series and its frame in the answer, at most: 192 characters and change.
const SERIES_BYTES: usize = 1024;

/// Readings that are looked at together, at most: 8 MB with the longest metadata.
const LOOK: usize = 1_000;

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
    look: &dyn Look,
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
        let found = look.range(range).await?;
        let mut left = bytes_left.saturating_sub(SERIES_BYTES);
        let fits = fitting(&found, room, &mut left);
        let next = found.get(fits).map(|next| {
            let before = if next.time_us == start_us { skip } else { 0 };
            let ties =
                found[..fits].iter().rev().take_while(|reading| reading.time_us == next.time_us).count();
            tokens.write([i64::from(id.0), next.time_us, (before + ties) as i64])
        });
        room -= fits;
        if fits > 0 {
            bytes_left = left;
            items.push((key.clone(), found.into_iter().take(fits).collect()));
        }
        if let Some(next_token) = next {
            return Ok((items, next_token));
        }
    }
    Ok((items, String::new()))
}

/// How many of `found` fit.
fn fitting(found: &[Reading], room: usize, bytes_left: &mut usize) -> usize {
    for (index, reading) in found.iter().enumerate() {
        let bytes = bytes_of(reading);
        if index == room || bytes > *bytes_left {
            return index;
        }
        *bytes_left -= bytes;
    }
    found.len()
}

/// Encoded bytes of a reading, at most.
pub(super) fn bytes_of(reading: &Reading) -> usize {
    let texts = [&reading.session_id, &reading.metadata];
    READING_BYTES + texts.into_iter().flatten().map(|text| text.len() + 4).sum::<usize>()
}

/// Shows the readings of a series by time, those with a tag if there is one, until `see` answers false; answers the
/// last that was shown.
pub(super) async fn each(
    look: &dyn Look,
    (series, tag): (SeriesId, Option<Tag>),
    (start_us, end_us): (Micros, Micros),
    mut see: impl FnMut(&Reading) -> bool,
) -> Result<Option<Reading>, Error> {
    let mut range =
        SeriesRange { series, tag, start_us, end_us, skip: 0, limit: LOOK, text_bytes: usize::MAX };
    let mut last = None;
    while range.start_us < range.end_us {
        let mut found = look.range(range).await?;
        let is_end = found.len() < LOOK;
        if let Some(place) = found.iter().position(|reading| !see(reading)) {
            return Ok(Some(found.swap_remove(place)));
        }
        let Some(newest) = found.pop() else { break };
        let ties = 1 + found.iter().rev().take_while(|reading| reading.time_us == newest.time_us).count();
        range.skip = if newest.time_us == range.start_us { range.skip + ties } else { ties };
        range.start_us = newest.time_us;
        last = Some(newest);
        if is_end {
            break;
        }
    }
    Ok(last)
}
