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

    /// Why which rows were refused, series first; `name` is what a place is called. Rows of a series that is told are
    /// not told once more.
    pub(super) fn tell<'a>(
        &self,
        rejections: impl IntoIterator<Item = &'a v1::Rejection>,
        name: &str,
    ) -> Vec<String> {
        let of_series = |one: &&v1::Rejection| one.kind() == v1::RejectionKind::Series;
        let (series, mut rows): (Vec<_>, Vec<_>) = rejections.into_iter().partition(of_series);
        rows.retain(|row| series.is_empty() || row.field != "series_ref");
        series.into_iter().chain(rows).map(|one| self.tell_one(one, name)).collect()
    }

    fn tell_one(&self, rejection: &v1::Rejection, name: &str) -> String {
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
