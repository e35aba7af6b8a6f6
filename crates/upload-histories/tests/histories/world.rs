//! Four replicas on one database and one bucket, each with a relay of its own before either, and `upload-ops` with two more.
//!
//! A world outlives a history, because replicas take long to start. Each history leaves it empty.

use std::{fs, pin::pin, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::try_join_all;
use nix::sys::signal::Signal;
use tokio::time::{Instant, sleep, timeout};
use upload_sandbox::{
    Sandbox, Stand,
    client::Client,
    process::{Finished, Program, Server},
    relay::{Mode, Relay},
};

use crate::script::{Clock, Fault, Kind, Link, Task};

const PROGRAM: &str = env!("CARGO_BIN_EXE_upload-histories");
/// How long a replica may take to work again after a fault has ended.
const LONGEST_RECOVERY: Duration = Duration::from_secs(5);
/// How long it may take until nothing of a history is under way.
const LONGEST_REST: Duration = Duration::from_secs(20);
/// How many file descriptors a replica may have more than after its start, for connections that it keeps open.
const SPARE_FILES: usize = 64;
const POOL_SIZE: u64 = 3;
/// Beginnings and names that would show a token, a policy or a signature in a log. `eyJ` is the base64 of `{"`: every JWT, V1's tickets
/// and S3's policies begin with it.
const TELL_TALES: [&str; 4] = ["eyJ", "x-amz-signature", "x-amz-credential", "bearer ey"];
/// Few of everything that is given back, so that a leak soon shows.
const FEW: [(&str, &str); 6] = [
    ("HTTP_WORKERS", "1"),
    ("LINKS_ACTIVE", "3"),
    ("UPLOADS_ACTIVE", "2"),
    ("UPLOADS_OPEN", "6"),
    ("UPLOADS_WAITING", "6"),
    ("DATABASE_POOL_SIZE", "3"),
];
/// Short limits, so that a short stall exceeds them.
const SHORT: [(&str, &str); 4] = [
    ("DATABASE_STATEMENT_TIMEOUT_MS", "1000"),
    ("DATABASE_WAIT_TIMEOUT_MS", "1000"),
    ("DATABASE_CONNECT_TIMEOUT_MS", "1000"),
    ("STORAGE_STALL_SECONDS", "1"),
];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    Streaming,
    Presigned,
}

pub struct World {
    pub versions: bool,
    // Dropped in this order: the replicas must be gone before their database and bucket are.
    pub replicas: Vec<Replica>,
    ops: Ops,
    pub stand: Stand,
    /// What must not be in a log.
    pub secrets: Vec<String>,
    /// How many histories it has had.
    pub histories: u32,
}

/// One server, and its ways to the database and the store, which stay when it is killed.
pub struct Replica {
    pub strategy: Strategy,
    server: Option<Server>,
    program: Program,
    links: Links,
    /// The lines of its log that were scanned.
    scanned: usize,
    /// Its file descriptors after its start.
    files: usize,
}

pub struct Links {
    pub postgres: Relay,
    pub store: Relay,
}

/// `upload-ops`, in each of the ways in which it is run.
struct Ops {
    program: Program,
    /// For `reconcile`: the database's clock is three hours ahead.
    ahead: String,
    links: Links,
}

impl World {
    pub async fn start(versions: bool) -> Result<Self> {
        let second_pin = if versions { "version" } else { "copy" };
        let kinds = [
            (Strategy::Streaming, "copy"),
            (Strategy::Streaming, second_pin),
            (Strategy::Presigned, "copy"),
            (Strategy::Presigned, second_pin),
        ];
        Self::with(versions, &kinds, &SHORT).await
    }

    /// With `upload-ops` alone.
    pub async fn without_replicas() -> Result<Self> {
        Self::with(false, &[], &[]).await
    }

    /// With one replica, which has the limits on time that a server has by default. It has one connection to the database, so that it
    /// prepares each statement once.
    pub async fn of_one(versions: bool, strategy: Strategy, pin: &str) -> Result<Self> {
        Self::with(versions, &[(strategy, pin)], &[("DATABASE_POOL_SIZE", "1")]).await
    }

