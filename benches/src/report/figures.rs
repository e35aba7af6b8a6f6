//! The figures of a report: for each case, target, store, line and number of images, the median of the finished rounds and their range.
//!
//! A round that hung, died or is void counts in no median; it is listed apart. Ratios compare rounds of the same number, because
//! those ran next to each other: a slow minute of the machine slows both.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};

use super::{
    spread::{self, Spread},
    targets::{self, describe},
};
use crate::{
    latency,
    record::{Beside, Case, Ending, Line, Report, Run, Step, Store, Target, Usage},
};

/// The targets that the others are compared with.
pub const YARDSTICKS: [Target; 3] = [Target::Direct, Target::Nginx, Target::NodeV1];

/// Bytes in a GB, as the figures count.
pub const GIGABYTE: f64 = 1e9;

/// All rounds of one target that differ in nothing but their number.
#[derive(Debug, Clone, PartialEq)]
pub struct Figures {
    /// What the clients did.
    pub case: Case,
    /// The target.
    pub target: Target,
    /// The store that it wrote to.
    pub store: Store,
    /// Images, without the slow ones of a mixed round.
    pub images: u32,
    /// Size of each image, in bytes.
    pub image_bytes: u64,
    /// The lines of the clients; in a mixed round, of the slow ones.
    pub line: Line,
    /// How many rounds finished. The medians below are of these.
    pub finished: usize,
    /// The other rounds, in order.
    pub unfinished: Vec<Unfinished>,
    /// Images that succeeded, in percent.
    pub success_percent: Option<Spread>,
    /// From the release of the first image to the last answer, in seconds.
    pub makespan_s: Option<Spread>,
    /// Successful images per second.
    pub images_per_s: Option<Spread>,
    /// Latencies of all successes of the finished rounds together.
    pub latency: Option<Latency>,
    /// The same for each step, from the previous answer. Empty where an image is one request.
    pub steps: BTreeMap<Step, Latency>,
    /// The other clients of a mixed round.
    pub beside: Option<BesideFigures>,
    /// What the server used. `None` without a server or without a success.
    pub server: Option<Cost>,
    /// What the proxy in front of it used. `None` without one.
    pub proxy: Option<Cost>,
    /// CPU-seconds of the store for each GB.
    pub store_cpu_s_per_gb: Option<Spread>,
    /// CPU-seconds of the clients for each GB. They share the machine, too.
    pub clients_cpu_s_per_gb: Option<Spread>,
    /// Failed images of the finished rounds, by class.
    pub failures: BTreeMap<String, u64>,
    /// Requests of the finished rounds that were repeated because a 429 or 503 asked for it.
    pub retries: u64,
    /// Compared with each of the [`YARDSTICKS`].
    pub ratios: Vec<Ratio>,
}

/// A round that is in no median.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unfinished {
    /// Counted from 1.
    pub round: u32,
    /// `hung`, `died` or `void`.
    pub how: &'static str,
    /// What happened.
    pub reason: String,
}

/// Latencies from the moment at which each image was due, in seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Latency {
    /// Half of the images took no longer.
    pub p50_s: f64,
    /// 90 % took no longer.
    pub p90_s: f64,
    /// 99 % took no longer.
    pub p99_s: f64,
    /// The slowest image.
    pub max_s: f64,
}

/// The fast clients of a mixed round beside the slow ones.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BesideFigures {
    /// Slow clients.
    pub slow_images: u32,
    /// Images of slow clients that succeeded, in percent.
    pub slow_success_percent: Option<Spread>,
    /// From the release of the slow images to their last answer, in seconds.
    pub slow_makespan_s: Option<Spread>,
    /// The 99th percentile of the fast clients alone, in seconds.
    pub alone_p99_s: Option<Spread>,
    /// The same while slow ones were sending.
    pub amid_p99_s: Option<Spread>,
    /// The second divided by the first, in the same round.
    pub p99_ratio: Option<Spread>,
}

/// What a server used.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cost {
    /// CPU-seconds, user and system, for each GB of successful images.
    pub cpu_s_per_gb: Spread,
    /// The same in milliseconds for each successful image.
    pub cpu_ms_per_image: Spread,
    /// The most resident memory of its processes, in bytes.
    pub peak_rss_bytes: Spread,
    /// The most memory that its cgroup was charged for, in bytes. `None` without a cgroup.
    pub peak_cgroup_bytes: Option<Spread>,
}

/// A target's figures divided by a yardstick's, over rounds in which both served every image.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// The yardstick.
    pub against: Target,
    /// Of the makespans.
    pub makespan: Option<Spread>,
    /// Of the server's CPU time for each GB. `None` against `direct`, which has no server.
    pub cpu: Option<Spread>,
}

