//! The plots of a report, as SVG within the page: what a table does not show at a glance.
//!
//! The colours are Okabe and Ito's, which colour-blind readers can tell apart; the variant of a target has a dashed line as well.
//! Text and axes take their colour from the page.

use std::{fmt::Write as _, ops::RangeInclusive};

use super::{
    figures::Figures,
    html::escape,
    spread::{Spread, grouped},
    targets,
};
use crate::{
    limits::MEMORY_BYTES,
    record::{Case, Ending, Report, Run, Store, Target},
};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 56.0;

/// One plot.
pub(super) struct Plot {
    /// What it shows.
    pub(super) title: String,
    /// How to read it.
    pub(super) caption: &'static str,
    /// What is drawn, with its legend.
    pub(super) lines: Vec<Line>,
    x: Axis,
    y: Axis,
}

/// One line of a plot.
pub(super) struct Line {
    /// For the legend.
    pub(super) name: String,
    /// How it looks.
    pub(super) style: Style,
    points: Vec<(f64, f64)>,
    marks: Vec<Mark>,
}

/// How a line looks.
#[derive(Clone, Copy)]
pub(super) struct Style {
    colour: &'static str,
    dashed: bool,
}

/// What is drawn over a line.
enum Mark {
    /// A circle, filled where every image of every round succeeded.
    Circle { at: (f64, f64), filled: bool },
    /// A cross where a server ended early.
    Cross { at: (f64, f64) },
    /// The range of the rounds.
    Range { x: f64, y: RangeInclusive<f64> },
}

struct Axis {
    title: &'static str,
    is_log: bool,
    from: f64,
    to: f64,
    ticks: Vec<(f64, String)>,
}

/// Every plot that there are figures for.
pub(super) fn all(report: &Report, figures: &[Figures]) -> Vec<Plot> {
    let mut plots = Vec::new();
    for store in [Store::Minio, Store::Embedded, Store::Given, Store::Sink] {
        let rows: Vec<&Figures> = figures.iter().filter(|row| (row.case, row.store) == (Case::Burst, store)).collect();
        plots.extend(makespans(store, &rows));
        plots.extend(memory(report, store));
    }
    plots
}

/// Makespan against the number of images. One number makes no line.
fn makespans(store: Store, rows: &[&Figures]) -> Option<Plot> {
    let mut counts: Vec<u32> = rows.iter().map(|row| row.images).collect();
    counts.sort_unstable();
    counts.dedup();
    let (least, most) = (f64::from(*counts.first()?), f64::from(*counts.last()?));
    let range = Spread::of(rows.iter().filter_map(|row| row.makespan_s).flat_map(|value| [value.least, value.most]))?;
    if counts.len() < 2 || range.least <= 0.0 {
        return None;
    }
    let line = |target: Target| {
        let (mut points, mut marks) = (Vec::new(), Vec::new());
        for row in rows.iter().filter(|row| row.target == target) {
            let (Some(makespan), x) = (row.makespan_s, f64::from(row.images)) else { continue };
            let at = (x, makespan.median);
            points.push(at);
            marks.push(Mark::Range { x, y: makespan.least..=makespan.most });
            marks.push(Mark::Circle { at, filled: row.is_whole() });
        }
        let line = Line { name: targets::describe(target).plain.to_owned(), style: style(target), points, marks };
        (!line.points.is_empty()).then_some(line)
    };
    let ticks = counts.iter().map(|images| (f64::from(*images), grouped((*images).into()))).collect();
    Some(Plot {
        title: format!("Makespan by images at once, on {}", targets::store(store)),
        caption: "Median of the finished rounds, with their range. Both axes are logarithmic. A hollow circle: a round hung \
            or died, or an image failed. No circle: no round finished.",
        lines: targets::ALL.into_iter().filter_map(line).collect(),
        x: Axis { title: "images released at once", is_log: true, from: least / 1.15, to: most * 1.15, ticks },
        y: Axis::log("makespan, s", range.least / 1.5, range.most * 1.5),
    })
}

