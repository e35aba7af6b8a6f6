//! What one test has for itself: a database, a bucket, users and tokens.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use anyhow::{Context, Result};
use tokio::runtime::Handle;
use tokio_postgres::{NoTls, SimpleQueryMessage};
use upload_domain::{Role, UserId, UserStatus};
use upload_persistence::{Database, DatabaseSettings, users};
use uuid::Uuid;

use crate::{
    s3::{Key, Traffic},
    sandbox::Parts,
    tokens,
};

/// How long a removal on a given server is waited for.
const LONGEST_REMOVAL: Duration = Duration::from_secs(20);

/// A database and a bucket of one's own, which end with this value.
#[derive(Debug)]
pub struct Stand {
    /// The database's URL.
    pub database_url: String,
    /// The bucket's name.
    pub bucket: String,
    /// The secret that this stand's servers check tokens with.
    pub jwt_secret: String,
    /// How to reach the database.
    pub database_settings: DatabaseSettings,
    /// The database.
    pub database: Database,
    parts: Arc<Parts>,
    database_name: String,
}

/// A row as text, a column that is null as `None`.
pub type Row = Vec<Option<String>>;

/// A user with a token.
#[derive(Debug, Clone)]
pub struct Person {
    /// The user's id.
    pub id: UserId,
    /// A bearer token for an hour.
    pub token: String,
}

impl Stand {
    pub(crate) async fn new(parts: Arc<Parts>) -> Result<Self> {
        let name = format!("{}_{}", chrono::Utc::now().timestamp(), Uuid::new_v4().simple());
        let database_name = format!("upload_sandbox_{name}");
        parts.create_database(&database_name).await?;
        let database_url = parts.database_url(&database_name);
        let database_settings = DatabaseSettings::for_url(database_url.as_str());
        let database = Database::new(&database_settings, parts.handle().clone())?;
        Ok(Self {
            database_url,
            bucket: format!("upload-sandbox-{}", name.replace('_', "-")),
            jwt_secret: Uuid::new_v4().simple().to_string(),
            database_settings,
            database,
            parts,
            database_name,
        })
    }

    /// The environment of a server on this stand: the whole of it, for either server and for `upload-ops`.
    pub fn environment(&self) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        let mut set = |name: &str, value: &str| {
            environment.insert(name.to_owned(), value.to_owned());
        };
        set("BIND_ADDRESS", "127.0.0.1:0");
        // The server puts the port that it got in the place of the 0.
        set("PUBLIC_API_URL", "http://127.0.0.1:0");
        set("DATABASE_URL", &self.database_url);
        set("JWT_SECRET", &self.jwt_secret);
        set("JWT_ISSUER", tokens::ISSUER);
        set("JWT_AUDIENCE", tokens::AUDIENCE);
        let store = self.parts.store();
        set("S3_ENDPOINT", &store.endpoint);
        set("S3_BUCKET", &self.bucket);
        let keys =
            [("S3_", &store.keys.server), ("S3_SIGNER_", &store.keys.signer), ("S3_READER_", &store.keys.reader)];
        for (prefix, Key { id, secret, session_token }) in keys {
            set(&format!("{prefix}ACCESS_KEY_ID"), id);
            set(&format!("{prefix}SECRET_ACCESS_KEY"), secret);
            if let Some(session_token) = session_token {
                set(&format!("{prefix}SESSION_TOKEN"), session_token);
            }
        }
        environment
    }

    /// Adds a user.
    pub async fn add_user(&self, role: Role, status: UserStatus) -> Result<UserId> {
        let id = UserId::from(Uuid::now_v7());
        let new = users::NewUser { id, role, status, nickname: Some("sandbox"), email: None };
        users::insert(&mut *self.database.connection().await?, &new).await?;
        Ok(id)
    }

    /// Adds an active user and signs a token for them.
    pub async fn add_person(&self, role: Role) -> Result<Person> {
        let id = self.add_user(role, UserStatus::Active).await?;
        Ok(Person { id, token: self.token(id, role)? })
    }

    /// A bearer token for an hour.
    pub fn token(&self, user: UserId, role: Role) -> Result<String> {
        tokens::sign(&tokens::claims(user, role), &self.jwt_secret)
    }

    /// Runs SQL as it is, on a connection of its own, and returns all rows. What a test asserts on the database should not
    /// come from the code under test.
    pub async fn sql(&self, sql: &str) -> Result<Vec<Row>> {
        let (client, connection) = tokio_postgres::connect(&self.database_url, NoTls).await?;
        let driver = tokio::spawn(connection);
        let messages = client.simple_query(sql).await.with_context(|| sql.to_owned());
        drop(client);
        driver.await??;
        let rows = messages?.into_iter().filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some((0..row.len()).map(|i| row.get(i).map(str::to_owned)).collect()),
            _ => None,
        });
        Ok(rows.collect())
    }

    /// How many rows there are `from`, which is a table's name and may go on with a WHERE.
    pub async fn count(&self, from: &str) -> Result<u64> {
        let rows = self.sql(&format!("SELECT count(*) FROM {from}")).await?;
        let count = rows.first().and_then(|row| row.first()?.as_deref()).context("a count has no row")?;
        Ok(count.parse()?)
    }

    /// What has reached the bucket so far, also while a body is on its way; `None` with a store that is not embedded.
    pub fn traffic(&self) -> Option<tokio::sync::watch::Receiver<Traffic>> {
        self.parts.embedded().map(|embedded| embedded.traffic(&self.bucket))
    }

    /// The sandbox's runtime, which outlives this test's.
    pub fn runtime(&self) -> &Handle {
        self.parts.handle()
    }
}

impl Drop for Stand {
    /// Throw-away servers take everything with them, so nobody waits; on a given server the removal is waited for.
    fn drop(&mut self) {
        let parts = Arc::clone(&self.parts);
        let (sender, receiver) = std::sync::mpsc::channel::<()>();
        let name = self.database_name.clone();
        let given = parts.given();
        self.parts.handle().spawn(async move {
            if let Err(error) = parts.drop_database(&name).await {
                tracing::warn!("{error:#}");
            }
            // Blocks, where this is the last of the sandbox, until its cluster has stopped.
            drop(tokio::task::spawn_blocking(move || drop(parts)));
            drop(sender);
        });
        if given {
            // The sender never sends: its end is the answer.
            if receiver.recv_timeout(LONGEST_REMOVAL) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
                tracing::warn!(database = self.database_name, bucket = self.bucket, "a removal takes too long");
            }
        }
    }
}
