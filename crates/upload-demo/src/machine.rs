//! Everything that runs: Postgres and the store of the sandbox, both servers in this process, and the relays between them.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use clap::Parser;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use upload_domain::Role;
use upload_http::{CommonSettings, Server, Start, StartError, Stopped, Strategy};
use upload_link::Background;
use upload_sandbox::{
    Person, Sandbox, Stand,
    client::Client,
    postgres::Source,
    relay::{Entrance, Passed, Relay},
};
use url::Url;

use crate::{say, settings, stop::Stop};

/// How long running uploads may continue at the end, in seconds.
const SHUTDOWN_SECONDS: u64 = 5;
/// How long a server's work after its answer may take.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(10);
/// How long the temporary Postgres may take to stop and be removed, and how often to check.
const REMOVAL_LIMIT: Duration = Duration::from_secs(20);
const REMOVAL_STEP: Duration = Duration::from_millis(10);

/// One of the two servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerName {
    /// upload-v1-streaming.
    V1,
    /// upload-v2-presigned.
    V2,
}

/// Both servers on one database and one bucket, with an admin and a user.
#[derive(Debug)]
pub struct Machine {
    v1: Running,
    v2: Running,
    admin: Person,
    user: Person,
    store: Store,
    stand: Stand,
    sandbox: Sandbox,
}

#[derive(Debug)]
struct Running {
    url: String,
    background: Background,
    task: JoinHandle<Result<Stopped, StartError>>,
    stop: CancellationToken,
    relay: Relay,
}

/// The traffic on each way; `None` if it could not be counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Traffic {
    pub(crate) client_server: Passed,
    pub(crate) server_store: Option<Passed>,
    pub(crate) client_store: Option<Passed>,
}

/// The URLs at which servers and clients reach the store.
#[derive(Debug)]
struct Store {
    for_servers: String,
    for_clients: String,
    relays: Option<StoreRelays>,
}

/// What counts on the ways to the store.
#[derive(Debug)]
struct StoreRelays {
    of_servers: Relay,
    of_clients: Relay,
}

impl Machine {
    /// Starts everything, or nothing if somebody asks to stop while Postgres is being found or fetched.
    pub(crate) async fn start(stop: &Stop) -> Result<Option<Self>> {
        let begun = Instant::now();
        say("starting Postgres and the S3 store");
        let sandbox = tokio::select! {
            sandbox = Sandbox::start() => sandbox?,
            () = stop.asked() => return Ok(None),
        };
        say(&format!("  Postgres: {}", postgres_of(&sandbox)));
        say(&format!("  S3 store: {}", store_of(&sandbox)));
        let folder = folder_of(&sandbox);
        let machine = match Self::on(sandbox).await {
            Ok(machine) => machine,
            Err(error) => {
                wait_for_removal(folder).await?;
                return Err(error);
            }
        };
        say(&format!("  servers:  V1 at {}, V2 at {}", machine.v1.url, machine.v2.url));
        say(&format!("started in {:.1} s", begun.elapsed().as_secs_f64()));
        Ok(Some(machine))
    }

    /// Starts both servers on a sandbox's parts.
    pub async fn on(sandbox: Sandbox) -> Result<Self> {
        let stand = sandbox.try_stand().await.with_context(|| what_to_check(&sandbox))?;
        let admin = stand.add_person(Role::Admin).await.context("cannot add the admin")?;
        let user = stand.add_person(Role::User).await.context("cannot add the user")?;
        let store = Store::behind_relays(&sandbox.store().endpoint).await?;
        let v1 = Running::start(&stand, &store, v1_common, upload_v1_streaming::strategy).await?;
        let v2 = Running::start(&stand, &store, v2_common, upload_v2_presigned::strategy).await?;
        Ok(Self { v1, v2, admin, user, store, stand, sandbox })
    }

    /// Where clients reach a server.
    pub fn url(&self, server: ServerName) -> &str {
        &self.running(server).url
    }

    /// The database and the bucket.
    pub fn stand(&self) -> &Stand {
        &self.stand
    }

    /// Where clients reach the store.
    pub(crate) fn store_url(&self) -> &str {
        &self.store.for_clients
    }

