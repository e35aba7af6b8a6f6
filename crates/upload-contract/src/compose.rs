//! Keeps `compose/compose.yaml` true, without an engine to run it: the tests pass its settings to each program's own parser.
//!
//! The reader knows only the part of the Compose specification that the file uses: merge keys, the short forms, and
//! `${NAME:-default}` as on a machine where nothing is set. It does not skip any other form: that fails to parse.
#![expect(clippy::unwrap_used, reason = "tests alone call this, and a test may fail by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use clap::{Arg, ArgMatches, Command};
use serde::Deserialize;
use tempfile::TempDir;
use yaml_serde::Value;

/// The AWS SDK itself reads it, so no program declares it.
const CREDENTIALS: &str = "AWS_SHARED_CREDENTIALS_FILE";
/// After SHUTDOWN_TIMEOUT a server still gives its last answers and finishes work in the background. That takes less than this.
const AFTER_SHUTDOWN_SECONDS: u64 = 20;

/// URLs. No program repeats them either, since one may have a password in it. Compose's own have none, so they need no files.
const NO_SECRETS: [&str; 6] =
    ["PUBLIC_API_URL", "CORS_ORIGINS", "S3_ENDPOINT", "S3_PUBLIC_ENDPOINT", "MEDIA_PUBLIC_BASE_URL", "REDIS_URL"];

/// Asserts three things of each service that runs `program`: it sets only variables that the program declares, has its secrets in
/// files, and sets all that `read` wants. `read` makes the program's settings from the matches, and checks them as at a start.
///
/// # Panics
/// If a service does not fit, or no service runs the program; the message lists all faults.
pub fn assert_fits(program: &Command, read: impl Fn(&ArgMatches) -> Result<(), String>) {
    let file = File::read();
    let secrets = Secrets::make(&file);
    let ours = |service: &Service| service.command.first().is_some_and(|word| word == program.get_name());
    assert!(file.services.values().any(ours), "no service runs {}", program.get_name());
    let mut faults = faults_of_entry_point(program);
    for (name, service) in file.services.iter().filter(|(_, service)| ours(service)) {
        let found = service.faults(program, &file, &secrets, &read);
        faults.extend(found.into_iter().map(|fault| format!("{name}: {fault}")));
    }
    assert!(faults.is_empty(), "compose/compose.yaml and {} do not fit:\n{}", program.get_name(), faults.join("\n"));
}

/// The entry point must know each secret, or the secret could not come from a file.
fn faults_of_entry_point(program: &Command) -> Vec<String> {
    let script = text("entrypoint");
    let known: Vec<_> = script.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').collect();
    let secrets = variables(program).filter(|(name, argument)| is_secret(name, argument));
    let mut faults: Vec<_> = secrets
        .filter(|(name, _)| !known.contains(&name.as_str()))
        .map(|(name, _)| format!("compose/entrypoint does not take {name} from a file"))
        .collect();
    for subcommand in program.get_subcommands() {
        faults.extend(faults_of_entry_point(subcommand));
    }
    faults
}

/// The variables of a command's own arguments.
fn variables(command: &Command) -> impl Iterator<Item = (String, &Arg)> {
    command.get_arguments().filter_map(|argument| Some((argument.get_env()?.to_string_lossy().into_owned(), argument)))
}

/// A variable is a secret if its program must not repeat its value.
fn is_secret(variable: &str, argument: &Arg) -> bool {
    argument.is_hide_env_values_set() && !NO_SECRETS.contains(&variable)
}

