//! Starting and stopping. A start checks database and store, opens the port and serves. A stop finishes the work that has begun.
//!
//! This is what actix-server 2.10 does on `stop(true)`. The acceptor closes its sockets, and idle keep-alive connections are
//! closed. Each worker checks once a second whether its connections are gone, up to `shutdown_timeout`. Then it drops them
//! with their handlers; the clients get no answer, and nobody learns how many there were. So this module has a limit of its
//! own: at its end, the boundary drops the running requests and answers 503 `shutting_down`, and guards count the uploads
//! among them. actix gets a little more time than that to send these answers.

use std::{
    future::{Future, ready},
    io::{ErrorKind, Write as _},
    net::SocketAddr,
    process::ExitCode,
    sync::Arc,
    time::Duration,
};

use actix_cors::Cors;
use actix_http::{HttpService, KeepAlive, error::DispatchError};
use actix_service::{IntoServiceFactory as _, ServiceFactoryExt as _, fn_service, map_config};
use actix_web::{
    App, Error,
    dev::{AppConfig, Extensions},
    http::{Method, header},
    middleware::from_fn,
    web,
};
use anyhow::{Context as _, anyhow};
use clap::Parser;
use prometheus_client::registry::Registry;
use tokio::{
    net::{TcpSocket, TcpStream, lookup_host},
    runtime::Handle,
    signal::unix::{SignalKind, signal},
    time::timeout,
};
use tracing::{info, warn};
use upload_link::{Background, Links};
use upload_persistence::Database;
use upload_storage::{Signer, Storage};
use url::Url;

use crate::{
    ActiveUploads, CommonSettings, Endpoint, IssueForm, Metrics, SettingsError, Shared, Shutdown, TokenVerifier,
    boundary::boundary,
    connection::{Connection, LINGER_TIME, Places, watch},
    document::Interface,
    logging, metrics,
    rate_limits::RateLimits,
    readiness::{self, Health},
    request_id::REQUEST_ID_HEADER,
    routes, settings,
};

/// How many connections may wait to be accepted. The kernel may allow fewer.
const BACKLOG: u32 = 4096;
/// How long the last answers may take to leave after `SHUTDOWN_TIMEOUT`, in seconds.
const ANSWER_GRACE_SECONDS: u64 = 2;
/// How long tracked work may take after the server has returned.
const BACKGROUND_LIMIT: Duration = Duration::from_secs(5);
/// How long a worker may take to drop its cut-off requests.
const DROP_LIMIT: Duration = Duration::from_secs(1);

/// What makes a server V1 or V2: how files reach the store, and the routes for that.
pub struct Strategy {
    name: &'static str,
    forms: Arc<dyn IssueForm>,
    endpoints: Vec<Endpoint>,
    configure: ConfigureOwn,
    signer: Option<Arc<Signer>>,
}

/// Adds the data that a strategy's handlers need besides [`Shared`].
type ConfigureOwn = Box<dyn Fn(&mut web::ServiceConfig, &Storage) + Send + Sync>;
/// Adds all routes and their data.
type Configure = Arc<dyn Fn(&mut web::ServiceConfig) + Send + Sync>;

/// What a strategy is built from, before the server runs.
pub struct Start<'a> {
    /// The URL at which clients reach this server, with the port that was bound.
    pub public_api_url: &'a Url,
    /// The registry for the strategy's own metrics.
    pub registry: &'a mut Registry,
}

/// Why a server did not start, or ended without being asked to.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings cannot be used: exit code 2.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// Anything else: exit code 1.
    #[error("{0:#}")]
    Failed(#[from] anyhow::Error),
}

/// How a stop went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stopped {
    /// Uploads that had not ended at the time limit.
    pub cut_off: usize,
    /// Whether all tracked work ended in time.
    pub background_done: bool,
}

/// A server that is bound and not yet running; connections already wait for it.
pub struct Server {
    settings: CommonSettings,
    listener: std::net::TcpListener,
    address: SocketAddr,
    shared: Shared,
    configure: Configure,
}

/// A bound address that clients cannot connect to yet. On Linux another process can bind it too if it also sets SO_REUSEADDR; the process
/// that listens second then fails.
struct Taken {
    socket: TcpSocket,
    address: SocketAddr,
}

/// What is built from settings alone.
struct Built {
    shared: Shared,
    configure: Configure,
    signer: Option<Arc<Signer>>,
}

