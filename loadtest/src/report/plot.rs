//! Plots over time, as SVG whose colours a style sheet decides.

use anyhow::{Result, anyhow};
use plotters::{
    coord::ranged1d::{AsRangedCoord, ValueFormatter},
    prelude::*,
};

use super::grouped;
use crate::workload::Second;

/// Colours that the page's style sheet replaces by its own, light or dark.
const INK: RGBColor = RGBColor(1, 1, 1);
const GRID: RGBColor = RGBColor(2, 2, 2);
const FIRST: RGBColor = RGBColor(3, 3, 3);
const SECOND: RGBColor = RGBColor(4, 4, 4);
const THIRD: RGBColor = RGBColor(5, 5, 5);

const SIZE: (u32, u32) = (960, 300);

/// Durable readings a second, over the seconds.
///
/// # Errors
///
/// The plot cannot be drawn.
pub(super) fn throughput(timeline: &[Second]) -> Result<String> {
    let top = timeline.iter().map(|second| second.rate).fold(1.0, f64::max) * 1.1;
    draw(timeline, 0.0..top, &|rate| grouped(*rate), &[(FIRST, true, |second: &Second| second.rate)])
}

/// Ack latency over the seconds, on a logarithmic scale.
///
/// # Errors
///
/// The plot cannot be drawn.
pub(super) fn latency(timeline: &[Second]) -> Result<String> {
    let measured = || timeline.iter().filter(|second| second.max_ms > 0.0);
    let bottom = measured().map(|second| second.p50_ms).fold(f64::INFINITY, f64::min);
    let top = measured().map(|second| second.max_ms).fold(1.0, f64::max);
    let bottom = if bottom.is_finite() { bottom.max(0.01) } else { 0.1 };
    // Whole decades, so that the scale has round numbers.
    let range = 10_f64.powf(bottom.log10().floor())..10_f64.powf(top.log10().ceil());
    draw(
        timeline,
        range.log_scale(),
        &|ms| format!("{ms} ms"),
        &[
            (THIRD, false, |second: &Second| second.max_ms),
            (SECOND, false, |second: &Second| second.p99_ms),
            (FIRST, false, |second: &Second| second.p50_ms),
        ],
    )
}

type Curve = (RGBColor, bool, fn(&Second) -> f64);

fn draw<Y>(timeline: &[Second], range: Y, label: &dyn Fn(&f64) -> String, curves: &[Curve]) -> Result<String>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let end = timeline.last().map_or(1.0, |second| second.at);
    let mut svg = String::new();
    let failed = |error: DrawingAreaErrorKind<_>| anyhow!("drawing a plot: {error}");
    let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
    let mut chart = ChartBuilder::on(&area)
        .margin(8)
        .x_label_area_size(28)
        .y_label_area_size(84)
        .build_cartesian_2d(0.0..end, range)
        .map_err(failed)?;
    chart
        .configure_mesh()
        .axis_style(GRID)
        .bold_line_style(GRID)
        .light_line_style(TRANSPARENT)
        .label_style(("system-ui, sans-serif", 13).into_font().color(&INK))
        // Labels are whole seconds: no more of them than there are.
        .x_labels((end as usize + 1).clamp(2, 12))
        .y_labels(6)
        .x_label_formatter(&|at| format!("{at:.0} s"))
        .y_label_formatter(&label)
        .draw()
        .map_err(failed)?;
    for (colour, filled, value) in curves {
        let points =
            timeline.iter().filter(|second| value(second) > 0.0).map(|second| (second.at, value(second)));
        // The first second begins at the axis.
        let points = points.clone().next().map(|(_, first)| (0.0, first)).into_iter().chain(points);
        if *filled {
            let area = AreaSeries::new(points.clone(), 0.0, colour.mix(0.15));
            chart.draw_series(area).map_err(failed)?;
        }
        chart.draw_series(LineSeries::new(points, colour.stroke_width(2))).map_err(failed)?;
    }
    area.present().map_err(failed)?;
    drop(chart);
    drop(area);
    // It takes the width of the page.
    Ok(svg.replacen(
        &format!("<svg width=\"{}\" height=\"{}\"", SIZE.0, SIZE.1),
        "<svg role=\"img\" preserveAspectRatio=\"xMidYMid meet\"",
        1,
    ))
}
