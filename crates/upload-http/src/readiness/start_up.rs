//! What must hold before a server takes its first request. If any check fails, the program says in one sentence which setting is wrong
//! and what to do, and exits with code 2.
//!
//! Nothing is tried again here: compose, systemd or Kubernetes start the process again, and log it.

use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tracing::warn;
use upload_persistence::{
    Database, DatabaseError,
    images::{self, Served},
};
use upload_storage::{
    Pin, Signer, Storage, StorageError, chain,
    pin::{self, PinError},
    rights,
};

use super::probe::{Probe, ProbeError, probe};
use crate::SettingsError;

/// How long the whole check may take. Credentials are fetched before it, with a limit of their own.
const LIMIT: Duration = Duration::from_secs(9);

/// Checks the database and its schema, the bucket, the clocks, the rights of the keys, and what `S3_PIN` needs. Each role must have a key
/// of its own.
pub(crate) async fn check(
    database: &Database,
    storage: &Storage,
    signer: Option<&Signer>,
) -> Result<Probe, SettingsError> {
    signer.map_or(Ok(()), |signer| storage.check_distinct(signer)).map_err(|error| SettingsError(error.to_string()))?;
    let deadline = Instant::now() + LIMIT;
    let probe = probe(database, storage, LIMIT).await;
    judge(&probe, storage).map_err(SettingsError)?;
    let rights = timeout_at(deadline, async {
        match &probe.store {
            Err(ProbeError::Failed(error)) => Err(rights::refusal(storage, error).await),
            Err(ProbeError::NoAnswer) | Ok(_) => rights::check(storage, signer).await,
        }
        .map_err(|error| error.to_string())?;
        check_pin(database, storage, signer).await.map_err(|error| error.to_string())
    });
    match rights.await {
        Ok(Ok(())) => Ok(probe),
        Ok(Err(sentence)) => Err(SettingsError(sentence)),
        Err(_elapsed) => Err(SettingsError(format!(
            "S3_ENDPOINT: the store did not answer within {} s when asked for the rights of the keys; check that it runs, or set S3_KEY_CHECK=off",
            LIMIT.as_secs()
        ))),
    }
}

/// Links by copy make no versions. But links by version may have been made before, and stay as they are.
async fn check_pin(database: &Database, storage: &Storage, signer: Option<&Signer>) -> Result<(), PinError> {
    if storage.pin() == Pin::Version {
        return pin::check(storage, signer).await;
    }
    match find_pinned(database).await {
        Ok(Some(Served { media_key, media_version: Some(version) })) => {
            pin::check_pinned(storage, &media_key, &version).await
        }
        Ok(_copies) => Ok(()),
        Err(error) => {
            warn!(
                cause = chain(&error),
                "cannot find out whether images are pinned by version, so their bucket is not checked"
            );
            Ok(())
        }
    }
}

async fn find_pinned(database: &Database) -> Result<Option<Served>, DatabaseError> {
    let mut connection = database.connection().await?;
    Ok(images::find_pinned_by_version(&mut connection).await?)
}

fn judge(probe: &Probe, storage: &Storage) -> Result<(), String> {
    let late = format!("did not answer within {} s", LIMIT.as_secs());
    match &probe.database {
        Ok(standing) => standing.advice().map_or(Ok(()), Err)?,
        Err(ProbeError::Failed(error)) => return Err(error.advice()),
        Err(ProbeError::NoAnswer) => {
            return Err(format!("DATABASE_URL: the database {late}; check that it runs, or correct host and port"));
        }
    }
    // Before the store: if its clock is far off, it refuses every signature.
    if let Some(difference) = probe.offsets.difference().filter(|difference| !difference.is_tolerable()) {
        return Err(format!(
            "{difference}; more than 30 s is too much; check NTP on this machine and on those of DATABASE_URL and S3_ENDPOINT"
        ));
    }
    match &probe.store {
        Ok(true) => Ok(()),
        Ok(false) => Err(storage.advice_without_bucket()),
        Err(ProbeError::Failed(StorageError::Refused(_))) => Ok(()),
        Err(ProbeError::Failed(error)) => Err(error.advice()),
        Err(ProbeError::NoAnswer) => {
            Err(format!("S3_ENDPOINT: the store {late}; check that it runs, or correct the URL"))
        }
    }
}
