//! The embedded store as a process, for machines without MinIO. `upload-bench store -- command …` runs the command with the store in
//! its environment and ends with it, as `scripts/minio` does.

use std::{
    ffi::OsString,
    process::{ExitCode, ExitStatus},
};

use anyhow::{Context as _, Result};
use clap::Args;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::{
    process::{Child, Command},
    signal::unix::{SignalKind, signal},
};
use upload_sandbox::s3::{EmbeddedS3, Key, S3Connection};

/// What a shell adds to a signal's number.
const SIGNALLED: i32 = 128;

/// Start the embedded store, and run a command with the store in its environment.
#[derive(Debug, Args)]
pub struct StoreCommand {
    /// The command and its arguments, after `--`.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl StoreCommand {
    /// Runs the command and exits with its exit code.
    ///
    /// # Errors
    /// Where the store or the command does not start.
    pub async fn run(&self) -> Result<ExitCode> {
        let store = EmbeddedS3::start().await?;
        let (program, arguments) = self.command.split_first().context("give a command")?;
        let mut command = Command::new(program);
        command.args(arguments).envs(store_variables(store.connection())).kill_on_drop(true);
        // Its buckets are also hosts, and its CPU time is that of this process.
        command.env("SANDBOX_S3_DOMAIN", "localhost").env("SANDBOX_S3_PID", std::process::id().to_string());
        let child = command.spawn().with_context(|| format!("cannot start {}", program.display()))?;
        let status = until_ended(child).await?;
        Ok(exit_code(status))
    }
}

/// Waits for the command. A Ctrl-C reaches the whole process group; a SIGTERM is passed on.
async fn until_ended(mut child: Child) -> Result<ExitStatus> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    loop {
        tokio::select! {
            status = child.wait() => return status.context("cannot wait for the command"),
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {
                let pid = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
                if let Some(Err(error)) = pid.map(|pid| kill(pid, Signal::SIGTERM)) {
                    tracing::warn!(%error, "cannot send a signal");
                }
            }
        }
    }
}

fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().unwrap_or_else(|| SIGNALLED + status.signal().unwrap_or(0));
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}

/// A store and its keys, as the variables that [`S3Connection::from_environment`] reads.
pub(crate) fn store_variables(store: &S3Connection) -> Vec<(String, String)> {
    let mut variables = vec![("S3_ENDPOINT".to_owned(), store.endpoint.clone())];
    let mut add = |prefix: &str, key: &Key| {
        variables.push((format!("{prefix}ACCESS_KEY_ID"), key.id.clone()));
        variables.push((format!("{prefix}SECRET_ACCESS_KEY"), key.secret.clone()));
        variables.extend(key.session_token.clone().map(|token| (format!("{prefix}SESSION_TOKEN"), token)));
    };
    add("S3_ADMIN_", &store.admin);
    add("S3_", &store.keys.server);
    add("S3_SIGNER_", &store.keys.signer);
    add("S3_READER_", &store.keys.reader);
    variables
}
