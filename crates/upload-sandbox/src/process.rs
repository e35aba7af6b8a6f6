//! The real binaries as processes: the tests start the same programs as a deployer.
//!
//! A process gets a clean environment, with the stand's variables and those that the test adds. The sandbox's runtime watches it,
//! so that it may outlive the test's runtime. It never outlives this process, `kill -9` included. A small shell holds the read
//! end of a pipe, as the supervisor of Postgres does, and kills the server when the pipe ends.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    path::PathBuf,
    process::{ExitStatus, Stdio},
    sync::{
        Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender},
    },
    time::Duration,
};

use anyhow::{Context, Result, bail};
use nix::{
    sys::resource::{Resource, getrlimit, setrlimit},
    sys::signal::{self, Signal},
    unistd::Pid,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    process::{Child, Command},
    runtime::Handle,
    sync::{mpsc, watch},
    time::timeout,
};

use url::Url;

use crate::Stand;

/// A server prints this on stdout when it accepts connections.
const LISTENING: &str = "listening on ";
/// How long a test waits for anything before it fails.
const PATIENCE: Duration = Duration::from_secs(60);
/// The number of lines of each stream that are kept. Further lines are read and dropped, so that memory stays bounded.
const MOST_LINES: usize = 100_000;
/// How long the streams of a process may stay open after its end: a grandchild could hold them.
const LONGEST_REMAINDER: Duration = Duration::from_secs(5);

/// Kills the server's whole process group.
const WATCHER: &str = "read -r _; kill -9 \"-$1\"";

/// A program to start, with all of its environment.
#[derive(Debug, Clone)]
pub struct Program {
    binary: PathBuf,
    arguments: Vec<OsString>,
    environment: BTreeMap<String, String>,
    /// A program that starts the binary in its own place, such as `taskset` with its options; empty without one.
    launcher: Vec<OsString>,
    runtime: Handle,
}

/// A program that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The exit code, or `None` where a signal ended it.
    pub code: Option<i32>,
    /// Its standard output.
    pub stdout: String,
    /// Its standard error.
    pub stderr: String,
}

/// A running server. Dropping it kills it and waits for its end.
#[derive(Debug)]
pub struct Server {
    /// Where it listens, such as `http://127.0.0.1:40123`.
    pub url: String,
    running: Running,
}

impl Program {
    /// A binary on a stand. It gets nothing from this process's environment.
    pub fn new(binary: impl Into<PathBuf>, stand: &Stand) -> Self {
        Self {
            binary: binary.into(),
            arguments: Vec::new(),
            environment: stand.environment(),
            launcher: Vec::new(),
            runtime: stand.runtime().clone(),
        }
    }

    /// A binary without a stand.
    pub fn bare(binary: impl Into<PathBuf>, runtime: &Handle) -> Self {
        let (binary, runtime) = (binary.into(), runtime.clone());
        Self { binary, arguments: Vec::new(), environment: BTreeMap::new(), launcher: Vec::new(), runtime }
    }

    /// Adds an argument.
    #[must_use]
    pub fn arg(mut self, argument: impl Into<OsString>) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// Starts the program by another program. That one gets its path and arguments, and must `exec` it, so that the process id stays.
    #[must_use]
    pub fn under(mut self, launcher: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.launcher = launcher.into_iter().map(Into::into).collect();
        self
    }

