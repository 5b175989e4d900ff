//! What a question is about: a device, an animal, a zone or a farm.

use std::collections::BTreeMap;

use super::{check_name, device_series, farm, known::check_farm};
use crate::{
    error::Error,
    ingest::validate::quote,
    model::{Micros, SeriesId, SeriesKey},
    store::{Look, SeriesFilter, Tag},
};

/// Series that one question may be about.
pub(super) const MAX_SERIES: usize = 10_000;

/// Metrics one request may name.
const MAX_METRICS: usize = 100;

/// What a question is about, as it was asked. Exactly one of the first three, or only a farm.
#[derive(Clone, Debug, Default, Hash)]
pub struct Scope {
    /// The device; empty: not by device.
    pub device_uid: String,
    /// The animal; 0: not by animal.
    pub animal_id: i32,
    /// The zone; 0: not by zone.
    pub zone_id: i32,
    /// Its farm; 0: any.
    pub farm_id: i32,
}

/// Series that a question is about, by number.
#[derive(Debug)]
pub(super) struct Subject {
    pub(super) series: Vec<(SeriesId, SeriesKey)>,
    /// Only readings that carry it.
    pub(super) tag: Option<Tag>,
    /// Devices are taken together.
    pub(super) together: bool,
}

impl Scope {
    /// Finds the series: those of `metrics`, named by `field`; of none: all.
    ///
    /// # Errors
    ///
    /// [`Error::NotFound`] for an unknown device or farm, [`Error::BadRequest`] for what is out of bounds.
    pub(super) async fn find(
        &self,
        look: &dyn Look,
        (field, metrics): (&'static str, &[String]),
        (start_us, end_us): (Micros, Micros),
    ) -> Result<Subject, Error> {
        check_metrics(field, metrics)?;
        let farm_id = farm(self.farm_id)?;
        let tag = self.tag()?;
        let is_asked_for = |key: &SeriesKey| {
            farm_id.is_none_or(|farm| farm == key.farm_id)
                && (metrics.is_empty() || metrics.contains(&key.metric_name))
        };
        let series = match (tag, farm_id) {
            (Some(tag), _) => {
                let mut series = look.tagged_series(tag, start_us, end_us).await?;
                series.retain(|(_, key)| is_asked_for(key));
                if let (true, Some(farm_id)) = (series.is_empty(), farm_id) {
                    check_farm(look, farm_id).await?;
                }
                series
            }
            (None, _) if !self.device_uid.is_empty() => {
                device_series(look, farm_id, &self.device_uid, (field, metrics)).await?
            }
            (None, Some(farm_id)) => of_farm(look, farm_id, (field, metrics)).await?,
            (None, None) => {
                let message = "name a device_uid, an animal_id, a zone_id or a farm_id".to_owned();
                return Err(Error::BadRequest { field: "device_uid", message });
            }
        };
        if series.len() > MAX_SERIES {
            let message =
                format!("{} series are meant, and at most {MAX_SERIES} are: ask for less", series.len());
            let field = match tag {
                Some(Tag::Animal(_)) => "animal_id",
                Some(Tag::Zone(_)) => "zone_id",
                None if self.device_uid.is_empty() => "farm_id",
                None => "device_uid",
            };
            return Err(Error::BadRequest { field, message });
        }
        Ok(Subject { series, tag, together: self.device_uid.is_empty() })
    }

    /// Checks that one thing is asked about; the tag that its readings carry.
    fn tag(&self) -> Result<Option<Tag>, Error> {
        for (field, id) in [("animal_id", self.animal_id), ("zone_id", self.zone_id)] {
            if id < 0 {
                return Err(Error::BadRequest { field, message: format!("{id} is below 0") });
            }
        }
        match (self.device_uid.is_empty(), self.animal_id, self.zone_id) {
            (true, 0, 0) => Ok(None),
            (false, 0, 0) => check_name("device_uid", &self.device_uid).map(|()| None),
            (true, animal, 0) => Ok(Some(Tag::Animal(animal))),
            (true, 0, zone) => Ok(Some(Tag::Zone(zone))),
            _ => {
                let message = "only one of device_uid, animal_id and zone_id can be asked about".to_owned();
                Err(Error::BadRequest { field: "device_uid", message })
            }
        }
    }
}

impl Subject {
    /// The lines of an answer in buckets, and the line of each series: one a series, or one for all that differ in
    /// their device alone.
    pub(super) fn lines(&self) -> (Vec<SeriesKey>, Vec<(SeriesId, u32)>) {
        if !self.together {
            let series = self.series.iter().zip(0..).map(|((id, _), line)| (*id, line)).collect();
            return (self.series.iter().map(|(_, key)| key.clone()).collect(), series);
        }
        let mut lines: BTreeMap<SeriesKey, Vec<SeriesId>> = BTreeMap::new();
        for (id, key) in &self.series {
            lines.entry(SeriesKey { device_uid: String::new(), ..key.clone() }).or_default().push(*id);
        }
        let series = lines.values().zip(0..).flat_map(|(ids, line)| ids.iter().map(move |id| (*id, line)));
        let series = series.collect();
        (lines.into_keys().collect(), series)
    }

    /// Whether every line is a single series: percentiles of several do not add up.
    pub(super) fn has_percentiles(&self) -> bool {
        self.lines().0.len() == self.series.len()
    }
}

/// Series of a farm; none of one that has milkings alone.
async fn of_farm(
    look: &dyn Look,
    farm_id: i32,
    (field, metrics): (&'static str, &[String]),
) -> Result<Vec<(SeriesId, SeriesKey)>, Error> {
    let all = SeriesFilter { farm_id: Some(farm_id), ..SeriesFilter::default() };
    let filter = SeriesFilter { metric_names: metrics.to_vec(), limit: Some(MAX_SERIES + 1), ..all.clone() };
    let series = look.find_series(filter).await?;
    if !series.is_empty() {
        return Ok(series);
    }
    check_farm(look, farm_id).await?;
    if metrics.is_empty() {
        return Ok(series);
    }
    let metrics = metrics.iter().map(|name| quote(name)).collect::<Vec<_>>().join(", ");
    let message = format!("{metrics} is not a metric of farm {farm_id}: ListSeries tells which it has");
    Err(Error::BadRequest { field, message })
}

pub(super) fn check_metrics(field: &'static str, metrics: &[String]) -> Result<(), Error> {
    if metrics.len() > MAX_METRICS {
        let message = format!("{} metrics: at most {MAX_METRICS}", metrics.len());
        return Err(Error::BadRequest { field, message });
    }
    metrics.iter().try_for_each(|name| check_name(field, name))
}
