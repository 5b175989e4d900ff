//! Where in the file the rows of a block stand.

use std::collections::HashSet;

use herdstream_client::v1;

use super::row::Row;
use crate::times;

/// Places of a block's rows, and of the first row of each of its series.
pub(super) struct Places {
    rows: Vec<u64>,
    series: Vec<u64>,
}

impl Places {
    pub(super) fn of(block: &[(u64, Row)]) -> Self {
        let (mut series, mut seen) = (Vec::new(), HashSet::new());
        for (place, row) in block {
            // In the order in which a batch has its series.
            if let Row::Reading(key, _) = row
                && seen.insert(key)
            {
                series.push(*place);
            }
        }
        Self { rows: block.iter().map(|(place, _)| *place).collect(), series }
    }

    /// Why which row was refused; `name` is what a place is called.
    pub(super) fn tell(&self, rejection: &v1::Rejection, name: &str) -> String {
        let of_series = rejection.kind() == v1::RejectionKind::Series;
        let places = if of_series { &self.series } else { &self.rows };
        let place = places.get(rejection.index as usize).copied().unwrap_or_default();
        // As the file has it.
        let (field, message) = match rejection.field.strip_suffix("_us") {
            Some(time) => (time, times::readable(&rejection.message)),
            None if rejection.kind() == v1::RejectionKind::Reading && rejection.field == "value" => {
                ("metric_value", rejection.message.clone())
            }
            None => (rejection.field.as_str(), rejection.message.clone()),
        };
        format!("{name} {place}: {field}: {message}")
    }
}
