#![doc = include_str!("../README.md")]

mod audit;
mod bucket;
mod command;
mod doctor;
mod logging;
mod migrate;
mod progress;
mod reach;
mod reconcile;
mod stop;
mod sweep;
mod token;
mod users;

use std::process::ExitCode;

use command::{Action, Command, UserAction};

/// Why the program ends without doing its task.
#[derive(Debug)]
enum Stop {
    /// A setting is wrong. The sentence names the variable and says what to write instead.
    Settings(String),
    /// Something failed while it ran.
    Failure(anyhow::Error),
    /// An audit did not see everything. What it saw is right.
    Unfinished(anyhow::Error),
}

impl Stop {
    fn settings(error: impl std::fmt::Display) -> Self {
        Self::Settings(error.to_string())
    }
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Failure(error)
    }
}

/// The whole program: reads its settings, does one task, and says how it ended.
pub fn run() -> ExitCode {
    let command = match Command::read() {
        Ok(command) => command,
        Err(stop) => return failed(&stop),
    };
    logging::init(command.log_format);
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&Stop::Failure(error.into())),
    };
    match runtime.block_on(act(command.action)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(stop) => failed(&stop),
    }
}

async fn act(action: Action) -> Result<(), Stop> {
    match action {
        Action::Migrate(arguments) => migrate::run(&arguments).await,
        Action::Bucket(arguments) => bucket::run(&arguments).await,
        Action::User(UserAction::Add(arguments)) => users::add(&arguments).await,
        Action::Token(arguments) => token::run(&arguments).await,
        Action::Sweep(arguments) => sweep::run(&arguments).await,
        Action::Reconcile(arguments) => reconcile::run(&arguments).await,
        Action::Audit(arguments) => audit::run(&arguments).await,
        Action::Doctor(arguments) => doctor::run(&arguments).await,
    }
}

fn failed(stop: &Stop) -> ExitCode {
    let (code, sentence) = match stop {
        Stop::Settings(sentence) => (2, sentence.clone()),
        Stop::Failure(error) => (1, format!("{error:#}")),
        Stop::Unfinished(error) => (3, format!("{error:#}")),
    };
    eprintln!("upload-ops: {sentence}");
    ExitCode::from(code)
}
