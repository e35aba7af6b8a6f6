//! What to measure, as a file in `workloads/` says it: JSON, no field without meaning, every wrong value refused by name.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};
use serde::{Deserialize, Serialize};
use upload_sandbox::samples::SMALLEST_JPEG;

use crate::record::Target;

/// One comparison's plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Workload {
    /// Size of each image, in bytes.
    pub image_bytes: u64,
    /// Who takes part, in the order in which they take turns.
    pub targets: Vec<Target>,
    /// How many images at once, and how often.
    pub bursts: Vec<Burst>,
    /// The same on the null sink.
    pub sink_bursts: Vec<Burst>,
    /// Images that each round's server gets at once before those that count; 0 for a cold one.
    pub warm_up_images: u32,
    /// Whether clients follow `Retry-After` after a 429 or 503.
    pub retry: bool,
    /// How long nothing may happen before a server is given up, in seconds.
    pub give_up_seconds: u64,
}

/// So many images released at once, so often.
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
/// V1 and V2 refuse larger files by default, in bytes.
const LARGEST_IMAGE: u64 = 20 * 1024 * 1024;

impl Workload {
    /// The full plan.
    ///
    /// # Errors
    /// None while the file is as it should be, which a test sees to.
    pub fn full() -> Result<Self> {
        Self::parse(FULL).context("workloads/full.json")
    }

    /// The plan of `--quick`.
    ///
    /// # Errors
    /// None while the file is as it should be, which a test sees to.
    pub fn quick() -> Result<Self> {
        Self::parse(QUICK).context("workloads/quick.json")
    }

    /// A plan of one's own.
    ///
    /// # Errors
    /// One sentence that names the file and what is wrong in it.
    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("the workload {} cannot be read", path.display()))?;
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
            bail!("`targets` names one twice");
        }
        if workload.bursts.is_empty() && workload.sink_bursts.is_empty() {
            bail!("`bursts` and `sinkBursts` are empty: there is nothing to do");
        }
        if all_bursts().any(|burst| burst.images == 0 || burst.rounds == 0) {
            bail!("a burst has at least one image and one round");
        }
        if !(SMALLEST_JPEG as u64..=LARGEST_IMAGE).contains(&workload.image_bytes) {
            bail!("`imageBytes` must be from {SMALLEST_JPEG} to {LARGEST_IMAGE}");
        }
        if workload.give_up_seconds == 0 {
            bail!("`giveUpSeconds` must be at least 1");
        }
        Ok(workload)
    }

    /// The most images at once.
    pub fn most_images(&self) -> u32 {
        let bursts = self.bursts.iter().chain(&self.sink_bursts);
        bursts.map(|burst| burst.images).max().unwrap_or(0).max(self.warm_up_images)
    }
}
