//! Milk by animal and day.

use chrono::NaiveDate;

use super::{Page, days, known::check_farm, page::Token, page_size, positive, summary::dates};
use crate::{
    error::Error,
    store::{Look, MilkBucket, MilkRange},
};

/// Asks for milk by animal and day.
#[derive(Clone, Debug)]
pub struct MilkQuery {
    /// The farm.
    pub farm_id: i32,
    /// Only this animal; 0: all.
    pub animal_id: i32,
    /// As "2026-11-24".
    pub first_date: String,
    /// Inclusive.
    pub last_date: String,
    /// Empty: UTC.
    pub time_zone: String,
    /// At most 10 000; 0: 1000.
    pub page_size: u32,
    /// Empty: the first page.
    pub page_token: String,
}

/// The milk of one animal on one day.
#[derive(Debug)]
pub struct MilkDay {
    /// The day.
    pub date: NaiveDate,
    /// What it gave.
    pub milk: MilkBucket,
}

/// Milk by day and animal.
///
/// # Errors
///
/// [`Error::NotFound`] for an unknown farm, [`Error::BadRequest`] for what is out of bounds.
pub async fn milk_days(look: &dyn Look, query: MilkQuery) -> Result<Page<MilkDay>, Error> {
    positive("farm_id", query.farm_id)?;
    if query.animal_id < 0 {
        let message = format!("{} is below 0", query.animal_id);
        return Err(Error::BadRequest { field: "animal_id", message });
    }
    let limit = page_size(query.page_size, 1000, 10_000)?;
    let (first, last) = dates(&query.first_date, &query.last_date)?;
    let zone = days::time_zone(&query.time_zone)?;
    let cut = days::days(zone, first, last)?;
    let kept_from_us = look.lifecycle().await?.milkings_kept_from_us;
    days::check_kept(&cut, kept_from_us, "first_date", "milkings")?;
    let token = Token::of((query.farm_id, query.animal_id, first, last, &query.time_zone));
    let after = token.read::<2>(&query.page_token)?;
    let mut items = Vec::new();
    let mut from_us = after.map_or(cut.start_us(), |[time_us, _]| time_us);
    let after = after.map(|[time_us, animal]| (time_us, animal as i32));
    // A day first, then more and more, as many as may fit: a farm's animals fit on a page, and a year of them may not.
    let mut count = 1;
    while from_us < cut.end_us() && items.len() <= limit {
        let Some(start_us) = cut.start_of(from_us) else { return Err(super::page::forged()) };
        let part = super::aggregate::stretch_of(&cut, start_us, count);
        from_us = part.end_us();
        let animal_id = (query.animal_id != 0).then_some(query.animal_id);
        let found = look.milk(MilkRange { farm_id: query.farm_id, animal_id, cut: part }).await?;
        let room = limit.saturating_sub(items.len() + found.len());
        count = (2 * count).min(count * room / found.len().max(1)).max(1);
        for milk in found {
            if after.is_none_or(|after| (milk.start_us, milk.animal_id) > after) {
                let beyond = || Error::Internal("a day beyond the calendar");
                items.push(MilkDay { date: days::date_of(zone, milk.start_us).ok_or_else(beyond)?, milk });
            }
        }
    }
    if items.is_empty() && query.page_token.is_empty() {
        check_farm(look, query.farm_id).await?;
    }
    if items.len() <= limit {
        return Ok(Page::last(items));
    }
    items.truncate(limit);
    let position = items.last().map_or([0; 2], |last| [last.milk.start_us, i64::from(last.milk.animal_id)]);
    Ok(Page { items, next_token: token.write(position) })
}