/// The command, made to ignore the environment of this process, which is not the container's.
fn without_environment(command: Command) -> Command {
    command.mut_args(|argument| argument.env(None::<&'static str>)).mut_subcommands(without_environment)
}

#[derive(Deserialize)]
struct File {
    services: BTreeMap<String, Service>,
}

/// The checked part of a service that runs one of our programs; compose_tests.rs reads the rest.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Service {
    command: Vec<String>,
    environment: BTreeMap<String, String>,
    volumes: Vec<String>,
    stop_grace_period: Option<String>,
    healthcheck: Value,
}

impl File {
    fn read() -> Self {
        yaml_serde::from_value(document()).unwrap()
    }
}

impl Service {
    fn faults(
        &self,
        program: &Command,
        file: &File,
        secrets: &Secrets,
        read: impl Fn(&ArgMatches) -> Result<(), String>,
    ) -> Vec<String> {
        let mut built = program.clone();
        built.build();
        let mut command = &built;
        while let Some(subcommand) = self.command.iter().find_map(|word| command.find_subcommand(word)) {
            command = subcommand;
        }
        let declared: BTreeMap<_, _> = variables(command).collect();
        let mut faults = Vec::new();
        let mut settings = Vec::new();
        for (name, value) in &self.environment {
            let secret = name.strip_suffix("_FILE").and_then(|name| declared.get(name));
            match (declared.get(name), secret) {
                (Some(argument), _) if is_secret(name, argument) => {
                    faults.push(format!("{name} is a secret, so it must be set by {name}_FILE"));
                }
                (Some(argument), _) => settings.push(format!("--{}={value}", argument.get_long().unwrap())),
                (None, Some(argument)) => match secrets.read(self, value) {
                    Some(secret) => settings.push(format!("--{}={secret}", argument.get_long().unwrap())),
                    None => faults.push(format!("{name} is {value}, which compose/secrets does not make")),
                },
                (None, None) if name == CREDENTIALS => {}
                (None, None) => faults.push(format!("{name} is not a variable of {}", self.command.join(" "))),
            }
        }
        faults.extend(self.faults_of_profiles(file));
        faults.extend(self.faults_of_stop(&declared));
        for words in [self.command.clone()].into_iter().chain(self.own_check(program)) {
            let matches = without_environment(program.clone()).try_get_matches_from(words.iter().chain(&settings));
            faults.extend(matches.map_err(|error| error.to_string()).and_then(|matches| read(&matches)).err());
        }
        faults
    }

    /// The health check's command, if it runs the program itself.
    fn own_check(&self, program: &Command) -> Option<Vec<String>> {
        let words = self.check();
        let own = words.strip_prefix(&["CMD".to_owned(), "entrypoint".to_owned()])?;
        own.first().is_some_and(|word| word == program.get_name()).then(|| own.to_vec())
    }

    /// The health check's words, as in the Compose file; empty without a check.
    fn check(&self) -> Vec<String> {
        yaml_serde::from_value(self.healthcheck["test"].clone()).unwrap_or_default()
    }

    /// A profile is a role. compose/minio/set-up makes a key for it, in the file that the service reads.
    fn faults_of_profiles(&self, file: &File) -> Vec<String> {
        let keys = &file.services["minio-keys"];
        let mut faults = Vec::new();
        for (name, role) in self.environment.iter().filter(|(name, _)| name.ends_with("_PROFILE")) {
            if !folder().join(format!("minio/policies/{role}.json")).is_file() {
                faults.push(format!("{name} is {role}, for which compose/minio makes no key"));
            }
            let written = keys.volume_at(&keys.environment["CREDENTIALS_FILE"]);
            if self.environment.get(CREDENTIALS).map(|path| self.volume_at(path)) != Some(written) {
                faults.push(format!("{name} needs {CREDENTIALS} to name the file that minio-keys writes"));
            }
        }
        faults
    }

    fn faults_of_stop(&self, declared: &BTreeMap<String, &Arg>) -> Option<String> {
        let argument = declared.get("SHUTDOWN_TIMEOUT")?;
        let set = self.environment.get("SHUTDOWN_TIMEOUT").cloned();
        let timeout = set.unwrap_or_else(|| argument.get_default_values()[0].to_string_lossy().into_owned());
        let least = timeout.parse::<u64>().unwrap() + AFTER_SHUTDOWN_SECONDS;
        let grace = self.stop_grace_period.as_deref().and_then(|grace| grace.strip_suffix('s')?.parse::<u64>().ok());
        (grace < Some(least)).then(|| format!("stop_grace_period must be at least {least}s"))
    }

    /// The mounts as source and target.
    fn mounts(&self) -> impl Iterator<Item = (&str, &str)> {
        self.volumes.iter().map(|mount| {
            let mut parts = mount.split(':');
            (parts.next().unwrap(), parts.next().unwrap_or_else(|| panic!("{mount} has no target")))
        })
    }

    /// The volume that a path of the container lies in, and the path within the volume.
    fn volume_at<'a>(&'a self, path: &'a str) -> Option<(&'a str, &'a str)> {
        self.mounts().find_map(|(source, target)| Some((source, path.strip_prefix(target)?.strip_prefix('/')?)))
    }
}