/// What one image of a target sends, under any load: a property of the design, from rounds in which every image succeeded.
#[derive(Debug, Clone, PartialEq)]
pub struct PerImage {
    /// Requests of the client, to the server and to the store.
    pub requests: f64,
    /// Bytes from the client to the server, headers included.
    pub to_server: f64,
    /// Bytes back.
    pub from_server: f64,
    /// Bytes from the client straight to the store.
    pub to_store: f64,
    /// What the server sends to the store. `None` without a round on the null sink, which counts it.
    pub server: Option<ServerToStore>,
    /// The client's own request to the store, which is billed once.
    pub client_write: Option<&'static str>,
}

/// What a server and the store exchange for one image.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerToStore {
    /// Requests, by S3's name of the operation.
    pub requests: BTreeMap<String, f64>,
    /// Bytes to the store, headers included.
    pub to_store: f64,
    /// Bytes back.
    pub from_store: f64,
}

/// All figures, by case, store (the sink last), size, line, images and target.
///
/// # Errors
/// Names the run whose histogram cannot be read.
pub fn of(report: &Report) -> Result<Vec<Figures>> {
    let slow_images = |run: &Run| run.beside.as_ref().map_or(0, |beside| beside.slow_images);
    let key = |run: &Run| (run.case, run.store, run.image_bytes, run.line, slow_images(run), run.images);
    let keys: BTreeSet<_> = report.runs.iter().map(key).collect();
    let mut figures = Vec::new();
    for one in keys {
        let group: Vec<&Run> = report.runs.iter().filter(|run| key(run) == one).collect();
        for target in targets::ALL {
            let runs: Vec<&Run> = group.iter().copied().filter(|run| run.target == target).collect();
            if !runs.is_empty() {
                figures.push(row(&group, &runs)?);
            }
        }
    }
    Ok(figures)
}

/// The figures of a target on a store with this many images in a burst.
pub fn find(figures: &[Figures], target: Target, store: Store, images: u32) -> Option<&Figures> {
    let mut bursts = figures.iter().filter(|row| row.case == Case::Burst);
    bursts.find(|row| (row.target, row.store, row.images) == (target, store, images))
}

/// What one image of this size sends. `None` without a round in which every image succeeded.
pub fn per_image(report: &Report, target: Target, image_bytes: u64) -> Option<PerImage> {
    let whole = |run: &&Run| run.target == target && run.image_bytes == image_bytes && is_whole(run);
    let runs: Vec<&Run> = report.runs.iter().filter(whole).collect();
    let images: u64 = runs.iter().map(|run| run.load.successes).sum();
    let mean = |of: fn(&Run) -> u64| runs.iter().map(|run| of(run)).sum::<u64>() as f64 / images as f64;
    (images > 0).then(|| PerImage {
        requests: mean(|run| run.load.requests),
        to_server: mean(|run| run.load.bytes_to_server),
        from_server: mean(|run| run.load.bytes_from_server),
        to_store: mean(|run| run.load.bytes_to_store),
        server: server_to_store(&runs),
        client_write: describe(target).client_write,
    })
}

impl Figures {
    /// Whether a round hung or died, or an image failed. A void round says nothing about the target.
    pub fn stops(&self) -> bool {
        let slow = self.beside.and_then(|beside| beside.slow_success_percent);
        self.unfinished.iter().any(|round| round.how != "void")
            || self.success_percent.into_iter().chain(slow).any(|success| success.least < 100.0)
    }

    /// Whether at least one round finished, and nothing failed.
    pub fn is_whole(&self) -> bool {
        self.finished > 0 && !self.stops()
    }

    /// All rounds, also those that did not finish.
    pub fn rounds(&self) -> usize {
        self.finished + self.unfinished.len()
    }

    /// The makespan of the slow clients, divided by the time that their lines alone take. `None` if no client is slow.
    pub fn times_ideal(&self) -> Option<Spread> {
        let ideal_s = self.line.ideal_s(self.image_bytes)?;
        let makespan = self.beside.map_or(self.makespan_s, |beside| beside.slow_makespan_s)?;
        Some(Spread {
            median: makespan.median / ideal_s,
            least: makespan.least / ideal_s,
            most: makespan.most / ideal_s,
        })
    }

    /// The ratio to one yardstick.
    pub fn ratio(&self, against: Target) -> Option<&Ratio> {
        self.ratios.iter().find(|ratio| ratio.against == against)
    }
}

impl Cost {
    /// The memory that the limit applied to: the cgroup's peak, or the resident memory without a cgroup.
    pub fn peak_bytes(&self) -> Spread {
        self.peak_cgroup_bytes.unwrap_or(self.peak_rss_bytes)
    }
}

