//! Which column of a file is which field.

use anyhow::{Result, bail};

use super::Reading;

/// Columns of readings: the seed's `sensor_data`.
pub(super) const READING: [&str; 13] = [
    "time",
    "device_uid",
    "device_type",
    "farm_id",
    "metric_name",
    "metric_value",
    "metric_unit",
    "is_interpolated",
    "animal_id",
    "zone_id",
    "session_id",
    "battery_level",
    "signal_strength",
];

/// Columns of milkings: the seed's `milk_production_realtime`.
pub(super) const MILKING: [&str; 20] = [
    "time",
    "milk_meter_id",
    "animal_id",
    "farm_id",
    "session_id",
    "yield_kg",
    "duration_seconds",
    "flow_rate_kg_min",
    "conductivity_ms",
    "temperature_c",
    "blood_detected",
    "fat_percent",
    "protein_percent",
    "lactose_percent",
    "somatic_cell_count",
    "mastitis_risk_score",
    "session_start",
    "session_end",
    "milking_type",
    "meter_status",
];

/// Known, and of no use here: quality is the server's to judge.
const IGNORED: [&str; 1] = ["data_quality"];

/// What a file holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Readings,
    Milkings,
}

/// The columns of a file.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) kind: Kind,
    /// Field of each column, in their order; None: it is not read.
    fields: Vec<Option<String>>,
    /// Names of the columns that are not read.
    pub(super) unread: Vec<String>,
}

/// Reads THEIRS=OURS.
pub(super) fn parse_map(text: &str) -> Result<(String, String), String> {
    let (theirs, ours) = text.split_once('=').ok_or("expected THEIRS=OURS, as in ts=time")?;
    let known = READING.contains(&ours) || MILKING.contains(&ours) || ours == "metadata";
    if !known {
        return Err(format!(
            "{ours:?} is no column: time, device_uid, metric_value … are; --help has them all"
        ));
    }
    Ok((theirs.to_owned(), ours.to_owned()))
}

impl Columns {
    /// Finds out from a header.
    pub(super) fn of(header: &[String], reading: &Reading) -> Result<Self> {
        let named = |column: &String| {
            let mapped =
                reading.maps.iter().find(|(theirs, _)| theirs == column).map(|(_, ours)| ours.clone());
            mapped.unwrap_or_else(|| column.trim().to_ascii_lowercase())
        };
        let names: Vec<String> = header.iter().map(named).collect();
        let kind = if names.iter().any(|name| name == "yield_kg") { Kind::Milkings } else { Kind::Readings };
        let (known, required, given): (&[&str], &[&str], Vec<&str>) = match kind {
            Kind::Milkings => (
                &MILKING,
                &["time", "milk_meter_id", "animal_id", "farm_id", "session_id", "yield_kg"],
                reading.farm_id.map(|_| "farm_id").into_iter().collect(),
            ),
            Kind::Readings => (
                &READING,
                &["time", "device_uid", "device_type", "farm_id", "metric_name", "metric_value"],
                [
                    reading.farm_id.map(|_| "farm_id"),
                    reading.device_type.as_ref().map(|_| "device_type"),
                    reading.metric_name.as_ref().map(|_| "metric_name"),
                ]
                .into_iter()
                .flatten()
                .collect(),
            ),
        };
        if let [one] = header
            && let Some((delimiter, _)) =
                [("';'", ';'), ("tab", '\t'), ("'|'", '|')].into_iter().find(|(_, sign)| one.contains(*sign))
        {
            bail!(
                "the header is one column, {one:?}: say with --delimiter {delimiter} what separates its columns"
            );
        }
        for name in required {
            if !names.iter().any(|have| have == name) && !given.contains(name) {
                bail!(
                    "there is no column {name}; the header is {}: name it with --map THEIRS={name}{}",
                    header.join(", "),
                    match *name {
                        "farm_id" | "device_type" | "metric_name" =>
                            format!(", or give one for all rows with --{}", name.replace('_', "-")),
                        _ => String::new(),
                    }
                );
            }
        }
        let metadata = |name: &str| kind == Kind::Readings && name == "metadata";
        let is_read = |name: &String| known.contains(&name.as_str()) || metadata(name);
        for (at, name) in names.iter().enumerate() {
            if is_read(name) && names[..at].contains(name) {
                bail!("two columns are {name}: leave one out, or give it another name");
            }
        }
        let unread = names.iter().filter(|name| !is_read(name) && !IGNORED.contains(&name.as_str()));
        let unread = unread.cloned().collect();
        let fields = names.into_iter().map(|name| Some(name).filter(is_read)).collect();
        Ok(Self { kind, fields, unread })
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.fields.len()
    }

    /// The field of a column.
    pub(super) fn field(&self, column: usize) -> Option<&str> {
        self.fields.get(column)?.as_deref()
    }
}
