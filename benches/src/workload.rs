//! What to measure: a JSON file like those in `workloads/`. Unknown fields and wrong values are refused by name.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use upload_domain::ImageLimits;
use upload_sandbox::samples::SMALLEST_JPEG;

use crate::record::{Case, Line, Target};

/// The plan of a comparison.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    /// Size of each image, in bytes.
    pub image_bytes: u64,
    /// The targets, in the order in which they take turns.
    pub targets: Vec<Target>,
    /// The bursts on the store.
    pub bursts: Vec<Burst>,
    /// The bursts on the null sink.
    pub sink_bursts: Vec<Burst>,
    /// The bursts of slow clients.
    #[serde(default)]
    pub slow: Vec<Slow>,
    /// The rounds in which fast clients arrive while slow ones are sending.
    #[serde(default)]
    pub mixed: Vec<Mixed>,
    /// The crossover.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub crossover: Option<Crossover>,
    /// Images that each server gets first, not counted. With 0 it starts cold.
    pub warm_up_images: u32,
    /// Whether clients follow `Retry-After` after a 429 or 503.
    pub retry: bool,
    /// After how many seconds without progress a server is given up.
    pub give_up_seconds: u64,
}

/// A number of images released at once, in several rounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Burst {
    /// Images.
    pub images: u32,
    /// Rounds.
    pub rounds: u32,
}

/// Slow clients that all send at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Slow {
    /// Clients, with one image each.
    pub images: u32,
    /// Rounds.
    pub rounds: u32,
    /// What each client sends in a second, in bytes.
    #[serde(default = "two_megabits")]
    pub bytes_per_second: u64,
    /// Their targets; if empty, those of the plan.
    #[serde(default)]
    pub targets: Vec<Target>,
}

/// Fast clients that all send at once while slow ones are sending.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Mixed {
    /// Fast clients, with one image each.
    pub images: u32,
    /// Slow clients, with one image each.
    pub slow_images: u32,
    /// Rounds.
    pub rounds: u32,
    /// What each slow client sends in a second, in bytes.
    #[serde(default = "two_megabits")]
    pub bytes_per_second: u64,
    /// Their targets; if empty, those of the plan.
    #[serde(default)]
    pub targets: Vec<Target>,
}

/// Every size with every line: where one server becomes faster than the other.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Crossover {
    /// The sizes.
    pub sizes: Vec<Size>,
    /// Round trips, in milliseconds.
    pub rtt_ms: Vec<u32>,
    /// What each client sends in a second, in bytes; `null` for as much as it can.
    pub bytes_per_second: Vec<Option<u64>>,
    /// Rounds of each cell.
    pub rounds: u32,
}

/// One size of a crossover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Size {
    /// Size of each image, in bytes.
    pub image_bytes: u64,
    /// Images of each round.
    pub images: u32,
}

/// The rounds of one kind, for some targets. Every part of a [`Workload`] is a list of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    /// What the clients do.
    pub case: Case,
    /// Whether the target writes to the null sink.
    pub to_sink: bool,
    /// The targets, in the order in which they take turns.
    pub targets: Vec<Target>,
    /// Images, without the slow ones of a mixed round.
    pub images: u32,
    /// Slow clients of a mixed round.
    pub slow_images: u32,
    /// Rounds.
    pub rounds: u32,
    /// Size of each image, in bytes.
    pub image_bytes: u64,
    /// The lines of the clients; in a mixed round, of the slow ones.
    pub line: Line,
}

/// The plan of a full comparison: an hour and three quarters on two cores.
const FULL: &str = include_str!("../workloads/full.json");
/// The plan of `--quick`: under three minutes on two cores.
const QUICK: &str = include_str!("../workloads/quick.json");

impl Workload {
    /// The full plan.
    ///
    /// # Errors
    /// Only if the file in `workloads/` is wrong.
    pub fn full() -> Result<Self> {
        Self::parse(FULL).context("workloads/full.json")
    }

    /// The plan of `--quick`.
    ///
    /// # Errors
    /// Only if the file in `workloads/` is wrong.
    pub fn quick() -> Result<Self> {
        Self::parse(QUICK).context("workloads/quick.json")
    }