impl Strategy {
    /// `endpoints` are the strategy's own routes. `configure` adds the data that they need. It runs once in each worker, so each worker
    /// has its own data. The store that it receives uses the connections of the main runtime.
    pub fn new(
        name: &'static str,
        forms: Arc<dyn IssueForm>,
        endpoints: Vec<Endpoint>,
        configure: impl Fn(&mut web::ServiceConfig, &Storage) + Send + Sync + 'static,
    ) -> Self {
        Self { name, forms, endpoints, configure: Box::new(configure), signer: None }
    }

    /// Sets the key that signs forms, so that the start-up check asks the store for its rights.
    #[must_use]
    pub fn signer(self, signer: Arc<Signer>) -> Self {
        Self { signer: Some(signer), ..self }
    }
}

impl Server {
    /// Builds everything, checks database and store, and then begins to listen. Call it in a tokio runtime that outlives the server,
    /// because tracked work runs on it.
    pub async fn bind(
        settings: &CommonSettings,
        strategy: impl AsyncFnOnce(&mut Start<'_>) -> Result<Strategy, StartError>,
    ) -> Result<Self, StartError> {
        settings.check()?;
        let taken = take(&settings.http.bind_address).await?;
        let Built { shared, configure, signer } = build(settings, taken.address, strategy).await?;
        let probe = readiness::check(&shared.database, &shared.storage, signer.as_deref()).await?;
        shared.health.note(&probe).await;
        Ok(Self { settings: settings.clone(), address: taken.address, listener: taken.listen()?, shared, configure })
    }

    /// The address on which it listens.
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The data that its handlers share.
    pub fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Serves until `stop` ends. Then requests get up to `SHUTDOWN_TIMEOUT` to finish, and tracked work after them.
    pub async fn run(self, stop: impl Future<Output = ()>) -> Result<Stopped, StartError> {
        let Self { settings, listener, shared, configure, .. } = self;
        let http = settings.http;
        let workers = match http.http_workers {
            Some(workers) => usize::from(workers),
            None => std::thread::available_parallelism().map_or(1, usize::from),
        };
        let connections = usize::try_from(http.max_connections).unwrap_or(usize::MAX).div_ceil(workers);
        let origins = http.cors_origins.clone();
        let data = web::Data::new(shared.clone());
        let server = actix_server::Server::build()
            .workers(workers)
            .max_concurrent_connections(connections)
            .shutdown_timeout(http.shutdown_timeout + ANSWER_GRACE_SECONDS)
            .disable_signals();
        let stopping = server.graceful_shutdown_signal();
        // This does what actix-web's `HttpServer` does (4.18, `listen`), except that the connections are wrapped: `HttpServer` always
        // uses plain ones. actix-http hides the shutdown signal from its documentation.
        let worker = move || {
            let app = App::new()
                .app_data(data.clone())
                .configure(|config| configure(config))
                .wrap(from_fn(boundary))
                .wrap(cors(&origins))
                .wrap(from_fn(watch));
            let app = app.into_factory().map_err(|error: Error| error.error_response());
            let (stopping, places) = (stopping.clone(), Places::new(connections));
            let requests = HttpService::build()
                .graceful_shutdown_signal(move || {
                    let stopping = stopping.clone();
                    async move { stopping.notified().await }
                })
                // `Connection` has the timers for these two.
                .keep_alive(KeepAlive::Os)
                .client_request_timeout(Duration::ZERO)
                .client_disconnect_timeout(LINGER_TIME)
                .h1_allow_half_closed(false)
                .on_connect_ext(|connection: &Connection, extensions: &mut Extensions| connection.extend(extensions))
                .h1(map_config(app, |()| AppConfig::default()));
            let connections = fn_service(move |stream: TcpStream| {
                let peer = stream.peer_addr().ok();
                ready(Ok::<_, DispatchError>((Connection::new(stream, &places), peer)))
            });
            connections.and_then(requests)
        };
        let server = server.listen("http", listener, worker).context("cannot start to listen")?.run();

        let (health, shutdown) = (Arc::clone(&shared.health), shared.shutdown.clone());
        // Not tracked: it ends with the stop and has nothing to finish, and `drain` would wait for it.
        drop(shared.background.runtime().spawn(async move { health.watch(&shutdown).await }));
        let (limits, shutdown) = (Arc::clone(&shared.rate_limits), shared.shutdown.clone());
        drop(shared.background.runtime().spawn(async move { limits.forget(&shutdown).await }));
        let handle = server.handle();
        let mut serving = tokio::spawn(server);
        tokio::select! {
            ended = &mut serving => return Err(ended_early(ended).into()),
            () = stop => {}
        }
        // From here on the server is not ready, and it accepts no new connections.
        shared.shutdown.begin();
        let stopping = handle.stop(true);
        if timeout(Duration::from_secs(http.shutdown_timeout), stopping).await.is_err() {
            shared.shutdown.end();
        }
        serving.await.context("the server's task failed")?.context("the server failed while it stopped")?;
        shared.shutdown.end();
        if timeout(DROP_LIMIT, shared.uploads.wait()).await.is_err() {
            warn!("a worker did not drop its uploads in time");
        }
        let background_done = shared.background.drain(BACKGROUND_LIMIT).await;
        Ok(Stopped { cut_off: shared.uploads.cut_off(), background_done })
    }
}

/// A server's `main`: reads settings from flags and environment, and serves until SIGTERM or SIGINT. The exit code is 0 after a
/// clean stop, 1 after a failure, 2 for wrong settings, and 3 if uploads were cut off or tracked work did not end in time.
pub fn run<S: Parser>(
    common: fn(&S) -> &CommonSettings,
    strategy: impl AsyncFnOnce(&S, &mut Start<'_>) -> Result<Strategy, StartError>,
) -> ExitCode {
    let settings = match settings::parse::<S>(std::env::args_os()) {
        Ok(settings) => settings,
        Err(error) => return refuse(&error.into()),
    };
    if let Err(error) = common(&settings).check() {
        return refuse(&error.into());
    }
    logging::init(&common(&settings).http);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return refuse(&anyhow::Error::new(error).context("cannot start the runtime").into()),
    };
    let outcome = runtime.block_on(serve(common(&settings), async |start| strategy(&settings, start).await));
    runtime.shutdown_timeout(DROP_LIMIT);
    match outcome {
        Ok(Stopped { cut_off: 0, background_done: true }) => {
            info!("stopped");
            ExitCode::SUCCESS
        }
        Ok(Stopped { cut_off, background_done }) => {
            let lost = match (cut_off, background_done) {
                (0, _) => "links or other background work did not finish",
                (_, true) => "uploads were cut off",
                (_, false) => "uploads were cut off, and links or other background work did not finish",
            };
            warn!(cut_off, background_done, "stopped after SHUTDOWN_TIMEOUT; {lost}");
            ExitCode::from(3)
        }
        Err(error) => refuse(&error),
    }
}

async fn serve(
    settings: &CommonSettings,
    strategy: impl AsyncFnOnce(&mut Start<'_>) -> Result<Strategy, StartError>,
) -> Result<Stopped, StartError> {
    // Before anything starts, so that a signal is never missed.
    let mut terminate = signal(SignalKind::terminate()).context("cannot handle SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot handle SIGINT")?;
    let server = Server::bind(settings, strategy).await?;
    // The parent process reads this line. If it has closed the pipe, the server still runs.
    let mut stdout = std::io::stdout();
    let told = writeln!(stdout, "listening on http://{}", server.local_addr()).and_then(|()| stdout.flush());
    if let Err(error) = told {
        warn!(cause = %error, "cannot write the address to stdout");
    }
    info!(address = %server.local_addr(), strategy = server.shared().strategy, "listening");
    let stop = async {
        tokio::select! {
            _ = terminate.recv() => info!("SIGTERM: stopping"),
            _ = interrupt.recv() => info!("SIGINT: stopping"),
        }
    };
    server.run(stop).await
}

/// Writes in one line why the process ends. It does not use the log: settings are wrong before there is a subscriber.
fn refuse(error: &StartError) -> ExitCode {
    let mut stderr = std::io::stderr();
    // If this fails, there is nowhere else to write it.
    let _unsaid = writeln!(stderr, "{error}");
    match error {
        StartError::Settings(_) => ExitCode::from(2),
        StartError::Failed(_) => ExitCode::FAILURE,
    }
}

/// Builds everything that handlers use from settings alone. It does not contact the database or the store.
async fn build(
    settings: &CommonSettings,
    address: SocketAddr,
    strategy: impl AsyncFnOnce(&mut Start<'_>) -> Result<Strategy, StartError>,
) -> Result<Built, StartError> {
    let http = &settings.http;
    let tokens = TokenVerifier::new(http)?;
    let public_api_url = with_bound_port(&http.public_api_url, address);
    let background = Background::new(Handle::current());
    let shutdown = Shutdown::default();
    let mut registry = Registry::default();
    let own = metrics::Own::register(&mut registry);
    let uploads = ActiveUploads::new(shutdown.clone(), own.uploads_active.clone());
    let storage = async {
        let storage = Storage::new(&settings.storage).await;
        storage.map_err(|error| StartError::Settings(SettingsError(error.to_string())))
    };
    let mut start = Start { public_api_url: &public_api_url, registry: &mut registry };
    // Both at the same time: each may have to fetch credentials first.
    let (storage, strategy) = tokio::try_join!(storage, strategy(&mut start))?;
    let Strategy { name, forms, endpoints, configure, signer } = strategy;
    let rate_limits = Arc::new(RateLimits::new(http, background.runtime(), &mut registry)?);
    let endpoints = routes::endpoints(&*forms).into_iter().chain(endpoints).collect();
    let interface = Interface::new(name, endpoints).context("cannot build the OpenAPI document")?;
    let database = Database::new(&settings.database, background.runtime().clone())
        .map_err(|error| SettingsError(error.to_string()))?;
    let timing = http.timing.checked().map_err(|error| SettingsError(error.to_string()))?;
    let (limits, counters) = (http.limits(), own.clone());
    let links = Links::new(
        database.clone(),
        storage.clone(),
        limits,
        timing,
        background.clone(),
        http.links_active,
        move |event| counters.observe(event),
    );
    let shared = Shared {
        health: Arc::new(Health::new(database.clone(), storage.clone())),
        database,
        storage: storage.clone(),
        limits,
        quota: http.quota(&timing),
        timing,
        background,
        links,
        forms,
        metrics: Metrics::new(registry, own),
        public_api_url: Arc::new(public_api_url),
        strategy: name,
        tokens: Arc::new(tokens),
        shutdown,
        uploads,
        rate_limits,
        trusted_proxies: http.trusted_proxies.clone().into(),
    };
    let configure = move |config: &mut web::ServiceConfig| {
        configure(config, &storage);
        routes::configure_input(config);
        interface.configure(config);
    };
    Ok(Built { shared, configure: Arc::new(configure), signer })
}

/// Binds the address to listen on.
async fn take(bind_address: &str) -> Result<Taken, StartError> {
    let address = lookup_host(bind_address).await.ok().and_then(|mut addresses| addresses.next()).ok_or_else(|| {
        SettingsError(format!("BIND_ADDRESS is `{bind_address}`; it must be host:port, such as 127.0.0.1:8080"))
    })?;
    let bound = || {
        let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let address = socket.local_addr()?;
        Ok(Taken { socket, address })
    };
    bound().map_err(|error| cannot_listen(address, &error))
}

/// A failure (exit code 1), not a wrong setting: the port may become free later.
fn cannot_listen(address: SocketAddr, error: &std::io::Error) -> StartError {
    let remedy = match error.kind() {
        ErrorKind::AddrInUse => "stop the program that listens there, or set another port",
        ErrorKind::AddrNotAvailable => "set an address of this machine",
        ErrorKind::PermissionDenied => "set a port of 1024 or above, or allow this process to use lower ones",
        _ => "set another address",
    };
    anyhow!("BIND_ADDRESS: cannot listen on {address} ({error}); {remedy}").into()
}

impl Taken {
    /// Lets clients connect.
    fn listen(self) -> Result<std::net::TcpListener, StartError> {
        let Self { socket, address } = self;
        let listener = socket.listen(BACKLOG).and_then(tokio::net::TcpListener::into_std);
        listener.map_err(|error| cannot_listen(address, &error))
    }
}

/// The public URL, with port 0 replaced by the bound port: with `BIND_ADDRESS` port 0, nobody can know the port before.
fn with_bound_port(url: &Url, address: SocketAddr) -> Url {
    let mut url = url.clone();
    if url.port() == Some(0) && url.set_port(Some(address.port())).is_err() {
        warn!("cannot set a port in PUBLIC_API_URL");
    }
    url
}

fn ended_early(ended: Result<std::io::Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    let cause = match ended {
        Ok(Ok(())) => return anyhow::anyhow!("the server ended without a signal"),
        Ok(Err(error)) => anyhow::Error::new(error),
        Err(error) => anyhow::Error::new(error),
    };
    cause.context("the server failed")
}

/// Allows pages of `origins` to call this server and to read the headers that they need. It does not allow credentials, because callers
/// send a bearer token themselves.
fn cors(origins: &[String]) -> Cors {
    let cors = Cors::default()
        .allowed_methods([Method::GET, Method::POST, Method::DELETE])
        .allow_any_header()
        .expose_headers([header::ETAG, header::LOCATION, header::RETRY_AFTER, REQUEST_ID_HEADER])
        .max_age(600);
    if origins.iter().any(|origin| origin == "*") {
        return cors.allow_any_origin().send_wildcard();
    }
    origins.iter().fold(cors, |cors, origin| cors.allowed_origin(origin))
}

#[cfg(test)]
#[path = "server_tests.rs"]
mod tests;
