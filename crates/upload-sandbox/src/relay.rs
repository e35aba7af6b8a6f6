//! A TCP relay between a program and its database or store: it counts, holds back and breaks the traffic, and sets a store's clock wrong.
//! A failure here looks like a failure of the network, and the parts behind the relay stay real.
//!
//! It knows only one thing about the traffic: the two sides take turns. (HTTP/1.1 without pipelining or `Expect` does.) A request begins
//! when the program sends after the other side did, or when it sends its first bytes.

use std::{
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use chrono::{NaiveDateTime, TimeDelta};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpListener, TcpStream,
        tcp::{OwnedReadHalf, OwnedWriteHalf},
    },
    sync::watch,
    task::JoinHandle,
    time::timeout,
};
use url::Url;

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(60);
const BUFFER_BYTES: usize = 64 * 1024;
/// The only date format that servers send (RFC 9110, section 5.6.7).
const HTTP_DATE: &str = "%a, %d %b %Y %H:%M:%S GMT";
const HTTP_DATE_BYTES: usize = "Sun, 06 Nov 1994 08:49:37 GMT".len();

/// What the relay does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes everything on.
    Pass,
    /// Holds back everything that the program sends.
    HoldRequests,
    /// Holds back each piece that has this word in it, such as a header that only one kind of request has. It holds the whole piece.
    HoldRequestsWith(&'static str),
    /// Passes on requests with this word, and holds back every answer on that connection: the work is done, and the program does not know.
    HoldAnswersTo(&'static str),
    /// Passes on requests with this word, and breaks the connection when the answer comes: the work is done, and the program does not know.
    BreakAnswersTo(&'static str),
    /// Breaks each connection on which the program sends this word, and passes on nothing of that piece.
    BreakRequestsWith(&'static str),
    /// Breaks the connection on which the next answer comes. From then on it passes everything on.
    BreakNextAnswer,
    /// Breaks every connection, also new ones.
    Down,
}

/// The traffic that a relay has passed on, or the difference of two such readings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Passed {
    /// Requests that have begun.
    pub requests: u64,
    /// Bytes from the program.
    pub requested_bytes: u64,
    /// Bytes to the program.
    pub answered_bytes: u64,
}

/// A port that is bound and leads nowhere yet. A server must know its public port before it has its own port.
#[derive(Debug)]
pub struct Entrance {
    listener: TcpListener,
    address: SocketAddr,
}

/// A relay that ends with this value.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    line: Line,
    accepting: JoinHandle<()>,
}

impl Passed {
    /// Bytes in both directions.
    pub fn bytes(self) -> u64 {
        self.requested_bytes + self.answered_bytes
    }

    /// The traffic since an earlier reading.
    #[must_use]
    pub fn since(self, before: Self) -> Self {
        self.with(before, |after, before| after - before)
    }

    /// The sum of both readings.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        self.with(other, |here, there| here + there)
    }

    fn with(self, other: Self, combine: fn(u64, u64) -> u64) -> Self {
        Self {
            requests: combine(self.requests, other.requests),
            requested_bytes: combine(self.requested_bytes, other.requested_bytes),
            answered_bytes: combine(self.answered_bytes, other.answered_bytes),
        }
    }
}

impl Entrance {
    /// Binds a port of 127.0.0.1.
    ///
    /// # Errors
    /// If there is no free port.
    pub async fn open() -> Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.context("no port for a relay")?;
        let address = listener.local_addr()?;
        Ok(Self { listener, address })
    }

    /// The HTTP URL of the port.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Passes everything on to `host:port` from now on, also connections that wait already. Runs on the runtime of the caller.
    pub fn lead_to(self, target: impl Into<String>) -> Relay {
        let (target, line) = (target.into(), Line::new());
        let shared = line.clone();
        let accepting = tokio::spawn(async move {
            loop {
                match self.listener.accept().await {
                    Ok((client, _)) => {
                        let (line, target) = (shared.clone(), target.clone());
                        tokio::spawn(async move { line.run(client, target).await });
                    }
                    Err(error) => {
                        // Either a connection closed before it was accepted, or there is no file descriptor left.
                        tracing::warn!(%error, "a relay could not accept a connection");
                        tokio::task::yield_now().await;
                    }
                }
            }
        });
        Relay { address: self.address, line, accepting }
    }
}

impl Relay {
    /// A relay in front of the server that a URL names, and the URL that leads through it. Runs on the runtime of the caller.
    ///
    /// # Errors
    /// If the URL names no host, or if there is no free port.
    pub async fn before(url: &str) -> Result<(String, Self)> {
        let mut url = Url::parse(url)?;
        let host = url.host_str().context("a URL to relay to names no host")?;
        let port = url.port_or_known_default().unwrap_or(5432);
        let relay = Entrance::open().await?.lead_to(format!("{host}:{port}"));
        url.set_host(Some("127.0.0.1"))?;
        url.set_port(Some(relay.address.port())).map_err(|()| anyhow!("{url} takes no port"))?;
        Ok((url.to_string(), relay))
    }

    /// Sets the mode from now on.
    pub fn set(&self, mode: Mode) {
        self.line.mode.send_replace(mode);
    }