    async fn with(versions: bool, kinds: &[(Strategy, &str)], limits: &[(&str, &str)]) -> Result<Self> {
        let stand = Sandbox::shared().await.try_stand().await?;
        if versions {
            stand.enable_versioning().await?;
        }
        // Whoever has this schema before pg_catalog reads another time.
        let ahead = "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql
             AS 'SELECT pg_catalog.clock_timestamp() + interval ''3 h'''";
        stand.sql(ahead).await?;
        let replicas =
            try_join_all(kinds.iter().map(|(strategy, pin)| Replica::start(&stand, *strategy, pin, limits))).await?;
        let ops = Ops::new(&stand, if versions { "version" } else { "copy" }).await?;
        let secrets = replicas.iter().flat_map(|replica| replica.program.secrets()).collect();
        Ok(Self { versions, replicas, ops, stand, secrets, histories: 0 })
    }

    /// Starts the replica if it was killed, and returns its URL.
    pub async fn url_of(&mut self, replica: usize) -> Result<String> {
        self.replicas[replica].running().await.map(|server| server.url.clone())
    }

    pub async fn pass(&self, clock: Clock) -> Result<()> {
        self.pass_seconds(clock.seconds()).await
    }

    /// Moves every time of every row into the past, as if the clock had gone on.
    pub async fn pass_seconds(&self, seconds: i64) -> Result<()> {
        const TIMES: [(&str, &[&str]); 6] = [
            ("image", &["created_at", "linked_at", "attempt_until", "deleting_at", "incoming_due_at"]),
            ("image_attempt", &["until"]),
            ("user_profile_image", &["created_at", "deleted_at"]),
            ("competition_poster_image", &["created_at", "deleted_at"]),
            ("post", &["created_at", "deleted_at"]),
            ("post_image", &["created_at"]),
        ];
        let statements = TIMES.map(|(table, columns)| {
            let set = columns.iter().map(|column| format!("{column} = {column} - {seconds} * interval '1 s'"));
            format!("UPDATE {table} SET {}", set.collect::<Vec<_>>().join(", "))
        });
        self.stand.sql(&statements.join("; ")).await?;
        Ok(())
    }

    /// Runs a task of `upload-ops`. Without a fault that bites it must succeed. Also says whether the fault bit. `None` if the task was killed.
    pub async fn tend(&self, task: Task, fault: Option<Fault>) -> Result<(Option<Finished>, bool)> {
        let (program, links) = (self.ops.program_for(task), &self.ops.links);
        let (finished, bit) = match fault {
            None => (program.run().await?, false),
            Some(fault @ Fault { kind: Kind::Kill { bytes }, .. }) => {
                let moment = links.moment(fault, bytes);
                tokio::select! {
                    finished = program.run() => (finished?, false),
                    // Its end kills it.
                    () = moment => return Ok((None, true)),
                }
            }
            Some(fault) => {
                let (finished, bit) = links.broken_by(fault, program.run(), || {}).await;
                (finished?, bit)
            }
        };
        let Finished { code, stdout, stderr } = &finished;
        ensure!(!stderr.contains("panicked"), "{task:?} panicked: {stderr}");
        check_lines([stdout.as_str(), stderr.as_str()], &self.secrets)?;
        ensure!(bit || *code == Some(0), "{task:?} ends with {code:?}: {stdout}{stderr}");
        Ok((Some(finished), bit))
    }

    /// The ways of `upload-ops`.
    pub fn ops_links(&self) -> &Links {
        &self.ops.links
    }

    /// Kills a task when `reach` is done. What it sent and was not passed on by then is lost.
    pub async fn crash(&self, task: Task, reach: impl AsyncFnOnce(&Links, &Stand) -> Result<()>) -> Result<()> {
        let (program, links) = (self.ops.program_for(task), &self.ops.links);
        tokio::select! {
            finished = program.run() => bail!("{task:?} ends before it is killed: {}", finished?.stderr),
            // The end of the other branch kills it.
            reached = reach(links, &self.stand) => reached?,
        }
        links.lose().await;
        Ok(())
    }

