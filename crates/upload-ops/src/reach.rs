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

/// A database that may have to be migrated first.
pub(crate) async fn any_database(settings: &DatabaseSettings) -> Result<(Database, SchemaStanding), Stop> {
    let database = Database::new(settings, Handle::current()).map_err(Stop::settings)?;
    let standing = migrations::standing(&database).await.map_err(|error| Stop::Settings(error.advice()))?;
    Ok((database, standing))
}

/// An existing bucket, and a key that has the rights of the server's key in it.
pub(crate) async fn bucket(settings: &StorageSettings) -> Result<Storage, Stop> {
    let (storage, exists) = any_bucket(settings).await?;
    if !exists {
        return Err(Stop::Settings(storage.advice_without_bucket()));
    }
    rights::check_server(&storage).await.map_err(Stop::settings)?;
    Ok(storage)
}

/// A store that accepts the key, and whether the bucket exists.
pub(crate) async fn any_bucket(settings: &StorageSettings) -> Result<(Storage, bool), Stop> {
    let storage = Storage::new(settings).await.map_err(Stop::settings)?;
    match bucket::look(&storage).await {
        Ok(look) => Ok((storage, look.exists)),
        Err(error) => Err(Stop::settings(rights::refusal(&storage, &error).await)),
    }
}
