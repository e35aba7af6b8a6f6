//! The first lines of a report, in plain words: what was compared, which won and by how much, where each target stops,
//! on what machine, and what the report does not have.
//!
//! "Faster" is said only where every round says it; where rounds disagree, the words say that.

use std::collections::BTreeSet;

use super::{
    figures::{self, Figures, VOID, YARDSTICKS},
    spread::{Spread, bytes, grouped, number, percent, seconds},
    targets::{self, Unit, describe},
};
use crate::record::{Ending, Report, Run, Store, Target};

/// The number of images at which the targets are compared in words, if it was measured: that of the original's test.
const USUAL_IMAGES: u32 = 200;

/// Rounds below which a difference may be chance.
const ENOUGH_ROUNDS: usize = 3;

/// The lines, one paragraph each.
pub fn lead(report: &Report, figures: &[Figures]) -> Vec<String> {
    let mut lines = vec![compared(report)];
    if !report.complete {
        lines.push(
            "This report is incomplete: the comparison ended early, and rounds that were asked for are missing."
                .to_owned(),
        );
    }
    let stores: BTreeSet<Store> = figures.iter().map(|row| row.store).collect();
    // Without a real store the sink's figures are all there is.
    let main = stores.iter().copied().find(|store| *store != Store::Sink).or(stores.first().copied());
    if let Some(store) = main {
        let images = reference_images(figures, store);
        lines.extend(winner(figures, store, images));
        lines.extend(servers(figures, store, images));
        lines.extend(beside_others(figures, store, images));
        lines.push(stops(figures, store));
    }
    if main != Some(Store::Sink) && stores.contains(&Store::Sink) {
        lines.extend(on_the_sink(figures));
    }
    lines.extend(voids(report));
    lines.push(where_it_ran(report));
    lines.push(conditions(report));
    for skipped in &report.skipped {
        lines.push(format!(
            "Skipped: {}, because {}.",
            describe(skipped.target).plain,
            skipped.reason.trim_end_matches('.')
        ));
    }
    lines
}

/// The facts of the machine, one a line: `machine.txt`.
pub fn machine(report: &Report) -> String {
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

/// The number of images at which targets are compared: 200, or the largest at which one was whole, or the largest.
pub fn reference_images(figures: &[Figures], store: Store) -> u32 {
    let rows = || figures.iter().filter(|row| row.store == store);
    let whole = rows().filter(|row| row.is_whole()).map(|row| row.images).max();
    if rows().any(|row| row.images == USUAL_IMAGES) {
        USUAL_IMAGES
    } else {
        whole.or(rows().map(|row| row.images).max()).unwrap_or_default()
    }
}

fn compared(report: &Report) -> String {
    let ran = |target: &&Target| !report.skipped.iter().any(|skipped| skipped.target == **target);
    let names: Vec<&str> = report.workload.targets.iter().filter(ran).map(|target| describe(*target).plain).collect();
    let counts: BTreeSet<u32> = report.workload.bursts.iter().map(|burst| burst.images).collect();
    let counts: Vec<String> = counts.into_iter().map(|images| grouped(images.into())).collect();
    let released =
        if counts.is_empty() { String::new() } else { format!(", {} of them released at once", either(&counts)) };
    let rounds = report.runs.len();
    format!(
        "Compared: {}, with images of {} bytes{released}; {} rounds in all.",
        listed(&names),
        grouped(report.workload.image_bytes),
        grouped(rounds as u64),
    )
}

/// Which of the servers that link was faster, for the usual number of images.
fn winner(figures: &[Figures], store: Store, images: u32) -> Option<String> {
    let mut rows: Vec<&Figures> = figures
        .iter()
        .filter(|row| (row.store, row.images) == (store, images) && describe(row.target).unit == Unit::LinkedImage)
        .filter(|row| row.makespan_s.is_some() && row.is_whole())
        .collect();
    rows.sort_by(|left, right| median(left.makespan_s).total_cmp(&median(right.makespan_s)));
    let times: Vec<String> = rows
        .iter()
        .filter_map(|row| Some(format!("{} took {} s", plain(row), row.makespan_s?.text_by(seconds))))
        .collect();
    let at = format!("{} on {}, until every image was linked", images_at_once(images), targets::store(store));
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return Some(format!("{at}: no server that links its images served all of them, so that none has won."));
    };
    let times = listed(&times);
    if rows.len() == 1 {
        return Some(format!(
            "{at}: {times}. No other server that links served all, so that there is nothing to compare it with."
        ));
    }
    let (fast, slow) = (first.makespan_s?, last.makespan_s?);
    let overlaps = |row: &&&Figures| row.makespan_s.is_some_and(|makespan| makespan.least <= fast.most);
    let tied: Vec<&str> = rows.iter().filter(overlaps).map(|row| plain(row)).collect();
    let verdict = if tied.len() == rows.len() {
        "their rounds overlap, so that none of them has won by time".to_owned()
    } else {
        let overlap = if tied.len() > 1 { ", whose rounds overlap," } else { "" };
        format!(
            "{}{overlap} won, {} times as fast as {}",
            listed(&tied),
            number(slow.median / fast.median),
            plain(last)
        )
    };
    let fewest = rows.iter().map(|row| row.finished).min().unwrap_or_default();
    let doubt = if fewest < ENOUGH_ROUNDS { " With so few rounds, that is a hint and no proof." } else { "" };
    Some(format!("{at}: {times}; {verdict}.{doubt}"))
}

