//! Which store a comparison measures: the one that the environment names, else a throw-away MinIO, else the embedded one.
//!
//! A store is a process of its own, which a script (or this binary's hidden `store`) starts, names in the environment of the
//! command that it runs, and ends with it. So the comparison replaces itself by that script, which starts it again.

use std::{env, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result};

use crate::{facts::workspace, limits::program, record::Store};

/// Tells the second start what the first one has chosen.
const CHOSEN: &str = "UPLOAD_BENCH_STORE";

/// What the environment has to say of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// `S3_ENDPOINT` names one.
    Running(Store),
    /// It names none: one must be started.
    Nothing,
}

/// Looks at the environment.
pub fn find() -> Found {
    match (env::var_os("S3_ENDPOINT").is_some_and(|endpoint| !endpoint.is_empty()), env::var(CHOSEN).as_deref()) {
        (false, _) => Found::Nothing,
        (true, Ok("minio")) => Found::Running(Store::Minio),
        (true, Ok("embedded")) => Found::Running(Store::Embedded),
        (true, _) => Found::Running(Store::Given),
    }
}

/// Replaces this process by one that starts a store and then this program with the same arguments.
///
/// # Errors
/// Returns only when that fails.
pub fn start_again_with_store() -> Result<()> {
    let this = env::current_exe().context("the path of this program cannot be found")?;
    let script = workspace().join("scripts/minio");
    let (mut starter, chosen) = if script.is_file() && ["minio", "go"].iter().any(|name| program(name).is_some()) {
        (Command::new(script), "minio")
    } else {
        let mut embedded = Command::new(&this);
        embedded.arg("store");
        (embedded, "embedded")
    };
    let error = starter.arg("--").arg(&this).args(env::args_os().skip(1)).env(CHOSEN, chosen).exec();
    Err(error).context("the store's starter cannot be run")
}

/// The process id of the store, where whoever started it has told it.
pub fn process_id() -> Option<u32> {
    env::var("SANDBOX_S3_PID").ok()?.trim().parse().ok()
}
