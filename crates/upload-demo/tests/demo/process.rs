//! The real binary, with its own temporary folder, in which a test can see what it leaves behind.

use std::{
    fs::{self, Permissions},
    io::{BufRead as _, BufReader, Read as _},
    os::unix::fs::PermissionsExt as _,
    process::{Child, ChildStdout, Command, Output, Stdio},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

/// A demo that has not been started yet.
pub struct Demo {
    command: Command,
    temporary: TempDir,
}

/// A demo that runs. Dropping it kills it.
pub struct RunningDemo {
    child: Child,
    stdout: BufReader<ChildStdout>,
    stderr: Option<JoinHandle<String>>,
    temporary: TempDir,
}

impl Demo {
    pub fn new(arguments: &[&str]) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        // As /tmp: if the tests run as root, Postgres runs as another user, which must be able to enter.
        fs::set_permissions(temporary.path(), Permissions::from_mode(0o1777)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_upload-demo"));
        command.args(arguments).env("TMPDIR", temporary.path());
        Self { command, temporary }
    }

    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Uses throw-away parts, also if the other tests use a given server or store.
    pub fn on_its_own(mut self) -> Self {
        self.command.env_remove("DATABASE_URL").env_remove("S3_ENDPOINT");
        self
    }

    /// Runs the demo to its end and asserts that nothing is left.
    pub fn run(mut self) -> Output {
        let output = self.command.stdin(Stdio::null()).output().unwrap();
        assert_nothing_is_left(&self.temporary);
        output
    }

    pub fn start(mut self) -> RunningDemo {
        self.command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let mut stderr = child.stderr.take().unwrap();
        let stderr = std::thread::spawn(move || {
            let mut text = String::new();
            stderr.read_to_string(&mut text).unwrap();
            text
        });
        RunningDemo { child, stdout, stderr: Some(stderr), temporary: self.temporary }
    }
}

impl RunningDemo {
    /// Its standard output up to the line that says that it runs.
    pub fn until_running(&mut self) -> String {
        let mut text = String::new();
        loop {
            let mut line = String::new();
            if self.stdout.read_line(&mut line).unwrap() == 0 {
                panic!("the demo ended:\n{text}\n{}", self.stderr.take().unwrap().join().unwrap());
            }
            text.push_str(&line);
            if line.starts_with("Running until Ctrl-C") {
                return text;
            }
        }
    }

    /// Sends a signal, waits for the end, asserts that nothing is left, and returns the exit code with what stderr had.
    pub fn end_by(mut self, signal: Signal) -> (Option<i32>, String) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), signal).unwrap();
        let code = self.child.wait().unwrap().code();
        assert_nothing_is_left(&self.temporary);
        (code, self.stderr.take().unwrap().join().unwrap())
    }
}

impl Drop for RunningDemo {
    fn drop(&mut self) {
        // After a failed assertion. The demo may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asserts that the temporary folder is empty, and that no process names it.
fn assert_nothing_is_left(temporary: &TempDir) {
    let files: Vec<_> = fs::read_dir(temporary.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(files.is_empty(), "left behind: {files:?}");
    let name = temporary.path().to_str().unwrap();
    let processes = || -> Vec<String> {
        let command_lines = fs::read_dir("/proc").into_iter().flatten().filter_map(|entry| {
            let command_line = fs::read(entry.ok()?.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&command_line).replace('\0', " "))
        });
        command_lines.filter(|line| line.contains(name)).collect()
    };
    // The one that removes the folder is the last to end.
    let begun = Instant::now();
    while !processes().is_empty() && begun.elapsed() < Duration::from_secs(10) {}
    assert!(processes().is_empty(), "left running: {:?}", processes());
}
