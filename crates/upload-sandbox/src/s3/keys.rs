//! The keys of a store, made at random or read from the environment: the three of the servers, and the admin's, with which the sandbox
//! makes and removes buckets.

use std::{env, fmt};

use anyhow::Context as _;

/// One access key. Its `Debug` shows the id only.
#[derive(Clone, PartialEq, Eq)]
pub struct Key {
    /// Access key id; visible in every form and URL that the key signs.
    pub id: String,
    /// Secret access key.
    pub secret: String,
    /// Session token of temporary credentials.
    pub session_token: Option<String>,
}

/// The servers' keys of one store, each with its own purpose.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ThreeKeys {
    /// May read, write and delete in `incoming/*` and `media/*`, and list; never in a URL or form.
    pub server: Key,
    /// `PutObject` on `incoming/*` only; signs what clients upload with.
    pub signer: Key,
    /// `GetObject` on `media/*` only; signs what clients read with.
    pub reader: Key,
}

/// How to reach a store: its address and its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct S3Connection {
    /// Base URL without a bucket.
    pub endpoint: String,
    /// The servers' keys.
    pub keys: ThreeKeys,
    /// May do everything, also make and remove buckets. No server has this key.
    pub admin: Key,
}

impl S3Connection {
    /// The store that `S3_ENDPOINT` names, with its keys in `S3_ACCESS_KEY_ID`, `S3_SECRET_ACCESS_KEY` and, for temporary
    /// credentials, `S3_SESSION_TOKEN`, and the same three with the prefixes `S3_SIGNER_` and `S3_READER_`; `None` without
    /// `S3_ENDPOINT`. The admin's key is in the same three with the prefix `S3_ADMIN_`; without those the server's key is used.
    /// `scripts/minio` sets them all.
    ///
    /// # Errors
    /// If a variable is missing beside `S3_ENDPOINT`; the message names the first one.
    pub fn from_environment() -> anyhow::Result<Option<Self>> {
        Self::from_variables(|name| env::var(name).ok())
    }

    fn from_variables(variable: impl Fn(&str) -> Option<String>) -> anyhow::Result<Option<Self>> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let Some(endpoint) = set("S3_ENDPOINT") else { return Ok(None) };
        let key = |prefix: &str| {
            let required = |suffix: &str| {
                let name = format!("{prefix}{suffix}");
                set(&name).with_context(|| format!("S3_ENDPOINT is set, so {name} must be set too"))
            };
            anyhow::Ok(Key {
                id: required("ACCESS_KEY_ID")?,
                secret: required("SECRET_ACCESS_KEY")?,
                session_token: set(&format!("{prefix}SESSION_TOKEN")),
            })
        };
        let keys = ThreeKeys { server: key("S3_")?, signer: key("S3_SIGNER_")?, reader: key("S3_READER_")? };
        let admin = if set("S3_ADMIN_ACCESS_KEY_ID").is_some() { key("S3_ADMIN_")? } else { keys.server.clone() };
        Ok(Some(Self { endpoint, keys, admin }))
    }
}

impl ThreeKeys {
    pub(super) fn random() -> Self {
        Self { server: Key::random("server"), signer: Key::random("signer"), reader: Key::random("reader") }
    }
}

impl Key {
    pub(super) fn random(job: &str) -> Self {
        Self {
            id: format!("{job}{:016x}", rand::random::<u64>()),
            secret: format!("{:032x}{:032x}", rand::random::<u128>(), rand::random::<u128>()),
            session_token: None,
        }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Key").field("id", &self.id).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn complete(name: &str) -> Option<String> {
        (!name.ends_with("SESSION_TOKEN")).then(|| format!("value of {name}"))
    }

    #[test]
    fn a_store_from_the_environment_has_its_keys() {
        let connection = S3Connection::from_variables(complete).unwrap().unwrap();
        assert_eq!(connection.endpoint, "value of S3_ENDPOINT");
        assert_eq!(connection.keys.signer.id, "value of S3_SIGNER_ACCESS_KEY_ID");
        assert_eq!(connection.keys.reader.secret, "value of S3_READER_SECRET_ACCESS_KEY");
        assert_eq!(connection.keys.server.session_token, None);
        assert_eq!(connection.admin.id, "value of S3_ADMIN_ACCESS_KEY_ID");
    }

    #[test]
    fn a_store_without_an_admin_is_administered_by_the_server() {
        let connection = S3Connection::from_variables(|name| complete(name).filter(|_| !name.contains("ADMIN")));
        let connection = connection.unwrap().unwrap();
        assert_eq!(connection.admin, connection.keys.server);
    }

    #[test]
    fn without_an_endpoint_there_is_no_store_and_a_missing_key_is_named() {
        assert_eq!(S3Connection::from_variables(|_| None).unwrap(), None);
        let error = S3Connection::from_variables(|name| complete(name).filter(|_| !name.contains("READER")));
        assert!(error.unwrap_err().to_string().contains("S3_READER_ACCESS_KEY_ID"));
    }

    #[test]
    fn debug_hides_the_secret() {
        let key = Key::random("signer");
        assert!(!format!("{key:?}").contains(&key.secret));
        assert_ne!(key, Key::random("signer"));
    }
}
