//! Tells requests that the server is stopping, and counts the uploads that the stop cuts off.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use prometheus_client::metrics::gauge::Gauge;
use tokio_util::{
    sync::CancellationToken,
    task::{TaskTracker, task_tracker::TaskTrackerToken},
};

/// The two moments of a stop: it begins, and its time is over.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    begun: CancellationToken,
    over: CancellationToken,
}

impl Shutdown {
    /// Whether the server is stopping: nothing new should be taken on.
    pub fn has_begun(&self) -> bool {
        self.begun.is_cancelled()
    }

    /// Ends when the server begins to stop.
    pub(crate) async fn begun(&self) {
        self.begun.cancelled().await;
    }

    /// Ends when requests in flight have had their time; the boundary then drops them with 503 `shutting_down`.
    pub(crate) async fn over(&self) {
        self.over.cancelled().await;
    }

    pub(crate) fn begin(&self) {
        self.begun.cancel();
    }

    pub(crate) fn end(&self) {
        self.over.cancel();
    }
}

/// Counts the running uploads, so that a stop knows how many it cut off.
#[derive(Debug, Clone)]
pub struct ActiveUploads {
    shutdown: Shutdown,
    active: Gauge,
    cut_off: Arc<AtomicUsize>,
    tracker: TaskTracker,
}

/// Held while one upload is carried.
#[derive(Debug)]
pub struct UploadGuard {
    uploads: ActiveUploads,
    _token: TaskTrackerToken,
}

impl ActiveUploads {
    pub(crate) fn new(shutdown: Shutdown, active: Gauge) -> Self {
        Self { shutdown, active, cut_off: Arc::default(), tracker: TaskTracker::new() }
    }

    /// Counts one upload until the guard is dropped. One that is dropped after the time for a stop is over was cut off.
    pub fn begin(&self) -> UploadGuard {
        self.active.inc();
        UploadGuard { uploads: self.clone(), _token: self.tracker.token() }
    }

    pub(crate) fn cut_off(&self) -> usize {
        self.cut_off.load(Ordering::SeqCst)
    }

    /// Ends when no guard is left.
    pub(crate) async fn wait(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        self.uploads.active.dec();
        if self.uploads.shutdown.over.is_cancelled() {
            self.uploads.cut_off.fetch_add(1, Ordering::SeqCst);
        }
    }
}
