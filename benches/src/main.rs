//! The binary. Its exit code is 0 when done, 1 when it failed or was stopped, and 2 for a wrong command line.

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

/// The exit code after a second Ctrl-C, as in a shell.
const INTERRUPTED: i32 = 130;

/// Measures image uploads: through a server, straight to the store, and through other software.
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

/// Warnings go to stderr, for instance about a cgroup that could not be removed.
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

/// The first Ctrl-C or SIGTERM stops after the current step, the second at once.
fn listen(stop: CancellationToken) -> Result<()> {
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = interrupt.recv() => {}
                _ = terminate.recv() => {}
            }
            if stop.is_cancelled() {
                std::process::exit(INTERRUPTED);
            }
            eprintln!("upload-bench: stopping; press Ctrl-C again to stop at once");
            stop.cancel();
        }
    });
    Ok(())
}
