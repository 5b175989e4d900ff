//! What answers must be, computed plainly from readings, and what is wrong with those that differ.
//!
//! [`weigh`] is the pure part: it takes what is known and what was answered. [`check`] asks a server at rest for its
//! readings, and for everything that it computes from them.

pub mod check;
mod plain;
pub mod weigh;

use std::collections::BTreeMap;

use herdstream_client::v1;

pub use plain::Plain;

use crate::workload::DAY_US;

/// Values by time.
pub type Values = BTreeMap<i64, Vec<f64>>;

const QUARTER_US: i64 = 900_000_000;
const HOUR_US: i64 = 3_600_000_000;

/// How time is cut into buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// 15 minutes.
    Quarter,
    /// Hours.
    Hour,
    /// Days of UTC.
    Day,
    /// Days of a zone that is ahead of UTC by hours and three quarters, and knows no summer time.
    ZoneDay,
}

impl Level {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Quarter, Self::Hour, Self::Day, Self::ZoneDay];

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Quarter => "quarters of an hour",
            Self::Hour => "hours",
            Self::Day => "days",
            Self::ZoneDay => "days of Asia/Kathmandu",
        }
    }

    /// As the API names it.
    pub fn resolution(self) -> v1::Resolution {
        match self {
            Self::Quarter => v1::Resolution::Resolution15min,
            Self::Hour => v1::Resolution::Hour,
            Self::Day | Self::ZoneDay => v1::Resolution::Day,
        }
    }

    /// Time zone of the buckets; empty: UTC.
    pub fn time_zone(self) -> &'static str {
        if self == Self::ZoneDay { "Asia/Kathmandu" } else { "" }
    }

    /// All that a server tells of such buckets.
    pub fn statistics(self) -> Vec<v1::Statistic> {
        use v1::Statistic::{Avg, Count, ErrorCount, Max, Median, Min, P95, Stddev, Sum, ValidCount};
        let mut all = vec![Count, Sum, Avg, Min, Max, Stddev, ValidCount, ErrorCount];
        all.extend(self.has_median().then_some(Median));
        all.extend(self.has_p95().then_some(P95));
        all
    }

    /// Length of a bucket, microseconds.
    pub fn width_us(self) -> i64 {
        match self {
            Self::Quarter => QUARTER_US,
            Self::Hour => HOUR_US,
            Self::Day | Self::ZoneDay => DAY_US,
        }
    }

    /// Start of the bucket that holds a time.
    pub fn start_us(self, time_us: i64) -> i64 {
        let ahead_us = if self == Self::ZoneDay { 5 * HOUR_US + 3 * QUARTER_US } else { 0 };
        (time_us + ahead_us).div_euclid(self.width_us()) * self.width_us() - ahead_us
    }

    fn has_median(self) -> bool {
        matches!(self, Self::Hour | Self::Day)
    }

    fn has_p95(self) -> bool {
        self == Self::Hour
    }
}

/// A day of UTC, as the API writes it.
pub fn date(time_us: i64) -> String {
    chrono::DateTime::from_timestamp_micros(time_us)
        .map_or_else(String::new, |at| at.date_naive().to_string())
}
