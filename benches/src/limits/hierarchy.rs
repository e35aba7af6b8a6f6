//! Where cgroups can be created: the mounts of v2 and v1, and in them the folders that this process may use.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context as _, Result};

use super::{CPUS, MEMORY_BYTES, group::Group};
use crate::record::Limits;

/// The beginning of every group's name; the process id of its creator follows.
const PREFIX: &str = "upload-bench-";
/// The period of the CPU quota, in microseconds: the default of the kernel and of Docker.
const PERIOD_US: u32 = 100_000;

/// Folders in which groups can be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Hierarchy {
    /// One tree for all.
    V2(PathBuf),
    /// A tree for each controller. Some machines mount several together.
    V1 { cpu: PathBuf, accounting: PathBuf, memory: PathBuf },
}

impl Hierarchy {
    /// For the report.
    pub(super) fn limits(&self) -> Limits {
        match self {
            Self::V2(_) => Limits::CgroupV2,
            Self::V1 { .. } => Limits::CgroupV1,
        }
    }

    /// Creates a group with the limits. Dropping it kills its processes and removes it.
    pub(super) fn create(&self) -> Result<Group> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{PREFIX}{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let quota_us = CPUS * PERIOD_US;
        match self {
            Self::V2(folder) => {
                enable(folder)?;
                let group = Group::v2(folder.join(name))?;
                group.set("cpu.max", &format!("{quota_us} {PERIOD_US}"))?;
                group.set("memory.max", &MEMORY_BYTES.to_string())?;
                group.set_if_there("memory.swap.max", "0")?;
                Ok(group)
            }
            Self::V1 { cpu, accounting, memory } => {
                let group = Group::v1(cpu.join(&name), accounting.join(&name), memory.join(&name))?;
                group.set("cpu.cfs_period_us", &PERIOD_US.to_string())?;
                group.set("cpu.cfs_quota_us", &quota_us.to_string())?;
                group.set("memory.limit_in_bytes", &MEMORY_BYTES.to_string())?;
                // Memory and swap together. It must not be less than memory alone, so it is set second.
                group.set_if_there("memory.memsw.limit_in_bytes", &MEMORY_BYTES.to_string())?;
                Ok(group)
            }
        }
    }
}

/// Every possible place, the best first.
pub(super) fn candidates() -> Vec<Hierarchy> {
    let read = |path| fs::read_to_string(path).unwrap_or_default();
    candidates_of(&read("/proc/self/mountinfo"), &read("/proc/self/cgroup"))
}

/// In each tree the root, where no other limit applies, and then this process's own group. In v2 also the groups above it, because a
/// group with processes cannot have child groups with controllers (cgroups(7)).
fn candidates_of(mounts: &str, own: &str) -> Vec<Hierarchy> {
    let own = |controller: &str| {
        own.lines().find_map(|line| {
            let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
            controllers.split(',').any(|name| name == controller).then_some(path)
        })
    };
    let mounts: Vec<Mount<'_>> = mounts.lines().filter_map(Mount::parse).collect();
    let mut candidates = Vec::new();
    for mount in mounts.iter().filter(|mount| mount.kind == "cgroup2") {
        candidates.push(Hierarchy::V2(mount.folder.to_owned()));
        let own = mount.folder_of(own("").unwrap_or("/"));
        let below = own.ancestors().take_while(|folder| *folder != mount.folder);
        candidates.extend(below.map(|folder| Hierarchy::V2(folder.to_owned())));
    }
    let v1 = |controller: &str| {
        let has =
            |mount: &&Mount<'_>| mount.kind == "cgroup" && mount.options.split(',').any(|name| name == controller);
        mounts.iter().find(has)
    };
    if let (Some(cpu), Some(accounting), Some(memory)) = (v1("cpu"), v1("cpuacct"), v1("memory")) {
        let at = |folder: fn(&Mount<'_>, &str) -> PathBuf| Hierarchy::V1 {
            cpu: folder(cpu, own("cpu").unwrap_or("/")),
            accounting: folder(accounting, own("cpuacct").unwrap_or("/")),
            memory: folder(memory, own("memory").unwrap_or("/")),
        };
        let root = at(|mount, _own| mount.folder.to_owned());
        let own = at(|mount, own| mount.folder_of(own));
        candidates.push(root.clone());
        candidates.extend((own != root).then_some(own));
    }
    candidates
}

