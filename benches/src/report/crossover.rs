//! The crossover as heat maps: where V1 is better, and where V2, by the size of the image, the round trip and the client's line.
//!
//! Each cell names both figures, so that the colour is only a help.

use std::{cmp::Reverse, fmt::Write as _};

use super::{
    figures::Figures,
    html::escape,
    spread::{bytes, number, rate, seconds},
    targets::{self, describe},
};
use crate::record::{Case, Line, Store, Target};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 76.0;
const TOP: f64 = 50.0;
const BOTTOM: f64 = 28.0;
/// Between two panels, and between two cells.
const GAP: f64 = 18.0;
const RULE: f64 = 2.0;
const CELL_HEIGHT: f64 = 54.0;
/// The colours of V1 and V2 in the plots.
const V1_COLOUR: &str = "#0072b2";
const V2_COLOUR: &str = "#d55e00";
/// A cell has its full colour if one server is this many times better.
const FULL_COLOUR: f64 = 2.0;

/// One heat map.
pub(super) struct HeatMap {
    /// What it shows.
    pub(super) title: String,
    /// How to read it.
    pub(super) caption: &'static str,
    /// The drawing.
    pub(super) svg: String,
}

/// What a heat map shows.
struct Measure {
    title: &'static str,
    caption: &'static str,
    of: fn(&Figures) -> Option<f64>,
    write: fn(f64) -> String,
}

const MEASURES: [Measure; 2] = [
    Measure {
        title: "Time until an image is linked",
        caption: "Median in each cell. Blue: V1 is faster. Orange: V2 is faster. The colour is full where one takes twice as long.",
        of: linked_s,
        write: |value| format!("{} s", seconds(value)),
    },
    Measure {
        title: "The server's CPU time for each image",
        caption: "Blue: V1 uses less. Orange: V2 uses less. The colour is full where one uses twice as much.",
        of: cpu_ms,
        write: |value| format!("{} ms", number(value)),
    },
];

/// The median time until an image is linked, in seconds.
pub(super) fn linked_s(row: &Figures) -> Option<f64> {
    row.latency.map(|latency| latency.p50_s)
}

/// The server's CPU time for each image, in milliseconds.
pub(super) fn cpu_ms(row: &Figures) -> Option<f64> {
    row.server.map(|cost| cost.cpu_ms_per_image.median)
}

/// The rows of the crossover on a store, in reading order: fast lines first.
pub(super) fn rows(figures: &[Figures], store: Store) -> Vec<&Figures> {
    let mut rows: Vec<&Figures> =
        figures.iter().filter(|row| (row.case, row.store) == (Case::Crossover, store)).collect();
    rows.sort_by_key(|row| (row.image_bytes, Reverse(row.line.bytes_per_second.unwrap_or(u64::MAX)), row.line.rtt_ms));
    rows
}

/// The row of another target in the same cell.
pub(super) fn same_cell<'a>(rows: &[&'a Figures], of: &Figures, target: Target) -> Option<&'a Figures> {
    let is_same = |row: &&&Figures| (row.target, row.image_bytes, row.line) == (target, of.image_bytes, of.line);
    rows.iter().find(is_same).copied()
}

/// Every heat map that there are figures for.
pub(super) fn heat_maps(figures: &[Figures]) -> Vec<HeatMap> {
    let mut maps = Vec::new();
    for store in [Store::Minio, Store::Embedded, Store::Given] {
        let rows = rows(figures, store);
        for target in targets::ALL.into_iter().filter(|target| *target != Target::V1) {
            if rows.iter().any(|row| row.target == target) {
                maps.extend(MEASURES.iter().filter_map(|measure| heat_map(&rows, target, store, measure)));
            }
        }
    }
    maps
}

