//! Node's packages are installed once, even for concurrent callers, and incomplete packages are never used.
//!
//! Shells stand in for npm. The tests of the baselines run what npm itself installs.

use std::{
    env,
    fs::{self, File, OpenOptions, Permissions, TryLockError},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use nix::{sys::stat::Mode, unistd::mkfifo};
use tempfile::TempDir;
use upload_bench::builds::install_packages;

/// Set in another process that installs, to the folder of the [`Place`].
const OTHER: &str = "UPLOAD_BENCH_TEST_INSTALLS";
/// The rest of npm's work after its beginning.
const WHOLE: &str = "mkdir node_modules/express\nprintf whole >node_modules/express/index.js";

/// A folder with packages to install, and a script in place of npm.
struct Place {
    folder: TempDir,
}

impl Place {
    fn new(rest: &str) -> Self {
        let place = Self { folder: tempfile::tempdir().unwrap() };
        fs::create_dir(place.baselines()).unwrap();
        fs::write(place.baselines().join("package.json"), "{}").unwrap();
        place.lock("one");
        place.npm(rest);
        place
    }

    /// An npm that counts its runs, and that first writes npm's mark of a complete installation.
    fn npm(&self, rest: &str) {
        let begin = "test \"$1\" = ci\ncat package.json package-lock.json >/dev/null\nmkdir node_modules\n\
                     : >node_modules/.package-lock.json";
        let runs = self.path("runs");
        let script = format!("#!/bin/sh\nset -e\necho run >>'{}'\n{begin}\n{rest}\n", runs.display());
        fs::write(self.path("script"), script).unwrap();
        fs::set_permissions(self.path("script"), Permissions::from_mode(0o755)).unwrap();
        // Another process copies it: otherwise, a child that another test starts meanwhile could hold npm open for writing.
        assert!(Command::new("cp").arg(self.path("script")).arg(self.path("npm")).status().unwrap().success());
    }

    fn lock(&self, version: &str) {
        fs::write(self.baselines().join("package-lock.json"), version).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn baselines(&self) -> PathBuf {
        self.path("baselines")
    }

    fn runs(&self) -> usize {
        fs::read_to_string(self.path("runs")).unwrap_or_default().lines().count()
    }

    fn is_whole(&self) -> bool {
        fs::read_to_string(self.baselines().join("node_modules/express/index.js")).is_ok_and(|text| text == "whole")
    }

    async fn install(&self) -> anyhow::Result<()> {
        install(self.folder.path()).await
    }

    /// Another process, which installs once its stdin ends.
    fn other(&self) -> Child {
        Command::new(env::current_exe().unwrap())
            .args(["packages::the_other_process", "--exact", "--nocapture"])
            .env(OTHER, self.folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap()
    }
}

async fn install(place: &Path) -> anyhow::Result<()> {
    install_packages(&place.join("npm"), &place.join("baselines")).await
}

/// The work of the other process. On its own, this test does nothing.
#[tokio::test(flavor = "multi_thread")]
async fn the_other_process() {
    let Some(place) = env::var_os(OTHER).map(PathBuf::from) else { return };
    std::io::stdin().read_to_end(&mut Vec::new()).unwrap();
    let tasks = [(); 4].map(|()| {
        let place = place.clone();
        tokio::spawn(async move { install(&place).await })
    });
    for task in tasks {
        task.await.unwrap().unwrap();
    }
}

#[test]
fn many_processes_at_once_install_once() {
    let place = Place::new(WHOLE);
    let mut others = [(); 4].map(|()| place.other());
    for other in &mut others {
        drop(other.stdin.take());
    }
    let succeeded = others.map(|mut other| other.wait().unwrap().success());
    assert_eq!((succeeded, place.runs(), place.is_whole()), ([true; 4], 1, true));
}

#[tokio::test]
async fn an_install_that_fails_is_not_taken_for_a_whole_one() {
    let place = Place::new("exit 236");
    let error = place.install().await.unwrap_err();
    assert!(error.to_string().contains("236"), "{error}");
    place.npm(WHOLE);
    place.install().await.unwrap();
    assert_eq!((place.runs(), place.is_whole()), (2, true));
    place.install().await.unwrap();
    assert_eq!(place.runs(), 2, "what is there stays");
}

#[tokio::test]
async fn what_was_left_half_installed_is_healed() {
    let place = Place::new(WHOLE);
    let packages = place.baselines().join("node_modules");
    fs::create_dir_all(packages.join("pg")).unwrap();
    fs::write(packages.join(".package-lock.json"), "{}").unwrap();
    place.install().await.unwrap();
    assert!(place.is_whole());
    assert!(!packages.join("pg").exists(), "what was there before is gone");
}

#[tokio::test]
async fn another_lock_file_is_installed_anew() {
    let place = Place::new(WHOLE);
    place.install().await.unwrap();
    place.lock("two");
    place.npm("mkdir node_modules/express\nprintf other >node_modules/express/index.js");
    place.install().await.unwrap();
    assert_eq!((place.runs(), place.is_whole()), (2, false));
}

#[tokio::test]
async fn whoever_is_killed_leaves_nothing_that_counts() {
    let place = Place::new("read line <\"${0%/*}/fifo\"");
    mkfifo(&place.path("fifo"), Mode::S_IRWXU).unwrap();
    let mut other = place.other();
    drop(other.stdin.take());
    // This returns when npm opens its end, in the middle of its work.
    let npm = OpenOptions::new().write(true).open(place.path("fifo")).unwrap();
    other.kill().unwrap();
    other.wait().unwrap();
    let lock = File::open(place.baselines().join(".install/lock")).unwrap();
    assert!(matches!(lock.try_lock(), Err(TryLockError::WouldBlock)), "npm works on, and nobody beside it");
    drop(npm);
    place.npm(WHOLE);
    place.install().await.unwrap();
    assert!(place.is_whole());
    let left = fs::read_dir(place.baselines().join(".install")).unwrap();
    assert_eq!(left.map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>(), ["lock"]);
}