    /// Waits until nothing that was asked for can be carried out any more: no upload is under way, no replica that is dead has anything on
    /// its way to the database, and the database works on nothing.
    pub async fn settle(&self) -> Result<()> {
        const ACTIVE: &str = "pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()
             AND backend_type = 'client backend' AND state = 'active'";
        let settled = async {
            for replica in &self.replicas {
                match &replica.server {
                    Some(server) => is_resting(&server.url).await?,
                    None => replica.links.postgres.left().await,
                }
            }
            while self.stand.count(ACTIVE).await? > 0 {}
            anyhow::Ok(())
        };
        timeout(LONGEST_REST, settled).await.context("something stays under way")?
    }

    /// Waits until no replica has anything under way.
    pub async fn rest(&mut self) -> Result<()> {
        for replica in &mut self.replicas {
            let url = replica.running().await?.url.clone();
            let resting = timeout(LONGEST_REST, is_resting(&url)).await;
            resting.with_context(|| format!("uploads of {:?} do not end", replica.strategy))??;
            let files = replica.open_files()?;
            let most = replica.files + SPARE_FILES;
            ensure!(files <= most, "{:?} has {files} open files, {} after its start", replica.strategy, replica.files);
        }
        let sessions = self.stand.count("pg_stat_activity WHERE datname = current_database()").await?;
        // The stand has a pool, too, and this question has a session.
        let most = POOL_SIZE * self.replicas.len() as u64 + 9;
        ensure!(sessions <= most, "{sessions} sessions are open");
        Ok(())
    }

    /// Looks at what the replicas have logged since the last scan.
    pub fn scan_logs(&mut self, secrets: &[String]) -> Result<()> {
        self.replicas.iter_mut().try_for_each(|replica| replica.scan_log(secrets))
    }

    /// The lines of warnings and errors since the last scan, for a report.
    pub fn complaints(&self) -> String {
        let lines = self.replicas.iter().flat_map(|replica| {
            let lines = replica.server.iter().flat_map(|server| server.log_after(replica.scanned));
            lines.map(|line| format!("{:?}: {line}\n", replica.strategy))
        });
        lines.filter(|line| line.contains("\"WARN\"") || line.contains("\"ERROR\"")).collect()
    }
}

impl Replica {
    async fn start(stand: &Stand, strategy: Strategy, pin: &str, limits: &[(&str, &str)]) -> Result<Self> {
        let name = match strategy {
            Strategy::Streaming => "v1",
            Strategy::Presigned => "v2",
        };
        let (links, program) = Links::before(stand, Program::new(PROGRAM, stand)).await?;
        let program = FEW.iter().chain(limits).fold(program, |program, (name, value)| program.env(*name, *value));
        let program = program.env("PROGRAM", name).env("S3_PIN", pin);
        let mut replica = Self { strategy, server: None, program, links, scanned: 0, files: 0 };
        replica.running().await?;
        Ok(replica)
    }

    async fn running(&mut self) -> Result<&Server> {
        if self.server.is_none() {
            self.server = Some(self.program.clone().serve().await?);
            self.scanned = 0;
            self.files = self.open_files()?;
        }
        self.server.as_ref().context("the replica does not run")
    }

    fn open_files(&self) -> Result<usize> {
        let server = self.server.as_ref().context("the replica does not run")?;
        Ok(fs::read_dir(format!("/proc/{}/fd", server.id()))?.count())
    }

    /// Runs something at this replica while it has a fault, and says whether the fault bit. What a kill leaves is seen to later, by
    /// [`Replica::bury`].
    pub async fn broken_by<T>(&self, fault: Fault, work: impl Future<Output = T>) -> (T, bool) {
        let kill = || {
            if let Some(server) = &self.server {
                server.kill();
            }
        };
        self.links.broken_by(fault, work, kill).await
    }

