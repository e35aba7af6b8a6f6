//! A report in words: five short sentences at its beginning, and how it was measured at its end.
//!
//! One server is called faster only if every round says so.

use std::collections::BTreeSet;

use super::{
    crossover,
    figures::Figures,
    spread::{bytes, grouped, number, percent, rate, seconds},
    targets::{self, Unit, describe},
};
use crate::record::{Case, Ending, Report, Store, Target};

/// The number of images for which the servers are compared, if it was measured: that of the original's test.
const USUAL_IMAGES: u32 = 200;
/// With fewer rounds, a difference may be chance.
const ENOUGH_ROUNDS: usize = 3;
/// A smaller difference of two cells of the crossover decides nothing.
const TELLING: f64 = 1.05;

/// The opening, one sentence each: what was sent and how long it took, who was fastest, what it cost, how slow clients fared, and what
/// failed. Warnings follow.
pub fn opening(report: &Report, figures: &[Figures]) -> Vec<String> {
    // The sink's figures count only if there are no others.
    let store = figures.iter().map(|row| row.store).min();
    let mut lines = match store {
        Some(store) if figures.iter().any(|row| (row.case, row.store) == (Case::Burst, store)) => {
            bursts(figures, store)
        }
        Some(store) => cells(figures, store),
        None => vec!["No round has finished yet.".to_owned()],
    };
    if let Some(store) = store {
        lines.extend([slow(figures, store), failures(figures, store)].into_iter().flatten());
    }
    if !report.complete {
        lines.push("This report is incomplete: the comparison ended early, and rounds are missing.".to_owned());
    }
    let voids = report.runs.iter().filter(|run| matches!(run.ending, Ending::Void { .. })).count();
    if voids > 0 {
        lines.push(format!(
            "Void rounds, which are in no figure: {voids}. What was found afterwards differs from what the clients saw."
        ));
    }
    lines
}

/// How it was measured: the plan, the machine, its limits and settings, and what was left out.
pub fn notes(report: &Report) -> Vec<String> {
    let mut lines = vec![compared(report), machine(report), conditions(report)];
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
    let targets = report.workload.all_targets();
    let names: Vec<&str> = targets.iter().filter(ran).map(|target| describe(*target).plain).collect();
    let sizes: BTreeSet<u64> = report.workload.groups().iter().map(|group| group.image_bytes).collect();
    let sizes: Vec<String> = sizes.into_iter().map(grouped).collect();
    let rounds = grouped(report.runs.len() as u64);
    format!("Compared: {}, with images of {} bytes; {rounds} rounds.", listed(&names), joined(&sizes, "or"))
}

/// 200, or else the largest number of images that a target served whole, or the largest.
fn reference_images(figures: &[Figures], store: Store) -> u32 {
    let rows = || figures.iter().filter(|row| (row.case, row.store) == (Case::Burst, store));
    if rows().any(|row| row.images == USUAL_IMAGES) {
        return USUAL_IMAGES;
    }
    let whole = rows().filter(|row| row.is_whole()).map(|row| row.images).max();
    whole.or(rows().map(|row| row.images).max()).unwrap_or_default()
}

/// How long the servers that link took for a burst, which of them was fastest, and what they used.
fn bursts(figures: &[Figures], store: Store) -> Vec<String> {
    let images = reference_images(figures, store);
    let links = |row: &&Figures| describe(row.target).unit == Unit::LinkedImage && row.is_whole();
    let rows =
        figures.iter().filter(|row| (row.case, row.store, row.images) == (Case::Burst, store, images)).filter(links);
    let mut rows: Vec<_> = rows.filter_map(|row| Some((describe(row.target).plain, row, row.makespan_s?))).collect();
    rows.sort_by(|(_, _, left), (_, _, right)| left.median.total_cmp(&right.median));
    let ([(_, first, fast), ..], Some((last, _, slow))) = (&*rows, rows.last()) else {
        let store = targets::store(store);
        return vec![format!(
            "No server that links served all of {} images at once on {store}.",
            grouped(images.into())
        )];
    };
    let size = bytes(first.image_bytes as f64);
    let sent = match images {
        1 => format!("One image of {size}"),
        images => format!("{} images of {size} at once", grouped(images.into())),
    };
    let took = rows.iter().map(|(name, _, makespan)| format!("in {} s with {name}", seconds(makespan.median)));
    let were = if images == 1 { "was" } else { "were" };
    let took = format!("{sent} {were} linked {}, on {}.", listed(&took.collect::<Vec<_>>()), targets::store(store));
    let tied: Vec<&str> =
        rows.iter().filter(|(_, _, makespan)| makespan.least <= fast.most).map(|(name, _, _)| *name).collect();
    let times = number(slow.median / fast.median);
    let verdict = match (rows.len(), tied.len()) {
        (1, _) => "No other server that links served every image".to_owned(),
        (all, tied) if all == tied => "Their rounds overlap, so none is faster".to_owned(),
        (_, 1) => format!("{} was the fastest; {last} took {times} times as long", listed(&tied)),
        _ => format!("{} were the fastest, and {last} took {times} times as long", listed(&tied)),
    };
    let fewest = rows.iter().map(|(_, row, _)| row.finished).min().unwrap_or_default();
    let doubt = if fewest < ENOUGH_ROUNDS && tied.len() < rows.len() { " (too few rounds to be sure)" } else { "" };
    let used = rows
        .iter()
        .filter_map(|(name, row, _)| Some(format!("{} ms with {name}", number(row.server?.cpu_ms_per_image.median))));
    let used = listed(&used.collect::<Vec<_>>());
    vec![took, format!("{verdict}{doubt}."), format!("The server's CPU time for each of them was {used}.")]
}

