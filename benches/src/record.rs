//! What a comparison measures, as `report.json` keeps it: every run with its raw histogram, and the facts of the machine.
//!
//! Everything that the tables, the plots and the advice say is computed from these values and from nothing else, so that a
//! report can be made anew from its file. Nothing here does I/O.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::workload::Workload;

/// The version of `report.json`'s shape; a file of another version is refused.
pub const VERSION: u32 = 1;

/// One comparison: what `report.json` holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// When the first run began.
    pub started_at: DateTime<Utc>,
    /// Where it ran.
    pub machine: Machine,
    /// What was asked for.
    pub workload: Workload,
    /// The runs, in the order in which they were made.
    pub runs: Vec<Run>,
    /// Targets that could not be run here, with the reason in words.
    pub skipped: Vec<Skipped>,
    /// False while runs are still to come: after Ctrl-C, or a failure.
    pub complete: bool,
}

/// The machine and the programs, as far as they decide the figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// CPUs that the comparison may use.
    pub cpus: u32,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The kernel's name and version.
    pub kernel: String,
    /// The commit that was measured, with `+changes` where the tree was not clean.
    pub commit: String,
    /// Versions of the programs that took part, by name: `minio`, `postgres`, `nginx`, `node`, `rustc`.
    pub programs: BTreeMap<String, String>,
    /// How they were set where that decides figures, by what is set: `postgres fsync`, `image seed`.
    pub settings: BTreeMap<String, String>,
    /// How the servers were limited.
    pub limits: Limits,
}

/// How a server's 1 CPU and 1 GB were enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limits {
    /// cgroup v2: the quota of the CPU and the memory, the kernel's socket buffers included.
    CgroupV2,
    /// cgroup v1: the same, without socket buffers.
    CgroupV1,
    /// One CPU by affinity; memory was not enforced.
    Taskset,
}

/// Who carries the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum Target {
    /// upload-v1-streaming by its form: create, upload, link.
    V1,
    /// upload-v2-presigned with POST forms: create, upload, link.
    V2Post,
    /// upload-v2-presigned with PUT: create, upload, link.
    V2Put,
    /// upload-v1-streaming by its own route: one request, nothing linked (the original's V1).
    V1Stream,
    /// upload-v2-presigned: create, upload, nothing linked (the original's V2).
    V2Unlinked,
    /// The bare client, straight to the store with prepared forms: the ceiling.
    Direct,
    /// The same forms through nginx's `proxy_pass`, request buffering off, default buffers.
    Nginx,
    /// The same with `client_body_buffer_size 128k`.
    #[serde(rename = "nginx-128k")]
    #[value(name = "nginx-128k")]
    Nginx128k,
    /// express, multer and multer-s3: one request, as the original's V1.
    NodeV1,
    /// createPresignedPost and one insert: create, upload, as the original's V2.
    NodeV2,
}

/// Where the bytes end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// A real MinIO of the comparison's own.
    Minio,
    /// The embedded store in a process of its own: no MinIO was to be had.
    Embedded,
    /// The store that `S3_ENDPOINT` named.
    Given,
    /// The null sink: checks signatures, counts and discards.
    Sink,
}

