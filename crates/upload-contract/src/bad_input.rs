//! Input with which no program may start, written once and run against each binary. Settings are missing or contradict each other. A
//! database or a store is away, is the wrong one, or does not let the program in.
//!
//! Each must end the program before it does anything: exit code 2, one line on stderr that names the setting and says what to do,
//! nothing on stdout, and no secret of the environment anywhere.

use std::{collections::BTreeMap, convert::Infallible, net::SocketAddr};

use anyhow::{Context, Result};
use bytes::Bytes;
use futures::future::join_all;
use http_body_util::Empty;
use hyper::{Request, Response, StatusCode, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    net::{TcpListener, TcpSocket},
    task::JoinSet,
};
use upload_sandbox::{
    Stand,
    encrypted::EncryptedStore,
    postgres::{Certificate, Cluster},
    process::Program,
    s3::{EXPIRED_TOKEN, Key, SERVER_POLICY},
};
use url::Url;

/// The variables of a key: its id, its secret and its session token.
pub type KeyVariables = [&'static str; 3];

/// The server's.
pub const SERVER: KeyVariables = ["S3_ACCESS_KEY_ID", "S3_SECRET_ACCESS_KEY", "S3_SESSION_TOKEN"];
/// The reader's.
pub const READER: KeyVariables = ["S3_READER_ACCESS_KEY_ID", "S3_READER_SECRET_ACCESS_KEY", "S3_READER_SESSION_TOKEN"];
/// The signer's, which V2 alone has.
pub const SIGNER: KeyVariables = ["S3_SIGNER_ACCESS_KEY_ID", "S3_SIGNER_SECRET_ACCESS_KEY", "S3_SIGNER_SESSION_TOKEN"];

/// One wrong setting, and what the program must say about it.
#[derive(Debug, Clone)]
pub struct Wrong {
    variables: BTreeMap<&'static str, Option<String>>,
    says: Vec<&'static str>,
}

/// A variable that is not set.
pub fn missing(variable: &'static str) -> Wrong {
    Wrong { variables: BTreeMap::from([(variable, None)]), says: vec![variable] }
}

/// A variable with a wrong value. The message must have its name and these words.
pub fn wrong(variable: &'static str, value: impl Into<String>, says: &[&'static str]) -> Wrong {
    let says = [&[variable], says].concat();
    Wrong { variables: BTreeMap::from([(variable, Some(value.into()))]), says }
}

/// A URL with a password in it; some of them are malformed.
pub fn with_password(variable: &'static str) -> Vec<Wrong> {
    let urls = [
        "http://user:secret-word@127.0.0.1:9000",
        "http://:secret-word@127.0.0.1:9000",
        "http://user:secret-word@127.0.0.1:port",
        "http://user:1/secret-word@127.0.0.1",
        "http://user:secret-word,1@127.0.0.1",
        "user:secret-word@127.0.0.1",
        "http://127.0.0.1:9000/?password=secret-word",
        "http://127.0.0.1:9000/#secret-word",
    ];
    urls.map(|url| wrong(variable, url, &["such as http"])).into()
}

/// A key that may do too much for its role; `None` with a given store that has no such key.
pub fn may_too_much(stand: &Stand, variables: KeyVariables) -> Option<Wrong> {
    let [(_, server), ..] = stand.keys();
    let admin = stand.admin_key();
    (*admin != server).then(|| with_key(variables, admin, &["has the right to ", "which it must not have"]))
}

/// A server's key that may do all that it must, except delete; `None` with a given store, where the suite can make no key.
///
/// # Errors
/// If the policy cannot be parsed.
pub fn may_not_delete(stand: &Stand) -> Result<Option<Wrong>> {
    let key = stand.further_key(&SERVER_POLICY.replace("s3:DeleteObject", "s3:GetObject"))?;
    Ok(key.map(|key| with_key(SERVER, &key, &["lacks the right to delete incoming/* and delete media/*"])))
}

