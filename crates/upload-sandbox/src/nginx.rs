//! A real nginx in front of both servers, with the configuration that compose uses: `compose/nginx/uploads.conf.template`. Its
//! variables are replaced as the official image replaces them. This module adds only the usual `nginx.conf` around it, and a
//! separate folder, so that root and any other user may run it.
//!
//! Unlike Postgres, nginx cannot be fetched. If none is installed, the test says so on stderr, past the test harness's capture,
//! and tests nothing. With `SANDBOX_NGINX=required`, as in CI, it fails.
//!
//! nginx ends with this process, however that ends. After a `kill -9` its folder, of a few KiB, stays in the temporary folder.
//!
//! nginx reaches the servers from a separate address, so that they can tell it from clients that go past it. Linux has all of
//! 127.0.0.0/8; macOS needs `ifconfig lo0 alias 127.0.0.9` once.

use std::{
    env, fmt, fs,
    fs::Permissions,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;
use tempfile::TempDir;
use tokio::runtime::Handle;

use crate::{
    Stand,
    not_tested::not_tested,
    port,
    process::{Program, Server},
};

/// The address from which nginx reaches the servers.
pub const ADDRESS: &str = "127.0.0.9";

const TEMPLATE: &str = include_str!("../../../compose/nginx/uploads.conf.template");
/// Two workers, so that requests meet old and new ones side by side at a reload.
const MAIN: &str = "\
daemon off;
worker_processes 2;
pid nginx.pid;
error_log stderr notice;
events {
    worker_connections 512;
}
http {
    access_log off;
    client_body_temp_path bodies;
    proxy_temp_path answers;
    fastcgi_temp_path unused;
    uwsgi_temp_path unused;
    scgi_temp_path unused;
    proxy_bind ${ADDRESS};
    include uploads.conf;
}
";
/// Other folders: Debian's, which ordinary users lack in their search path, those of builds from source, and Homebrew's.
const FOLDERS: [&str; 4] = ["/usr/sbin", "/usr/local/sbin", "/usr/local/nginx/sbin", "/opt/homebrew/bin"];
/// nginx logs this for each worker that it starts, followed by the process id.
pub const WORKER_STARTED: &str = "start worker process ";

/// Which server answers the requests that both can answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Active {
    /// V1 alone.
    V1,
    /// V2 alone.
    V2,
    /// V2 for this share of the callers, in per cent, and V1 for the others.
    Split(u8),
}

/// The template's variables, except `LISTEN`.
#[derive(Debug, Clone)]
pub struct Routes {
    /// V1's URL.
    pub v1: String,
    /// V2's URL.
    pub v2: String,
    /// Which server answers.
    pub active: Active,
}

/// An installed nginx, ready to start. Its address is known before, so that servers can have it in their settings.
#[derive(Debug)]
pub struct Installed {
    binary: PathBuf,
    port: u16,
}

/// A running nginx. Dropping it kills it.
#[derive(Debug)]
pub struct Nginx {
    binary: PathBuf,
    port: u16,
    runtime: Handle,
    master: Server,
    folder: TempDir,
}

impl Installed {
    /// The machine's nginx, or `None` with a message on stderr.
    ///
    /// # Errors
    /// If there is none and `SANDBOX_NGINX` is `required`.
    pub fn find() -> Result<Option<Self>> {
        const MISSING: &str =
            "no nginx is installed; install one with `apt-get install nginx-light` or `brew install nginx`";
        match binary() {
            Some(binary) => Ok(Some(Self { binary, port: port::reserve()? })),
            None => not_tested("SANDBOX_NGINX", MISSING).map(|()| None),
        }
    }

    /// The URL for clients, with a name that nothing behind nginx uses.
    pub fn url(&self) -> String {
        format!("http://localhost:{}", self.port)
    }

