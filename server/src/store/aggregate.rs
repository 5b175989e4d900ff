//! Statistics of readings by bucket, as stores answer them and as they are merged.

use std::sync::Arc;

use crate::model::{DAY_US, Micros, Quality, Reading, SECOND_US, SeriesId};

/// What time is cut into, always in UTC; days begin at midnight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// A quarter of an hour, which divides the offset of every time zone in use.
    QuarterHour,
    /// An hour.
    Hour,
    /// A day.
    Day,
}

impl Level {
    /// Finest first.
    pub const ALL: [Self; 3] = [Self::QuarterHour, Self::Hour, Self::Day];

    /// Microseconds of a bucket.
    pub const fn width_us(self) -> Micros {
        match self {
            Self::QuarterHour => 900 * SECOND_US,
            Self::Hour => 3600 * SECOND_US,
            Self::Day => DAY_US,
        }
    }

    /// Start of the bucket that holds `time_us`.
    pub const fn floor(self, time_us: Micros) -> Micros {
        time_us.saturating_sub(time_us.rem_euclid(self.width_us()))
    }

    /// The next finer one.
    pub(in crate::store) const fn finer(self) -> Option<Self> {
        match self {
            Self::QuarterHour => None,
            Self::Hour => Some(Self::QuarterHour),
            Self::Day => Some(Self::Hour),
        }
    }

    /// As tables are named: `rollup_15min`, `rollup_hourly`, `rollup_daily`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QuarterHour => "15min",
            Self::Hour => "hourly",
            Self::Day => "daily",
        }
    }
}

/// Statistics of the readings of a bucket; a bucket without readings is not told.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    /// Start, inclusive.
    pub start_us: Micros,
    /// Readings, 1 or more.
    pub count: u64,
    /// Readings that are valid.
    pub valid_count: u64,
    /// Readings that are known not to be valid.
    pub error_count: u64,
    /// Sum of the values.
    pub sum: f64,
    /// The least value.
    pub min: f64,
    /// The greatest value.
    pub max: f64,
    /// Sum of the squared distances from the mean.
    pub squares: f64,
    /// The middle, interpolated as SQL's `percentile_cont(0.5)`; kept by hour and day, lost in a merge.
    pub median: Option<f64>,
    /// As `percentile_cont(0.95)`; kept by hour, lost in a merge.
    pub p95: Option<f64>,
}

impl Bucket {
    /// The bucket of a single reading, which starts with it.
    pub fn of_one(reading: &Reading) -> Self {
        let Reading { time_us: start_us, value, quality, .. } = *reading;
        let valid_count = u64::from(quality == Quality::Valid);
        Self {
            start_us,
            count: 1,
            valid_count,
            error_count: 1 - valid_count,
            sum: value,
            min: value,
            max: value,
            squares: 0.0,
            median: None,
            p95: None,
        }
    }

    /// The bucket of one finite value or more, with their qualities; without qualities, all are valid.
    pub(in crate::store) fn of_values(start_us: Micros, values: &[f64], qualities: &[Quality]) -> Self {
        let count = values.len() as u64;
        let valid_count = match qualities {
            [] => count,
            told => told.iter().filter(|quality| **quality == Quality::Valid).count() as u64,
        };
        let sum: f64 = values.iter().sum();
        let mean = sum / count as f64;
        Self {
            start_us,
            count,
            valid_count,
            error_count: count - valid_count,
            sum,
            min: values.iter().copied().fold(f64::INFINITY, f64::min),
            max: values.iter().copied().fold(f64::NEG_INFINITY, f64::max),
            squares: values.iter().map(|value| (value - mean) * (value - mean)).sum(),
            median: None,
            p95: None,
        }
    }

    /// Mean of the values.
    pub fn avg(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// Deviation of the sample, as SQL's `stddev_samp`; of a single reading: None.
    pub fn stddev(&self) -> Option<f64> {
        (self.count > 1).then(|| (self.squares / (self.count - 1) as f64).sqrt())
    }

    /// Takes in the readings of another bucket (Chan, Golub and `LeVeque` 1979). Percentiles do not merge.
    pub fn merge(&mut self, other: &Self) {
        let (ours, theirs) = (self.count as f64, other.count as f64);
        let distance = other.avg() - self.avg();
        self.squares += other.squares + distance * distance * (ours * theirs / (ours + theirs));
        self.count += other.count;
        self.valid_count += other.valid_count;
        self.error_count += other.error_count;
        self.sum += other.sum;
        self.min = self.min.min(other.min);
        // NaN, which old writers may write, is the greatest, as in SQL.
        if other.max > self.max || other.max.is_nan() {
            self.max = other.max;
        }
        self.median = None;
        self.p95 = None;
    }
}

/// What readings carry besides their series.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tag {
    /// An animal.
    Animal(i32),
    /// A zone.
    Zone(i32),
}

