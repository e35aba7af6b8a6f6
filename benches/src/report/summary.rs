//! The first lines of a report in plain words: what was compared, which server was faster and what it used, what failed, and on
//! which machine.
//!
//! One server is called faster only if every round says so.

use std::collections::BTreeSet;

use super::{
    figures::Figures,
    spread::{bytes, grouped, number, percent, seconds},
    targets::{self, Unit, describe},
};
use crate::record::{Ending, Report, Store};

/// The number of images for which the servers are compared, if it was measured: that of the original's test.
const USUAL_IMAGES: u32 = 200;
/// With fewer rounds, a difference may be chance.
const ENOUGH_ROUNDS: usize = 3;

/// The lines, one paragraph each.
pub fn lines(report: &Report, figures: &[Figures]) -> Vec<String> {
    let mut lines = vec![compared(report)];
    if !report.complete {
        lines.push("This report is incomplete: the comparison ended early, and rounds are missing.".to_owned());
    }
    // The sink's figures count only if there are no others.
    if let Some(store) = figures.iter().map(|row| row.store).min() {
        lines.push(servers(figures, store));
        lines.push(failures(figures, store));
    }
    let voids = report.runs.iter().filter(|run| matches!(run.ending, Ending::Void { .. })).count();
    if voids > 0 {
        lines.push(format!(
            "Void rounds, which are in no figure: {voids}. What was found afterwards differs from what the clients saw."
        ));
    }
    lines.extend([machine(report), conditions(report)]);
    for skipped in &report.skipped {
        lines.push(format!(
            "Skipped: {}, because {}.",
            describe(skipped.target).plain,
            skipped.reason.trim_end_matches('.')
        ));
    }
    lines
}

/// The facts of the machine, one on each line: `machine.txt`.
pub fn machine_facts(report: &Report) -> String {
    let machine = &report.machine;
    let mut lines = vec![
        format!("started: {}", report.started_at.to_rfc3339()),
        format!("commit: {}", machine.commit),
        format!("cpu: {}", machine.cpu),
        format!("cpus: {}", machine.cpus),
        format!("memory: {} bytes", grouped(machine.memory_bytes)),
        format!("kernel: {}", machine.kernel),
        format!("limits: {}", targets::limits(machine.limits)),
    ];
    let named = machine.programs.iter().chain(&machine.settings);
    lines.extend(named.map(|(name, value)| format!("{name}: {value}")));
    lines.into_iter().map(|line| line + "\n").collect()
}

fn compared(report: &Report) -> String {
    let ran = |target: &&_| !report.skipped.iter().any(|skipped| skipped.target == **target);
    let names: Vec<&str> = report.workload.targets.iter().filter(ran).map(|target| describe(*target).plain).collect();
    let counts: BTreeSet<u32> = report.workload.bursts.iter().map(|burst| burst.images).collect();
    let counts: Vec<String> = counts.into_iter().map(|images| grouped(images.into())).collect();
    let at_once = if counts.is_empty() { String::new() } else { format!(", {} at once", joined(&counts, "or")) };
    let size = grouped(report.workload.image_bytes);
    let rounds = grouped(report.runs.len() as u64);
    format!("Compared: {}, with images of {size} bytes{at_once}; {rounds} rounds.", listed(&names))
}

/// 200, or else the largest number of images that a target served whole, or the largest.
fn reference_images(figures: &[Figures], store: Store) -> u32 {
    let rows = || figures.iter().filter(|row| row.store == store);
    if rows().any(|row| row.images == USUAL_IMAGES) {
        return USUAL_IMAGES;
    }
    let whole = rows().filter(|row| row.is_whole()).map(|row| row.images).max();
    whole.or(rows().map(|row| row.images).max()).unwrap_or_default()
}

