//! Checks the database or the bucket before a command changes anything. If it cannot be used, that is a wrong setting, reported in one
//! sentence. An error after that is a failure.

use tokio::runtime::Handle;
use upload_persistence::{
    Database, DatabaseSettings,
    migrations::{self, SchemaStanding},
};
use upload_storage::{Storage, StorageSettings, bucket, rights};

use crate::Stop;

/// A database whose schema is the one that this binary knows.
pub(crate) async fn database(settings: &DatabaseSettings) -> Result<Database, Stop> {
    let (database, standing) = any_database(settings).await?;
    match standing.advice() {
        None => Ok(database),
        Some(advice) => Err(Stop::Settings(advice)),
    }
}

/// The same, but no standby: one that lags behind does not know the rows of the newest objects.
pub(crate) async fn primary(settings: &DatabaseSettings) -> Result<Database, Stop> {
    let database = database(settings).await?;
    match database.is_in_recovery().await {
        Ok(false) => Ok(database),
        Ok(true) => Err(Stop::settings(
            "DATABASE_URL: the database is a standby (it is in recovery), and may lack the rows of the newest images; use the primary",
        )),
        Err(error) => Err(Stop::Settings(error.advice())),
    }
}

/// A database that may have to be migrated first.
pub(crate) async fn any_database(settings: &DatabaseSettings) -> Result<(Database, SchemaStanding), Stop> {
    let database = Database::new(settings, Handle::current()).map_err(Stop::settings)?;
    let standing = migrations::standing(&database).await.map_err(|error| Stop::Settings(error.advice()))?;
    Ok((database, standing))
}

/// An existing bucket, and a key that has the rights of the server's key in it.
pub(crate) async fn bucket(settings: &StorageSettings) -> Result<Storage, Stop> {
    let storage = readable_bucket(settings).await?;
    rights::check_server(&storage).await.map_err(Stop::settings)?;
    Ok(storage)
}

/// An existing bucket that is only read, with any key that may list and get. Nothing asks what else the key may do.
pub(crate) async fn readable_bucket(settings: &StorageSettings) -> Result<Storage, Stop> {
    match any_bucket(settings).await? {
        (storage, true) => Ok(storage),
        (storage, false) => Err(Stop::Settings(storage.advice_without_bucket())),
    }
}

/// A store that accepts the key, and whether the bucket exists.
pub(crate) async fn any_bucket(settings: &StorageSettings) -> Result<(Storage, bool), Stop> {
    let storage = Storage::new(settings).await.map_err(Stop::settings)?;
    match bucket::look(&storage).await {
        Ok(look) => Ok((storage, look.exists)),
        Err(error) => Err(Stop::settings(rights::refusal(&storage, &error).await)),
    }
}
