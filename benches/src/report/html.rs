//! `report.html`: one page that needs no other file, no script and no network.

use super::{
    crossover::{self, HeatMap},
    figures::Figures,
    plots::{self, Plot},
    summary,
    tables::{self, Cell, Kind, Table},
    targets,
};
use crate::record::Report;

const STYLE: &str = include_str!("page.css");

/// The page.
pub(super) fn page(report: &Report, figures: &[Figures]) -> String {
    let opening: String =
        summary::opening(report, figures).iter().map(|line| format!("<p>{}</p>\n", escape(line))).collect();
    let notes: String = summary::notes(report).iter().map(|line| note(line)).collect();
    let maps: String = crossover::heat_maps(figures).iter().map(heat_map).collect();
    let plots: String = plots::all(report, figures).iter().map(plot).collect();
    let tables: String = tables::all(report, figures).iter().map(table).collect();
    let when = report.started_at.format("%Y-%m-%d %H:%M UTC");
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Image uploads compared, {when}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
         <h1>Image uploads compared</h1>\n<p class=\"note\">{when}, commit {commit}</p>\n\
         <div class=\"summary\">\n{opening}</div>\n{maps}{plots}{tables}<h2>How it was measured</h2>\n{notes}\
         <p class=\"note\">{published}</p>\n</body>\n</html>\n",
        commit = escape(&report.machine.commit),
        published = escape(targets::PUBLISHED),
    )
}

/// Text between tags and in attributes.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn note(line: &str) -> String {
    format!("<p class=\"note\">{}</p>\n", escape(line))
}

fn plot(plot: &Plot) -> String {
    let keys = plot.lines.iter().map(|line| {
        let stroke = line.style.stroke();
        let sample = format!("<svg viewBox=\"0 0 34 14\" aria-hidden=\"true\"><path d=\"M0 7 H34\"{stroke}/></svg>");
        format!("<li>{sample}{}</li>\n", escape(&line.name))
    });
    let keys = format!("<ul class=\"keys\">\n{}</ul>\n", keys.collect::<String>());
    figure(&plot.title, &keys, &plot.svg(), plot.caption)
}

fn heat_map(map: &HeatMap) -> String {
    figure(&map.title, "", &map.svg, map.caption)
}

fn figure(title: &str, keys: &str, svg: &str, caption: &str) -> String {
    format!(
        "<figure>\n<h2>{title}</h2>\n{keys}<div role=\"img\" aria-label=\"{title}\">\n{svg}</div>\n\
         <figcaption>{caption}</figcaption>\n</figure>\n",
        title = escape(title),
        caption = escape(caption),
    )
}

fn table(table: &Table) -> String {
    let name = |(column, name): (usize, &&str)| {
        // The name is on the same side as the column's cells.
        let is_figure = table.rows.iter().any(|row| row.get(column).is_some_and(|cell| cell.kind == Kind::Figure));
        format!("<th class=\"{}\">{}</th>", if is_figure { "figure" } else { "words" }, escape(name))
    };
    let head: String = table.head.iter().enumerate().map(name).collect();
    let rows: String = table.rows.iter().map(|row| table_row(row)).collect();
    format!(
        "<h2>{}</h2>\n<p class=\"note\">{}</p>\n<div class=\"wide\">\n<table>\n\
         <thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody>\n</table>\n</div>\n",
        escape(&table.title),
        escape(table.note),
    )
}

fn table_row(row: &[Cell]) -> String {
    // The first row of each number of images begins a group; the others leave that cell empty.
    let begins = row.first().is_some_and(|cell| cell.kind == Kind::Figure && !cell.text.is_empty());
    let cells = row.iter().map(|cell| {
        let class = match cell.kind {
            Kind::Words => "words",
            Kind::Figure => "figure",
            Kind::Failed => "figure failed",
        };
        format!("<td class=\"{class}\">{}</td>", escape(&cell.text))
    });
    format!("<tr{}>{}</tr>\n", if begins { " class=\"group\"" } else { "" }, cells.collect::<String>())
}
