//! What has to be built before a comparison: the two servers in release mode, and Node's packages. All progress goes to stderr.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::limits::program;

const V1: &str = "upload-v1-streaming";
const V2: &str = "upload-v2-presigned";

/// The servers under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// upload-v1-streaming.
    pub v1: PathBuf,
    /// upload-v2-presigned.
    pub v2: PathBuf,
}

/// What a script of `baselines/node` is run with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The program `node`.
    pub binary: PathBuf,
    /// `baselines/node`, with its packages installed.
    pub folder: PathBuf,
}

/// The part of `cargo metadata` that is wanted.
#[derive(Debug, Deserialize)]
struct Metadata {
    target_directory: PathBuf,
}

/// The servers: those in `folder`, or else built here in release mode.
///
/// # Errors
/// Where one is missing, or the build fails.
pub async fn servers(folder: Option<&Path>) -> Result<Binaries> {
    let folder = match folder {
        Some(folder) => folder.to_owned(),
        None => build_servers().await?,
    };
    // A server starts with an environment and may start in a folder of its own.
    let folder = std::path::absolute(&folder).with_context(|| format!("{} is no path", folder.display()))?;
    let binaries = Binaries { v1: folder.join(V1), v2: folder.join(V2) };
    for binary in [&binaries.v1, &binaries.v2] {
        ensure!(binary.is_file(), "there is no server {}", binary.display());
    }
    Ok(binaries)
}

/// Node with the packages of the baselines, installed once by `npm ci`; the error says why it cannot be had, for the report.
///
/// # Errors
/// Where `node` or `npm` is missing, or the packages cannot be installed.
pub async fn node() -> Result<Node> {
    let Some(binary) = program("node") else { bail!("node is not installed") };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("baselines/node");
    // npm writes this file when all is there; a lock file that was changed since is newer.
    let changed = |path: PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    let installed = changed(folder.join("node_modules/.package-lock.json"));
    if installed.is_none() || installed < changed(folder.join("package-lock.json")) {
        let Some(npm) = program("npm") else {
            bail!("npm, which installs the packages of the baselines, is not installed")
        };
        let mut install = Command::new(npm);
        install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder);
        run(install, "npm ci").await?;
    }
    Ok(Node { binary, folder })
}

async fn build_servers() -> Result<PathBuf> {
    let mut build = cargo();
    build
        .args(["build", "--release", "--locked", "--package", V1, "--package", V2])
        .args(["--manifest-path", MANIFEST]);
    run(build, "cargo build").await?;
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path", MANIFEST]);
    let metadata = metadata.stdin(Stdio::null()).output().await.context("cargo does not start")?;
    let metadata: Metadata = serde_json::from_slice(&metadata.stdout).context("`cargo metadata` cannot be read")?;
    Ok(metadata.target_directory.join("release"))
}

/// The workspace's.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a program to its end, all of its output on stderr.
async fn run(mut command: Command, name: &str) -> Result<()> {
    let command = command.stdin(Stdio::null()).stdout(std::io::stderr()).kill_on_drop(true);
    let status = command.status().await.with_context(|| format!("`{name}` does not start"))?;
    ensure!(status.success(), "`{name}` failed ({status})");
    Ok(())
}
