//! Builds what a comparison needs: the two servers in release mode, and Node's packages. Their output goes to stderr.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail, ensure};
use serde::Deserialize;
use tokio::process::Command;

use crate::limits::program;

const V1: &str = "upload-v1-streaming";
const V2: &str = "upload-v2-presigned";
const PACKAGES: &str = "node_modules";
const PACKAGE_LOCK: &str = "package-lock.json";
/// A copy of package-lock.json among the packages, written when they are complete.
const COMPLETE: &str = ".upload-bench-complete";

/// The servers under test.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// upload-v1-streaming.
    pub v1: PathBuf,
    /// upload-v2-presigned.
    pub v2: PathBuf,
}

/// Node, which runs the scripts of `baselines/node`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The program `node`.
    pub binary: PathBuf,
    /// `baselines/node`, with its packages installed.
    pub folder: PathBuf,
}

/// The part of `cargo metadata` that is needed.
#[derive(Debug, Deserialize)]
struct Metadata {
    target_directory: PathBuf,
}

/// The servers: those in `folder`, or built here in release mode.
///
/// # Errors
/// Where one is missing, or the build fails.
pub async fn servers(folder: Option<&Path>) -> Result<Binaries> {
    let folder = match folder {
        Some(folder) => folder.to_owned(),
        None => build_servers().await?,
    };
    // A server may start in another folder.
    let folder = std::path::absolute(&folder).with_context(|| format!("{} is not a path", folder.display()))?;
    let binaries = Binaries { v1: folder.join(V1), v2: folder.join(V2) };
    for binary in [&binaries.v1, &binaries.v2] {
        ensure!(binary.is_file(), "{} does not exist", binary.display());
    }
    Ok(binaries)
}

/// Node with the packages of the baselines. The error says what is missing, for the report.
///
/// # Errors
/// Where `node` or `npm` is missing, or the packages cannot be installed.
pub async fn node() -> Result<Node> {
    let Some(binary) = program("node") else { bail!("node is not installed") };
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("baselines/node");
    if !is_installed(&folder) {
        let Some(npm) = program("npm") else { bail!("npm is not installed") };
        install_packages(&npm, &folder).await?;
    }
    Ok(Node { binary, folder })
}

/// Installs the packages of `folder`'s package-lock.json once. Other callers, in this or another process, wait for it.
///
/// npm works in a temporary folder, and the packages are moved into place when they are complete. npm's own mark is not enough,
/// because npm writes it before that.
///
/// # Errors
/// Where npm fails, or the folder cannot be written.
pub async fn install_packages(npm: &Path, folder: &Path) -> Result<()> {
    let beside = folder.join(".install");
    fs::create_dir_all(&beside).with_context(|| format!("cannot create {}", beside.display()))?;
    let lock = tokio::task::spawn_blocking({
        let lock = File::create(beside.join("lock"))?;
        move || lock.lock().map(|()| lock)
    });
    let lock = lock.await?.context("cannot lock the folder of Node's packages")?;
    if is_installed(folder) {
        return Ok(());
    }
    remove_partial(&beside)?;
    let partial = tempfile::tempdir_in(&beside)?;
    for file in ["package.json", PACKAGE_LOCK] {
        fs::copy(folder.join(file), partial.path().join(file)).with_context(|| format!("cannot copy {file}"))?;
    }
    let mut install = Command::new(npm);
    install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(partial.path());
    // npm inherits the lock, and so holds it until it ends, even if this process is killed.
    run(install.stdin(lock.try_clone()?), "npm ci").await?;
    let (packages, place) = (partial.path().join(PACKAGES), folder.join(PACKAGES));
    fs::copy(partial.path().join(PACKAGE_LOCK), packages.join(COMPLETE)).context("cannot mark the packages")?;
    if fs::symlink_metadata(&place).is_ok() {
        fs::rename(&place, partial.path().join("replaced")).context("cannot move other packages away")?;
    }
    fs::rename(&packages, &place).context("cannot move the packages into place")
}

/// Whether the packages of the current package-lock.json are installed.
fn is_installed(folder: &Path) -> bool {
    let installed = fs::read(folder.join(PACKAGES).join(COMPLETE)).ok();
    installed.is_some() && installed == fs::read(folder.join(PACKAGE_LOCK)).ok()
}

/// Removes the folders that killed processes have left.
fn remove_partial(beside: &Path) -> Result<()> {
    for entry in fs::read_dir(beside)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(&path).with_context(|| format!("cannot remove {}", path.display()))?;
        }
    }
    Ok(())
}

async fn build_servers() -> Result<PathBuf> {
    let mut build = cargo();
    build
        .args(["build", "--release", "--locked", "--package", V1, "--package", V2])
        .args(["--manifest-path", MANIFEST]);
    run(build.stdin(Stdio::null()), "cargo build").await?;
    let mut metadata = cargo();
    metadata.args(["metadata", "--format-version", "1", "--no-deps", "--manifest-path", MANIFEST]);
    let metadata = metadata.stdin(Stdio::null()).output().await.context("cannot start cargo")?;
    let metadata: Metadata =
        serde_json::from_slice(&metadata.stdout).context("cannot read the output of `cargo metadata`")?;
    Ok(metadata.target_directory.join("release"))
}

/// The manifest of the workspace.
const MANIFEST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml");

fn cargo() -> Command {
    Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
}

/// Runs a program to its end, with all of its output on stderr.
async fn run(command: &mut Command, name: &str) -> Result<()> {
    let status = command
        .stdout(std::io::stderr())
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("cannot start `{name}`"))?;
    ensure!(status.success(), "`{name}` failed ({status})");
    Ok(())
}
