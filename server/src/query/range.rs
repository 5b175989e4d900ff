use super::{PAGE_BYTES, Page, check_name, check_time, device_series, farm, page::Token, page_size};
use crate::{
    error::Error,
    model::{Micros, Reading, SeriesKey},
    store::{SeriesRange, Store},
};

/// Encoded bytes of a reading without texts, at most.
const READING_BYTES: usize = 56;

/// Encoded bytes of a series and its frame in the answer, at most: 192 characters and change.
const SERIES_BYTES: usize = 1024;

/// Asks for the readings of one metric of a device.
#[derive(Clone, Debug)]
pub struct RangeQuery {
    /// The device.
    pub device_uid: String,
    /// Its farm; 0: any.
    pub farm_id: i32,
    /// The metric.
    pub metric_name: String,
    /// Inclusive.
    pub start_us: Micros,
    /// Exclusive.
    pub end_us: Micros,
    /// At most 50 000; 0: 1000.
    pub page_size: u32,
    /// Empty: the first page.
    pub page_token: String,
}

/// Readings series by series, each by time.
///
/// # Errors
///
/// [`Error::NotFound`] for an unknown device, [`Error::BadRequest`] for what is out of bounds.
pub async fn range(store: &dyn Store, query: RangeQuery) -> Result<Page<(SeriesKey, Vec<Reading>)>, Error> {
    check_name("device_uid", &query.device_uid)?;
    check_name("metric_name", &query.metric_name)?;
    check_time(query.start_us, query.end_us)?;
    let farm_id = farm(query.farm_id)?;
    let mut room = page_size(query.page_size, 1000, 50_000)?;
    let token = Token::of((&query.device_uid, farm_id, &query.metric_name, query.start_us, query.end_us));
    let position = token.read::<3>(&query.page_token)?;
    let metric_names = ("metric_name", std::slice::from_ref(&query.metric_name));
    let series = device_series(store, farm_id, &query.device_uid, metric_names).await?;
    let mut bytes_left = PAGE_BYTES;
    let mut items = Vec::new();
    for (id, key) in series {
        // A position is a series, a time in it, and how many readings of that time have been sent.
        let (start_us, skip) = match position {
            Some([at, ..]) if i64::from(id.0) < at => continue,
            Some([at, time_us, sent]) if i64::from(id.0) == at => {
                (time_us.max(query.start_us), usize::try_from(sent).unwrap_or_default())
            }
            _ => (query.start_us, 0),
        };
        // One more than fits shows that there is more.
        let limit = room.saturating_add(1);
        let text_bytes = PAGE_BYTES + 1;
        let range =
            SeriesRange { series: id, tag: None, start_us, end_us: query.end_us, skip, limit, text_bytes };
        let found = store.range(range).await?;
        bytes_left = bytes_left.saturating_sub(SERIES_BYTES);
        let fits = fitting(&found, room, &mut bytes_left);
        let next = found.get(fits).map(|next| {
            let before = if next.time_us == start_us { skip } else { 0 };
            let ties =
                found[..fits].iter().rev().take_while(|reading| reading.time_us == next.time_us).count();
            token.write([i64::from(id.0), next.time_us, (before + ties) as i64])
        });
        room -= fits;
        if fits > 0 {
            items.push((key, found.into_iter().take(fits).collect()));
        }
        if let Some(next_token) = next {
            return Ok(Page { items, next_token });
        }
    }
    Ok(Page::last(items))
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
