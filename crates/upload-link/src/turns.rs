//! Turns: how many images are verified and pinned at the same time, which bounds the memory of all links.
//!
//! A link waits for its turn before it claims anything. So it holds no image and no connection meanwhile, and its lease is for its work
//! alone. Links get their turns in order of arrival. They wait as long as others make progress: then the store works, and is only busy. A
//! link waits in its client's request: if the client leaves or the server stops, it has done nothing, and ends.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Instant, timeout_at},
};

use crate::LinkError;

/// A fixed number of turns. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Turns {
    free: Arc<Semaphore>,
    all: u16,
    /// When a link has last got all that it wanted of the store.
    progress_at: Arc<Mutex<Instant>>,
}

/// The right to work, until it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    _permit: OwnedSemaphorePermit,
}

impl Turns {
    pub(crate) fn new(all: u16) -> Self {
        let progress_at = Arc::new(Mutex::new(Instant::now()));
        Self { free: Arc::new(Semaphore::new(all.into())), all, progress_at }
    }

    /// Waits for turns for so many images at once, or for all turns if there are fewer. It gives up when no link has made progress for
    /// `standstill`.
    pub(crate) async fn wait(&self, images: u16, standstill: Duration) -> Result<Turn, LinkError> {
        let wanted = u32::from(images.min(self.all).max(1));
        let (mut turn, arrived) = (Box::pin(Arc::clone(&self.free).acquire_many_owned(wanted)), Instant::now());
        loop {
            let deadline = arrived.max(self.progress_at()) + standstill;
            match timeout_at(deadline, &mut turn).await {
                Ok(Ok(permit)) => return Ok(Turn { _permit: permit }),
                Err(_elapsed) if self.progress_at() + standstill > deadline => {}
                Ok(Err(_)) | Err(_) => return Err(LinkError::Overloaded),
            }
        }
    }

    /// A link has got all that it wanted of the store.
    pub(crate) fn made_progress(&self) {
        *self.progress_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    /// Whether a link has got all that it wanted of the store in the last `time`.
    pub(crate) fn made_progress_within(&self, time: Duration) -> bool {
        self.progress_at().elapsed() < time
    }

    fn progress_at(&self) -> Instant {
        *self.progress_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
