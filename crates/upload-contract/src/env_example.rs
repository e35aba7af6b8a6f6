//! Keeps `.env.example` complete: it has every variable that a program reads, with a comment and the true default.

use std::{collections::BTreeMap, fs, path::Path};

use clap::{Arg, Command};

/// Asserts that `.env.example` has each variable of a program and its subcommands, under a comment. A variable that must be set
/// appears as `NAME=value`. Any other is commented out as `#NAME=value`, with its default, if it has one.
///
/// # Panics
/// If a variable is missing or differs; the message lists all of them.
pub fn assert_complete(program: &Command) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.env.example");
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let example = Example::read(&text);
    let mut faults = Vec::new();
    example.compare(program, &mut faults);
    assert!(faults.is_empty(), ".env.example and {} differ:\n{}", program.get_name(), faults.join("\n"));
}

/// The file's variables by name.
struct Example<'a>(BTreeMap<&'a str, Entry<'a>>);

struct Entry<'a> {
    value: &'a str,
    set: bool,
    explained: bool,
}

impl<'a> Example<'a> {
    fn read(text: &'a str) -> Self {
        let mut entries = BTreeMap::new();
        let mut explained = false;
        for line in text.lines() {
            let bare = line.strip_prefix('#').unwrap_or(line);
            let is_name = |name: &str| {
                name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
            };
            match bare.split_once('=') {
                Some((name, value)) if !name.is_empty() && is_name(name) => {
                    entries.insert(name, Entry { value, set: line == bare, explained });
                }
                _ => explained = line.starts_with("# "),
            }
        }
        Self(entries)
    }

    fn compare(&self, command: &Command, faults: &mut Vec<String>) {
        for argument in command.get_arguments() {
            let Some(name) = argument.get_env() else { continue };
            let name = name.to_string_lossy();
            match self.0.get(name.as_ref()) {
                None => faults.push(format!("{name} is missing")),
                Some(entry) => faults.extend(entry.fault(argument).map(|fault| format!("{name} {fault}"))),
            }
        }
        for subcommand in command.get_subcommands() {
            self.compare(subcommand, faults);
        }
    }
}

impl Entry<'_> {
    fn fault(&self, argument: &Arg) -> Option<String> {
        let defaults: Vec<_> = argument.get_default_values().iter().map(|value| value.to_string_lossy()).collect();
        let default = defaults.join(",");
        if !self.explained {
            return Some("has no comment above it".to_owned());
        }
        if argument.is_required_set() && !self.set {
            return Some("must be set, but is commented out".to_owned());
        }
        (!default.is_empty() && default != self.value)
            .then(|| format!("has the default `{default}`, not `{}`", self.value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(example: &str) -> Vec<String> {
        let program = Command::new("program")
            .arg(Arg::new("a").long("a").env("NAME_A").default_value("1"))
            .subcommand(Command::new("sub").arg(Arg::new("b").long("b").env("NAME_B").required(true)));
        let mut faults = Vec::new();
        Example::read(example).compare(&program, &mut faults);
        faults
    }

    #[test]
    fn every_kind_of_difference_is_found() {
        assert_eq!(faults("# A\n#NAME_A=1\n\n# B\nNAME_B=x\n"), Vec::<String>::new());
        assert_eq!(faults("# A\n#NAME_A=2\n\n#NAME_B=x\n").len(), 2);
        assert_eq!(faults("").len(), 2);
    }
}