/// Which of the servers that link was faster, and what each of them used.
fn servers(figures: &[Figures], store: Store) -> String {
    let images = reference_images(figures, store);
    let links = |row: &&Figures| describe(row.target).unit == Unit::LinkedImage && row.is_whole();
    let rows = figures.iter().filter(|row| (row.store, row.images) == (store, images)).filter(links);
    let mut rows: Vec<_> = rows.filter_map(|row| Some((describe(row.target).plain, row, row.makespan_s?))).collect();
    rows.sort_by(|(_, _, left), (_, _, right)| left.median.total_cmp(&right.median));
    let at_once = if images == 1 { "1 image".to_owned() } else { format!("{} images at once", grouped(images.into())) };
    let at = format!("{at_once} on {}, until all are linked", targets::store(store));
    let took = rows.iter().map(|(name, row, makespan)| {
        let used = row.server.map(|cost| {
            let (cpu, memory) = (number(cost.cpu_ms_per_image.median), bytes(cost.peak_bytes().most));
            format!(", with {cpu} ms of CPU time for each image and at most {memory} of memory")
        });
        format!("{name} took {} s{}", makespan.text_by(seconds), used.unwrap_or_default())
    });
    let took = took.collect::<Vec<_>>().join("; ");
    let ([(_, _, fast), ..], Some((last, _, slow))) = (&*rows, rows.last()) else {
        return format!("{at}: no server that links served every image.");
    };
    let tied: Vec<&str> =
        rows.iter().filter(|(_, _, makespan)| makespan.least <= fast.most).map(|(name, _, _)| *name).collect();
    let fewest = rows.iter().map(|(_, row, _)| row.finished).min().unwrap_or_default();
    let verdict = match (rows.len(), tied.len()) {
        (1, _) => "No other server that links served every image.".to_owned(),
        (all, tied) if all == tied => "Their rounds overlap, so none is faster.".to_owned(),
        (_, 1) => format!(
            "{} was the fastest; {last} took {} times as long.",
            listed(&tied),
            number(slow.median / fast.median)
        ),
        _ => {
            let times = number(slow.median / fast.median);
            format!("{} were the fastest, and their rounds overlap; {last} took {times} times as long.", listed(&tied))
        }
    };
    let doubt = if fewest < ENOUGH_ROUNDS { " These are too few rounds to be sure." } else { "" };
    format!("{at}: {took}. {verdict}{doubt}")
}

/// The first number of images at which each target failed.
fn failures(figures: &[Figures], store: Store) -> String {
    let first = |target| {
        let row = figures.iter().find(|row| (row.store, row.target) == (store, target) && row.stops())?;
        let images = grouped(row.images.into());
        let reason = match row.unfinished.iter().find(|round| round.how != "void") {
            Some(round) => format!("{} in round {} of {}: {}", round.how, round.round, row.rounds(), round.reason),
            None => {
                let least = row.success_percent.map(|success| percent(success.least)).unwrap_or_default();
                let classes: Vec<&String> = row.failures.keys().collect();
                format!("{least} % succeeded in the worst of {} rounds: {}", row.rounds(), listed(&classes))
            }
        };
        Some(format!("{} at {images} images ({reason})", describe(target).plain))
    };
    let failed: Vec<String> = targets::ALL.into_iter().filter_map(first).collect();
    if failed.is_empty() {
        return "Failures: none; every target served every image that it was sent.".to_owned();
    }
    format!("Failures began with: {}. The other targets served every image that they were sent.", failed.join("; "))
}

fn machine(report: &Report) -> String {
    let machine = &report.machine;
    // Some programs name themselves in their version.
    let named = |(name, version): (&String, &String)| {
        if version.contains(name) { version.clone() } else { format!("{name} {version}") }
    };
    let programs: Vec<String> = machine.programs.iter().map(named).collect();
    format!(
        "Machine: {}, {} CPUs, {} of memory, {}; commit {}, {}; {}.",
        machine.cpu,
        machine.cpus,
        bytes(machine.memory_bytes as f64),
        machine.kernel,
        machine.commit,
        report.started_at.format("%Y-%m-%d %H:%M UTC"),
        listed(&programs),
    )
}

/// The limits of the servers, what else ran on the machine, and what was set.
fn conditions(report: &Report) -> String {
    let shared = if report.runs.iter().any(|run| run.store == Store::Given) {
        "Server and clients shared the machine; the store is the one that S3_ENDPOINT named."
    } else {
        "Server, clients and store shared the machine."
    };
    let mut parts = vec![targets::limits(report.machine.limits).to_owned(), shared.to_owned()];
    let stolen_ms: f64 = report.runs.iter().filter_map(|run| run.stolen_ms).sum();
    let whole_ms: f64 = report.runs.iter().map(|run| run.load.makespan_ms * f64::from(report.machine.cpus)).sum();
    if stolen_ms > 0.0 {
        let share = number(100.0 * stolen_ms / whole_ms);
        parts.push(format!("The hypervisor took {share} % of the CPU time of the rounds for other machines."));
    }
    let settings: Vec<String> = report.machine.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if !settings.is_empty() {
        parts.push(format!("Settings: {}.", listed(&settings)));
    }
    parts.join(" ")
}

/// `a, b and c`.
fn listed(parts: &[impl AsRef<str>]) -> String {
    joined(parts, "and")
}

fn joined(parts: &[impl AsRef<str>], last: &str) -> String {
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    match parts.as_slice() {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}
