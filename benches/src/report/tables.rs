//! The tables of a report as rows of cells. The terminal and the page draw the same tables.

use std::collections::BTreeSet;

use super::{
    crossover,
    figures::{self, Figures, Latency, PerImage, YARDSTICKS},
    spread::{Spread, bytes, grouped, number, percent, rate, seconds, trimmed},
    targets::{self, describe},
};
use crate::record::{Case, Report, Step, Store, Target};

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// What it shows.
    pub title: String,
    /// How to read it.
    pub note: &'static str,
    /// The names of the columns.
    pub head: &'static [&'static str],
    /// One cell for each column.
    pub rows: Vec<Vec<Cell>>,
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Its text; may be empty.
    pub text: String,
    /// How to show it.
    pub kind: Kind,
}

/// How to show a cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// On the left.
    Words,
    /// On the right.
    Figure,
    /// On the right, with a mark: something failed.
    Failed,
}

/// Every table with rows, in reading order.
pub fn all(report: &Report, figures: &[Figures]) -> Vec<Table> {
    let mut tables = vec![legend(report, figures)];
    let stores: BTreeSet<Store> = figures.iter().map(|row| row.store).collect();
    for store in stores {
        let of =
            |case| -> Vec<&Figures> { figures.iter().filter(|row| (row.case, row.store) == (case, store)).collect() };
        let rows = of(Case::Burst);
        tables.extend([times(store, &rows), steps(store, &rows), costs(store, &rows), ratios(store, &rows)]);
        tables.extend([slow(store, &of(Case::Slow)), mixed(store, &of(Case::Mixed))]);
        tables.push(cells(store, &crossover::rows(figures, store)));
    }
    tables.extend([each_image(report), failures(report, figures)]);
    tables.retain(|table| !table.rows.is_empty());
    tables
}

fn words(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), kind: Kind::Words }
}

fn figure(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), kind: Kind::Figure }
}

fn spread(value: Option<Spread>, write: impl Fn(f64) -> String) -> Cell {
    figure(value.map(|value| value.text_by(write)).unwrap_or_default())
}

fn median(value: Option<Spread>) -> Cell {
    figure(value.map(|value| number(value.median)).unwrap_or_default())
}

/// With a mark if it is not all.
fn success(value: Option<Spread>) -> Cell {
    let kind = if value.is_some_and(|success| success.least < 100.0) { Kind::Failed } else { Kind::Figure };
    Cell { text: value.map(|success| success.text_by(percent)).unwrap_or_default(), kind }
}

/// How many rounds finished, with a mark if it is not all.
fn rounds(row: &Figures) -> Cell {
    let (text, kind) = match (row.finished, row.rounds()) {
        (finished, rounds) if finished == rounds => (rounds.to_string(), Kind::Figure),
        (finished, rounds) => (format!("{finished} of {rounds}"), Kind::Failed),
    };
    Cell { text, kind }
}

fn megabytes(value: f64) -> String {
    number(value / 1e6)
}

/// The targets, and what one image of each is.
fn legend(report: &Report, figures: &[Figures]) -> Table {
    let took_part = |target: &Target| {
        report.workload.all_targets().contains(target) || figures.iter().any(|row| row.target == *target)
    };
    let rows = targets::ALL.into_iter().filter(took_part).map(|target| {
        let description = describe(target);
        let skipped = report.skipped.iter().find(|skipped| skipped.target == target);
        let skipped = skipped.map_or_else(String::new, |skipped| format!("skipped: {}", skipped.reason));
        let texts = [description.name, description.plain, description.steps, description.unit.text()];
        texts.into_iter().map(words).chain([words(skipped)]).collect()
    });
    Table {
        title: "Targets".to_owned(),
        note: "Different units are different amounts of work.",
        head: &["target", "in words", "what a client does", "unit", ""],
        rows: rows.collect(),
    }
}

/// Rows that begin with the number of images, where the row above has another one, and the target.
fn rows_by_images(rows: &[&Figures], cells: impl Fn(&Figures) -> Vec<Cell>) -> Vec<Vec<Cell>> {
    let mut above = None;
    let row = |row: &&Figures| {
        let images = if above == Some(row.images) { String::new() } else { grouped(row.images.into()) };
        above = Some(row.images);
        [figure(images), words(targets::name(row.target))].into_iter().chain(cells(row)).collect()
    };
    rows.iter().map(row).collect()
}

