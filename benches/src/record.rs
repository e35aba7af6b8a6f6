//! The measurements of a comparison, as in `report.json`: every round with its raw histogram, and the facts of the machine.
//!
//! The tables, the plots and the advice are computed from these values alone. Nothing here does I/O.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::workload::Workload;

/// The version of the format. Files of another version are refused.
pub const VERSION: u32 = 1;

/// One comparison: the content of `report.json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// When the first round began.
    pub started_at: DateTime<Utc>,
    /// The machine.
    pub machine: Machine,
    /// The plan.
    pub workload: Workload,
    /// The rounds, in order.
    pub runs: Vec<Run>,
    /// Targets that could not run here, and why.
    pub skipped: Vec<Skipped>,
    /// False if rounds are missing: after Ctrl-C, or a failure.
    pub complete: bool,
}

/// The machine and the programs that decide the figures.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// The processor's name.
    pub cpu: String,
    /// The CPUs that the comparison may use.
    pub cpus: u32,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The kernel's name and version.
    pub kernel: String,
    /// The commit that was measured, with `+changes` if the tree was not clean.
    pub commit: String,
    /// Versions of the programs, by name: `minio`, `postgres`, `nginx`, `node`, `rustc`.
    pub programs: BTreeMap<String, String>,
    /// Settings that decide the figures, by name: `postgres fsync`, `image seed`.
    pub settings: BTreeMap<String, String>,
    /// How the servers were limited.
    pub limits: Limits,
}

/// How the limits of 1 CPU and 1 GB were enforced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Limits {
    /// cgroup v2: CPU and memory, socket buffers included.
    CgroupV2,
    /// cgroup v1: CPU and memory, without socket buffers.
    CgroupV1,
    /// One CPU by affinity; memory was not limited.
    Taskset,
}

/// A target of the comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum Target {
    /// upload-v1-streaming by its form: create, upload, link.
    V1,
    /// The same behind an nginx that reads the whole request before it passes it on (`proxy_request_buffering on`).
    V1Buffered,
    /// upload-v2-presigned with POST forms: create, upload, link.
    V2Post,
    /// The same with `S3_PIN=version`, on a bucket that keeps versions: its link makes no copy.
    V2Version,
    /// upload-v2-presigned with PUT: create, upload, link.
    V2Put,
    /// upload-v1-streaming by its own route: one request, nothing linked (the original's V1).
    V1Stream,
    /// upload-v2-presigned: create, upload, nothing linked (the original's V2).
    V2Unlinked,
    /// The bare client, straight to the store with prepared forms: the upper bound.
    Direct,
    /// The same forms through nginx's `proxy_pass`, with request buffering off and default buffers.
    Nginx,
    /// The same with `client_body_buffer_size 128k`.
    #[serde(rename = "nginx-128k")]
    #[value(name = "nginx-128k")]
    Nginx128k,
    /// express, multer and multer-s3: one request (the original's V1).
    NodeV1,
    /// createPresignedPost and one insert: create, upload (the original's V2).
    NodeV2,
}

/// A store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Store {
    /// A real MinIO that was started for the comparison.
    Minio,
    /// The embedded store in a process of its own, on a machine without MinIO.
    Embedded,
    /// The store that `S3_ENDPOINT` named.
    Given,
    /// The null sink, which checks signatures, counts and discards.
    Sink,
}

/// What the clients of a round do.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
#[value(rename_all = "kebab-case")]
pub enum Case {
    /// All send at once, as fast as they can.
    #[default]
    Burst,
    /// All send at once, each over a slow line.
    Slow,
    /// Fast clients arrive while slow ones are sending.
    Mixed,
    /// One after another over lines of one kind: a cell of the crossover.
    Crossover,
}

/// The line of each client.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Line {
    /// The most bytes that it sends in a second. `None`: as fast as it can.
    pub bytes_per_second: Option<u64>,
    /// The time that a round trip takes longer than on this machine, in milliseconds.
    pub rtt_ms: u32,
}

impl Line {
    /// How long the line alone takes for an image, in seconds. `None` without a limit of the rate.
    pub fn ideal_s(&self, image_bytes: u64) -> Option<f64> {
        Some(image_bytes as f64 / self.bytes_per_second? as f64)
    }
}

/// The clients of a mixed round beside those of [`Run::load`], which arrive while the slow ones are sending.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Beside {
    /// What as many fast clients saw before the slow ones came.
    pub alone: Load,
    /// Slow clients.
    pub slow_images: u32,
    /// What the slow clients saw.
    pub slow: Load,
}

