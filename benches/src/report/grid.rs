//! The tables of a report as rows of cells, which a terminal and a page draw each in their own way, so that both say
//! the same.

use std::collections::BTreeSet;

use super::{
    figures::{self, Figures, YARDSTICKS},
    spread::{Spread, bytes, grouped, number, percent, seconds, trimmed},
    targets::{self, Unit, describe},
};
use crate::record::{Report, Step, Store, Target};

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grid {
    /// What it shows.
    pub title: String,
    /// What to know before reading it; may be empty.
    pub note: String,
    /// The columns' names.
    pub head: Vec<String>,
    /// As many cells each as there are columns.
    pub rows: Vec<Vec<Cell>>,
}

/// One cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// What it says; empty where there is nothing to say.
    pub text: String,
    /// How it is shown.
    pub kind: Kind,
}

/// How a cell is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Left-aligned.
    Words,
    /// Right-aligned.
    Figure,
    /// Right-aligned, and marked: something failed.
    Failed,
}

/// Every table of the report, in reading order. Tables without rows are left out.
pub fn all(report: &Report, figures: &[Figures]) -> Vec<Grid> {
    let mut grids = vec![legend(report, figures)];
    let stores: BTreeSet<Store> = figures.iter().map(|row| row.store).collect();
    for store in stores {
        let rows: Vec<&Figures> = figures.iter().filter(|row| row.store == store).collect();
        grids.extend([makespans(store, &rows), times(store, &rows), steps(store, &rows)]);
        grids.extend([costs(store, &rows), ratios(store, &rows)]);
    }
    grids.extend([requests(figures), traffic(figures), failures(report, figures)]);
    grids.retain(|grid| !grid.rows.is_empty());
    grids
}

fn grid(title: impl Into<String>, note: &str, head: &[&str], rows: Vec<Vec<Cell>>) -> Grid {
    let head = head.iter().map(|&name| name.to_owned()).collect();
    Grid { title: title.into(), note: note.to_owned(), head, rows }
}

fn words(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), kind: Kind::Words }
}

fn figure(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), kind: Kind::Figure }
}

fn spread(value: Option<Spread>) -> Cell {
    figure(value.map(|value| value.text()).unwrap_or_default())
}

fn median(value: Option<Spread>, write: impl Fn(f64) -> String) -> Cell {
    figure(value.map(|value| write(value.median)).unwrap_or_default())
}

fn megabytes(value: f64) -> String {
    number(value / 1e6)
}

/// Who took part, and what one image of each amounts to.
fn legend(report: &Report, figures: &[Figures]) -> Grid {
    let took_part =
        |target: &Target| report.workload.targets.contains(target) || figures.iter().any(|row| row.target == *target);
    let rows = targets::ALL.into_iter().filter(took_part).map(|target| {
        let description = describe(target);
        let skipped = report.skipped.iter().find(|skipped| skipped.target == target);
        let ran = skipped.map_or_else(String::new, |skipped| format!("skipped: {}", skipped.reason));
        let names = [description.name, description.plain, description.steps, description.unit.text()];
        names.into_iter().map(words).chain([words(ran)]).collect()
    });
    let head = ["target", "in words", "what a client does", "unit", ""];
    grid("Targets", "Different units are different amounts of work.", &head, rows.collect())
}

