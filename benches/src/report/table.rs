//! Tables on a terminal, 120 columns wide at most and without colours, so that they can be pasted into a message.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, Table, TableStyle};

use super::grid::{Cell, Grid, Kind};

/// The widest line.
const COLUMNS: u16 = 120;

/// A line under the names of the columns and one at the end: rows are many, and need none between them.
const RULES: TableStyle = TableStyle::new().header_separator(RULE).bottom_border(RULE);
const RULE: LineStyle = LineStyle::none().fill('─').junction('─');

/// Stands before what failed.
const MARK: &str = "✗ ";

/// Draws a table under its title.
pub fn draw(grid: &Grid) -> String {
    let mut table = Table::new();
    table.load_style(RULES);
    table.set_content_arrangement(ContentArrangement::Dynamic).set_width(COLUMNS);
    table.set_header(&grid.head);
    table.add_rows(grid.rows.iter().map(|row| row.iter().map(cell)));
    let note = if grid.note.is_empty() { String::new() } else { wrapped(&grid.note) };
    format!("{}\n{note}{}\n", grid.title, table.trim_fmt())
}

fn cell(cell: &Cell) -> comfy_table::Cell {
    let text = match cell.kind {
        Kind::Failed => format!("{MARK}{}", cell.text),
        Kind::Words | Kind::Figure => cell.text.clone(),
    };
    let alignment = if cell.kind == Kind::Words { CellAlignment::Left } else { CellAlignment::Right };
    comfy_table::Cell::new(text).set_alignment(alignment)
}

/// The text in lines of at most [`COLUMNS`] characters, each ended.
pub fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.chars().count() + 1 + word.chars().count() <= usize::from(COLUMNS) => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.into_iter().map(|line| line + "\n").collect()
}
