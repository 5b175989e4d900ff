use super::{
    Page, check_name, device_series, farm,
    known::check_farm,
    page::{Token, fitting},
    page_size,
};
use crate::{
    error::Error,
    model::{SeriesId, SeriesKey},
    store::{Look, SeriesFilter},
};

/// Asks for series.
#[derive(Clone, Debug)]
pub struct SeriesQuery {
    /// Only this farm; 0: all.
    pub farm_id: i32,
    /// Only this device; empty: all.
    pub device_uid: String,
    /// Only this metric; empty: all.
    pub metric_name: String,
    /// At most 10 000; 0: 1000.
    pub page_size: u32,
    /// Empty: the first page.
    pub page_token: String,
}

/// Series in the order in which they were first seen.
///
/// # Errors
///
/// [`Error::NotFound`] for an unknown device or farm, [`Error::BadRequest`] for what is out of bounds.
pub async fn list_series(look: &dyn Look, query: SeriesQuery) -> Result<Page<SeriesKey>, Error> {
    let SeriesQuery { farm_id, device_uid, metric_name, page_token, .. } = query;
    for (field, name) in [("device_uid", &device_uid), ("metric_name", &metric_name)] {
        if !name.is_empty() {
            check_name(field, name)?;
        }
    }
    let limit = page_size(query.page_size, 1000, 10_000)?;
    let token = Token::of((farm_id, &device_uid, &metric_name));
    let after = token.read::<1>(&page_token)?.map(|[number]| SeriesId(number as u32));
    let farm_id = farm(farm_id)?;
    let filter = SeriesFilter {
        farm_id,
        device_uid: Some(device_uid.clone()).filter(|uid| !uid.is_empty()),
        metric_names: Some(metric_name).filter(|name| !name.is_empty()).into_iter().collect(),
        after,
        limit: Some(limit + 1),
    };
    let mut found = look.find_series(filter).await?;
    if found.is_empty() && page_token.is_empty() {
        match farm_id {
            _ if !device_uid.is_empty() => {
                device_series(look, farm_id, &device_uid, ("metric_name", &[])).await?;
            }
            Some(farm_id) => check_farm(look, farm_id).await?,
            None => {}
        }
    }
    let fits = fitting(&found, |(_, key)| bytes_of(key)).min(limit);
    let more = found.len() > fits;
    found.truncate(fits);
    let last = found.last().map_or(0, |(id, _)| i64::from(id.0));
    let next_token = if more { token.write([last]) } else { String::new() };
    Ok(Page { items: found.into_iter().map(|(_, key)| key).collect(), next_token })
}

/// Encoded bytes of a series, at most.
pub(super) fn bytes_of(key: &SeriesKey) -> usize {
    let texts = [&key.device_uid, &key.device_type, &key.metric_name, &key.metric_unit];
    32 + texts.into_iter().map(String::len).sum::<usize>()
}
