//! However a process ends, nothing of its sandbox is left: no process, no file.
//!
//! Each test runs this same binary again as another process, which starts a sandbox and then ends in its own way.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill, killpg},
    unistd::{Pid, geteuid},
};
use tempfile::TempDir;
use upload_sandbox::{Sandbox, process::Program};

const ENDING: &str = "UPLOAD_SANDBOX_TEST_ENDING";
const PATIENCE: Duration = Duration::from_secs(60);

/// The other process. As an ordinary test it does nothing.
#[test]
fn the_other_process() {
    let Ok(ending) = std::env::var(ENDING) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let sandbox = Sandbox::shared().await;
        let stand = sandbox.stand().await;
        let folder = sandbox.cluster().unwrap().folder().to_owned();
        // The parent recognizes this process, too, by the folder's name.
        let script = "echo listening on http://127.0.0.1:1; exec tail -f /dev/null \"$0\"";
        let program = Program::new("/bin/sh", &stand).arg("-c").arg(script).arg(folder.join("data/PG_VERSION"));
        let server = program.serve().await.unwrap();
        println!("\nready {}", folder.display());
        assert_eq!(std::io::stdin().read(&mut [0]).unwrap(), 1);
        if ending == "panic" {
            panic!("as was asked");
        }
        drop(server);
    });
}

/// Another process, and its own temporary folder.
struct Other {
    process: Child,
    /// Kept open, or the test harness would fail because it cannot print.
    stdout: BufReader<ChildStdout>,
    temporary: TempDir,
}

impl Other {
    fn start(ending: &str, prepare: impl FnOnce(&mut Command, &Path)) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        // As /tmp: an unprivileged user must be able to enter.
        fs::set_permissions(temporary.path(), Permissions::from_mode(0o1777)).unwrap();
        let mut command = Command::new(std::env::current_exe().unwrap());
        prepare(&mut command, temporary.path());
        let mut process = command
            .args(["endings::the_other_process", "--exact", "--nocapture"])
            .env(ENDING, ending)
            .env("TMPDIR", temporary.path())
            .env_remove("DATABASE_URL")
            .env_remove("S3_ENDPOINT")
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let stdout = BufReader::new(process.stdout.take().unwrap());
        Self { process, stdout, temporary }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(i32::try_from(self.process.id()).unwrap())
    }

    /// Waits until its sandbox runs.
    fn until_ready(&mut self) {
        let ready = self.stdout.by_ref().lines().map(Result::unwrap).find(|line| line.starts_with("ready "));
        let folder = ready.unwrap().split_once(' ').unwrap().1.to_owned();
        assert!(Path::new(&folder).starts_with(self.temporary.path()), "{folder}");
        // Postmaster, supervisor and server. A new process may still have its parent's name.
        let deadline = Instant::now() + PATIENCE;
        while processes_naming(&folder) < 3 {
            assert!(Instant::now() < deadline, "there is nothing to be left behind");
            std::thread::yield_now();
        }
    }

    /// Tells it to end in its own way, and waits for its exit code.
    fn end(&mut self) -> Option<i32> {
        self.process.stdin.take().unwrap().write_all(b"\n").unwrap();
        self.process.wait().unwrap().code()
    }

    fn assert_nothing_is_left(&self) {
        let name = self.temporary.path().to_str().unwrap();
        let deadline = Instant::now() + PATIENCE;
        let left = || (processes_naming(name), fs::read_dir(self.temporary.path()).unwrap().count());
        while left() != (0, 0) {
            assert!(Instant::now() < deadline, "(processes, files) left: {:?}", left());
            std::thread::yield_now();
        }
    }
}

/// How many processes have this in their command line.
fn processes_naming(name: &str) -> usize {
    let command_lines = fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let path = entry.ok()?.path().join("cmdline");
        Some(String::from_utf8_lossy(&fs::read(path).ok()?).into_owned())
    });
    command_lines.filter(|line| line.contains(name)).count()
}

#[test]
fn killed_with_no_chance_to_clean_up() {
    let mut other = Other::start("return", |_, _| {});
    other.until_ready();
    kill(other.pid(), Signal::SIGKILL).unwrap();
    assert_eq!(other.process.wait().unwrap().signal(), Some(9));
    other.assert_nothing_is_left();
}

#[test]
fn killed_while_the_cluster_is_being_made() {
    let mut other = Other::start("return", |_, _| {});
    let deadline = Instant::now() + PATIENCE;
    while processes_naming(other.temporary.path().to_str().unwrap()) == 0 {
        assert!(Instant::now() < deadline, "initdb does not start");
        std::thread::yield_now();
    }
    kill(other.pid(), Signal::SIGKILL).unwrap();
    other.process.wait().unwrap();
    other.assert_nothing_is_left();
}

#[test]
fn interrupted_from_a_terminal_with_all_of_its_group() {
    let mut other = Other::start("return", |command, _| {
        // A shell that starts these tests in the background ignores SIGINT, and every child would inherit that.
        *command = Command::new("env");
        command.arg("--default-signal=INT").arg(std::env::current_exe().unwrap());
    });
    other.until_ready();
    killpg(other.pid(), Signal::SIGINT).unwrap();
    assert_eq!(other.process.wait().unwrap().signal(), Some(2));
    other.assert_nothing_is_left();
}

#[test]
fn ended_by_a_panic() {
    let mut other = Other::start("panic", |_, _| {});
    other.until_ready();
    assert_eq!(other.end(), Some(101));
    other.assert_nothing_is_left();
}

/// If the tests run as root, this test shows what happens for an ordinary user.
#[test]
fn ended_as_it_should_by_an_ordinary_user() {
    let mut other = Other::start("return", |command, temporary| {
        if geteuid().is_root() {
            // The user may not be able to reach this binary where it is.
            let copy = temporary.join("copy");
            // `cp` is another process: if a child of this one still has the file open for writing, the kernel does not execute it.
            assert!(Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&copy).status().unwrap().success());
            *command = Command::new(copy);
            command.uid(65_534).gid(65_534).current_dir("/").env_remove("HOME");
        }
    });
    other.until_ready();
    assert_eq!(other.end(), Some(0));
    let _ = fs::remove_file(other.temporary.path().join("copy"));
    other.assert_nothing_is_left();
}
