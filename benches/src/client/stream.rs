//! A TCP connection that counts what passes, and that can be slowed down to a client's rate.
//!
//! It never reports that writing failed. A server that refuses an upload answers and closes while the file is still being
//! sent; the answer is then in the receive buffer, and hyper would throw it away for the sake of the write's error. So a
//! broken connection only stops taking bytes, and reading says how it ended: with an answer, or without.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep},
};

use super::Role;
use crate::load::Progress;

/// How much a paced client may be behind its rate and make up for at once: so many parts of a second.
const BUCKETS_PER_SECOND: f64 = 10.0;

/// A counted, perhaps paced, connection.
pub struct CountedStream {
    tcp: TcpStream,
    role: Role,
    progress: Progress,
    pace: Option<Pace>,
    is_broken: bool,
}

impl CountedStream {
    pub fn new(tcp: TcpStream, role: Role, progress: Progress, bytes_per_second: Option<u64>) -> Self {
        Self { tcp, role, progress, pace: bytes_per_second.map(Pace::new), is_broken: false }
    }

    /// Notes what a write came to; an error leaves it pending, and the reading side tells the rest.
    fn wrote(&mut self, result: io::Result<usize>) -> Poll<io::Result<usize>> {
        match result {
            Ok(bytes) => {
                self.progress.wrote(self.role, bytes);
                if let Some(pace) = &mut self.pace {
                    pace.credit_bytes -= bytes as f64;
                }
                Poll::Ready(Ok(bytes))
            }
            Err(error) => {
                tracing::debug!(%error, "a connection broke while it was written to");
                self.is_broken = true;
                Poll::Pending
            }
        }
    }
}

impl AsyncRead for CountedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(context, buffer))?;
        self.progress.read(self.role, buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for CountedStream {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.is_broken {
            return Poll::Pending;
        }
        let allowed = match &mut self.pace {
            Some(pace) => ready!(pace.poll_allowance(context)).min(bytes.len()),
            None => bytes.len(),
        };
        let result = ready!(Pin::new(&mut self.tcp).poll_write(context, &bytes[..allowed]));
        self.wrote(result)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.is_broken {
            return Poll::Pending;
        }
        if self.pace.is_some() {
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(context, first.map_or(&[], |slice| slice));
        }
        let result = ready!(Pin::new(&mut self.tcp).poll_write_vectored(context, slices));
        self.wrote(result)
    }

    /// True, or hyper would copy the file into a buffer of its own.
    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(context)
    }
}

/// A token bucket: what may be written now, so that the client keeps to its rate.
struct Pace {
    bytes_per_second: f64,
    bucket_bytes: f64,
    credit_bytes: f64,
    filled_at: Instant,
    wait: Pin<Box<Sleep>>,
}

impl Pace {
    fn new(bytes_per_second: u64) -> Self {
        let bytes_per_second = bytes_per_second.max(1) as f64;
        let bucket_bytes = (bytes_per_second / BUCKETS_PER_SECOND).max(2.0);
        Self {
            bytes_per_second,
            bucket_bytes,
            credit_bytes: bucket_bytes,
            filled_at: Instant::now(),
            wait: Box::pin(sleep(Duration::ZERO)),
        }
    }

    /// Waits until the bucket is half full, so that a slow client sends few segments of some size and not many tiny ones.
    fn poll_allowance(&mut self, context: &mut Context<'_>) -> Poll<usize> {
        loop {
            let now = Instant::now();
            let earned = (now - self.filled_at).as_secs_f64() * self.bytes_per_second;
            self.credit_bytes = (self.credit_bytes + earned).min(self.bucket_bytes);
            self.filled_at = now;
            let missing = self.bucket_bytes / 2.0 - self.credit_bytes;
            if missing <= 0.0 {
                return Poll::Ready(self.credit_bytes as usize);
            }
            self.wait.as_mut().reset(now + Duration::from_secs_f64(missing / self.bytes_per_second));
            ready!(self.wait.as_mut().poll(context));
        }
    }
}