/// What each of the servers used, for the usual number of images.
fn servers(figures: &[Figures], store: Store, images: u32) -> Option<String> {
    let used = |target| {
        let row = figures::find(figures, target, store, images)?;
        let cost = row.server.as_ref()?;
        let (cpu, peak) = (number(cost.cpu_s_per_gb.median), bytes(cost.peak_bytes().most));
        Some(format!("{} {cpu} s and {peak}", plain(row)))
    };
    let parts: Vec<String> =
        [Target::V1, Target::V2Post, Target::V2Put, Target::NodeV1].into_iter().filter_map(used).collect();
    // The parts stay short; what is the same of all of them is said once.
    let is_charged = figures.iter().any(|row| row.server.as_ref().is_some_and(|cost| cost.peak_cgroup_bytes.is_some()));
    let memory = if is_charged { "memory that its cgroup was charged for" } else { "resident memory" };
    let of_what = format!("CPU time for each GB, and the most {memory}");
    (!parts.is_empty()).then(|| format!("What the servers used for it: {}; {of_what}.", parts.join(", ")))
}

/// The ratios to the yardsticks, with the units that differ.
fn beside_others(figures: &[Figures], store: Store, images: u32) -> Option<String> {
    let mut parts = Vec::new();
    for against in YARDSTICKS {
        let times: Vec<String> = [Target::V1, Target::V2Post, Target::V1Stream]
            .into_iter()
            .filter_map(|target| {
                let makespan = figures::find(figures, target, store, images)?.ratio(against)?.makespan?;
                Some(format!("{} {}", describe(target).plain, makespan.text()))
            })
            .collect();
        if !times.is_empty() {
            let other = describe(against);
            parts.push(format!(
                "{} times as long as {}, whose unit is the {}",
                listed(&times),
                other.plain,
                other.unit.text()
            ));
        }
    }
    (!parts.is_empty()).then(|| format!("Beside others, round by round: it took {}.", parts.join("; ")))
}

/// The first number of images at which each target failed.
fn stops(figures: &[Figures], store: Store) -> String {
    let (mut whole, mut stopped) = (Vec::new(), Vec::new());
    for target in targets::ALL {
        let rows: Vec<&Figures> = figures.iter().filter(|row| (row.store, row.target) == (store, target)).collect();
        let Some(last) = rows.last() else { continue };
        match rows.iter().find(|row| row.stops()) {
            Some(row) => stopped.push(format!("{} stops at {}", describe(target).plain, how_it_stopped(row))),
            None => whole.push((describe(target).plain, last.images)),
        }
    }
    let most = whole.iter().map(|(_name, images)| *images).max().unwrap_or_default();
    let (to_the_end, earlier): (Vec<_>, Vec<_>) = whole.into_iter().partition(|(_name, images)| *images == most);
    let mut parts = Vec::new();
    if !to_the_end.is_empty() {
        let names: Vec<&str> = to_the_end.into_iter().map(|(name, _images)| name).collect();
        parts.push(format!(
            "{} served every image up to {} at once, the most that was asked",
            listed(&names),
            grouped(most.into())
        ));
    }
    parts.extend(
        earlier
            .into_iter()
            .map(|(name, images)| format!("{name} up to {}, the most that it was asked", grouped(images.into()))),
    );
    parts.extend(stopped);
    format!("Where it stops: {}.", parts.join("; "))
}

