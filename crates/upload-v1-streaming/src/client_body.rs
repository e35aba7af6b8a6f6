//! The client's body, watched: how fast it comes, how long it takes and how much it is.
//!
//! The clock of the minimum rate runs only while the server waits for the client, never while the store or the
//! database keeps the client waiting. A fault is kept beside the stream, because actix-multipart can only carry
//! actix's own [`PayloadError`].

use std::{
    cell::Cell,
    future::Future,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{error::PayloadError, web};
use bytes::Bytes;
use futures::Stream;
use tokio::time::{Instant, Sleep};

/// The slowest rate at which a client may send, in bytes a second.
pub const MIN_CLIENT_BYTES_PER_SECOND: u64 = 8 * 1024;

/// What a client's body may do.
#[derive(Debug, Clone, Copy)]
pub struct BodyLimits {
    /// Largest body in bytes, the form's own lines included.
    pub max_bytes: u64,
    /// The time over which the minimum rate is judged.
    pub rate_window: Duration,
    /// The longest that the whole body may take.
    pub max_time: Duration,
}

/// What a client did wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyFault {
    /// It sent too slowly, or for too long.
    Timeout,
    /// It sent more than may be sent.
    TooLarge,
}

/// Where a [`ClientBody`] leaves its fault.
pub type FaultCell = Rc<Cell<Option<BodyFault>>>;

/// A request's payload under [`BodyLimits`].
pub struct ClientBody {
    payload: web::Payload,
    limits: BodyLimits,
    received_bytes: u64,
    deadline: Instant,
    /// Since when the server has been waiting for the client, if it is.
    waiting_since: Option<Instant>,
    window_waited: Duration,
    window_bytes: u64,
    timer: Pin<Box<Sleep>>,
    fault: FaultCell,
}

impl ClientBody {
    /// Watches `payload` from now on.
    pub fn new(payload: web::Payload, limits: BodyLimits) -> Self {
        let deadline = Instant::now() + limits.max_time;
        Self {
            payload,
            limits,
            received_bytes: 0,
            deadline,
            waiting_since: None,
            window_waited: Duration::ZERO,
            window_bytes: 0,
            timer: Box::pin(tokio::time::sleep_until(deadline)),
            fault: FaultCell::default(),
        }
    }

    /// Where the fault will stand when the stream has ended with an error that is not the connection's own.
    pub fn fault(&self) -> FaultCell {
        self.fault.clone()
    }

    fn fail(&self, fault: BodyFault) -> Poll<Option<Result<Bytes, PayloadError>>> {
        self.fault.set(Some(fault));
        Poll::Ready(Some(Err(PayloadError::Overflow)))
    }

    fn received(&mut self, chunk: Bytes) -> Poll<Option<Result<Bytes, PayloadError>>> {
        if let Some(since) = self.waiting_since.take() {
            self.window_waited += since.elapsed();
        }
        let length = chunk.len() as u64;
        self.received_bytes += length;
        self.window_bytes += length;
        if self.received_bytes > self.limits.max_bytes {
            return self.fail(BodyFault::TooLarge);
        }
        Poll::Ready(Some(Ok(chunk)))
    }

    /// Waits for the client's next bytes, at most to the end of the rate's window or of the whole body's time.
    fn waiting(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Bytes, PayloadError>>> {
        loop {
            if self.waiting_since.is_none() {
                let now = Instant::now();
                let window_left = self.limits.rate_window.saturating_sub(self.window_waited);
                self.timer.as_mut().reset((now + window_left).min(self.deadline));
                self.waiting_since = Some(now);
            }
            if self.timer.as_mut().poll(context).is_pending() {
                return Poll::Pending;
            }
            let needed = MIN_CLIENT_BYTES_PER_SECOND as f64 * self.limits.rate_window.as_secs_f64();
            if Instant::now() >= self.deadline || (self.window_bytes as f64) < needed {
                return self.fail(BodyFault::Timeout);
            }
            self.waiting_since = None;
            self.window_waited = Duration::ZERO;
            self.window_bytes = 0;
        }
    }
}

impl Stream for ClientBody {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        match Pin::new(&mut this.payload).poll_next(context) {
            Poll::Ready(Some(Ok(chunk))) => this.received(chunk),
            Poll::Ready(other) => Poll::Ready(other),
            Poll::Pending => this.waiting(context),
        }
    }
}