/// A line of `/proc/self/mountinfo`.
#[derive(Debug)]
struct Mount<'a> {
    root: &'a str,
    folder: &'a Path,
    kind: &'a str,
    options: &'a str,
}

impl<'a> Mount<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let (place, what) = line.split_once(" - ")?;
        let mut place = place.split(' ').skip(3);
        let (root, folder) = (place.next()?, Path::new(place.next()?));
        let mut what = what.split(' ');
        Some(Self { root, folder, kind: what.next()?, options: what.nth(1)? })
    }

    /// The folder of a group. The kernel names it from the root of the tree, of which a container mounts only a part.
    fn folder_of(&self, group: &str) -> PathBuf {
        let below = Path::new(group).strip_prefix(self.root).or_else(|_| Path::new(group).strip_prefix("/"));
        below.map_or_else(|_| self.folder.to_owned(), |below| self.folder.join(below).components().collect())
    }
}

/// Enables the two controllers for the groups in a folder.
fn enable(folder: &Path) -> Result<()> {
    let path = folder.join("cgroup.subtree_control");
    let enabled = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    if ["cpu", "memory"].iter().all(|wanted| enabled.split_whitespace().any(|name| name == *wanted)) {
        return Ok(());
    }
    fs::write(&path, "+cpu +memory").with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEPARATE: &str = "\
        31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755\n\
        32 31 0:29 / /sys/fs/cgroup/cpu rw,relatime - cgroup cgroup rw,cpu\n\
        33 31 0:30 / /sys/fs/cgroup/cpuacct rw,relatime shared:1 - cgroup cgroup rw,cpuacct\n\
        34 31 0:31 / /sys/fs/cgroup/cpuset rw,relatime - cgroup cgroup rw,cpuset\n\
        35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory\n";

    fn v1(cpu: &str, accounting: &str, memory: &str) -> Hierarchy {
        Hierarchy::V1 { cpu: cpu.into(), accounting: accounting.into(), memory: memory.into() }
    }

    #[test]
    fn separate_trees_of_v1_are_found_first_at_their_roots() {
        let own = "4:memory:/job/1\n3:cpuset:/\n2:cpuacct:/\n1:cpu:/\n0::/\n";
        let root = v1("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/memory");
        let mine = v1("/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/memory/job/1");
        assert_eq!(candidates_of(SEPARATE, own), [root, mine]);
    }

    #[test]
    fn controllers_that_are_mounted_together_are_found_too() {
        let mounts = "\
            1 1 0:1 /docker/7 /sys/fs/cgroup/cpu,cpuacct ro - cgroup cgroup rw,cpu,cpuacct\n\
            2 1 0:2 /docker/7 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n";
        let own = "2:memory:/docker/7\n1:cpu,cpuacct:/docker/7/x\n";
        let together = "/sys/fs/cgroup/cpu,cpuacct";
        let inner = "/sys/fs/cgroup/cpu,cpuacct/x";
        let memory = "/sys/fs/cgroup/memory";
        assert_eq!(candidates_of(mounts, own), [v1(together, together, memory), v1(inner, inner, memory)]);
    }

    #[test]
    fn v2_comes_first_and_goes_up_from_the_own_group() {
        let mounts = format!("40 31 0:9 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n{SEPARATE}");
        let own = "2:memory:/\n0::/user.slice/run.scope\n";
        let candidates = candidates_of(&mounts, own);
        let v2 = ["/sys/fs/cgroup", "/sys/fs/cgroup/user.slice/run.scope", "/sys/fs/cgroup/user.slice"];
        assert_eq!(candidates[..3], v2.map(|folder| Hierarchy::V2(folder.into())));
        assert!(matches!(candidates[3], Hierarchy::V1 { .. }));
    }

    #[test]
    fn a_machine_without_cgroups_has_no_candidate() {
        assert_eq!(candidates_of("31 23 0:28 / / rw - ext4 /dev/root rw\n", ""), []);
    }
}
