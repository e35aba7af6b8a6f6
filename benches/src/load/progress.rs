//! The counters of a run: for its record, and to notice that it hangs.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{client::Role, record::Load};

/// The counters of one run. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Progress {
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Counters {
    begun_at: Instant,
    /// When a connection last made progress, in microseconds since `begun_at`.
    moved_at_us: AtomicU64,
    done: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    bytes_to_server: AtomicU64,
    bytes_from_server: AtomicU64,
    bytes_to_store: AtomicU64,
    bytes_from_store: AtomicU64,
}

impl Progress {
    /// Counters at zero.
    pub fn new() -> Self {
        Self::default()
    }

    /// Images that succeeded.
    pub fn done(&self) -> u64 {
        self.counters.done.load(Relaxed)
    }

    /// How long there has been no progress: no image released, no connection made, no byte written or read.
    pub fn idle(&self) -> Duration {
        let moved_at = Duration::from_micros(self.counters.moved_at_us.load(Relaxed));
        self.counters.begun_at.elapsed().saturating_sub(moved_at)
    }

    pub(crate) fn moved(&self) {
        let now = u64::try_from(self.counters.begun_at.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.counters.moved_at_us.fetch_max(now, Relaxed);
    }

    pub(crate) fn wrote(&self, to: Role, bytes: usize) {
        let counter = match to {
            Role::Server => &self.counters.bytes_to_server,
            Role::Store => &self.counters.bytes_to_store,
        };
        self.passed(counter, bytes);
    }

    pub(crate) fn read(&self, from: Role, bytes: usize) {
        let counter = match from {
            Role::Server => &self.counters.bytes_from_server,
            Role::Store => &self.counters.bytes_from_store,
        };
        self.passed(counter, bytes);
    }

    fn passed(&self, counter: &AtomicU64, bytes: usize) {
        if bytes > 0 {
            counter.fetch_add(bytes as u64, Relaxed);
            self.moved();
        }
    }

    pub(crate) fn sent(&self) {
        self.counters.requests.fetch_add(1, Relaxed);
    }

    pub(crate) fn retried(&self) {
        self.counters.retries.fetch_add(1, Relaxed);
    }

    pub(crate) fn succeeded(&self) {
        self.counters.done.fetch_add(1, Relaxed);
    }

    /// The part of a record that is counted here.
    pub(crate) fn load(&self) -> Load {
        let counters = &self.counters;
        Load {
            requests: counters.requests.load(Relaxed),
            retries: counters.retries.load(Relaxed),
            bytes_to_server: counters.bytes_to_server.load(Relaxed),
            bytes_from_server: counters.bytes_from_server.load(Relaxed),
            bytes_to_store: counters.bytes_to_store.load(Relaxed),
            bytes_from_store: counters.bytes_from_store.load(Relaxed),
            ..Load::default()
        }
    }
}

/// Waits until none of these runs has made progress for `longest`, and returns for how long. Waiting for `Retry-After` is no progress.
pub async fn stalled(runs: &[Progress], longest: Duration) -> Duration {
    loop {
        let idle = runs.iter().map(Progress::idle).min().unwrap_or(longest);
        if idle >= longest {
            return idle;
        }
        tokio::time::sleep(longest - idle).await;
    }
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            begun_at: Instant::now(),
            moved_at_us: AtomicU64::new(0),
            done: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            bytes_to_server: AtomicU64::new(0),
            bytes_from_server: AtomicU64::new(0),
            bytes_to_store: AtomicU64::new(0),
            bytes_from_store: AtomicU64::new(0),
        }
    }
}