/// The makespan of each target against the number of images, beside what was published.
fn makespans(store: Store, rows: &[&Figures]) -> Grid {
    let counts: BTreeSet<u32> = rows.iter().map(|row| row.images).collect();
    let mut head: Vec<String> = vec!["images at once".to_owned()];
    head.extend(counts.iter().map(u32::to_string));
    let has_published = store != Store::Sink;
    if has_published {
        head.push("published elsewhere, another machine".to_owned());
    }
    let body = targets::ALL.into_iter().filter(|target| rows.iter().any(|row| row.target == *target)).map(|target| {
        let cell = |images: &u32| {
            rows.iter()
                .find(|row| (row.target, row.images) == (target, *images))
                .map_or_else(|| figure(""), |row| short(row))
        };
        let published = targets::PUBLISHED.iter().filter(|published| published.target == target);
        let published: Vec<_> =
            published.map(|published| format!("{}: {}", published.images, published.text)).collect();
        let published = has_published.then(|| words(published.join(", ")));
        [words(targets::name(target))].into_iter().chain(counts.iter().map(cell)).chain(published).collect()
    });
    let note = "Median of the finished rounds. Where not every image succeeded, the share of the worst round stands \
        beside it.";
    let title = format!("Makespan in seconds on {}", targets::store(store));
    Grid { title, note: note.to_owned(), head, rows: body.collect() }
}

/// `2.05`, `2.05 at 96 %`, `hung`, `4.1, 1 of 3 hung`.
fn short(row: &Figures) -> Cell {
    let mut parts = Vec::new();
    if let (Some(makespan), Some(success)) = (row.makespan_s, row.success_percent) {
        let share = if success.least < 100.0 { format!(" at {} %", percent(success.least)) } else { String::new() };
        parts.push(format!("{}{share}", seconds(makespan.median)));
    }
    let rounds = row.finished + row.unfinished.len();
    for how in row.unfinished.iter().map(|round| round.how).collect::<BTreeSet<_>>() {
        let count = row.unfinished.iter().filter(|round| round.how == how).count();
        parts.push(if count == rounds { how.to_owned() } else { format!("{count} of {rounds} {how}") });
    }
    let kind = if row.stops() || !row.unfinished.is_empty() { Kind::Failed } else { Kind::Figure };
    Cell { text: parts.join(", "), kind }
}

/// The first cells of a row: the images, where they are not those of the row above, and the target.
fn rows_by_images<'a>(
    rows: impl IntoIterator<Item = &'a &'a Figures>,
    cells: impl Fn(&Figures) -> Vec<Cell>,
) -> Vec<Vec<Cell>> {
    let mut above = None;
    let row = |row: &&Figures| {
        let images = if above == Some(row.images) { String::new() } else { grouped(row.images.into()) };
        above = Some(row.images);
        [figure(images), words(targets::name(row.target))].into_iter().chain(cells(row)).collect()
    };
    rows.into_iter().map(row).collect()
}

fn times(store: Store, rows: &[&Figures]) -> Grid {
    let body = rows_by_images(rows, |row| {
        let rounds = row.finished + row.unfinished.len();
        let failed = |fails: bool| if fails { Kind::Failed } else { Kind::Figure };
        let finished =
            if row.finished == rounds { rounds.to_string() } else { format!("{} of {rounds}", row.finished) };
        let latency = |of: fn(&figures::Latency) -> f64| {
            figure(row.latency.as_ref().map(|latency| seconds(of(latency))).unwrap_or_default())
        };
        let success = row.success_percent.map(|success| success.text_by(percent)).unwrap_or_default();
        vec![
            Cell { text: success, kind: failed(row.success_percent.is_some_and(|success| success.least < 100.0)) },
            Cell { text: finished, kind: failed(!row.unfinished.is_empty()) },
            figure(row.makespan_s.map(|makespan| makespan.text_by(seconds)).unwrap_or_default()),
            median(row.images_per_s, number),
            median(row.megabytes_per_s, number),
            latency(|latency| latency.p50_s),
            latency(|latency| latency.p90_s),
            latency(|latency| latency.p99_s),
            latency(|latency| latency.max_s),
        ]
    });
    let head = [
        "images",
        "target",
        "success %",
        "rounds",
        "makespan s",
        "images/s",
        "MB/s",
        "p50 s",
        "p90 s",
        "p99 s",
        "max s",
    ];
    let note = "Medians of the finished rounds with their range; percentiles of all their images together, from when \
        each was due. Failed images have no latency: read it with the success beside it.";
    grid(format!("Time on {}", targets::store(store)), note, &head, body)
}

