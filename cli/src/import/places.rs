//! Where in the file the rows of a block stand.

use std::collections::{BTreeMap, HashMap};

use herdstream_client::v1;

use super::row::Row;
use crate::times;

/// A row, and where it is in its file.
pub(super) struct Located {
    /// As a [`Record`](super::source::Record) has it.
    pub(super) place: u64,
    /// Likewise.
    pub(super) number: u64,
    pub(super) row: Row,
}

/// Places of a block's rows, and of the first row of each of its series.
pub(super) struct Places {
    /// Place and number of each row.
    rows: Vec<(u64, u64)>,
    series: Vec<u64>,
    /// The series of each row that is a reading.
    series_of: Vec<usize>,
}

impl Places {
    pub(super) fn of(block: &[Located]) -> Self {
        let (mut series, mut series_of, mut seen) = (Vec::new(), Vec::new(), HashMap::new());
        for Located { place, row, .. } in block {
            // In the order in which a batch has its series.
            if let Row::Reading(key, _) = row {
                series_of.push(*seen.entry(key).or_insert_with(|| {
                    series.push(*place);
                    series.len() - 1
                }));
            }
        }
        Self { rows: block.iter().map(|row| (row.place, row.number)).collect(), series, series_of }
    }

    /// Why which rows were refused, series first; `name` is what a place is called. Rows of a series that is told are
    /// not told once more.
    pub(super) fn tell(&self, rejections: &[v1::Rejection], name: &str) -> Vec<String> {
        let (series, mut rows) = by_kind(rejections);
        rows.retain(|row| series.is_empty() || row.field != "series_ref");
        series.into_iter().chain(rows).map(|one| self.tell_one(one, name)).collect()
    }

    fn tell_one(&self, rejection: &v1::Rejection, name: &str) -> String {
        let index = rejection.index as usize;
        let place = match rejection.kind() {
            v1::RejectionKind::Series => self.series.get(index).copied(),
            _ => self.rows.get(index).map(|(place, _)| *place),
        };
        format!("{name} {}: {}", place.unwrap_or_default(), reason(rejection))
    }

    /// Numbers of the rows that were refused, in their order, each with the reason: of a series that was refused that of
    /// the series.
    pub(super) fn refused(&self, rejections: &[v1::Rejection]) -> Vec<(u64, String)> {
        let (series, rows) = by_kind(rejections);
        let series: HashMap<usize, _> = series.into_iter().map(|one| (one.index as usize, one)).collect();
        let mut refused = BTreeMap::new();
        for row in rows {
            let index = row.index as usize;
            let of_its_series = self.series_of.get(index).and_then(|at| series.get(at));
            let cause = of_its_series.filter(|_| row.field == "series_ref").unwrap_or(&row);
            if let Some((_, number)) = self.rows.get(index) {
                refused.insert(*number, reason(cause));
            }
        }
        refused.into_iter().collect()
    }
}

/// Those of series, and those of rows.
fn by_kind(rejections: &[v1::Rejection]) -> (Vec<&v1::Rejection>, Vec<&v1::Rejection>) {
    rejections.iter().partition(|one| one.kind() == v1::RejectionKind::Series)
}

/// What is wrong, as the file has it.
fn reason(rejection: &v1::Rejection) -> String {
    let (field, message) = match rejection.field.strip_suffix("_us") {
        Some(time) => (time, times::readable(&rejection.message)),
        None if rejection.kind() == v1::RejectionKind::Reading && rejection.field == "value" => {
            ("metric_value", rejection.message.clone())
        }
        None => (rejection.field.as_str(), rejection.message.clone()),
    };
    format!("{field}: {message}")
}