    /// Runs `work`. Before one of its turns to the store, everything that this replica sends there waits until `meanwhile` is over. That is
    /// not begun if the work ends before.
    pub async fn held_during<T, M>(
        &self,
        turns: u8,
        work: impl Future<Output = T>,
        meanwhile: impl Future<Output = M>,
    ) -> (T, Option<M>) {
        let relay = &self.links.store;
        relay.set_after_requests(turns.into(), Mode::HoldRequests);
        let mut work = pin!(work);
        tokio::select! {
            worked = &mut work => {
                relay.set(Mode::Pass);
                return (worked, None);
            }
            () = relay.holds(1) => {}
        }
        let meanwhile = async {
            let done = meanwhile.await;
            relay.set(Mode::Pass);
            done
        };
        let (worked, done) = tokio::join!(work, meanwhile);
        (worked, Some(done))
    }

    pub fn links(&self) -> &Links {
        &self.links
    }

    pub fn kill(&self) {
        if let Some(server) = &self.server {
            server.kill();
        }
    }

    /// Stops the process, which can do nothing about it, and waits until it stands.
    pub async fn pause(&self) -> Result<()> {
        let server = self.server.as_ref().context("the replica does not run")?;
        server.signal(Signal::SIGSTOP);
        let is_stopped =
            || Ok::<_, std::io::Error>(fs::read_to_string(format!("/proc/{}/stat", server.id()))?.contains(") T "));
        while !is_stopped()? {
            tokio::task::yield_now().await;
        }
        Ok(())
    }

    /// Lets a process that was stopped go on.
    pub fn go_on(&self) {
        if let Some(server) = &self.server {
            server.signal(Signal::SIGCONT);
        }
    }

    /// Waits for the end of a replica that was killed, and scans its log.
    pub async fn bury(&mut self, secrets: &[String]) -> Result<()> {
        if let Some(server) = &mut self.server {
            server.wait().await?;
            self.scan_log(secrets)?;
            self.server = None;
        }
        Ok(())
    }

    /// Waits until the replica has its database again.
    pub async fn recover(&mut self, token: &str) -> Result<()> {
        let client = Client::new(&self.running().await?.url, token)?;
        let begun = Instant::now();
        loop {
            let me = client.me().await?;
            if me.status == 200 {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < LONGEST_RECOVERY,
                "it still answers {:?} after {:?}",
                me.refusal(),
                begun.elapsed()
            );
        }
    }

    fn scan_log(&mut self, secrets: &[String]) -> Result<()> {
        let Some(server) = &self.server else { return Ok(()) };
        let lines = server.log_after(self.scanned);
        self.scanned += lines.len();
        check_lines(lines.iter().map(String::as_str), secrets)
    }
}

impl Links {
    /// Two relays, and the program with its ways through them. Clients reach the store without one.
    async fn before(stand: &Stand, program: Program) -> Result<(Self, Program)> {
        let store_url = stand.storage_settings.endpoint.to_string();
        let (database_url, postgres) = Relay::before(&stand.database_url).await?;
        let (endpoint, store) = Relay::before(&store_url).await?;
        let program = program.env("DATABASE_URL", database_url).env("S3_ENDPOINT", endpoint);
        // The check of the keys takes many turns at each start, in which faults would do nothing for the work.
        let program = program.env("S3_PUBLIC_ENDPOINT", store_url).env("S3_KEY_CHECK", "off");
        Ok((Self { postgres, store }, program))
    }

    /// Ends all connections of a program that was killed. What is held is lost.
    pub async fn lose(&self) {
        for relay in [&self.postgres, &self.store] {
            relay.set(Mode::Down);
            relay.left().await;
            relay.set(Mode::Pass);
        }
    }

    pub fn of(&self, link: Link) -> &Relay {
        match link {
            Link::Postgres => &self.postgres,
            Link::Store => &self.store,
        }
    }

    /// The moment at which a fault kills the program: so many bytes of requests after the beginning of its turn.
    fn moment(&self, fault: Fault, bytes: u32) -> impl Future<Output = ()> {
        let relay = self.of(fault.link);
        let turn = relay.passed().requests + u64::from(fault.after) + 1;
        async move {
            let begun = relay.begun(turn).await;
            relay.requested(begun.requested_bytes + u64::from(bytes)).await;
        }
    }

