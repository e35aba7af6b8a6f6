//! The parts that one test has for itself: a database, a bucket, users and tokens.

use std::{
    collections::BTreeMap,
    sync::{Arc, mpsc::RecvTimeoutError},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use clap::ValueEnum as _;
use secrecy::SecretString;
use tokio::{runtime::Handle, task::JoinHandle};
use upload_domain::{Role, UserId, UserStatus, incoming_key};
use upload_persistence::{Database, DatabaseSettings, databases, image_attempts, images, users};
use upload_storage::{
    Addressing, ChecksumMode, Pin, SignerSettings, Storage, StorageSettings,
    bucket::{self, Outcome},
};
use uuid::Uuid;

use crate::{
    s3::{Key, S3Connection, Traffic, grant},
    sandbox::Parts,
    tokens,
};

/// How long to wait for a removal on a given server.
const LONGEST_REMOVAL: Duration = Duration::from_secs(20);

/// A separate database and bucket, which end with this value.
#[derive(Debug)]
pub struct Stand {
    /// The database's URL.
    pub database_url: String,
    /// The secret with which this stand's servers check tokens.
    pub jwt_secret: String,
    /// How to reach the database.
    pub database_settings: DatabaseSettings,
    /// How to reach the bucket.
    pub storage_settings: StorageSettings,
    /// The key that signs forms.
    pub signer_settings: SignerSettings,
    /// The database.
    pub database: Database,
    /// The bucket, with the server's key.
    pub storage: Storage,
    /// The bucket, with the key that made it, for actions that no server may do.
    pub admin: Storage,
    /// How to reach the bucket with that key.
    pub admin_settings: StorageSettings,
    parts: Arc<Parts>,
    database_name: String,
    removed: bool,
}

/// A row as text, a column that is null as `None`.
pub type Row = databases::TextRow;

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
        // Together at most 63 characters, as a bucket's name may have (and a database's).
        let bucket_name = format!("upload-sandbox-{}", name.replace('_', "-"));
        let database_url = parts.database_url(&database_name);
        let database_settings = DatabaseSettings::for_url(database_url.as_str());
        let (storage_settings, admin_settings, signer_settings) = settings_of_store(&parts, bucket_name)?;
        let stand = Self {
            database_url,
            jwt_secret: Uuid::new_v4().simple().to_string(),
            database: Database::new(&database_settings, parts.handle().clone())?,
            storage: Storage::new(&storage_settings).await?,
            admin: Storage::new(&admin_settings).await?,
            database_settings,
            storage_settings,
            admin_settings,
            signer_settings,
            parts,
            database_name,
            removed: false,
        };
        // From here on, dropping the value removes the parts that exist by then.
        let (database, bucket) =
            tokio::join!(stand.parts.create_database(&stand.database_name), bucket::create(&stand.admin));
        database?;
        bucket.with_context(|| format!("the bucket {} cannot be created", stand.bucket()))?;
        grant(stand.bucket()).await?;
        Ok(stand)
    }

    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.storage_settings.bucket
    }

    /// The whole environment of a server on this stand, for either server and for `upload-ops`.
    pub fn environment(&self) -> BTreeMap<String, String> {
        self.environment_with(&self.parts.store().keys.server)
    }

    /// The same with the key that makes buckets, for `upload-ops bucket`.
    pub fn admin_environment(&self) -> BTreeMap<String, String> {
        self.environment_with(&self.parts.store().admin)
    }

    fn environment_with(&self, server: &Key) -> BTreeMap<String, String> {
        let mut environment = BTreeMap::new();
        let mut set = |name: &str, value: &str| {
            environment.insert(name.to_owned(), value.to_owned());
        };
        set("BIND_ADDRESS", "127.0.0.1:0");
        // The server replaces the 0 with its port.
        set("PUBLIC_API_URL", "http://127.0.0.1:0");
        set("DATABASE_URL", &self.database_url);
        set("JWT_SECRET", &self.jwt_secret);
        set("JWT_ISSUER", tokens::ISSUER);
        set("JWT_AUDIENCE", tokens::AUDIENCE);
        set("TICKET_SECRET", &self.jwt_secret.repeat(2));
        // Many tests, and all load, come from a few users.
        set("MAX_PENDING_IMAGES", "0");
        set("MAX_BYTES_PER_DAY", "0");
        let StorageSettings { endpoint, region, bucket, key_check, .. } = &self.storage_settings;
        // Without this, a server without a key would ask another machine for one.
        set("AWS_EC2_METADATA_DISABLED", "true");
        set("S3_ENDPOINT", endpoint.as_str());
        set("S3_REGION", region);
        set("S3_BUCKET", bucket);
        if let Some(mode) = key_check.to_possible_value() {
            set("S3_KEY_CHECK", mode.get_name());
        }
        let keys = &self.parts.store().keys;
        for (prefix, key) in [("S3_", server), ("S3_SIGNER_", &keys.signer), ("S3_READER_", &keys.reader)] {
            set(&format!("{prefix}ACCESS_KEY_ID"), &key.id);
            set(&format!("{prefix}SECRET_ACCESS_KEY"), &key.secret);
            if let Some(session_token) = &key.session_token {
                set(&format!("{prefix}SESSION_TOKEN"), session_token);
            }
        }
        environment
    }

    /// The store's URL for virtual-host addressing, if its buckets are hosts. Those of the embedded store are; those of a given store are if
    /// `SANDBOX_S3_DOMAIN` has their domain. Not every resolver knows the names below `localhost`: see [`Stand::by_virtual_host`].
    pub fn domain_endpoint(&self) -> Option<String> {
        if let Some(embedded) = self.parts.embedded() {
            return Some(embedded.domain_endpoint());
        }
        let domain = std::env::var("SANDBOX_S3_DOMAIN").ok().filter(|domain| !domain.is_empty())?;
        let mut endpoint = self.storage_settings.endpoint.clone();
        endpoint.set_host(Some(&domain)).ok()?;
        Some(endpoint.into())
    }

    /// The variables to add to a server's environment for virtual-host addressing; `None` if the store has none. The store serves as the
    /// server's HTTP proxy: then the SDK resolves no host, and a store takes requests in a proxy's form as its own (RFC 9112, 3.2.2).
    pub fn by_virtual_host(&self) -> Option<[(&'static str, String); 3]> {
        Some([
            ("S3_ADDRESSING", "virtual-host".to_owned()),
            ("S3_ENDPOINT", self.domain_endpoint()?),
            ("HTTP_PROXY", self.storage_settings.endpoint.to_string()),
        ])
    }

    /// The servers' three keys, by their roles.
    pub fn keys(&self) -> [(&'static str, Key); 3] {
        let keys = self.parts.store().keys.clone();
        [("server", keys.server), ("signer", keys.signer), ("reader", keys.reader)]
    }

    /// The key that makes buckets, which no server has: it may do more than any of them.
    pub fn admin_key(&self) -> &Key {
        &self.parts.store().admin
    }

    /// A further key with the rights in the policy; `None` with a given store, where the sandbox can make no key.
    ///
    /// # Errors
    /// If the policy cannot be parsed.
    pub fn further_key(&self, policy: &str) -> Result<Option<Key>> {
        self.parts.embedded().map(|embedded| embedded.add_key(policy)).transpose()
    }

    /// Whether the store is the embedded one.
    pub fn has_embedded_store(&self) -> bool {
        self.parts.embedded().is_some()
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

    /// Runs SQL as it is, on a separate connection, and returns all rows. A test should not assert on the database through the
    /// code under test.
    pub async fn sql(&self, sql: &str) -> Result<Vec<Row>> {
        databases::run(&self.database_url, sql).await.with_context(|| sql.to_owned())
    }

    /// The number of rows in `from`: a table's name, which a WHERE may follow.
    pub async fn count(&self, from: &str) -> Result<u64> {
        let rows = self.sql(&format!("SELECT count(*) FROM {from}")).await?;
        let count = rows.first().and_then(|row| row.first()?.as_deref()).context("a count has no row")?;
        Ok(count.parse()?)
    }

    /// Ends the time of every attempt, and then cleans up after them as `upload-ops sweep` does. Returns how many there were.
    ///
    /// # Errors
    /// If an object cannot be deleted.
    pub async fn sweep_attempts(&self) -> Result<usize> {
        self.sql("UPDATE image SET attempt_until = now() - interval '1 s' WHERE attempt IS NOT NULL").await?;
        self.sql("UPDATE image_attempt SET until = now() - interval '1 s'").await?;
        let mut connection = self.database.connection().await?;
        let abandoned = image_attempts::take_abandoned(&mut connection, 10_000).await?;
        let (ids, keys): (Vec<_>, Vec<_>) = abandoned.into_iter().map(|one| (one.id, one.key)).unzip();
        let kept = self.storage.empty(&keys, &BTreeMap::new()).await?;
        ensure!(kept.is_empty(), "objects that attempts left cannot be deleted: {kept:?}");
        Ok(image_attempts::forget(&mut connection, &ids).await?)
    }

    /// Makes the bucket keep versions, as `S3_PIN=version` needs.
    ///
    /// # Errors
    /// If the store has no versions.
    pub async fn enable_versioning(&self) -> Result<()> {
        match bucket::enable_versioning(&self.admin).await? {
            Outcome::Done | Outcome::AlreadyThere => Ok(()),
            Outcome::NotSupported(words) => bail!("the store has no versions: {words}"),
        }
    }

    /// Hides an object behind a delete marker, in a bucket with versions.
    ///
    /// # Errors
    /// If the store does not do it.
    pub async fn hide(&self, key: &str) -> Result<()> {
        // The stand's own settings have S3_PIN=copy, so this DELETE names no version.
        Ok(self.storage.delete(key).await?)
    }

    /// Ends the time of every form of a linked image, and then empties the incoming keys as `upload-ops sweep` does. Returns how many
    /// there were.
    ///
    /// # Errors
    /// If an object cannot be deleted.
    pub async fn sweep_incoming(&self) -> Result<usize> {
        let mut connection = self.database.connection().await?;
        let due = images::take_incoming(&mut connection, Duration::ZERO, 10_000).await?;
        let keys: Vec<String> = due.iter().map(|image| incoming_key(image.id)).collect();
        let ids: Vec<_> = due.iter().map(|image| image.id).collect();
        let pinned = due.into_iter().filter_map(|image| Some((incoming_key(image.id), image.media_version?)));
        let kept = self.storage.empty(&keys, &pinned.collect()).await?;
        ensure!(kept.is_empty(), "objects under incoming keys cannot be deleted: {kept:?}");
        Ok(images::incoming_emptied(&mut connection, &ids).await?)
    }

    /// The traffic that has reached the bucket so far, also while a body is on its way; `None` with a store that is not embedded.
    pub fn traffic(&self) -> Option<tokio::sync::watch::Receiver<Traffic>> {
        self.parts.embedded().map(|embedded| embedded.traffic(self.bucket()))
    }

    /// Removes the database and the bucket now, and reports what it could not remove.
    pub async fn remove(mut self) -> Result<()> {
        self.removed = true;
        self.start_removal().await?
    }

    /// On the sandbox's runtime, since the test's may be about to end.
    fn start_removal(&self) -> JoinHandle<Result<()>> {
        let parts = Arc::clone(&self.parts);
        let database_name = self.database_name.clone();
        let admin_settings = self.admin_settings.clone();
        self.parts.handle().spawn(async move {
            let (database, bucket) = tokio::join!(parts.drop_database(&database_name), remove_bucket(&admin_settings));
            // If this is the sandbox's last user, it waits until the cluster has stopped.
            drop(tokio::task::spawn_blocking(move || drop(parts)));
            if let Err(bucket) = &bucket
                && database.is_err()
            {
                tracing::warn!("{bucket:#}");
            }
            database.and(bucket)
        })
    }

    /// The sandbox's runtime, which outlives this test's.
    pub fn runtime(&self) -> &Handle {
        self.parts.handle()
    }
}

impl Drop for Stand {
    /// Throw-away servers take everything with them, so nobody waits. On a given server this waits for the removal.
    fn drop(&mut self) {
        if self.removed {
            return;
        }
        let removal = self.start_removal();
        let (until_removed, removed) = std::sync::mpsc::channel::<()>();
        self.parts.handle().spawn(async move {
            match removal.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::warn!("{error:#}"),
                Err(error) => tracing::warn!(%error, "a removal broke off"),
            }
            drop(until_removed);
        });
        if self.parts.given() && removed.recv_timeout(LONGEST_REMOVAL) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(database = self.database_name, bucket = self.bucket(), "a removal takes too long");
        }
    }
}

