//! A server's settings from variables that are given here, and from nothing else: whatever the shell of whoever runs the
//! demo has set for a server of their own must not reach these.

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
    settings.context("a server does not take its settings")
}
