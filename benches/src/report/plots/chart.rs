//! What all plots are drawn with: axes of our own making, lines, markers and labels.

use std::ops::Range;

use anyhow::{Context as _, Result};
use plotters::{
    coord::{
        Shift,
        ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter},
    },
    prelude::*,
    style::text_anchor::{HPos, Pos, VPos},
};

use super::Style;

/// A chart on axes of [`Axis`].
pub(super) type Chart<'a> = ChartContext<'a, SVGBackend<'a>, Cartesian2d<Axis, Axis>>;
/// A part of a drawing.
pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

/// Width of a plot, in pixels of its own.
pub(super) const WIDTH: u32 = 960;
/// Height of most plots.
pub(super) const HEIGHT: u32 = 440;
/// Room for labels on the left; as wide as the longest target's name.
pub(super) const LEFT: u32 = 104;
/// Room on the right, for labels that begin at the last point.
pub(super) const RIGHT: u32 = 56;

/// Axes and grid: a grey that is seen on white and on black.
const GREY: RGBColor = RGBColor(128, 128, 128);
const TEXT_SIZE: u32 = 18;

/// An axis: what it is called, which values it has, and where its ticks are.
#[derive(Debug, Clone)]
pub(super) struct Axis {
    title: String,
    is_log: bool,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

impl Axis {
    /// An axis on which equal steps are equal differences.
    pub(super) fn linear(title: &str, from: f64, to: f64) -> Self {
        Self { title: title.to_owned(), is_log: false, from, to, ticks: Vec::new() }.ticks_at(even_steps(from, to))
    }

    /// An axis on which equal steps are equal ratios; both ends are above 0.
    pub(super) fn log(title: &str, from: f64, to: f64) -> Self {
        let candidates = (-6..=9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        let ticks = candidates.filter(|tick| (from..=to).contains(tick)).collect::<Vec<_>>();
        Self { title: title.to_owned(), is_log: true, from, to, ticks: Vec::new() }.ticks_at(ticks)
    }

    /// With ticks at these values, which are written in as few digits as they need.
    pub(super) fn ticks_at(self, values: impl IntoIterator<Item = f64>) -> Self {
        let named = values.into_iter().map(|value| (value, format!("{}", (value * 1e6).round() / 1e6)));
        Self { ticks: named.collect(), ..self }
    }

    /// With ticks that have names.
    pub(super) fn named(self, ticks: Vec<(f64, String)>) -> Self {
        Self { ticks, ..self }
    }

    /// Where a value lies, from 0 to 1; what is off the axis lies at its end.
    fn share(&self, value: f64) -> f64 {
        let position = |value: f64| if self.is_log { value.log10() } else { value };
        let (from, to) = (position(self.from), position(self.to));
        (position(value.clamp(self.from, self.to)) - from) / (to - from)
    }
}

impl Ranged for Axis {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (start, end): (i32, i32)) -> i32 {
        start + (self.share(*value) * f64::from(end - start)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        // Plotters asks a second time for a finer grid, of which there is none.
        if hint.weight().allow_light_points() {
            Vec::new()
        } else {
            self.ticks.iter().map(|(value, _name)| *value).collect()
        }
    }

    fn range(&self) -> Range<f64> {
        self.from..self.to
    }
}

impl ValueFormatter<f64> for Axis {
    fn format_ext(&self, value: &f64) -> String {
        let named = self.ticks.iter().find(|(tick, _name)| tick == value);
        named.map(|(_value, name)| name.clone()).unwrap_or_default()
    }
}

/// At most eight steps of 1, 2 or 5 times a power of ten.
fn even_steps(from: f64, to: f64) -> Vec<f64> {
    let power = 10_f64.powf(((to - from) / 8.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| (to - from) / step <= 8.0);
    let step = step.unwrap_or(10.0 * power);
    // Counted rather than added up, so that no step drifts.
    (0..=9)
        .map(|index| (from / step).ceil().mul_add(step, f64::from(index) * step))
        .filter(|tick| *tick <= to)
        .collect()
}

/// Draws into a new SVG.
pub(super) fn svg(height: u32, draw: impl FnOnce(&Area) -> Result<()>) -> Result<String> {
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        draw(&area)?;
        area.present().context("a plot could not be drawn")?;
    }
    Ok(text)
}

/// An empty chart with its axes and grid.
pub(super) fn chart<'a>(area: &Area<'a>, horizontal: &Axis, vertical: &Axis) -> Result<Chart<'a>> {
    let bottom = if horizontal.title.is_empty() { 8 } else { 52 };
    let mut chart = ChartBuilder::on(area)
        .margin_top(10)
        .margin_right(RIGHT)
        .x_label_area_size(bottom)
        .y_label_area_size(LEFT)
        .build_cartesian_2d(horizontal.clone(), vertical.clone())
        .context("a plot's axes could not be made")?;
    chart
        .configure_mesh()
        .bold_line_style(GREY.mix(0.3))
        .light_line_style(TRANSPARENT)
        .axis_style(GREY.mix(0.8))
        .label_style(("sans-serif", TEXT_SIZE))
        .x_desc(horizontal.title.as_str())
        .y_desc(vertical.title.as_str())
        .axis_desc_style(("sans-serif", TEXT_SIZE))
        .draw()
        .context("a plot's grid could not be drawn")?;
    Ok(chart)
}

/// A line through points.
pub(super) fn line(chart: &mut Chart, points: Vec<(f64, f64)>, style: Style) -> Result<()> {
    let stroke = style.colour.stroke_width(2);
    if style.dashed {
        chart.draw_series(DashedLineSeries::new(points, 7, 4, stroke)).context("a line could not be drawn")?;
    } else {
        chart.draw_series(LineSeries::new(points, stroke)).context("a line could not be drawn")?;
    }
    Ok(())
}

/// A marker at a point; hollow where it stands for less than it should.
pub(super) fn marker(chart: &mut Chart, point: (f64, f64), style: Style, is_whole: bool) -> Result<()> {
    let fill = if is_whole { style.colour.filled() } else { style.colour.stroke_width(2) };
    let drawn = if style.dashed {
        chart.draw_series([TriangleMarker::new(point, 6, fill)]).map(|_legend| ())
    } else {
        chart.draw_series([Circle::new(point, 5, fill)]).map(|_legend| ())
    };
    drawn.context("a marker could not be drawn")
}

/// A cross: something ended here that should not have.
pub(super) fn cross(chart: &mut Chart, point: (f64, f64), style: Style) -> Result<()> {
    chart.draw_series([Cross::new(point, 6, style.colour.stroke_width(3))]).context("a cross could not be drawn")?;
    Ok(())
}

/// A word or two to the right of a point.
pub(super) fn label(chart: &mut Chart, point: (f64, f64), text: &str) -> Result<()> {
    place(chart, point, (9, 0), Pos::new(HPos::Left, VPos::Center), text)
}

/// A word or two below a point.
pub(super) fn label_below(chart: &mut Chart, point: (f64, f64), text: &str) -> Result<()> {
    place(chart, point, (0, 8), Pos::new(HPos::Center, VPos::Top), text)
}

fn place(chart: &mut Chart, point: (f64, f64), offset: (i32, i32), pos: Pos, text: &str) -> Result<()> {
    let style = ("sans-serif", TEXT_SIZE).into_text_style(chart.plotting_area()).pos(pos);
    let element = EmptyElement::at(point) + Text::new(text.to_owned(), offset, style);
    chart.draw_series([element]).context("a label could not be drawn")?;
    Ok(())
}