    /// Sets a variable.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.environment.insert(name.into(), value.into());
        self
    }

    /// Removes a variable.
    #[must_use]
    pub fn without(mut self, name: &str) -> Self {
        self.environment.remove(name);
        self
    }

    /// The value of a variable.
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name).map(String::as_str)
    }

    /// Every secret value of its environment, also the password in `DATABASE_URL`.
    pub fn secrets(&self) -> Vec<String> {
        let secret = |name: &str| ["SECRET", "TOKEN", "PUBLIC_KEY"].iter().any(|word| name.contains(word));
        let urls = self.environment.get("DATABASE_URL").and_then(|url| Url::parse(url).ok());
        let password = urls.and_then(|url| url.password().map(str::to_owned));
        let values = self.environment.iter().filter(|(name, _value)| secret(name)).map(|(_name, value)| value.clone());
        values.chain(password).filter(|value| !value.is_empty()).collect()
    }

    /// Starts the program and waits until it listens.
    ///
    /// # Errors
    /// If it does not start or ends before it listens; the message has its exit code and its last lines.
    pub async fn serve(self) -> Result<Server> {
        let mut running = self.start()?;
        let first = wait_until(&mut running.stdout, |lines| {
            lines.ended || lines.kept.iter().any(|line| line.starts_with(LISTENING))
        });
        let lines = first.await.with_context(|| format!("{} does not listen", running.name))?;
        let url = lines.kept.iter().find_map(|line| line.strip_prefix(LISTENING)).map(str::to_owned);
        let Some(url) = url else {
            let status = running.wait().await?;
            let log = running.stderr.borrow().kept.join("\n");
            bail!("{} ended before it listened ({status}):\n{log}", running.name);
        };
        Ok(Server { url, running })
    }

    /// Starts a program that is known to listen at `url`, and waits until its log says that it does.
    ///
    /// # Errors
    /// If it does not start or ends before; the message has its log.
    pub async fn serve_at(self, url: String, ready: &str) -> Result<Server> {
        let server = Server { url, running: self.start()? };
        match server.wait_for_log(|line| line.contains(ready)).await {
            Ok(_line) => Ok(server),
            Err(error) => Err(error.context(server.log().join("\n"))),
        }
    }

    /// Runs the program to its end.
    pub async fn run(self) -> Result<Finished> {
        let mut running = self.start()?;
        let status = running.wait().await?;
        let text = |lines: &watch::Receiver<Lines>| lines.borrow().kept.join("\n");
        Ok(Finished { code: status.code(), stdout: text(&running.stdout), stderr: text(&running.stderr) })
    }

    fn start(self) -> Result<Running> {
        let name = self.binary.display().to_string();
        // A child belongs to the runtime that spawns it.
        let _context = self.runtime.enter();
        let mut words = self.launcher.into_iter().chain([self.binary.into_os_string()]).chain(self.arguments);
        let mut child = Command::new(words.next().unwrap_or_default())
            .args(words)
            .env_clear()
            .envs(&self.environment)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{name} does not start"))?;
        let id = child.id().with_context(|| format!("{name} has no process id"))?;
        let watcher = Command::new("/bin/sh")
            .args(["-c", WATCHER, "upload-sandbox-watcher", &id.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("/bin/sh, which watches over a server, does not start")?;
        let stdout = Lines::follow(child.stdout.take());
        let stderr = Lines::follow(child.stderr.take());
        let (commands, orders) = mpsc::unbounded_channel();
        let (exits, exit) = watch::channel(None);
        let (until_gone, gone) = std::sync::mpsc::channel();
        let looking_after = look_after(child, watcher, orders, exits, [stdout.clone(), stderr.clone()]);
        tokio::spawn(async move {
            looking_after.await;
            drop::<Sender<()>>(until_gone);
        });
        Ok(Running { name, id, commands, exit, stdout, stderr, gone: Mutex::new(gone) })
    }
}

/// Lets this process, and each program that it starts from now on, have as many file descriptors as the system allows. Returns how many.
///
/// # Errors
/// If the system refuses.
pub fn raise_file_limit() -> Result<usize> {
    let (_soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(usize::try_from(hard)?)
}

impl Server {
    /// Starts a server binary on a stand and waits until it listens.
    pub async fn start(binary: impl Into<PathBuf>, stand: &Stand, extra_environment: &[(&str, &str)]) -> Result<Self> {
        let program = Program::new(binary, stand);
        extra_environment.iter().fold(program, |program, (name, value)| program.env(*name, *value)).serve().await
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.running.id
    }

    /// The lines that it has printed so far.
    pub fn stdout(&self) -> Vec<String> {
        self.running.stdout.borrow().kept.clone()
    }

    /// The lines that it has logged so far.
    pub fn log(&self) -> Vec<String> {
        self.running.stderr.borrow().kept.clone()
    }

    /// The lines that it has logged after the first `known` ones.
    pub fn log_after(&self, known: usize) -> Vec<String> {
        self.running.stderr.borrow().kept.iter().skip(known).cloned().collect()
    }

    /// Waits for a line of the log. An earlier line counts, too.
    pub async fn wait_for_log(&self, wanted: impl Fn(&str) -> bool) -> Result<String> {
        self.wait_for_line(self.running.stderr.clone(), wanted).await
    }

    /// Waits for a line that it prints. An earlier line counts, too.
    pub async fn wait_for_output(&self, wanted: impl Fn(&str) -> bool) -> Result<String> {
        self.wait_for_line(self.running.stdout.clone(), wanted).await
    }

    async fn wait_for_line(&self, mut lines: watch::Receiver<Lines>, wanted: impl Fn(&str) -> bool) -> Result<String> {
        let find = |lines: &Lines| lines.kept.iter().find(|line| wanted(line)).cloned();
        let lines = wait_until(&mut lines, |lines| lines.ended || find(lines).is_some()).await?;
        find(&lines).with_context(|| format!("{} ended without the line that was waited for", self.running.name))
    }

    /// Sends SIGTERM.
    pub fn ask_to_stop(&self) {
        self.running.send(Signal::SIGTERM);
    }

    /// Sends SIGKILL.
    pub fn kill(&self) {
        self.running.send(Signal::SIGKILL);
    }

    /// Sends any signal.
    pub fn signal(&self, signal: Signal) {
        self.running.send(signal);
    }

    /// Waits for the server's end; its log is then complete.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        self.running.wait().await
    }

    /// Waits for the server's end without a limit; `None` if its status is not available.
    pub fn ended(&self) -> impl Future<Output = Option<ExitStatus>> + Send + use<> {
        let mut exit = self.running.exit.clone();
        async move { exit.wait_for(Option::is_some).await.ok().and_then(|status| *status) }
    }

    /// Sends SIGTERM and waits for the exit code; `None` if a signal ended it.
    pub async fn terminate(&mut self) -> Result<Option<i32>> {
        self.ask_to_stop();
        Ok(self.wait().await?.code())
    }

    /// Memory in use now, in bytes (`VmRSS`; Linux only).
    pub fn resident_bytes(&self) -> Result<u64> {
        self.memory("VmRSS:")
    }

    /// The most memory that was ever in use, in bytes (`VmHWM`; Linux only).
    pub fn peak_resident_bytes(&self) -> Result<u64> {
        self.memory("VmHWM:")
    }

    /// Resets [`Server::peak_resident_bytes`]: it counts from now (proc(5), `clear_refs`).
    pub fn reset_peak_resident_bytes(&self) -> Result<()> {
        let path = format!("/proc/{}/clear_refs", self.id());
        fs::write(&path, "5").with_context(|| format!("{path} cannot be written"))
    }

    fn memory(&self, field: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.id());
        let status = fs::read_to_string(&path).with_context(|| format!("{path} cannot be read"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(field));
        let kibibytes = line.and_then(|line| line.trim().strip_suffix(" kB")).context("the process has ended")?;
        Ok(kibibytes.parse::<u64>()? * 1024)
    }
}

/// A process, with its output and its end.
#[derive(Debug)]
struct Running {
    name: String,
    id: u32,
    commands: mpsc::UnboundedSender<Signal>,
    exit: watch::Receiver<Option<ExitStatus>>,
    stdout: watch::Receiver<Lines>,
    stderr: watch::Receiver<Lines>,
    /// Its sender ends when the process has been reaped.
    gone: Mutex<Receiver<()>>,
}

impl Running {
    fn send(&self, signal: Signal) {
        // A process that has ended needs no signal.
        let _ = self.commands.send(signal);
    }

    async fn wait(&mut self) -> Result<ExitStatus> {
        let ended = timeout(PATIENCE, self.exit.wait_for(Option::is_some)).await;
        let ended = ended.with_context(|| format!("{} does not end", self.name))?;
        ended?.with_context(|| format!("{} has no exit status", self.name))
    }
}

impl Drop for Running {
    /// Waits with std only: the test's runtime may have only the thread on which this runs.
    fn drop(&mut self) {
        self.send(Signal::SIGKILL);
        let gone = self.gone.get_mut().unwrap_or_else(PoisonError::into_inner);
        if gone.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(name = self.name, id = self.id, "a process does not end");
        }
    }
}

