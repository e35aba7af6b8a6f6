//! One cgroup: created, read and removed.
//!
//! A shell with the read end of a pipe removes it. When this process ends, even by a kill, the pipe closes. The shell then kills all
//! processes in the group and removes it.

use std::{
    collections::BTreeSet,
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::FileExt as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
};

use anyhow::{Context as _, Result};

use crate::usage::CpuTime;

/// A group can be removed only after the parents of its processes have waited for them.
const KEEPER: &str = r#"trap '' HUP INT TERM
read -r _
tries=0
for folder; do
    until rmdir "$folder" 2>/dev/null; do
        tries=$((tries + 1))
        [ -d "$folder" ] && [ "$tries" -lt 400 ] || break
        while read -r id; do kill -9 "$id"; done 2>/dev/null <"$folder/cgroup.procs"
        sleep 0.01
    done
done"#;

/// A group with the shell that removes it. Dropping it kills its processes, removes it and waits for that.
#[derive(Debug)]
pub(super) struct Group {
    gauges: Gauges,
    keeper: Child,
}

/// The files that a group is read from.
#[derive(Debug, Clone)]
pub(super) enum Gauges {
    V2 {
        folder: PathBuf,
        /// Kept open: a reset applies to readers of the same open file (Linux 6.12).
        peak: Option<Arc<File>>,
    },
    V1 {
        cpu: PathBuf,
        accounting: PathBuf,
        memory: PathBuf,
    },
}

impl Group {
    pub(super) fn v2(folder: PathBuf) -> Result<Self> {
        Self::make(Gauges::V2 { folder, peak: None })
    }

    pub(super) fn v1(cpu: PathBuf, accounting: PathBuf, memory: PathBuf) -> Result<Self> {
        Self::make(Gauges::V1 { cpu, accounting, memory })
    }

    fn make(gauges: Gauges) -> Result<Self> {
        let keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER, "upload-bench-keeper"])
            .args(gauges.folders())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("cannot start /bin/sh, which removes a cgroup")?;
        // From here on, dropping the value removes the folders.
        let mut group = Self { gauges, keeper };
        for folder in group.gauges.folders() {
            fs::create_dir(folder).with_context(|| format!("cannot create {}", folder.display()))?;
        }
        if let Gauges::V2 { folder, peak } = &mut group.gauges {
            *peak = OpenOptions::new().read(true).write(true).open(folder.join("memory.peak")).ok().map(Arc::new);
        }
        Ok(group)
    }

    /// Its folders, each once.
    pub(super) fn folders(&self) -> impl Iterator<Item = &Path> {
        self.gauges.folders().into_iter()
    }

    pub(super) fn gauges(&self) -> &Gauges {
        &self.gauges
    }

    /// Writes a setting.
    pub(super) fn set(&self, name: &str, value: &str) -> Result<()> {
        let path = self.gauges.file(name);
        fs::write(&path, value).with_context(|| format!("cannot set {} to {value}", path.display()))
    }

    /// Writes a setting that not every kernel has.
    pub(super) fn set_if_there(&self, name: &str, value: &str) -> Result<()> {
        if self.gauges.file(name).exists() { self.set(name, value) } else { Ok(()) }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        if let Err(error) = self.keeper.wait() {
            tracing::warn!(%error, "cannot wait for the shell that removes a cgroup");
        }
        for folder in self.folders().filter(|folder| folder.exists()) {
            tracing::warn!(folder = %folder.display(), "cannot remove a cgroup");
        }
    }
}

impl Gauges {
    fn folders(&self) -> BTreeSet<&Path> {
        match self {
            Self::V2 { folder, .. } => BTreeSet::from([folder.as_path()]),
            Self::V1 { cpu, accounting, memory } => {
                BTreeSet::from([cpu.as_path(), accounting.as_path(), memory.as_path()])
            }
        }
    }

    /// A file by its name, which begins with the name of its controller.
    fn file(&self, name: &str) -> PathBuf {
        match self {
            Self::V2 { folder, .. } => folder.join(name),
            Self::V1 { cpu, .. } if name.starts_with("cpu.") => cpu.join(name),
            Self::V1 { accounting, .. } if name.starts_with("cpuacct.") => accounting.join(name),
            Self::V1 { memory, .. } => memory.join(name),
        }
    }

    fn read(&self, name: &str) -> io::Result<String> {
        fs::read_to_string(self.file(name))
    }

