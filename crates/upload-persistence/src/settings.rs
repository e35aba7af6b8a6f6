//! How to reach Postgres, from flags and environment, and the checks that need no network.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio_postgres::config::{Config, SslMode};

/// How to reach Postgres and how long to wait for it.
#[derive(Debug, Clone, clap::Args)]
pub struct DatabaseSettings {
    /// Postgres to use, as postgres://user:password@host:5432/database
    #[arg(long, env, hide_env_values = true)]
    pub database_url: SecretString,

    /// Most connections to open
    #[arg(long, env, default_value_t = Self::POOL_SIZE, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub database_pool_size: u32,

    /// How long a request may wait for a free connection, in milliseconds
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
    /// The URL cannot be read.
    #[error("DATABASE_URL is not a Postgres URL such as postgres://user:password@host:5432/database: {0}")]
    Url(#[source] tokio_postgres::Error),
    /// The URL names no host.
    #[error("DATABASE_URL names no host; it should look like postgres://user:password@host:5432/database")]
    NoHost,
    /// The URL asks for TLS.
    #[error(
        "DATABASE_URL asks for TLS (sslmode), which this version does not speak; \
         use sslmode=disable or sslmode=prefer over a network that you trust"
    )]
    Tls,
    /// The pool cannot be built.
    #[error("the pool of database connections cannot be built")]
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
        parse_url(self.database_url.expose_secret()).map(|_config| ())
    }

    pub(crate) fn wait_timeout(&self) -> Duration {
        Duration::from_millis(self.database_wait_timeout_ms)
    }

    pub(crate) fn connect_timeout(&self) -> Duration {
        Duration::from_millis(self.database_connect_timeout_ms)
    }

    /// How long one use of a connection may take in all: more than one slow statement, less than for ever.
    pub(crate) fn use_timeout(&self) -> Duration {
        Duration::from_millis(self.database_statement_timeout_ms * 2)
    }

    /// What sessions of the pool start with. The server's own limits are start-up options: they cost no round trip.
    pub(crate) fn session_config(&self) -> Result<Config, SettingsError> {
        let mut config = self.unlimited_config()?;
        let options = format!(
            "{} -c statement_timeout={} -c idle_in_transaction_session_timeout={}",
            config.get_options().unwrap_or_default(),
            self.database_statement_timeout_ms,
            self.database_statement_timeout_ms,
        );
        config.options(options.trim_start());
        config.tcp_user_timeout(self.use_timeout());
        Ok(config)
    }

    /// The same without a limit on statements, for migrations.
    pub(crate) fn unlimited_config(&self) -> Result<Config, SettingsError> {
        let mut config = parse_url(self.database_url.expose_secret())?;
        config.connect_timeout(self.connect_timeout());
        if config.get_application_name().is_none() {
            config.application_name("upload-servers");
        }
        Ok(config)
    }
}

/// Reads a URL, and refuses TLS in words: otherwise `verify-full` would be an unknown word, and `require` a failure to connect.
pub(crate) fn parse_url(url: &str) -> Result<Config, SettingsError> {
    if url.contains("sslmode=verify-") {
        return Err(SettingsError::Tls);
    }
    let config: Config = url.parse().map_err(SettingsError::Url)?;
    if config.get_ssl_mode() == SslMode::Require {
        return Err(SettingsError::Tls);
    }
    if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
        return Err(SettingsError::NoHost);
    }
    Ok(config)
}
