//! Answers as rows.

use herdstream_client::v1;

use crate::{
    output::{Cell, Rows, time},
    times::Micros,
};

fn of_series(key: Option<&v1::SeriesKey>) -> [Cell; 5] {
    let key = key.cloned().unwrap_or_default();
    [
        key.farm_id.into(),
        key.device_uid.into(),
        key.device_type.into(),
        key.metric_name.into(),
        key.metric_unit.into(),
    ]
}

pub(super) fn readings(series: &[v1::SeriesReadings]) -> Rows {
    let mut rows = Rows::new(&[
        "time", "farm", "device", "type", "metric", "value", "unit", "animal", "zone", "session", "battery",
        "signal", "metadata",
    ]);
    for line in series {
        let [farm, device, kind, metric, unit] = of_series(line.series.as_ref());
        for reading in &line.readings {
            rows.push(vec![
                Cell::Time(reading.time_us),
                farm.clone(),
                device.clone(),
                kind.clone(),
                metric.clone(),
                reading.value.into(),
                unit.clone(),
                reading.animal_id.into(),
                reading.zone_id.into(),
                reading.session_id.clone().into(),
                reading.battery_level.into(),
                reading.signal_strength.into(),
                reading.metadata.clone().into(),
            ]);
        }
    }
    rows
}

/// `start` shows when a bucket begins.
pub(super) fn buckets(lines: &[v1::SeriesBuckets], start: impl Fn(Micros) -> Cell) -> Rows {
    let mut rows = Rows::new(&[
        "start", "farm", "device", "type", "metric", "unit", "count", "sum", "avg", "min", "max", "stddev",
        "median", "p95", "valid", "errors",
    ]);
    for line in lines {
        let key = of_series(line.series.as_ref());
        for bucket in &line.buckets {
            let mut row = vec![start(bucket.start_us)];
            row.extend(key.clone());
            row.push(bucket.count.into());
            let values =
                [bucket.sum, bucket.avg, bucket.min, bucket.max, bucket.stddev, bucket.median, bucket.p95];
            row.extend(values.map(Cell::from));
            row.extend([bucket.valid_count, bucket.error_count].map(Cell::from));
            rows.push(row);
        }
    }
    rows
}

pub(super) fn devices(devices: &[v1::Device]) -> Rows {
    let mut rows = Rows::new(&["farm", "device", "type", "status", "last_seen", "battery", "signal"]);
    for device in devices {
        let status = match device.status() {
            v1::DeviceStatus::Online => "online",
            v1::DeviceStatus::Degraded => "degraded",
            v1::DeviceStatus::Offline | v1::DeviceStatus::Unspecified => "offline",
        };
        rows.push(vec![
            device.farm_id.into(),
            device.device_uid.clone().into(),
            device.device_type.clone().into(),
            status.to_owned().into(),
            time(device.last_seen_us),
            device.battery_level.into(),
            device.signal_strength.into(),
        ]);
    }
    rows
}

pub(super) fn milkings(milkings: &[v1::Milking]) -> Rows {
    let mut rows = Rows::new(&[
        "time",
        "animal",
        "farm",
        "meter",
        "session",
        "yield_kg",
        "seconds",
        "flow_kg_min",
        "conductivity",
        "fat",
        "protein",
        "cells",
        "risk",
        "blood",
    ]);
    for milking in milkings {
        rows.push(vec![
            Cell::Time(milking.time_us),
            milking.animal_id.into(),
            milking.farm_id.into(),
            milking.milk_meter_id.into(),
            milking.session_id.clone().into(),
            milking.yield_kg.into(),
            milking.duration_seconds.into(),
            milking.flow_rate_kg_min.into(),
            milking.conductivity_ms.into(),
            milking.fat_percent.into(),
            milking.protein_percent.into(),
            milking.somatic_cell_count.into(),
            milking.mastitis_risk_score.into(),
            if milking.blood_detected { Cell::Flag(true) } else { Cell::None },
        ]);
    }
    rows
}

pub(super) fn milk(days: &[v1::MilkDay]) -> Rows {
    let mut rows = Rows::new(&[
        "date",
        "animal",
        "milkings",
        "total_kg",
        "avg_kg",
        "conductivity",
        "cells",
        "risk",
        "fat",
        "protein",
    ]);
    for day in days {
        rows.push(vec![
            day.date.clone().into(),
            day.animal_id.into(),
            day.milking_count.into(),
            day.total_yield_kg.into(),
            day.avg_yield_per_session.into(),
            day.avg_conductivity.into(),
            day.avg_scc.into(),
            day.max_mastitis_risk.into(),
            day.avg_fat.into(),
            day.avg_protein.into(),
        ]);
    }
    rows
}

pub(super) fn farm_days(days: &[v1::FarmDay]) -> Rows {
    let mut rows =
        Rows::new(&["date", "type", "metric", "unit", "devices", "count", "avg", "min", "max", "stddev"]);
    for day in days {
        rows.push(vec![
            day.date.clone().into(),
            day.device_type.clone().into(),
            day.metric_name.clone().into(),
            day.metric_unit.clone().into(),
            day.devices.into(),
            day.count.into(),
            day.avg.into(),
            day.min.into(),
            day.max.into(),
            day.stddev.into(),
        ]);
    }
    rows
}

pub(super) fn animal(metrics: &[v1::AnimalMetric]) -> Rows {
    let mut rows = Rows::new(&[
        "metric", "unit", "type", "latest", "at", "device", "count", "avg", "min", "max", "stddev",
    ]);
    for metric in metrics {
        let [_, _, kind, name, unit] = of_series(metric.series.as_ref());
        let statistics = metric.statistics.unwrap_or_default();
        let latest = metric.latest.as_ref();
        rows.push(vec![
            name,
            unit,
            kind,
            latest.map(|latest| latest.value).into(),
            latest.map_or(Cell::None, |latest| Cell::Time(latest.time_us)),
            metric.latest_device_uid.clone().into(),
            statistics.count.into(),
            statistics.avg.into(),
            statistics.min.into(),
            statistics.max.into(),
            statistics.stddev.into(),
        ]);
    }
    rows
}
