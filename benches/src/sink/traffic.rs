//! Bytes and requests, by the key of a connection's first request.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::record::Traffic;

/// The owner of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Role {
    Server,
    Signer,
    Reader,
    /// Connections without a valid signature.
    Other,
    /// The comparison, which reads the counts. It is not counted.
    Observer,
}

const COUNTED: [(Role, &str); 4] =
    [(Role::Server, "server"), (Role::Signer, "signer"), (Role::Reader, "reader"), (Role::Other, "other")];

/// All counters.
#[derive(Debug, Default)]
pub(super) struct Books([Book; 5]);

#[derive(Debug, Default)]
struct Book {
    received: AtomicU64,
    sent: AtomicU64,
    requests: Mutex<BTreeMap<&'static str, u64>>,
}

/// One connection. It keeps its bytes until its role is known, or until it ends.
#[derive(Debug)]
pub(super) struct Connection {
    books: Arc<Books>,
    role: OnceLock<Role>,
    received: AtomicU64,
    sent: AtomicU64,
}

impl Books {
    /// By the role's name.
    pub(super) fn traffic(&self) -> BTreeMap<&'static str, Traffic> {
        COUNTED.into_iter().map(|(role, name)| (name, self.book(role).traffic())).collect()
    }

    pub(super) fn reset(&self) {
        for book in &self.0 {
            book.received.store(0, Ordering::Relaxed);
            book.sent.store(0, Ordering::Relaxed);
            book.requests.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
    }

    fn book(&self, role: Role) -> &Book {
        &self.0[role as usize]
    }
}

impl Book {
    fn traffic(&self) -> Traffic {
        let requests = self.requests.lock().unwrap_or_else(PoisonError::into_inner);
        Traffic {
            requests: requests.iter().map(|(operation, count)| ((*operation).to_owned(), *count)).collect(),
            bytes_to_store: self.received.load(Ordering::Relaxed),
            bytes_from_store: self.sent.load(Ordering::Relaxed),
        }
    }
}

impl Connection {
    pub(super) fn new(books: Arc<Books>) -> Self {
        Self { books, role: OnceLock::new(), received: AtomicU64::new(0), sent: AtomicU64::new(0) }
    }

    pub(super) fn read(&self, bytes: usize) {
        let counter = self.role.get().map_or(&self.received, |role| &self.books.book(*role).received);
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn wrote(&self, bytes: usize) {
        let counter = self.role.get().map_or(&self.sent, |role| &self.books.book(*role).sent);
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Counts a request. The first request decides the role of the connection.
    pub(super) fn request(&self, role: Role, operation: &'static str) {
        self.belongs_to(role);
        let role = self.role.get().copied().unwrap_or(role);
        let mut requests = self.books.book(role).requests.lock().unwrap_or_else(PoisonError::into_inner);
        *requests.entry(operation).or_default() += 1;
    }

    /// Sets the role, if it has none.
    pub(super) fn belongs_to(&self, role: Role) {
        if self.role.set(role).is_ok() {
            let book = self.books.book(role);
            book.received.fetch_add(self.received.swap(0, Ordering::Relaxed), Ordering::Relaxed);
            book.sent.fetch_add(self.sent.swap(0, Ordering::Relaxed), Ordering::Relaxed);
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.belongs_to(Role::Other);
    }
}
