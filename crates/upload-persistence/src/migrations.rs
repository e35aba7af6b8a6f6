//! The migrations of the workspace's `migrations/` folder, embedded. Only `upload-ops migrate` and sandboxes run them. The
//! servers only compare the database with them.
//!
//! diesel-async's harness blocks, and panics on a current-thread runtime. So it runs on a thread with a runtime of its own,
//! and you can call these functions from anywhere.

use std::{collections::BTreeSet, time::Duration};

use diesel::{
    migration::{Migration, MigrationSource, Result as HarnessResult},
    pg::Pg,
};
use diesel_async::{AsyncMigrationHarness, AsyncPgConnection, RunQueryDsl};
use diesel_migrations::{EmbeddedMigrations, MigrationHarness, embed_migrations};
use tokio::{runtime, sync::oneshot, time};

use crate::{Database, DatabaseError, DatabaseSettings, QueryError, SettingsError, applied, endpoint::Endpoint};

const MIGRATIONS: EmbeddedMigrations = embed_migrations!("../../migrations");

/// The advisory lock that keeps two migrations from running at the same time. The number is arbitrary.
const LOCK: i64 = 7_305_521_406_521;
/// How often a second one asks for it. It must not wait in a statement: `CREATE INDEX CONCURRENTLY` waits until every statement that runs has
/// ended, so both would wait for each other.
const LOCK_PAUSE: Duration = Duration::from_millis(100);

diesel::define_sql_function! {
    /// Takes the session's lock of this number, unless another session has it.
    fn pg_try_advisory_lock(number: diesel::sql_types::Int8) -> Bool;
}

/// Why migrations did not run.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// The settings cannot work.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// The database cannot be reached.
    #[error("the database cannot be reached")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A migration failed; those before it stay applied.
    #[error("a migration failed")]
    Failed(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// How a database's schema compares with the migrations of this binary. Versions are oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SchemaStanding {
    /// Every migration of this binary has been applied, and no other.
    Current,
    /// Some have not been applied; in an empty database all.
    Older {
        /// Their versions.
        missing: Vec<String>,
    },
    /// A later binary has applied some that this one does not know; others may be missing.
    Newer {
        /// Their versions.
        unknown: Vec<String>,
    },
}

/// Compares the schema with the migrations, in one round trip. It needs only the right to read the tables.
pub async fn standing(database: &Database) -> Result<SchemaStanding, DatabaseError> {
    let known = embedded().map_err(|error| DatabaseError::Query(QueryError::DeserializationError(error)))?;
    let mut connection = database.connection().await?;
    let applied = applied::versions(&mut connection).await?;
    let unknown: Vec<String> = applied.difference(&known).cloned().collect();
    let missing: Vec<String> = known.difference(&applied).cloned().collect();
    Ok(match (unknown.is_empty(), missing.is_empty()) {
        (true, true) => SchemaStanding::Current,
        (true, false) => SchemaStanding::Older { missing },
        (false, _) => SchemaStanding::Newer { unknown },
    })
}

/// Applies the missing migrations, and returns their versions, oldest first.
pub async fn run(settings: &DatabaseSettings) -> Result<Vec<String>, MigrationError> {
    on_a_thread(settings, |harness| {
        let applied = harness.run_pending_migrations(MIGRATIONS)?;
        Ok(applied.iter().map(ToString::to_string).collect())
    })
    .await
}

/// Reverts every migration, newest first. All data is lost.
pub async fn revert_all(settings: &DatabaseSettings) -> Result<Vec<String>, MigrationError> {
    on_a_thread(settings, |harness| {
        let reverted = harness.revert_all_migrations(MIGRATIONS)?;
        Ok(reverted.iter().map(ToString::to_string).collect())
    })
    .await
}

fn embedded() -> HarnessResult<BTreeSet<String>> {
    let migrations: Vec<Box<dyn Migration<Pg>>> = MIGRATIONS.migrations()?;
    Ok(migrations.iter().map(|migration| migration.name().version().to_string()).collect())
}

type Harness = AsyncMigrationHarness<AsyncPgConnection>;

async fn on_a_thread(
    settings: &DatabaseSettings,
    migrate: fn(&mut Harness) -> HarnessResult<Vec<String>>,
) -> Result<Vec<String>, MigrationError> {
    let endpoint = settings.unlimited_endpoint()?;
    let limit = settings.connect_timeout();
    let (sender, receiver) = oneshot::channel();
    std::thread::spawn(move || {
        let outcome = runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| MigrationError::Unavailable(error.into()))
            .and_then(|runtime| {
                let connection = runtime.block_on(connect(endpoint, limit)).map_err(MigrationError::Unavailable)?;
                let _context = runtime.enter();
                migrate(&mut AsyncMigrationHarness::new(connection)).map_err(MigrationError::Failed)
            });
        // Nobody receives it if the caller was cancelled.
        let _ = sender.send(outcome);
    });
    receiver.await.map_err(|error| MigrationError::Failed(error.into()))?
}

async fn connect(
    endpoint: Endpoint,
    limit: Duration,
) -> Result<AsyncPgConnection, Box<dyn std::error::Error + Send + Sync>> {
    let (client, connection) = time::timeout(limit, endpoint.connect()).await??;
    let mut connection = AsyncPgConnection::try_from_client_and_connection(client, connection).await?;
    while !diesel::select(pg_try_advisory_lock(LOCK)).get_result::<bool>(&mut connection).await? {
        time::sleep(LOCK_PAUSE).await;
    }
    Ok(connection)
}