/// In how many cells of the crossover each server was better.
fn cells(figures: &[Figures], store: Store) -> Vec<String> {
    let rows = crossover::rows(figures, store);
    let others = targets::ALL.into_iter().filter(|target| *target != Target::V1);
    let mut lines = Vec::new();
    for target in others.filter(|target| rows.iter().any(|row| row.target == *target)) {
        let count = |of: fn(&Figures) -> Option<f64>| {
            let of_target = rows.iter().filter(|row| row.target == target);
            let ratios =
                of_target.filter_map(|row| Some(of(row)? / of(crossover::same_cell(&rows, row, Target::V1)?)?));
            let ratios: Vec<f64> = ratios.collect();
            let v1 = ratios.iter().filter(|ratio| **ratio > TELLING).count();
            let other = ratios.iter().filter(|ratio| **ratio < 1.0 / TELLING).count();
            (ratios.len(), v1, other)
        };
        let name = describe(target).plain;
        let (all, v1, other) = count(crossover::linked_s);
        lines.push(format!(
            "Of {all} kinds of image and line, V1 linked an image sooner in {v1} and {name} in {other}; the others differ by \
             less than 5 %."
        ));
        let (_all, v1, other) = count(crossover::cpu_ms);
        lines.push(format!("V1's server used less CPU time in {v1} of them, and that of {name} in {other}."));
    }
    lines
}

/// How the servers that link fared with the most slow clients. `None` if there were none.
fn slow(figures: &[Figures], store: Store) -> Option<String> {
    let rows = || figures.iter().filter(|row| (row.case, row.store) == (Case::Slow, store));
    let images = rows().map(|row| row.images).max()?;
    let rows = rows().filter(|row| row.images == images && describe(row.target).unit == Unit::LinkedImage);
    let fared = rows.map(|row| {
        let name = describe(row.target).plain;
        let success = row.success_percent.map_or(0.0, |success| success.least);
        match row.times_ideal() {
            Some(times) if row.is_whole() => format!("{name} took {} times the ideal time", number(times.median)),
            _ => format!("{name} served {} % of the images", percent(success)),
        }
    });
    let fared: Vec<String> = fared.collect();
    let each = figures.iter().find(|row| (row.case, row.images) == (Case::Slow, images))?;
    let each = rate(each.line.bytes_per_second?);
    (!fared.is_empty()).then(|| format!("With {} clients of {each} each, {}.", grouped(images.into()), listed(&fared)))
}

/// Where targets began to fail. `None` without a round.
fn failures(figures: &[Figures], store: Store) -> Option<String> {
    let of_store = || figures.iter().filter(|row| row.store == store);
    of_store().next()?;
    let first = |target| {
        let row = of_store().find(|row| row.target == target && row.stops())?;
        let clients = match row.case {
            Case::Burst | Case::Crossover => "images",
            Case::Slow => "slow clients",
            Case::Mixed => "fast clients amid slow ones",
        };
        Some(format!("{} at {} {clients}", describe(target).plain, grouped(row.images.into())))
    };
    let failed: Vec<String> = targets::ALL.into_iter().filter_map(first).collect();
    Some(match failed.as_slice() {
        [] => "Every target served every image that it was sent.".to_owned(),
        failed => format!("Images failed with {}: see \"What failed\".", listed(failed)),
    })
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
