//! The binary: reads its command, does it, and says how it went by the exit code: 0 done, 1 failed or stopped, 2 a wrong command line.

use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::Level;
use tracing_subscriber::{Layer as _, filter::Targets, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};
use upload_bench::{
    advise::AdviseCommand,
    command::{CompareCommand, LoadCommand, ReportCommand},
    sink::SinkCommand,
    stage::StoreCommand,
};

/// The exit code of a process that did not wait for its end, as shells have it for Ctrl-C.
const INTERRUPTED: i32 = 130;

/// Measures uploads: through a server, straight to the store, and by what others build.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Load(LoadCommand),
    Compare(CompareCommand),
    Report(ReportCommand),
    Advise(AdviseCommand),
    #[command(hide = true)]
    Sink(SinkCommand),
    #[command(hide = true)]
    Store(StoreCommand),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    log();
    match run(arguments.action) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("upload-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What is odd but no failure goes to stderr: a cgroup that is left, a server that does not stop.
fn log() {
    let filter = Targets::new().with_target("upload_bench", Level::WARN).with_target("upload_sandbox", Level::WARN);
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_filter(filter);
    tracing_subscriber::registry().with(lines).init();
}

#[tokio::main]
async fn run(action: Action) -> Result<ExitCode> {
    let stop = CancellationToken::new();
    match action {
        Action::Load(command) => {
            listen(stop.clone())?;
            command.run(stop).await
        }
        Action::Compare(command) => {
            listen(stop.clone())?;
            command.run(&stop).await
        }
        Action::Report(command) => command.run(),
        Action::Advise(command) => {
            println!("{}", command.run()?);
            Ok(ExitCode::SUCCESS)
        }
        Action::Sink(command) => command.run().await,
        Action::Store(command) => command.run().await,
    }
}

/// The first Ctrl-C or SIGTERM asks to stop, the second does not wait.
fn listen(stop: CancellationToken) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be handled")?;
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be handled")?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(INTERRUPTED);
            }
            eprintln!("upload-bench: stopping; once more stops at once");
            stop.cancel();
        }
    });
    Ok(())
}
