//! Bodies of a PUT: a stream that can be sent once, and a buffer that can be sent again.
//!
//! hyper writes what Content-Length owes and silently drops the rest
//! (<https://docs.rs/hyper/1.12.0/src/hyper/proto/h1/encode.rs.html>), so a body that is too long would be stored cut off. Therefore the
//! frame that completes the length is held back until the body has ended: a PUT that lacks its last byte stores nothing.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
};

use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, combinators::UnsyncBoxBody};

use crate::BoxError;

/// Why a streamed body broke off, if not because of its own error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is longer than the announced length.
    #[error("the body is longer than announced")]
    TooLong,
    /// It ends before the announced length.
    #[error("the body is shorter than announced")]
    TooShort,
    /// An earlier attempt had already taken bytes when a retry began, or a replaced attempt was polled again.
    #[error("the body has begun to flow and cannot be sent again")]
    Taken,
}

/// A body of exactly `length` bytes that may be tried again until its first byte is taken: the SDK clones a request before it retries,
/// and the clones share the one body.
pub(crate) fn once<B>(body: B, length: u64) -> SdkBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    let source = Source {
        body: body.map_err(Into::into).boxed_unsync(),
        length,
        remaining: length,
        last: None,
        state: State::Flowing,
        reader: 0,
    };
    let source = Arc::new(Mutex::new(source));
    SdkBody::retryable(move || SdkBody::from_body_1_x(Reader { source: Arc::clone(&source), number: None }))
}

/// A body that is completely in memory and can be sent any number of times.
pub(crate) fn rope(chunks: Vec<Bytes>) -> SdkBody {
    SdkBody::retryable(move || {
        let chunks: VecDeque<Bytes> = chunks.iter().filter(|chunk| !chunk.is_empty()).cloned().collect();
        SdkBody::from_body_1_x(Rope(chunks))
    })
}

/// The one body behind all attempts.
struct Source {
    body: UnsyncBoxBody<Bytes, BoxError>,
    length: u64,
    remaining: u64,
    /// The frame that completes the length, until the body has ended.
    last: Option<Bytes>,
    state: State,
    /// The number of the attempt that polled first most recently: the only one that may read.
    reader: u64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Flowing,
    Ended,
    Failed,
}

impl Source {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        match self.state {
            State::Flowing => {}
            State::Ended => return Poll::Ready(self.last.take().map(|last| Ok(Frame::data(last)))),
            State::Failed => return self.fail(BodyError::Taken),
        }
        loop {
            let frame = match ready!(Pin::new(&mut self.body).poll_frame(context)) {
                Some(Ok(frame)) => frame,
                Some(Err(error)) => return self.fail(error),
                None if self.remaining > 0 => return self.fail(BodyError::TooShort),
                None => {
                    self.state = State::Ended;
                    return Poll::Ready(self.last.take().map(|last| Ok(Frame::data(last))));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            if data.is_empty() {
                continue;
            }
            let Some(remaining) = self.remaining.checked_sub(data.len() as u64) else {
                return self.fail(BodyError::TooLong);
            };
            self.remaining = remaining;
            if remaining > 0 {
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            self.last = Some(data);
        }
    }

    fn fail<T>(&mut self, error: impl Into<BoxError>) -> Poll<Option<Result<T, BoxError>>> {
        self.state = State::Failed;
        self.last = None;
        Poll::Ready(Some(Err(error.into())))
    }

    fn is_untouched(&self) -> bool {
        self.remaining == self.length && self.state == State::Flowing
    }
}

/// One attempt's view of the body.
struct Reader {
    source: Arc<Mutex<Source>>,
    /// Given at the first poll, not before: the SDK makes clones that it never sends.
    number: Option<u64>,
}

impl Reader {
    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Body for Reader {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let shared = Arc::clone(&self.source);
        let mut source = shared.lock().unwrap_or_else(PoisonError::into_inner);
        if self.number.is_none() && source.is_untouched() {
            source.reader += 1;
            self.number = Some(source.reader);
        }
        if self.number != Some(source.reader) {
            return Poll::Ready(Some(Err(BodyError::Taken.into())));
        }
        source.poll_frame(context)
    }

    fn size_hint(&self) -> SizeHint {
        let source = self.source();
        let last = source.last.as_ref().map_or(0, Bytes::len) as u64;
        SizeHint::with_exact(source.remaining + last)
    }
}

/// Chunks in memory.
struct Rope(VecDeque<Bytes>);

impl Body for Rope {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        Poll::Ready(self.0.pop_front().map(|chunk| Ok(Frame::data(chunk))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_empty()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.0.iter().map(|chunk| chunk.len() as u64).sum())
    }
}

#[cfg(test)]
#[path = "body_tests.rs"]
mod tests;