/// Uses a separate client: the stand's client may have connections on the test's runtime, which may wait for this.
async fn remove_bucket(settings: &StorageSettings) -> Result<()> {
    let removed = bucket::empty_and_remove(&Storage::new(settings).await?).await;
    removed.with_context(|| format!("the bucket {} is left behind", settings.bucket))
}

fn settings_of_store(parts: &Parts, bucket: String) -> Result<(StorageSettings, StorageSettings, SignerSettings)> {
    let secret = |text: &String| SecretString::from(text.as_str());
    let S3Connection { endpoint, keys, admin } = parts.store();
    let storage = StorageSettings {
        endpoint: endpoint.parse().context("S3_ENDPOINT is not a URL")?,
        public_endpoint: None,
        region: parts.region().to_owned(),
        bucket,
        addressing: Addressing::Path,
        checksums: ChecksumMode::WhenRequired,
        access_key_id: Some(keys.server.id.clone()),
        secret_access_key: Some(secret(&keys.server.secret)),
        session_token: keys.server.session_token.as_ref().map(secret),
        profile: None,
        reader_access_key_id: Some(keys.reader.id.clone()),
        reader_secret_access_key: Some(secret(&keys.reader.secret)),
        reader_session_token: keys.reader.session_token.as_ref().map(secret),
        reader_profile: None,
        allow_one_key: false,
        pin: Pin::Copy,
        key_check: parts.key_check(),
        media_public_base_url: None,
    };
    let signer = SignerSettings {
        access_key_id: Some(keys.signer.id.clone()),
        secret_access_key: Some(secret(&keys.signer.secret)),
        session_token: keys.signer.session_token.as_ref().map(secret),
        profile: None,
    };
    let admin = StorageSettings {
        access_key_id: Some(admin.id.clone()),
        secret_access_key: Some(secret(&admin.secret)),
        session_token: admin.session_token.as_ref().map(secret),
        ..storage.clone()
    };
    Ok((storage, admin, signer))
}
