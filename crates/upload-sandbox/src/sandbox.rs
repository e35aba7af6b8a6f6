//! The parts that all tests of a process share: one Postgres, one S3 store, and a runtime that outlives each test's own.
//!
//! Every `#[tokio::test]` has a runtime that ends with the test, together with all tasks on it. So the shared parts live on the
//! sandbox's own runtime, in its own threads.

use std::{
    env,
    sync::{Arc, OnceLock},
};

use anyhow::{Context, Result, anyhow};
use clap::ValueEnum as _;
use tokio::runtime::{Handle, Runtime};
use upload_persistence::{DatabaseSettings, databases, migrations};
use upload_storage::KeyCheck;
use url::Url;

use crate::{
    postgres::Cluster,
    s3::{self, EmbeddedS3, S3Connection},
    stand::Stand,
};

const TEMPLATE: &str = "sandbox_template";

/// A Postgres and an S3 store: throw-away ones, or those that `DATABASE_URL` and `S3_ENDPOINT` (with keys) name.
#[derive(Debug, Clone)]
pub struct Sandbox {
    parts: Arc<Parts>,
}

#[derive(Debug)]
pub(crate) struct Parts {
    admin_url: Url,
    /// A migrated database to copy; `None` on a given server, where it would be left behind.
    template: Option<&'static str>,
    store: S3Connection,
    region: String,
    /// How servers check the rights of a given store's keys.
    key_check: KeyCheck,
    /// Whether something would stay behind, outside of this process, if nobody waited for its removal.
    given: bool,
    runtime: Option<Runtime>,
    cluster: Option<Cluster>,
    embedded: Option<EmbeddedS3>,
}

impl Sandbox {
    /// The sandbox of this process; the first call starts it.
    ///
    /// # Panics
    /// If it does not start; the message says what is missing.
    pub async fn shared() -> &'static Self {
        static SHARED: OnceLock<Result<Sandbox, String>> = OnceLock::new();
        let started = tokio::task::spawn_blocking(|| {
            SHARED.get_or_init(|| Self::start_blocking().map_err(|error| format!("{error:#}")))
        });
        match started.await {
            Ok(Ok(sandbox)) => sandbox,
            Ok(Err(error)) => panic!("the sandbox does not start: {error}"),
            Err(error) => panic!("the sandbox does not start: {error}"),
        }
    }

    /// Starts a sandbox that ends when the value and all of its stands are dropped, or with the process.
    pub async fn start() -> Result<Self> {
        tokio::task::spawn_blocking(Self::start_blocking).await?
    }

    fn start_blocking() -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("sandbox")
            .enable_all()
            .build()
            .context("the sandbox's threads do not start")?;
        let given_database = env::var("DATABASE_URL").ok().filter(|url| !url.is_empty());
        let given_store = S3Connection::from_environment()?;
        let given = given_database.is_some() || given_store.is_some();

        let (admin_url, cluster) = match given_database {
            Some(url) => (url, None),
            None => {
                let cluster = Cluster::start()?;
                (cluster.admin_url().to_owned(), Some(cluster))
            }
        };
        let admin_url = Url::parse(&admin_url).context("DATABASE_URL is not a URL")?;
        let (store, embedded) = match given_store {
            Some(store) => (store, None),
            None => {
                let embedded = runtime.block_on(EmbeddedS3::start())?;
                (embedded.connection().clone(), Some(embedded))
            }
        };
        let template = cluster.as_ref().map(|_| TEMPLATE);
        let region = env::var("S3_REGION").ok().filter(|region| embedded.is_none() && !region.is_empty());
        let region = region.unwrap_or_else(|| s3::REGION.to_owned());
        let key_check = env::var("S3_KEY_CHECK").ok().filter(|mode| embedded.is_none() && !mode.is_empty());
        let key_check = key_check.map_or(Ok(KeyCheck::Enforce), |mode| KeyCheck::from_str(&mode, false));
        let key_check = key_check.map_err(|_unknown| anyhow!("S3_KEY_CHECK must be `enforce`, `warn` or `off`"))?;
        let parts =
            Parts { admin_url, template, store, region, key_check, given, runtime: Some(runtime), cluster, embedded };
        if let Some(name) = template {
            parts.handle().block_on(parts.create_migrated(name))?;
        }
        Ok(Self { parts: Arc::new(parts) })
    }

    /// Makes a separate database and bucket.
    ///
    /// # Panics
    /// If they cannot be made; [`Sandbox::try_stand`] returns the error.
    pub async fn stand(&self) -> Stand {
        match self.try_stand().await {
            Ok(stand) => stand,
            Err(error) => panic!("no stand can be made: {error:#}"),
        }
    }

    /// A database and a bucket of one's own.
    pub async fn try_stand(&self) -> Result<Stand> {
        Stand::new(Arc::clone(&self.parts)).await
    }

    /// The throw-away cluster, unless `DATABASE_URL` names a server.
    pub fn cluster(&self) -> Option<&Cluster> {
        self.parts.cluster.as_ref()
    }

    /// The embedded store, unless `S3_ENDPOINT` names one. Its traffic can be watched; a real one's cannot.
    pub fn embedded_s3(&self) -> Option<&EmbeddedS3> {
        self.parts.embedded.as_ref()
    }

    /// The store's address and keys.
    pub fn store(&self) -> &S3Connection {
        &self.parts.store
    }

    /// The sandbox's own runtime, which outlives each test's.
    pub fn runtime(&self) -> &Handle {
        self.parts.handle()
    }
}

impl Parts {
    pub(crate) fn handle(&self) -> &Handle {
        match &self.runtime {
            Some(runtime) => runtime.handle(),
            None => unreachable!("the runtime is taken by drop alone"),
        }
    }

    pub(crate) fn store(&self) -> &S3Connection {
        &self.store
    }

    pub(crate) fn region(&self) -> &str {
        &self.region
    }

    pub(crate) fn key_check(&self) -> KeyCheck {
        self.key_check
    }

    pub(crate) fn embedded(&self) -> Option<&EmbeddedS3> {
        self.embedded.as_ref()
    }

    pub(crate) fn given(&self) -> bool {
        self.given
    }

    pub(crate) fn database_url(&self, name: &str) -> String {
        let mut url = self.admin_url.clone();
        url.set_path(name);
        url.into()
    }

    /// Makes a database with every table; copies the template if there is one.
    pub(crate) async fn create_database(&self, name: &str) -> Result<()> {
        match self.template {
            Some(template) => databases::create(self.admin_url.as_str(), name, Some(template))
                .await
                .with_context(|| format!("the database {name} cannot be created")),
            None => self.create_migrated(name).await,
        }
    }

    pub(crate) async fn drop_database(&self, name: &str) -> Result<()> {
        databases::drop_with_force(self.admin_url.as_str(), name)
            .await
            .with_context(|| format!("the database {name} is left behind"))
    }

    async fn create_migrated(&self, name: &str) -> Result<()> {
        databases::create(self.admin_url.as_str(), name, None)
            .await
            .with_context(|| format!("the database {name} cannot be created"))?;
        let migrated = migrations::run(&DatabaseSettings::for_url(self.database_url(name))).await;
        if let Err(error) = migrated {
            if let Err(removal) = self.drop_database(name).await {
                tracing::warn!("{removal:#}");
            }
            return Err(error).context("the migrations do not run");
        }
        Ok(())
    }
}

impl Drop for Parts {
    fn drop(&mut self) {
        // A plain drop of a runtime waits for it, which panics inside of another runtime.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
