//! Limits on the client's body: its size, its rate and its time.
//!
//! The clock of the minimum rate runs only while the server waits for the client, never while the store or the
//! database keeps the client waiting. So it is not part of the stream, which the parser also polls in between, but of
//! each wait for the form.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{error::PayloadError, web};
use bytes::Bytes;
use futures::Stream;
use tokio::time::{Instant, timeout_at};

/// The slowest rate at which a client may send, in bytes a second.
const MIN_CLIENT_BYTES_PER_SECOND: u64 = 8 * 1024;

/// What a client's body may do.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Largest body in bytes, the form's own lines included.
    pub max_bytes: u64,
    /// The time over which the minimum rate is measured.
    pub rate_window: Duration,
    /// The longest that the whole body may take.
    pub max_time: Duration,
}

/// How much of a body has arrived; shared by the stream that counts and the clock that checks the rate.
#[derive(Debug, Default)]
struct Received {
    bytes: Cell<u64>,
    too_large: Cell<bool>,
}

/// A request's payload, with a counter. It fails if it is larger than allowed.
pub struct ClientBody {
    payload: web::Payload,
    max_bytes: u64,
    received: Rc<Received>,
}

/// The clock over a [`ClientBody`].
pub struct Pace {
    limits: BodyLimits,
    received: Rc<Received>,
    deadline: Instant,
    /// How long the server has waited for the client in this window.
    waited: Duration,
    /// How many bytes had arrived when this window began.
    bytes_before: u64,
}

/// The client sent too slowly, or for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSlow;

/// Watches `payload` from now on.
pub fn watch(payload: web::Payload, limits: BodyLimits) -> (ClientBody, Pace) {
    let received = Rc::<Received>::default();
    let body = ClientBody { payload, max_bytes: limits.max_bytes, received: received.clone() };
    let deadline = Instant::now() + limits.max_time;
    (body, Pace { limits, received, deadline, waited: Duration::ZERO, bytes_before: 0 })
}

impl Pace {
    /// Starts the body's time again, after it has waited for its turn.
    pub fn restart(&mut self) {
        self.deadline = Instant::now() + self.limits.max_time;
    }

    /// Whether the body failed because it is larger than it may be.
    pub fn is_too_large(&self) -> bool {
        self.received.too_large.get()
    }

    /// Waits for the client, at most as long as it may take.
    pub async fn wait<T>(&mut self, reading: impl Future<Output = T>) -> Result<T, TooSlow> {
        let mut reading = std::pin::pin!(reading);
        loop {
            let begun = Instant::now();
            let window_ends = begun + self.limits.rate_window.saturating_sub(self.waited);
            if let Ok(read) = timeout_at(window_ends.min(self.deadline), &mut reading).await {
                self.waited += begun.elapsed();
                // The time that the store needs counts as part of the body's time.
                return if Instant::now() < self.deadline { Ok(read) } else { Err(TooSlow) };
            }
            let bytes = self.received.bytes.get() - self.bytes_before;
            let needed = MIN_CLIENT_BYTES_PER_SECOND as f64 * self.limits.rate_window.as_secs_f64();
            if Instant::now() >= self.deadline || (bytes as f64) < needed {
                return Err(TooSlow);
            }
            self.waited = Duration::ZERO;
            self.bytes_before = self.received.bytes.get();
        }
    }
}

impl Stream for ClientBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = std::task::ready!(Pin::new(&mut this.payload).poll_next(context));
        if let Some(Ok(chunk)) = &next {
            let bytes = this.received.bytes.get() + chunk.len() as u64;
            this.received.bytes.set(bytes);
            if bytes > this.max_bytes {
                this.received.too_large.set(true);
                return Poll::Ready(Some(Err(PayloadError::Overflow)));
            }
        }
        Poll::Ready(next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::pending;

    fn pace(received: &Rc<Received>) -> Pace {
        let (second, minute) = (Duration::from_secs(1), Duration::from_secs(60));
        let limits = BodyLimits { max_bytes: 1 << 20, rate_window: 10 * second, max_time: 3 * minute };
        let deadline = Instant::now() + limits.max_time;
        Pace { limits, received: received.clone(), deadline, waited: Duration::ZERO, bytes_before: 0 }
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_is_judged_over_waits_alone() {
        let received = Rc::default();
        let mut pace = pace(&received);
        let wait = |seconds| tokio::time::sleep(Duration::from_secs(seconds));
        assert_eq!(pace.wait(wait(6)).await, Ok(()));
        // The store keeps the client waiting; that is not the client's doing.
        tokio::time::advance(Duration::from_secs(60)).await;
        assert_eq!(pace.wait(wait(3)).await, Ok(()));
        assert_eq!(pace.wait(wait(3)).await, Err(TooSlow), "nothing came in ten seconds of waiting");
    }

    #[tokio::test(start_paused = true)]
    async fn a_steady_client_has_until_the_deadline() {
        let received = Rc::<Received>::default();
        let mut pace = pace(&received);
        let begun = Instant::now();
        let dripping = async {
            loop {
                tokio::time::sleep(Duration::from_secs(1)).await;
                received.bytes.set(received.bytes.get() + 20_000);
            }
        };
        assert_eq!(pace.wait(dripping).await, Err::<(), _>(TooSlow));
        assert_eq!(begun.elapsed(), Duration::from_secs(180));
        pace.restart();
        assert_eq!(pace.wait(pending()).await, Err::<(), _>(TooSlow));
    }
}
