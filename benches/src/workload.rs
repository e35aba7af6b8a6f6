//! What to measure, as a file in `workloads/` says it: JSON, no field without meaning, every wrong value refused by name.

use serde::{Deserialize, Serialize};

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
    /// Images of a first run of each target, which warms up and is not kept; 0 for none.
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