/// Where the time of a linked image goes.
fn steps(store: Store, rows: &[&Figures]) -> Grid {
    let with_steps: Vec<&Figures> = rows.iter().filter(|row| !row.steps.is_empty()).copied().collect();
    let body = rows_by_images(&with_steps, |row| {
        let of = |step: Step, value: fn(&figures::Latency) -> f64| {
            figure(row.steps.get(&step).map(|latency| seconds(value(latency))).unwrap_or_default())
        };
        let both = |step| [of(step, |latency| latency.p50_s), of(step, |latency| latency.p99_s)];
        [Step::Create, Step::Upload, Step::Link].into_iter().flat_map(both).collect()
    });
    let head = [
        "images",
        "target",
        "create p50 s",
        "create p99 s",
        "upload p50 s",
        "upload p99 s",
        "link p50 s",
        "link p99 s",
    ];
    let note = "Each step of the successes of all finished rounds together, from the answer before it; create from when \
        the image was due.";
    grid(format!("Steps on {}", targets::store(store)), note, &head, body)
}

fn costs(store: Store, rows: &[&Figures]) -> Grid {
    let used = |row: &&&Figures| row.server.is_some() || row.store_cpu_s_per_gb.is_some();
    let used: Vec<&Figures> = rows.iter().filter(used).copied().collect();
    let body = rows_by_images(&used, |row| {
        let cost = row.server.as_ref();
        vec![
            median(cost.map(|cost| cost.user_s_per_gb), number),
            median(cost.map(|cost| cost.system_s_per_gb), number),
            spread(cost.map(|cost| cost.cpu_s_per_gb)),
            median(cost.map(|cost| cost.cpu_ms_per_image), number),
            median(cost.map(|cost| cost.peak_rss_bytes), megabytes),
            figure(
                cost.and_then(|cost| cost.peak_cgroup_bytes).map(|peak| peak.text_by(megabytes)).unwrap_or_default(),
            ),
            median(row.store_cpu_s_per_gb, number),
            median(row.clients_cpu_s_per_gb, number),
        ]
    });
    let head =
        ["images", "target", "user", "system", "CPU s/GB", "ms/image", "RSS MB", "cgroup MB", "store", "clients"];
    let note = "CPU time of the server: user, system and both in seconds for each GB (10⁹ bytes) of images that succeeded, \
        and in ms for each image. Its peak memory in 10⁶ bytes. Last, the seconds of CPU time of the store and of all clients for each GB.";
    grid(format!("Cost on {}", targets::store(store)), note, &head, body)
}

fn ratios(store: Store, rows: &[&Figures]) -> Grid {
    let compared: Vec<&Figures> = rows.iter().filter(|row| !row.against.is_empty()).copied().collect();
    let body = rows_by_images(&compared, |row| {
        let makespan = YARDSTICKS.map(|against| spread(row.ratio(against).and_then(|ratio| ratio.makespan)));
        let cpu = [Target::Nginx, Target::NodeV1]
            .map(|against| median(row.ratio(against).and_then(|ratio| ratio.cpu), number));
        makespan.into_iter().chain(cpu).collect()
    });
    let head = ["images", "target", "time × direct", "time × nginx", "time × node-v1", "CPU × nginx", "CPU × node-v1"];
    let note = "Ratios of rounds with the same number in which both served every image; medians, and of times the range. \
        direct and nginx store an object and node-v1 links nothing: their units are smaller.";
    grid(format!("Ratios on {}", targets::store(store)), note, &head, body)
}

/// The row that stands for a target where the number of images does not matter: the largest that was whole, on a real
/// store rather than on the sink.
fn representative(figures: &[Figures], target: Target) -> Option<&Figures> {
    let whole = figures.iter().filter(|row| row.target == target && row.is_whole() && row.clients.is_some());
    whole.min_by_key(|row| (row.store == Store::Sink, u32::MAX - row.images))
}

