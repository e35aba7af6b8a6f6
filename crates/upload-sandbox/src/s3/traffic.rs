//! The traffic that reached each bucket. Tests can wait for it, so no test has to sleep until "surely some bytes are there".

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

/// Totals for one bucket since the store started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Traffic {
    /// Requests of any kind, refused ones included.
    pub requests: u64,
    /// Bodies that began to arrive by PUT or POST, from callers that may write the key.
    pub uploads_started: u64,
    /// Bodies that became an object.
    pub uploads_stored: u64,
    /// Bytes of those bodies so far, also of unfinished ones. The file of a POST counts when it is complete.
    pub received_bytes: u64,
}

#[derive(Debug, Default)]
pub(super) struct TrafficByBucket(Mutex<HashMap<String, watch::Sender<Traffic>>>);

impl TrafficByBucket {
    pub(super) fn subscribe(&self, bucket: &str) -> watch::Receiver<Traffic> {
        self.sender(bucket).subscribe()
    }

    pub(super) fn sender(&self, bucket: &str) -> watch::Sender<Traffic> {
        let mut senders = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        senders.entry(bucket.to_owned()).or_default().clone()
    }
}
