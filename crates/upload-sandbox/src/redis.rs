//! A real Redis, in memory alone.
//!
//! Like nginx, Redis cannot be fetched. If none is installed, the test says so on stderr, past the test harness's capture, and tests
//! nothing. With `SANDBOX_REDIS=required`, as in CI, it fails.

use std::{env, path::PathBuf};

use anyhow::Result;
use tempfile::TempDir;

use crate::{
    Stand,
    not_tested::not_tested,
    port,
    process::{Program, Server},
};

/// A running Redis. Dropping it kills it.
#[derive(Debug)]
pub struct Redis {
    /// Where it listens, such as `redis://127.0.0.1:40123`.
    pub url: String,
    binary: PathBuf,
    port: u16,
    server: Option<Server>,
    folder: TempDir,
}

impl Redis {
    /// Starts the machine's Redis, or returns `None` with a message on stderr.
    ///
    /// # Errors
    /// If it does not start, or if there is none and `SANDBOX_REDIS` is `required`.
    pub async fn start(stand: &Stand) -> Result<Option<Self>> {
        const MISSING: &str =
            "no Redis is installed; install one with `apt-get install redis-server` or `brew install redis`";
        let path = env::var_os("PATH").unwrap_or_default();
        let binary = env::split_paths(&path).map(|folder| folder.join("redis-server")).find(|binary| binary.is_file());
        let Some(binary) = binary else { return not_tested("SANDBOX_REDIS", MISSING).map(|()| None) };
        let port = port::reserve()?;
        let folder = TempDir::with_prefix("upload-sandbox-redis-")?;
        let mut redis = Self { url: format!("redis://127.0.0.1:{port}"), binary, port, server: None, folder };
        redis.restart(stand).await?;
        Ok(Some(redis))
    }

    /// Starts it again at the same port, without its data.
    ///
    /// # Errors
    /// If it does not start.
    pub async fn restart(&mut self, stand: &Stand) -> Result<()> {
        self.stop();
        let options = ["--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--logfile", "/dev/stderr"];
        let program = options.into_iter().fold(Program::bare(&self.binary, stand.runtime()), Program::arg);
        let program = program.arg("--port").arg(self.port.to_string()).arg("--dir").arg(self.folder.path());
        self.server = Some(program.serve_at(self.url.clone(), "Ready to accept connections").await?);
        Ok(())
    }

    /// Kills it, and waits for its end.
    pub fn stop(&mut self) {
        self.server = None;
    }
}
