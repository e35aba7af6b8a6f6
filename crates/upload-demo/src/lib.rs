#![doc = include_str!("../README.md")]

mod command;
mod curl;
mod machine;
mod settings;
mod stop;
mod table;
mod trips;

use std::{io::Write as _, process::ExitCode};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use tracing::Level;
use tracing_subscriber::{
    filter::{LevelFilter, Targets},
    fmt,
    layer::SubscriberExt as _,
    util::SubscriberInitExt as _,
};

pub use machine::{Machine, ServerName};
use stop::Stop;

/// Starts a temporary Postgres, a temporary S3 store and both upload servers on this machine. It uploads files through each
/// server, reads them back, compares them, and shows how many bytes went which way. Then it runs until Ctrl-C, so that you
/// can try the servers with curl.
///
/// To use another Postgres, set DATABASE_URL=postgres://user:password@host:5432/database, with a user who may create
/// databases. To use another store, set S3_ENDPOINT to its URL, S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY to a key with all
/// rights, and the same two variables with S3_SIGNER_ and S3_READER_ instead of S3_. The demo creates a database and a
/// bucket there, and removes them at the end.
///
/// SANDBOX_POSTGRES says where the temporary Postgres comes from: `installed`, `fetched` (a download of 15 MB, once), or
/// `auto`, which downloads it only if none is installed.
#[derive(Debug, Clone, Parser)]
#[command(name = "upload-demo", version)]
pub struct Options {
    /// Stop after the table. The exit code is 1 if a file came back different
    #[arg(long, conflicts_with = "command")]
    once: bool,
    /// Write the servers' log lines to stderr
    #[arg(long)]
    verbose: bool,
    /// Run this command instead of showing the table, with V1, V2, TOKEN, ADMIN_TOKEN, PHOTO and the servers' settings in
    /// its environment. The demo stops when the command ends, and exits with its exit code
    #[arg(last = true)]
    command: Vec<String>,
}

impl Options {
    /// Sets the process's log.
    pub fn log(&self) {
        let level = if self.verbose { Level::INFO } else { Level::ERROR };
        // The in-memory store logs each refusal as an error, and each server's start tests rights that its keys must not have.
        let filter = Targets::new().with_default(level).with_target("s3s", LevelFilter::OFF);
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        tracing_subscriber::registry().with(lines).with(filter).init();
    }
}

/// Runs the demo to its end.
///
/// # Errors
/// When something does not start or fails, or when a file comes back different. Everything is stopped before it returns.
pub async fn run(options: &Options) -> Result<ExitCode> {
    let stop = Stop::on_signals()?;
    let Some(mut machine) = Machine::start(&stop).await? else { bail!("stopped before the first comparison") };
    let outcome = match options.command.as_slice() {
        [] => show(options, &mut machine, &stop).await.map(|()| ExitCode::SUCCESS),
        words => command::run(words, &mut machine, &stop).await,
    };
    say("stopping");
    let stopped = machine.stop().await;
    // The first failure is the one to report.
    let code = outcome?;
    stopped.map(|()| code)
}

async fn show(options: &Options, machine: &mut Machine, stop: &Stop) -> Result<()> {
    let report = tokio::select! {
        report = trips::run(machine) => report?,
        () = stop.asked() => bail!("stopped before all files were compared"),
    };
    print(&table::of(&report))?;
    if !options.once {
        print(&curl::instructions(machine))?;
        tokio::select! {
            () = stop.asked() => {}
            ended = machine.a_server_ends() => return ended,
        }
    }
    match report.different() {
        0 => Ok(()),
        different => bail!("{different} of {} files came back different", report.trips.len()),
    }
}

fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout();
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).context("cannot write to standard output")
}

/// Writes a line of progress to stderr. Nobody has to read it.
pub fn say(line: &str) {
    let _unheard = writeln!(std::io::stderr(), "{line}");
}