fn times(store: Store, rows: &[&Figures]) -> Table {
    let rows = rows_by_images(rows, |row| {
        let latency =
            |of: fn(&Latency) -> f64| figure(row.latency.map(|value| seconds(of(&value))).unwrap_or_default());
        vec![
            success(row.success_percent),
            rounds(row),
            spread(row.makespan_s, seconds),
            median(row.images_per_s),
            latency(|latency| latency.p50_s),
            latency(|latency| latency.p90_s),
            latency(|latency| latency.p99_s),
            latency(|latency| latency.max_s),
        ]
    });
    Table {
        title: format!("Time on {}", targets::store(store)),
        note: "Makespan and images/s are medians of the finished rounds, with their range. The percentiles are over all \
            images of these rounds that succeeded. A failed image has no latency, so read the success rate first.",
        head: &[
            "images",
            "target",
            "success %",
            "rounds",
            "makespan s",
            "images/s",
            "p50 s",
            "p90 s",
            "p99 s",
            "max s",
        ],
        rows,
    }
}

/// Where the time of a linked image goes.
fn steps(store: Store, rows: &[&Figures]) -> Table {
    let with_steps: Vec<&Figures> = rows.iter().filter(|row| !row.steps.is_empty()).copied().collect();
    let rows = rows_by_images(&with_steps, |row| {
        let of = |step: Step, value: fn(&Latency) -> f64| {
            figure(row.steps.get(&step).map(|latency| seconds(value(latency))).unwrap_or_default())
        };
        let both = |step| [of(step, |latency| latency.p50_s), of(step, |latency| latency.p99_s)];
        [Step::Create, Step::Upload, Step::Link].into_iter().flat_map(both).collect()
    });
    Table {
        title: format!("Steps on {}", targets::store(store)),
        note: "The time of each step, from the previous answer; of create, from the release of the image.",
        head: &[
            "images",
            "target",
            "create p50 s",
            "create p99 s",
            "upload p50 s",
            "upload p99 s",
            "link p50 s",
            "link p99 s",
        ],
        rows,
    }
}

fn costs(store: Store, rows: &[&Figures]) -> Table {
    let used = |row: &&&Figures| row.server.is_some() || row.store_cpu_s_per_gb.is_some();
    let used: Vec<&Figures> = rows.iter().filter(used).copied().collect();
    let rows = rows_by_images(&used, |row| {
        let cost = row.server;
        vec![
            spread(cost.map(|cost| cost.cpu_s_per_gb), number),
            median(cost.map(|cost| cost.cpu_ms_per_image)),
            figure(cost.map(|cost| megabytes(cost.peak_rss_bytes.median)).unwrap_or_default()),
            spread(cost.and_then(|cost| cost.peak_cgroup_bytes), megabytes),
            median(row.store_cpu_s_per_gb),
            median(row.clients_cpu_s_per_gb),
        ]
    });
    Table {
        title: format!("Cost on {}", targets::store(store)),
        note: "The server's CPU time (user and system) for each GB (10⁹ bytes) and for each image that succeeded, and its \
            peak memory. The last two columns are the CPU time of the store and of all clients for each GB.",
        head: &["images", "target", "CPU s/GB", "CPU ms/image", "RSS MB", "cgroup MB", "store s/GB", "clients s/GB"],
        rows,
    }
}

fn ratios(store: Store, rows: &[&Figures]) -> Table {
    let compared: Vec<&Figures> = rows.iter().filter(|row| !row.ratios.is_empty()).copied().collect();
    let rows = rows_by_images(&compared, |row| {
        let makespan = YARDSTICKS.map(|against| spread(row.ratio(against).and_then(|ratio| ratio.makespan), number));
        let cpu = [Target::Nginx, Target::NodeV1].map(|against| median(row.ratio(against).and_then(|ratio| ratio.cpu)));
        makespan.into_iter().chain(cpu).collect()
    });
    Table {
        title: format!("Ratios on {}", targets::store(store)),
        note: "Medians over rounds of the same number in which both served every image. direct and nginx only store an \
            object, and node-v1 links nothing: their units are smaller.",
        head: &["images", "target", "time × direct", "time × nginx", "time × node-v1", "CPU × nginx", "CPU × node-v1"],
        rows,
    }
}

