//! The table of requests and bytes on each way.

use comfy_table::{Cell, CellAlignment, Table, presets};
use upload_sandbox::relay::Passed;

use crate::{
    machine::{ServerName, Traffic},
    trips::{Report, Route, Trip},
};

const FIGURES_FROM: usize = 3;
const FIGURES_TO: usize = 7;

/// The whole table, with its explanation.
pub(crate) fn of(report: &Report) -> String {
    let mut table = Table::new();
    table.load_style(presets::UTF8_FULL_CONDENSED);
    table.set_header([
        "file, bytes",
        "uploaded",
        "linked,\nread",
        "requests to\nserver, store",
        "bytes\nclient-server",
        "bytes\nserver-store",
        "bytes\nclient-store",
        "ms",
        "came\nback",
    ]);
    for trip in &report.trips {
        table.add_row(row(trip));
    }
    let same = report.trips.len() - report.different();
    let mut last = vec![Cell::new("all of them"), Cell::new("read back"), Cell::new("")];
    last.extend(figures(&report.read, report.read_time.as_millis()));
    last.push(Cell::new(format!("{same} of {}", report.trips.len())));
    table.add_row(last);
    for column in FIGURES_FROM..=FIGURES_TO {
        if let Some(column) = table.column_mut(column) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    format!("{table}\n{}", NOTE.trim_end())
}

const NOTE: &str = "
Each row except the last one counts from the client's first request until the image is linked. The
requests are those of the client. Relays count the bytes on each way, in both directions and with
HTTP heads. The time includes the relays.
";

fn row(trip: &Trip) -> Vec<Cell> {
    let uploaded = match trip.route {
        Route::Stream => "V1, one request",
        Route::Form(ServerName::V1) => "V1, form",
        Route::Form(ServerName::V2) => "V2, form",
    };
    let mut row = vec![
        Cell::new(format!("{}, {}", trip.file, grouped(trip.file_bytes as u64))),
        Cell::new(uploaded),
        Cell::new(trip.linked_at.as_str()),
    ];
    row.extend(figures(&trip.traffic, trip.time.as_millis()));
    row.push(Cell::new(if trip.same { "same" } else { "DIFFERENT" }));
    row
}

fn figures(traffic: &Traffic, milliseconds: u128) -> [Cell; 5] {
    let requests = |passed: Option<Passed>| known(passed.map(|passed| passed.requests));
    let bytes = |passed: Option<Passed>| Cell::new(known(passed.map(Passed::bytes)));
    [
        Cell::new(format!("{}, {}", requests(Some(traffic.client_server)), requests(traffic.client_store))),
        bytes(Some(traffic.client_server)),
        bytes(traffic.server_store),
        bytes(traffic.client_store),
        Cell::new(milliseconds),
    ]
}

fn known(figure: Option<u64>) -> String {
    figure.map_or_else(|| "not counted".to_owned(), grouped)
}

/// With a comma at every third digit.
fn grouped(figure: u64) -> String {
    let digits = figure.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::grouped;

    #[test]
    fn figures_are_grouped_by_three_digits() {
        let grouped_ones = [0, 12, 999, 1_000, 12_345, 5_000_000].map(grouped);
        assert_eq!(grouped_ones, ["0", "12", "999", "1,000", "12,345", "5,000,000"]);
    }
}
