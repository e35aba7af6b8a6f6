//! What the runs of a report amount to: for each target, store and number of images the median of the finished rounds,
//! with their range.
//!
//! A round that hung, died or is void is never part of a median; it is kept beside it, in words. Ratios are made round
//! by round, because rounds of the same number ran next to each other, and a machine that is slow today is slow for
//! both.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use hdrhistogram::Histogram;

use super::{
    spread::{self, Spread},
    targets,
};
use crate::{
    latency,
    record::{Ending, Report, Run, Step, Store, Target},
};

/// Whom others are compared with.
pub const YARDSTICKS: [Target; 3] = [Target::Direct, Target::Nginx, Target::NodeV1];

/// How a round ended whose figures must not be used.
pub const VOID: &str = "void";

/// Bytes in the GB that CPU time is divided by.
pub const GIGABYTE: f64 = 1e9;

/// One row of the tables: all rounds of one target with so many images on one store.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// Who carried the bytes.
    pub target: Target,
    /// Where they ended.
    pub store: Store,
    /// Images at once.
    pub images: u32,
    /// Size of each, in bytes.
    pub image_bytes: u64,
    /// Rounds that finished, of which all medians below are.
    pub finished: usize,
    /// The others, in the order in which they were made.
    pub unfinished: Vec<Unfinished>,
    /// Images that succeeded, of a hundred.
    pub success_percent: Option<Spread>,
    /// From the release of the first image to the last answer, in seconds.
    pub makespan_s: Option<Spread>,
    /// Successful images per second.
    pub images_per_s: Option<Spread>,
    /// Their bytes, in 10⁶ per second.
    pub megabytes_per_s: Option<Spread>,
    /// Of the successes of all finished rounds together; none without one.
    pub latency: Option<Latency>,
    /// The same of each step, from the answer before it; empty where an image is one request.
    pub steps: BTreeMap<Step, Latency>,
    /// What the server's process used; none where there is no server, or nothing succeeded.
    pub server: Option<Cost>,
    /// CPU-seconds of the store for each GB.
    pub store_cpu_s_per_gb: Option<Spread>,
    /// CPU-seconds of the clients for each GB: they share the machine, too.
    pub clients_cpu_s_per_gb: Option<Spread>,
    /// What the clients sent and got for each successful image.
    pub clients: Option<Traffic>,
    /// What the server and the store exchanged for each successful image, from the runs on the null sink with images of
    /// the same size: it is a property of the design and not of the store.
    pub server_to_store: Option<ServerToStore>,
    /// Images that failed in finished rounds, by class.
    pub failures: BTreeMap<String, u64>,
    /// Requests in finished rounds that were sent again because a 429 or 503 had asked for it.
    pub retries: u64,
    /// The same rounds of the [`YARDSTICKS`].
    pub against: Vec<Ratio>,
}

/// A round that is in no median.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Counted from 1.
    pub round: u32,
    /// One word for the tables: `hung`, `died`, `void`.
    pub how: &'static str,
    /// What happened, as the rest of a sentence.
    pub reason: String,
}

/// Latencies from when each image was due, in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Latency {
    /// Half of the images took no longer.
    pub p50_s: f64,
    /// Nine of ten took no longer.
    pub p90_s: f64,
    /// 99 of 100 took no longer.
    pub p99_s: f64,
    /// The slowest.
    pub max_s: f64,
    /// Microseconds, of all rounds together.
    pub histogram: Histogram<u64>,
}

/// What a server used.
#[derive(Debug, Clone, PartialEq)]
pub struct Cost {
    /// CPU-seconds in user mode for each GB of successful images.
    pub user_s_per_gb: Spread,
    /// CPU-seconds in the kernel for each GB.
    pub system_s_per_gb: Spread,
    /// Both.
    pub cpu_s_per_gb: Spread,
    /// Both, in milliseconds for each successful image.
    pub cpu_ms_per_image: Spread,
    /// The most resident memory of its processes, in bytes.
    pub peak_rss_bytes: Spread,
    /// The most that its cgroup was charged for, in bytes; none without one.
    pub peak_cgroup_bytes: Option<Spread>,
}

