//! One look at what a server stands on, the same for its start-up, for readiness and for the watch over the clocks.

use std::time::Duration;

use tokio::time::timeout;
use upload_persistence::{
    Database, DatabaseError,
    migrations::{self, SchemaStanding},
};
use upload_storage::{Storage, StorageError, bucket};

use crate::clocks::{Lead, Leads, Question};

/// Why a part has told nothing.
#[derive(Debug)]
pub(crate) enum Silence<E> {
    /// It failed.
    Failed(E),
    /// It did not answer in time.
    NoAnswer,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Sight {
    /// How the schema stands.
    pub(crate) database: Result<SchemaStanding, Silence<DatabaseError>>,
    /// Whether the bucket is there.
    pub(crate) store: Result<bool, Silence<StorageError>>,
    /// What the clocks say.
    pub(crate) leads: Leads,
}

impl Sight {
    /// Whether both have answered.
    pub(crate) fn is_complete(&self) -> bool {
        self.database.is_ok() && self.store.is_ok()
    }
}

/// Looks at the database and the store at once, each for no longer than `limit`. On the main runtime, as the store wants it.
pub(crate) async fn look(database: &Database, storage: &Storage, limit: Duration) -> Sight {
    let (database, store) =
        futures::join!(timeout(limit, look_at_database(database)), timeout(limit, look_at_store(storage)));
    let (database, database_lead) = told(database);
    let (store, store_lead) = told(store);
    Sight { database, store, leads: Leads { database: database_lead, store: store_lead.flatten() } }
}

/// The clock comes second: on a connection that is open already, the answer takes no longer than it must.
async fn look_at_database(database: &Database) -> Result<(SchemaStanding, Lead), DatabaseError> {
    let standing = migrations::standing(database).await?;
    let question = Question::ask();
    let now = database.now().await?;
    Ok((standing, question.database(now)))
}

async fn look_at_store(storage: &Storage) -> Result<(bool, Option<Lead>), StorageError> {
    let question = Question::ask();
    let look = bucket::look(storage).await?;
    Ok((look.exists, look.date.map(|date| question.store(date))))
}

fn told<T, L, E>(
    outcome: Result<Result<(T, L), E>, tokio::time::error::Elapsed>,
) -> (Result<T, Silence<E>>, Option<L>) {
    match outcome {
        Ok(Ok((found, lead))) => (Ok(found), Some(lead)),
        Ok(Err(error)) => (Err(Silence::Failed(error)), None),
        Err(_elapsed) => (Err(Silence::NoAnswer), None),
    }
}
