//! The targets as processes: each with the database and the bucket of a stand, within the limits of [`crate::limits`], and with
//! default settings.

mod nginx;
mod node;
mod store;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use tempfile::TempDir;
use tokio::process::Command;
use upload_sandbox::{Sandbox, Stand, port, process::Program};
use url::Url;

pub use crate::sink::SinkConnection;
pub use store::StoreCommand;
pub(crate) use store::store_variables;

use crate::{
    builds::{self, Binaries, Node},
    limits::{Limited, Limiter},
    record::{Limits, Target},
    target,
};
use nginx::Proxy;

/// Starts the targets.
#[derive(Debug)]
pub struct Stage {
    limiter: Limiter,
    /// `None` if no target needs them.
    binaries: Option<Binaries>,
    /// The program, or why it is missing.
    nginx: Result<PathBuf, String>,
    node: Result<Node, String>,
    programs: BTreeMap<String, String>,
}

/// A running target. Dropping it ends its process.
#[derive(Debug)]
pub struct Started {
    /// Its base URL. `None` for `direct`, whose forms have the URL.
    pub url: Option<Url>,
    /// Its process. `None` for `direct`.
    pub process: Option<Limited>,
    /// The proxy in front of it, if there is one.
    pub proxy: Option<Limited>,
    /// Dropped after the processes, whose files are in it.
    _folder: Option<TempDir>,
}

impl Stage {
    /// Prepares what these targets need: the limits, the servers (built in release mode unless they are in the folder `binaries`), and
    /// the programs of the baselines.
    ///
    /// # Errors
    /// Where processes cannot be limited, or a server cannot be built. A missing baseline is not an error.
    pub async fn prepare(binaries: Option<&Path>, targets: &[Target]) -> Result<Self> {
        let wants = |some: &[Target]| some.iter().any(|target| targets.contains(target));
        let limiter = tokio::task::spawn_blocking(Limiter::find).await??;
        let servers = targets.iter().any(|target| target::has_users(*target));
        let binaries = if servers { Some(builds::servers(binaries).await?) } else { None };
        let not_asked_for = || "it was not asked for".to_owned();
        let nginx = if wants(&[Target::Nginx, Target::Nginx128k, Target::V1Buffered]) {
            upload_sandbox::nginx::binary().ok_or_else(|| "nginx is not installed".to_owned())
        } else {
            Err(not_asked_for())
        };
        let node = if wants(&[Target::NodeV1, Target::NodeV2]) {
            builds::node().await.map_err(|error| format!("{error:#}"))
        } else {
            Err(not_asked_for())
        };
        let programs = versions(nginx.as_deref().ok(), node.as_ref().ok()).await;
        Ok(Self { limiter, binaries, nginx, node, programs })
    }

    /// How processes are limited.
    pub fn limits(&self) -> Limits {
        self.limiter.limits()
    }

    /// Why a target cannot run here. `None` if it can.
    pub fn missing(&self, target: Target) -> Option<String> {
        match target {
            Target::Nginx | Target::Nginx128k | Target::V1Buffered => self.nginx.as_ref().err().cloned(),
            Target::NodeV1 | Target::NodeV2 => self.node.as_ref().err().cloned(),
            Target::Direct => None,
            _ => self.binaries.is_none().then(|| "its server was not built".to_owned()),
        }
    }

    /// The versions of the programs, by name.
    pub fn programs(&self) -> BTreeMap<String, String> {
        self.programs.clone()
    }

