//! A throw-away Postgres cluster on one machine: always a real one, never a stand-in.
//!
//! The cluster belongs to a supervisor, a small shell process. It reads a pipe, and only this process holds the write end.
//! However this process ends (return, panic, `kill -9`), the kernel closes that end. Then the supervisor stops Postgres and
//! removes its folder. It is in its own process group, so Ctrl-C in a terminal does not reach it first. A destructor is not
//! enough (the test harness drops no `static`), and neither is a parent-death signal (it fires when the *thread* that started
//! the child ends). The pipe's end is close-on-exec, so other children do not keep it open.
//!
//! Passwords travel in clear text over the loopback: SCRAM's 4096 rounds cost an unoptimized client tens of milliseconds
//! for each connection, and every test opens some.

mod binaries;
mod certificates;
mod fetch;
mod identity;

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, bail};

pub use binaries::{Binaries, Source};
pub use certificates::Certificate;
pub(crate) use certificates::Papers;
use identity::Identity;

use crate::port;

const SUPERVISOR: &str = include_str!("supervisor.sh");
const SUPERUSER: &str = "sandbox";
const MOST_PORTS: usize = 20;
const AUTHORITY: &str = "authority.pem";

/// With TLS: if a test makes a database of this name, it accepts only encrypted connections, with SCRAM.
pub const TLS_ONLY: &str = "tls_only";
/// With TLS: if a test makes a database of this name, it accepts only connections in plain text.
pub const PLAIN_ONLY: &str = "plain_only";

/// A running throw-away Postgres, which ends with this value or with this process.
#[derive(Debug)]
pub struct Cluster {
    admin_url: String,
    folder: PathBuf,
    postmaster: u32,
    source: Source,
    supervisor: Child,
    /// When it ends, the supervisor stops.
    pipe: Option<ChildStdin>,
}

impl Cluster {
    /// Finds or fetches Postgres, as `SANDBOX_POSTGRES` says (`auto`, `installed` or `fetched`), and starts a cluster.
    ///
    /// Blocks for a second or two, longer when Postgres has to be fetched: on a runtime call it with `spawn_blocking`.
    pub fn start() -> Result<Self> {
        Self::launch_on(Source::wanted()?, None, free_ports())
    }

    /// As [`Cluster::start`], with a certificate: connections may be encrypted, and those to [`TLS_ONLY`] must be.
    pub fn start_with_tls(certificate: Certificate) -> Result<Self> {
        Self::launch_on(Source::wanted()?, Some(certificate), free_ports())
    }

    /// As [`Cluster::start`], trying the given ports in turn.
    pub fn start_on(wanted: Option<Source>, ports: impl IntoIterator<Item = Result<u16>>) -> Result<Self> {
        Self::launch_on(wanted, None, ports)
    }

    fn launch_on(
        wanted: Option<Source>,
        certificate: Option<Certificate>,
        ports: impl IntoIterator<Item = Result<u16>>,
    ) -> Result<Self> {
        let identity = Identity::unprivileged()?;
        let binaries = Binaries::find(wanted, identity)?;
        let folder = identity::private_folder("upload-sandbox-", identity)?;
        let password = random_word();
        let papers = certificate.map(Papers::make).transpose();
        let started = papers.and_then(|papers| launch(&binaries, identity, &folder, &password, papers));
        let (supervisor, pipe, answers) = match started {
            Ok(started) => started,
            Err(error) => {
                // No supervisor was started, so nothing else removes the folder.
                if let Err(removal) = std::fs::remove_dir_all(&folder) {
                    tracing::warn!(folder = %folder.display(), %removal, "a folder is left behind");
                }
                return Err(error);
            }
        };
        let mut cluster = Self {
            admin_url: String::new(),
            folder,
            postmaster: 0,
            source: binaries.source,
            supervisor,
            pipe: Some(pipe),
        };
        // From here on, dropping the value cleans up.
        let (port, postmaster) = cluster.converse(answers, ports)?;
        cluster.postmaster = postmaster;
        cluster.admin_url = format!("postgres://{SUPERUSER}:{password}@127.0.0.1:{port}/postgres");
        Ok(cluster)
    }

    /// A URL of the database `postgres` as the cluster's superuser.
    pub fn admin_url(&self) -> &str {
        &self.admin_url
    }

