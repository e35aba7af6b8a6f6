//! `.env.example` has only variables that a program knows. (Each program's own tests check that it lacks none.)

use std::{collections::BTreeSet, fs, path::Path};

use clap::{Command, CommandFactory as _};

fn known(command: &Command) -> impl Iterator<Item = String> {
    command.get_arguments().filter_map(|argument| Some(argument.get_env()?.to_str()?.to_owned()))
}

#[test]
fn every_variable_of_the_example_is_one_of_a_programs() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let known: BTreeSet<_> = known(&upload_v1_streaming::Settings::command())
        .chain(known(&upload_v2_presigned::Settings::command()))
        // Only upload-ops reads these, and it has no library for this test.
        .chain(["JWT_PRIVATE_KEY", "PURGE_AFTER"].map(str::to_owned))
        .collect();

    let example = fs::read_to_string(root.join(".env.example")).unwrap();
    let lines = example.lines().map(|line| line.strip_prefix('#').unwrap_or(line));
    let names = lines.filter_map(|line| line.split_once('=')).map(|(name, _value)| name);
    let names = names.filter(|name| {
        !name.contains(|letter: char| !letter.is_ascii_uppercase() && !letter.is_ascii_digit() && letter != '_')
    });
    let names: BTreeSet<_> = names.map(str::to_owned).collect();
    assert!(names.len() > 30, "{names:?}");
    let unknown: Vec<_> = names.difference(&known).collect();
    assert!(unknown.is_empty(), "no program knows {unknown:?}");
}
