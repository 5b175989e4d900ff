//! Bounded reads of what is stored.

mod aggregate;
mod animal;
mod days;
mod devices;
mod known;
mod latest;
mod milk;
mod milkings;
mod page;
mod parts;
mod range;
mod readings;
pub mod rejections;
mod scope;
mod series;
mod stream;
mod summary;
mod watch;

pub use animal::{AnimalMetric, AnimalQuery, animal_metrics};
pub use devices::{DeviceStatus, DevicesQuery, device_status, list_devices};
pub use latest::{LatestQuery, latest};
pub use milk::{MilkDay, MilkQuery, milk_days};
pub use milkings::{MilkingsQuery, milkings};
pub use page::Page;
pub use parts::{Parts, Taker, parts};
pub use range::{RangeData, RangePage, RangeQuery, Resolution, Statistic, range};
pub use scope::Scope;
pub use series::{SeriesQuery, list_series};
pub use stream::{StreamPart, StreamQuery, stream};
pub use summary::{FarmDay, SummaryQuery, farm_summary};
pub use watch::{WatchQuery, watch};

use std::collections::BTreeSet;

use crate::{
    error::Error,
    ingest::validate::quote,
    model::{Micros, SeriesId, SeriesKey},
    store::{Look, SeriesFilter},
};

/// Encoded bytes after which a page ends, so that an answer stays below gRPC's usual 4 MiB.
const PAGE_BYTES: usize = 3 << 20;

/// Characters of a device identifier or metric name.
const NAME_CHARS: usize = herdstream_proto::limits::MAX_NAME_CHARS;

fn check_name(field: &'static str, text: &str) -> Result<(), Error> {
    let chars = text.chars().count();
    if text.contains('\0') {
        let message = format!("{} holds a NUL, which no name does", quote(text));
        return Err(Error::BadRequest { field, message });
    }
    if (1..=NAME_CHARS).contains(&chars) {
        return Ok(());
    }
    let message = format!("{} has {chars} characters: 1 to {NAME_CHARS} are expected", quote(text));
    Err(Error::BadRequest { field, message })
}

fn check_time(start_us: Micros, end_us: Micros) -> Result<(), Error> {
    if start_us < end_us {
        return Ok(());
    }
    let message = format!("{end_us} is not after start_us {start_us}");
    Err(Error::BadRequest { field: "end_us", message })
}

/// 0 for any farm.
fn farm(farm_id: i32) -> Result<Option<i32>, Error> {
    match farm_id {
        0 => Ok(None),
        1.. => Ok(Some(farm_id)),
        _ => Err(Error::BadRequest { field: "farm_id", message: format!("{farm_id} is below 0") }),
    }
}

/// 1 or more.
fn positive(field: &'static str, id: i32) -> Result<(), Error> {
    if id >= 1 { Ok(()) } else { Err(Error::BadRequest { field, message: format!("{id} is below 1") }) }
}

fn page_size(asked: u32, default: usize, max: usize) -> Result<usize, Error> {
    match asked as usize {
        0 => Ok(default),
        size if size <= max => Ok(size),
        size => {
            let message = format!("{size} is more than {max}: ask for pages");
            Err(Error::BadRequest { field: "page_size", message })
        }
    }
}

/// The series of a device that have one of `metric_names`; of none of them: all. Found in one look, so that
/// a series that comes meanwhile is either there or not.
///
/// # Errors
///
/// [`Error::NotFound`] for a device of which there is no series, [`Error::BadRequest`] for a metric it does
/// not have.
async fn device_series(
    look: &dyn Look,
    farm_id: Option<i32>,
    device_uid: &str,
    (field, metric_names): (&'static str, &[String]),
) -> Result<Vec<(SeriesId, SeriesKey)>, Error> {
    let device = Some(device_uid.to_owned());
    let limit = Some(scope::MAX_SERIES + 1);
    let filter = SeriesFilter { farm_id, device_uid: device, limit, ..SeriesFilter::default() };
    let mut series = look.find_series(filter).await?;
    if series.is_empty() {
        let farm = farm_id.map_or(String::new(), |farm| format!(" on farm {farm}"));
        return Err(Error::NotFound(format!("device {} is not known{farm}", quote(device_uid))));
    }
    let has = |name: &&String| series.iter().any(|(_, key)| key.metric_name == **name);
    if let Some(unknown) = metric_names.iter().find(|name| !has(name)) {
        let known: BTreeSet<&str> = series.iter().map(|(_, key)| key.metric_name.as_str()).collect();
        let known = known.into_iter().take(20).collect::<Vec<_>>().join(", ");
        let message = format!("{} is not a metric of this device, which has {known}", quote(unknown));
        return Err(Error::BadRequest { field, message });
    }
    if !metric_names.is_empty() {
        series.retain(|(_, key)| metric_names.contains(&key.metric_name));
    }
    Ok(series)
}
