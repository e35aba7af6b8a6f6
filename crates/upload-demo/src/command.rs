//! Runs a command beside the servers, with all their settings in its environment.

use std::process::{ExitCode, ExitStatus, Stdio};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tokio::process::{Child, Command};

use crate::{
    curl::PHOTOGRAPH,
    machine::{Machine, ServerName},
    say,
    stop::Stop,
};

/// Runs the command to its end, or stops it with SIGTERM on Ctrl-C. The demo exits with the command's exit code.
pub(crate) async fn run(words: &[String], machine: &mut Machine, stop: &Stop) -> Result<ExitCode> {
    let mut child = spawn(words, machine)?;
    let status = tokio::select! {
        status = child.wait() => status,
        ended = machine.a_server_ends() => {
            terminate(&child)?;
            child.wait().await.context("cannot wait for the command")?;
            return ended.map(|()| ExitCode::FAILURE);
        }
        () = stop.asked() => {
            terminate(&child)?;
            child.wait().await
        }
    };
    let status = status.context("cannot wait for the command")?;
    Ok(exit_code(status))
}

/// The environment of the demo's own servers, so that further programs can be started on the same database and bucket, and
/// what a client needs: where the servers are, two tokens, and something to upload.
fn spawn(words: &[String], machine: &Machine) -> Result<Child> {
    let (program, arguments) = words.split_first().context("give a command after --")?;
    Command::new(program)
        .args(arguments)
        .envs(machine.stand().environment())
        .envs(admins_key(machine))
        .envs([
            ("V1", machine.url(ServerName::V1)),
            ("V2", machine.url(ServerName::V2)),
            ("TOKEN", machine.user_token()),
            ("ADMIN_TOKEN", machine.admin_token()),
            ("PHOTO", PHOTOGRAPH),
        ])
        .stdin(Stdio::inherit())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("cannot start `{program}`"))
}

/// The key that may make buckets, which no server has, for `upload-ops bucket`.
fn admins_key(machine: &Machine) -> impl Iterator<Item = (String, String)> {
    let variables = machine.stand().admin_environment().into_iter();
    variables.filter_map(|(name, value)| {
        let part = name
            .strip_prefix("S3_")
            .filter(|part| matches!(*part, "ACCESS_KEY_ID" | "SECRET_ACCESS_KEY" | "SESSION_TOKEN"))?;
        Some((format!("S3_ADMIN_{part}"), value))
    })
}

fn terminate(child: &Child) -> Result<()> {
    let Some(id) = child.id() else { return Ok(()) };
    say("stopping the command");
    let id = i32::try_from(id).context("the command's process id is out of range")?;
    kill(Pid::from_raw(id), Signal::SIGTERM).context("cannot stop the command")
}

/// The exit code, as a shell reports it for a command that a signal ended.
fn exit_code(status: ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt as _;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(1);
    ExitCode::from(u8::try_from(code).unwrap_or(1))
}