/// Puts another key into a role: these variables hold its id, its secret and its session token. The case tests its rights.
pub fn with_key(variables: KeyVariables, key: &Key, says: &[&'static str]) -> Wrong {
    let [id, secret, token] = variables;
    let wrong = wrong(id, &key.id, says).with(secret, &key.secret).with("S3_KEY_CHECK", "enforce");
    match &key.session_token {
        Some(session_token) => wrong.with(token, session_token),
        None => wrong.without(token),
    }
}

/// A session token that does not belong to the key, and one that has expired. Empty for a store whose keys have no token: such a store
/// may ignore tokens.
pub fn with_token(stand: &Stand, variables: KeyVariables) -> Vec<Wrong> {
    let [id, _secret, token] = variables;
    let unknown = wrong(token, "secret-word", &["does not accept the session token"]).naming(id);
    // MinIO uses the same words for an expired token.
    let expired = wrong(token, EXPIRED_TOKEN, &["session token", "has expired"]).naming(id);
    match stand.has_embedded_store() {
        true => vec![unknown, expired],
        false => Vec::from_iter(stand.environment().contains_key(token).then_some(unknown)),
    }
}

impl Wrong {
    /// The message must name this variable instead.
    #[must_use]
    pub fn naming(mut self, variable: &'static str) -> Self {
        self.says.retain(|word| !self.variables.contains_key(word));
        self.says.push(variable);
        self
    }

    /// Sets another variable too.
    #[must_use]
    pub fn with(mut self, variable: &'static str, value: impl Into<String>) -> Self {
        self.variables.insert(variable, Some(value.into()));
        self
    }

    /// Removes another variable.
    #[must_use]
    pub fn without(mut self, variable: &'static str) -> Self {
        self.variables.insert(variable, None);
        self
    }
}

/// Starts the program once for each wrong setting, all at the same time.
///
/// # Panics
/// If the program does not end as it should; the message lists all faults.
pub async fn assert_each_is_refused(program: &Program, table: impl IntoIterator<Item = Wrong>) {
    let runs = table.into_iter().map(|wrong| async move {
        let changed = wrong.variables.iter().fold(program.clone(), |program, (name, value)| match value {
            Some(value) => program.env(*name, value),
            None => program.without(name),
        });
        fault(&changed, &wrong).await.err().map(|error| format!("{:?}: {error:#}", wrong.variables))
    });
    let faults: Vec<String> = join_all(runs).await.into_iter().flatten().collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

async fn fault(program: &Program, wrong: &Wrong) -> Result<()> {
    let ended = program.clone().run().await?;
    let told = &ended.stderr;
    anyhow::ensure!(ended.code == Some(2), "exit code {:?}: {told}", ended.code);
    anyhow::ensure!(told.lines().count() == 1, "not one line: {told}");
    anyhow::ensure!(ended.stdout.is_empty(), "on stdout: {}", ended.stdout);
    let unsaid: Vec<_> = wrong.says.iter().filter(|word| !told.contains(**word)).collect();
    anyhow::ensure!(unsaid.is_empty(), "{unsaid:?} is not in: {told}");
    anyhow::ensure!(!told.contains("secret-word"), "a secret is in: {told}");
    let told_secret = program.secrets().into_iter().find(|secret| told.contains(secret));
    anyhow::ensure!(told_secret.is_none(), "{told_secret:?} is in: {told}");
    Ok(())
}

/// Addresses where no usable database or store is. They end with this value.
#[derive(Debug)]
pub struct Wilderness {
    refusing: SocketAddr,
    silent: SocketAddr,
    no_store: SocketAddr,
    encrypted: Cluster,
    encrypted_store: EncryptedStore,
    _sockets: (TcpSocket, TcpListener),
    _serving: JoinSet<()>,
}

impl Wilderness {
    /// # Errors
    /// If there is no free port, or no Postgres.
    pub async fn new(stand: &Stand) -> Result<Self> {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 0));
        // Bound, but it does not listen: nobody else gets the port, and it refuses connections.
        let refusing = TcpSocket::new_v4()?;
        refusing.bind(nowhere)?;
        // It listens, but never accepts: clients can connect, and then hear nothing.
        let silent = TcpListener::bind(nowhere).await?;
        let no_store = TcpListener::bind(nowhere).await?;
        let encrypted = tokio::task::spawn_blocking(|| Cluster::start_with_tls(Certificate::Good)).await??;
        Ok(Self {
            refusing: refusing.local_addr()?,
            silent: silent.local_addr()?,
            no_store: no_store.local_addr()?,
            encrypted,
            encrypted_store: EncryptedStore::before(stand, Certificate::Good).await?,
            _sockets: (refusing, silent),
            _serving: JoinSet::from_iter([serve_nothing(no_store)]),
        })
    }

    /// Wrong settings of the database.
    ///
    /// # Errors
    /// If the URL of the stand's database cannot be changed.
    pub fn databases(&self, stand: &Stand) -> Result<Vec<Wrong>> {
        let url = |change: &dyn Fn(&mut Url)| -> Result<String> {
            let mut url = Url::parse(&stand.database_url).context("the stand's DATABASE_URL")?;
            change(&mut url);
            Ok(url.into())
        };
        let at = |address: SocketAddr| format!("postgres://somebody:secret-word@{address}/nothing");
        let store = &stand.storage_settings.endpoint;
        let store = format!("postgres://somebody:secret-word@127.0.0.1:{}/x", store.port().unwrap_or(443));
        let encrypted = |rest: &str| format!("{}?{rest}", self.encrypted.admin_url());
        let database = |value: String, says: &[&'static str]| wrong("DATABASE_URL", value, says);
        Ok(vec![
            missing("DATABASE_URL"),
            database("mysql://somebody:secret-word@localhost/x".to_owned(), &["postgres://"]),
            database("postgres://somebody:secret-word@localhost:port/x".to_owned(), &["postgres://"]),
            database(at(self.refusing), &["cannot be reached", "refused", "check that it runs"]),
            database(at(self.silent), &["cannot be reached"]).with("DATABASE_CONNECT_TIMEOUT_MS", "500"),
            database(store, &[]),
            database(
                url(&|url| url.set_password(Some("secret-word")).unwrap_or_default())?,
                &["refuses the user", "correct the user and the password"],
            ),
            database(url(&|url| url.set_path("/there-is-none"))?, &["no such database", "there-is-none"]),
            database(url(&|url| url.set_query(Some("sslmode=require")))?, &["TLS", "sslmode"]),
            database(url(&|url| url.set_query(Some("sslmode=verify-ca")))?, &["verify-full"]),
            database(encrypted("sslmode=verify-full"), &["certificate", "sslrootcert"]),
            database(
                encrypted("sslmode=verify-full&sslrootcert=/there/is/none.pem"),
                &["sslrootcert", "/there/is/none.pem"],
            ),
            wrong("DATABASE_POOL_SIZE", "many", &["many", "a whole number"]),
        ])
    }

    /// Databases without the tables, where the program does not make them itself.
    ///
    /// # Errors
    /// If the URL of the stand's database cannot be changed.
    pub fn empty_database(&self, stand: &Stand) -> Result<Wrong> {
        let mut url = Url::parse(&stand.database_url).context("the stand's DATABASE_URL")?;
        url.set_path("/postgres");
        Ok(wrong("DATABASE_URL", url, &["lacks migrations", "upload-ops migrate"]))
    }

    /// Wrong settings of the store and its key.
    pub fn stores(&self, stand: &Stand) -> Vec<Wrong> {
        let environment = stand.environment();
        let [_server, _signer, (_, reader)] = stand.keys();
        let nobody = "nobody0123456789abcdef".to_owned();
        let mut stores = vec![
            missing("S3_ENDPOINT"),
            missing("S3_BUCKET"),
            wrong("S3_ENDPOINT", "127.0.0.1:9000", &["http://127.0.0.1:9000"]),
            wrong("S3_ENDPOINT", format!("http://{}", self.refusing), &["cannot be reached", "check that it runs"]),
            wrong("S3_ENDPOINT", format!("http://{}", self.silent), &["answer"]),
            wrong("S3_ENDPOINT", format!("http://{}", self.no_store), &["correct"]),
            // TLS is spoken to a port that has none.
            wrong("S3_ENDPOINT", environment["S3_ENDPOINT"].replace("http://", "https://"), &["cannot be reached"]),
            wrong("S3_ENDPOINT", self.encrypted_store.endpoint(), &["certificate"]),
            wrong("S3_BUCKET", "no bucket", &[]),
            wrong("S3_PIN", "both", &["copy, version"]),
            wrong("S3_SECRET_ACCESS_KEY", "secret-word", &["correct"]).naming("S3_ACCESS_KEY_ID"),
            wrong("S3_ACCESS_KEY_ID", nobody, &["correct"]),
            missing("S3_SECRET_ACCESS_KEY"),
            // Has too few rights: it can only read.
            with_key(SERVER, &reader, &["lacks the right to"]).with("S3_ALLOW_ONE_KEY", "true"),
            wrong("S3_PROFILE", "default", &["S3_ACCESS_KEY_ID"]),
            SERVER
                .into_iter()
                .fold(
                    wrong("S3_PROFILE", "nobody", &["gives no credentials", "AWS_SHARED_CREDENTIALS_FILE"]),
                    Wrong::without,
                )
                .with("AWS_SHARED_CREDENTIALS_FILE", "/there/is/none"),
        ];
        stores
            .extend(["S3_ENDPOINT", "S3_PUBLIC_ENDPOINT", "MEDIA_PUBLIC_BASE_URL"].into_iter().flat_map(with_password));
        stores.extend(with_token(stand, SERVER));
        // MinIO accepts signatures for any region, unless its own is set.
        if stand.has_embedded_store() {
            stores.push(wrong("S3_REGION", "eu-west-1", &["another region"]));
        }
        stores
    }

    /// Wrong values of the other settings that both servers have.
    pub fn servers(&self, stand: &Stand) -> Vec<Wrong> {
        let environment = stand.environment();
        let key = environment["S3_READER_ACCESS_KEY_ID"].clone();
        let mut servers = vec![
            missing("PUBLIC_API_URL"),
            missing("JWT_SECRET"),
            missing("JWT_ISSUER"),
            missing("JWT_AUDIENCE"),
            wrong("BIND_ADDRESS", "nowhere", &["host:port"]),
            wrong("PUBLIC_API_URL", "api.example.org", &["https://"]),
            wrong("CORS_ORIGINS", "https://a.example,b.example", &["origin"]),
            wrong("TRUSTED_PROXIES", "10.0.0.0/99", &["network"]),
            wrong("JWT_SECRET", "secret-word", &["at least 32"]),
            wrong("JWT_ALGORITHM", "none", &["HS256, RS256, ES256, EdDSA"]),
            wrong("JWT_ALGORITHM", "RS256", &["JWT_SECRET must not be set"]).with("JWT_PUBLIC_KEY", "secret-word"),
            wrong("JWT_PUBLIC_KEY", "secret-word", &["JWT_SECRET alone"]),
            wrong("JWT_PUBLIC_KEY", "secret-word", &["PEM"]).with("JWT_ALGORITHM", "ES256").without("JWT_SECRET"),
            wrong("MAX_IMAGE_BYTES", "20MB", &["20MB", "a whole number"]),
            wrong("PENDING_TTL", "60", &["longer"]),
            wrong("MAX_BODY_TIME", "3600", &["PENDING_TTL"]),
            wrong("SHUTDOWN_TIMEOUT", "soon", &["soon", "a whole number"]),
            wrong("S3_BUCKET", "there-is-no-such-bucket", &["there-is-no-such-bucket", "upload-ops bucket"]),
            wrong("S3_ACCESS_KEY_ID", key, &["S3_READER_ACCESS_KEY_ID", "different"]),
            missing("S3_READER_ACCESS_KEY_ID"),
        ];
        servers.extend(["PUBLIC_API_URL", "CORS_ORIGINS"].into_iter().flat_map(with_password));
        servers.extend(with_token(stand, READER));
        servers.extend([SERVER, READER].into_iter().filter_map(|variables| may_too_much(stand, variables)));
        servers
    }
}

/// A web server that is not a store: it has nothing that a client asks for.
async fn serve_nothing(listener: TcpListener) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _peer)) = listener.accept().await {
        let service = service_fn(|_request: Request<Incoming>| async {
            let mut answer = Response::new(Empty::<Bytes>::new());
            *answer.status_mut() = StatusCode::NOT_FOUND;
            Ok::<_, Infallible>(answer)
        });
        connections.spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}
