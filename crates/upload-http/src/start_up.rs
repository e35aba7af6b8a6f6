//! What must hold before a server takes its first request. Whatever does not is a wrong setting: one sentence that names it and
//! says what to do, and exit code 2.
//!
//! Nothing is tried again here: whoever starts the process (compose, systemd, Kubernetes) does that, and says that it had to.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use upload_persistence::Database;
use upload_storage::{Signer, Storage, StorageError, rights};

use crate::{
    SettingsError,
    probe::{Sight, Silence, look},
};

/// How long all of it may take; the keys' credentials have been fetched before, which has a limit of its own.
const LIMIT: Duration = Duration::from_secs(9);

/// Looks at the database with its schema, the bucket, the clocks, and what the keys may do; each role must have a key of its own.
pub(crate) async fn check(
    database: &Database,
    storage: &Storage,
    signer: Option<&Signer>,
) -> Result<Sight, SettingsError> {
    signer.map_or(Ok(()), |signer| storage.check_distinct(signer)).map_err(|error| SettingsError(error.to_string()))?;
    let deadline = Instant::now() + LIMIT;
    let sight = look(database, storage, LIMIT).await;
    judge(&sight, storage).map_err(SettingsError)?;
    let rights = timeout_at(deadline, async {
        match &sight.store {
            Err(Silence::Failed(error)) => Err(rights::refusal(storage, error).await),
            Err(Silence::NoAnswer) | Ok(_) => rights::check(storage, signer).await,
        }
    });
    match rights.await {
        Ok(Ok(())) => Ok(sight),
        Ok(Err(error)) => Err(SettingsError(error.to_string())),
        Err(_elapsed) => Err(SettingsError(format!(
            "S3_ENDPOINT: the store does not tell within {} s what the keys may do; look after it, or set S3_KEY_CHECK=off",
            LIMIT.as_secs()
        ))),
    }
}

fn judge(sight: &Sight, storage: &Storage) -> Result<(), String> {
    let silent = format!("no answer within {} s", LIMIT.as_secs());
    match &sight.database {
        Ok(standing) => standing.advice().map_or(Ok(()), Err)?,
        Err(Silence::Failed(error)) => return Err(error.advice()),
        Err(Silence::NoAnswer) => {
            return Err(format!("DATABASE_URL: the database gives {silent}; look after it, or correct host and port"));
        }
    }
    // Before the store is: one whose clock is far off takes no signature.
    if let Some(difference) = sight.leads.difference().filter(|difference| !difference.is_tolerable()) {
        return Err(format!(
            "{difference}, which is more than 30 s; look after NTP on this machine and on those of DATABASE_URL and S3_ENDPOINT"
        ));
    }
    match &sight.store {
        Ok(true) => Ok(()),
        Ok(false) => Err(storage.advice_without_bucket()),
        Err(Silence::Failed(StorageError::Refused(_))) => Ok(()),
        Err(Silence::Failed(error)) => Err(error.advice()),
        Err(Silence::NoAnswer) => {
            Err(format!("S3_ENDPOINT: the store gives {silent}; look after it, or correct the URL"))
        }
    }
}
