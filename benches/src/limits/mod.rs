//! Servers as processes of their own with 1 CPU and 1 GiB: by cgroup v2, else v1, else one CPU by affinity and no bound on memory.
//!
//! A process is in its cgroup before it executes the first instruction of its program: a shell moves itself there and becomes
//! the program. What can be used here is found out by doing it once, with `true`.

mod group;
mod hierarchy;
mod limited;
mod samples;

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail, ensure};
use upload_sandbox::process::Program;

pub use limited::Limited;

use crate::record::Limits;
use group::Group;
use hierarchy::Hierarchy;

/// CPUs that a server gets.
pub const CPUS: u32 = 1;
/// Memory that a server gets, in bytes: 1 GiB.
pub const MEMORY_BYTES: u64 = 1 << 30;

/// Moves itself into the groups before `--`, then becomes the program after it.
const ENTER: &str = r#"while [ "$1" != -- ]; do echo 0 >"$1/cgroup.procs" || exit 125; shift; done; shift; exec "$@""#;

/// How servers are limited on this machine.
#[derive(Debug, Clone)]
pub struct Limiter(Means);

#[derive(Debug, Clone)]
enum Means {
    Groups(Hierarchy),
    Taskset(PathBuf),
}

impl Limiter {
    /// Finds the best means that this process may use, and removes cgroups that a killed comparison left.
    ///
    /// # Errors
    /// Where not even the CPU can be limited.
    pub fn find() -> Result<Self> {
        for hierarchy in hierarchy::candidates() {
            hierarchy.remove_stale();
            match try_out(&hierarchy) {
                Ok(()) => return Ok(Self(Means::Groups(hierarchy))),
                Err(error) => tracing::debug!(?hierarchy, "no cgroup can be made: {error:#}"),
            }
        }
        Self::by_taskset()
    }

    /// Affinity to one CPU, as on a machine where no cgroup can be made.
    ///
    /// # Errors
    /// Where there is no `taskset`.
    pub fn by_taskset() -> Result<Self> {
        match program("taskset") {
            Some(taskset) => Ok(Self(Means::Taskset(taskset))),
            None => bail!(
                "a server cannot be limited to one CPU here: no cgroup can be made (that needs root, or a delegated cgroup v2), and \
                 there is no `taskset` (Debian: util-linux)"
            ),
        }
    }

    /// The means, as a report names it.
    pub fn limits(&self) -> Limits {
        match &self.0 {
            Means::Groups(hierarchy) => hierarchy.limits(),
            Means::Taskset(_) => Limits::Taskset,
        }
    }

    /// Starts a program within the limits and waits until it says where it listens.
    ///
    /// # Errors
    /// Where it ends before that, with its last words.
    pub async fn serve(&self, program: Program) -> Result<Limited> {
        let (group, program) = self.confine(program)?;
        Ok(Limited::new(program.serve().await?, group))
    }

    /// The same for a program that is known to listen at `url` as soon as its log has `ready` in it.
    ///
    /// # Errors
    /// Where it ends before that, with its log.
    pub async fn serve_at(&self, program: Program, url: String, ready: &str) -> Result<Limited> {
        let (group, program) = self.confine(program)?;
        Ok(Limited::new(program.serve_at(url, ready).await?, group))
    }

    fn confine(&self, program: Program) -> Result<(Option<Group>, Program)> {
        match &self.0 {
            Means::Groups(hierarchy) => {
                let group = hierarchy.create()?;
                let program = program.under(launcher(&group));
                Ok((Some(group), program))
            }
            Means::Taskset(taskset) => {
                let words = [taskset.clone().into_os_string(), "--cpu-list".into(), "0".into()];
                Ok((None, program.under(words)))
            }
        }
    }
}

/// A program's path, searched for as a shell does it.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|binary| binary.is_file())
}

fn launcher(group: &Group) -> Vec<PathBuf> {
    let words = ["/bin/sh", "-c", ENTER, "upload-bench-launcher"].map(PathBuf::from);
    words.into_iter().chain(group.folders().map(Path::to_owned)).chain(["--".into()]).collect()
}

/// Makes a group, runs `true` in it, and removes it again.
fn try_out(hierarchy: &Hierarchy) -> Result<()> {
    let group = hierarchy.create()?;
    let launcher = launcher(&group);
    let (shell, arguments) = launcher.split_first().context("a launcher has words")?;
    let status = Command::new(shell)
        .args(arguments)
        .args(["/bin/sh", "-c", ":"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("/bin/sh does not start")?;
    ensure!(status.success(), "a process cannot be moved into a new cgroup");
    Ok(())
}