    /// The admin, at V1.
    pub fn admin(&self) -> Result<Client> {
        Client::new(&self.v1.url, &self.admin.token)
    }

    /// The user, at V1.
    pub fn user(&self) -> Result<Client> {
        Client::new(&self.v1.url, &self.user.token)
    }

    /// The user's bearer token.
    pub(crate) fn user_token(&self) -> &str {
        &self.user.token
    }

    /// The admin's bearer token.
    pub(crate) fn admin_token(&self) -> &str {
        &self.admin.token
    }

    /// What has passed so far.
    pub(crate) fn traffic(&self) -> Traffic {
        let relays = self.store.relays.as_ref();
        Traffic {
            client_server: self.v1.relay.passed().plus(self.v2.relay.passed()),
            server_store: relays.map(|relays| relays.of_servers.passed()),
            client_store: relays.map(|relays| relays.of_clients.passed()),
        }
    }

    /// Waits until the servers have finished the work that they do after their answers.
    pub async fn wait_for_background(&self) -> Result<()> {
        for server in [&self.v1, &self.v2] {
            if !server.background.drain(BACKGROUND_LIMIT).await {
                bail!("the server at {} did not finish its background work in time", server.url);
            }
        }
        Ok(())
    }

    /// Waits until a server ends without being asked to, which is always a failure.
    pub(crate) async fn a_server_ends(&mut self) -> Result<()> {
        let ended = tokio::select! {
            ended = &mut self.v1.task => ended,
            ended = &mut self.v2.task => ended,
        };
        ended??;
        bail!("a server ended without being asked to")
    }

    /// Stops everything and waits until it is gone.
    ///
    /// # Errors
    /// When something does not stop. The rest is stopped even then.
    pub async fn stop(self) -> Result<()> {
        // The relays stay to the end, since the servers' last answers are still on their way.
        let Self { mut v1, mut v2, stand, sandbox, .. } = self;
        let (v1_stopped, v2_stopped) = tokio::join!(v1.stop(), v2.stop());
        let folder = folder_of(&sandbox);
        // Dropping these may block while it waits for external servers.
        tokio::task::spawn_blocking(move || drop((stand, sandbox))).await?;
        v1_stopped.and(v2_stopped).and(wait_for_removal(folder).await)
    }

    fn running(&self, server: ServerName) -> &Running {
        match server {
            ServerName::V1 => &self.v1,
            ServerName::V2 => &self.v2,
        }
    }
}

impl ServerName {
    /// Both of them.
    pub const ALL: [Self; 2] = [Self::V1, Self::V2];

    /// The name in the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V1 => "V1",
            Self::V2 => "V2",
        }
    }
}