/// What clients exchanged with the server and the store for each successful image.
#[derive(Debug, Clone, PartialEq)]
pub struct Traffic {
    /// Requests to both.
    pub requests: Spread,
    /// Bytes to the server, heads included.
    pub bytes_to_server: Spread,
    /// Bytes from it.
    pub bytes_from_server: Spread,
    /// Bytes straight to the store.
    pub bytes_to_store: Spread,
    /// Bytes from it.
    pub bytes_from_store: Spread,
}

/// What a server exchanged with the null sink for each successful image.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ServerToStore {
    /// Requests, by S3's name of the operation.
    pub requests: BTreeMap<String, f64>,
    /// Bytes to the store, heads included.
    pub bytes_to_store: f64,
    /// Bytes from it.
    pub bytes_from_store: f64,
}

/// How often the yardstick's figure a target's figure is, over rounds in which both served every image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// The yardstick.
    pub against: Target,
    /// Rounds that both served in full.
    pub rounds: usize,
    /// Of the makespans.
    pub makespan: Option<Spread>,
    /// Of the server's CPU time for each GB; none against `direct`, which has no server.
    pub cpu: Option<Spread>,
}

/// All figures, by store (the sink last), images and target.
///
/// # Errors
///
/// Fails with the run's name when its histogram cannot be read.
pub fn of(report: &Report) -> Result<Vec<Figures>> {
    let keys: BTreeSet<_> = report.runs.iter().map(|run| (run.store, run.images, run.image_bytes)).collect();
    let mut figures = Vec::new();
    for (store, images, image_bytes) in keys {
        let group: Vec<&Run> = report
            .runs
            .iter()
            .filter(|run| (run.store, run.images, run.image_bytes) == (store, images, image_bytes))
            .collect();
        for target in targets::ALL {
            let runs: Vec<&Run> = group.iter().copied().filter(|run| run.target == target).collect();
            if !runs.is_empty() {
                figures.push(row(report, &group, &runs, target)?);
            }
        }
    }
    Ok(figures)
}

/// The row of a target, store and number of images.
pub fn find(figures: &[Figures], target: Target, store: Store, images: u32) -> Option<&Figures> {
    figures.iter().find(|row| (row.target, row.store, row.images) == (target, store, images))
}

impl Figures {
    /// Whether a round hung or died, or an image of one failed. A void round says nothing about the target.
    pub fn stops(&self) -> bool {
        self.unfinished.iter().any(|round| round.how != VOID)
            || self.success_percent.is_some_and(|success| success.least < 100.0)
    }

    /// Whether at least one round finished, and nothing stopped.
    pub fn is_whole(&self) -> bool {
        self.finished > 0 && !self.stops()
    }

    /// The ratios to one yardstick.
    pub fn ratio(&self, against: Target) -> Option<&Ratio> {
        self.against.iter().find(|ratio| ratio.against == against)
    }
}

impl Cost {
    /// What the memory limit was held against: the cgroup's peak, else the resident memory.
    pub fn peak_bytes(&self) -> Spread {
        self.peak_cgroup_bytes.unwrap_or(self.peak_rss_bytes)
    }
}

