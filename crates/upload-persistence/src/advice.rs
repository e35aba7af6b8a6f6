//! The sentence for an operator when a program cannot start with its database. It names `DATABASE_URL` and says what to do. It quotes
//! the server's message, which names the user and the database but never the password.

use std::error::Error;

use tokio_postgres::error::SqlState;

use crate::{DatabaseError, TlsError, migrations::SchemaStanding};

impl DatabaseError {
    /// What is wrong, and what to do about it.
    pub fn advice(&self) -> String {
        let causes = causes(self);
        if let Some(error) = causes.iter().find_map(|cause| cause.downcast_ref::<TlsError>()) {
            return error.to_string();
        }
        let cause = causes.last().map_or_else(|| self.to_string(), ToString::to_string);
        let code = causes.iter().find_map(|cause| cause.downcast_ref::<tokio_postgres::Error>()?.code());
        let (fault, remedy) = match code {
            Some(&SqlState::INVALID_PASSWORD) => ("the database refuses the user", "correct the user and the password"),
            Some(&SqlState::INVALID_AUTHORIZATION_SPECIFICATION) => (
                "the database refuses the user",
                "correct user and database, or set the sslmode that its pg_hba.conf asks for (verify-full and require encrypt)",
            ),
            Some(&SqlState::INVALID_CATALOG_NAME) => {
                ("there is no such database", "create it and run `upload-ops migrate`, or correct the name")
            }
            Some(&SqlState::TOO_MANY_CONNECTIONS) => {
                ("the database accepts no more connections", "raise its max_connections, or lower DATABASE_POOL_SIZE")
            }
            Some(&SqlState::CANNOT_CONNECT_NOW) => ("the database is not ready", "wait until it has started"),
            Some(_) => ("the database refuses the connection", "correct the URL or the database's settings"),
            None if matches!(self, Self::Query(_)) => (
                "the database gave an unexpected answer",
                "give the user the right to read and write every table of its schema",
            ),
            None if matches!(self, Self::Overloaded) => {
                ("no connection became free in time", "raise DATABASE_POOL_SIZE or DATABASE_WAIT_TIMEOUT_MS")
            }
            None => ("the database cannot be reached", "check that it runs, or correct host, port and sslmode"),
        };
        format!("DATABASE_URL: {fault} ({cause}); {remedy}")
    }
}

impl SchemaStanding {
    /// What is wrong, and what to do about it; `None` if nothing is wrong.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Current => None,
            Self::Older { missing } => Some(format!(
                "DATABASE_URL: the database lacks migrations that this binary needs ({}); run `upload-ops migrate` of the same version",
                missing.join(", ")
            )),
            Self::Newer { unknown } => Some(format!(
                "DATABASE_URL: this binary is older than the database, which has unknown migrations ({}); \
                 use the version that applied them, or a later one",
                unknown.join(", ")
            )),
        }
    }
}

/// The error's causes, the innermost last.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let mut causes = Vec::new();
    let mut next = error.source();
    while let Some(cause) = next {
        causes.push(cause);
        next = cause.source();
    }
    causes
}