impl Tag {
    /// What a reading carries.
    pub(in crate::store) fn all_of(reading: &Reading) -> impl Iterator<Item = Self> + use<> {
        let tags = [reading.animal_id.map(Self::Animal), reading.zone_id.map(Self::Zone)];
        tags.into_iter().flatten()
    }

    /// Whether a reading carries it.
    pub fn is_on(self, reading: &Reading) -> bool {
        match self {
            Self::Animal(id) => reading.animal_id == Some(id),
            Self::Zone(id) => reading.zone_id == Some(id),
        }
    }
}

/// Asks for buckets.
#[derive(Clone, Debug)]
pub struct BucketRange {
    /// Series, each once, with the line that it is merged into.
    pub series: Vec<(SeriesId, u32)>,
    /// Only readings that carry it: then everything is computed from readings.
    pub tag: Option<Tag>,
    /// How time is cut.
    pub cut: Cut,
    /// Percentiles are wanted: without, a store may leave them out.
    pub percentiles: bool,
}

/// How time is cut.
#[derive(Clone, Debug)]
pub enum Cut {
    /// Into the buckets of a level from `start_us` to `end_us`, both at the start of a bucket.
    Level {
        /// The level.
        level: Level,
        /// Start of the first, inclusive.
        start_us: Micros,
        /// End of the last, exclusive.
        end_us: Micros,
    },
    /// Into spans between neighbours of these times, at least two, in order, each at the start of a quarter of an
    /// hour: the days of a time zone. Percentiles are not told.
    Spans(Arc<[Micros]>),
}

impl Cut {
    /// Start, inclusive.
    pub fn start_us(&self) -> Micros {
        match self {
            Self::Level { start_us, .. } => *start_us,
            Self::Spans(times) => times.first().copied().unwrap_or_default(),
        }
    }

    /// End, exclusive.
    pub fn end_us(&self) -> Micros {
        match self {
            Self::Level { end_us, .. } => *end_us,
            Self::Spans(times) => times.last().copied().unwrap_or_default(),
        }
    }

    /// The level that answers are made from.
    pub fn level(&self) -> Level {
        match self {
            Self::Level { level, .. } => *level,
            Self::Spans(_) => Level::QuarterHour,
        }
    }

    /// Start of the bucket or span that holds `time_us`; None: it lies outside.
    pub fn start_of(&self, time_us: Micros) -> Option<Micros> {
        if time_us < self.start_us() || time_us >= self.end_us() {
            return None;
        }
        match self {
            Self::Level { level, .. } => Some(level.floor(time_us)),
            Self::Spans(times) => {
                times.get(times.partition_point(|&start| start <= time_us).checked_sub(1)?).copied()
            }
        }
    }
}

/// The milk of one animal in a span of time: the seed's `milk_production_daily`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MilkBucket {
    /// Start of the span.
    pub start_us: Micros,
    /// The animal.
    pub animal_id: i32,
    /// Milkings, 1 or more.
    pub milkings: u64,
    /// Kilograms.
    pub total_yield_kg: f64,
    /// Mean of those that tell it, mS/cm.
    pub avg_conductivity: Option<f64>,
    /// Mean of those that tell it, cells per millilitre.
    pub avg_scc: Option<f64>,
    /// The highest.
    pub max_mastitis_risk: Option<f64>,
    /// Mean of those that tell it, percent.
    pub avg_fat: Option<f64>,
    /// Mean of those that tell it, percent.
    pub avg_protein: Option<f64>,
}

/// Asks for milk by animal and day.
#[derive(Clone, Debug)]
pub struct MilkRange {
    /// The farm.
    pub farm_id: i32,
    /// Only this animal.
    pub animal_id: Option<i32>,
    /// Days: level [`Level::Day`], or spans, which are answered as far back as milkings are kept.
    pub cut: Cut,
}
