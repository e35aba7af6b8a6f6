#![doc = include_str!("../README.md")]

mod background;
mod error;
mod hold;
mod one;
mod pin;
mod post;
mod targets;
mod turns;
mod verify;

use std::{fmt, sync::Arc};

use upload_domain::{ImageLimits, Refusal, Timing};
use upload_persistence::{Database, DatabaseError, PooledConnection};
use upload_storage::Storage;

pub use background::{Background, Panicked};
pub use error::LinkError;
pub use hold::{Hold, NotRecovered, Written};
pub use one::Linked;
pub use post::{PostError, PostText};
pub use targets::*;

use turns::{Turn, Turns};

/// What the protocol works with: one value for all requests of a server.
#[derive(Clone)]
pub struct Links {
    /// Postgres.
    pub database: Database,
    /// The store. Only the main runtime may use it: a pooled connection dies with the runtime that opened it.
    pub storage: Storage,
    /// The limits on an image.
    pub limits: ImageLimits,
    /// How long a link may take, and how old an image may be.
    pub timing: Timing,
    /// Where links run to their end.
    pub background: Background,
    turns: Turns,
    observer: Arc<dyn Fn(Event) + Send + Sync>,
}

/// What the protocol did, for metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// An image was linked.
    Linked,
    /// A link refused the content and recorded that.
    Refused(Refusal),
}

impl Links {
    /// At most `at_once` images are verified and pinned at the same time; further links wait in order. `observer` hears of each event once.
    pub fn new(
        database: Database,
        storage: Storage,
        limits: ImageLimits,
        timing: Timing,
        background: Background,
        at_once: u16,
        observer: impl Fn(Event) + Send + Sync + 'static,
    ) -> Self {
        let turns = Turns::new(at_once);
        Self { database, storage, limits, timing, background, turns, observer: Arc::new(observer) }
    }

    /// Waits for the right to verify and pin so many images at the same time.
    async fn turn(&self, images: usize) -> Result<Turn, LinkError> {
        let images = u16::try_from(images).unwrap_or(u16::MAX);
        // No link works longer than its lease.
        self.turns.wait(images, self.timing.link_lease).await
    }

    /// A connection for a statement of an attempt. An attempt is work that has begun, so it waits longer than a read does: a quarter of a
    /// link's lease. A link pins its image after three quarters at the latest, so it usually has its connection before the lease ends. If it
    /// does not, the commit itself refuses.
    pub async fn connection(&self) -> Result<PooledConnection, DatabaseError> {
        self.database.connection_within(self.timing.link_lease / 4).await
    }

    fn observe(&self, event: Event) {
        (self.observer)(event);
    }
}

impl fmt::Debug for Links {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Links")
            .field("limits", &self.limits)
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}
