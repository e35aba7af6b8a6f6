//! What to measure: a JSON file like those in `workloads/`. Unknown fields and wrong values are refused by name.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use upload_domain::ImageLimits;
use upload_sandbox::samples::SMALLEST_JPEG;

use crate::record::Target;

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

/// The plan of a full comparison: an hour on two cores.
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
        let all_bursts = || workload.bursts.iter().chain(&workload.sink_bursts);
        if workload.targets.is_empty() {
            bail!("`targets` is empty: name at least one");
        }
        let mut targets = workload.targets.clone();
        targets.sort();
        targets.dedup();
        if targets.len() != workload.targets.len() {
            bail!("`targets` names a target twice");
        }
        if workload.bursts.is_empty() && workload.sink_bursts.is_empty() {
            bail!("`bursts` and `sinkBursts` are both empty: give at least one burst");
        }
        if all_bursts().any(|burst| burst.images == 0 || burst.rounds == 0) {
            bail!("a burst needs at least one image and one round");
        }
        let largest = ImageLimits::default().max_image_bytes;
        if !(SMALLEST_JPEG as u64..=largest).contains(&workload.image_bytes) {
            bail!("`imageBytes` must be from {SMALLEST_JPEG} to {largest}");
        }
        if workload.give_up_seconds == 0 {
            bail!("`giveUpSeconds` must be at least 1");
        }
        Ok(workload)
    }

    /// The largest number of images at once.
    pub fn most_images(&self) -> u32 {
        let bursts = self.bursts.iter().chain(&self.sink_bursts);
        bursts.map(|burst| burst.images).max().unwrap_or(0).max(self.warm_up_images)
    }
}
