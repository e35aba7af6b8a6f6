//! Which Postgres binaries to use: installed ones, else fetched ones.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, bail};

use super::{fetch, identity::Identity};

const OLDEST_MAJOR: u32 = 15;
const NEEDED: [&str; 3] = ["postgres", "initdb", "pg_ctl"];

#[cfg(target_os = "macos")]
const INSTALL: &str = "brew install postgresql@17";
#[cfg(not(target_os = "macos"))]
const INSTALL: &str = "apt-get install postgresql";

/// Folders outside of the search path that hold binaries, or one folder for each version: Debian, Red Hat, Alpine, built from
/// source, Homebrew on Apple and Intel, the EDB installer. A `*` stands for anything.
const FOLDERS: [&str; 9] = [
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/usr/libexec/postgresql*",
    "/usr/local/pgsql/bin",
    "/usr/local/bin",
    "/opt/homebrew/opt/postgresql@*/bin",
    "/usr/local/opt/postgresql@*/bin",
    "/opt/homebrew/bin",
    "/Library/PostgreSQL/*/bin",
];

/// Where Postgres binaries come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The machine has them.
    Installed,
    /// They were downloaded once and are cached.
    Fetched,
}

impl Source {
    /// The setting of `SANDBOX_POSTGRES`: `installed`, `fetched`, or `auto` (also if unset) for either.
    pub fn wanted() -> Result<Option<Self>> {
        match env::var("SANDBOX_POSTGRES").as_deref() {
            Err(env::VarError::NotPresent) | Ok("auto" | "") => Ok(None),
            Ok("installed") => Ok(Some(Self::Installed)),
            Ok("fetched") => Ok(Some(Self::Fetched)),
            _ => bail!("SANDBOX_POSTGRES must be `auto`, `installed` or `fetched`"),
        }
    }
}

/// A folder with `postgres`, `initdb` and `pg_ctl`, version 15 or later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Binaries {
    /// The folder.
    pub folder: PathBuf,
    /// Where they come from.
    pub source: Source,
}

impl Binaries {
    /// Finds binaries that the given user can run.
    pub(super) fn find(wanted: Option<Source>, identity: Identity) -> Result<Self> {
        let installed = || installed(identity).map(|folder| Self { folder, source: Source::Installed });
        let fetched = || -> Result<Self> {
            let folder = fetch::fetched()?;
            check(&folder, identity)?;
            Ok(Self { folder, source: Source::Fetched })
        };
        match wanted {
            Some(Source::Installed) => installed().with_context(|| {
                format!("no installed Postgres {OLDEST_MAJOR} or later was found: install one with `{INSTALL}`")
            }),
            Some(Source::Fetched) => fetched().with_context(|| sentence("none could be fetched")),
            None => match installed() {
                Some(binaries) => Ok(binaries),
                None => fetched().with_context(|| sentence("none is installed, and none could be fetched")),
            },
        }
    }
}

fn sentence(why: &str) -> String {
    format!("Postgres {OLDEST_MAJOR} or later is needed, but {why}: install it with `{INSTALL}`")
}

fn installed(identity: Identity) -> Option<PathBuf> {
    let on_path = env::var_os("PATH").map(|path| env::split_paths(&path).collect::<Vec<_>>()).unwrap_or_default();
    let elsewhere = FOLDERS.iter().flat_map(|pattern| expand(pattern));
    on_path.into_iter().chain(elsewhere).flat_map(with_target).find(|folder| match check(folder, identity) {
        Ok(()) => true,
        Err(reason) => {
            tracing::debug!(folder = %folder.display(), reason = %reason, "not a usable Postgres");
            false
        }
    })
}

/// If a folder has only a link to `postgres`, the target's folder comes first: the other programs are there.
fn with_target(folder: PathBuf) -> Vec<PathBuf> {
    let Ok(target) = fs::canonicalize(folder.join("postgres")) else { return Vec::new() };
    let target = target.parent().map(Path::to_owned);
    target.into_iter().chain([folder]).collect()
}

/// The folders that match a pattern, highest version first.
fn expand(pattern: &str) -> Vec<PathBuf> {
    let Some((before, after)) = pattern.split_once('*') else { return vec![PathBuf::from(pattern)] };
    let (parent, prefix) = before.rsplit_once('/').unwrap_or(("", before));
    let Ok(entries) = fs::read_dir(parent) else { return Vec::new() };
    let mut found: Vec<(u32, PathBuf)> = entries
        .filter_map(|entry| {
            let name = entry.ok()?.file_name().into_string().ok()?;
            let version = name.strip_prefix(prefix)?;
            let folder = PathBuf::from(format!("{parent}/{name}{after}"));
            Some((version.parse().unwrap_or(0), folder))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// Checks that the user that will run Postgres can run it, and that it is recent enough.
pub(super) fn check(folder: &Path, identity: Identity) -> Result<()> {
    for program in NEEDED {
        let path = folder.join(program);
        let mut command = Command::new(&path);
        identity.apply(&mut command);
        let output = command
            .arg("--version")
            .current_dir("/")
            .output()
            .with_context(|| format!("{} cannot be run", path.display()))?;
        let text = String::from_utf8_lossy(&output.stdout);
        let version = text.split_whitespace().find_map(major);
        match version {
            Some(version) if output.status.success() && version >= OLDEST_MAJOR => {}
            Some(version) => bail!("{} is of version {version}", path.display()),
            None => bail!("{} does not say its version: {}", path.display(), String::from_utf8_lossy(&output.stderr)),
        }
    }
    Ok(())
}

/// `15` of `15.18`, `17beta1` or `18`.
fn major(word: &str) -> Option<u32> {
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    word[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_read_from_what_postgres_prints() {
        let read = |text: &str| text.split_whitespace().find_map(major);
        assert_eq!(read("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)"), Some(15));
        assert_eq!(read("initdb (PostgreSQL) 19beta2"), Some(19));
        assert_eq!(read("postgres (PostgreSQL) devel"), None);
    }
}
