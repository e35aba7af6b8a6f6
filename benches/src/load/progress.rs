//! What a run has come to so far, for whoever draws it, samples it, or has to give it up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::time::Instant;

use crate::{client::Role, record::Load};

/// The counters of one run; a clone is the same counters. Another run needs new ones.
#[derive(Debug, Clone)]
pub struct Progress {
    counters: Arc<Counters>,
}

#[derive(Debug)]
struct Counters {
    begun_at: Instant,
    /// When a connection last moved, in microseconds since `begun_at`.
    moved_at_us: AtomicU64,
    done: AtomicU64,
    failed: AtomicU64,
    requests: AtomicU64,
    retries: AtomicU64,
    bytes_to_server: AtomicU64,
    bytes_from_server: AtomicU64,
    bytes_to_store: AtomicU64,
    bytes_from_store: AtomicU64,
}

impl Progress {
    /// Nothing has happened yet.
    pub fn new() -> Self {
        let counters = Counters {
            begun_at: Instant::now(),
            moved_at_us: AtomicU64::new(0),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            requests: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            bytes_to_server: AtomicU64::new(0),
            bytes_from_server: AtomicU64::new(0),
            bytes_to_store: AtomicU64::new(0),
            bytes_from_store: AtomicU64::new(0),
        };
        Self { counters: Arc::new(counters) }
    }

    /// Images that succeeded.
    pub fn done(&self) -> u64 {
        self.counters.done.load(Relaxed)
    }

    /// Images that did not.
    pub fn failed(&self) -> u64 {
        self.counters.failed.load(Relaxed)
    }

    /// Bytes that clients wrote and read, to and from whomever.
    pub fn bytes(&self) -> u64 {
        let counters = &self.counters;
        let to = counters.bytes_to_server.load(Relaxed) + counters.bytes_to_store.load(Relaxed);
        to + counters.bytes_from_server.load(Relaxed) + counters.bytes_from_store.load(Relaxed)
    }

    /// How long nothing has moved: no image was released, no connection made, no byte written or read.
    pub fn idle(&self) -> Duration {
        let moved_at = Duration::from_micros(self.counters.moved_at_us.load(Relaxed));
        self.counters.begun_at.elapsed().saturating_sub(moved_at)
    }

    /// Ends when nothing has moved for `longest`, and says how long it was. A client that was told to wait does not move.
    pub async fn stalled(&self, longest: Duration) -> Duration {
        loop {
            let idle = self.idle();
            if idle >= longest {
                return idle;
            }
            tokio::time::sleep(longest - idle).await;
        }
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

    pub(crate) fn ended(&self, has_succeeded: bool) {
        let counter = if has_succeeded { &self.counters.done } else { &self.counters.failed };
        counter.fetch_add(1, Relaxed);
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

impl Default for Progress {
    fn default() -> Self {
        Self::new()
    }
}
