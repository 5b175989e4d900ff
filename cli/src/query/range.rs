//! One metric over time.

use std::io::{IsTerminal as _, Write as _};

use anyhow::Result;
use futures::TryStreamExt as _;
use herdstream_client::{Error, v1};

use super::{AT_THIS, Span, With, name, tables, tell_kept_from};
use crate::{
    chart,
    output::{Cell, Format},
    refusal::days_of_too_many,
    times::{self, Micros},
};

/// Points of a chart that fits a terminal.
const DEFAULT_POINTS: u32 = 120;

pub(super) const HELP: &str = "\
Examples:
  herdstream query range --device collar-17 --metric activity --from -7d
  herdstream query range --animal 18 --metric rumination --resolution day --time-zone Europe/Berlin --from -30d
  herdstream query range --farm 1 --metric temperature --resolution hour --stat avg --stat max --format csv
  herdstream query range --device tank-1 --metric tank_temperature --resolution raw --from -1h

Without --resolution the finest is taken that gives at most --max-points. Days are shown as dates of --time-zone.
Quarters of an hour, hours and days are told whole, so the first and the last may reach beyond --from and --to.";

/// Help of the time zone: here it is that of the answer, too.
const TIME_ZONE: &str =
    "Time zone of days, and of --from and --to where they are dates, as Europe/Berlin [default: UTC]";

/// What the range is about.
#[derive(Clone, Debug, clap::Args)]
#[group(required = true, multiple = true)]
pub(crate) struct Subject {
    /// One device
    #[arg(long, conflicts_with_all = ["animal", "zone"])]
    device: Option<String>,
    /// What was measured of an animal, by whatever device
    #[arg(long, conflicts_with = "zone")]
    animal: Option<i32>,
    /// What was measured in a zone
    #[arg(long)]
    zone: Option<i32>,
    /// All devices of a farm together, or only those of it
    #[arg(long)]
    farm: Option<i32>,
}

#[derive(Debug, clap::Args)]
#[command(mut_arg("time_zone", |zone| zone.help(TIME_ZONE)))]
pub(crate) struct Args {
    #[command(flatten)]
    subject: Subject,
    /// The metric
    #[arg(long)]
    metric: String,
    #[command(flatten)]
    span: Span,
    /// What time is cut into
    #[arg(long, value_enum, default_value = "auto")]
    resolution: Resolution,
    /// What is told of each bucket; median and p95 are told by hour, median also by day, but neither of several devices
    /// together nor for days of a time zone [default: count, avg, min, max]
    #[arg(long = "stat", value_enum, value_name = "STATISTIC")]
    statistics: Vec<Statistic>,
    /// With the resolution auto at most so many points [default: 120, or a point a day]
    #[arg(long, value_name = "COUNT")]
    max_points: Option<u32>,
    /// Draw a chart, too: above a table, beside JSON and CSV on standard error [default: on a terminal]
    #[arg(long, overrides_with = "no_chart")]
    chart: bool,
    /// Draw none
    #[arg(long)]
    no_chart: bool,
    #[command(flatten)]
    with: With,
}