fn heat_map(rows: &[&Figures], target: Target, store: Store, measure: &Measure) -> Option<HeatMap> {
    let of_v1: Vec<&&Figures> = rows.iter().filter(|row| row.target == Target::V1).collect();
    let rates = distinct(of_v1.iter().map(|row| Reverse(row.line.bytes_per_second.unwrap_or(u64::MAX))));
    let rtts = distinct(of_v1.iter().map(|row| row.line.rtt_ms));
    let sizes = distinct(of_v1.iter().map(|row| row.image_bytes));
    if of_v1.is_empty() {
        return None;
    }
    let panel = (WIDTH - LEFT - GAP * (rates.len() as f64 - 1.0)) / rates.len() as f64;
    let cell = panel / rtts.len() as f64;
    let height = TOP + CELL_HEIGHT * sizes.len() as f64 + BOTTOM;
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {height}\" xmlns=\"http://www.w3.org/2000/svg\">\n");
    let mut text = |x: f64, y: f64, anchor: &str, text: &str| {
        let text = escape(text);
        let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
    };
    for (row, size) in sizes.iter().enumerate() {
        text(LEFT - 8.0, TOP + CELL_HEIGHT * (row as f64 + 0.5) + 5.0, "end", &bytes(*size as f64));
    }
    let mut cells = Vec::new();
    for (column, Reverse(limit)) in rates.iter().enumerate() {
        let left = LEFT + (panel + GAP) * column as f64;
        let limit = (*limit < u64::MAX).then_some(*limit);
        text(left + panel / 2.0, 18.0, "middle", &limit.map_or_else(|| "as fast as it can".to_owned(), rate));
        for (number, rtt_ms) in rtts.iter().enumerate() {
            let x = left + cell * number as f64;
            text(x + cell / 2.0, TOP - 8.0, "middle", &format!("{rtt_ms} ms"));
            cells.extend(sizes.iter().enumerate().map(|(row, size)| {
                let line = Line { bytes_per_second: limit, rtt_ms: *rtt_ms };
                (x, TOP + CELL_HEIGHT * row as f64, *size, line)
            }));
        }
    }
    text(
        f64::midpoint(LEFT, WIDTH),
        height - 6.0,
        "middle",
        "columns: rate of the client's line, then round trip; rows: image",
    );
    for (x, y, size, line) in cells {
        let of = |target| {
            let mut found = rows.iter().filter(|row| (row.target, row.image_bytes, row.line) == (target, size, line));
            found.next().and_then(|row| (measure.of)(row))
        };
        let (v1, v2) = (of(Target::V1), of(target));
        let (colour, opacity) = shade(v1, v2);
        let (width, height) = (cell - RULE, CELL_HEIGHT - RULE);
        let _ = writeln!(
            svg,
            "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height:.1}\" fill=\"{colour}\" \
             fill-opacity=\"{opacity:.2}\"/>"
        );
        for (name, value, below) in [("V1", v1, 22.0), ("V2", v2, 42.0)] {
            let value = value.map_or_else(|| "–".to_owned(), measure.write);
            let (x, y) = (x + width / 2.0, y + below);
            let _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"middle\">{name} {value}</text>");
        }
    }
    let (name, store) = (describe(target).plain, targets::store(store));
    Some(HeatMap {
        title: format!("{}: V1 against {name}, on {store}", measure.title),
        caption: measure.caption,
        svg: svg + "</svg>\n",
    })
}

fn distinct<T: Ord>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut values: Vec<T> = values.collect();
    values.sort();
    values.dedup();
    values
}

/// The colour of the better server, and how strong it is.
fn shade(v1: Option<f64>, v2: Option<f64>) -> (&'static str, f64) {
    const STRONGEST: f64 = 0.7;
    let Some((v1, v2)) = v1.zip(v2).filter(|(v1, v2)| *v1 > 0.0 && *v2 > 0.0) else { return ("none", 0.0) };
    let strength = (v2 / v1).log(FULL_COLOUR).abs().min(1.0) * STRONGEST;
    (if v1 <= v2 { V1_COLOUR } else { V2_COLOUR }, strength)
}
