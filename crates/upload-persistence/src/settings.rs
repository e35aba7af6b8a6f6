//! How to reach Postgres, from flags and environment, and the checks that need no network.

use std::{path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};

use crate::endpoint::Endpoint;

/// How to reach Postgres and how long to wait for it.
#[derive(Debug, Clone, clap::Args)]
pub struct DatabaseSettings {
    /// The Postgres database, as postgres://user:password@host:5432/database. To check its certificate, add
    /// ?sslmode=verify-full and, if the system does not trust its authority, &sslrootcert=/path/to/authority.pem
    #[arg(long, env, hide_env_values = true)]
    pub database_url: SecretString,

    /// Most connections to the database
    #[arg(long, env, default_value_t = Self::POOL_SIZE, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_pool_size: u32,

    /// How long a request may wait for a free connection, in milliseconds. A link waits a quarter of its lease, whatever is set here
    #[arg(long, env, default_value_t = Self::WAIT_TIMEOUT_MS, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub database_wait_timeout_ms: u64,

    /// How long one statement may run, in milliseconds
    #[arg(long, env, default_value_t = Self::STATEMENT_TIMEOUT_MS, value_parser = clap::value_parser!(u64).range(1..=600_000))]
    pub database_statement_timeout_ms: u64,

    /// How long connecting may take, in milliseconds
    #[arg(long, env, default_value_t = Self::CONNECT_TIMEOUT_MS, value_parser = clap::value_parser!(u64).range(1..=60_000))]
    pub database_connect_timeout_ms: u64,
}

/// Settings that cannot work.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// It is not a Postgres URL.
    #[error("DATABASE_URL is not a Postgres URL; it should look like postgres://user:password@host:5432/database")]
    NoUrl,
    /// It has more than one @.
    #[error(
        "DATABASE_URL has more than one @; write an @ in a password as %40; it should look like \
         postgres://user:password@host:5432/database"
    )]
    AtSign,
    /// The URL cannot be read.
    #[error("DATABASE_URL cannot be read{}; it should look like postgres://user:password@host:5432/database", because(.0))]
    Url(#[from] tokio_postgres::Error),
    /// The URL names no host.
    #[error("DATABASE_URL names no host; it should look like postgres://user:password@host:5432/database")]
    NoHost,
    /// `sslmode=verify-ca`.
    #[error(
        "DATABASE_URL has sslmode=verify-ca, which would trust any server with a certificate; set sslmode=verify-full"
    )]
    VerifyCa,
    /// `sslmode=allow`.
    #[error("DATABASE_URL has sslmode=allow, which is not supported; set sslmode=prefer, or better verify-full")]
    Allow,
    /// Another value of `sslmode`.
    #[error("DATABASE_URL has the unknown sslmode={0}; set disable, prefer, require or verify-full")]
    SslMode(String),
    /// `sslrootcert` without `verify-full`.
    #[error(
        "DATABASE_URL has sslrootcert, which works only with sslmode=verify-full; set that, or leave sslrootcert out"
    )]
    RootsUnused,
    /// The file of `sslrootcert` cannot be used.
    #[error(
        "DATABASE_URL has sslrootcert={}, but no certificate can be read from there ({cause}); it must name a PEM file with \
         the certificates of the authorities to trust", path.display()
    )]
    Roots {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: String,
    },
    /// `verify-full` without `sslrootcert` on a system without roots.
    #[error(
        "DATABASE_URL has sslmode=verify-full without sslrootcert, but this system has no trusted root certificates{}; install \
         ca-certificates, or set sslrootcert to a PEM file with the certificate of the server's authority", in_brackets(.0)
    )]
    NoSystemRoots(String),
    /// TLS cannot be set up.
    #[error("cannot set up TLS for DATABASE_URL ({0}); this is a bug in the program")]
    Tls(#[from] rustls::Error),
    /// The pool cannot be built.
    #[error("cannot build the pool of database connections")]
    Pool(#[from] deadpool::managed::BuildError),
}

impl DatabaseSettings {
    const POOL_SIZE: u32 = 8;
    const WAIT_TIMEOUT_MS: u64 = 2000;
    const STATEMENT_TIMEOUT_MS: u64 = 5000;
    const CONNECT_TIMEOUT_MS: u64 = 3000;

    /// The defaults for a URL.
    pub fn for_url(database_url: impl Into<String>) -> Self {
        Self {
            database_url: SecretString::from(database_url.into()),
            database_pool_size: Self::POOL_SIZE,
            database_wait_timeout_ms: Self::WAIT_TIMEOUT_MS,
            database_statement_timeout_ms: Self::STATEMENT_TIMEOUT_MS,
            database_connect_timeout_ms: Self::CONNECT_TIMEOUT_MS,
        }
    }

    /// Refuses settings that cannot work, without connecting.
    pub fn check(&self) -> Result<(), SettingsError> {
        Endpoint::parse(self.database_url.expose_secret()).map(|_endpoint| ())
    }

    pub(crate) fn wait_timeout(&self) -> Duration {
        Duration::from_millis(self.database_wait_timeout_ms)
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.database_connect_timeout_ms)
    }

    /// How long one use of a connection may take in all: longer than one slow statement, but bounded.
    pub(crate) fn use_timeout(&self) -> Duration {
        Duration::from_millis(self.database_statement_timeout_ms * 2)
    }

    /// The endpoint for the pool's sessions. The limits are sent as start-up options, which need no round trip.
    pub(crate) fn session_endpoint(&self) -> Result<Endpoint, SettingsError> {
        let mut endpoint = self.unlimited_endpoint()?;
        let options = format!(
            "{} -c statement_timeout={} -c idle_in_transaction_session_timeout={}",
            endpoint.config.get_options().unwrap_or_default(),
            self.database_statement_timeout_ms,
            self.database_statement_timeout_ms,
        );
        endpoint.config.options(options.trim_start());
        endpoint.config.tcp_user_timeout(self.use_timeout());
        Ok(endpoint)
    }

    /// The same without a limit on statements, for migrations.
    pub(crate) fn unlimited_endpoint(&self) -> Result<Endpoint, SettingsError> {
        let mut endpoint = Endpoint::parse(self.database_url.expose_secret())?;
        endpoint.config.connect_timeout(self.connect_timeout());
        if endpoint.config.get_application_name().is_none() {
            endpoint.config.application_name("upload-servers");
        }
        Ok(endpoint)
    }
}

/// The reason that `tokio-postgres` gives; it is in the error's cause.
fn because(error: &tokio_postgres::Error) -> String {
    in_brackets(&std::error::Error::source(error).map(ToString::to_string).unwrap_or_default())
}

fn in_brackets(cause: &str) -> String {
    if cause.is_empty() { String::new() } else { format!(" ({cause})") }
}