impl Running {
    async fn start<S: Parser>(
        stand: &Stand,
        store: &Store,
        common: fn(&S) -> &CommonSettings,
        strategy: impl AsyncFnOnce(&S, &mut Start<'_>) -> Result<Strategy, StartError>,
    ) -> Result<Self> {
        let entrance = Entrance::open().await?;
        let url = entrance.url();
        let mut variables = stand.environment();
        let own = [
            ("BIND_ADDRESS", "127.0.0.1:0"),
            ("PUBLIC_API_URL", &url),
            ("S3_ENDPOINT", &store.for_servers),
            ("S3_PUBLIC_ENDPOINT", &store.for_clients),
            ("SHUTDOWN_TIMEOUT", &SHUTDOWN_SECONDS.to_string()),
        ];
        variables.extend(own.map(|(name, value)| (name.to_owned(), value.to_owned())));
        let settings: S = settings::from_variables(&variables)?;
        let server = Server::bind(common(&settings), async |start| strategy(&settings, start).await).await?;
        let relay = entrance.lead_to(server.local_addr().to_string());
        let background = server.shared().background.clone();
        let stop = CancellationToken::new();
        let task = tokio::spawn(server.run(stop.clone().cancelled_owned()));
        Ok(Self { url, background, task, stop, relay })
    }

    async fn stop(&mut self) -> Result<()> {
        self.stop.cancel();
        let stopped = (&mut self.task).await.context("a server's task failed")??;
        if stopped.cut_off > 0 || !stopped.background_done {
            tracing::warn!(?stopped, "a server stopped before all its work was finished");
        }
        Ok(())
    }
}

impl Store {
    /// Puts relays in front of a store. A store with https or with a path is used directly, because its name is part of the
    /// signature and of the certificate.
    async fn behind_relays(endpoint: &str) -> Result<Self> {
        let url = Url::parse(endpoint).context("S3_ENDPOINT is not a URL")?;
        let host = url.host_str().filter(|_| url.scheme() == "http" && url.path() == "/");
        let (Some(host), Some(port)) = (host, url.port_or_known_default()) else {
            let as_it_is = || endpoint.to_owned();
            return Ok(Self { for_servers: as_it_is(), for_clients: as_it_is(), relays: None });
        };
        let target = format!("{host}:{port}");
        let (for_servers, for_clients) = (Entrance::open().await?, Entrance::open().await?);
        Ok(Self {
            for_servers: for_servers.url(),
            for_clients: for_clients.url(),
            relays: Some(StoreRelays {
                of_servers: for_servers.lead_to(target.clone()),
                of_clients: for_clients.lead_to(target),
            }),
        })
    }
}

impl Traffic {
    pub(crate) fn since(self, before: Self) -> Self {
        self.with(before, Passed::since)
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        self.with(other, Passed::plus)
    }

    fn with(self, other: Self, combine: fn(Passed, Passed) -> Passed) -> Self {
        let optional = |a: Option<Passed>, b: Option<Passed>| Some(combine(a?, b?));
        Self {
            client_server: combine(self.client_server, other.client_server),
            server_store: optional(self.server_store, other.server_store),
            client_store: optional(self.client_store, other.client_store),
        }
    }
}

fn v1_common(settings: &upload_v1_streaming::Settings) -> &CommonSettings {
    &settings.common
}

fn v2_common(settings: &upload_v2_presigned::Settings) -> &CommonSettings {
    &settings.common
}

fn postgres_of(sandbox: &Sandbox) -> String {
    match sandbox.cluster() {
        None => "that of DATABASE_URL, in a new database".to_owned(),
        Some(cluster) => {
            let source = match cluster.source() {
                Source::Installed => "installed binaries",
                Source::Fetched => "fetched binaries",
            };
            format!("temporary, from {source}, in {}", cluster.folder().display())
        }
    }
}

fn store_of(sandbox: &Sandbox) -> String {
    let kind = if sandbox.embedded_s3().is_some() { "temporary, in memory" } else { "that of S3_ENDPOINT" };
    format!("{kind}, at {}", sandbox.store().endpoint)
}

/// What to check if the demo cannot create its database or bucket. Only external servers refuse that.
fn what_to_check(sandbox: &Sandbox) -> &'static str {
    match (sandbox.cluster(), sandbox.embedded_s3()) {
        (Some(_), Some(_)) => "the temporary Postgres or store does not work",
        (None, Some(_)) => "check that the Postgres of DATABASE_URL runs and its user may create databases",
        (Some(_), None) => "check that the store of S3_ENDPOINT runs and S3_ACCESS_KEY_ID may create buckets",
        (None, None) => {
            "check that the Postgres of DATABASE_URL and the store of S3_ENDPOINT run, and that their user and key may \
             create databases and buckets"
        }
    }
}

fn folder_of(sandbox: &Sandbox) -> Option<PathBuf> {
    sandbox.cluster().map(|cluster| cluster.folder().to_owned())
}

/// The sandbox stops Postgres and removes its folder in the background; this waits for it.
async fn wait_for_removal(folder: Option<PathBuf>) -> Result<()> {
    let Some(folder) = folder else { return Ok(()) };
    let removed = async {
        while Path::try_exists(&folder).unwrap_or(false) {
            tokio::time::sleep(REMOVAL_STEP).await;
        }
    };
    let waited = tokio::time::timeout(REMOVAL_LIMIT, removed).await;
    waited.with_context(|| format!("Postgres did not stop in time; its folder is {}", folder.display()))
}