    /// Starts a target with a stand, in front of its store or of the sink.
    ///
    /// # Errors
    /// Where it is missing or does not start. The message has the end of its log.
    pub async fn start(&self, target: Target, stand: &Stand, sink: Option<&SinkConnection>) -> Result<Started> {
        if let Some(reason) = self.missing(target) {
            bail!("{target:?} cannot run here: {reason}");
        }
        let store = sink.map_or(&stand.storage_settings.endpoint, |sink| &sink.url);
        let nginx = |proxy| self.nginx(stand, proxy);
        let (process, folder) = match target {
            Target::Direct => return Ok(Started { url: None, process: None, proxy: None, _folder: None }),
            Target::V1 | Target::V1Stream => {
                let binaries = self.binaries.as_ref().context("V1 was not built")?;
                (self.server(&binaries.v1, stand, sink).await?, None)
            }
            Target::V1Buffered => {
                let binaries = self.binaries.as_ref().context("V1 was not built")?;
                let port = port::reserve()?;
                let url = Url::parse(&format!("http://127.0.0.1:{port}"))?;
                let program = self.program(&binaries.v1, stand, sink).env("PUBLIC_API_URL", url.as_str());
                let process = self.limiter.serve(program).await?;
                let behind = Url::parse(process.url()).context("V1 does not listen at a URL")?;
                let (proxy, folder) =
                    nginx(Proxy { port, behind: &behind, buffer: "", buffers_requests: true }).await?;
                let (process, proxy) = (Some(process), Some(proxy));
                return Ok(Started { url: Some(url), process, proxy, _folder: Some(folder) });
            }
            Target::V2Version => {
                let binaries = self.binaries.as_ref().context("V2 was not built")?;
                stand.enable_versioning().await?;
                let program = self.program(&binaries.v2, stand, sink).env("S3_PIN", "version");
                (self.limiter.serve(program).await?, None)
            }
            Target::V2Post | Target::V2Put | Target::V2Unlinked => {
                let binaries = self.binaries.as_ref().context("V2 was not built")?;
                (self.server(&binaries.v2, stand, sink).await?, None)
            }
            Target::Nginx | Target::Nginx128k => {
                let buffer = if target == Target::Nginx128k { nginx::LARGE_BUFFER } else { "" };
                let port = port::reserve()?;
                let (process, folder) = nginx(Proxy { port, behind: store, buffer, buffers_requests: false }).await?;
                (process, Some(folder))
            }
            Target::NodeV1 | Target::NodeV2 => {
                let node = self.node.as_ref().map_err(|reason| anyhow::anyhow!("{reason}"))?;
                let script = if target == Target::NodeV1 { node::V1 } else { node::V2 };
                (node::start(&self.limiter, node, script, stand, store).await?, None)
            }
        };
        let url = Url::parse(process.url()).context("a target does not listen at a URL")?;
        Ok(Started { url: Some(url), process: Some(process), proxy: None, _folder: folder })
    }

    /// Starts the null sink with the keys of the sandbox's store.
    ///
    /// # Errors
    /// Where it does not start.
    pub async fn start_sink(&self, sandbox: &Sandbox) -> Result<SinkConnection> {
        let this = std::env::current_exe().context("cannot find the path of this program")?;
        SinkConnection::start(&this, sandbox).await
    }

    async fn nginx(&self, stand: &Stand, proxy: Proxy<'_>) -> Result<(Limited, TempDir)> {
        let binary = self.nginx.as_ref().map_err(|reason| anyhow::anyhow!("{reason}"))?;
        nginx::start(&self.limiter, binary, stand, &proxy).await
    }

    async fn server(&self, binary: &Path, stand: &Stand, sink: Option<&SinkConnection>) -> Result<Limited> {
        self.limiter.serve(self.program(binary, stand, sink)).await
    }

    /// One of our servers, with one worker for its one CPU. It logs warnings only: this process would have to read a line for each
    /// upload.
    fn program(&self, binary: &Path, stand: &Stand, sink: Option<&SinkConnection>) -> Program {
        let program = Program::new(binary, stand).env("HTTP_WORKERS", "1").env("LOG_LEVEL", "warn");
        match sink {
            // The sink has no rights that the server could check.
            Some(sink) => program.env("S3_ENDPOINT", sink.url.as_str()).env("S3_KEY_CHECK", "off"),
            None => program,
        }
    }
}

async fn versions(nginx: Option<&Path>, node: Option<&Node>) -> BTreeMap<String, String> {
    let mut versions = BTreeMap::new();
    let mut note = |name: &str, version: Option<String>| {
        versions.extend(version.map(|version| (name.to_owned(), version)));
    };
    note("rustc", version_of(Path::new("rustc"), "--version").await);
    if let Some(nginx) = nginx {
        note("nginx", version_of(nginx, "-v").await);
    }
    if let Some(node) = node {
        note("node", version_of(&node.binary, "--version").await);
        for (package, version) in node::packages(&node.folder) {
            note(&package, Some(version));
        }
    }
    versions
}

/// The first line that a program prints about its version.
async fn version_of(binary: &Path, option: &str) -> Option<String> {
    let output = Command::new(binary).arg(option).stdin(Stdio::null()).output().await.ok()?;
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    text.lines().next().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty())
}
