//! The body of one streaming PUT: a bounded window between the client's form and the store.
//!
//! Every piece takes credits before it enters the window and gives them back when the HTTP client has dropped the
//! last slice of it, so the window also bounds what hyper queues (it would take up to 408 KiB of its own accord).
//!
//! The body ends without an error only when the writer says so, after the form has proven its length. A dropped writer makes
//! the body and the PUT fail. `upload_storage::Storage::put_stream` holds the last slice back until that end.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    time::timeout,
};

/// What one active upload may hold between the client and the store, in bytes.
pub const WINDOW_BYTES: usize = 256 * 1024;
/// The largest slice handed to the HTTP client, in bytes: large enough for few system calls, small enough to flow.
const SLICE_BYTES: usize = 64 * 1024;
/// How many slices may wait for the HTTP client.
const QUEUED_SLICES: usize = 4;

/// Why a slice could not be handed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The store took no bytes for too long.
    #[error("the store took no bytes for too long")]
    Stalled,
    /// The PUT has ended; its own result says why.
    #[error("the PUT ended before its body")]
    Closed,
}

/// The writing end of an upload's body.
pub struct UploadWriter {
    slices: mpsc::Sender<Written>,
    credits: Arc<Semaphore>,
    stall_timeout: Duration,
}

enum Written {
    Slice(Bytes),
    End,
}

struct Credited {
    bytes: Bytes,
    _credits: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Credited {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Makes a body of exactly `length` bytes and the end that writes it; a write waits at most `stall_timeout`.
pub fn upload_body(length: u64, stall_timeout: Duration) -> (UploadWriter, UploadBody) {
    let (sender, receiver) = mpsc::channel(QUEUED_SLICES);
    let credits = Arc::new(Semaphore::new(WINDOW_BYTES));
    (
        UploadWriter { slices: sender, credits, stall_timeout },
        UploadBody { slices: receiver, remaining: length, finished: false },
    )
}

impl UploadWriter {
    /// Waits until the window has room for `bytes` (at most [`WINDOW_BYTES`] of them), and hands them on.
    pub async fn write(&self, bytes: Bytes) -> Result<(), WriteError> {
        let wanted = u32::try_from(bytes.len().min(WINDOW_BYTES)).unwrap_or(u32::MAX);
        let credits = timeout(self.stall_timeout, self.credits.clone().acquire_many_owned(wanted))
            .await
            .map_err(|_elapsed| WriteError::Stalled)?
            .map_err(|_closed| WriteError::Closed)?;
        let mut rest = Bytes::from_owner(Credited { bytes, _credits: credits });
        while !rest.is_empty() {
            let slice = rest.split_to(rest.len().min(SLICE_BYTES));
            self.send(Written::Slice(slice)).await?;
        }
        Ok(())
    }

    /// Says that everything was written and that the form has proven it.
    pub async fn finish(self) -> Result<(), WriteError> {
        self.send(Written::End).await
    }

    async fn send(&self, written: Written) -> Result<(), WriteError> {
        let sent = timeout(self.stall_timeout, self.slices.send(written)).await;
        sent.map_err(|_elapsed| WriteError::Stalled)?.map_err(|_closed| WriteError::Closed)
    }
}

/// The reading end: what the HTTP client sends.
pub struct UploadBody {
    slices: mpsc::Receiver<Written>,
    remaining: u64,
    finished: bool,
}

/// The writer went away: the client's form failed, so nothing may be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the upload was given up before its end")]
pub struct GivenUp;

impl Body for UploadBody {
    type Data = Bytes;
    type Error = GivenUp;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, GivenUp>>> {
        if self.finished {
            return Poll::Ready(None);
        }
        match std::task::ready!(self.slices.poll_recv(context)) {
            Some(Written::Slice(slice)) => {
                self.remaining = self.remaining.saturating_sub(slice.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(slice))))
            }
            Some(Written::End) => {
                self.finished = true;
                Poll::Ready(None)
            }
            None => Poll::Ready(Some(Err(GivenUp))),
        }
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use futures::{FutureExt, future::poll_fn};

    async fn next(body: &mut UploadBody) -> Option<Result<Bytes, GivenUp>> {
        let frame = poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        frame.map(|frame| frame.map(|frame| frame.into_data().ok().unwrap()))
    }

    #[tokio::test]
    async fn the_window_opens_again_only_when_the_last_slice_of_a_piece_is_dropped() {
        let (writer, mut body) = upload_body(1 << 20, Duration::from_secs(10));
        writer.write(Bytes::from(vec![1; WINDOW_BYTES])).await.unwrap();
        assert!(writer.write(Bytes::from_static(b"x")).now_or_never().is_none(), "the window is full");
        let mut held = Vec::new();
        for _slice in 0..WINDOW_BYTES / SLICE_BYTES {
            held.push(next(&mut body).await.unwrap().unwrap());
        }
        held.truncate(1);
        assert!(writer.write(Bytes::from_static(b"x")).now_or_never().is_none(), "one slice is still held");
        held.clear();
        assert!(writer.write(Bytes::from_static(b"x")).now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_body_ends_well_only_when_its_writer_says_so() {
        let (writer, mut body) = upload_body(2, Duration::from_secs(10));
        writer.write(Bytes::from_static(b"ab")).await.unwrap();
        drop(writer);
        assert_eq!(next(&mut body).await, Some(Ok(Bytes::from_static(b"ab"))));
        assert_eq!(next(&mut body).await, Some(Err(GivenUp)), "all was written, but nobody vouched for it");

        let (writer, mut body) = upload_body(2, Duration::from_secs(10));
        writer.write(Bytes::from_static(b"ab")).await.unwrap();
        writer.finish().await.unwrap();
        assert_eq!(next(&mut body).await, Some(Ok(Bytes::from_static(b"ab"))));
        assert_eq!(next(&mut body).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_takes_nothing_is_given_up() {
        let (writer, _body) = upload_body(1 << 20, Duration::from_secs(10));
        writer.write(Bytes::from(vec![1; WINDOW_BYTES])).await.unwrap();
        assert_eq!(writer.write(Bytes::from_static(b"x")).await.err(), Some(WriteError::Stalled));
    }
}