impl PerImage {
    /// Requests to the store of which `counts` is true for the operation's name, the client's own included. `None` without a
    /// server's count, except for clients that have no server.
    pub fn operations(&self, counts: impl Fn(&str) -> bool) -> Option<f64> {
        let of_client = self.client_write.filter(|name| counts(name)).map_or(0.0, |_name| 1.0);
        match &self.server {
            Some(server) => {
                let counted = server.requests.iter().filter(|(name, _count)| counts(name));
                Some(of_client + counted.map(|(_name, count)| count).sum::<f64>())
            }
            None => (self.to_server == 0.0).then_some(of_client),
        }
    }

    /// What the store bills: everything but DELETE, for which AWS charges nothing.
    pub fn billed(&self) -> Option<f64> {
        self.operations(|name| !name.starts_with("Delete"))
    }
}

fn row(group: &[&Run], runs: &[&Run]) -> Result<Figures> {
    let first = runs.first().context("a row of figures needs a run")?;
    let finished: Vec<&Run> = runs.iter().copied().filter(|run| run.ending == Ending::Finished).collect();
    let over = |value: fn(&Run) -> f64| spread_of(&finished, |run| Some(value(run)));
    let mut failures = BTreeMap::new();
    let loads = finished.iter().flat_map(|run| [Some(&run.load), run.beside.as_ref().map(|beside| &beside.slow)]);
    for (class, count) in loads.flatten().flat_map(|load| &load.failures) {
        *failures.entry(class.clone()).or_default() += count;
    }
    Ok(Figures {
        case: first.case,
        target: first.target,
        store: first.store,
        images: first.images,
        image_bytes: first.image_bytes,
        line: first.line,
        finished: finished.len(),
        unfinished: runs.iter().filter_map(|run| unfinished(run)).collect(),
        success_percent: over(|run| 100.0 * run.load.successes as f64 / f64::from(run.images)),
        makespan_s: over(|run| run.load.makespan_ms / 1e3),
        images_per_s: over(|run| run.load.successes as f64 / (run.load.makespan_ms / 1e3)),
        latency: latency_of(&finished, |run| Some(&run.load.histogram))?,
        steps: steps_of(&finished)?,
        beside: beside(&finished)?,
        server: cost(&finished, |run| run.server.as_ref()),
        proxy: cost(&finished, |run| run.proxy.as_ref()),
        store_cpu_s_per_gb: spread_of(&finished, |run| Some(run.store_cpu_ms? / 1e3 / gigabytes(run))),
        clients_cpu_s_per_gb: spread_of(&finished, |run| Some(run.generator_cpu_ms? / 1e3 / gigabytes(run))),
        failures,
        retries: finished.iter().map(|run| run.load.retries).sum(),
        ratios: YARDSTICKS.iter().filter_map(|against| ratio(group, &finished, *against)).collect(),
    })
}

fn is_whole(run: &Run) -> bool {
    run.ending == Ending::Finished && run.load.successes == u64::from(run.images)
}

/// All images that succeeded while the server was measured.
fn served(run: &Run) -> f64 {
    (run.load.successes + run.beside.as_ref().map_or(0, |beside| beside.slow.successes)) as f64
}

fn gigabytes(run: &Run) -> f64 {
    served(run) * run.image_bytes as f64 / GIGABYTE
}

fn cpu_ms(usage: &Usage) -> f64 {
    usage.cpu_user_ms + usage.cpu_system_ms
}

/// Over the runs that have the value. A division by zero has none.
fn spread_of(runs: &[&Run], value: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
    Spread::of(runs.iter().filter_map(|run| value(run)))
}

fn unfinished(run: &Run) -> Option<Unfinished> {
    let done = format!("{} of {} images were done", run.load.successes, run.images);
    let (how, reason) = match &run.ending {
        Ending::Finished => return None,
        Ending::Hung { after_ms } => {
            let seconds = spread::trimmed(*after_ms as f64 / 1e3);
            ("hung", format!("no progress for {seconds} s; {done}"))
        }
        Ending::Died { status } => ("died", format!("the server's process ended: {status}; {done}")),
        Ending::Void { reason } => ("void", format!("the check afterwards failed: {reason}")),
    };
    Some(Unfinished { round: run.round, how, reason })
}

fn steps_of(finished: &[&Run]) -> Result<BTreeMap<Step, Latency>> {
    let mut steps = BTreeMap::new();
    for step in [Step::Create, Step::Upload, Step::Link] {
        if let Some(latency) = latency_of(finished, |run| run.load.steps.get(&step))? {
            steps.insert(step, latency);
        }
    }
    Ok(steps)
}