fn row(report: &Report, group: &[&Run], runs: &[&Run], target: Target) -> Result<Figures> {
    let finished: Vec<&Run> = runs.iter().copied().filter(|run| run.ending == Ending::Finished).collect();
    let first = runs.first().context("a row of figures needs a run")?;
    let over = |value: fn(&Run) -> f64| Spread::of(finished.iter().map(|run| value(run)));
    let mut failures = BTreeMap::new();
    for (class, count) in finished.iter().flat_map(|run| &run.load.failures) {
        *failures.entry(class.clone()).or_default() += count;
    }
    Ok(Figures {
        target,
        store: first.store,
        images: first.images,
        image_bytes: first.image_bytes,
        finished: finished.len(),
        unfinished: runs.iter().filter_map(|run| unfinished(run)).collect(),
        success_percent: over(|run| 100.0 * run.load.successes as f64 / f64::from(run.images)),
        makespan_s: over(|run| run.load.makespan_ms / 1e3),
        images_per_s: over(|run| run.load.successes as f64 / (run.load.makespan_ms / 1e3)),
        megabytes_per_s: over(|run| gigabytes(run) * 1e3 / (run.load.makespan_ms / 1e3)),
        latency: latency_of(&finished, |run| Some(&run.load.histogram))?,
        steps: steps_of(&finished)?,
        server: cost(&finished),
        store_cpu_s_per_gb: spread_of(&finished, |run| Some(run.store_cpu_ms? / 1e3 / gigabytes(run))),
        clients_cpu_s_per_gb: spread_of(&finished, |run| Some(run.generator_cpu_ms? / 1e3 / gigabytes(run))),
        clients: traffic(&finished),
        server_to_store: server_to_store(report, target, first.image_bytes),
        failures,
        retries: finished.iter().map(|run| run.load.retries).sum(),
        against: YARDSTICKS.iter().filter_map(|against| ratio(group, &finished, *against)).collect(),
    })
}

fn gigabytes(run: &Run) -> f64 {
    run.load.successes as f64 * run.image_bytes as f64 / GIGABYTE
}

/// Over the runs that have the value; what was divided by nothing is left out.
fn spread_of(runs: &[&Run], value: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
    Spread::of(runs.iter().filter_map(|run| value(run)))
}

fn unfinished(run: &Run) -> Option<Unfinished> {
    let done = format!("with {} of {} done", run.load.successes, run.images);
    let (how, reason) = match &run.ending {
        Ending::Finished => return None,
        Ending::Hung { after_ms } => {
            let seconds = spread::trimmed(*after_ms as f64 / 1e3);
            let what_then = if run.server.is_some() { "; the server was killed" } else { "" };
            ("hung", format!("{done}, nothing went on for {seconds} s{what_then}"))
        }
        Ending::Died { status } => ("died", format!("{done}, the server's process ended: {status}")),
        Ending::Void { reason } => ("void", format!("what was found afterwards does not agree: {reason}")),
    };
    Some(Unfinished { round: run.round, how, reason })
}

fn steps_of(finished: &[&Run]) -> Result<BTreeMap<Step, Latency>> {
    let steps: BTreeSet<Step> = finished.iter().flat_map(|run| run.load.steps.keys().copied()).collect();
    let latencies = steps.into_iter().map(|step| Ok((step, latency_of(finished, |run| run.load.steps.get(&step))?)));
    let latencies: Vec<(Step, Option<Latency>)> = latencies.collect::<Result<_>>()?;
    Ok(latencies.into_iter().filter_map(|(step, latency)| Some((step, latency?))).collect())
}

fn latency_of(finished: &[&Run], recorded: impl Fn(&Run) -> Option<&String>) -> Result<Option<Latency>> {
    let mut histogram = latency::histogram()?;
    for run in finished.iter().filter(|run| run.load.successes > 0) {
        let Some(recorded) = recorded(run) else { continue };
        let name = || {
            let target = targets::name(run.target);
            format!(
                "the latencies of {target} with {} images on {}, round {}",
                run.images,
                targets::store(run.store),
                run.round
            )
        };
        let decoded = latency::decode(recorded).with_context(name)?;
        ensure!(
            decoded.len() == run.load.successes,
            "{} are {}, for {} successes",
            name(),
            decoded.len(),
            run.load.successes
        );
        histogram.add(&decoded).with_context(name)?;
    }
    let seconds = |microseconds: u64| microseconds as f64 / 1e6;
    let at = |quantile: f64| seconds(histogram.value_at_quantile(quantile).min(histogram.max()));
    Ok((!histogram.is_empty()).then(|| Latency {
        p50_s: at(0.5),
        p90_s: at(0.9),
        p99_s: at(0.99),
        max_s: seconds(histogram.max()),
        histogram: histogram.clone(),
    }))
}

