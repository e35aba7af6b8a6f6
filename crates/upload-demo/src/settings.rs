//! A server's settings, only from the variables given here: variables that you have set in your shell for a server of your
//! own must not reach the demo's servers.

use std::{
    collections::BTreeMap,
    ffi::{OsStr, OsString},
};

use anyhow::{Context as _, Result};
use clap::Parser;

/// Reads settings as the server's own `main` would with these variables as its whole environment. Variables that the
/// server does not know are left out.
pub(crate) fn from_variables<S: Parser>(variables: &BTreeMap<String, String>) -> Result<S> {
    let command = S::command();
    let mut arguments = vec![OsString::from(command.get_name())];
    for argument in command.get_arguments() {
        let value = argument.get_env().and_then(OsStr::to_str).and_then(|name| variables.get(name));
        if let (Some(flag), Some(value)) = (argument.get_long(), value) {
            arguments.push(format!("--{flag}={value}").into());
        }
    }
    let mut command = command.mut_args(|argument| argument.env(None::<&'static str>));
    let settings = command.try_get_matches_from_mut(arguments).and_then(|matches| S::from_arg_matches(&matches));
    settings.context("a server refused its settings")
}