    /// A plan of your own.
    ///
    /// # Errors
    /// Names the file and what is wrong in it.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("cannot read the workload {}", path.display()))?;
        Self::parse(&text).with_context(|| format!("the workload {} is wrong", path.display()))
    }

    fn parse(text: &str) -> Result<Self> {
        let workload: Self = serde_json::from_str(text)?;
        if workload.targets.is_empty() {
            bail!("`targets` is empty: name at least one");
        }
        let groups = workload.groups();
        if lists_of_targets(&workload).any(names_one_twice) {
            bail!("`targets` names a target twice");
        }
        if groups.is_empty() {
            bail!("there is nothing to measure: give at least one burst");
        }
        if groups.iter().any(|group| group.images == 0 || group.rounds == 0) {
            bail!("a burst needs at least one image and one round");
        }
        if workload.mixed.iter().any(|mixed| mixed.slow_images == 0) {
            bail!("`slowImages` must be at least 1");
        }
        if groups.iter().any(|group| group.line.bytes_per_second == Some(0)) {
            bail!("`bytesPerSecond` must be at least 1");
        }
        let largest = ImageLimits::default().max_image_bytes;
        let sizes = groups.iter().map(|group| group.image_bytes).chain([workload.image_bytes]);
        if !sizes.into_iter().all(|bytes| (SMALLEST_JPEG as u64..=largest).contains(&bytes)) {
            bail!("`imageBytes` must be from {SMALLEST_JPEG} to {largest}");
        }
        if workload.give_up_seconds == 0 {
            bail!("`giveUpSeconds` must be at least 1");
        }
        Ok(workload)
    }

    /// All that is to be measured, in order.
    pub fn groups(&self) -> Vec<Group> {
        let group = |case, images, rounds, targets: &[Target]| Group {
            case,
            to_sink: false,
            targets: if targets.is_empty() { self.targets.clone() } else { targets.to_vec() },
            images,
            slow_images: 0,
            rounds,
            image_bytes: self.image_bytes,
            line: Line::default(),
        };
        let burst = |burst: &Burst| group(Case::Burst, burst.images, burst.rounds, &[]);
        let over = |bytes_per_second| Line { bytes_per_second: Some(bytes_per_second), rtt_ms: 0 };
        let mut groups: Vec<Group> = self.bursts.iter().map(burst).collect();
        groups.extend(self.sink_bursts.iter().map(|on_sink| {
            let mut group = Group { to_sink: true, ..burst(on_sink) };
            // The sink keeps no versions.
            group.targets.retain(|target| *target != Target::V2Version);
            group
        }));
        groups.extend(self.slow.iter().map(|slow| Group {
            line: over(slow.bytes_per_second),
            ..group(Case::Slow, slow.images, slow.rounds, &slow.targets)
        }));
        groups.extend(self.mixed.iter().map(|mixed| Group {
            slow_images: mixed.slow_images,
            line: over(mixed.bytes_per_second),
            ..group(Case::Mixed, mixed.images, mixed.rounds, &mixed.targets)
        }));
        if let Some(crossover) = &self.crossover {
            for (rtt_ms, bytes_per_second) in crossover.lines() {
                groups.extend(crossover.sizes.iter().map(|size| Group {
                    image_bytes: size.image_bytes,
                    line: Line { bytes_per_second, rtt_ms },
                    ..group(Case::Crossover, size.images, crossover.rounds, &[])
                }));
            }
        }
        groups
    }

    /// Leaves out what is not of one of these cases.
    pub fn keep_only(&mut self, cases: &[Case]) {
        let leave_out = |case| !cases.contains(&case);
        if leave_out(Case::Burst) {
            self.bursts.clear();
            self.sink_bursts.clear();
        }
        if leave_out(Case::Slow) {
            self.slow.clear();
        }
        if leave_out(Case::Mixed) {
            self.mixed.clear();
        }
        if leave_out(Case::Crossover) {
            self.crossover = None;
        }
    }

    /// Every target, without repetitions.
    pub fn all_targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for target in self.groups().into_iter().flat_map(|group| group.targets) {
            if !targets.contains(&target) {
                targets.push(target);
            }
        }
        targets
    }
}

impl Crossover {
    fn lines(&self) -> impl Iterator<Item = (u32, Option<u64>)> {
        let rates = |rtt_ms: &u32| {
            let rtt_ms = *rtt_ms;
            self.bytes_per_second.iter().map(move |rate| (rtt_ms, *rate))
        };
        self.rtt_ms.iter().flat_map(rates)
    }
}

impl Group {
    /// Clients that are connected at once, at most.
    pub const fn clients(&self) -> u32 {
        self.images + self.slow_images
    }
}

const fn two_megabits() -> u64 {
    250_000
}

fn lists_of_targets(workload: &Workload) -> impl Iterator<Item = &[Target]> {
    let slow = workload.slow.iter().map(|slow| slow.targets.as_slice());
    let mixed = workload.mixed.iter().map(|mixed| mixed.targets.as_slice());
    [workload.targets.as_slice()].into_iter().chain(slow).chain(mixed)
}

fn names_one_twice(targets: &[Target]) -> bool {
    let mut distinct = targets.to_vec();
    distinct.sort();
    distinct.dedup();
    distinct.len() != targets.len()
}
