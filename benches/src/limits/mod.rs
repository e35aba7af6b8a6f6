//! Servers as processes with 1 CPU and 1 GiB: by cgroup v2, or v1, or else one CPU by affinity and no limit on memory.
//!
//! A process is in its cgroup from its first instruction: a shell moves itself there and then becomes the program. A trial shows
//! whether cgroups work on this machine.

mod group;
mod hierarchy;
mod limited;

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

/// The CPUs of a server.
pub const CPUS: u32 = 1;
/// The memory of a server, in bytes: 1 GiB.
pub const MEMORY_BYTES: u64 = 1 << 30;

/// Enters the groups before `--`, then becomes the program after it.
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
    /// Finds the best way that this process may use.
    ///
    /// # Errors
    /// Where not even the CPU can be limited.
    pub fn find() -> Result<Self> {
        for hierarchy in hierarchy::candidates() {
            match try_out(&hierarchy) {
                Ok(()) => return Ok(Self(Means::Groups(hierarchy))),
                Err(error) => tracing::debug!(?hierarchy, "cannot create a cgroup: {error:#}"),
            }
        }
        Self::by_taskset()
    }

    /// Affinity to one CPU, for machines without usable cgroups.
    ///
    /// # Errors
    /// Where there is no `taskset`.
    pub fn by_taskset() -> Result<Self> {
        match program("taskset") {
            Some(taskset) => Ok(Self(Means::Taskset(taskset))),
            None => bail!(
                "cannot limit a server to one CPU: use root or a delegated cgroup v2, or install `taskset` (Debian: util-linux)"
            ),
        }
    }

    /// How servers are limited, for the report.
    pub fn limits(&self) -> Limits {
        match &self.0 {
            Means::Groups(hierarchy) => hierarchy.limits(),
            Means::Taskset(_) => Limits::Taskset,
        }
    }

    /// Starts a program within the limits and waits until it prints its address.
    ///
    /// # Errors
    /// Where it ends before that, with the end of its log.
    pub async fn serve(&self, program: Program) -> Result<Limited> {
        let (group, program) = self.confine(program)?;
        Ok(Limited::new(program.serve().await?, group))
    }

    /// The same for a program that listens at `url` once its log contains `ready`.
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

/// The path of a program on PATH.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(name)).find(|binary| binary.is_file())
}

fn launcher(group: &Group) -> Vec<PathBuf> {
    let words = ["/bin/sh", "-c", ENTER, "upload-bench-launcher"].map(PathBuf::from);
    words.into_iter().chain(group.folders().map(Path::to_owned)).chain(["--".into()]).collect()
}

/// Creates a group, runs a process in it, and removes it.
fn try_out(hierarchy: &Hierarchy) -> Result<()> {
    let group = hierarchy.create()?;
    let launcher = launcher(&group);
    let (shell, arguments) = launcher.split_first().context("the launcher is empty")?;
    let status = Command::new(shell)
        .args(arguments)
        .args(["/bin/sh", "-c", ":"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .context("cannot start /bin/sh")?;
    ensure!(status.success(), "cannot move a process into a new cgroup");
    Ok(())
}
