//! The store of a comparison: the one in the environment, or a throw-away MinIO, or the embedded one.
//!
//! A script (or this binary's hidden `store`) starts the store, runs a command with the store in its environment, and stops the store
//! when the command ends. So the comparison replaces itself by that script, which starts the comparison again.

use std::{env, os::unix::process::CommandExt as _, process::Command};

use anyhow::{Context as _, Result};

use crate::{facts::workspace, limits::program, record::Store};

/// Tells the second start which store the first one chose.
const CHOSEN: &str = "UPLOAD_BENCH_STORE";

/// The store in the environment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// `S3_ENDPOINT` names one.
    Running(Store),
    /// There is no store yet.
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

/// Replaces this process by one that starts a store, and then this program with the same arguments.
///
/// # Errors
/// Returns only when that fails.
pub fn start_again_with_store() -> Result<()> {
    let this = env::current_exe().context("cannot find the path of this program")?;
    let script = workspace().join("scripts/minio");
    let (mut starter, chosen) = if script.is_file() && ["minio", "go"].iter().any(|name| program(name).is_some()) {
        (Command::new(script), "minio")
    } else {
        let mut embedded = Command::new(&this);
        embedded.arg("store");
        (embedded, "embedded")
    };
    let error = starter.arg("--").arg(&this).args(env::args_os().skip(1)).env(CHOSEN, chosen).exec();
    Err(error).context("cannot start the store")
}

/// The process id of the store, if its starter set it.
pub fn process_id() -> Option<u32> {
    env::var("SANDBOX_S3_PID").ok()?.trim().parse().ok()
}
