//! What a query looks for, in words, for whoever has it explained.

use chrono::{DateTime, SecondsFormat};

use crate::{
    model::Micros,
    store::{BucketRange, Cut, Level, MilkRange, MilkingRange, SeriesFilter, SeriesRange, Tag},
};

pub(super) fn series(filter: &SeriesFilter) -> String {
    let SeriesFilter { farm_id, device_uid, metric_names, .. } = filter;
    let of_farm = farm_id.map_or_else(String::new, |farm_id| format!(" of farm {farm_id}"));
    let of_device =
        device_uid.as_ref().map_or_else(String::new, |device_uid| format!(" of device {device_uid}"));
    let of = if metric_names.is_empty() { "" } else { " of " };
    format!("series{of_farm}{of_device}{of}{}", metric_names.join(", "))
}

pub(super) fn tagged(tag: Tag, span_us: (Micros, Micros)) -> String {
    format!("series with readings of {}{}", carried(tag), span(span_us))
}

pub(super) fn range(range: &SeriesRange) -> String {
    let SeriesRange { series, tag, start_us, end_us, .. } = *range;
    format!("readings of series {}{}{}", series.0, of(tag), span((start_us, end_us)))
}

pub(super) fn buckets(range: &BucketRange) -> String {
    let BucketRange { series, tag, cut, .. } = range;
    format!("buckets of {} series{}{}", series.len(), of(*tag), cut_up(cut))
}

pub(super) fn milk(range: &MilkRange) -> String {
    let MilkRange { farm_id, animal_id, cut } = range;
    format!("milk of farm {farm_id}{}{}", of(animal_id.map(Tag::Animal)), cut_up(cut))
}

pub(super) fn milkings(range: &MilkingRange) -> String {
    let MilkingRange { farm_id, animal_id, start_us, end_us, .. } = *range;
    format!("milkings of farm {farm_id}{}{}", of(animal_id.map(Tag::Animal)), span((start_us, end_us)))
}

fn of(tag: Option<Tag>) -> String {
    tag.map_or_else(String::new, |tag| format!(" of {}", carried(tag)))
}

fn carried(tag: Tag) -> String {
    match tag {
        Tag::Animal(id) => format!("animal {id}"),
        Tag::Zone(id) => format!("zone {id}"),
    }
}

fn cut_up(cut: &Cut) -> String {
    let by = match cut {
        Cut::Level { level: Level::QuarterHour, .. } => "by 15 minutes".to_owned(),
        Cut::Level { level: Level::Hour, .. } => "by hour".to_owned(),
        Cut::Level { level: Level::Day, .. } => "by day".to_owned(),
        Cut::Spans(times) => format!("in {} spans", times.len().saturating_sub(1)),
    };
    format!(" {by}{}", span((cut.start_us(), cut.end_us())))
}

fn span((start_us, end_us): (Micros, Micros)) -> String {
    format!(" from {} to {}", time(start_us), time(end_us))
}

fn time(time_us: Micros) -> String {
    match DateTime::from_timestamp_micros(time_us) {
        Some(time) => time.to_rfc3339_opts(SecondsFormat::AutoSi, true),
        None => format!("{time_us} µs"),
    }
}
