//! The command line. Every setting is a flag and an environment variable from one declaration, named as for the servers.

use std::{
    error::Error as _,
    num::{IntErrorKind, ParseIntError},
    time::Duration,
};

use clap::{
    CommandFactory, FromArgMatches, Parser, Subcommand,
    error::{ContextKind, ContextValue},
};

use crate::{
    Stop, audit::AuditArguments, bucket::BucketArguments, doctor::DoctorArguments, logging::LogFormat,
    migrate::MigrateArguments, reconcile::ReconcileArguments, sweep::SweepArguments, token::TokenArguments,
    users::AddArguments,
};

/// Sets up and maintains what the upload servers share: the database, the bucket, users and expired images.
#[derive(Debug, Parser)]
#[command(name = "upload-ops", version)]
pub(crate) struct Command {
    /// The format of the logs on stderr
    #[arg(long, env, value_enum, default_value = "json", global = true)]
    pub(crate) log_format: LogFormat,

    #[command(subcommand)]
    pub(crate) action: Action,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Action {
    /// Apply the migrations that the database lacks
    Migrate(MigrateArguments),
    /// Create the bucket and set its CORS and lifecycle rules
    Bucket(BucketArguments),
    /// Manage users
    #[command(subcommand)]
    User(UserAction),
    /// Print a bearer token for a user
    Token(TokenArguments),
    /// Remove expired pending images and their objects, leftover objects, and what nothing shows any more
    Sweep(SweepArguments),
    /// Remove objects that no row names
    Reconcile(ReconcileArguments),
    /// Report linked images whose object is missing or is not what the row says
    Audit(AuditArguments),
    /// Ask the store and the deployment what they can do, and say whether the deployment is safe
    Doctor(Box<DoctorArguments>),
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserAction {
    /// Add an ACTIVE user and print its id
    Add(AddArguments),
}

impl Command {
    /// Reads the command line and the environment. clap itself prints help, and ends the process with 0.
    pub(crate) fn read() -> Result<Self, Stop> {
        let mut command = with_variables(Self::command());
        let read = command.try_get_matches_from_mut(std::env::args_os());
        let read = read.and_then(|mut matches| Self::from_arg_matches_mut(&mut matches));
        read.map_err(|error| match error.use_stderr() {
            true => Stop::Settings(sentence(error, &command)),
            false => error.exit(),
        })
    }
}

/// What is wrong, in one line: clap's message up to its first empty line. The usage after it is left out, and so is a value that may
/// contain a secret.
fn sentence(mut error: clap::Error, command: &clap::Command) -> String {
    let shown = match error.get(ContextKind::InvalidArg) {
        Some(ContextValue::String(shown)) => shown.split(' ').next().unwrap_or_default(),
        _ => "",
    };
    let hidden = shown.strip_prefix("--").is_some_and(|flag| hides(command, flag));
    if hidden {
        error.insert(ContextKind::InvalidValue, ContextValue::String("…".to_owned()));
    }
    let message = error.to_string();
    let lines = message.lines().take_while(|line| !line.is_empty()).map(str::trim);
    let line = lines.collect::<Vec<_>>().join(" ");
    let line = line.strip_prefix("error: ").unwrap_or(&line);
    // The standard library's message about a bad number is meant for programmers.
    let number = error.source().and_then(|cause| cause.downcast_ref::<ParseIntError>());
    match number.and_then(|wrong| Some((wrong.kind(), line.strip_suffix(&wrong.to_string())?))) {
        Some((IntErrorKind::PosOverflow, start)) => format!("{start}it is too large"),
        Some((_none, start)) => format!("{start}it must be a whole number"),
        None => line.to_owned(),
    }
}

/// Whether this flag, in any command, has a value that must not be printed.
fn hides(command: &clap::Command, flag: &str) -> bool {
    command.get_arguments().any(|argument| argument.is_hide_env_values_set() && argument.get_long() == Some(flag))
        || command.get_subcommands().any(|command| hides(command, flag))
}

/// Makes an empty variable count as not set, and makes clap's messages name the variable: `--form-ttl <FORM_TTL>`.
fn with_variables(command: clap::Command) -> clap::Command {
    command.mut_subcommands(with_variables).mut_args(|argument| {
        let Some(variable) = argument.get_env().map(|name| name.to_string_lossy().into_owned()) else {
            return argument;
        };
        let empty = std::env::var_os(&variable).is_some_and(|value| value.is_empty());
        // clap wants names that last as long as the program; there are a few dozen of them.
        let argument = argument.value_name(&*variable.leak());
        if empty { argument.env(None::<&'static str>) } else { argument }
    })
}

/// A time such as `60s`, `5m`, `12h` or `30d`.
pub(crate) fn duration(text: &str) -> Result<Duration, &'static str> {
    const RIGHT: &str = "it must be a whole number above 0 with a unit, such as 60s, 5m, 12h or 30d";
    let unit = text.chars().next_back().ok_or(RIGHT)?;
    let number: u64 = text.strip_suffix(unit).and_then(|number| number.parse().ok()).ok_or(RIGHT)?;
    let unit_seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(RIGHT),
    };
    match number.checked_mul(unit_seconds) {
        Some(seconds @ 1..=3_153_600_000) => Ok(Duration::from_secs(seconds)),
        _ => Err(RIGHT),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Command::command().debug_assert();
    }

    #[test]
    fn every_variable_stands_in_the_example() {
        upload_contract::env_example::assert_complete(&Command::command());
    }

    #[test]
    fn compose_sets_what_each_command_needs_and_nothing_else() {
        upload_contract::compose::assert_fits(&Command::command(), |matches| {
            Command::from_arg_matches(matches).map(|_command| ()).map_err(|error| error.to_string())
        });
    }

    #[test]
    fn a_time_has_a_unit() {
        assert_eq!(duration("60s"), Ok(Duration::from_secs(60)));
        assert_eq!(duration("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(duration("12h"), Ok(Duration::from_secs(43_200)));
        assert_eq!(duration("30d"), Ok(Duration::from_secs(2_592_000)));
        for wrong in
            ["", "s", "60", "0s", "-1s", "1.5h", "60 s", "1y", "99999999999999999999s", "9999999999999999d", "6é"]
        {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
