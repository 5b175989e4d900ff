//! Buckets, line by line; a page is the next stretch of time of all lines.

use super::{days, page::Token, scope::Subject};
use crate::{
    error::Error,
    model::{Micros, SeriesKey},
    store::{Bucket, BucketRange, Cut, Look},
};

/// Buckets of one line that a request may span.
const MAX_BUCKETS: usize = 40_000;

/// Buckets on a page, so that an answer stays below 3 MiB: one takes about a hundred bytes.
pub(super) const PAGE_BUCKETS: usize = 30_000;

/// Buckets that are asked of the store at a time, at least: stretches without readings take no page.
const STRETCH: usize = 4_000;

/// A question, checked.
pub(super) struct Asked<'a> {
    pub(super) subject: &'a Subject,
    pub(super) cut: Cut,
    pub(super) percentiles: bool,
    /// Buckets that a page may hold.
    pub(super) room: usize,
    /// Empty: the first page.
    pub(super) token: &'a str,
    /// Of the request.
    pub(super) tokens: Token,
}

/// Buckets with their ends, by line.
type Lines = Vec<(SeriesKey, Vec<(Bucket, Micros)>)>;

/// Buckets of a line in a cut.
pub(super) fn buckets_in(cut: &Cut) -> usize {
    match cut {
        Cut::Level { level, start_us, end_us } => {
            usize::try_from(end_us.saturating_sub(*start_us) / level.width_us()).unwrap_or(usize::MAX)
        }
        Cut::Spans(times) => times.len().saturating_sub(1),
    }
}

/// Refuses more buckets of a line than a request may span.
pub(super) fn check_count(cut: &Cut) -> Result<(), Error> {
    let count = buckets_in(cut);
    if count <= MAX_BUCKETS {
        return Ok(());
    }
    let message =
        format!("the range has {count} buckets: at most {MAX_BUCKETS}; shorten it, or ask for wider ones");
    Err(Error::BadRequest { field: "end_us", message })
}

/// A page of buckets, at most as many as [`check_count`] allows, and the token of the next.
pub(super) async fn page(look: &dyn Look, asked: Asked<'_>) -> Result<(Lines, String), Error> {
    let Asked { subject, cut, percentiles, room, token, tokens } = asked;
    let (keys, series) = subject.lines();
    if keys.len() > room {
        let message =
            format!("{room} is below the {} lines of the answer: allow more, or ask for less", keys.len());
        return Err(Error::BadRequest { field: "page_size", message });
    }
    let mut from_us = match tokens.read::<1>(token)? {
        Some([time_us]) => cut.start_of(time_us).ok_or_else(super::page::forged)?,
        None => cut.start_us(),
    };
    let mut lines: Lines = keys.into_iter().map(|key| (key, Vec::new())).collect();
    let stretch = (room.max(STRETCH) / lines.len().max(1)).max(1);
    while from_us < cut.end_us() && !series.is_empty() {
        let part = stretch_of(&cut, from_us, stretch);
        let until_us = part.end_us();
        let range = BucketRange { series: series.clone(), tag: subject.tag, cut: part, percentiles };
        let found = look.buckets(range).await?;
        // Whole stretches of time, as far as there is room.
        let mut starts: Vec<Micros> = found.iter().map(|(_, bucket)| bucket.start_us).collect();
        starts.sort_unstable();
        let cut_us = starts.get(room).copied();
        for (line, bucket) in found {
            if cut_us.is_none_or(|cut_us| bucket.start_us < cut_us) {
                lines[line as usize].1.push((bucket, days::end_of(&cut, bucket.start_us)));
            }
        }
        from_us = cut_us.unwrap_or(until_us);
        if lines.iter().any(|(_, buckets)| !buckets.is_empty()) {
            break;
        }
    }
    lines.retain(|(_, buckets)| !buckets.is_empty());
    let more = from_us < cut.end_us() && !series.is_empty();
    Ok((lines, if more { tokens.write([from_us]) } else { String::new() }))
}

/// The next `count` buckets from a time on.
pub(super) fn stretch_of(cut: &Cut, from_us: Micros, count: usize) -> Cut {
    match cut {
        Cut::Level { level, end_us, .. } => {
            let wide_us = level.width_us().saturating_mul(Micros::try_from(count).unwrap_or(Micros::MAX));
            let end_us = from_us.saturating_add(wide_us).min(*end_us);
            Cut::Level { level: *level, start_us: from_us, end_us }
        }
        Cut::Spans(times) => {
            let first = times.partition_point(|&time| time < from_us);
            let last = (first + count).min(times.len() - 1);
            Cut::Spans(times[first..=last].into())
        }
    }
}
