//! What has to be built before a comparison: the two servers in release mode, and Node's packages. All progress goes to stderr.

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
/// In the packages, and written last: a copy of the package-lock.json that names them.
const WHOLE: &str = ".upload-bench-whole";

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
    if !is_installed(&folder) {
        let Some(npm) = program("npm") else {
            bail!("npm, which installs the packages of the baselines, is not installed")
        };
        install_packages(&npm, &folder).await?;
    }
    Ok(Node { binary, folder })
}

/// Installs in `folder` what its package-lock.json names, once: whoever asks meanwhile, here or in another process, waits for it.
///
/// npm works in a folder beside, whose packages are moved into place when all are there. What npm itself notes is not relied on: it
/// notes it before that.
///
/// # Errors
/// Where npm fails, or the folder cannot be written.
pub async fn install_packages(npm: &Path, folder: &Path) -> Result<()> {
    let beside = folder.join(".install");
    fs::create_dir_all(&beside).with_context(|| format!("{} cannot be created", beside.display()))?;
    let lock = tokio::task::spawn_blocking({
        let lock = File::create(beside.join("lock"))?;
        move || lock.lock().map(|()| lock)
    });
    let lock = lock.await?.context("the folder of Node's packages cannot be locked")?;
    if is_installed(folder) {
        return Ok(());
    }
    remove_partial(&beside)?;
    let partial = tempfile::tempdir_in(&beside)?;
    for file in ["package.json", PACKAGE_LOCK] {
        fs::copy(folder.join(file), partial.path().join(file)).with_context(|| format!("{file} cannot be copied"))?;
    }
    let mut install = Command::new(npm);
    install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(partial.path());
    // npm holds the lock, too, and so until it ends, even if this process is killed before.
    run(install.stdin(lock.try_clone()?), "npm ci").await?;
    let (packages, place) = (partial.path().join(PACKAGES), folder.join(PACKAGES));
    fs::copy(partial.path().join(PACKAGE_LOCK), packages.join(WHOLE)).context("the packages cannot be marked")?;
    if fs::symlink_metadata(&place).is_ok() {
        fs::rename(&place, partial.path().join("replaced")).context("other packages cannot be moved away")?;
    }
    fs::rename(&packages, &place).context("the packages cannot be moved into place")
}

/// Whether the packages are there that package-lock.json names now.
fn is_installed(folder: &Path) -> bool {
    let whole = fs::read(folder.join(PACKAGES).join(WHOLE)).ok();
    whole.is_some() && whole == fs::read(folder.join(PACKAGE_LOCK)).ok()
}

/// What a process left that was killed.
fn remove_partial(beside: &Path) -> Result<()> {
    for entry in fs::read_dir(beside)? {
        let path = entry?.path();
        if path.is_dir() {
            fs::remove_dir_all(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
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
async fn run(command: &mut Command, name: &str) -> Result<()> {
    let status = command
        .stdout(std::io::stderr())
        .kill_on_drop(true)
        .status()
        .await
        .with_context(|| format!("`{name}` does not start"))?;
    ensure!(status.success(), "`{name}` failed ({status})");
    Ok(())
}