/// Memory over time with the largest number of images.
fn memory(report: &Report, store: Store) -> Option<Plot> {
    let has_memory = |run: &&Run| {
        (run.case, run.store) == (Case::Burst, store)
            && run.server.as_ref().is_some_and(|server| server.memory.len() > 1)
    };
    let images = report.runs.iter().filter(has_memory).map(|run| run.images).max()?;
    // Of each target the first round that did not finish, or else the first.
    let shown: Vec<&Run> = targets::ALL
        .into_iter()
        .filter_map(|target| {
            let runs = report.runs.iter().filter(has_memory).filter(|run| (run.target, run.images) == (target, images));
            runs.min_by_key(|run| (!ended_early(run), run.round))
        })
        .collect();
    let last_s = |run: &Run| samples(run).last().map_or(0.0, |(at, _megabytes)| *at);
    let longest = |runs: &mut dyn Iterator<Item = &&Run>| runs.map(|run| last_s(run)).reduce(f64::max);
    // A server that hung did nothing for a long time; that is cut off.
    let finished = longest(&mut shown.iter().filter(|run| !ended_early(run)));
    let all = longest(&mut shown.iter())?;
    let end = finished.map_or(all, |finished| all.min(finished * 1.5)).max(0.1);
    let limit = MEMORY_BYTES as f64 / 1e6;
    let mut lines: Vec<Line> = shown
        .iter()
        .map(|run| {
            let points: Vec<(f64, f64)> = samples(run).into_iter().filter(|(at, _megabytes)| *at <= end).collect();
            let cross = points.last().filter(|_last| ended_early(run)).map(|at| Mark::Cross { at: *at });
            let name = targets::describe(run.target).plain.to_owned();
            Line { name, style: style(run.target), points, marks: cross.into_iter().collect() }
        })
        .collect();
    let highest = lines.iter().flat_map(|line| &line.points).map(|(_at, megabytes)| *megabytes).fold(limit, f64::max);
    let points = vec![(0.0, limit), (end, limit)];
    let style = Style { colour: "#808080", dashed: true };
    lines.push(Line { name: "the limit of 1 GiB".to_owned(), style, points, marks: Vec::new() });
    Some(Plot {
        title: format!("Memory over time, {} images at once, on {}", grouped(images.into()), targets::store(store)),
        caption: "What the server's cgroup was charged for, or its resident memory without a cgroup. Each line is the first \
            round of its target, or the first that did not finish; then it ends in a cross.",
        lines,
        x: Axis::linear("seconds since the release", end),
        y: Axis::linear("memory, MB", highest * 1.08),
    })
}

fn ended_early(run: &Run) -> bool {
    matches!(run.ending, Ending::Hung { .. } | Ending::Died { .. })
}

/// Seconds and MB.
fn samples(run: &Run) -> Vec<(f64, f64)> {
    let samples = run.server.iter().flat_map(|server| &server.memory);
    let point = |bytes: u64, at_ms: u64| (at_ms as f64 / 1e3, bytes as f64 / 1e6);
    samples.map(|sample| point(sample.cgroup_bytes.unwrap_or(sample.rss_bytes), sample.at_ms)).collect()
}

