//! Where Postgres is and how connections to it are protected: `DATABASE_URL`, read as libpq reads such a URL.
//!
//! `tokio-postgres` does not know `sslrootcert` or every `sslmode`, and refuses unknown parameters; so both are taken out of
//! the URL before it reads the rest. It would also accept libpq's form `host=… password=…`. That is refused here, because its
//! message about a mistake in such a text may repeat a part of the password.

use percent_encoding::percent_decode_str;
use tokio_postgres::{
    Client, Config, Connection, Socket,
    config::{Host, SslMode},
    error::SqlState,
    tls::MakeTlsConnect,
};
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{SettingsError, tls::Mode};

/// What `tokio-postgres` calls an error of TLS; the kind itself is private there
/// (<https://docs.rs/tokio-postgres/latest/src/tokio_postgres/error/mod.rs.html>). So is the cause of the next one.
const TLS_FAILED: &str = "error performing TLS handshake";
const NO_TLS: &str = "server does not support TLS";

/// The task that drives a connection.
pub(crate) type Driver = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

type Source = Box<dyn std::error::Error + Send + Sync>;

/// TLS with Postgres failed. The text names `DATABASE_URL` and says what to do; it contains no secret.
#[derive(Debug, thiserror::Error)]
#[error("DATABASE_URL ({mode}): {fault}")]
pub struct TlsError {
    mode: String,
    fault: String,
}

/// A server, or several to be tried in turn.
#[derive(Clone)]
pub(crate) struct Endpoint {
    pub(crate) config: Config,
    mode: Mode,
    connector: MakeRustlsConnect,
}

impl Endpoint {
    /// Reads a URL, and the certificates that it names.
    pub(crate) fn parse(url: &str) -> Result<Self, SettingsError> {
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(SettingsError::NoUrl);
        }
        let (credentials, place) = url.split_once('@').unwrap_or(("", url));
        if place.contains('@') {
            // Else the end of a password would count as host, or as a parameter, and be repeated in an error.
            return Err(SettingsError::AtSign);
        }
        let (place, query) = place.split_once('?').unwrap_or((place, ""));
        let (mut mode, mut roots, mut others) = (None, None, Vec::new());
        for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let value = || percent_decode_str(value).decode_utf8_lossy().into_owned();
            match &*percent_decode_str(name).decode_utf8_lossy() {
                "sslmode" => mode = Some(value()),
                "sslrootcert" => roots = Some(value()),
                _ => others.push(parameter),
            }
        }
        let mode = Mode::read(mode.as_deref(), roots.as_deref())?;
        let at = if url.contains('@') { "@" } else { "" };
        let mut config: Config = format!("{credentials}{at}{place}?{}", others.join("&")).parse()?;
        if config.get_hosts().is_empty() && config.get_hostaddrs().is_empty() {
            return Err(SettingsError::NoHost);
        }
        config.ssl_mode(mode.ssl_mode());
        Ok(Self { connector: mode.connector()?, config, mode })
    }

    /// Connects. A refusal by the server stays Postgres's own error, with its code; a failure of TLS becomes a [`TlsError`].
    pub(crate) async fn connect(&self) -> Result<(Client, Driver), Source> {
        let error = match self.config.connect(self.connector.clone()).await {
            Ok(connected) => return Ok(connected),
            Err(error) => error,
        };
        // As in libpq: with `prefer`, try without TLS if the server's TLS or its pg_hba.conf prevents the connection.
        if self.mode == Mode::Prefer && (is_of_tls(&error) || is_not_let_in(&error)) {
            let mut plain = self.config.clone();
            match plain.ssl_mode(SslMode::Disable).connect(self.connector.clone()).await {
                Ok(connected) => return Ok(connected),
                Err(second) => {
                    let second = &second as &dyn std::error::Error;
                    tracing::debug!(error = second, "The database cannot be reached without TLS either");
                }
            }
        }
        Err(match self.fault(&error) {
            Some(fault) => TlsError { mode: self.mode.to_string(), fault }.into(),
            None => error.into(),
        })
    }

    /// What is wrong with TLS, and what to do about it; `None` if the error is not about TLS.
    fn fault(&self, error: &tokio_postgres::Error) -> Option<String> {
        if !is_of_tls(error) {
            return None;
        }
        let server = self.server();
        let cause = std::error::Error::source(error)?;
        // `io::Error` hides the error in it from `source`.
        let inner = cause.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        Some(match inner.and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(rustls::Error::InvalidCertificate(error)) => {
                format!("the certificate of the server at {server} {}", self.mode.fault(error))
            }
            _ if cause.to_string() == NO_TLS => format!(
                "the server at {server} does not speak TLS; \
                 turn it on there (ssl = on), or set sslmode=disable if you trust the network"
            ),
            _ => format!(
                "TLS with the server at {server} fails ({cause}); check that it supports TLS 1.2 or later; \
                 sslnegotiation=direct needs Postgres 17 or later"
            ),
        })
    }

    /// The names and ports, for a sentence.
    fn server(&self) -> String {
        let ports = self.config.get_ports();
        let port = |index: usize| ports.get(index).or(ports.first()).copied().unwrap_or(5432);
        let named: Vec<String> = self.config.get_hosts().iter().map(name).collect();
        let addresses = self.config.get_hostaddrs().iter().map(ToString::to_string);
        let servers = if named.is_empty() { addresses.collect() } else { named };
        let with_ports = servers.iter().enumerate().map(|(index, server)| format!("{server}:{}", port(index)));
        with_ports.collect::<Vec<_>>().join(", ")
    }
}

fn name(host: &Host) -> String {
    match host {
        Host::Tcp(name) => name.clone(),
        Host::Unix(folder) => folder.display().to_string(),
    }
}

fn is_of_tls(error: &tokio_postgres::Error) -> bool {
    error.to_string() == TLS_FAILED
}

/// By pg_hba.conf, which may look at whether the connection is encrypted.
fn is_not_let_in(error: &tokio_postgres::Error) -> bool {
    error.code() == Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION)
}
