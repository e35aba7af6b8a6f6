//! Limits how many uploads run at the same time. Others wait in a bounded queue, first come first served.
//!
//! If the queue is full, or an upload waits too long in it, the upload is refused before its file is read. A waiting upload uses memory:
//! actix reads up to 256 KiB at a time, about 0.3 MB with its overhead. At `/uploads` the form's head has been read before the wait, so
//! the upload holds two such pieces and 64 KiB in the parser, up to 0.65 MB. The queue can use this times `UPLOADS_WAITING`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

/// How many uploads may be active and waiting, and how many bytes may be buffered.
#[derive(Debug, Clone, Copy)]
pub struct AdmissionLimits {
    /// Uploads whose bodies are read at once.
    pub active: usize,
    /// Uploads that may wait.
    pub waiting: usize,
    /// The longest wait.
    pub wait: Duration,
    /// Bytes that all buffered forms may hold together.
    pub buffer_bytes: u64,
}

/// No room: the client should come back later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("more uploads at the same time than this server accepts")]
pub struct Overloaded;

/// The admission of one server; all its workers share it.
#[derive(Debug)]
pub struct Admission {
    limits: AdmissionLimits,
    active: Arc<Semaphore>,
    waiting: AtomicUsize,
    /// In KiB, because a semaphore counts in `u32`.
    buffer_kib: Arc<Semaphore>,
}

/// A turn, or reserved memory. Dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    _permit: OwnedSemaphorePermit,
}

struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Admission {
    /// An admission without any uploads.
    pub fn new(limits: AdmissionLimits) -> Self {
        Self {
            limits,
            active: Arc::new(Semaphore::new(limits.active)),
            waiting: AtomicUsize::new(0),
            buffer_kib: Arc::new(Semaphore::new(kib(limits.buffer_bytes) as usize)),
        }
    }

    /// Waits for a turn.
    pub async fn enter(&self) -> Result<Permit, Overloaded> {
        self.wait_for(&self.active, 1).await
    }

    /// Waits for room to buffer `bytes`.
    pub async fn buffer(&self, bytes: u64) -> Result<Permit, Overloaded> {
        if bytes > self.limits.buffer_bytes {
            return Err(Overloaded);
        }
        self.wait_for(&self.buffer_kib, kib(bytes)).await
    }

    async fn wait_for(&self, semaphore: &Arc<Semaphore>, permits: u32) -> Result<Permit, Overloaded> {
        // tokio's semaphore is fair: while one upload waits, a later one does not pass it.
        if let Ok(permit) = semaphore.clone().try_acquire_many_owned(permits) {
            return Ok(Permit { _permit: permit });
        }
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if before >= self.limits.waiting {
            return Err(Overloaded);
        }
        let acquired = timeout(self.limits.wait, semaphore.clone().acquire_many_owned(permits)).await;
        let permit = acquired.ok().and_then(Result::ok).ok_or(Overloaded)?;
        Ok(Permit { _permit: permit })
    }
}

fn kib(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use futures::FutureExt;

    fn admission() -> Admission {
        let wait = Duration::from_secs(60);
        Admission::new(AdmissionLimits { active: 2, waiting: 1, wait, buffer_bytes: 2048 })
    }

    #[tokio::test]
    async fn the_queue_is_bounded_and_first_come_first_served() {
        let doors = admission();
        let first = doors.enter().await.unwrap();
        let _second = doors.enter().await.unwrap();
        let mut third = Box::pin(doors.enter());
        assert!(third.as_mut().now_or_never().is_none(), "it waits");
        assert_eq!(doors.enter().await.err(), Some(Overloaded), "the queue is full");
        drop(first);
        assert!(third.await.is_ok());
    }

    #[tokio::test]
    async fn an_upload_that_stops_waiting_makes_room_in_the_queue() {
        let doors = admission();
        let _active = (doors.enter().await.unwrap(), doors.enter().await.unwrap());
        assert!(doors.enter().now_or_never().is_none());
        assert!(doors.enter().now_or_never().is_none(), "the first one's future was dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends() {
        let doors = admission();
        let _active = (doors.enter().await.unwrap(), doors.enter().await.unwrap());
        assert_eq!(doors.enter().await.err(), Some(Overloaded));
    }

    #[tokio::test]
    async fn buffered_bytes_have_a_budget_of_their_own() {
        let doors = admission();
        let held = doors.buffer(1500).await.unwrap();
        assert!(doors.buffer(1500).now_or_never().is_none());
        assert_eq!(doors.buffer(4096).await.err(), Some(Overloaded), "more than the budget will ever be");
        drop(held);
        assert!(doors.buffer(2048).now_or_never().is_some());
    }

    #[tokio::test]
    async fn without_a_queue_an_upload_is_admitted_only_if_it_need_not_wait() {
        let limits = AdmissionLimits { waiting: 0, ..admission().limits };
        let doors = Admission::new(limits);
        let held = doors.buffer(1500).await.unwrap();
        assert_eq!(doors.buffer(1500).await.err(), Some(Overloaded), "it would have to wait");
        drop(held);
        assert!(doors.buffer(2048).await.is_ok());
    }

    #[tokio::test]
    async fn a_small_buffer_does_not_pass_a_large_one_that_waits() {
        let doors = admission();
        let held = doors.buffer(1024).await.unwrap();
        let mut large = Box::pin(doors.buffer(2048));
        assert!(large.as_mut().now_or_never().is_none(), "it waits");
        assert_eq!(doors.buffer(1024).await.err(), Some(Overloaded), "the queue is full");
        drop(held);
        assert!(large.await.is_ok());
    }
}