/// Rows that begin with the clients, where the row above has others, and the target.
fn rows_by_clients(rows: &[&Figures], cells: impl Fn(&Figures) -> Vec<Cell>) -> Vec<Vec<Cell>> {
    let mut above = String::new();
    let row = |row: &&Figures| {
        let each = row.line.bytes_per_second.map(rate).unwrap_or_default();
        let clients = match row.beside {
            Some(beside) => format!("{} of {each} + {} fast", grouped(beside.slow_images.into()), row.images),
            None => format!("{} of {each}", grouped(row.images.into())),
        };
        let first = if clients == above { String::new() } else { clients.clone() };
        above = clients;
        [figure(first), words(targets::name(row.target))].into_iter().chain(cells(row)).collect()
    };
    rows.iter().map(row).collect()
}

/// The server's CPU time and memory, and the same of the proxy in front of it.
fn used(row: &Figures) -> [Cell; 4] {
    let cpu = |cost: Option<figures::Cost>| median(cost.map(|cost| cost.cpu_ms_per_image));
    let memory =
        |cost: Option<figures::Cost>| figure(cost.map(|cost| megabytes(cost.peak_bytes().most)).unwrap_or_default());
    [cpu(row.server), memory(row.server), cpu(row.proxy), memory(row.proxy)]
}

fn slow(store: Store, rows: &[&Figures]) -> Table {
    let rows = rows_by_clients(rows, |row| {
        let begin = [success(row.success_percent), rounds(row), spread(row.makespan_s, seconds)];
        begin.into_iter().chain([spread(row.times_ideal(), number)]).chain(used(row)).collect()
    });
    Table {
        title: format!("Slow clients on {}", targets::store(store)),
        note: "All clients send at once, each at the same limited rate. The ideal is the time that one line takes for its image.             Memory is the most of all rounds. A proxy that buffers has its own limits; its memory includes cached files.",
        head: &[
            "clients",
            "target",
            "success %",
            "rounds",
            "makespan s",
            "× ideal",
            "CPU ms/image",
            "memory MB",
            "proxy ms/image",
            "proxy MB",
        ],
        rows,
    }
}

fn mixed(store: Store, rows: &[&Figures]) -> Table {
    let rows = rows_by_clients(rows, |row| {
        let of = |value: fn(&figures::BesideFigures) -> Option<Spread>| row.beside.as_ref().and_then(value);
        vec![
            success(of(|beside| beside.slow_success_percent)),
            success(row.success_percent),
            rounds(row),
            spread(of(|beside| beside.alone_p99_s), seconds),
            spread(of(|beside| beside.amid_p99_s), seconds),
            spread(of(|beside| beside.p99_ratio), number),
            spread(row.times_ideal(), number),
            median(row.server.map(|cost| cost.cpu_ms_per_image)),
            figure(row.server.map(|cost| megabytes(cost.peak_bytes().most)).unwrap_or_default()),
        ]
    });
    Table {
        title: format!("Fast clients amid slow ones on {}", targets::store(store)),
        note: "First the fast clients are alone. Then the slow ones begin, and as many fast ones arrive after a quarter of the             ideal time. The p99 are medians over rounds. \"slow %\" and \"fast %\" are the images that succeeded.",
        head: &[
            "clients",
            "target",
            "slow %",
            "fast %",
            "rounds",
            "p99 alone s",
            "p99 amid s",
            "amid / alone",
            "slow × ideal",
            "CPU ms/image",
            "memory MB",
        ],
        rows,
    }
}

