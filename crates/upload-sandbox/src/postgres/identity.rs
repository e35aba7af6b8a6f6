//! The user that runs Postgres. Postgres refuses root, so a process of root drops to an unprivileged user for it. Any other user
//! runs it as themselves. Root can reach everything, so we check as that user that it can reach the binaries and the folder.

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
    /// The present user; for root the user `postgres`, or else `nobody`.
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

    /// Makes a command run as this user. Of our environment it gets only the search path.
    pub(super) fn apply(self, command: &mut Command) {
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/bin:/bin"));
        command.env_clear().env("PATH", path).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.drop_to {
            // The standard library also gives up root's other groups here.
            command.gid(gid).uid(uid);
        }
    }

    /// Writes a file that only this user may read.
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

/// Creates a folder with a new name that only the given user may enter, and that this user can remove again.
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

/// The temporary folder. If root drops to another user, a world-writable one, since root's own `TMPDIR` may be closed to others.
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