    /// The folder with all files of the cluster.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// With TLS: a PEM file with the certificate of the authority that signed the server's.
    pub fn authority(&self) -> PathBuf {
        self.folder.join(AUTHORITY)
    }

    /// The process id of the postmaster.
    pub fn postmaster(&self) -> u32 {
        self.postmaster
    }

    /// Where the binaries came from.
    pub fn source(&self) -> Source {
        self.source
    }

    fn converse(
        &mut self,
        answers: BufReader<ChildStdout>,
        ports: impl IntoIterator<Item = Result<u16>>,
    ) -> Result<(u16, u32)> {
        let mut answers = Answers(answers);
        let initialized = answers.next()?;
        if initialized != "initialized" {
            bail!("the supervisor of Postgres answered `{initialized}`");
        }
        for port in ports {
            let port = port?;
            let pipe = self.pipe.as_mut().context("the supervisor's pipe is closed")?;
            writeln!(pipe, "{port}").context("the supervisor of Postgres is gone")?;
            let answer = answers.next()?;
            if let Some(pid) = answer.strip_prefix("ready ") {
                return Ok((port, pid.parse().context("postmaster.pid does not start with a process id")?));
            }
            tracing::warn!(port, answer, "Postgres could not have its port; trying another");
        }
        bail!("every port for Postgres was taken by another program")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.pipe.take();
        if let Err(error) = self.supervisor.wait() {
            tracing::warn!(%error, "the supervisor of Postgres cannot be waited for");
        }
    }
}

fn free_ports() -> impl Iterator<Item = Result<u16>> {
    std::iter::repeat_with(|| port::reserve().context("no free port")).take(MOST_PORTS)
}

fn launch(
    binaries: &Binaries,
    identity: Identity,
    folder: &Path,
    password: &str,
    papers: Option<Papers>,
) -> Result<(Child, ChildStdin, BufReader<ChildStdout>)> {
    identity.write_private(&folder.join("password"), password)?;
    if let Some(papers) = papers {
        identity.write_private(&folder.join(AUTHORITY), &papers.authority)?;
        identity.write_private(&folder.join("server.crt"), &papers.certificate)?;
        identity.write_private(&folder.join("server.key"), &papers.key)?;
    }
    let mut command = Command::new("/bin/sh");
    identity.apply(&mut command);
    let mut supervisor = command
        .args(["-c", SUPERVISOR, "upload-sandbox-supervisor"])
        .arg(folder)
        .arg(&binaries.folder)
        .env("SANDBOX_USER", SUPERUSER)
        .current_dir(folder)
        .process_group(0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .context("/bin/sh, the supervisor of Postgres, does not start")?;
    let pipe = supervisor.stdin.take().context("the supervisor has no standard input")?;
    let answers = supervisor.stdout.take().context("the supervisor has no standard output")?;
    Ok((supervisor, pipe, BufReader::new(answers)))
}

/// Reads the supervisor's output, line by line.
struct Answers(BufReader<ChildStdout>);

impl Answers {
    fn next(&mut self) -> Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).context("the supervisor of Postgres cannot be read")?;
        match line.trim_end() {
            "failed" => {
                let mut log = String::new();
                self.0.read_to_string(&mut log).context("the log of Postgres cannot be read")?;
                bail!("Postgres does not start; its log ends with:\n{}", log.trim_end())
            }
            "" => bail!("the supervisor of Postgres ended without a word"),
            answer => Ok(answer.to_owned()),
        }
    }
}

/// A random word of 32 hexadecimal digits, fit for a password in a URL.
fn random_word() -> String {
    uuid::Uuid::new_v4().simple().to_string()
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_that_is_taken_in_between_costs_a_retry_and_nothing_else() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let taken_port = taken.local_addr().unwrap().port();
        let free = port::reserve().unwrap();
        let cluster = Cluster::start_on(Source::wanted().unwrap(), [Ok(taken_port), Ok(free)]).unwrap();
        assert!(cluster.admin_url().contains(&format!(":{free}/")));
        let folder = cluster.folder().to_owned();
        drop(cluster);
        assert!(!folder.exists(), "dropping the cluster removes its folder");
    }

    #[test]
    fn a_cluster_that_cannot_start_leaves_no_folder() {
        let taken = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let taken_port = taken.local_addr().unwrap().port();
        let error = Cluster::start_on(Source::wanted().unwrap(), [Ok(taken_port)]).unwrap_err();
        assert!(error.to_string().contains("taken"), "{error:#}");
    }
}
