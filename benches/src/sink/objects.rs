//! The objects of the sink: enough for a server that reads their beginnings, copies and deletes them.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use upload_domain::HEAD_BYTES;

/// Equal beginnings are kept once. A comparison has one image, so few different ones are enough.
const MOST_BEGINNINGS: usize = 16;

/// An object without most of its bytes.
#[derive(Debug, Clone)]
pub(super) struct Object {
    pub(super) length: u64,
    pub(super) etag: String,
    pub(super) content_type: String,
    /// The first 256 KiB, or all. Empty for a body in the SDK's own chunks.
    pub(super) beginning: Bytes,
    pub(super) modified: DateTime<Utc>,
}

/// Objects by `bucket/key`.
#[derive(Debug, Default)]
pub(super) struct Objects {
    objects: Mutex<BTreeMap<String, Object>>,
    beginnings: Mutex<Vec<Bytes>>,
    written: AtomicU64,
}

/// The first bytes of a body that is being read.
#[derive(Debug, Default)]
pub(super) struct Beginning(Vec<u8>);

impl Beginning {
    pub(super) fn add(&mut self, bytes: &[u8]) {
        let room = HEAD_BYTES - self.0.len();
        self.0.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// The beginning of a body of this length.
    pub(super) fn of_length(mut self, length: u64) -> Bytes {
        self.0.truncate(usize::try_from(length).unwrap_or(usize::MAX));
        self.0.into()
    }
}

impl Objects {
    /// Stores an object and returns its ETag.
    pub(super) fn put(&self, path: String, length: u64, content_type: String, beginning: Bytes) -> String {
        let etag = format!("\"{:032x}\"", self.written.fetch_add(1, Ordering::Relaxed));
        let beginning = self.shared(beginning);
        let object = Object { length, etag: etag.clone(), content_type, beginning, modified: Utc::now() };
        self.lock().insert(path, object);
        etag
    }

    pub(super) fn get(&self, path: &str) -> Option<Object> {
        self.lock().get(path).cloned()
    }

    pub(super) fn remove(&self, path: &str) {
        self.lock().remove(path);
    }

    /// Their number, and the sum of their lengths.
    pub(super) fn totals(&self) -> (usize, u64) {
        let objects = self.lock();
        (objects.len(), objects.values().map(|object| object.length).sum())
    }

    pub(super) fn clear(&self) {
        self.lock().clear();
    }

    /// The same bytes, kept once.
    fn shared(&self, beginning: Bytes) -> Bytes {
        let mut known = self.beginnings.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(same) = known.iter().find(|known| **known == beginning) {
            return same.clone();
        }
        if known.len() < MOST_BEGINNINGS {
            known.push(beginning.clone());
        }
        beginning
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Object>> {
        self.objects.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
