//! Work that must finish even when the request that began it is dropped.
//!
//! A task that is spawned in a handler dies with actix's worker. What runs after bytes are stored owns its data, runs on
//! the process's main runtime, is counted, and is awaited by `main` after the server has returned.

use std::time::Duration;

use tokio::{runtime::Handle, sync::oneshot, task::JoinHandle, time::timeout};
use tokio_util::task::TaskTracker;
use tracing::Instrument as _;

/// Runs such work, and waits for it.
#[derive(Debug, Clone)]
pub struct Background {
    runtime: Handle,
    tracker: TaskTracker,
}

/// The task panicked, which is a bug.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a background task panicked")]
pub struct Panicked;

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

    /// Runs a pipeline to its end, however long the caller stays.
    ///
    /// # Errors
    /// The pipeline's own, or [`Panicked`].
    pub async fn run<T, E, F>(&self, task: F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Panicked> + Send + 'static,
        F: Future<Output = Result<T, E>> + Send + 'static,
    {
        let (sender, outcome) = oneshot::channel();
        // If the caller is gone, the outcome is dropped inside the task. Work that this drop starts is then counted before the task
        // ends, so `drain` waits for it. The outcome of a join handle would be dropped after the task.
        drop(self.spawn(async move { drop(sender.send(task.await)) }));
        outcome.await.unwrap_or_else(|_sender_dropped| Err(Panicked.into()))
    }

    /// Waits for what still runs; false when `limit` was reached first.
    pub async fn drain(&self, limit: Duration) -> bool {
        self.tracker.close();
        timeout(limit, self.tracker.wait()).await.is_ok()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    };

    use futures::FutureExt as _;

    use super::*;

    /// Like an attempt: its end is work of its own.
    struct Outcome(Background, Arc<AtomicBool>);

    impl Drop for Outcome {
        fn drop(&mut self) {
            let ended = self.1.clone();
            drop(self.0.spawn(async move {
                tokio::task::yield_now().await;
                ended.store(true, Ordering::SeqCst);
            }));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn what_the_drop_of_an_abandoned_outcome_starts_is_waited_for() {
        for round in 0..500 {
            let (background, ended) = (Background::new(Handle::current()), Arc::new(AtomicBool::new(false)));
            let outcome = Outcome(background.clone(), ended.clone());
            let task = background.run(async move {
                tokio::task::yield_now().await;
                Ok::<_, Panicked>(outcome)
            });
            // The caller goes away right after the task has begun.
            drop(task.now_or_never());
            assert!(background.drain(Duration::from_secs(10)).await);
            assert!(ended.load(Ordering::SeqCst), "round {round}");
        }
    }
}
