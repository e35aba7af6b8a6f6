//! The pool of connections, and the kinds of its errors.
//!
//! Every connection and the task that drives it live on the runtime that [`Database::new`] was given: actix's workers have
//! runtimes of their own that end with them, and a connection opened there would die while others use it.
//!
//! Postgres ends a statement that runs too long, but only if it still answers. So each use of a connection has a limit too. After
//! twice the statement timeout the connection is closed, and its user gets [`DatabaseError::Unavailable`].

use std::{
    ops::{Deref, DerefMut},
    time::Duration,
};

use chrono::{DateTime, Utc};
use deadpool::{
    Runtime,
    managed::{
        Manager, Metrics, Object, Pool, PoolError, QueueMode, RecycleError, RecycleResult, TimeoutType, Timeouts,
    },
};
use diesel::{IntoSql, result::DatabaseErrorKind, sql_types::Integer};
use diesel_async::{AsyncPgConnection, RunQueryDsl, pooled_connection::PoolableConnection};
use tokio::{runtime::Handle, task::AbortHandle, time};

use crate::{DatabaseSettings, QueryError, SettingsError, endpoint::Endpoint};

type Source = Box<dyn std::error::Error + Send + Sync>;

diesel::define_sql_function! {
    /// The current time. (`now()` is the time at which the transaction began.)
    fn clock_timestamp() -> Timestamptz;
}

diesel::define_sql_function! {
    /// Whether the server only follows another one.
    fn pg_is_in_recovery() -> Bool;
}

/// Why a query failed.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    /// Every connection is in use, and none became free in time.
    #[error("no database connection became free in time")]
    Overloaded,
    /// The database cannot be reached, went away or took too long; the same may work later.
    #[error("the database is unavailable")]
    Unavailable(#[source] Source),
    /// The statement failed: the fault is in it or in the schema, and trying again does not help.
    #[error("a database statement failed")]
    Query(#[source] QueryError),
}

/// Postgres, through a pool of connections that are opened when needed. Clones share the pool.
#[derive(Clone)]
pub struct Database {
    pool: Pool<Opener>,
    runtime: Handle,
    wait_timeout: Duration,
    use_timeout: Duration,
}

/// A connection for exclusive use until it is dropped.
pub struct PooledConnection {
    session: Object<Opener>,
    watch: AbortHandle,
}

impl Database {
    /// Prepares the pool; nothing is connected yet. Connections will live on `runtime`.
    pub fn new(settings: &DatabaseSettings, runtime: Handle) -> Result<Self, SettingsError> {
        let opener = Opener {
            endpoint: settings.session_endpoint()?,
            connect_timeout: settings.connect_timeout(),
            runtime: runtime.clone(),
        };
        let pool = Pool::builder(opener)
            .max_size(settings.database_pool_size as usize)
            // The connection used last has the warmest cache of statements.
            .queue_mode(QueueMode::Lifo)
            .runtime(Runtime::Tokio1)
            .build()?;
        Ok(Self { pool, runtime, wait_timeout: settings.wait_timeout(), use_timeout: settings.use_timeout() })
    }

    /// A connection, waited for no longer than the settings say.
    pub async fn connection(&self) -> Result<PooledConnection, DatabaseError> {
        self.connection_within(self.wait_timeout).await
    }

    /// A connection, waited for up to `limit`, or as long as the settings say if that is longer. All who wait get theirs in order of arrival.
    pub async fn connection_within(&self, limit: Duration) -> Result<PooledConnection, DatabaseError> {
        let timeouts = Timeouts { wait: Some(limit.max(self.wait_timeout)), ..self.pool.timeouts() };
        let session = self.pool.timeout_get(&timeouts).await.map_err(|error| match error {
            PoolError::Timeout(TimeoutType::Wait) => DatabaseError::Overloaded,
            PoolError::Backend(source) => DatabaseError::Unavailable(source),
            other => DatabaseError::Unavailable(other.to_string().into()),
        })?;
        let driver = session.driver.clone();
        let limit = self.use_timeout;
        let watch = self.runtime.spawn(async move {
            time::sleep(limit).await;
            tracing::error!(
                limit_ms = limit.as_millis() as u64,
                "A database connection was in use for too long and was closed"
            );
            driver.abort();
        });
        Ok(PooledConnection { session, watch: watch.abort_handle() })
    }

    /// What the database's clock says now.
    pub async fn now(&self) -> Result<DateTime<Utc>, DatabaseError> {
        let mut connection = self.connection().await?;
        Ok(diesel::select(clock_timestamp()).get_result(&mut *connection).await?)
    }

    /// Whether it is a standby, which takes no writes and may lag behind its primary.
    pub async fn is_in_recovery(&self) -> Result<bool, DatabaseError> {
        let mut connection = self.connection().await?;
        Ok(diesel::select(pg_is_in_recovery()).get_result(&mut *connection).await?)
    }

    /// Checks that the database answers.
    pub async fn ping(&self) -> Result<(), DatabaseError> {
        let mut connection = self.connection().await?;
        let one: i32 = diesel::select(1_i32.into_sql::<Integer>()).get_result(&mut *connection).await?;
        debug_assert_eq!(one, 1);
        Ok(())
    }
}

impl std::fmt::Debug for Database {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Database").field("pool", &self.pool.status()).finish_non_exhaustive()
    }
}

