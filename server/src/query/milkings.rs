use super::{
    Page, check_time,
    known::check_farm,
    page::{Token, fitting},
    page_size,
};
use crate::{
    error::Error,
    model::{Micros, Milking},
    store::{Look, MilkingRange},
};

/// Asks for milkings.
#[derive(Clone, Debug)]
pub struct MilkingsQuery {
    /// The farm.
    pub farm_id: i32,
    /// Only this animal; 0: all.
    pub animal_id: i32,
    /// Inclusive.
    pub start_us: Micros,
    /// Exclusive.
    pub end_us: Micros,
    /// At most 10 000; 0: 1000.
    pub page_size: u32,
    /// Empty: the first page.
    pub page_token: String,
}

/// Encoded bytes of a milking without texts, at most.
const MILKING_BYTES: usize = 200;

/// Milkings by time, and from when on they are kept.
///
/// # Errors
///
/// [`Error::NotFound`] for an unknown farm, [`Error::BadRequest`] for what is out of bounds.
pub async fn milkings(
    look: &dyn Look,
    query: MilkingsQuery,
) -> Result<(Page<Milking>, Option<Micros>), Error> {
    for (field, value, low) in [("farm_id", query.farm_id, 1), ("animal_id", query.animal_id, 0)] {
        if value < low {
            return Err(Error::BadRequest { field, message: format!("{value} is below {low}") });
        }
    }
    check_time(query.start_us, query.end_us)?;
    let limit = page_size(query.page_size, 1000, 10_000)?;
    let token = Token::of((query.farm_id, query.animal_id, query.start_us, query.end_us));
    let (start_us, skip) = match token.read::<2>(&query.page_token)? {
        Some([time_us, sent]) => (time_us.max(query.start_us), usize::try_from(sent).unwrap_or_default()),
        None => (query.start_us, 0),
    };
    let range = MilkingRange {
        farm_id: query.farm_id,
        animal_id: (query.animal_id != 0).then_some(query.animal_id),
        start_us,
        end_us: query.end_us,
        skip,
        limit: limit + 1,
    };
    let mut items = look.milkings(range).await?;
    if items.is_empty() && query.page_token.is_empty() {
        check_farm(look, query.farm_id).await?;
    }
    let kept_from_us = look.lifecycle().await?.milkings_kept_from_us;
    let fits = fitting(&items, bytes_of).min(limit);
    let Some(next_us) = items.get(fits).map(|milking| milking.time_us) else {
        return Ok((Page::last(items), kept_from_us));
    };
    items.truncate(fits);
    let before = if next_us == start_us { skip } else { 0 };
    let ties = items.iter().rev().take_while(|milking| milking.time_us == next_us).count();
    Ok((Page { items, next_token: token.write([next_us, (before + ties) as i64]) }, kept_from_us))
}

/// Encoded bytes of a milking, at most.
fn bytes_of(milking: &Milking) -> usize {
    let texts = [milking.milking_type.as_ref(), milking.meter_status.as_ref(), Some(&milking.session_id)];
    MILKING_BYTES + texts.into_iter().flatten().map(String::len).sum::<usize>()
}
