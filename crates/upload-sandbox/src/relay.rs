//! A TCP relay between a program under test and what it depends on: it counts, holds, breaks, and sets a store's clock wrong.
//! What fails here fails as a network does, and the parts behind it stay the real ones.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use chrono::{NaiveDateTime, TimeDelta};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use url::Url;

/// How long what is waited for may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// The one form in which servers send a date (RFC 9110, section 5.6.7).
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";
const HTTP_DATE_BYTES: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();

/// What the relay does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Hands everything on.
    Pass,
    /// Keeps back what the program sends.
    HoldRequests,
    /// Keeps back what has this word in it, such as a header of one kind of request alone: whatever else is in the same piece, too.
    HoldRequestsWith(&'static str),
    /// Hands on what has this word in it, and keeps back every answer on that connection: it is done, and the program does not know.
    HoldAnswersTo(&'static str),
    /// Hands on what has this word in it, and breaks the connection when the answer comes: it is done, and the program does not know.
    BreakAnswersTo(&'static str),
    /// Breaks each connection on which this word comes from the program, and hands nothing of that piece on.
    BreakRequestsWith(&'static str),
    /// Breaks the connection on which the next answer comes, and passes from then on.
    BreakNextAnswer,
    /// Breaks every connection, new ones too.
    Down,
}

/// A relay that ends with this value.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    line: Line,
    accepting: JoinHandle<()>,
}

impl Relay {
    /// A relay in front of `host:port`, on the runtime of the caller.
    ///
    /// # Errors
    /// Where no port can be had.
    pub async fn to(target: impl Into<String>) -> Result<Self> {
        let target = target.into();
        let listener = TcpListener::bind("127.0.0.1:0").await.context("no port for a relay")?;
        let address = listener.local_addr()?;
        let line = Line {
            mode: watch::Sender::new(Mode::Pass),
            requested: watch::Sender::new(0),
            held: watch::Sender::new(0),
            date_shift: watch::Sender::new(TimeDelta::zero()),
        };
        let shared = line.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (line, target) = (shared.clone(), target.clone());
                tokio::spawn(async move { line.run(client, target).await });
            }
        });
        Ok(Self { address, line, accepting })
    }

    /// A relay in front of what a URL names, and the URL that leads through it.
    ///
    /// # Errors
    /// Where the URL names no host, or no port can be had.
    pub async fn before(url: &str) -> Result<(String, Self)> {
        let mut url = Url::parse(url)?;
        let host = url.host_str().context("a URL to relay to names no host")?;
        let port = url.port_or_known_default().unwrap_or(5432);
        let relay = Self::to(format!("{host}:{port}")).await?;
        url.set_host(Some("127.0.0.1"))?;
        url.set_port(Some(relay.address.port())).map_err(|()| anyhow!("{url} takes no port"))?;
        Ok((url.to_string(), relay))
    }

    /// `host:port` of the relay.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Does something else from now on.
    pub fn set(&self, mode: Mode) {
        self.line.mode.send_replace(mode);
    }

    /// Lets the `Date` of every HTTP answer from now on be so many seconds later than it was.
    pub fn shift_dates(&self, seconds: i64) {
        self.line.date_shift.send_replace(TimeDelta::seconds(seconds));
    }

    /// Waits until this many bytes have come from the program in all.
    ///
    /// # Panics
    /// Where they do not come.
    pub async fn requested(&self, bytes: u64) {
        let mut requested = self.line.requested.subscribe();
        let come = timeout(PATIENCE, requested.wait_for(|requested| *requested >= bytes)).await;
        assert!(come.is_ok_and(|come| come.is_ok()), "{bytes} bytes do not come");
    }

    /// Waits until something is kept back on this many connections: a request, or an answer that has come.
    ///
    /// # Panics
    /// Where it does not come.
    pub async fn holds(&self, connections: usize) {
        let mut held = self.line.held.subscribe();
        let come = timeout(PATIENCE, held.wait_for(|held| *held >= connections)).await;
        assert!(come.is_ok_and(|come| come.is_ok()), "nothing to keep back comes on {connections} connections");
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.set(Mode::Down);
        self.accepting.abort();
    }
}

#[derive(Debug, Clone)]
struct Line {
    mode: watch::Sender<Mode>,
    requested: watch::Sender<u64>,
    /// On how many connections something is kept back.
    held: watch::Sender<usize>,
    date_shift: watch::Sender<TimeDelta>,
}

/// Something that is kept back, until it is handed on or its connection ends.
struct Held<'a>(&'a watch::Sender<usize>);

impl<'a> Held<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|held| *held += 1);
        Self(count)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|held| *held -= 1);
    }
}