/// Sends the process the requested signals until it ends, then reaps it, and then reports its end. The process keeps its id until
/// it is reaped, so no signal can reach another process.
async fn look_after(
    mut child: Child,
    mut watcher: Child,
    mut orders: mpsc::UnboundedReceiver<Signal>,
    exits: watch::Sender<Option<ExitStatus>>,
    streams: [watch::Receiver<Lines>; 2],
) {
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            Some(order) = orders.recv() => {
                let id = child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw);
                // Its own children end with it, or nobody would end them.
                let send = if order == Signal::SIGKILL { signal::killpg } else { signal::kill };
                if let Some(Err(error)) = id.map(|id| send(id, order)) {
                    tracing::warn!(%error, "a signal cannot be sent");
                }
            }
        }
    };
    if let Err(error) = watcher.kill().await {
        tracing::warn!(%error, "a watcher cannot be ended");
    }
    for mut lines in streams {
        let _ = timeout(LONGEST_REMAINDER, lines.wait_for(|lines| lines.ended)).await;
    }
    match status {
        Ok(status) => drop(exits.send(Some(status))),
        Err(error) => tracing::warn!(%error, "a process cannot be waited for"),
    }
}

/// The lines of a stream so far.
#[derive(Debug, Clone, Default)]
struct Lines {
    kept: Vec<String>,
    ended: bool,
}

impl Lines {
    fn follow(stream: Option<impl AsyncRead + Unpin + Send + 'static>) -> watch::Receiver<Self> {
        let (sender, receiver) = watch::channel(Self::default());
        tokio::spawn(async move {
            if let Some(stream) = stream {
                let mut lines = BufReader::new(stream).split(b'\n');
                while let Ok(Some(line)) = lines.next_segment().await {
                    sender.send_modify(|lines| {
                        if lines.kept.len() < MOST_LINES {
                            lines.kept.push(String::from_utf8_lossy(&line).into_owned());
                        }
                    });
                }
            }
            sender.send_modify(|lines| lines.ended = true);
        });
        receiver
    }
}

async fn wait_until(lines: &mut watch::Receiver<Lines>, found: impl FnMut(&Lines) -> bool) -> Result<Lines> {
    let waited = timeout(PATIENCE, lines.wait_for(found)).await.context("it took longer than a minute")?;
    Ok(waited.context("the stream is not followed any more")?.clone())
}