/// One round: a number of images, one target, one store.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The target.
    pub target: Target,
    /// The store.
    pub store: Store,
    /// What the clients did. A burst, if the file does not say it.
    #[serde(default)]
    pub case: Case,
    /// Images, without the slow ones of a mixed round.
    pub images: u32,
    /// Counted from 1.
    pub round: u32,
    /// Size of each image, in bytes.
    pub image_bytes: u64,
    /// The lines of the clients; in a mixed round, of the slow ones.
    #[serde(default)]
    pub line: Line,
    /// When it began.
    pub started_at: DateTime<Utc>,
    /// How it ended.
    pub ending: Ending,
    /// What the clients saw.
    pub load: Load,
    /// The other clients of a mixed round.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<Beside>,
    /// What the server used. `None` without a server (`direct`).
    pub server: Option<Usage>,
    /// What the proxy in front of the server used. `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub proxy: Option<Usage>,
    /// CPU time of the store, in milliseconds. `None` if it is not known.
    pub store_cpu_ms: Option<f64>,
    /// CPU time of all clients together, in milliseconds. `None` if it is not known.
    pub generator_cpu_ms: Option<f64>,
    /// CPU time of all CPUs that the hypervisor gave to other machines, in milliseconds (proc(5), `steal`).
    pub stolen_ms: Option<f64>,
    /// What the sink counted on the server's connections. `None` with other stores, and without a server.
    pub server_to_store: Option<Traffic>,
    /// What was found in the store and the database afterwards. `None` if the round did not finish.
    pub verified: Option<Verified>,
}

/// How a round ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how")]
pub enum Ending {
    /// All clients had an answer or failed.
    Finished,
    /// No client made progress for `after_ms`, so the server was killed.
    #[serde(rename_all = "camelCase")]
    Hung {
        /// How long there was no progress, in milliseconds.
        after_ms: u64,
    },
    /// The server's process ended.
    Died {
        /// The exit code or signal, and whether it was killed for memory.
        status: String,
    },
    /// What was found afterwards differs from what the clients saw: the figures must not be used.
    Void {
        /// The difference.
        reason: String,
    },
}

/// What the clients of one round saw. An image succeeds when its last step succeeds.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Load {
    /// Images that succeeded.
    pub successes: u64,
    /// Images that failed, by class: `503 overloaded`, `connection`, `timeout`, `given up`.
    pub failures: BTreeMap<String, u64>,
    /// All requests, refused ones included.
    pub requests: u64,
    /// Requests that were repeated after a 429 or 503.
    pub retries: u64,
    /// Bytes that clients wrote to the server or relay, headers included.
    pub bytes_to_server: u64,
    /// Bytes that clients read from it.
    pub bytes_from_server: u64,
    /// Bytes that clients wrote straight to the store.
    pub bytes_to_store: u64,
    /// Bytes that clients read from it.
    pub bytes_from_store: u64,
    /// From the release of the first image to the last answer, in milliseconds; failures count.
    pub makespan_ms: f64,
    /// Latencies of the successes, in microseconds since each image was due: HdrHistogram, V2 encoding, base64.
    pub histogram: String,
    /// The same for each step of the successes, since the previous answer. Empty if there is one step.
    pub steps: BTreeMap<Step, String>,
}

/// One of the requests that a linked image needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// The client asks for the form.
    Create,
    /// The client sends the file.
    Upload,
    /// The client links the image.
    Link,
}

/// What a server used during a round.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// CPU time in user mode, in milliseconds.
    pub cpu_user_ms: f64,
    /// CPU time in the kernel, in milliseconds.
    pub cpu_system_ms: f64,
    /// The peak of its resident memory, in bytes (`VmHWM`).
    pub peak_rss_bytes: u64,
    /// The peak of its cgroup's memory, in bytes. `None` without a cgroup.
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
    /// The memory of the cgroup, in bytes. `None` without one.
    pub cgroup_bytes: Option<u64>,
}

/// The traffic between a server and the null sink.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Traffic {
    /// Requests, by S3's name of the operation: `PutObject`, `GetObject`, `CopyObject`, `DeleteObject`.
    pub requests: BTreeMap<String, u64>,
    /// Bytes from the server to the store, headers included.
    pub bytes_to_store: u64,
    /// Bytes back.
    pub bytes_from_store: u64,
}

/// What was found after a round.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Verified {
    /// Objects under the prefix of successful images. They include the warm-up, except on the sink.
    pub objects: u64,
    /// Rows of successful images. `None` for targets without rows.
    pub rows: Option<u64>,
    /// Objects that were read back and had the right SHA-256.
    pub checksums: u64,
}

/// A target that could not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// The target.
    pub target: Target,
    /// The reason.
    pub reason: String,
}
