//! What decides the figures besides the programs: the machine, its kernel, and the commit that was measured.

use std::{collections::BTreeMap, fs, path::Path, process::Command, thread};

use crate::record::{Limits, Machine};

/// Reads what Linux and git say of themselves; what they do not say is called unknown.
pub fn machine(limits: Limits, programs: BTreeMap<String, String>) -> Machine {
    let kibibytes = field("/proc/meminfo", "MemTotal").and_then(|total| total.strip_suffix(" kB")?.parse::<u64>().ok());
    Machine {
        cpu: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
        cpus: thread::available_parallelism().map_or(1, |cpus| u32::try_from(cpus.get()).unwrap_or(u32::MAX)),
        memory_bytes: kibibytes.unwrap_or(0) * 1024,
        kernel: fs::read_to_string("/proc/version")
            .ok()
            .map(|version| version.split_whitespace().take(3).collect::<Vec<_>>().join(" "))
            .unwrap_or_else(unknown),
        commit: commit().unwrap_or_else(unknown),
        programs,
        limits,
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

/// The value of the first line `name : value`.
fn field(path: &str, name: &str) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.trim_start().strip_prefix(':'));
    line.map(|value| value.trim().to_owned())
}

/// Runs of the past are no change of what is measured.
fn commit() -> Option<String> {
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--", ":!benches/runs"])?;
    Some(if changes.is_empty() { head } else { format!("{head}+changes") })
}

fn git(arguments: &[&str]) -> Option<String> {
    let answer = Command::new("git").arg("-C").arg(workspace()).args(arguments).output().ok()?;
    answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).trim().to_owned())
}

/// The folder of the workspace that this binary was built in.
pub fn workspace() -> &'static Path {
    const HERE: &str = env!("CARGO_MANIFEST_DIR");
    Path::new(HERE).parent().unwrap_or(Path::new(HERE))
}