#[derive(Debug, clap::Args)]
pub(crate) struct StreamArgs {
    #[command(flatten)]
    subject: Subject,
    /// Only these metrics
    #[arg(long = "metric", value_name = "METRIC")]
    metrics: Vec<String>,
    #[command(flatten)]
    span: Span,
    #[command(flatten)]
    with: With,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Resolution {
    Raw,
    #[value(name = "15min")]
    QuarterHour,
    Hour,
    Day,
    Auto,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Statistic {
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

impl Resolution {
    fn message(self) -> v1::Resolution {
        match self {
            Self::Raw => v1::Resolution::Raw,
            Self::QuarterHour => v1::Resolution::Resolution15min,
            Self::Hour => v1::Resolution::Hour,
            Self::Day => v1::Resolution::Day,
            Self::Auto => v1::Resolution::Auto,
        }
    }
}

impl Statistic {
    fn message(self) -> v1::Statistic {
        match self {
            Self::Count => v1::Statistic::Count,
            Self::Sum => v1::Statistic::Sum,
            Self::Avg => v1::Statistic::Avg,
            Self::Min => v1::Statistic::Min,
            Self::Max => v1::Statistic::Max,
            Self::Stddev => v1::Statistic::Stddev,
            Self::Median => v1::Statistic::Median,
            Self::P95 => v1::Statistic::P95,
            Self::ValidCount => v1::Statistic::ValidCount,
            Self::ErrorCount => v1::Statistic::ErrorCount,
        }
    }
}

pub(super) async fn range(args: Args) -> Result<()> {
    let Args { subject, metric, span, resolution, statistics, max_points, chart, no_chart, with } = args;
    let (start_us, end_us) = span.micros()?;
    // Of what is no day, the server has no time zone.
    let time_zone = span.time_zone.filter(|_| matches!(resolution, Resolution::Day | Resolution::Auto));
    let mut request = v1::QueryRangeRequest {
        device_uid: subject.device.unwrap_or_default(),
        animal_id: subject.animal.unwrap_or_default(),
        zone_id: subject.zone.unwrap_or_default(),
        farm_id: subject.farm.unwrap_or_default(),
        metric_name: metric,
        start_us,
        end_us,
        page_size: 10_000,
        resolution: resolution.message().into(),
        statistics: statistics.iter().map(|statistic| statistic.message().into()).collect(),
        time_zone: times::zone_name(time_zone),
        max_points: max_points.unwrap_or(DEFAULT_POINTS),
        ..v1::QueryRangeRequest::default()
    };
    let client = with.client().await?;
    let (mut readings, mut buckets) = (Vec::new(), Vec::new());
    let resolution = loop {
        let page = match client.query_range(request.clone()).await {
            // Nobody asked for so few points, and nothing is wider than days.
            Err(Error::Refused { status, .. })
                if max_points.is_none() && days_of_too_many(status.message()).is_some() =>
            {
                request.resolution = v1::Resolution::Day.into();
                client.query_range(request.clone()).await?
            }
            answer => answer?,
        };
        if request.page_token.is_empty() {
            tell_kept_from(page.kept_from_us, start_us, AT_THIS);
        }
        let resolution = page.resolution();
        readings.extend(page.series);
        add_buckets(&mut buckets, page.aggregates);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break resolution;
        }
    };
    let by_day = resolution == v1::Resolution::Day;
    let format = with.output.format();
    let terminal = std::io::stdout().is_terminal() && format == Format::Table;
    if chart || (terminal && !no_chart) {
        let show = |time_us| if by_day { times::show_date(time_us, time_zone) } else { times::show(time_us) };
        let drawn = draw(&readings, &buckets, show);
        // A program that reads JSON or CSV finds nothing else there.
        if format == Format::Table {
            std::io::stdout().write_all(drawn.as_bytes())?;
        } else {
            let _ = std::io::stderr().write_all(drawn.as_bytes());
        }
    }
    let start = |time_us| {
        if by_day { Cell::Text(times::show_date(time_us, time_zone)) } else { Cell::Time(time_us) }
    };
    let rows = match resolution {
        v1::Resolution::Raw | v1::Resolution::Unspecified => tables::readings(&readings),
        _ => tables::buckets(&buckets, start),
    };
    rows.print_or(format, span.nothing((start_us, end_us)).as_deref())
}

/// Joins the pages of each line.
fn add_buckets(all: &mut Vec<v1::SeriesBuckets>, page: Vec<v1::SeriesBuckets>) {
    for part in page {
        match all.iter_mut().find(|line| line.series == part.series) {
            Some(line) => line.buckets.extend(part.buckets),
            None => all.push(part),
        }
    }
}

/// A chart of each of the first lines.
fn draw(
    readings: &[v1::SeriesReadings],
    buckets: &[v1::SeriesBuckets],
    show: impl Fn(Micros) -> String,
) -> String {
    const MOST: usize = 4;
    let width = terminal_size::terminal_size().map_or_else(columns, |(width, _)| width.0.into());
    let of_readings = readings.iter().map(|line| {
        let points = line.readings.iter().map(|reading| (reading.time_us, reading.value)).collect();
        (name(line.series.as_ref()), points)
    });
    let of_buckets = buckets.iter().map(|line| {
        let value =
            |bucket: &v1::Bucket| bucket.avg.or(bucket.median).or(bucket.sum).or(bucket.max).or(bucket.min);
        let points =
            line.buckets.iter().map(|bucket| (bucket.start_us, value(bucket).unwrap_or(bucket.count as f64)));
        (name(line.series.as_ref()), points.collect())
    });
    let lines: Vec<(String, Vec<(Micros, f64)>)> = of_readings.chain(of_buckets).take(MOST).collect();
    let drawn = lines.iter().map(|(title, points)| chart::draw(title, points, width.min(120), &show));
    // What cannot be drawn takes no room.
    drawn.filter(|chart| !chart.is_empty()).map(|chart| chart + "\n").collect()
}

/// Where there is no terminal: as wide as the environment says.
fn columns() -> usize {
    std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).unwrap_or(80)
}

pub(super) async fn stream(args: StreamArgs) -> Result<()> {
    let StreamArgs { subject, metrics, span, with } = args;
    let (start_us, end_us) = span.micros()?;
    let request = v1::StreamRangeRequest {
        device_uid: subject.device.unwrap_or_default(),
        animal_id: subject.animal.unwrap_or_default(),
        zone_id: subject.zone.unwrap_or_default(),
        farm_id: subject.farm.unwrap_or_default(),
        metric_names: metrics,
        start_us,
        end_us,
    };
    let format = with.output.format();
    let mut parts = Box::pin(with.client().await?.stream_range_parts(request).await?);
    let (mut first, mut told_us) = (true, 0);
    while let Some(part) = parts.try_next().await? {
        if part.kept_from_us > told_us {
            told_us = part.kept_from_us;
            tell_kept_from(told_us, start_us, AT_THIS);
        }
        if let Some(series) = part.series {
            // One header for all parts, however many come.
            tables::readings(&[series]).print_part(format, std::mem::take(&mut first))?;
        }
    }
    if let Some(nothing) = span.nothing((start_us, end_us)).filter(|_| first) {
        tell!("herdstream: {nothing}");
    }
    Ok(())
}
