//! How aggregates are kept, for how long everything is kept, and how long a query may take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::values;

const DAY: Duration = Duration::from_hours(24);

/// Rollups: aggregates of closed buckets, kept so that queries are quick. Answers are true without them.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RollupConfig {
    /// Whether this server keeps them. Several servers of one database take turns. Default: true.
    pub enabled: bool,
    /// Between two refreshes. 1 s to 5 minutes; default 1 minute.
    #[serde(with = "values::duration")]
    pub interval: Duration,
    /// Time after its end at which a bucket is closed: readings that come later cost more. At most 1 hour;
    /// default 1 minute.
    #[serde(with = "values::duration")]
    pub close_after: Duration,
}

/// Ages at which things are dropped; `"off"` keeps them for ever.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Readings, by whole UTC days, after their rollups are kept. More than `ingest.accepted_lateness` and a day;
    /// default 90 days (seed, section 7.1).
    #[serde(with = "values::duration_or_off")]
    pub readings: Option<Duration>,
    /// Milkings, likewise. Default 90 days.
    #[serde(with = "values::duration_or_off")]
    pub milkings: Option<Duration>,
    /// Aggregates of 15 minutes. Not less than `readings`; default 180 days.
    #[serde(with = "values::duration_or_off")]
    pub rollup_15min: Option<Duration>,
    /// Aggregates of hours. Not less than `readings`; default 365 days.
    #[serde(with = "values::duration_or_off")]
    pub rollup_hourly: Option<Duration>,
    /// Aggregates of days. Not less than `readings`; default off.
    #[serde(with = "values::duration_or_off")]
    pub rollup_daily: Option<Duration>,
    /// What was refused, by when it came. Default 90 days.
    #[serde(with = "values::duration_or_off")]
    pub quarantine: Option<Duration>,
    /// An old day into which something was written so lately stays: an import may not be over. At most 30 days;
    /// default 1 day.
    #[serde(with = "values::duration")]
    pub quiet: Duration,
    /// Between two runs. 1 minute to 1 day; default 1 hour.
    #[serde(with = "values::duration")]
    pub interval: Duration,
}

/// Queries.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {
    /// Time a query may take, whatever its caller allows. 100 ms to 1 hour; default 30 s.
    #[serde(with = "values::duration")]
    pub timeout: Duration,
    /// Queries that take longer are logged. At most 1 hour; default 500 ms.
    #[serde(with = "values::duration")]
    pub slow: Duration,
    /// Time in which the caller of a stream of answers must take the next one, or is cut. 100 ms to 1 hour; default
    /// 2 minutes.
    #[serde(with = "values::duration")]
    pub stall_timeout: Duration,
}

impl Default for RollupConfig {
    fn default() -> Self {
        Self { enabled: true, interval: Duration::from_mins(1), close_after: Duration::from_mins(1) }
    }
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self {
            readings: Some(90 * DAY),
            milkings: Some(90 * DAY),
            rollup_15min: Some(180 * DAY),
            rollup_hourly: Some(365 * DAY),
            rollup_daily: None,
            quarantine: Some(90 * DAY),
            quiet: DAY,
            interval: Duration::from_hours(1),
        }
    }
}

impl Default for QueryConfig {
    fn default() -> Self {
        Self {
            timeout: Duration::from_secs(30),
            slow: Duration::from_millis(500),
            stall_timeout: Duration::from_mins(2),
        }
    }
}
