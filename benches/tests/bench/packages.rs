//! Node's packages are installed once, and a failed install does not count. A script stands in for npm.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
};

use tempfile::TempDir;
use upload_bench::builds::install_packages;

/// What npm does after it has begun.
const WHOLE: &str = "mkdir node_modules/express\nprintf whole >node_modules/express/index.js";

/// A folder with packages to install, and the script in place of npm.
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

    /// An npm that counts its runs, and removes what was installed before.
    fn npm(&self, rest: &str) {
        let begin =
            "test \"$1\" = ci\ncat package.json package-lock.json >/dev/null\nrm -rf node_modules\nmkdir node_modules";
        let runs = self.path("runs");
        let script = format!("#!/bin/sh\nset -e\necho run >>'{}'\n{begin}\n{rest}\n", runs.display());
        fs::write(self.path("script"), script).unwrap();
        fs::set_permissions(self.path("script"), Permissions::from_mode(0o755)).unwrap();
        // Another process copies it, so that no child of another test holds it open for writing.
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
        install_packages(&self.path("npm"), &self.baselines()).await
    }
}

#[tokio::test]
async fn many_at_once_install_once() {
    let place = Place::new(WHOLE);
    let installed = futures::future::join_all([(); 8].map(|()| place.install())).await;
    assert!(installed.iter().all(Result::is_ok), "{installed:?}");
    assert_eq!((place.runs(), place.is_whole()), (1, true));
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
async fn another_lock_file_is_installed_anew() {
    let place = Place::new(WHOLE);
    place.install().await.unwrap();
    place.lock("two");
    place.npm("mkdir node_modules/express\nprintf other >node_modules/express/index.js");
    place.install().await.unwrap();
    assert_eq!((place.runs(), place.is_whole()), (2, false));
}