    fn read_number(&self, name: &str) -> Option<u64> {
        self.read(name).ok()?.trim().parse().ok()
    }

    /// CPU time since the group was created, ended processes included.
    pub(super) fn cpu(&self) -> Result<CpuTime> {
        match self {
            Self::V2 { .. } => {
                let stat = self.read("cpu.stat").context("cannot read cpu.stat")?;
                let ms = |name| number(&stat, name).map(|us| us as f64 / 1e3).with_context(|| format!("no {name}"));
                Ok(CpuTime { user_ms: ms("user_usec")?, system_ms: ms("system_usec")? })
            }
            Self::V1 { .. } => {
                let nanoseconds = self.read_number("cpuacct.usage").context("cannot read cpuacct.usage")?;
                let stat = self.read("cpuacct.stat").context("cannot read cpuacct.stat")?;
                let ticks = |name| number(&stat, name).with_context(|| format!("no {name}"));
                Ok(split(nanoseconds, ticks("user")?, ticks("system")?))
            }
        }
    }

    /// The memory that it is charged for now, in bytes.
    pub(super) fn memory_bytes(&self) -> Option<u64> {
        self.read_number(match self {
            Self::V2 { .. } => "memory.current",
            Self::V1 { .. } => "memory.usage_in_bytes",
        })
    }

    /// The most since it was created or the last [`Gauges::reset_peak`], in bytes.
    pub(super) fn peak_bytes(&self) -> Option<u64> {
        match self {
            Self::V2 { peak, .. } => {
                let mut text = [0; 32];
                let length = peak.as_ref()?.read_at(&mut text, 0).ok()?;
                std::str::from_utf8(&text[..length]).ok()?.trim().parse().ok()
            }
            Self::V1 { .. } => self.read_number("memory.max_usage_in_bytes"),
        }
    }

    /// Resets the peak. With cgroup v2 before Linux 6.12 it counts from the start of the group.
    pub(super) fn reset_peak(&self) {
        let reset = match self {
            Self::V2 { peak: Some(peak), .. } => peak.write_at(b"reset", 0).map(|_bytes| ()),
            Self::V2 { .. } => Ok(()),
            Self::V1 { .. } => fs::write(self.file("memory.max_usage_in_bytes"), "0"),
        };
        if let Err(error) = reset {
            tracing::debug!(%error, "cannot reset the peak memory of a cgroup");
        }
    }

    /// How many processes were killed for memory.
    pub(super) fn killed_for_memory(&self) -> u64 {
        let events = self.read(match self {
            Self::V2 { .. } => "memory.events",
            Self::V1 { .. } => "memory.oom_control",
        });
        events.ok().and_then(|events| number(&events, "oom_kill")).unwrap_or(0)
    }

    /// The processes in it.
    pub(super) fn processes(&self) -> Vec<u32> {
        let processes = self.read("cgroup.procs").unwrap_or_default();
        processes.lines().filter_map(|line| line.parse().ok()).collect()
    }
}

/// The value of a line `name value`.
fn number(lines: &str, name: &str) -> Option<u64> {
    lines.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// Splits an exact sum in the proportion of coarse ticks, as v2 does. Before Linux 5.17, `cpuacct.usage_user` and `cpuacct.usage_sys`
/// were not exact.
fn split(nanoseconds: u64, user_ticks: u64, system_ticks: u64) -> CpuTime {
    let ms = nanoseconds as f64 / 1e6;
    let ticks = user_ticks + system_ticks;
    let user_ms = if ticks == 0 { ms } else { ms * user_ticks as f64 / ticks as f64 };
    CpuTime { user_ms, system_ms: ms - user_ms }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_exact_sum_is_divided_as_the_ticks_are() {
        assert_eq!(split(4_000_000, 3, 1), CpuTime { user_ms: 3.0, system_ms: 1.0 });
        assert_eq!(split(4_000_000, 0, 0), CpuTime { user_ms: 4.0, system_ms: 0.0 });
    }

    #[test]
    fn a_line_is_found_by_its_whole_name() {
        let stat = "usage_usec 12\nuser_usec 10\nsystem_usec 2\noom_kill_disable 0\noom_kill 1\n";
        assert_eq!(number(stat, "user_usec"), Some(10));
        assert_eq!(number(stat, "oom_kill"), Some(1));
        assert_eq!(number(stat, "oom"), None);
    }
}
