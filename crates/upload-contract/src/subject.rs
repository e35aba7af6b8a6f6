//! The server under test, with its database and store, and the users who call it.

use std::{
    ops::Deref,
    panic::AssertUnwindSafe,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use futures::FutureExt as _;
use serde_json::Value;
use tokio::time::timeout;
use upload_domain::{ImageFormat, ImagePath, Role, UserId, UserStatus};
use upload_sandbox::{
    Sandbox, Stand,
    client::{Answer, Client},
    process::{Program, Server},
    samples,
};

use super::{aftermath, answers, hearing};

/// The origin whose pages may call the servers.
pub(super) const ORIGIN: &str = "https://app.example";

/// How long a case may take before it fails; a slow machine needs a tenth of it.
const PATIENCE: Duration = Duration::from_secs(180);

/// How the bytes travel: the one difference between the servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Strategy {
    /// V1: through the server.
    Streaming,
    /// V2: straight to the store.
    Presigned,
}

/// One or more processes of one binary on a stand.
#[derive(Debug)]
pub(super) struct Subject {
    // Dropped in this order: the servers must be gone before their database and bucket are.
    servers: Vec<Server>,
    /// Where each of them listens or listened.
    urls: Vec<String>,
    pub(super) stand: Stand,
    pub(super) strategy: Strategy,
    binary: PathBuf,
    /// The variables of the newest server, beyond the stand's environment.
    variables: Vec<(String, String)>,
    /// Whether the case makes the server log errors.
    pub(super) errors_expected: bool,
}

/// A user who calls the server.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) id: UserId,
    pub(super) token: String,
    pub(super) client: Client,
}

/// The numbers of rows in the database and of objects in the bucket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    /// Rows in `image`.
    pub(super) rows: u64,
    /// Those of them that are linked.
    pub(super) linked: u64,
    /// Objects that may be served. (A linked upload's incoming object goes a moment after the answer.)
    pub(super) media: usize,
}

/// No rows and no objects.
pub(super) const NOTHING: Kept = Kept { rows: 0, linked: 0, media: 0 };

/// Runs one case, and checks what it leaves behind.
pub(super) fn drive(name: &str, binary: &str, strategy: Strategy, case: impl AsyncFnOnce(&mut Subject) -> Result<()>) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.unwrap_or_else(|error| panic!("no runtime can be had: {error}"));
    let outcome = runtime.block_on(async {
        let mut subject = Subject::start(binary, strategy).await?;
        hearing::begin();
        let outcome = timeout(PATIENCE, AssertUnwindSafe(case(&mut subject)).catch_unwind()).await;
        let outcome = match outcome {
            Ok(Ok(Ok(()))) => {
                let heard = hearing::end(&subject.urls);
                answers::check(name, strategy, &heard).and(aftermath::check(&mut subject).await)
            }
            Ok(Ok(Err(error))) => Err(error),
            Err(_elapsed) => Err(anyhow!("the case hangs: an answer does not come")),
            Ok(Err(panic)) => {
                subject.show_logs();
                std::panic::resume_unwind(panic)
            }
        };
        if outcome.is_err() {
            subject.show_logs();
        }
        outcome
    });
    if let Err(error) = outcome {
        panic!("{error:?}");
    }
}

impl Subject {
    async fn start(binary: &str, strategy: Strategy) -> Result<Self> {
        let stand = Sandbox::shared().await.try_stand().await?;
        let mut subject = Self {
            servers: Vec::new(),
            urls: Vec::new(),
            stand,
            strategy,
            binary: binary.into(),
            variables: Vec::new(),
            errors_expected: false,
        };
        subject.add_server(&[]).await?;
        Ok(subject)
    }

    /// Starts one more server on the same stand, with further variables. From here on [`Subject::url`] is its URL.
    pub(super) async fn add_server(&mut self, variables: &[(&str, &str)]) -> Result<String> {
        let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        self.variables = variables.iter().map(owned).collect();
        self.start_server().await
    }

    /// Stops the newest server and starts another like it. A case uses this when its client is gone: so it waits until all that the
    /// server began for that client has ended.
    pub(super) async fn renew_server(&mut self) -> Result<String> {
        let server = self.servers.last_mut().context("no server runs")?;
        let code = server.terminate().await?;
        ensure!(code == Some(0), "the server's exit code is {code:?}");
        self.start_server().await
    }

    /// Waits for the end of the newest server, which has been told to stop. From here on [`Subject::url`] is the URL of the one before.
    pub(super) async fn retire_server(&mut self) -> Result<Option<i32>> {
        let mut server = self.servers.pop().context("no server runs")?;
        Ok(server.wait().await?.code())
    }

    pub(super) fn binary(&self) -> &Path {
        &self.binary
    }

    /// The server's program on the stand, for cases that start it in their own way.
    pub(super) fn program(&self) -> Program {
        Program::new(&self.binary, &self.stand)
    }

    async fn start_server(&mut self) -> Result<String> {
        let program = self.variables.iter().fold(self.program(), |program, (name, value)| program.env(name, value));
        self.add_program(program.env("CORS_ORIGINS", ORIGIN)).await
    }

    /// Starts one more server, from a program that the case has prepared.
    pub(super) async fn add_program(&mut self, program: Program) -> Result<String> {
        let server = program.serve().await?;
        let url = server.url.clone();
        self.urls.push(url.clone());
        self.servers.push(server);
        Ok(url)
    }

