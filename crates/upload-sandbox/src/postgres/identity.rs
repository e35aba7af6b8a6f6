//! Who runs Postgres. It refuses root, so a process of root's drops to an unprivileged user for it; everyone else is
//! themselves. What that user must reach (binaries, folder) is checked as that user, since root can reach anything.

use std::{
    ffi::OsString,
    fs::{self, OpenOptions, Permissions},
    io::Write,
    os::unix::{
        fs::{MetadataExt, OpenOptionsExt, PermissionsExt, chown},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use nix::unistd::{User, geteuid};

/// The user that Postgres runs as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    /// User and group to drop to, or `None` to stay who we are.
    drop_to: Option<(u32, u32)>,
}

impl Identity {
    /// Ourselves, or for root the user `postgres`, else `nobody`.
    pub(super) fn unprivileged() -> Result<Self> {
        if !geteuid().is_root() {
            return Ok(Self { drop_to: None });
        }
        for name in ["postgres", "nobody"] {
            if let Some(user) = User::from_name(name).with_context(|| format!("the user {name} cannot be looked up"))? {
                return Ok(Self { drop_to: Some((user.uid.as_raw(), user.gid.as_raw())) });
            }
        }
        // initdb wants its user to have a name.
        anyhow::bail!(
            "Postgres refuses to run as root, and there is neither a user `postgres` nor `nobody` to run it as"
        )
    }

    /// Makes a command run as this user, with nothing of our environment but the search path.
    pub(super) fn apply(self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
        command.env_clear().env("PATH", path).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.drop_to {
            // The standard library also gives up root's other groups here.
            command.gid(gid).uid(uid);
        }
    }

    /// Writes a file that this user alone may read.
    pub(super) fn write_private(self, path: &Path, text: &str) -> Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .with_context(|| format!("{} cannot be created", path.display()))?;
        file.write_all(text.as_bytes()).with_context(|| format!("{} cannot be written", path.display()))?;
        self.own(path)
    }

    fn own(self, path: &Path) -> Result<()> {
        let Some((uid, gid)) = self.drop_to else { return Ok(()) };
        chown(path, Some(uid), Some(gid)).with_context(|| format!("{} cannot be given to user {uid}", path.display()))
    }
}

/// Creates a folder of a new name that the given user alone may enter, and that this user can remove again.
pub(super) fn private_folder(prefix: &str, identity: Identity) -> Result<PathBuf> {
    let parent = temporary_parent(identity);
    let folder = tempfile::Builder::new()
        .prefix(prefix)
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(&parent)
        .with_context(|| format!("no folder can be created in {}", parent.display()))?;
    identity.own(folder.path())?;
    Ok(folder.keep())
}

/// The temporary folder, or for a user dropped to a world-writable one: root's own `TMPDIR` may be closed to others.
fn temporary_parent(identity: Identity) -> PathBuf {
    let usual = std::env::temp_dir();
    if identity.drop_to.is_none() || open_to_all(&usual) {
        return usual;
    }
    PathBuf::from("/tmp")
}

fn open_to_all(folder: &Path) -> bool {
    let Ok(folder) = fs::canonicalize(folder) else { return false };
    let mode = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.mode());
    mode(&folder) & 0o003 == 0o003 && folder.ancestors().all(|ancestor| mode(ancestor) & 0o001 == 0o001)
}