fn latency_of(finished: &[&Run], recorded: impl Fn(&Run) -> Option<&String>) -> Result<Option<Latency>> {
    let mut histogram = latency::histogram()?;
    for run in finished.iter().filter(|run| run.load.successes > 0) {
        let Some(recorded) = recorded(run) else { continue };
        let name = || {
            let (target, store) = (targets::name(run.target), targets::store(run.store));
            format!("the latencies of {target} with {} images on {store}, round {}", run.images, run.round)
        };
        let decoded = latency::decode(recorded).with_context(name)?;
        let (found, expected) = (decoded.len(), run.load.successes);
        ensure!(found == expected, "{}: there are {found} for {expected} successes", name());
        histogram.add(&decoded).with_context(name)?;
    }
    let seconds = |microseconds: u64| microseconds as f64 / 1e6;
    let at = |quantile: f64| seconds(histogram.value_at_quantile(quantile).min(histogram.max()));
    let latency = Latency { p50_s: at(0.5), p90_s: at(0.9), p99_s: at(0.99), max_s: seconds(histogram.max()) };
    Ok((!histogram.is_empty()).then_some(latency))
}

fn beside(finished: &[&Run]) -> Result<Option<BesideFigures>> {
    let mut pairs = Vec::new();
    for (run, beside) in finished.iter().filter_map(|run| Some((*run, run.beside.as_ref()?))) {
        pairs.push((beside, p99_s(&beside.alone.histogram)?, p99_s(&run.load.histogram)?));
    }
    let Some((first, ..)) = pairs.first() else { return Ok(None) };
    let over = |value: fn(&Beside) -> f64| Spread::of(pairs.iter().map(|(beside, ..)| value(beside)));
    Ok(Some(BesideFigures {
        slow_images: first.slow_images,
        slow_success_percent: over(|beside| 100.0 * beside.slow.successes as f64 / f64::from(beside.slow_images)),
        slow_makespan_s: over(|beside| beside.slow.makespan_ms / 1e3),
        alone_p99_s: Spread::of(pairs.iter().filter_map(|(_beside, alone, _amid)| *alone)),
        amid_p99_s: Spread::of(pairs.iter().filter_map(|(_beside, _alone, amid)| *amid)),
        p99_ratio: Spread::of(pairs.iter().filter_map(|(_beside, alone, amid)| Some((*amid)? / (*alone)?))),
    }))
}

/// The 99th percentile, in seconds. `None` without a latency.
fn p99_s(recorded: &str) -> Result<Option<f64>> {
    let histogram = latency::decode(recorded)?;
    let p99_us = histogram.value_at_quantile(0.99).min(histogram.max());
    Ok((!histogram.is_empty()).then_some(p99_us as f64 / 1e6))
}

fn cost(finished: &[&Run], used: impl Fn(&Run) -> Option<&Usage>) -> Option<Cost> {
    let of = |value: fn(&Run, &Usage) -> f64| spread_of(finished, |run| Some(value(run, used(run)?)));
    Some(Cost {
        cpu_s_per_gb: of(|run, usage| cpu_ms(usage) / 1e3 / gigabytes(run))?,
        cpu_ms_per_image: of(|run, usage| cpu_ms(usage) / served(run))?,
        peak_rss_bytes: of(|_run, usage| usage.peak_rss_bytes as f64)?,
        peak_cgroup_bytes: spread_of(finished, |run| Some(used(run)?.peak_cgroup_bytes? as f64)),
    })
}

fn server_to_store(runs: &[&Run]) -> Option<ServerToStore> {
    let counted: Vec<_> =
        runs.iter().filter_map(|run| Some((run.load.successes, run.server_to_store.as_ref()?))).collect();
    let images = counted.iter().map(|(successes, _traffic)| successes).sum::<u64>() as f64;
    let mut requests = BTreeMap::new();
    for (operation, count) in counted.iter().flat_map(|(_successes, traffic)| &traffic.requests) {
        *requests.entry(operation.clone()).or_insert(0.0) += *count as f64 / images;
    }
    (images > 0.0).then(|| ServerToStore {
        requests,
        to_store: counted.iter().map(|(_successes, traffic)| traffic.bytes_to_store as f64 / images).sum(),
        from_store: counted.iter().map(|(_successes, traffic)| traffic.bytes_from_store as f64 / images).sum(),
    })
}

fn ratio(group: &[&Run], finished: &[&Run], against: Target) -> Option<Ratio> {
    let mut pairs: Vec<(&Run, &Run)> = Vec::new();
    for run in finished.iter().filter(|run| run.target != against && is_whole(run)) {
        let same_round = |other: &&&Run| other.target == against && other.round == run.round && is_whole(other);
        pairs.extend(group.iter().find(same_round).map(|other| (*run, *other)));
    }
    // Both served the same bytes, so the ratio of the CPU times is that of the times for each GB.
    let cpu = |run: &Run| run.server.as_ref().map(cpu_ms);
    (!pairs.is_empty()).then(|| Ratio {
        against,
        makespan: Spread::of(pairs.iter().map(|(run, other)| run.load.makespan_ms / other.load.makespan_ms)),
        cpu: Spread::of(pairs.iter().filter_map(|(run, other)| Some(cpu(run)? / cpu(other)?))),
    })
}
