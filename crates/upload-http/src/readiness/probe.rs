//! One probe of the database and the store, for start-up, for readiness and for the watch over the clocks.

use std::time::Duration;

use tokio::time::timeout;
use upload_domain::{ClockOffset, ClockOffsets};
use upload_persistence::{
    Database, DatabaseError,
    migrations::{self, SchemaStanding},
};
use upload_storage::{Storage, StorageError, bucket};

use super::clocks::Question;

/// Why the state of a part is not known.
#[derive(Debug)]
pub(crate) enum ProbeError<E> {
    /// It failed.
    Failed(E),
    /// It did not answer in time.
    NoAnswer,
}

/// What was found.
#[derive(Debug)]
pub(crate) struct Probe {
    /// Whether the schema is current.
    pub(crate) database: Result<SchemaStanding, ProbeError<DatabaseError>>,
    /// Whether the bucket is there.
    pub(crate) store: Result<bool, ProbeError<StorageError>>,
    /// What the clocks say.
    pub(crate) offsets: ClockOffsets,
}

impl Probe {
    /// Whether both have answered.
    pub(crate) fn is_complete(&self) -> bool {
        self.database.is_ok() && self.store.is_ok()
    }
}

/// Checks the database and the store at the same time, each for at most `limit`. Call it on the main runtime, which the store needs.
pub(crate) async fn probe(database: &Database, storage: &Storage, limit: Duration) -> Probe {
    let (database, store) =
        futures::join!(timeout(limit, probe_database(database)), timeout(limit, probe_store(storage)));
    let (database, database_offset) = database.map_or((Err(ProbeError::NoAnswer), None), with_cause);
    let (store, store_offset) = store.map_or((Err(ProbeError::NoAnswer), None), with_cause);
    Probe { database, store, offsets: ClockOffsets { database: database_offset, store: store_offset } }
}

/// Reads the clock second: the connection is open by then, so the answer is as fast as it can be.
async fn probe_database(database: &Database) -> (Result<SchemaStanding, DatabaseError>, Option<ClockOffset>) {
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

async fn probe_store(storage: &Storage) -> (Result<bool, StorageError>, Option<ClockOffset>) {
    let question = Question::ask();
    let (exists, date) = bucket::head(storage).await;
    (exists, date.map(|date| question.store(date)))
}

fn with_cause<T, E>(
    (outcome, offset): (Result<T, E>, Option<ClockOffset>),
) -> (Result<T, ProbeError<E>>, Option<ClockOffset>) {
    (outcome.map_err(ProbeError::Failed), offset)
}
