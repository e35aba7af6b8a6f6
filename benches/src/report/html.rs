//! `report.html`: one page that needs nothing beside itself, no script, no font, no address.

use anyhow::Result;

use super::{
    figures,
    grid::{self, Cell, Grid, Kind},
    plots::{self, Key, Plot, Shape},
    spread::grouped,
    targets, words,
};
use crate::record::{Ending, Report, Run, Store};

const STYLE: &str = include_str!("page.css");

/// The page.
///
/// # Errors
///
/// Fails when a run's histogram cannot be read.
pub(super) fn page(report: &Report) -> Result<String> {
    let figures = figures::of(report)?;
    let main = figures.iter().map(|row| row.store).find(|store| *store != Store::Sink).unwrap_or(Store::Sink);
    let images = words::reference_images(&figures, main);
    let lead: String = words::lead(report, &figures).iter().map(|line| paragraph(line)).collect();
    let plots: String = plots::all(report, &figures, images)?.iter().map(plot).collect();
    let tables: String = grid::all(report, &figures).iter().map(table).collect();
    let when = report.started_at.format("%Y-%m-%d %H:%M UTC");
    let status = if report.complete { "" } else { "<p class=\"warning\">This report is incomplete.</p>\n" };
    Ok(format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Image uploads compared, {when}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>Image uploads compared</h1>\n<p class=\"when\">{when}, commit {commit}</p>\n{status}\
         <div class=\"lead\">\n{lead}</div>\n<h2>Plots</h2>\n{plots}<h2>Tables</h2>\n{tables}\
         <p class=\"note\">{published}</p>\n<h2>Every round</h2>\n{rounds}</body>\n</html>\n",
        commit = escape(&report.machine.commit),
        published = escape(targets::PUBLISHED_SOURCE),
        rounds = rounds(report),
    ))
}

/// Text as it may stand between tags and in attributes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            other => escaped.push(other),
        }
    }
    escaped
}

/// A line of the words; what it is about, up to a colon near its beginning, stands out.
fn paragraph(line: &str) -> String {
    const LONGEST_TOPIC: usize = 90;
    match line.split_once(": ") {
        Some((topic, rest)) if topic.len() <= LONGEST_TOPIC && !topic.contains('.') => {
            format!("<p><strong>{}:</strong> {}</p>\n", escape(topic), escape(rest))
        }
        _ => format!("<p>{}</p>\n", escape(line)),
    }
}

fn plot(plot: &Plot) -> String {
    let keys: String = plot.legend.iter().map(key).collect();
    format!(
        "<figure>\n<h3>{title}</h3>\n<ul class=\"keys\">\n{keys}</ul>\n\
         <div role=\"img\" aria-label=\"{title}\">\n{svg}</div>\n\
         <figcaption>{caption}</figcaption>\n</figure>\n",
        title = escape(&plot.title),
        svg = plot.svg,
        caption = escape(&plot.caption),
    )
}

fn key(key: &Key) -> String {
    let plotters::style::RGBColor(red, green, blue) = key.style.colour;
    let colour = format!("#{red:02x}{green:02x}{blue:02x}");
    let dashes = if key.style.dashed { " stroke-dasharray=\"7 4\"" } else { "" };
    let line = format!("<path d=\"M0 7 H34\" stroke=\"{colour}\" stroke-width=\"2.5\"{dashes}></path>");
    let swatch = match (key.shape, key.style.dashed) {
        (Shape::Area, _) => format!("<rect x=\"10\" width=\"14\" height=\"14\" fill=\"{colour}\"></rect>"),
        (Shape::Line, _) => line,
        (Shape::Marked, true) => format!("{line}<path d=\"M17 1 L23 12 L11 12 Z\" fill=\"{colour}\"></path>"),
        (Shape::Marked, false) => format!("{line}<circle cx=\"17\" cy=\"7\" r=\"5\" fill=\"{colour}\"></circle>"),
    };
    let name = escape(&key.name);
    format!("<li><svg viewBox=\"0 0 34 14\" aria-hidden=\"true\">{swatch}</svg>{name}</li>\n")
}