fn how_it_stopped(row: &Figures) -> String {
    let images = grouped(row.images.into());
    let rounds = row.finished + row.unfinished.len();
    match row.unfinished.iter().find(|round| round.how != VOID) {
        Some(round) => {
            let count = row.unfinished.iter().filter(|round| round.how != VOID).count();
            format!("{images}, where {count} of {rounds} rounds {}: {}", how_of(row), round.reason)
        }
        None => {
            let least = row.success_percent.map(|success| percent(success.least)).unwrap_or_default();
            let classes: Vec<&str> = row.failures.keys().map(String::as_str).collect();
            format!("{images}, where {least} % succeeded in the worst of {rounds} rounds ({})", listed(&classes))
        }
    }
}

/// `hung`, or `hung or died` where rounds differ.
fn how_of(row: &Figures) -> String {
    let kinds: BTreeSet<&str> = row.unfinished.iter().map(|round| round.how).filter(|how| *how != VOID).collect();
    kinds.into_iter().collect::<Vec<_>>().join(" or ")
}

/// Where the store costs nothing, the servers show.
fn on_the_sink(figures: &[Figures]) -> Option<String> {
    let images = reference_images(figures, Store::Sink);
    let part = |target| {
        let row = figures::find(figures, target, Store::Sink, images)?;
        let cost = row
            .server
            .as_ref()
            .map(|cost| format!(" with {} CPU-seconds of its server for each GB", number(cost.cpu_s_per_gb.median)));
        Some(format!(
            "{} took {} s{}",
            describe(target).plain,
            row.makespan_s?.text_by(seconds),
            cost.unwrap_or_default()
        ))
    };
    let parts: Vec<String> = [Target::Direct, Target::V1, Target::V2Post, Target::Nginx, Target::NodeV1]
        .into_iter()
        .filter_map(part)
        .collect();
    (!parts.is_empty()).then(|| {
        let at = images_at_once(images);
        let why = "The sink discards what it gets, and so shows the servers rather than the store.";
        format!("{at} on the null sink: {}. {why}", listed(&parts))
    })
}

fn voids(report: &Report) -> Option<String> {
    let count = report.runs.iter().filter(|run| matches!(run.ending, Ending::Void { .. })).count();
    (count > 0).then(|| {
        let (rounds, are) = if count == 1 { ("round", "is") } else { ("rounds", "are") };
        format!(
            "{count} {rounds} {are} void and in no figure, because what was found afterwards did not agree with what \
             the clients saw."
        )
    })
}

fn where_it_ran(report: &Report) -> String {
    let machine = &report.machine;
    let programs: Vec<String> = machine.programs.iter().map(|(program, version)| named(program, version)).collect();
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

/// How the servers were limited, what took their time from them, and what was set.
fn conditions(report: &Report) -> String {
    let is_elsewhere = |run: &Run| run.store == Store::Given;
    let shared = if report.runs.iter().any(is_elsewhere) {
        "Server and clients shared the machine; the store is wherever it was given."
    } else {
        "Server, clients and store shared the machine."
    };
    let mut parts = vec![targets::limits(report.machine.limits).to_owned(), shared.to_owned()];
    let stolen_ms: f64 = report.runs.iter().filter_map(|run| run.stolen_ms).sum();
    let whole_ms: f64 = report.runs.iter().map(|run| run.load.makespan_ms * f64::from(report.machine.cpus)).sum();
    if stolen_ms > 0.0 {
        let share = number(100.0 * stolen_ms / whole_ms);
        parts.push(format!("The hypervisor took {share} % of the rounds' CPU time for other machines."));
    }
    let settings: Vec<String> = report.machine.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
    if !settings.is_empty() {
        parts.push(format!("Set: {}.", listed(&settings)));
    }
    parts.join(" ")
}

/// Some programs name themselves in their version.
fn named(program: &str, version: &str) -> String {
    if version.contains(program) { version.to_owned() } else { format!("{program} {version}") }
}

fn plain(row: &Figures) -> &'static str {
    describe(row.target).plain
}

fn median(spread: Option<Spread>) -> f64 {
    spread.map_or(f64::INFINITY, |spread| spread.median)
}

fn images_at_once(images: u32) -> String {
    if images == 1 { "1 image".to_owned() } else { format!("{} images at once", grouped(images.into())) }
}

/// `a, b and c`.
fn listed(parts: &[impl AsRef<str>]) -> String {
    joined(parts, "and")
}

/// `a, b or c`.
fn either(parts: &[impl AsRef<str>]) -> String {
    joined(parts, "or")
}

fn joined(parts: &[impl AsRef<str>], last: &str) -> String {
    let parts: Vec<&str> = parts.iter().map(AsRef::as_ref).collect();
    match parts.as_slice() {
        [] => "nothing".to_owned(),
        [only] => (*only).to_owned(),
        [first @ .., end] => format!("{} {last} {end}", first.join(", ")),
    }
}