/// One round: so many images, one target, one store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// Who carried the bytes.
    pub target: Target,
    /// Where they ended.
    pub store: Store,
    /// Images asked for, all at once in a burst.
    pub images: u32,
    /// Counted from 1.
    pub round: u32,
    /// Size of each image, in bytes.
    pub image_bytes: u64,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How it ended.
    pub ending: Ending,
    /// What the clients saw.
    pub load: Load,
    /// What the server used; none where there is no server (`direct`).
    pub server: Option<Usage>,
    /// CPU time that the store used, in milliseconds; none where it could not be seen.
    pub store_cpu_ms: Option<f64>,
    /// CPU time that the clients used, in milliseconds, all of them together; none where it could not be seen.
    pub generator_cpu_ms: Option<f64>,
    /// CPU time that the hypervisor gave to other machines meanwhile, in milliseconds, of all CPUs together (proc(5), `steal`).
    pub stolen_ms: Option<f64>,
    /// What the sink counted on the server's own connections; none with other stores, and where there is no server.
    pub server_to_store: Option<Traffic>,
    /// What was found in the store and the database afterwards; none where that could not be looked at.
    pub verified: Option<Verified>,
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Ending {
    /// All clients had their answers.
    Finished,
    /// No client got any further for `after_ms`, so that the server was killed.
    #[serde(rename_all = "camelCase")]
    Hung {
        /// How long nothing had happened, in milliseconds.
        after_ms: u64,
    },
    /// The server's process ended.
    Died {
        /// Exit code or signal, and whether it was killed for memory, in words.
        status: String,
    },
    /// What was found afterwards does not agree with what the clients saw: the figures must not be used.
    Void {
        /// What does not agree.
        reason: String,
    },
}

/// What the clients of one run saw. An image is a success when its last step was answered with success.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Images that succeeded.
    pub successes: u64,
    /// Images that did not, by class: `503 overloaded`, `connection`, `timeout`, `given up`.
    pub failures: BTreeMap<String, u64>,
    /// Requests that were sent, also those that were refused.
    pub requests: u64,
    /// Requests that were sent again after a 429 or 503 because the workload allows it.
    pub retries: u64,
    /// Bytes that clients wrote to the server (or relay), heads included.
    pub bytes_to_server: u64,
    /// Bytes that clients read from it.
    pub bytes_from_server: u64,
    /// Bytes that clients wrote straight to the store.
    pub bytes_to_store: u64,
    /// Bytes that clients read from it.
    pub bytes_from_store: u64,
    /// From the release of the first image to the last answer, in milliseconds; failures count.
    pub makespan_ms: f64,
    /// Latencies of the successes, in microseconds from when each image was due: HdrHistogram, V2 encoding, base64.
    pub histogram: String,
    /// The same of each step of the successes, from the answer before it, or from when the image was due; none where there is one step.
    pub steps: BTreeMap<Step, String>,
}

/// One of the requests that a linked image needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The form is asked for.
    Create,
    /// The file is sent as the form says.
    Upload,
    /// The image is linked to its owner.
    Link,
}

/// What a server's process used during a run.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// CPU time in user mode, in milliseconds.
    pub cpu_user_ms: f64,
    /// CPU time in the kernel, in milliseconds.
    pub cpu_system_ms: f64,
    /// How long its threads had to wait because its CPU was used up, in milliseconds, all of them together; none without a cgroup.
    pub throttled_ms: Option<f64>,
    /// The most resident memory of its processes together, in bytes (`VmHWM`).
    pub peak_rss_bytes: u64,
    /// The most memory that its cgroup was charged for, in bytes; none without a cgroup.
    pub peak_cgroup_bytes: Option<u64>,
    /// Memory over time.
    pub memory: Vec<MemorySample>,
}

/// Memory at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MemorySample {
    /// Since the release of the first image, in milliseconds.
    pub at_ms: u64,
    /// Resident memory, in bytes.
    pub rss_bytes: u64,
    /// What the cgroup was charged for, in bytes; none without one.
    pub cgroup_bytes: Option<u64>,
}

/// What passed between a server and the null sink.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Requests, by S3's name of the operation: `PutObject`, `GetObject`, `CopyObject`, `DeleteObject`.
    pub requests: BTreeMap<String, u64>,
    /// Bytes from the server to the store, heads included.
    pub bytes_to_store: u64,
    /// Bytes back.
    pub bytes_from_store: u64,
}

/// What was found after a run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Objects under the prefix where successes end, the warm-up's among them; a sink is emptied in between.
    pub objects: u64,
    /// Rows that say the same; none for targets without rows.
    pub rows: Option<u64>,
    /// Objects whose bytes were read back and had the image's SHA-256.
    pub checksums: u64,
}

/// A target that could not be run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Which one.
    pub target: Target,
    /// Why, in words.
    pub reason: String,
}
