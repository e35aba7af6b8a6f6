//! Tables on a terminal: at most 120 columns and no colours, so that you can paste them into a message.

use comfy_table::{CellAlignment, ContentArrangement, LineStyle, TableStyle};

use super::tables::{Cell, Kind, Table};

/// The widest line.
const COLUMNS: u16 = 120;
/// One rule below the names of the columns, and one at the end.
const RULES: TableStyle = TableStyle::new().header_separator(RULE).bottom_border(RULE);
const RULE: LineStyle = LineStyle::none().fill('─').junction('─');

/// Draws a table below its title.
pub(super) fn draw(table: &Table) -> String {
    let mut drawn = comfy_table::Table::new();
    drawn.load_style(RULES);
    drawn.set_content_arrangement(ContentArrangement::Dynamic).set_width(COLUMNS);
    drawn.set_header(table.head);
    drawn.add_rows(table.rows.iter().map(|row| row.iter().map(cell)));
    format!("{}\n{}{}\n", table.title, wrapped(table.note), drawn.trim_fmt())
}

fn cell(cell: &Cell) -> comfy_table::Cell {
    let text = if cell.kind == Kind::Failed { format!("✗ {}", cell.text) } else { cell.text.clone() };
    let alignment = if cell.kind == Kind::Words { CellAlignment::Left } else { CellAlignment::Right };
    comfy_table::Cell::new(text).set_alignment(alignment)
}

/// The text in lines of at most [`COLUMNS`] characters.
pub(super) fn wrapped(text: &str) -> String {
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