    /// The newest server's URL.
    pub(super) fn url(&self) -> &str {
        self.servers.last().map_or("", |server| &server.url)
    }

    /// The newest server.
    pub(super) fn server(&self) -> Result<&Server> {
        self.servers.last().context("no server runs")
    }

    pub(super) fn servers(&mut self) -> &mut [Server] {
        &mut self.servers
    }

    fn show_logs(&self) {
        for server in &self.servers {
            eprintln!("--- log of {}", server.url);
            server.log().iter().for_each(|line| eprintln!("{line}"));
        }
    }

    /// A new member with this role.
    pub(super) async fn member(&self, role: Role) -> Result<Member> {
        let id = self.stand.add_user(role, UserStatus::Active).await?;
        let token = self.stand.token(id, role)?;
        Ok(Member { id, client: Client::new(self.url(), &token)?, token })
    }

    /// A new ordinary member.
    pub(super) async fn user(&self) -> Result<Member> {
        self.member(Role::User).await
    }

    /// A caller without a token.
    pub(super) fn anybody(&self) -> Result<Client> {
        Client::anonymous(self.url())
    }

    /// The present numbers of rows and objects.
    pub(super) async fn kept(&self) -> Result<Kept> {
        Ok(Kept {
            rows: self.stand.count("image").await?,
            linked: self.stand.count("image WHERE linked_at IS NOT NULL").await?,
            media: self.stand.storage.list("media/").await?.len(),
        })
    }

    /// All keys of the bucket.
    pub(super) async fn objects(&self) -> Result<Vec<String>> {
        Ok(self.stand.storage.list("").await?)
    }

    /// One value of the database as text.
    pub(super) async fn value(&self, sql: &str) -> Result<Option<String>> {
        let rows = self.stand.sql(sql).await?;
        let row = rows.into_iter().next().with_context(|| format!("no row: {sql}"))?;
        row.into_iter().next().with_context(|| format!("no column: {sql}"))
    }

    /// One column of an image's row.
    pub(super) async fn column(&self, image_id: &str, column: &str) -> Result<Option<String>> {
        self.value(&format!("SELECT {column} FROM image WHERE id = '{image_id}'")).await
    }

    /// Whether the newest server still works.
    pub(super) async fn assert_goes_on(&self) -> Result<()> {
        let answer = self.anybody()?.get("/health/ready").await?;
        ensure!(answer.status == 200, "the server does not go on: {} {}", answer.status, answer.json);
        Ok(())
    }
}

impl Member {
    /// Creates and uploads an image of this path; returns its id.
    pub(super) async fn upload_for(&self, path: ImagePath) -> Result<String> {
        self.create_and_upload(path, ImageFormat::Png, picture(1)).await
    }

    /// Links a new profile image; returns its id.
    pub(super) async fn with_profile_image(&self, file: Vec<u8>) -> Result<String> {
        let id = self.create_and_upload(ImagePath::UserProfile, ImageFormat::Png, file).await?;
        self.link_profile(&id).await?.expect_status(201)?;
        Ok(id)
    }

    /// Creates a competition of which this member is the host; returns its id.
    pub(super) async fn competition_of_ones_own(&self) -> Result<String> {
        let answer = self.create_competition("Open").await?.expect_status(201)?;
        Ok(text(&answer.json["competition"]["id"]).to_owned())
    }
}

impl Deref for Member {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.client
    }
}

/// A small valid PNG; another seed makes another one.
pub(super) fn picture(seed: u64) -> Vec<u8> {
    samples::png(8, 8, seed)
}

/// A JSON value's text; empty if the value is not a text.
pub(super) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The names in a JSON object, sorted.
pub(super) fn names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value.as_object().into_iter().flatten().map(|(name, _value)| name.as_str()).collect();
    names.sort_unstable();
    names
}

/// Asserts that the answer is a whole problem document with this status and code.
#[track_caller]
pub(super) fn assert_refused(what: &str, answer: &Answer, refusal: (u16, &str)) {
    assert_eq!(answer.refusal(), refusal, "{what}: {}", String::from_utf8_lossy(&answer.body));
    let problem = &answer.json;
    assert_eq!(answer.header("content-type"), "application/problem+json", "{what}");
    assert_eq!(problem["type"], "about:blank", "{what}");
    assert_eq!(problem["status"], refusal.0, "{what}");
    for member in ["title", "detail", "requestId"] {
        assert!(!text(&problem[member]).is_empty(), "{what}: {member} in {problem}");
    }
    assert!(problem["retryable"].is_boolean(), "{what}: {problem}");
    assert_eq!(problem["requestId"], answer.header("x-request-id"), "{what}");
    let known = ["code", "detail", "imageEntityId", "requestId", "retryable", "status", "title", "type"];
    assert!(names(problem).iter().all(|name| known.contains(name)), "{what}: {problem}");
    if matches!(refusal.0, 429 | 503) {
        let seconds = answer.header("retry-after").parse::<u32>();
        // A place or bytes become free when an image grows old.
        let longest = if refusal.1 == "quota_exceeded" { 86_400 } else { 60 };
        assert!(seconds.is_ok_and(|seconds| (1..=longest).contains(&seconds)), "{what}: Retry-After");
        assert_eq!(problem["retryable"], true, "{what}");
    }
    if refusal.0 == 401 {
        assert!(answer.header("www-authenticate").starts_with("Bearer"), "{what}: WWW-Authenticate");
    }
}
