//! A TCP relay between the server under test and what it depends on: it counts, holds and breaks.

use std::net::SocketAddr;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
};

/// What the relay does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Hands everything on.
    Pass,
    /// Keeps back what the server sends.
    HoldRequests,
    /// Breaks the connection on which the next answer comes, and passes from then on.
    BreakNextAnswer,
    /// Breaks every connection, new ones too.
    Down,
}

/// A relay that ends with this value.
pub struct Relay {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    requested: watch::Sender<u64>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Relay {
    /// A relay in front of `host:port`.
    pub async fn to(target: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (mode, requested) = (watch::Sender::new(Mode::Pass), watch::Sender::new(0));
        let line = Line { mode: mode.clone(), requested: requested.clone() };
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (line, target) = (line.clone(), target.clone());
                tokio::spawn(async move { line.run(client, target).await });
            }
        });
        Self { address, mode, requested, accepting }
    }

    /// `host:port` of the relay.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }

    /// Waits until this many bytes have come from the server in all.
    pub async fn requested(&self, bytes: u64) {
        self.requested.subscribe().wait_for(|requested| *requested >= bytes).await.unwrap();
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.set(Mode::Down);
        self.accepting.abort();
    }
}

#[derive(Clone)]
struct Line {
    mode: watch::Sender<Mode>,
    requested: watch::Sender<u64>,
}

impl Line {
    async fn run(self, client: TcpStream, target: String) {
        let mut mode = self.mode.subscribe();
        if *mode.borrow() == Mode::Down {
            return;
        }
        let Ok(server) = TcpStream::connect(target).await else { return };
        client.set_nodelay(true).unwrap();
        server.set_nodelay(true).unwrap();
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        // Whichever way ends first ends both: dropping the halves closes the connections.
        tokio::select! {
            () = self.requests(from_client, to_server) => {}
            () = self.answers(from_server, to_client) => {}
            _ = mode.wait_for(|mode| *mode == Mode::Down) => {}
        }
    }

    async fn requests(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut mode = self.mode.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length) = from.read(&mut buffer).await {
            if length == 0 || mode.wait_for(|mode| *mode != Mode::HoldRequests).await.is_err() {
                return;
            }
            self.requested.send_modify(|requested| *requested += length as u64);
            if to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }

    async fn answers(&self, mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin) {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length) = from.read(&mut buffer).await {
            let broken = self.mode.send_if_modified(|mode| {
                let broken = *mode == Mode::BreakNextAnswer;
                if broken {
                    *mode = Mode::Pass;
                }
                broken
            });
            if length == 0 || broken || to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}
