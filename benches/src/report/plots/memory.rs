//! Memory of the servers over time, under the limit.

use anyhow::Result;
use plotters::style::RGBColor;

use super::{
    Key, Plot, Shape, Style,
    chart::{self, Axis, HEIGHT},
    style,
};
use crate::{
    limits::MEMORY_BYTES,
    record::{Ending, Report, Run, Store},
    report::{
        spread::grouped,
        targets::{self, describe},
    },
};

/// Numbers of images that are looked at, where they were measured: where memory begins to matter, and the most.
const SHOWN_IMAGES: [u32; 2] = [300, 1000];
/// What belongs to no target.
const LIMIT: Style = Style { colour: RGBColor(128, 128, 128), dashed: true };

/// A plot for each of the numbers of images, or of the largest that was measured where none of them was.
pub(super) fn all(report: &Report, store: Store) -> Result<Vec<Plot>> {
    let measured =
        |images: u32| report.runs.iter().any(|run| run.store == store && run.images == images && has_memory(run));
    let mut counts: Vec<u32> = SHOWN_IMAGES.into_iter().filter(|images| measured(*images)).collect();
    if counts.is_empty() {
        counts
            .extend(report.runs.iter().filter(|run| run.store == store && has_memory(run)).map(|run| run.images).max());
    }
    counts.into_iter().map(|images| memory(report, store, images)).collect()
}

fn has_memory(run: &Run) -> bool {
    run.server.as_ref().is_some_and(|server| server.memory.len() > 1)
}

/// The round that is shown of each target: one that did not finish, or else the first.
fn memory(report: &Report, store: Store, images: u32) -> Result<Plot> {
    let shown: Vec<&Run> = targets::ALL
        .into_iter()
        .filter_map(|target| {
            let mine = |run: &&Run| (run.target, run.store, run.images) == (target, store, images) && has_memory(run);
            report.runs.iter().filter(mine).min_by_key(|run| (!stopped(run), run.round))
        })
        .collect();
    // A server that hung is shown as long as the others took and somewhat longer, not for all the time that it did
    // nothing.
    let finished = shown.iter().filter(|run| !stopped(run)).map(|run| last_s(run)).reduce(f64::max);
    let longest = shown.iter().map(|run| last_s(run)).fold(0.0, f64::max);
    let end = finished.map_or(longest, |finished| longest.min(finished * 1.5)).max(0.1);
    let limit = MEMORY_BYTES as f64 / 1e6;
    let highest = shown.iter().flat_map(|run| memory_of(run)).map(|(_at, megabytes)| megabytes).fold(limit, f64::max);
    let horizontal = Axis::linear("seconds since the release", 0.0, end);
    let vertical = Axis::linear("memory, MB", 0.0, highest * 1.08);
    let svg = chart::svg(HEIGHT, |area| {
        let mut chart = chart::chart(area, &horizontal, &vertical)?;
        chart::line(&mut chart, vec![(0.0, limit), (end, limit)], LIMIT)?;
        for run in &shown {
            let samples: Vec<(f64, f64)> = memory_of(run).filter(|(at, _megabytes)| *at <= end).collect();
            let last = samples.last().copied();
            chart::line(
                &mut chart,
                samples.iter().map(|(at, megabytes)| (*at, *megabytes)).collect(),
                style(run.target),
            )?;
            if let (true, Some((at, megabytes))) = (stopped(run), last) {
                chart::cross(&mut chart, (at, megabytes), style(run.target))?;
            }
        }
        Ok(())
    })?;
    let mut legend: Vec<Key> = shown
        .iter()
        .map(|run| Key {
            name: format!("{}{}", describe(run.target).name, how(run)),
            style: style(run.target),
            shape: Shape::Line,
        })
        .collect();
    legend.push(Key { name: "the limit, 1 GB (2³⁰ bytes)".to_owned(), style: LIMIT, shape: Shape::Line });
    Ok(Plot {
        title: format!("Memory over time, {} images at once, on {}", grouped(images.into()), targets::store(store)),
        caption: "What the server's cgroup was charged for, or its resident memory where there is no cgroup. Of each \
            target the first round, or the first that did not finish, which ends in a cross."
            .to_owned(),
        svg,
        legend,
    })
}

fn stopped(run: &Run) -> bool {
    matches!(run.ending, Ending::Hung { .. } | Ending::Died { .. })
}

fn how(run: &Run) -> String {
    let done = || format!("{} of {} done", grouped(run.load.successes), grouped(run.images.into()));
    match &run.ending {
        Ending::Finished => String::new(),
        Ending::Hung { .. } => format!(" (hung, {})", done()),
        Ending::Died { .. } => format!(" (died, {})", done()),
        Ending::Void { .. } => " (void)".to_owned(),
    }
}

fn last_s(run: &Run) -> f64 {
    memory_of(run).last().map_or(0.0, |(at, _megabytes)| at)
}

/// Seconds and MB.
fn memory_of(run: &Run) -> impl Iterator<Item = (f64, f64)> {
    let samples = run.server.iter().flat_map(|server| &server.memory);
    samples.map(|sample| (sample.at_ms as f64 / 1e3, sample.cgroup_bytes.unwrap_or(sample.rss_bytes) as f64 / 1e6))
}
