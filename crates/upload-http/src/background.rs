//! Work that must finish even when the request that began it is dropped.
//!
//! A task that is spawned in a handler dies with actix's worker. What runs after bytes are stored owns its data, runs on
//! the process's main runtime, is counted, and is awaited by `main` after the server has returned.

use std::time::Duration;

use tokio::{runtime::Handle, task::JoinHandle, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

use crate::ApiError;

/// Where such work runs, and who waits for it.
#[derive(Debug, Clone)]
pub struct Background {
    runtime: Handle,
    tracker: TaskTracker,
}

impl Background {
    /// Work will run on `runtime`, which must outlive the server's workers.
    pub fn new(runtime: Handle) -> Self {
        Self { runtime, tracker: TaskTracker::new() }
    }

    /// The main runtime.
    pub fn runtime(&self) -> &Handle {
        &self.runtime
    }

    /// Starts a task that goes on whether or not its handle is awaited. The task must bound its own time.
    pub fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send + 'static> + Send + 'static,
    {
        self.tracker.spawn_on(task.in_current_span(), &self.runtime)
    }

    /// Runs a pipeline to its end, however long the caller stays; a panic in it becomes a 500.
    pub async fn run<T, F>(&self, task: F) -> Result<T, ApiError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, ApiError>> + Send + 'static,
    {
        self.spawn(task).await.unwrap_or_else(|error| Err(ApiError::internal(error)))
    }

    /// Waits for what still runs; false when `limit` was reached first.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.tracker.close();
        timeout(limit, self.tracker.wait()).await.is_ok()
    }
}