/// The files that compose/secrets makes at the first start.
struct Secrets {
    folder: TempDir,
    /// For each volume, the folder in which compose/secrets puts it.
    volumes: BTreeMap<String, String>,
}

impl Secrets {
    fn make(file: &File) -> Self {
        let service = &file.services["secrets"];
        let within = &service.environment["FOLDER"];
        let mounted = service.mounts().filter_map(|(volume, target)| {
            Some((volume.to_owned(), target.strip_prefix(within.as_str())?.trim_start_matches('/').to_owned()))
        });
        let made = Self { folder: TempDir::new().unwrap(), volumes: mounted.collect() };
        made.run(&service.environment["DATABASE"]);
        made
    }

    fn run(&self, database: &str) {
        let mut shell = std::process::Command::new("sh");
        shell.arg(folder().join("secrets")).env("FOLDER", self.folder.path()).env("DATABASE", database);
        let done = shell.output().unwrap();
        assert!(done.status.success(), "compose/secrets: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// The content of `path` in the container of `service`.
    fn read(&self, service: &Service, path: &str) -> Option<String> {
        let (volume, rest) = service.volume_at(path)?;
        let content = fs::read_to_string(self.folder.path().join(self.volumes.get(volume)?).join(rest)).ok()?;
        Some(content.trim_end().to_owned())
    }
}

/// The folder compose/.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../compose")
}

fn text(file: &str) -> String {
    let path = folder().join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The whole of compose.yaml, merged and with every variable replaced.
fn document() -> Value {
    let mut document: Value = yaml_serde::from_str(&text("compose.yaml")).unwrap();
    // A merged mapping may contain merge keys of its own, so one pass is not enough.
    loop {
        let before = document.clone();
        document.apply_merge().unwrap();
        if document == before {
            return interpolated(document);
        }
    }
}

/// The value, with every `${NAME:-default}` replaced by its default.
fn interpolated(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(with_defaults(&text)),
        Value::Sequence(values) => Value::Sequence(values.into_iter().map(interpolated).collect()),
        Value::Mapping(entries) => {
            Value::Mapping(entries.into_iter().map(|(key, value)| (key, interpolated(value))).collect())
        }
        other => other,
    }
}

fn with_defaults(text: &str) -> String {
    let mut done = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once('$') {
        done.push_str(before);
        if let Some(literal) = after.strip_prefix('$') {
            done.push('$');
            rest = literal;
            continue;
        }
        let variable = after.strip_prefix('{').and_then(|after| after.split_once('}'));
        let (variable, after) = variable.unwrap_or_else(|| panic!("`{text}` has a `$` that stands for nothing"));
        let (_name, default) = variable.split_once(":-").unwrap_or_else(|| panic!("${{{variable}}} has no default"));
        done.push_str(default);
        rest = after;
    }
    done + rest
}

#[cfg(test)]
#[path = "compose_tests.rs"]
mod tests;