    /// Starts it; when this returns it accepts connections.
    pub async fn start(self, stand: &Stand, routes: &Routes) -> Result<Nginx> {
        let Self { binary, port } = self;
        let folder = TempDir::with_prefix("upload-sandbox-nginx-")?;
        // Started as root, nginx drops to `nobody`, who must get in.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o755))?;
        fs::write(folder.path().join("nginx.conf"), MAIN.replace("${ADDRESS}", ADDRESS))?;
        write_routes(folder.path(), port, routes)?;
        let program = command(&binary, folder.path(), stand.runtime());
        let master = program.serve_at(format!("http://localhost:{port}"), WORKER_STARTED).await?;
        Ok(Nginx { binary, port, runtime: stand.runtime().clone(), master, folder })
    }
}

impl Nginx {
    /// The URL for clients.
    pub fn url(&self) -> &str {
        &self.master.url
    }

    /// Replaces its routes as an operator does: writes, tests, reloads. When this returns, nginx has answered the last request
    /// under the old routes.
    pub async fn switch(&self, routes: &Routes) -> Result<()> {
        write_routes(self.folder.path(), self.port, routes)?;
        let tested = command(&self.binary, self.folder.path(), &self.runtime).arg("-t").run().await?;
        if tested.code != Some(0) {
            bail!("nginx refuses its configuration: {}", tested.stderr);
        }
        let workers = self.workers();
        self.master.signal(Signal::SIGHUP);
        for worker in workers {
            let exited = format!("worker process {worker} exited with code 0");
            self.master.wait_for_log(|line| line.contains(&exited)).await?;
        }
        Ok(())
    }

    /// Bodies that nginx has written to its disk and not yet passed on.
    pub fn bodies_on_disk(&self) -> Result<usize> {
        Ok(fs::read_dir(self.folder.path().join("bodies"))?.count())
    }

    /// The log so far.
    pub fn log(&self) -> Vec<String> {
        self.master.log()
    }

    /// The access log up to a line that is waited for.
    pub async fn access_log_until(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<String>> {
        self.master.wait_for_output(wanted).await?;
        Ok(self.master.stdout())
    }

    /// The process ids of all workers so far. The log already has the end of each worker that has ended.
    fn workers(&self) -> Vec<String> {
        let log = self.master.log();
        log.iter().filter_map(|line| Some(line.split_once(WORKER_STARTED)?.1.to_owned())).collect()
    }
}

impl fmt::Display for Active {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::V1 => "v1",
            Self::V2 => "v2",
            Self::Split(_) => "split",
        })
    }
}

/// The machine's nginx, from the search path or the usual folders.
pub fn binary() -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders = env::split_paths(&path).chain(FOLDERS.map(PathBuf::from));
    folders.map(|folder| folder.join("nginx")).find(|binary| binary.is_file())
}

fn command(binary: &Path, folder: &Path, runtime: &Handle) -> Program {
    let options = ["-e", "stderr", "-c", "nginx.conf", "-p"];
    options.into_iter().fold(Program::bare(binary, runtime), Program::arg).arg(folder)
}

/// Writes the routes as `envsubst` does.
fn write_routes(folder: &Path, port: u16, routes: &Routes) -> Result<()> {
    let Routes { v1, v2, active } = routes;
    let address =
        |url: &str| url.strip_prefix("http://").map(str::to_owned).with_context(|| format!("{url} is not http"));
    let v2_percent = if let Active::Split(percent) = active { *percent } else { 50 };
    let variables = [
        ("LISTEN", format!("127.0.0.1:{port}")),
        ("V1_ADDRESS", address(v1)?),
        ("V2_ADDRESS", address(v2)?),
        ("ACTIVE", active.to_string()),
        ("V2_PERCENT", v2_percent.to_string()),
    ];
    let substitute = |text: String, (name, value): (&str, String)| text.replace(&format!("${{{name}}}"), &value);
    Ok(fs::write(folder.join("uploads.conf"), variables.into_iter().fold(TEMPLATE.to_owned(), substitute))?)
}
