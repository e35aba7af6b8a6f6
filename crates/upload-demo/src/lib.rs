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

/// Starts a throw-away Postgres, a throw-away S3 store and both upload servers on this machine, uploads files through
/// each, reads them back, compares, and shows what travelled where. Then it goes on until Ctrl-C, to be tried with curl.
///
/// DATABASE_URL names a Postgres to use in place of the throw-away one: postgres://user:password@host:5432/database,
/// of a user who may create databases. S3_ENDPOINT names a store: a URL, with S3_ACCESS_KEY_ID and S3_SECRET_ACCESS_KEY of
/// a key that may do everything, and the same two with S3_SIGNER_ and S3_READER_ in place of S3_. What the demo makes
/// there, a database and a bucket, it removes at its end.
///
/// SANDBOX_POSTGRES says where the throw-away Postgres comes from: `installed`, `fetched` (15 MB, once), or `auto`, which
/// fetches it only where none is installed.
#[derive(Debug, Clone, Parser)]
#[command(name = "upload-demo", version)]
pub struct Options {
    /// Stop after the table; exit code 1 if anything came back different
    #[arg(long, conflicts_with = "command")]
    once: bool,
    /// Write the servers' log lines to stderr
    #[arg(long)]
    verbose: bool,
    /// In place of the table: run this command, with V1, V2, TOKEN, ADMIN_TOKEN, PHOTO and the servers' settings in its
    /// environment, stop when it ends, and exit as it did
    #[arg(last = true)]
    command: Vec<String>,
}

impl Options {
    /// Sets the process's log.
    pub fn log(&self) {
        let level = if self.verbose { Level::INFO } else { Level::ERROR };
        // The store in memory calls each refusal an error, and a server's start asks for what its keys must be refused.
        let filter = Targets::new().with_default(level).with_target("s3s", LevelFilter::OFF);
        let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(false);
        tracing_subscriber::registry().with(lines).with(filter).init();
    }
}

/// Runs the demo to its end.
///
/// # Errors
/// What did not start or did not work, or that bytes came back different. Everything has been stopped by then.
pub async fn run(options: &Options) -> Result<ExitCode> {
    let stop = Stop::on_signals()?;
    let Some(mut machine) = Machine::start(&stop).await? else { bail!("stopped before anything was compared") };
    let outcome = match options.command.as_slice() {
        [] => show(options, &mut machine, &stop).await.map(|()| ExitCode::SUCCESS),
        words => command::run(words, &mut machine, &stop).await,
    };
    say("stopping");
    let stopped = machine.stop().await;
    // The first failure is the one to tell.
    let code = outcome?;
    stopped.map(|()| code)
}

async fn show(options: &Options, machine: &mut Machine, stop: &Stop) -> Result<()> {
    let report = tokio::select! {
        report = trips::run(machine) => report?,
        () = stop.asked() => bail!("stopped before everything was compared"),
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
    writeln!(stdout, "{text}").and_then(|()| stdout.flush()).context("standard output cannot be written")
}

/// Writes a line of progress to stderr. Nobody has to read it.
pub fn say(line: &str) {
    let _unheard = writeln!(std::io::stderr(), "{line}");
}