fn requests(figures: &[Figures]) -> Grid {
    let rows = targets::ALL.into_iter().filter_map(|target| {
        let row = representative(figures, target)?;
        let (description, clients) = (describe(target), row.clients.as_ref()?);
        let server: Vec<(String, f64)> = row.server_to_store.iter().flat_map(|sum| sum.requests.clone()).collect();
        let client_writes = if description.client_write.is_some() { 1.0 } else { 0.0 };
        let billed = server.iter().filter(|(operation, _count)| targets::is_billed(operation));
        let billed = client_writes + billed.map(|(_operation, count)| count).sum::<f64>();
        let known = row.server_to_store.is_some() || description.unit == Unit::StoredObject;
        let server: Vec<String> =
            server.into_iter().map(|(operation, count)| format!("{operation} {}", trimmed(count))).collect();
        let billed = if known { trimmed(billed) } else { "no sink run".to_owned() };
        Some(vec![
            words(description.name),
            words(description.unit.text()),
            figure(trimmed(clients.requests.median)),
            words(description.client_write.unwrap_or_default()),
            words(server.join(", ")),
            figure(billed),
        ])
    });
    let head =
        ["target", "unit", "clients' requests", "of them to the store", "server's requests to the store", "billed"];
    let note = "For each image that succeeded. What a server asks of the store is counted by the null sink, because \
        it is a property of the design and not of the store. Stores bill all of them but DELETE.";
    grid("Requests for each image", note, &head, rows.collect())
}

fn traffic(figures: &[Figures]) -> Grid {
    let rows = targets::ALL.into_iter().filter_map(|target| {
        let row = representative(figures, target)?;
        let (clients, server) = (row.clients.as_ref()?, row.server_to_store.as_ref());
        let sum = |server: &figures::ServerToStore| {
            let client = clients.bytes_to_server.median + clients.bytes_from_server.median;
            client + server.bytes_to_store + server.bytes_from_store
        };
        let of_server =
            |of: &dyn Fn(&figures::ServerToStore) -> f64| figure(server.map(|sum| bytes(of(sum))).unwrap_or_default());
        Some(vec![
            words(targets::name(target)),
            figure(bytes(clients.bytes_to_server.median)),
            figure(bytes(clients.bytes_from_server.median)),
            of_server(&|server| server.bytes_to_store),
            of_server(&|server| server.bytes_from_store),
            of_server(&sum),
            figure(bytes(clients.bytes_to_store.median)),
        ])
    });
    let head = [
        "target",
        "client to server",
        "server to client",
        "server to store",
        "store to server",
        "through the server in all",
        "client to store",
    ];
    let note = "For each image that succeeded, heads included. The server's traffic with the store comes from the \
        runs on the null sink.";
    grid("Bytes for each image", note, &head, rows.collect())
}

/// Everything that is in no median or less than whole, in words.
fn failures(report: &Report, figures: &[Figures]) -> Grid {
    let mut rows = Vec::new();
    for row in figures {
        let begin = |round: String| {
            let store = format!("{:?}", row.store).to_lowercase();
            vec![figure(grouped(row.images.into())), words(store), words(targets::name(row.target)), words(round)]
        };
        for round in &row.unfinished {
            let text = format!("{}: {}", round.how, round.reason);
            rows.push([begin(format!("round {}", round.round)), vec![words(text)]].concat());
        }
        let classes: Vec<String> =
            row.failures.iter().map(|(class, count)| format!("{class}: {}", grouped(*count))).collect();
        if !classes.is_empty() {
            rows.push(
                [begin("finished".to_owned()), vec![words(format!("failed images: {}", classes.join(", ")))]].concat(),
            );
        }
        if row.retries > 0 {
            let text = format!("{} requests were sent again, as Retry-After had asked", grouped(row.retries));
            rows.push([begin("finished".to_owned()), vec![words(text)]].concat());
        }
    }
    let note = if report.workload.retry { "Clients followed Retry-After." } else { "Clients did not try again." };
    grid("What failed", note, &["images", "store", "target", "rounds", "what happened"], rows)
}
