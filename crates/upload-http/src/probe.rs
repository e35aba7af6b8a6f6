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
    let (database, database_lead) = database.map_or((Err(Silence::NoAnswer), None), told);
    let (store, store_lead) = store.map_or((Err(Silence::NoAnswer), None), told);
    Sight { database, store, leads: Leads { database: database_lead, store: store_lead } }
}

/// The clock comes second: on a connection that is open already, the answer takes no longer than it must.
async fn look_at_database(database: &Database) -> (Result<SchemaStanding, DatabaseError>, Option<Lead>) {
    let standing = match migrations::standing(database).await {
        Ok(standing) => standing,
        Err(error) => return (Err(error), None),
    };
    let question = Question::ask();
    match database.now().await {
        Ok(now) => (Ok(standing), Some(question.database(now))),
        Err(error) => (Err(error), None),
    }
}

async fn look_at_store(storage: &Storage) -> (Result<bool, StorageError>, Option<Lead>) {
    let question = Question::ask();
    let (exists, date) = bucket::head(storage).await;
    (exists, date.map(|date| question.store(date)))
}

fn told<T, E>((outcome, lead): (Result<T, E>, Option<Lead>)) -> (Result<T, Silence<E>>, Option<Lead>) {
    (outcome.map_err(Silence::Failed), lead)
}