impl Deref for PooledConnection {
    type Target = AsyncPgConnection;

    fn deref(&self) -> &AsyncPgConnection {
        &self.session.connection
    }
}

impl DerefMut for PooledConnection {
    fn deref_mut(&mut self) -> &mut AsyncPgConnection {
        &mut self.session.connection
    }
}

impl Drop for PooledConnection {
    fn drop(&mut self) {
        self.watch.abort();
    }
}

impl From<QueryError> for DatabaseError {
    /// A lost connection, a timeout or a conflict that another try resolves is [`Self::Unavailable`].
    ///
    /// diesel-async hides SQLSTATE, so codes that Diesel has no kind for are recognised by the server's text. The text is English with
    /// the usual `lc_messages`; in another language such errors count as [`Self::Query`].
    fn from(error: QueryError) -> Self {
        let passing = match &error {
            QueryError::DatabaseError(kind, information) => match kind {
                DatabaseErrorKind::ClosedConnection
                | DatabaseErrorKind::UnableToSendCommand
                | DatabaseErrorKind::SerializationFailure
                | DatabaseErrorKind::ReadOnlyTransaction => true,
                DatabaseErrorKind::Unknown => [
                    "canceling statement due to",
                    "terminating connection",
                    "the database system is",
                    "deadlock detected",
                ]
                .iter()
                .any(|start| information.message().starts_with(start)),
                _ => false,
            },
            QueryError::BrokenTransactionManager => true,
            _ => false,
        };
        if passing { Self::Unavailable(Box::new(error)) } else { Self::Query(error) }
    }
}

/// Opens connections for the pool.
struct Opener {
    endpoint: Endpoint,
    connect_timeout: Duration,
    runtime: Handle,
}

/// A connection and the task that drives it.
struct Session {
    connection: AsyncPgConnection,
    driver: AbortHandle,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Otherwise an abandoned statement would keep the socket open.
        self.driver.abort();
    }
}

impl Manager for Opener {
    type Type = Session;
    type Error = Source;

    async fn create(&self) -> Result<Session, Source> {
        let opened = open(self.endpoint.clone());
        let limit = self.connect_timeout;
        // All of this runs on the given runtime: a socket belongs to the runtime on which it was opened.
        self.runtime.spawn(time::timeout(limit, opened)).await??
    }

    async fn recycle(&self, session: &mut Session, _metrics: &Metrics) -> RecycleResult<Source> {
        if session.driver.is_finished() || session.connection.is_broken() {
            return Err(RecycleError::message("the connection is closed or in an unfinished transaction"));
        }
        Ok(())
    }
}

/// Connects, and drives the connection on the current runtime.
async fn open(endpoint: Endpoint) -> Result<Session, Source> {
    let (client, connection) = endpoint.connect().await?;
    let driver = tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::warn!(error = &error as &dyn std::error::Error, "A database connection was lost");
        }
    })
    .abort_handle();
    let connection = AsyncPgConnection::try_from(client).await?;
    Ok(Session { connection, driver })
}