/// The crossover, cell by cell.
fn cells(store: Store, rows: &[&Figures]) -> Table {
    let mut above = None;
    let mut first = |row: &Figures| {
        let of_cell = (row.image_bytes, row.line);
        let is_new = above.replace(of_cell) != Some(of_cell);
        let size = bytes(row.image_bytes as f64);
        let rate = row.line.bytes_per_second.map_or_else(|| "no limit".to_owned(), rate);
        [size, rate, format!("{} ms", row.line.rtt_ms)].map(|text| figure(if is_new { text } else { String::new() }))
    };
    let row = |row: &&Figures| -> Vec<Cell> {
        let v1 = crossover::same_cell(rows, row, Target::V1).filter(|_v1| row.target != Target::V1);
        let times = |of: fn(&Figures) -> Option<f64>| {
            let ratio = of(row).zip(v1.and_then(of)).map(|(value, v1)| number(value / v1));
            figure(ratio.unwrap_or_default())
        };
        let latency =
            |of: fn(&Latency) -> f64| figure(row.latency.map(|value| seconds(of(&value))).unwrap_or_default());
        let begin = first(row).into_iter().chain([words(targets::name(row.target)), success(row.success_percent)]);
        let time = [latency(|value| value.p50_s), latency(|value| value.max_s), times(crossover::linked_s)];
        let cpu = [median(row.server.map(|cost| cost.cpu_ms_per_image)), times(crossover::cpu_ms)];
        begin.chain(time).chain(cpu).collect()
    };
    Table {
        title: format!("Crossover on {}", targets::store(store)),
        note: "Images arrive so seldom that they hardly wait for each other. The time is until an image is linked. The delay is             that of a relay without slow start.",
        head: &[
            "image",
            "client's rate",
            "round trip",
            "target",
            "success %",
            "p50 s",
            "max s",
            "time × v1",
            "CPU ms/image",
            "CPU × v1",
        ],
        rows: rows.iter().map(row).collect(),
    }
}

/// What one image sends and what the store bills for it, for each target.
fn each_image(report: &Report) -> Table {
    let size = report.workload.image_bytes;
    let row = |target| {
        let image = figures::per_image(report, target, size)?;
        let of_server = |of: fn(&figures::ServerToStore) -> f64| {
            figure(image.server.as_ref().map(|server| bytes(of(server))).unwrap_or_default())
        };
        Some(vec![
            words(targets::name(target)),
            figure(trimmed(image.requests)),
            words(operations(&image)),
            figure(image.billed().map_or_else(|| "not known".to_owned(), trimmed)),
            figure(bytes(image.to_server)),
            figure(bytes(image.from_server)),
            of_server(|server| server.to_store),
            of_server(|server| server.from_store),
            figure(bytes(image.to_store)),
        ])
    };
    Table {
        title: "Each image".to_owned(),
        note: "Requests and bytes for each image, from rounds in which every image succeeded. Requests to the store are the \
            client's own and the server's, which the null sink counts. Stores bill every request but DELETE.",
        head: &[
            "target",
            "client's requests",
            "requests to the store",
            "billed",
            "client to server",
            "server to client",
            "server to store",
            "store to server",
            "client to store",
        ],
        rows: targets::ALL.into_iter().filter_map(row).collect(),
    }
}

/// `PostObject, CopyObject, GetObject × 2`: the client's own request comes first.
fn operations(image: &PerImage) -> String {
    let client = image.client_write.map(str::to_owned);
    let server = image.server.iter().flat_map(|server| &server.requests);
    let server = server.map(|(operation, count)| match trimmed(*count) {
        once if once == "1" => operation.clone(),
        count => format!("{operation} × {count}"),
    });
    client.into_iter().chain(server).collect::<Vec<_>>().join(", ")
}

/// Every round that is in no median, and every failed image.
fn failures(report: &Report, figures: &[Figures]) -> Table {
    let mut rows = Vec::new();
    for row in figures {
        let mut add = |rounds: String, text: String| {
            let store = format!("{:?}", row.store).to_lowercase();
            let images = match row.case {
                Case::Burst => grouped(row.images.into()),
                case => format!("{} ({})", grouped(row.images.into()), targets::case(case)),
            };
            let begin = [figure(images), words(store), words(targets::name(row.target))];
            rows.push(begin.into_iter().chain([words(rounds), words(text)]).collect());
        };
        for round in &row.unfinished {
            add(format!("round {}", round.round), format!("{}: {}", round.how, round.reason));
        }
        for (class, count) in &row.failures {
            add("finished".to_owned(), format!("{} images failed: {class}", grouped(*count)));
        }
        if row.retries > 0 {
            add("finished".to_owned(), format!("{} requests were repeated", grouped(row.retries)));
        }
    }
    Table {
        title: "What failed".to_owned(),
        note: if report.workload.retry { "Clients followed Retry-After." } else { "Clients did not try again." },
        head: &["images", "store", "target", "rounds", "what happened"],
        rows,
    }
}
