//! The facts that decide the figures: the machine, its kernel, the store's version, and the commit that was measured.

use std::{collections::BTreeMap, fs, path::Path, process::Command, thread};

use crate::{
    record::{Limits, Machine},
    store,
};

/// The facts from Linux and git; `unknown` where they are missing.
pub fn machine(limits: Limits) -> Machine {
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
        programs: BTreeMap::new(),
        settings: BTreeMap::new(),
        limits,
    }
}

/// The version of the MinIO that runs as the store. A MinIO that Go built calls itself a development version, so Go is asked first.
pub fn minio() -> Option<String> {
    let binary = fs::read_link(format!("/proc/{}/exe", store::process_id()?)).ok()?;
    let modules = output(Path::new("go"), &["version", "-m", binary.to_str()?]).unwrap_or_default();
    let module = modules.lines().find_map(|line| line.trim().strip_prefix("mod\tgithub.com/minio/minio\t"));
    let version = module.and_then(|module| module.split_whitespace().next()).map(str::to_owned);
    version.or_else(|| output(&binary, &["--version"])?.lines().next().map(str::to_owned))
}

fn output(program: &Path, arguments: &[&str]) -> Option<String> {
    let answer = Command::new(program).args(arguments).output().ok()?;
    answer.status.success().then(|| String::from_utf8_lossy(&answer.stdout).into_owned())
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

/// Committed runs are not a change.
fn commit() -> Option<String> {
    let head = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changes = git(&["status", "--porcelain", "--", ":!benches/runs"])?;
    Some(if changes.is_empty() { head } else { format!("{head}+changes") })
}

fn git(arguments: &[&str]) -> Option<String> {
    let folder = workspace().to_str()?;
    Some(output(Path::new("git"), &[&["-C", folder], arguments].concat())?.trim().to_owned())
}

/// The folder of the workspace.
pub fn workspace() -> &'static Path {
    const HERE: &str = env!("CARGO_MANIFEST_DIR");
    Path::new(HERE).parent().unwrap_or(Path::new(HERE))
}
