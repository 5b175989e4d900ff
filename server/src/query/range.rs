//! Ranges of time: as readings, or cut into buckets.

use chrono_tz::Tz;

use super::{
    PAGE_BYTES, aggregate, check_name, check_time, days,
    page::{Token, forged},
    page_size,
    readings::{self, MAX_READINGS, Page},
    scope::{Scope, Subject},
};
use crate::{
    error::Error,
    model::{Micros, Reading, SeriesKey},
    store::{Bucket, Cut, Level, Lifecycle, Look},
};

/// Series that are looked at to see whether their readings fit into a number of points.
const MAX_SERIES_OF_POINTS: usize = 100;

/// Asks for one metric in a range of time.
#[derive(Clone, Debug, Default)]
pub struct RangeQuery {
    /// What about.
    pub scope: Scope,
    /// The metric.
    pub metric_name: String,
    /// Inclusive.
    pub start_us: Micros,
    /// Exclusive.
    pub end_us: Micros,
    /// At most 50 000; 0: 1000.
    pub page_size: u32,
    /// Empty: the first page.
    pub page_token: String,
    /// How time is cut.
    pub resolution: Resolution,
    /// What is to be told of a bucket; empty: [`Statistic::DEFAULT`].
    pub statistics: Vec<Statistic>,
    /// Of days; empty: UTC.
    pub time_zone: String,
    /// With [`Resolution::Auto`]; at most 50 000; 0: 1000.
    pub max_points: u32,
    /// Answers that share one message with this one, itself aside.
    pub beside: usize,
}

/// What time is cut into.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Resolution {
    /// Not cut: readings.
    #[default]
    Raw,
    /// Buckets of a level.
    Level(Level),
    /// The finest that is kept and gives no more points than asked for.
    Auto,
}

/// What is told of a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of the contract")]
pub enum Statistic {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    Stddev,
    Median,
    P95,
    ValidCount,
    ErrorCount,
}

impl Statistic {
    /// What is told unless something else is asked for.
    pub const DEFAULT: [Self; 4] = [Self::Count, Self::Avg, Self::Min, Self::Max];
}

/// Part of a range.
#[derive(Debug)]
pub struct RangePage {
    /// What it holds.
    pub data: RangeData,
    /// To be sent back for the next part; empty: that was all.
    pub next_token: String,
    /// How time was cut; never [`Resolution::Auto`].
    pub resolution: Resolution,
    /// What lies before is no longer kept.
    pub kept_from_us: Option<Micros>,
}

/// What a part of a range holds.
#[derive(Debug)]
pub enum RangeData {
    /// Readings, series by series, each by time.
    Readings(Vec<(SeriesKey, Vec<Reading>)>),
    /// Buckets with their ends, line by line, each by time.
    Buckets(Vec<(SeriesKey, Vec<(Bucket, Micros)>)>),
}

/// A page of a range.
///
/// # Errors
///
/// [`Error::NotFound`] for an unknown device or farm, [`Error::BadRequest`] for what is out of bounds.
pub async fn range(look: &dyn Look, query: RangeQuery) -> Result<RangePage, Error> {
    check_name("metric_name", &query.metric_name)?;
    check_time(query.start_us, query.end_us)?;
    let room = page_size(query.page_size, 1000, MAX_READINGS)?;
    let points = match query.max_points {
        0 => 1000,
        points if points as usize <= MAX_READINGS => points as usize,
        points => {
            let message = format!("{points} is more than {MAX_READINGS}");
            return Err(Error::BadRequest { field: "max_points", message });
        }
    };
    let zone = days::time_zone(&query.time_zone)?;
    if zone.is_some() && !matches!(query.resolution, Resolution::Level(Level::Day) | Resolution::Auto) {
        let message = "only days have a time zone: ask for RESOLUTION_DAY, or leave it out".to_owned();
        return Err(Error::BadRequest { field: "time_zone", message });
    }
    let settled = query.settled(points)?;
    let metric = ("metric_name", std::slice::from_ref(&query.metric_name));
    let span = (query.start_us, query.end_us);
    let subject = query.scope.find(look, metric, span).await?;
    let lifecycle = look.lifecycle().await?;
    let resolution = match settled {
        Resolution::Auto => resolve(look, &query, (&subject, &lifecycle), zone, points).await?,
        settled => settled,
    };
    let (token, tokens) = (&*query.page_token, query.tokens(points, resolution));
    let Resolution::Level(level) = resolution else {
        let page = Page { token, tokens, room, bytes: PAGE_BYTES / (1 + query.beside) };
        let (series, next_token) = readings::page(look, &subject, span, page).await?;
        let kept_from_us = lifecycle.raw_kept_from_us;
        return Ok(RangePage { data: RangeData::Readings(series), next_token, resolution, kept_from_us });
    };
    let cut = cut(level, zone, span)?;
    check(&query, level, &cut, (&subject, &lifecycle))?;
    let kept_from_us = kept_from(&lifecycle, &cut, &subject);
    let asked = aggregate::Asked {
        subject: &subject,
        cut,
        percentiles: query.statistics.iter().any(|of| matches!(of, Statistic::Median | Statistic::P95)),
        room: room.min(aggregate::PAGE_BUCKETS / (1 + query.beside)),
        token,
        tokens,
    };
    let (lines, next_token) = aggregate::page(look, asked).await?;
    Ok(RangePage { data: RangeData::Buckets(lines), next_token, resolution, kept_from_us })
}

