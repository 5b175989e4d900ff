//! What is known. A farm and a device are registered by what they send, for good, and whoever asks about another is told
//! so; animals and zones are only marks on readings, and of one that nobody knows there is nothing to tell.

use crate::{
    error::Error,
    model::Micros,
    store::{Cut, Level, Look, MilkRange, MilkingRange, SeriesFilter},
};

/// Refuses a farm of which there is neither a series nor a milking. For answers that hold nothing: others show that
/// the farm is known.
///
/// # Errors
///
/// [`Error::NotFound`].
pub(super) async fn check_farm(look: &dyn Look, farm_id: i32) -> Result<(), Error> {
    let filter = SeriesFilter { farm_id: Some(farm_id), limit: Some(1), ..SeriesFilter::default() };
    if !look.find_series(filter).await?.is_empty() {
        return Ok(());
    }
    let (start_us, end_us) = (Micros::MIN, Micros::MAX);
    let any = MilkingRange { farm_id, animal_id: None, start_us, end_us, skip: 0, limit: 1 };
    if !look.milkings(any).await?.is_empty() {
        return Ok(());
    }
    // The milk of days outlives the milkings.
    let cut = Cut::Level { level: Level::Day, start_us: 0, end_us: Level::Day.floor(Micros::MAX) };
    if !look.milk(MilkRange { farm_id, animal_id: None, cut }).await?.is_empty() {
        return Ok(());
    }
    Err(Error::NotFound(format!("farm {farm_id} is not known")))
}