    /// Runs `work` while one of the links has a fault, and says whether the fault bit. Afterwards the link works.
    async fn broken_by<T>(&self, fault: Fault, work: impl Future<Output = T>, kill: impl Fn()) -> (T, bool) {
        let relay = self.of(fault.link);
        let mut work = pin!(work);
        let mode = match fault.kind {
            Kind::Busy if fault.link == Link::Store => Mode::Unavailable,
            Kind::Refuse | Kind::Busy => Mode::Down,
            Kind::LoseAnswer => Mode::BreakNextAnswer,
            Kind::ResetAnswer => Mode::ResetNextAnswer,
            Kind::CutRequest { bytes } => Mode::CutRequestsAfter(bytes.into()),
            Kind::CutAnswer { bytes } => Mode::CutAnswersAfter(bytes.into()),
            Kind::Stall { .. } => Mode::HoldRequests,
            Kind::Kill { bytes } => {
                let moment = self.moment(fault, bytes);
                tokio::select! {
                    worked = &mut work => return (worked, false),
                    () = moment => kill(),
                }
                return (work.await, true);
            }
        };
        let bites = relay.bites();
        match fault.after {
            0 => relay.set(mode),
            turns => relay.set_after_requests(turns.into(), mode),
        }
        let worked = match fault.kind {
            Kind::Stall { ms } => {
                let stall = async {
                    relay.holds(1).await;
                    sleep(Duration::from_millis(ms.into())).await;
                    relay.set(Mode::Pass);
                };
                tokio::select! {
                    worked = &mut work => worked,
                    () = stall => work.await,
                }
            }
            _ => work.await,
        };
        relay.set(Mode::Pass);
        (worked, relay.bites() > bites)
    }
}

impl Ops {
    fn program_for(&self, task: Task) -> Program {
        let program = self.program.clone();
        match task {
            Task::Sweep => program.arg("sweep").arg("--once"),
            Task::Reconcile => {
                let program = program.env("DATABASE_URL", &self.ahead);
                program.arg("reconcile").arg("--most-percent").arg("100")
            }
            Task::Audit => program.arg("audit"),
            Task::Migrate => program.arg("migrate"),
        }
    }

    async fn new(stand: &Stand, pin: &str) -> Result<Self> {
        let (links, program) = Links::before(stand, Program::new(PROGRAM, stand)).await?;
        let program = program.env("PROGRAM", "ops").env("S3_PIN", pin);
        let url = program.variable("DATABASE_URL").context("ops have no database")?;
        let ahead =
            format!("{url}{}options=-csearch_path%3Dpublic,pg_catalog", if url.contains('?') { '&' } else { '?' });
        Ok(Self { program, ahead, links })
    }
}

/// Whether no upload is under way. The server ends the work of a client that has gone away by itself, so this asks until it has.
async fn is_resting(url: &str) -> Result<()> {
    let client = Client::anonymous(url)?;
    loop {
        let metrics = client.get("/metrics").await?.expect_status(200)?;
        let text = std::str::from_utf8(&metrics.body)?.to_owned();
        let gauge =
            |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse::<f64>().ok());
        let busy = ["uploads_active", "uploads_waiting"].map(gauge).into_iter().flatten().any(|uploads| uploads != 0.0);
        if !busy {
            return Ok(());
        }
    }
}

/// Refuses lines with a panic, or with anything that must not be in a log.
fn check_lines<'a>(lines: impl IntoIterator<Item = &'a str>, secrets: &[String]) -> Result<()> {
    for line in lines {
        ensure!(!line.contains("panicked"), "a panic: {line}");
        let lower = line.to_ascii_lowercase();
        let told = TELL_TALES.iter().any(|tell_tale| line.contains(tell_tale) || lower.contains(tell_tale));
        ensure!(!told && !secrets.iter().any(|secret| line.contains(secret)), "a secret in a log: {line}");
    }
    Ok(())
}