impl Plot {
    /// The drawing.
    pub(super) fn svg(&self) -> String {
        let x = |value: f64| LEFT + self.x.share(value) * (WIDTH - LEFT - RIGHT);
        let y = |value: f64| HEIGHT - BOTTOM - self.y.share(value) * (HEIGHT - TOP - BOTTOM);
        let (bottom, end) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" xmlns=\"http://www.w3.org/2000/svg\">\n");
        let mut draw = |element: String| {
            let _ = writeln!(svg, "{element}");
        };
        for (value, name) in &self.x.ticks {
            let at = x(*value);
            draw(format!("<path class=\"rule\" d=\"M{at:.1} {TOP} V{bottom}\"/>"));
            draw(format!("<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{name}</text>", bottom + 20.0));
        }
        for (value, name) in &self.y.ticks {
            let at = y(*value);
            draw(format!("<path class=\"rule\" d=\"M{LEFT} {at:.1} H{end}\"/>"));
            draw(format!("<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>", LEFT - 8.0, at + 5.0));
        }
        let (middle, center) = (f64::midpoint(LEFT, end), f64::midpoint(TOP, bottom));
        let (below, title) = (HEIGHT - 10.0, escape(self.x.title));
        draw(format!("<text x=\"{middle}\" y=\"{below}\" text-anchor=\"middle\">{title}</text>"));
        let (turned, title) = (format!("rotate(-90 16 {center})"), escape(self.y.title));
        draw(format!("<text x=\"16\" y=\"{center}\" text-anchor=\"middle\" transform=\"{turned}\">{title}</text>"));
        for line in &self.lines {
            let points = line.points.iter().map(|(at, value)| format!("{:.1},{:.1}", x(*at), y(*value)));
            let points = points.collect::<Vec<_>>().join(" ");
            draw(format!("<polyline points=\"{points}\"{}/>", line.style.stroke()));
            for mark in &line.marks {
                let colour = line.style.colour;
                draw(match mark {
                    Mark::Circle { at, filled } => {
                        let fill = if *filled { colour } else { "none" };
                        let (x, y) = (x(at.0), y(at.1));
                        format!("<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\" fill=\"{fill}\" stroke=\"{colour}\"/>")
                    }
                    Mark::Cross { at } => {
                        let (left, top) = (x(at.0) - 6.0, y(at.1) - 6.0);
                        let way = format!("M{left:.1} {top:.1} l12 12 m0 -12 l-12 12");
                        format!("<path d=\"{way}\" stroke=\"{colour}\" stroke-width=\"3\"/>")
                    }
                    Mark::Range { x: at, y: range } => {
                        let (at, from, to) = (x(*at), y(*range.start()), y(*range.end()));
                        format!("<path d=\"M{at:.1} {from:.1} V{to:.1}\" stroke=\"{colour}\"/>")
                    }
                });
            }
        }
        svg + "</svg>\n"
    }
}

impl Axis {
    /// From 0, with at most eight ticks at even steps of 1, 2 or 5 times a power of ten.
    fn linear(title: &'static str, to: f64) -> Self {
        let power = 10_f64.powf((to / 8.0).log10().floor());
        let step = [1.0, 2.0, 5.0].map(|digit| digit * power).into_iter().find(|step| to / step <= 8.0);
        let step = step.unwrap_or(10.0 * power);
        let ticks = (0..=8).map(|index| f64::from(index) * step).filter(|tick| *tick <= to);
        Self { title, is_log: false, from: 0.0, to, ticks: ticks.map(named).collect() }
    }

    /// With ticks at 1, 2 and 5 times the powers of ten. Both ends are above 0.
    fn log(title: &'static str, from: f64, to: f64) -> Self {
        let ticks = (-6..=9).flat_map(|power| [1.0, 2.0, 5.0].map(|digit| digit * 10_f64.powi(power)));
        let ticks = ticks.filter(|tick| (from..=to).contains(tick));
        Self { title, is_log: true, from, to, ticks: ticks.map(named).collect() }
    }

    /// Where a value lies, from 0 to 1.
    fn share(&self, value: f64) -> f64 {
        let position = |value: f64| if self.is_log { value.log10() } else { value };
        (position(value) - position(self.from)) / (position(self.to) - position(self.from))
    }
}

/// A tick in as few digits as it needs.
fn named(value: f64) -> (f64, String) {
    (value, format!("{}", (value * 1e6).round() / 1e6))
}

impl Style {
    /// The attributes of a line.
    pub(super) fn stroke(self) -> String {
        let dashes = if self.dashed { " stroke-dasharray=\"7 4\"" } else { "" };
        format!(" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"{dashes}", self.colour)
    }
}

/// How a target looks in every plot.
fn style(target: Target) -> Style {
    let (colour, dashed) = match target {
        Target::V1 => ("#0072b2", false),
        Target::V1Buffered => ("#0072b2", true),
        Target::V1Stream => ("#56b4e9", true),
        Target::V2Post => ("#d55e00", false),
        Target::V2Version => ("#e69f00", true),
        Target::V2Put => ("#e69f00", false),
        Target::V2Unlinked => ("#d55e00", true),
        Target::NodeV1 => ("#cc79a7", false),
        Target::NodeV2 => ("#cc79a7", true),
        Target::Nginx => ("#009e73", false),
        Target::Nginx128k => ("#009e73", true),
        Target::Direct => ("#808080", false),
    };
    Style { colour, dashed }
}
