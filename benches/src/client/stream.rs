//! A TCP connection that counts its bytes, and can limit its rate.
//!
//! It never reports a failed write. A server that refuses an upload may answer and close while the file is still being sent. hyper would
//! then report the failed write and drop the answer. So a broken connection only stops taking bytes, and reading returns the answer or
//! the error.

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

/// The token bucket holds this fraction of a second.
const BUCKETS_PER_SECOND: f64 = 10.0;

/// A connection that is counted, and perhaps slowed down.
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

    /// Counts a write. After an error, writing stays pending, and reading reports the end.
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
                tracing::debug!(%error, "a connection broke during a write");
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

    /// Otherwise hyper would copy the file.
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

/// A token bucket that limits the rate of writing.
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

    /// Waits until the bucket is half full, so that a slow client does not send many tiny segments.
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