impl RangeQuery {
    /// Tokens of this request when its pages are cut by `resolution`. Only the size of a page may change.
    fn tokens(&self, points: usize, resolution: Resolution) -> Token {
        let what = (&self.scope, &self.metric_name, self.start_us, self.end_us);
        Token::of((what, &self.statistics, &self.time_zone, points, self.resolution, resolution))
    }

    /// How time is cut, as far as it is settled: by what is asked for, or by the page before.
    fn settled(&self, points: usize) -> Result<Resolution, Error> {
        if self.page_token.is_empty() {
            return Ok(self.resolution);
        }
        let levels = Level::ALL.map(Resolution::Level);
        let mut all = [Resolution::Raw].into_iter().chain(levels);
        all.find(|resolution| self.tokens(points, *resolution).wrote(&self.page_token)).ok_or_else(forged)
    }
}

/// The buckets that hold a range, all of them whole.
fn cut(level: Level, zone: Option<Tz>, (start_us, end_us): (Micros, Micros)) -> Result<Cut, Error> {
    if level == Level::Day {
        let date = |field, time_us| {
            let beyond = || Error::BadRequest { field, message: format!("{time_us} is beyond the calendar") };
            days::date_of(zone, time_us).ok_or_else(beyond)
        };
        return days::days(zone, date("start_us", start_us)?, date("end_us", end_us - 1)?);
    }
    let end_us = level.floor(end_us - 1).saturating_add(level.width_us());
    Ok(Cut::Level { level, start_us: level.floor(start_us), end_us })
}

/// The finest resolution that is kept for the range and gives at most `points` of each line.
async fn resolve(
    look: &dyn Look,
    query: &RangeQuery,
    (subject, lifecycle): (&Subject, &Lifecycle),
    zone: Option<Tz>,
    points: usize,
) -> Result<Resolution, Error> {
    let (start_us, end_us) = (query.start_us, query.end_us);
    let raw_is_kept = lifecycle.raw_kept_from_us.is_none_or(|kept_us| kept_us <= start_us);
    if raw_is_kept && subject.series.len() <= MAX_SERIES_OF_POINTS {
        let mut fits = true;
        for (series, _) in &subject.series {
            let mut count = 0;
            let see = |_: &Reading| {
                count += 1;
                count <= points
            };
            readings::each(look, (*series, subject.tag), (start_us, end_us), see).await?;
            fits &= count <= points;
            if !fits {
                break;
            }
        }
        if fits {
            return Ok(Resolution::Raw);
        }
    }
    let (mut fewest, mut refused) = (0, None);
    for level in Level::ALL {
        let zone = zone.filter(|_| level == Level::Day);
        let cut = cut(level, zone, (start_us, end_us))?;
        let kept = kept_from(lifecycle, &cut, subject).is_none_or(|kept_us| kept_us <= start_us);
        fewest = aggregate::buckets_in(&cut);
        if (kept || level == Level::Day) && fewest <= points {
            match check(query, level, &cut, (subject, lifecycle)) {
                Ok(()) => return Ok(Resolution::Level(level)),
                Err(error) => refused = Some(error),
            }
        }
    }
    if let Some(error) = refused {
        return Err(error);
    }
    let message = format!(
        "the range has {fewest} days, more than the {points} points asked for: shorten it, or allow more points"
    );
    Err(Error::BadRequest { field: "max_points", message })
}

/// Refuses what a cut cannot answer.
fn check(
    query: &RangeQuery,
    level: Level,
    cut: &Cut,
    (subject, lifecycle): (&Subject, &Lifecycle),
) -> Result<(), Error> {
    aggregate::check_count(cut)?;
    check_statistics(&query.statistics, level, cut, subject)?;
    days::check_kept(cut, kept_from(lifecycle, cut, subject), "start_us", "quarters of an hour")
}

/// From when a cut can be answered.
fn kept_from(lifecycle: &Lifecycle, cut: &Cut, subject: &Subject) -> Option<Micros> {
    if subject.tag.is_some() { lifecycle.raw_kept_from_us } else { lifecycle.kept_from_us(cut.level()) }
}

/// Percentiles do not add up: they are told where a bucket is one that is kept with them, or computed from readings.
fn check_statistics(
    statistics: &[Statistic],
    level: Level,
    cut: &Cut,
    subject: &Subject,
) -> Result<(), Error> {
    let refuse = |what: &str, way_out: &str| {
        let message = format!("{what} is not told {way_out}");
        Err(Error::BadRequest { field: "statistics", message })
    };
    let hours = "by RESOLUTION_HOUR";
    for statistic in statistics {
        let what = match statistic {
            Statistic::Median => "the median",
            Statistic::P95 => "the 95th percentile",
            _ => continue,
        };
        match (level, statistic) {
            _ if matches!(cut, Cut::Spans(_)) => {
                return refuse(what, "for days of a time zone: ask for days of UTC, or RESOLUTION_HOUR");
            }
            (Level::QuarterHour, _) => return refuse(what, &format!("by 15 minutes, but {hours}")),
            (Level::Day, Statistic::P95) => return refuse(what, &format!("by day, but {hours}")),
            _ if !subject.has_percentiles() => {
                return refuse(what, "for several devices together: ask for one of them");
            }
            _ => {}
        }
    }
    Ok(())
}