fn cost(finished: &[&Run]) -> Option<Cost> {
    let usage = |value: fn(&crate::record::Usage) -> f64| spread_of(finished, |run| run.server.as_ref().map(value));
    let per_gb = |value: fn(&crate::record::Usage) -> f64| {
        spread_of(finished, |run| Some(value(run.server.as_ref()?) / 1e3 / gigabytes(run)))
    };
    Some(Cost {
        user_s_per_gb: per_gb(|usage| usage.cpu_user_ms)?,
        system_s_per_gb: per_gb(|usage| usage.cpu_system_ms)?,
        cpu_s_per_gb: per_gb(|usage| usage.cpu_user_ms + usage.cpu_system_ms)?,
        cpu_ms_per_image: spread_of(finished, |run| {
            let server = run.server.as_ref()?;
            Some((server.cpu_user_ms + server.cpu_system_ms) / run.load.successes as f64)
        })?,
        peak_rss_bytes: usage(|usage| usage.peak_rss_bytes as f64)?,
        peak_cgroup_bytes: spread_of(finished, |run| Some(run.server.as_ref()?.peak_cgroup_bytes? as f64)),
    })
}

fn traffic(finished: &[&Run]) -> Option<Traffic> {
    let per_image =
        |value: fn(&Run) -> u64| spread_of(finished, |run| Some(value(run) as f64 / run.load.successes as f64));
    Some(Traffic {
        requests: per_image(|run| run.load.requests)?,
        bytes_to_server: per_image(|run| run.load.bytes_to_server)?,
        bytes_from_server: per_image(|run| run.load.bytes_from_server)?,
        bytes_to_store: per_image(|run| run.load.bytes_to_store)?,
        bytes_from_store: per_image(|run| run.load.bytes_from_store)?,
    })
}

fn server_to_store(report: &Report, target: Target, image_bytes: u64) -> Option<ServerToStore> {
    let runs = report.runs.iter().filter(|run| {
        run.target == target
            && run.image_bytes == image_bytes
            && run.ending == Ending::Finished
            && run.store == Store::Sink
    });
    let (mut images, mut sum) = (0.0, ServerToStore::default());
    for run in runs {
        let Some(traffic) = &run.server_to_store else { continue };
        images += run.load.successes as f64;
        sum.bytes_to_store += traffic.bytes_to_store as f64;
        sum.bytes_from_store += traffic.bytes_from_store as f64;
        for (operation, count) in &traffic.requests {
            *sum.requests.entry(operation.clone()).or_default() += *count as f64;
        }
    }
    (images > 0.0).then(|| ServerToStore {
        requests: sum.requests.into_iter().map(|(operation, count)| (operation, count / images)).collect(),
        bytes_to_store: sum.bytes_to_store / images,
        bytes_from_store: sum.bytes_from_store / images,
    })
}

fn ratio(group: &[&Run], finished: &[&Run], against: Target) -> Option<Ratio> {
    let whole = |run: &Run| run.ending == Ending::Finished && run.load.successes == u64::from(run.images);
    let pairs: Vec<(&Run, &Run)> = finished
        .iter()
        .filter(|run| run.target != against && whole(run))
        .filter_map(|run| {
            let other =
                group.iter().find(|other| other.target == against && other.round == run.round && whole(other))?;
            Some((*run, *other))
        })
        .collect();
    let cpu_ms = |run: &Run| run.server.as_ref().map(|server| server.cpu_user_ms + server.cpu_system_ms);
    // Both served the same bytes, so that the ratio of the times is that of the times for each GB.
    let cpu = Spread::of(pairs.iter().filter_map(|(run, other)| Some(cpu_ms(run)? / cpu_ms(other)?)));
    let makespan = Spread::of(pairs.iter().map(|(run, other)| run.load.makespan_ms / other.load.makespan_ms));
    (!pairs.is_empty()).then_some(Ratio { against, rounds: pairs.len(), makespan, cpu })
}