fn table(grid: &Grid) -> String {
    let head: String = grid
        .head
        .iter()
        .enumerate()
        .map(|(column, name)| {
            // A name stands above its column as the column's cells do.
            let is_figure = grid.rows.iter().any(|row| row.get(column).is_some_and(|cell| cell.kind == Kind::Figure));
            let class = if is_figure { "figure" } else { "words" };
            format!("<th class=\"{class}\">{}</th>", escape(name))
        })
        .collect();
    let rows: String = grid.rows.iter().map(|row| table_row(row)).collect();
    format!(
        "<h3>{}</h3>\n<p class=\"note\">{}</p>\n<div class=\"wide\">\n<table>\n\
         <thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n\
         </table>\n</div>\n",
        escape(&grid.title),
        escape(&grid.note),
    )
}

fn table_row(row: &[Cell]) -> String {
    // Rows of the same number of images leave it empty but in the first, which begins a group.
    let begins = row.first().is_some_and(|cell| cell.kind == Kind::Figure && !cell.text.is_empty());
    let class = if begins { " class=\"group\"" } else { "" };
    let cells: String = row
        .iter()
        .map(|cell| {
            let class = match cell.kind {
                Kind::Words => "words",
                Kind::Figure => "figure",
                Kind::Failed => "figure failed",
            };
            format!("<td class=\"{class}\">{}</td>", escape(&cell.text))
        })
        .collect();
    format!("<tr{class}>{cells}</tr>\n")
}

/// What was recorded of each round, folded away.
fn rounds(report: &Report) -> String {
    let head = [
        "store",
        "images",
        "round",
        "target",
        "ending",
        "succeeded",
        "failed",
        "requests",
        "makespan ms",
        "to server",
        "to store",
        "CPU user ms",
        "CPU system ms",
        "peak RSS",
        "peak cgroup",
        "throttled ms",
        "store CPU ms",
        "clients CPU ms",
        "stolen ms",
        "objects",
        "rows",
        "checksums",
    ];
    let grid = Grid {
        title: format!("{} rounds, in the order in which they were made", grouped(report.runs.len() as u64)),
        note: "Sizes are bytes. What was found in the store and the database afterwards stands in the last columns, with what the \
            warm-up left there."
            .to_owned(),
        head: head.into_iter().map(str::to_owned).collect(),
        rows: report.runs.iter().map(round).collect(),
    };
    format!("<details>\n<summary>Show what was recorded of each round</summary>\n{}</details>\n", table(&grid))
}

fn round(run: &Run) -> Vec<Cell> {
    let (ending, kind) = match &run.ending {
        Ending::Finished => ("finished".to_owned(), Kind::Words),
        Ending::Hung { after_ms } => (format!("hung for {} ms", grouped(*after_ms)), Kind::Failed),
        Ending::Died { status } => (format!("died: {status}"), Kind::Failed),
        Ending::Void { reason } => (format!("void: {reason}"), Kind::Failed),
    };
    let words = |text: &str| Cell { text: text.to_owned(), kind: Kind::Words };
    let figure = |text: String| Cell { text, kind: Kind::Figure };
    let count = |value: Option<u64>| figure(value.map(grouped).unwrap_or_default());
    let tenths = |value: Option<f64>| figure(value.map(|value| format!("{value:.1}")).unwrap_or_default());
    let (server, verified) = (run.server.as_ref(), run.verified.as_ref());
    vec![
        words(&format!("{:?}", run.store).to_lowercase()),
        figure(grouped(run.images.into())),
        figure(run.round.to_string()),
        words(targets::name(run.target)),
        Cell { text: ending, kind },
        count(Some(run.load.successes)),
        count(Some(run.load.failures.values().sum())),
        count(Some(run.load.requests)),
        tenths(Some(run.load.makespan_ms)),
        count(Some(run.load.bytes_to_server)),
        count(Some(run.load.bytes_to_store)),
        tenths(server.map(|server| server.cpu_user_ms)),
        tenths(server.map(|server| server.cpu_system_ms)),
        count(server.map(|server| server.peak_rss_bytes)),
        count(server.and_then(|server| server.peak_cgroup_bytes)),
        tenths(server.and_then(|server| server.throttled_ms)),
        tenths(run.store_cpu_ms),
        tenths(run.generator_cpu_ms),
        tenths(run.stolen_ms),
        count(verified.map(|verified| verified.objects)),
        count(verified.and_then(|verified| verified.rows)),
        count(verified.map(|verified| verified.checksums)),
    ]
}