impl Mode {
    fn holds(self, bytes: &[u8]) -> bool {
        match self {
            Self::HoldRequests => true,
            Self::HoldRequestsWith(word) => has(bytes, word),
            Self::Pass
            | Self::HoldAnswersTo(_)
            | Self::BreakAnswersTo(_)
            | Self::BreakRequestsWith(_)
            | Self::BreakNextAnswer
            | Self::Down => false,
        }
    }

    fn loses_answers_to(self, bytes: &[u8]) -> bool {
        matches!(self, Self::HoldAnswersTo(word) | Self::BreakAnswersTo(word) if has(bytes, word))
    }

    fn breaks(self, bytes: &[u8]) -> bool {
        matches!(self, Self::BreakRequestsWith(word) if has(bytes, word))
    }
}

fn has(bytes: &[u8], word: &str) -> bool {
    bytes.windows(word.len()).any(|window| window == word.as_bytes())
}

impl Line {
    async fn run(self, client: TcpStream, target: String) {
        let mut mode = self.mode.subscribe();
        if *mode.borrow() == Mode::Down {
            return;
        }
        let Ok(server) = TcpStream::connect(target).await else { return };
        // Whoever is slower without it only makes a test slower.
        let _ = (client.set_nodelay(true), server.set_nodelay(true));
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let unanswered = AtomicBool::new(false);
        // Whichever way ends first ends both: dropping the halves closes the connections.
        tokio::select! {
            () = self.requests(from_client, to_server, &unanswered) => {}
            () = self.answers(from_server, to_client, &unanswered) => {}
            _ = mode.wait_for(|mode| *mode == Mode::Down) => {}
        }
    }

    /// Keeps something back until the mode is another. `false` where nothing is to be handed on any more.
    async fn hold(&self, mode: &mut watch::Receiver<Mode>, released: impl Fn(Mode) -> bool) -> bool {
        let _held = Held::new(&self.held);
        mode.wait_for(|mode| released(*mode)).await.is_ok_and(|mode| *mode != Mode::Down)
    }

    async fn requests(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        unanswered: &AtomicBool,
    ) {
        let mut mode = self.mode.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        let mut was_held = false;
        while let Ok(length) = from.read(&mut buffer).await {
            let bytes = &buffer[..length];
            if length == 0 && was_held {
                // The program has given it up, but what was handed on late is carried out all the same.
                return std::future::pending().await;
            }
            if length == 0 || mode.borrow().breaks(bytes) {
                return;
            }
            if mode.borrow().loses_answers_to(bytes) {
                unanswered.store(true, Ordering::SeqCst);
            }
            if mode.borrow_and_update().holds(bytes) {
                was_held = true;
                if !self.hold(&mut mode, |mode| !mode.holds(bytes)).await {
                    return;
                }
            }
            self.requested.send_modify(|requested| *requested += length as u64);
            if to.write_all(bytes).await.is_err() {
                return;
            }
        }
    }

    async fn answers(
        &self,
        mut from: impl AsyncRead + Unpin,
        mut to: impl AsyncWrite + Unpin,
        unanswered: &AtomicBool,
    ) {
        let mut mode = self.mode.subscribe();
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length) = from.read(&mut buffer).await {
            let broken = self.mode.send_if_modified(|mode| {
                let broken = *mode == Mode::BreakNextAnswer;
                if broken {
                    *mode = Mode::Pass;
                }
                broken
            });
            let shift = *self.date_shift.borrow();
            if !shift.is_zero() {
                shift_date(&mut buffer[..length], shift);
            }
            let unanswered = length > 0 && unanswered.load(Ordering::SeqCst);
            if unanswered && matches!(*mode.borrow_and_update(), Mode::BreakAnswersTo(_)) {
                return;
            }
            if unanswered && !self.hold(&mut mode, |mode| !matches!(mode, Mode::HoldAnswersTo(_))).await {
                return;
            }
            if length == 0 || broken || to.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    }
}

/// Changes the `Date` in an answer's head, which a server sends in one piece; every date is as long as another.
fn shift_date(head: &mut [u8], by: TimeDelta) {
    const NAME: &[u8] = b"\r\ndate: ";
    let Some(at) = head.windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME)) else { return };
    let Some(date) = head.get_mut(at + NAME.len()..at + NAME.len() + HTTP_DATE_BYTES) else { return };
    let said = std::str::from_utf8(date).ok().and_then(|said| NaiveDateTime::parse_from_str(said, HTTP_DATE).ok());
    if let Some(said) = said {
        date.copy_from_slice((said + by).format(HTTP_DATE).to_string().as_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_date_is_shifted_in_place() {
        let mut head = *b"HTTP/1.1 200 OK\r\nDate: Sat, 31 Dec 2022 23:59:50 GMT\r\n\r\n";
        shift_date(&mut head, TimeDelta::seconds(40));
        assert_eq!(&head, b"HTTP/1.1 200 OK\r\nDate: Sun, 01 Jan 2023 00:00:30 GMT\r\n\r\n");
    }
}