    /// From now on makes the `Date` of every HTTP answer this many seconds later.
    pub fn shift_dates(&self, seconds: i64) {
        self.line.date_shift.send_replace(TimeDelta::seconds(seconds));
    }

    /// The traffic so far. The relay counts bytes before it passes them on, so an answer is counted before the program has it.
    pub fn passed(&self) -> Passed {
        *self.line.passed.borrow()
    }

    /// How many pieces contained a mode's word, on all connections.
    pub fn said(&self) -> usize {
        *self.line.said.borrow()
    }

    /// Waits until this many bytes have come from the program in all.
    ///
    /// # Panics
    /// If they do not come.
    pub async fn requested(&self, bytes: u64) {
        let mut passed = self.line.passed.subscribe();
        let come = timeout(PATIENCE, passed.wait_for(|passed| passed.requested_bytes >= bytes)).await;
        assert!(come.is_ok_and(|come| come.is_ok()), "{bytes} bytes do not come");
    }

    /// Waits until this many connections are held: each has a request, or an answer that has come.
    ///
    /// # Panics
    /// If there are not that many in time.
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
    passed: watch::Sender<Passed>,
    said: watch::Sender<usize>,
    /// How many connections are held now.
    held: watch::Sender<usize>,
    date_shift: watch::Sender<TimeDelta>,
}

/// The state that the two directions of a connection share.
struct Turns {
    /// Whether the program's next bytes are a new request.
    answered: AtomicBool,
    /// Whether the program gets no more answers.
    unanswered: AtomicBool,
}

/// A held piece, until it is passed on or its connection ends.
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
    /// The word for which the relay looks.
    fn word(self) -> Option<&'static str> {
        match self {
            Self::HoldRequestsWith(word)
            | Self::HoldAnswersTo(word)
            | Self::BreakAnswersTo(word)
            | Self::BreakRequestsWith(word) => Some(word),
            Self::Pass | Self::HoldRequests | Self::BreakNextAnswer | Self::Down => None,
        }
    }

    fn hears(self, bytes: &[u8]) -> bool {
        self.word().is_some_and(|word| bytes.windows(word.len()).any(|window| window == word.as_bytes()))
    }

    fn holds(self, bytes: &[u8]) -> bool {
        self == Self::HoldRequests || matches!(self, Self::HoldRequestsWith(_)) && self.hears(bytes)
    }

    /// How many bytes of a piece are searched again with the next piece, to find a word on their border.
    fn border_bytes(self) -> usize {
        self.word().map_or(0, |word| word.len() - 1)
    }
}

impl Line {
    fn new() -> Self {
        Self {
            mode: watch::Sender::new(Mode::Pass),
            passed: watch::Sender::new(Passed::default()),
            said: watch::Sender::new(0),
            held: watch::Sender::new(0),
            date_shift: watch::Sender::new(TimeDelta::zero()),
        }
    }

    async fn run(self, client: TcpStream, target: String) {
        let mut mode = self.mode.subscribe();
        if *mode.borrow() == Mode::Down {
            return;
        }
        let passed = async {
            let server = TcpStream::connect(&target).await?;
            client.set_nodelay(true)?;
            server.set_nodelay(true)?;
            let (from_client, to_client) = client.into_split();
            let (from_server, to_server) = server.into_split();
            let turns = Turns { answered: AtomicBool::new(true), unanswered: AtomicBool::new(false) };
            // If one direction breaks, both end: dropping the halves closes the connections.
            tokio::try_join!(
                self.requests(from_client, to_server, &turns),
                self.answers(from_server, to_client, &turns),
            )
        };
        let passed = tokio::select! {
            passed = passed => passed,
            _ = mode.wait_for(|mode| *mode == Mode::Down) => return,
        };
        if let Err(error) = passed {
            tracing::debug!(%error, target, "a relayed connection broke");
        }
    }

    /// Holds a piece until another mode releases it.
    async fn hold(&self, mode: &mut watch::Receiver<Mode>, released: impl Fn(Mode) -> bool) -> io::Result<()> {
        let _held = Held::new(&self.held);
        match mode.wait_for(|mode| released(*mode)).await {
            Ok(mode) if *mode != Mode::Down => Ok(()),
            _ => Err(broken()),
        }
    }

