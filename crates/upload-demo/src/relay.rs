//! Relays on 127.0.0.1 that count what passes, so that the demo's figures are measured and not deduced.
//!
//! A relay knows only one thing about HTTP: the two sides take turns (HTTP/1.1 without pipelining or `Expect`, which the
//! demo's client does not use). So a request begins when the client sends after the server did, or at the start.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use anyhow::{Context as _, Result};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

const BUFFER_BYTES: usize = 64 * 1024;

/// What has passed so far; several relays may count on one meter.
#[derive(Debug, Clone, Default)]
pub(crate) struct Meter(Arc<Counters>);

#[derive(Debug, Default)]
struct Counters {
    requests: AtomicU64,
    bytes: AtomicU64,
}

/// A meter's reading, or the difference of two.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Reading {
    pub(crate) requests: u64,
    /// Both directions, HTTP heads included.
    pub(crate) bytes: u64,
}

/// A bound port without a target yet: a server must know its public port before it has a port of its own.
#[derive(Debug)]
pub(crate) struct Entrance {
    listener: TcpListener,
    address: SocketAddr,
}

/// A running relay; dropping it closes its port. Connections that it has accepted go on to their end.
#[derive(Debug)]
pub(crate) struct Relay(JoinHandle<()>);

impl Meter {
    pub(crate) fn read(&self) -> Reading {
        let read = |counter: &AtomicU64| counter.load(Ordering::SeqCst);
        Reading { requests: read(&self.0.requests), bytes: read(&self.0.bytes) }
    }
}

impl Reading {
    pub(crate) fn since(self, before: Self) -> Self {
        Self { requests: self.requests - before.requests, bytes: self.bytes - before.bytes }
    }

    pub(crate) fn plus(self, other: Self) -> Self {
        Self { requests: self.requests + other.requests, bytes: self.bytes + other.bytes }
    }
}

impl Entrance {
    pub(crate) async fn open() -> Result<Self> {
        let opened = async {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
            let address = listener.local_addr()?;
            std::io::Result::Ok(Self { listener, address })
        };
        opened.await.context("cannot bind a port on 127.0.0.1")
    }

    /// Where to go in.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Passes everything on to `target` (host:port) from now on, also what has been waiting.
    pub(crate) fn lead_to(self, target: String, meter: &Meter) -> Relay {
        let meter = meter.clone();
        Relay(tokio::spawn(async move {
            loop {
                match self.listener.accept().await {
                    Ok((client, _)) => drop(tokio::spawn(pass(client, target.clone(), meter.clone()))),
                    Err(error) => {
                        // One connection that went before it was accepted, or no file descriptor left.
                        tracing::warn!(%error, "a relay could not accept a connection");
                        tokio::task::yield_now().await;
                    }
                }
            }
        }))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn pass(client: TcpStream, target: String, meter: Meter) {
    let passed = async {
        let server = TcpStream::connect(&target).await?;
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (client_read, client_write) = client.into_split();
        let (server_read, server_write) = server.into_split();
        let answered = AtomicBool::new(true);
        tokio::try_join!(
            copy(client_read, server_write, |bytes| {
                let is_new = answered.swap(false, Ordering::SeqCst);
                meter.0.requests.fetch_add(u64::from(is_new), Ordering::SeqCst);
                meter.0.bytes.fetch_add(bytes, Ordering::SeqCst);
            }),
            copy(server_read, client_write, |bytes| {
                answered.store(true, Ordering::SeqCst);
                meter.0.bytes.fetch_add(bytes, Ordering::SeqCst);
            }),
        )?;
        std::io::Result::Ok(())
    };
    if let Err(error) = passed.await {
        tracing::debug!(%error, target, "a relayed connection broke");
    }
}

/// Copies up to the end, and passes the end on too. Bytes are counted before they are sent on, so a client that has its answer
/// finds them counted.
async fn copy(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    count: impl Fn(u64),
) -> std::io::Result<()> {
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return to.shutdown().await;
        }
        count(read as u64);
        to.write_all(&buffer[..read]).await?;
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    #[tokio::test]
    async fn turns_are_requests_and_every_byte_is_counted() {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = server.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut question = [0; 8];
            while stream.read_exact(&mut question).await.is_ok() {
                stream.write_all(b"answer").await.unwrap();
            }
        });
        let entrance = Entrance::open().await.unwrap();
        let address = entrance.address;
        let meter = Meter::default();
        let _relay = entrance.lead_to(target, &meter);

        let mut client = TcpStream::connect(address).await.unwrap();
        let mut answer = [0; 6];
        for questions in 1..=3 {
            let before = meter.read();
            // In two pieces, which are one request.
            client.write_all(b"ques").await.unwrap();
            client.write_all(b"tion").await.unwrap();
            client.read_exact(&mut answer).await.unwrap();
            assert_eq!(meter.read().since(before), Reading { requests: 1, bytes: 14 });
            assert_eq!(meter.read().requests, questions);
        }
    }
}