    /// Passes on all bytes that the program sends, and its end.
    async fn requests(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, turns: &Turns) -> io::Result<()> {
        let mut mode = self.mode.subscribe();
        let mut buffer = vec![0; 2 * BUFFER_BYTES];
        // The end of the piece before, at the buffer's start.
        let mut border = 0;
        let mut was_held = false;
        loop {
            let length = from.read(&mut buffer[border..border + BUFFER_BYTES]).await?;
            if length == 0 {
                // The program has given up.
                if turns.unanswered.load(Ordering::SeqCst) {
                    return Err(broken());
                }
                if was_held {
                    // The other side must still do the work that was passed on late, so it does not hear of the end.
                    to.forget();
                    return Ok(());
                }
                return to.shutdown().await;
            }
            let (heard, bytes) = (&buffer[..border + length], &buffer[border..border + length]);
            let now = *mode.borrow_and_update();
            if now.hears(heard) {
                self.said.send_modify(|said| *said += 1);
                match now {
                    Mode::BreakRequestsWith(_) => return Err(broken()),
                    Mode::HoldAnswersTo(_) | Mode::BreakAnswersTo(_) => turns.unanswered.store(true, Ordering::SeqCst),
                    _ => {}
                }
            }
            if now.holds(heard) {
                was_held = true;
                self.hold(&mut mode, |mode| !mode.holds(heard)).await?;
            }
            let is_new = turns.answered.swap(false, Ordering::SeqCst);
            self.passed.send_modify(|passed| {
                passed.requests += u64::from(is_new);
                passed.requested_bytes += length as u64;
            });
            to.write_all(bytes).await?;
            let end = border + length;
            border = mode.borrow().border_bytes().min(end);
            buffer.copy_within(end - border..end, 0);
        }
    }

    /// Passes on all bytes that the other side sends, and its end.
    async fn answers(&self, mut from: OwnedReadHalf, mut to: OwnedWriteHalf, turns: &Turns) -> io::Result<()> {
        let mut mode = self.mode.subscribe();
        let mut buffer = vec![0; BUFFER_BYTES];
        loop {
            let length = from.read(&mut buffer).await?;
            if length == 0 {
                return to.shutdown().await;
            }
            let broke = self.mode.send_if_modified(|mode| {
                let breaks = *mode == Mode::BreakNextAnswer;
                if breaks {
                    *mode = Mode::Pass;
                }
                breaks
            });
            let unanswered = turns.unanswered.load(Ordering::SeqCst);
            if broke || unanswered && matches!(*mode.borrow_and_update(), Mode::BreakAnswersTo(_)) {
                return Err(broken());
            }
            if unanswered {
                self.hold(&mut mode, |mode| !matches!(mode, Mode::HoldAnswersTo(_))).await?;
            }
            let shift = *self.date_shift.borrow();
            if !shift.is_zero() {
                shift_date(&mut buffer[..length], shift);
            }
            turns.answered.store(true, Ordering::SeqCst);
            self.passed.send_modify(|passed| passed.answered_bytes += length as u64);
            to.write_all(&buffer[..length]).await?;
        }
    }
}

fn broken() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "as a test wants it")
}

/// Changes the `Date` in an answer's head, which a server sends in one piece. All dates have the same length.
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
    #![expect(clippy::unwrap_used, reason = "a test may fail by panicking")]

    use super::*;

    /// A server that answers every eight bytes, and a relay before it.
    async fn relay() -> (TcpStream, Relay) {
        let server = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let target = server.local_addr().unwrap().to_string();
        tokio::spawn(async move {
            let (mut stream, _) = server.accept().await.unwrap();
            let mut question = [0; 8];
            while stream.read_exact(&mut question).await.is_ok() {
                stream.write_all(b"answer").await.unwrap();
            }
        });
        let relay = Entrance::open().await.unwrap().lead_to(target);
        (TcpStream::connect(relay.address).await.unwrap(), relay)
    }

    #[tokio::test]
    async fn turns_are_requests_and_every_byte_is_counted() {
        let (mut client, relay) = relay().await;
        let mut answer = [0; 6];
        for questions in 1..=3 {
            let before = relay.passed();
            // In two pieces, which are one request.
            client.write_all(b"ques").await.unwrap();
            client.write_all(b"tion").await.unwrap();
            client.read_exact(&mut answer).await.unwrap();
            let passed = relay.passed().since(before);
            assert_eq!((passed, passed.bytes()), (Passed { requests: 1, requested_bytes: 8, answered_bytes: 6 }, 14));
            assert_eq!(relay.passed().requests, questions);
        }
    }

    #[tokio::test]
    async fn a_word_is_heard_on_the_border_of_two_pieces() {
        let (mut client, relay) = relay().await;
        relay.set(Mode::HoldRequestsWith("estio"));
        client.write_all(b"ques").await.unwrap();
        relay.requested(4).await;
        client.write_all(b"tion").await.unwrap();
        relay.holds(1).await;
        assert_eq!((relay.said(), relay.passed().requested_bytes), (1, 4));
        relay.set(Mode::Pass);
        client.read_exact(&mut [0; 6]).await.unwrap();
    }

    #[tokio::test]
    async fn an_end_is_passed_on_and_what_comes_back_still_arrives() {
        let (mut client, _relay) = relay().await;
        client.write_all(b"question").await.unwrap();
        client.shutdown().await.unwrap();
        let mut answer = Vec::new();
        client.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"answer");
    }

    #[test]
    fn a_date_is_shifted_in_place() {
        let mut head = *b"HTTP/1.1 200 OK\r\nDate: Sat, 31 Dec 2022 23:59:50 GMT\r\n\r\n";
        shift_date(&mut head, TimeDelta::seconds(40));
        assert_eq!(&head, b"HTTP/1.1 200 OK\r\nDate: Sun, 01 Jan 2023 00:00:30 GMT\r\n\r\n");
    }
}
